"""Whom evidence is believed by: other agencies, other devices, revoked and expired ones, swapped certificates."""

import os
from dataclasses import replace

import pytest

from agent.clock import NS, WallReading, utc_text
from agent.encoding.strict_json import encode_json, strict_json
from agent.errors import EvidenceError
from agent.evidence import layout
from agent.keys.files import load_signer
from agent.keys.signer import KeySigner
from agent.seal.recipients import HpkeRecipientKey
from agent.seal.writer import seal_bytes
from agent.trust.certificates import issue_boot, issue_device
from agent.trust.document import TrustDocument, issue_trust, read_unpinned
from agent.verify.findings import Code, Severity, Verdict
from agent.verify.verifier import verify
from tests.support.agency import Agency
from tests.support.clocks import FakeClocks
from tests.support.device import agency, owner, trust
from tests.support.evidence import (
    JOURNAL,
    check,
    codes,
    files_of,
    found,
    joined,
    lines,
    memory,
    rechained,
    recorder,
    start,
    stop,
    storage_of,
    whole,
)

SAMPLE = whole()
START_NS = FakeClocks().utc_offset_ns
HOUR = 3600 * NS


def bent(*, revoked_ns: int | None = None, serial: int = 2) -> TrustDocument:
    """A later trust document of the same agency, which may revoke the device."""
    root = load_signer(f"file:{agency().root}")
    issued = trust()
    token = issue_trust(
        root,
        agency=issued.agency,
        serial=serial,
        issued_ns=START_NS + HOUR,
        keys=issued.keys,
        recipients=issued.recipient_keys,
        sets=issued.sets,
        revoked_devices={} if revoked_ns is None else {owner().signer.kid: revoked_ns},
    )
    return read_unpinned(token)


