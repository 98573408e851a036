"""Signed policies beside the evidence: whose they are, and that those that were in force are there."""

from functools import cache

import pytest

from agent.encoding.strict_json import sha256_hex
from agent.evidence import layout
from agent.journal.entries import PolicyChanged
from agent.keys import jws
from agent.keys.files import load_signer
from agent.keys.signer import KeySigner, Signer
from agent.policy import bundle
from agent.verify.findings import Code, Severity, Verdict
from agent.verify.policies import POLICY_TYPE
from tests.support.device import agency
from tests.support.evidence import Files, check, codes, files_of, flipped, memory, recorder

PATHS = [f"{layout.POLICY}/{version:08d}.jws" for version in (1, 2, 3)]


def policy(version: int, signer: Signer | None = None, name: str = "city") -> bytes:
    signer = signer or load_signer(f"file:{agency().policy}")
    return jws.sign(signer, POLICY_TYPE, {"agency": name, "version": version}).encode()


@cache
def made() -> Files:
    device = recorder()
    kept = {path: policy(version) for version, path in enumerate(PATHS[:2], 1)}
    device.run(0.5)
    device.recorder.journal.post(PolicyChanged("policy_in_force", 2, sha256_hex(kept[PATHS[1]])))
    device.recorder.close()
    return files_of(memory(device)) | kept


def test_type_is_that_of_policy_bundles() -> None:
    assert POLICY_TYPE == bundle.TYP


def test_policies_that_are_the_agency_s_are_fine() -> None:
    assert check(made()).verdict is Verdict.INTACT


@pytest.mark.parametrize("path", PATHS[:2])
def test_any_change_of_a_policy_is_noticed(path: str) -> None:
    data = made()[path]
    for bit in range(0, 8 * len(data), 41):
        found = {finding.code for finding in check(made() | {path: flipped(data, bit)}).findings}
        # A key's name that was changed is that of a key which is not listed: no fault by itself, and said.
        assert found & {Code.POLICY_ALTERED, Code.POLICY_MISSING, Code.POLICY_UNVERIFIED}


def test_policy_that_was_in_force_and_was_removed_is_named() -> None:
    files = {path: data for path, data in made().items() if path != PATHS[1]}
    assert codes(check(files)) == {Code.POLICY_MISSING}


def test_policy_that_was_put_in_the_place_of_another_is_named() -> None:
    assert codes(check(made() | {PATHS[1]: made()[PATHS[0]]})) == {Code.POLICY_ALTERED, Code.POLICY_MISSING}
    other = policy(2)
    assert other != made()[PATHS[1]]
    assert codes(check(made() | {PATHS[1]: other})) == {Code.POLICY_MISSING}


def test_policy_of_another_agency_is_named() -> None:
    assert codes(check(made() | {PATHS[2]: policy(3, name="county")})) == {Code.POLICY_ALTERED}


def test_policy_by_a_key_that_is_not_listed_is_noted() -> None:
    report = check(made() | {PATHS[2]: policy(3, KeySigner.generate())})
    assert report.verdict is Verdict.INTACT
    assert Code.POLICY_UNVERIFIED in codes(report, Severity.NOTE)


def test_supervisor_s_key_signs_no_policy() -> None:
    report = check(made() | {PATHS[2]: policy(3, load_signer(f"file:{agency().supervisor}"))})
    assert Code.POLICY_UNVERIFIED in codes(report, Severity.NOTE)


def test_foreign_files_among_policies_are_named() -> None:
    assert codes(check(made() | {f"{layout.POLICY}/notes.txt": b""})) == {Code.FOREIGN_FILE}
