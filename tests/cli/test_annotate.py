import json
from pathlib import Path

import pytest

from agent.evidence import layout
from agent.evidence.annotation import Content, check_annotation
from agent.keys.files import load_recipient_key, read_token
from tests.support.clocks import FakeClocks
from tests.support.commands import Ran, bwc_agent
from tests.support.device import agency, trust
from tests.support.evidence import whole, write

SAMPLE = whole()


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.clock.SystemClocks", FakeClocks)


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    return write(SAMPLE.files, tmp_path / "evidence")


def annotate(directory: Path, *args: str | Path, classification: str = "juvenile", key: Path | None = None) -> Ran:
    return bwc_agent(
        "annotate", directory, "--key", key or agency().supervisor, "--classification", classification, *args
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_recordings_folder_is_annotated_and_the_evidence_stays_intact(evidence: Path) -> None:
    ran = annotate(evidence / layout.recording(SAMPLE.a), "--note", "seen in court", "--name", "Sgt. A. Doe")
    assert (ran.code, ran.err) == (0, "")
    path = evidence / layout.recording(SAMPLE.a) / "annotations" / "0001.jws"
    assert str(path) in ran.out
    assert {name: tree(evidence)[name] for name in SAMPLE.files} == SAMPLE.files
    checked = bwc_agent("verify", evidence, "--trust", agency().trust)
    assert checked.code == 0, checked.out
    assert "signed by supervisor" in checked.out
    assert "juvenile" not in checked.out


def test_annotation_content_is_sealed_to_the_recipients(evidence: Path) -> None:
    ran = annotate(evidence, "--recording", SAMPLE.c, "--name", "Sgt. A. Doe", "--json", classification="medical")
    printed = json.loads(ran.out)
    assert (printed["number"], printed["recording"], printed["ended"]) == (1, SAMPLE.c, True)
    token = read_token(Path(printed["path"]))
    annotation = check_annotation(token, trust(), device="cam-1", recording=SAMPLE.c, manifests={printed["manifest"]})
    content = annotation.content([load_recipient_key(agency().offline)])
    assert content == Content("medical", "Sgt. A. Doe", "")


def test_second_annotation_does_not_replace_the_first(evidence: Path) -> None:
    folder = evidence / layout.recording(SAMPLE.b)
    assert annotate(folder).code == 0
    before = tree(evidence)
    assert annotate(folder, classification="medical").code == 0
    after = tree(evidence)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    assert bwc_agent("verify", evidence, "--trust", agency().trust).code == 0


def test_a_recordings_folder_alone_needs_a_trust_document(evidence: Path, tmp_path: Path) -> None:
    alone = (evidence / layout.recording(SAMPLE.a)).rename(tmp_path / "exhibit-7")
    assert "name your own copy with --trust" in annotate(alone).refusal
    assert annotate(alone, "--trust", agency().trust).code == 0
    assert (alone / "annotations" / "0001.jws").exists()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, "choose with --recording"),
        ({"recording": "nowhere"}, "there is no recording nowhere"),
        ({"classification": "juvenil"}, "expected a classification out of"),
        ({"note": "x" * 5000}, "shorten the note"),
        ({"name": "A\nB"}, "author"),
    ],
    ids=str,
)
def test_refused_annotation_stores_nothing(evidence: Path, args: dict[str, str], expected: str) -> None:
    options = {"recording": SAMPLE.a, "classification": "juvenile"} | args if args else {}
    given = [part for name, value in options.items() if name != "classification" for part in (f"--{name}", value)]
    ran = annotate(evidence, *given, classification=options.get("classification", "juvenile"))
    assert expected in ran.refusal
    assert tree(evidence) == SAMPLE.files


@pytest.mark.parametrize("office", ["policy", "station", "root", "device_key"])
def test_key_of_another_role_is_refused(evidence: Path, office: str) -> None:
    ran = annotate(evidence / layout.recording(SAMPLE.a), key=getattr(agency(), office))
    assert "expected a supervisor or custodian key" in ran.refusal
    assert tree(evidence) == SAMPLE.files


def test_a_folder_without_evidence_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "found none" in annotate(tmp_path).refusal
    assert "no such folder" in annotate(tmp_path / "nowhere").refusal
