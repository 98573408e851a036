"""What the tools say of evidence that lies here does not change unless somebody wants it to."""

from collections.abc import Iterator

import pytest

from agent.provisioning.agency import Provisioned
from agent.verify.findings import Verdict
from tests.corpus.agency import HERE, agency, trust
from tests.corpus.attacks import ATTACKS
from tests.corpus.expecting import HELP, expected, help_text, told
from tests.corpus.stories import STORIES
from tests.corpus.storing import attacks, evidence, older, stories
from tests.independent.tree import MemoryTree
from tests.independent.verifier import check

MOST_BYTES = 3 << 20
VERDICTS = {
    "power_cut": Verdict.UNFINISHED,
    "card_replaced": Verdict.UNFINISHED,
    "card_rolled_back": Verdict.NOT_INTACT,
}
"""Of stories that are not intact, though the camera was honest."""
REMEDY = "look at the difference; if it is wanted: python -m tests.corpus expect"


@pytest.fixture(scope="module")
def keys() -> Iterator[Provisioned]:
    with agency() as provisioned:
        yield provisioned


def test_corpus_is_complete_and_small() -> None:
    assert stories() == sorted(STORIES)
    assert attacks() == sorted(ATTACKS)
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", [*stories(), *older()])
def test_honest_evidence_is_told_as_before(name: str, keys: Provisioned) -> None:
    assert told(name, keys) == expected(name), REMEDY


@pytest.mark.parametrize("name", attacks())
def test_attack_is_told_as_before(name: str, keys: Provisioned) -> None:
    assert told(name, keys) == expected(name), REMEDY


def test_help_of_every_command_is_as_before() -> None:
    assert help_text() == HELP.read_text("utf-8"), REMEDY


@pytest.mark.parametrize("name", stories())
def test_honest_evidence_is_intact_and_its_decisions_replay(name: str) -> None:
    said = expected(name)
    assert said["verify"]["verdict"] == VERDICTS.get(name, Verdict.INTACT)
    replay = said["ledger"]["replay"]
    assert replay["differences"] == []
    assert replay["unknown"] == {}
    assert replay["requests"] == replay["redecided"]


@pytest.mark.parametrize("name", attacks())
def test_no_attack_leaves_evidence_intact(name: str) -> None:
    assert expected(name)["verify"]["verdict"] != Verdict.INTACT


@pytest.mark.parametrize("name", older())
def test_evidence_in_an_earlier_format_is_intact_and_opens_with_its_details(name: str) -> None:
    said = expected(name)
    assert said["verify"]["verdict"] == Verdict.INTACT
    for opened in said["open"].values():
        assert opened["files"]
        assert [event for event in opened["events"] if event["problem"]] == []


@pytest.mark.parametrize("name", [*stories(), *older(), *attacks()])
def test_independent_verifier_says_the_same(name: str) -> None:
    findings = check(MemoryTree(evidence(name)), trust().token)
    said = expected(name)["verify"]
    assert findings.verdict == said["verdict"]
    assert {(each.severity, each.code, each.subject) for each in findings.all} == {
        (each["severity"], each["code"], each["subject"]) for each in said["findings"]
    }
