from typing import Any

import pytest

from agent.clock import NS, WallReading
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.jwk import jwk_of
from agent.keys.signer import KeySigner
from agent.trust.certificates import (
    BootCertificate,
    DeviceCertificate,
    issue_boot,
    issue_device,
    verify_boot,
    verify_device,
)
from agent.trust.records import BOOT_TYP, DEVICE_TYP
from tests.support.agency import DAY, NOW, Agency

AGENCY = Agency()
TRUST = AGENCY.trust()
IDENTITY, BOOT = KeySigner.generate(), KeySigner.generate()
TRUSTED_TIME = WallReading(NOW, "ntp", 0.01)


def device_token(root: KeySigner = AGENCY.root, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "agency": "ex",
        "device": "cam1",
        "key": IDENTITY.public_key,
        "valid_from_ns": NOW - DAY,
        "valid_until_ns": NOW + DAY,
    }
    return issue_device(root, **(fields | changes))


def boot_token(identity: KeySigner = IDENTITY, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "agency": "ex",
        "device_id": "cam1",
        "boot": 7,
        "boot_id": "5a0b2c",
        "key": BOOT.public_key,
        "time": TRUSTED_TIME,
        "details_key": b"sealed",
        "prev": "ab" * 32,
    }
    return issue_boot(identity, **(fields | changes))


def device() -> DeviceCertificate:
    return verify_device(device_token(), TRUST, NOW)


def altered(token: str, typ: str, signer: KeySigner, change: dict[str, Any]) -> str:
    return jws.sign(signer, typ, jws.unverified_payload(token, typ) | change)


def test_the_chain_leads_from_root_to_device_to_boot() -> None:
    certificate = device()
    assert (certificate.agency, certificate.device, certificate.kid) == ("ex", "cam1", IDENTITY.kid)
    token = boot_token()
    assert verify_boot(token, certificate) == BootCertificate(
        "ex", "cam1", 7, "5a0b2c", BOOT.public_key, TRUSTED_TIME, b"sealed", "ab" * 32, token
    )
    assert verify_boot(token, certificate).kid == BOOT.kid


def test_a_device_of_a_foreign_root_is_refused() -> None:
    with pytest.raises(EvidenceError, match="signature"):
        verify_device(device_token(KeySigner.generate()), TRUST, NOW)


def test_a_device_that_another_office_certified_is_refused() -> None:
    for signer in (AGENCY.policy, AGENCY.supervisor, AGENCY.station, IDENTITY):
        with pytest.raises(EvidenceError, match="signature"):
            verify_device(device_token(signer), TRUST, NOW)


def test_a_device_of_another_agency_is_refused() -> None:
    with pytest.raises(EvidenceError, match="agency ex, got one of other"):
        verify_device(device_token(agency="other"), TRUST, NOW)


def test_an_expired_device_is_refused() -> None:
    token = device_token()
    assert verify_device(token, TRUST, NOW + DAY - 1)
    for at in (NOW + DAY, NOW - DAY - 1):
        with pytest.raises(EvidenceError, match="valid from"):
            verify_device(token, TRUST, at)


def test_a_device_is_believed_while_nobody_knows_the_time() -> None:
    assert verify_device(device_token(), TRUST, None).device == "cam1"


def test_a_revoked_device_is_refused_from_then_on() -> None:
    trust = AGENCY.trust(revoked_devices={IDENTITY.kid: NOW})
    assert verify_device(device_token(), trust, NOW - 1)
    for at in (NOW, None):
        with pytest.raises(EvidenceError, match="revoked since"):
            verify_device(device_token(), trust, at)


def test_a_boot_that_another_device_certified_is_refused() -> None:
    with pytest.raises(EvidenceError, match="signature"):
        verify_boot(boot_token(KeySigner.generate()), device())


@pytest.mark.parametrize("change", [{"agency": "other"}, {"device_id": "cam2"}])
def test_a_boot_of_another_device_or_agency_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="expected a boot of device cam1 of agency ex"):
        verify_boot(boot_token(**change), device())


def test_a_boot_key_cannot_certify_another_boot() -> None:
    with pytest.raises(EvidenceError, match="signature"):
        verify_boot(boot_token(BOOT, key=KeySigner.generate().public_key), device())


