"""A verifier written from the specification agrees with `bwc-agent verify`, finding by finding."""

import ast
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.evidence import layout
from agent.verify.findings import Code
from tests.corpus import agency as corpus
from tests.corpus.storing import stories
from tests.independent.changes import CHANGES, changed
from tests.independent.encoding import RefusedError, canonical, from_base64url, read_json, to_base64url, utc_us
from tests.independent.tree import MemoryTree
from tests.independent.verifier import check
from tests.support import device
from tests.support.agreement import agree, agree_on_random, base, random_base
from tests.support.evidence import crashed, swapped, whole, write

HERE = Path(__file__).parent
RANDOM_CHANGES = 1000
PARTS = 10
LIVE_CHANGES = 60


def imported(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "only absolute imports"
            assert node.module is not None
            yield node.module


def test_it_uses_nothing_but_the_standard_library_and_cryptography() -> None:
    modules = [path for path in HERE.glob("*.py") if not path.name.startswith("test_")]
    assert len(modules) > 10
    for path in modules:
        for name in imported(path):
            own = name == "tests.independent" or name.startswith("tests.independent.")
            root = name.partition(".")[0]
            assert own or root == "cryptography" or root in sys.stdlib_module_names, f"{path.name} imports {name}"


# -- cards that were swapped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", range(3))
def test_it_agrees_on_cards_that_were_put_back_or_replaced(card: int) -> None:
    files, trusted = swapped()[card], device.trust()
    assert agree(files, trusted, "untouched") == ("not_intact", "not_intact", "unfinished")[card]
    for seed in range(LIVE_CHANGES):
        agree(changed(files, seed), trusted, f"seed {seed}")


# -- random corruptions and structural changes ------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(PARTS))
def test_it_agrees_on_random_corruptions_of_the_corpus(part: int) -> None:
    verdicts: Counter[str] = Counter()
    for seed in range(part, RANDOM_CHANGES, PARTS):
        verdicts[agree_on_random(seed)] += 1
    assert verdicts["not_intact"] > RANDOM_CHANGES / PARTS / 2


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("torn", [True, False])
def test_it_agrees_on_what_this_recorder_makes(torn: bool, pinned: bool) -> None:
    document = device.trust() if pinned else None
    assert agree(whole(torn=torn).files, document, "whole") == "intact"
    assert agree(crashed(torn=torn), document, "crashed") == "unfinished"


def test_it_agrees_on_random_corruptions_of_what_this_recorder_makes() -> None:
    for seed in range(LIVE_CHANGES):
        files = whole().files if seed % 2 else crashed()
        agree(changed(files, seed), device.trust(), f"seed {seed}")


def test_the_random_corruptions_reach_most_findings() -> None:
    """What none of them reaches, the agreement says nothing about; the corpus has more."""
    found: set[str] = set()
    for seed in range(0, RANDOM_CHANGES, 2):
        findings = check(MemoryTree(changed(random_base(seed), seed)), corpus.trust().token)
        found |= {finding.code for finding in findings.bad}
    bad = {code.value for code in Code if code.severity == "bad"}
    assert len(found & bad) > 0.7 * len(bad), sorted(bad - found)
    assert len(CHANGES) > 20


# -- where evidence lies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recovered", "annotated", "removed_segment", "journal_removed"])
def test_it_agrees_on_disk_wherever_it_is_asked_from(name: str, tmp_path: Path) -> None:
    folder = write(base(name), tmp_path / "card" / "evidence")
    recording = max((folder / layout.RECORDINGS).iterdir())
    for place in (tmp_path, folder, folder / layout.RECORDINGS, folder / layout.JOURNAL, recording):
        for pinned in (corpus.trust(), None):
            if place.exists():
                agree(place, pinned, f"{name} from {place.relative_to(tmp_path)}")


@pytest.mark.parametrize("name", [*stories(), "segment_cut", "annotations_swapped"])
def test_it_agrees_on_recordings_that_lie_alone(name: str, tmp_path: Path) -> None:
    folder = write(base(name), tmp_path / "evidence")
    for recording in sorted((folder / layout.RECORDINGS).glob("*")):
        alone = tmp_path / "alone" / f"renamed-{recording.name}"
        shutil.copytree(recording, alone)
        agree(alone, corpus.trust(), f"{recording.name} of {name}")
        agree(alone, None, f"{recording.name} of {name}, unpinned")


def test_it_agrees_on_several_devices_below_one_folder(tmp_path: Path) -> None:
    for name in ("clean", "muted", "line_dropped"):
        write(base(name), tmp_path / "a" / name)
    write({"notes.txt": b"x"}, tmp_path)
    assert agree(tmp_path, corpus.trust(), "three devices") == "not_intact"


def test_it_agrees_that_links_are_no_files(tmp_path: Path) -> None:
    folder = write(base("clean"), tmp_path / "evidence")
    for path in ("journal/00000001.jsonl", "trust.jws"):
        (folder / path).rename(tmp_path / "elsewhere")
        (folder / path).symlink_to(tmp_path / "elsewhere")
        agree(folder, corpus.trust(), f"{path} is a link")
        (folder / path).unlink()
        (tmp_path / "elsewhere").rename(folder / path)


def test_it_agrees_on_a_folder_without_evidence(tmp_path: Path) -> None:
    assert agree(tmp_path, corpus.trust(), "empty") == "not_checked"


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["A", "AB", "A-_=", "AA A", "ä"])
def test_base64url_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        from_base64url(text)
    assert to_base64url(from_base64url("AA")) == "AA"


@pytest.mark.parametrize("data", [b"[]", b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}', b"\xff"])
def test_json_that_two_readers_could_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        read_json(data)


def test_canonical_json_is_that_of_the_page() -> None:
    value = {"b": ['\x7f\x01\n"\\/<é'], "a": {"z": 1, "y": None}}
    assert canonical(value) == '{"a":{"y":null,"z":1},"b":["\x7f\\u0001\\n\\"\\\\/<é"]}'.encode()
    assert utc_us("1970-01-01T00:00:01.000001Z") == 1_000_001