def test_device_of_another_agency_is_refused() -> None:
    report = check(SAMPLE.files, Agency().trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert {Code.CERTIFICATE_REFUSED, Code.TRUST_ALTERED} <= codes(report)
    assert "another root" in found(report, Code.TRUST_ALTERED)[0].sentence


def test_trust_document_of_another_agency_beside_the_evidence_does_not_certify_the_device() -> None:
    files = SAMPLE.files | {layout.TRUST: Agency().token().encode()}
    report = verify(storage_of(files))
    assert Code.CERTIFICATE_REFUSED in codes(report)


def test_altered_trust_document_is_named_whether_or_not_it_is_needed() -> None:
    raw = bytearray(SAMPLE.files[layout.TRUST])
    raw[len(raw) // 2] ^= 1
    files = SAMPLE.files | {layout.TRUST: bytes(raw)}
    assert codes(check(files)) == {Code.TRUST_ALTERED}
    report = verify(storage_of(files))
    assert codes(report) == {Code.TRUST_ALTERED}
    assert report.anchors == ()


def test_missing_trust_document_means_that_nothing_can_be_checked() -> None:
    files = {path: data for path, data in SAMPLE.files.items() if path != layout.TRUST}
    with pytest.raises(EvidenceError, match="name your own copy"):
        verify(storage_of(files))


def test_newer_trust_document_of_the_same_root_is_noted() -> None:
    report = check(SAMPLE.files, bent())
    assert report.verdict is Verdict.INTACT
    assert Code.TRUST_COPY_DIFFERS in codes(report, Severity.NOTE)


def test_device_that_was_revoked_before_is_refused() -> None:
    report = check(SAMPLE.files, bent(revoked_ns=START_NS - HOUR))
    assert codes(report) == {Code.KEY_NOT_VALID}
    assert "revoked" in found(report, Code.KEY_NOT_VALID)[0].sentence


def test_device_that_was_revoked_afterwards_is_believed_for_what_it_did_before() -> None:
    assert check(SAMPLE.files, bent(revoked_ns=START_NS + HOUR)).verdict is Verdict.INTACT


def test_device_that_was_revoked_in_between_is_believed_for_the_first_boot_only() -> None:
    report = check(SAMPLE.files, bent(revoked_ns=START_NS + 30 * NS))
    assert codes(report) == {Code.KEY_NOT_VALID}
    assert [finding.sentence[:6] for finding in found(report, Code.KEY_NOT_VALID)] == ["boot 2"]


def test_revoked_device_whose_clock_nobody_vouches_for_is_refused_unless_a_later_boot_bounds_it() -> None:
    clocks = FakeClocks()
    clocks.source, clocks.uncertainty_s = "unsynchronised", None
    device = recorder(clocks=clocks)
    device.run(1)
    device.recorder.close()
    files = files_of(memory(device))
    assert check(files).verdict is Verdict.INTACT
    revoked = bent(revoked_ns=START_NS + HOUR)
    assert codes(check(files, revoked)) == {Code.KEY_NOT_VALID}
    device.clocks.source, device.clocks.uncertainty_s = "ntp", 0.01
    device.boot()
    device.run(1)
    device.recorder.close()
    assert check(files_of(memory(device)), revoked).verdict is Verdict.INTACT


def test_expired_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    until_ns = START_NS + 10 * NS
    short = issue_device(
        load_signer(f"file:{agency().root}"),
        agency=owner().agency,
        device=owner().device,
        key=owner().signer.public_key,
        valid_from_ns=START_NS - HOUR,
        valid_until_ns=until_ns,
    )
    expiring = replace(owner(), certificate=short.encode())
    monkeypatch.setattr("tests.support.device.owner", lambda: expiring)
    device = recorder()
    device.run(5)
    device.recorder.close()
    assert check(files_of(memory(device))).verdict is Verdict.INTACT
    device.boot()
    device.run(20)
    device.recorder.close()
    report = check(files_of(memory(device)))
    assert codes(report) == {Code.KEY_NOT_VALID}
    assert utc_text(until_ns) in found(report, Code.KEY_NOT_VALID)[0].sentence


def test_device_certificate_of_another_device_of_the_same_agency_is_refused() -> None:
    root, other = load_signer(f"file:{agency().root}"), KeySigner.generate()
    token = issue_device(
        root,
        agency=owner().agency,
        device="cam-2",
        key=other.public_key,
        valid_from_ns=START_NS - HOUR,
        valid_until_ns=START_NS + HOUR,
    )
    report = check(SAMPLE.files | {layout.DEVICE: token.encode()})
    assert report.verdict is Verdict.NOT_INTACT
    assert Code.CERTIFICATE_REFUSED in codes(report)


def own_boot(boot: int, signer: KeySigner, identity: KeySigner, prev: str | None) -> str:
    """A boot certificate that somebody made for themselves."""
    return issue_boot(
        identity,
        agency=owner().agency,
        device_id=owner().device,
        boot=boot,
        boot_id="kernel-1",
        key=signer.public_key,
        time=WallReading(START_NS, "ntp", 0.01),
        details_key=seal_bytes([HpkeRecipientKey.generate().recipient], {"a": "b"}, bytes(32), os.urandom),
        prev=prev,
    )


def test_boot_certificate_by_another_identity_key_is_refused() -> None:
    raw = lines(SAMPLE.files[JOURNAL[1]])
    first = strict_json(raw[0])
    first["entry"]["certificate"] = own_boot(2, KeySigner.generate(), KeySigner.generate(), first["prev"])
    made = rechained([encode_json(first), *raw[1:]], first["prev"], first["n"] - 1)
    assert Code.CERTIFICATE_REFUSED in codes(check(SAMPLE.files | {JOURNAL[1]: joined(made)}))


def test_boot_certificate_of_another_boot_in_a_journal_is_refused() -> None:
    raw, other = lines(SAMPLE.files[JOURNAL[1]]), strict_json(lines(SAMPLE.files[JOURNAL[0]])[0])
    first = strict_json(raw[0])
    first["entry"]["certificate"] = other["entry"]["certificate"]
    made = rechained([encode_json(first), *raw[1:]], first["prev"], first["n"] - 1)
    assert Code.CERTIFICATE_REFUSED in codes(check(SAMPLE.files | {JOURNAL[1]: joined(made)}))


def test_swapped_boot_certificates_beside_a_recording_are_named() -> None:
    one, other = (layout.boot_certificate(SAMPLE.b, boot) for boot in (1, 2))
    report = check(SAMPLE.files | {one: SAMPLE.files[other], other: SAMPLE.files[one]})
    assert codes(report) == {Code.CERTIFICATE_COPY_DIFFERS}


def test_boot_certificate_of_a_boot_that_never_was_is_refused() -> None:
    path = layout.boot_certificate(SAMPLE.b, 7)
    made = own_boot(7, KeySigner.generate(), KeySigner.generate(), None)
    assert codes(check(SAMPLE.files | {path: made.encode()})) == {Code.CERTIFICATE_REFUSED}


def test_whole_evidence_of_an_invented_agency_is_consistent_and_not_believed() -> None:
    """Anybody can make a consistent folder; only the agency's own root key tells whose it is."""
    invented = Agency(name="city")
    assert invented.trust().agency == trust().agency
    device = recorder()
    device.run(1)
    start(device, 2)
    stop(device)
    device.recorder.close()
    files = files_of(memory(device))
    unpinned = verify(storage_of(files))
    assert unpinned.verdict is Verdict.INTACT
    assert Code.TRUST_UNPINNED in codes(unpinned, Severity.NOTE)
    assert check(files, invented.trust()).verdict is Verdict.NOT_INTACT


def test_recipients_that_the_trust_document_does_not_list_are_noted() -> None:
    outsider = HpkeRecipientKey.generate().recipient
    device = recorder()
    prepared = device.recorder._boot.prepared
    assert prepared is not None
    device.recorder._boot.prepared = replace(
        prepared,
        identity=lambda classification, policy: replace(
            prepared.identity(classification, policy),
            recipients=[*prepared.identity(classification, policy).recipients, outsider],
        ),
    )
    device.run(1)
    start(device, 2)
    stop(device)
    device.recorder.close()
    report = check(files_of(memory(device)))
    assert report.verdict is Verdict.INTACT
    assert Code.RECIPIENTS_UNLISTED in codes(report, Severity.NOTE)
