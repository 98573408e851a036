"""The two certificates between an agency's root key and a camera's signatures.

The rules, in order:

1. A device certificate (`bwc-device+jws`) is signed by the root of the trust document it is read with, names that
   document's agency, and was valid, and its key not revoked, at the given time.
2. A boot certificate (`bwc-boot+jws`) is signed by the identity key of the device certificate it is read with and
   names the same agency and device. Where its own time is bounded, the device certificate must cover it.
3. Both name a key on P-256 that is not the key that signed them, and nothing unknown.

Both are stored on the device in clear and say nothing about persons.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import WallReading, utc_text
from agent.encoding.strict_json import b64, unb64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.jwk import jwk_of, public_key, thumbprint
from agent.keys.signer import Signer
from agent.trust.document import TrustDocument
from agent.trust.records import BOOT_TYP, DEVICE_TYP, Name, Record, Sha256, TimeRecord, Utc, Validity, as_record, utc_ns

BootId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]


class _DeviceRecord(Record, frozen=True, forbid_unknown_fields=True):
    agency: Name
    device: Name
    jwk: dict[str, str]
    valid_from: Utc
    valid_until: Utc


class _BootRecord(Record, frozen=True, forbid_unknown_fields=True):
    agency: Name
    device: Name
    boot: Annotated[int, msgspec.Meta(ge=1, le=99_999_999)]
    boot_id: BootId
    jwk: dict[str, str]
    time: TimeRecord
    details_key: str
    prev: Sha256 | None


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A verified device certificate.

    Attributes:
        agency, device: Their names.
        key: The device's identity key.
        validity: When it may be used.
        token: The signed certificate itself.
    """

    agency: str
    device: str
    key: ec.EllipticCurvePublicKey
    validity: Validity
    token: str

    @property
    def kid(self) -> str:
        """The identity key's JWK thumbprint."""
        return thumbprint(self.key)


@dataclass(frozen=True, slots=True)
class BootCertificate:
    """A verified boot certificate.

    Attributes:
        agency, device: Their names.
        boot: Number of the boot, from 1, counted by the recorder.
        boot_id: The kernel's name for this boot.
        key: The key that signs during this boot.
        time: The wall clock when the certificate was made, to the microsecond.
        details_key: A sealed message that holds this boot's details key.
        prev: SHA-256, hexadecimal, of the journal's end before this boot, if the recorder knew it.
        token: The signed certificate itself.
    """

    agency: str
    device: str
    boot: int
    boot_id: str
    key: ec.EllipticCurvePublicKey
    time: WallReading
    details_key: bytes
    prev: str | None
    token: str

    @property
    def kid(self) -> str:
        """The boot key's JWK thumbprint."""
        return thumbprint(self.key)


def _own_key(jwk: dict[str, str], signer: ec.EllipticCurvePublicKey, what: str) -> ec.EllipticCurvePublicKey:
    key = public_key(jwk)
    if key == signer:
        raise EvidenceError(f"expected a {what} for another key than the one that signed it")
    return key


def verify_device(token: str, trust: TrustDocument, at_ns: int | None) -> DeviceCertificate:
    """Verify a device certificate of the trust document's agency.

    Args:
        token: A compact JWS.
        trust: A verified trust document.
        at_ns: When it must be valid, nanoseconds since 1970; None if that is unknown: then only revocation counts.

    Raises:
        EvidenceError: It breaks one of the rules at the top of this module.
    """
    record = as_record(jws.verify(token, DEVICE_TYP, trust.root), _DeviceRecord, "device certificate")
    if record.agency != trust.agency:
        raise EvidenceError(f"expected a device of agency {trust.agency}, got one of {record.agency}")
    key = _own_key(record.jwk, trust.root, "device certificate")
    revoked_ns = trust.revoked_devices.get(thumbprint(key))
    validity = Validity(utc_ns(record.valid_from), utc_ns(record.valid_until), revoked_ns)
    if not validity.covers(at_ns):
        raise EvidenceError(f"the certificate of device {record.device} is {validity.why_not(at_ns)}")
    return DeviceCertificate(record.agency, record.device, key, validity, token)


def verify_boot(token: str, device: DeviceCertificate) -> BootCertificate:
    """Verify a boot certificate of this device.

    Raises:
        EvidenceError: It breaks one of the rules at the top of this module.
    """
    record = as_record(jws.verify(token, BOOT_TYP, device.key), _BootRecord, "boot certificate")
    if (record.agency, record.device) != (device.agency, device.device):
        raise EvidenceError(
            f"expected a boot of device {device.device} of agency {device.agency}, "
            f"got one of {record.device} of {record.agency}"
        )
    key = _own_key(record.jwk, device.key, "boot certificate")
    time = record.time.reading()
    if time.trusted and not device.validity.covers(time.utc_ns):
        raise EvidenceError(f"the certificate of device {device.device} is {device.validity.why_not(time.utc_ns)}")
    return BootCertificate(
        agency=record.agency,
        device=record.device,
        boot=record.boot,
        boot_id=record.boot_id,
        key=key,
        time=time,
        details_key=unb64(record.details_key),
        prev=record.prev,
        token=token,
    )


def issue_device(
    root: Signer,
    *,
    agency: str,
    device: str,
    key: ec.EllipticCurvePublicKey,
    valid_from_ns: int,
    valid_until_ns: int,
) -> str:
    """Sign a device certificate over the device's public identity key.

    Raises:
        EvidenceError: A name is malformed, or the certificate would never be valid.
    """
    if valid_from_ns >= valid_until_ns:
        raise EvidenceError(f"expected a device to be valid for some time, got {utc_text(valid_until_ns)} as its end")
    payload = {
        "agency": agency,
        "device": device,
        "jwk": jwk_of(key),
        "valid_from": utc_text(valid_from_ns),
        "valid_until": utc_text(valid_until_ns),
    }
    as_record(payload, _DeviceRecord, "device certificate")
    return jws.sign(root, DEVICE_TYP, payload)


def issue_boot(
    device: Signer,
    *,
    agency: str,
    device_id: str,
    boot: int,
    boot_id: str,
    key: ec.EllipticCurvePublicKey,
    time: WallReading,
    details_key: bytes,
    prev: str | None = None,
) -> str:
    """Sign a boot certificate with the device's identity key.

    Raises:
        EvidenceError: A value is malformed.
    """
    payload = {
        "agency": agency,
        "device": device_id,
        "boot": boot,
        "boot_id": boot_id,
        "jwk": jwk_of(key),
        "time": msgspec.to_builtins(TimeRecord.of(time)),
        "details_key": b64(details_key),
        "prev": prev,
    }
    as_record(payload, _BootRecord, "boot certificate")
    return jws.sign(device, BOOT_TYP, payload)
