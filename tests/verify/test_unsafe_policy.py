"""Evidence of a camera that permitted whatever was asked for is never called plainly intact."""

import json
from pathlib import Path

import pytest

from agent.audit.ledger import read_ledger
from agent.decisions.unsafe import DIGEST, UnsafePermitEverything
from agent.verify.findings import Code, Verdict
from agent.verify.journals import UNSAFE_POLICY
from agent.verify.tree import StorageTree
from agent.verify.verifier import verify
from tests.independent.tree import MemoryTree
from tests.independent.verifier import check
from tests.support.device import Device, agency, trust
from tests.support.evidence import Files, files_of, memory, storage_of, write
from tests.support.running import command


@pytest.fixture(scope="module")
def evidence() -> Files:
    """A stop within a second of its start, granted by the unsafe policy; shut down in order."""
    device = Device(policy=UnsafePermitEverything())
    device.run(6)
    device.press("record", times=2)
    device.run(1)
    device.press("record", hold_s=3.2)
    device.run(1)
    assert not device.recording
    device.recorder.close()
    return files_of(memory(device))


def test_unsafe_policy_is_a_verdict_of_its_own_in_plain_sight(evidence: Files) -> None:
    report = verify(storage_of(evidence), trust())
    assert report.verdict is Verdict.UNSAFE_POLICY
    assert [finding.code for finding in report.bad] == [Code.POLICY_UNSAFE]
    assert "UNSAFE POLICY" in report.summary
    assert "intact" not in report.summary
    assert "whatever was asked for was permitted" in report.bad[0].sentence


def test_verifier_that_was_written_from_the_specification_says_the_same(evidence: Files) -> None:
    report, findings = verify(storage_of(evidence), trust()), check(MemoryTree(dict(evidence)), trust().token)
    assert findings.verdict == report.verdict.value == "unsafe_policy"
    assert [(finding.code, finding.subject) for finding in findings.bad] == [
        (finding.code.value, finding.subject) for finding in report.bad
    ]


def test_unsafe_policy_and_an_altered_file_are_not_intact(evidence: Files) -> None:
    path = next(name for name in evidence if name.endswith(".seg"))
    changed = bytearray(evidence[path])
    changed[-40] ^= 1
    report = verify(storage_of({**evidence, path: bytes(changed)}), trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert Code.POLICY_UNSAFE in {finding.code for finding in report.bad}


def test_ledger_names_the_unsafe_policy_and_marks_its_grant_for_review(evidence: Files) -> None:
    ledger = read_ledger(StorageTree(storage_of(evidence)), "")
    said = [event.text for event in ledger.events if event.kind == "policy" and event.stands_out]
    assert said == ["UNSAFE POLICY: everything that is asked for is permitted; for a bench, never for evidence"]
    assert [(row.outcome, row.review) for row in ledger.requests] == [("granted", True)]


def test_command_ends_with_exit_code_1_and_says_why_last(evidence: Files, tmp_path: Path) -> None:
    folder = str(write(evidence, tmp_path))
    ran = command("verify", folder, "--trust", str(agency().trust))
    assert ran.returncode == 1
    assert "UNSAFE POLICY: nothing is altered" in ran.stdout.splitlines()[-1]
    ran = command("verify", folder, "--trust", str(agency().trust), "--json")
    assert json.loads(ran.stdout)["verdict"] == "unsafe_policy"


def test_verifier_knows_the_unsafe_policy_by_the_digest_that_decisions_name() -> None:
    assert UNSAFE_POLICY == DIGEST