def test_a_boot_at_a_known_time_outside_of_its_devices_is_refused() -> None:
    late = NOW + 2 * DAY
    with pytest.raises(EvidenceError, match="valid from"):
        verify_boot(boot_token(time=WallReading(late, "ntp", 0.01)), device())
    unknown = WallReading(late, "unsynchronised", None)
    assert verify_boot(boot_token(time=unknown), device()).time == unknown


def test_tokens_of_another_type_are_refused() -> None:
    with pytest.raises(EvidenceError, match="another purpose"):
        verify_device(AGENCY.token(), TRUST, NOW)
    with pytest.raises(EvidenceError, match="another purpose"):
        verify_device(jws.sign(AGENCY.root, BOOT_TYP, jws.unverified_payload(device_token(), DEVICE_TYP)), TRUST, NOW)
    with pytest.raises(EvidenceError, match="another purpose"):
        verify_boot(jws.sign(IDENTITY, DEVICE_TYP, jws.unverified_payload(boot_token(), BOOT_TYP)), device())


def test_a_key_that_certifies_itself_is_refused() -> None:
    with pytest.raises(EvidenceError, match="another key"):
        verify_device(device_token(key=AGENCY.root.public_key), TRUST, NOW)
    with pytest.raises(EvidenceError, match="another key"):
        verify_boot(boot_token(key=IDENTITY.public_key), device())


@pytest.mark.parametrize(
    "change",
    [
        {"device": ""},
        {"device": "../cam"},
        {"jwk": {}},
        {"jwk": jwk_of(BOOT.public_key) | {"d": "AA"}},
        {"valid_from": "now"},
        {"valid_until": None},
        {"unknown": 1},
    ],
    ids=["no name", "a path as name", "no key", "a private key", "a date in words", "no end", "an unknown field"],
)
def test_a_malformed_device_certificate_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        verify_device(altered(device_token(), DEVICE_TYP, AGENCY.root, change), TRUST, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"boot": 0},
        {"boot": 100_000_000},
        {"boot": "7"},
        {"boot": True},
        {"boot_id": ""},
        {"boot_id": "a/b"},
        {"jwk": {}},
        {"time": {}},
        {"time": {"utc": "x", "source": "ntp", "uncertainty_s": 1}},
        {"time": {"utc": "2026-11-22T23:40:00.000000Z", "source": "", "uncertainty_s": 1}},
        {"time": {"utc": "2026-11-22T23:40:00.000000Z", "source": "ntp", "uncertainty_s": -1}},
        {"details_key": "not base64url="},
        {"prev": "AB" * 32},
        {"prev": "ab"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_malformed_boot_certificate_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        verify_boot(altered(boot_token(), BOOT_TYP, IDENTITY, change), device())


@pytest.mark.parametrize("name", sorted(jws.unverified_payload(boot_token(), BOOT_TYP)))
def test_a_boot_certificate_without_one_of_its_fields_is_refused(name: str) -> None:
    payload = jws.unverified_payload(boot_token(), BOOT_TYP)
    del payload[name]
    with pytest.raises(EvidenceError):
        verify_boot(jws.sign(IDENTITY, BOOT_TYP, payload), device())


def test_what_readers_would_refuse_is_not_issued() -> None:
    device_changes: list[dict[str, Any]] = [{"device": "a b"}, {"agency": ""}, {"valid_until_ns": NOW - DAY}]
    for change in device_changes:
        with pytest.raises(EvidenceError):
            device_token(**change)
    boot_changes: list[dict[str, Any]] = [
        {"boot": 0},
        {"boot_id": ""},
        {"prev": "x"},
        {"time": WallReading(NOW, "", 1.0)},
    ]
    for change in boot_changes:
        with pytest.raises(EvidenceError):
            boot_token(**change)


def test_a_time_is_kept_to_the_microsecond() -> None:
    time = WallReading(NOW + 123_456_789, "ntp", 0.5)
    read = verify_boot(boot_token(time=time), device()).time
    assert read == WallReading(NOW + 123_456_000, "ntp", 0.5)
    assert NOW % NS == 0
