"""A verifier written from the specification agrees with `bwc-agent verify`, finding by finding."""

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.errors import EvidenceError
from agent.evidence import layout
from agent.keys import files as key_files
from agent.seal.reader import open_message
from agent.verification.findings import Code
from agent.verification.verify import verify
from tests.independent.changes import CHANGES, changed
from tests.independent.encoding import RefusedError, canonical, from_base64url, read_json, to_base64url, utc_us
from tests.independent.findings import Findings
from tests.independent.message import HybridKey, key_schedule, load_key
from tests.independent.message import open_message as open_independently
from tests.independent.tree import Tree
from tests.independent.verifier import check
from tests.support.device import agency, trust
from tests.support.evidence import Files, crashed, storage_of, whole

HERE = Path(__file__).parent
BASES = (whole().files, crashed(), whole(torn=False).files)
RANDOM_CHANGES = 560
PARTS = 8

Said = tuple[str, set[tuple[str, str]]]
"""A verdict, and each code with the file that it is about."""


def by_the_product(evidence: Files, *, pinned: bool) -> Said:
    try:
        report = verify(storage_of(evidence), trust() if pinned else None)
    except EvidenceError:
        return "not_checked", set()
    return report.verdict.value, {(f.code.value, f.subject.partition(" line ")[0]) for f in report.findings}


def independently(evidence: Files, *, pinned: bool) -> Said:
    findings = check(Tree(dict(evidence)), trust().token if pinned else None)
    return said(findings)


def said(findings: Findings) -> Said:
    if findings.verdict == "not_checked":
        return "not_checked", set()
    return findings.verdict, {(finding.code, finding.place) for finding in findings.all}


def agree(evidence: Files, what: str, *, pinned: bool) -> str:
    """Asserts that both say the same; gives back the verdict."""
    expected, got = by_the_product(evidence, pinned=pinned), independently(evidence, pinned=pinned)
    assert got[0] == expected[0], what
    assert sorted(expected[1] - got[1]) == [], f"{what}: only the product finds this"
    assert sorted(got[1] - expected[1]) == [], f"{what}: only the independent verifier finds this"
    return got[0]


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


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("base", range(len(BASES)))
def test_it_agrees_on_untouched_evidence(base: int, pinned: bool) -> None:
    agree(BASES[base], "untouched", pinned=pinned)


@pytest.mark.parametrize("part", range(PARTS))
def test_it_agrees_on_random_corruptions(part: int) -> None:
    verdicts: Counter[str] = Counter()
    for seed in range(part, RANDOM_CHANGES, PARTS):
        evidence = changed(BASES[seed % len(BASES)], seed)
        verdicts[agree(evidence, f"seed {seed}", pinned=seed % 5 > 0)] += 1
    assert verdicts["not_intact"] > RANDOM_CHANGES / PARTS / 2


def test_the_random_corruptions_reach_most_findings() -> None:
    """What none of them reaches, the agreement says nothing about; the corpus has the rest."""
    found: set[str] = set()
    for seed in range(0, RANDOM_CHANGES, 2):
        found |= {code for code, _ in independently(changed(BASES[seed % len(BASES)], seed), pinned=True)[1]}
    bad = {code.value for code in Code if code.severity == "bad"}
    assert len(found & bad) > len(bad) / 2
    assert len(CHANGES) > 20


# -- opening ----------------------------------------------------------------------------------------------------------


def test_it_opens_segments_whole_and_cut_as_the_product_does() -> None:
    own, other = key_files.load_recipient_key(agency().custodian), load_key(agency().custodian.read_bytes())
    storage = storage_of(crashed())
    sealed = [path for path in crashed() if path.endswith(".seg")]
    ends = set()
    for path in sealed:
        _, plain, final = open_independently(crashed()[path], other)
        with storage.open(path) as stream:
            opened = open_message(stream, [own], torn_from=len(plain))
            assert b"".join(opened) == plain, path
        assert (opened.report.ended == "whole") == final
        ends.add(final)
    assert ends == {True, False}


def test_it_opens_the_details_key_of_a_boot() -> None:
    first = json.loads(crashed()[layout.journal(1)].split(b"\n", 1)[0])
    body = read_json(from_base64url(first["entry"]["certificate"].split(".")[1]))
    header, key, final = open_independently(
        from_base64url(body["details_key"]), load_key(agency().custodian.read_bytes())
    )
    assert (len(key), final) == (32, True)
    assert header.context == {"bwc-format": "bwc-details/1", "agency": "city", "device": "cam-1", "boot": "1"}


def test_its_hpke_gives_the_drafts_known_answer() -> None:
    from hashlib import shake_256

    from cryptography.hazmat.primitives.asymmetric import ec, mlkem

    vector = json.loads((HERE.parent / "seal" / "data" / "hpke_mlkem1024_p384.json").read_text())
    seeds = shake_256(bytes.fromhex(vector["skRm"])).digest(64 + 48)
    pair = HybridKey(
        mlkem.MLKEM1024PrivateKey.from_seed_bytes(seeds[:64]),
        ec.derive_private_key(int.from_bytes(seeds[64:], "big"), ec.SECP384R1()),
    )
    shared = pair.shared_secret(bytes.fromhex(vector["enc"]))
    assert shared.hex() == vector["shared_secret"]
    key, nonce = key_schedule(shared, bytes.fromhex(vector["info"]))
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])


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
