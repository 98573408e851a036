"""Section 5: the trust document, certificates, and who is believed for which boot."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa

from tests.independent import jws
from tests.independent.encoding import (
    KID,
    LABEL,
    LARGEST,
    NAME,
    SHA256,
    TIME_RECORD,
    UTC_FIELD,
    RefusedError,
    array,
    boolean,
    digest,
    either,
    fields,
    from_base64url,
    integer,
    mapping,
    need,
    null,
    one_of,
    text,
    to_base64url,
    utc_us,
)

HPKE = "HPKE-MLKEM1024-P384-HKDF-SHA384-AES-256-GCM"
RSA = "RSA-OAEP-384"
_MLKEM, _POINT = 1568, 97
_RSA_BITS = range(3072, 8193)
_IN_SET = range(2, 17)
_RANKS = ("officer", "corporal", "sergeant", "lieutenant")
_ROLES = ("policy", "supervisor", "investigator", "prosecutor", "custodian", "station")
_STRINGS = mapping(text(), text())
_VALIDITY = {"valid_from": UTC_FIELD, "valid_until": UTC_FIELD, "revoked_at": either(null, UTC_FIELD)}
_TRUST = fields(
    {
        "agency": text(NAME),
        "serial": integer(1, LARGEST),
        "issued_at": UTC_FIELD,
        "root": _STRINGS,
        "keys": array(
            fields(
                {
                    "kid": text(KID),
                    "label": text(LABEL),
                    "role": one_of(*_ROLES),
                    "rank": either(null, one_of(*_RANKS)),
                    "jwk": _STRINGS,
                    **_VALIDITY,
                }
            ),
            1024,
        ),
        "recipients": array(
            fields(
                {"label": text(LABEL), "recipient": _STRINGS, "offline": boolean, "oversight": boolean, **_VALIDITY}
            ),
            64,
        ),
        "sets": mapping(text(NAME), array(text(KID))),
        "revoked_devices": mapping(text(KID), UTC_FIELD),
    }
)
_DEVICE = fields(
    {
        "agency": text(NAME),
        "device": text(NAME),
        "jwk": _STRINGS,
        "valid_from": UTC_FIELD,
        "valid_until": UTC_FIELD,
    }
)
_BOOT = fields(
    {
        "agency": text(NAME),
        "device": text(NAME),
        "boot": integer(1, 99_999_999),
        "boot_id": text(r"[A-Za-z0-9-]{1,64}"),
        "jwk": _STRINGS,
        "time": TIME_RECORD,
        "details_key": text(),
        "prev": either(null, text(SHA256)),
    }
)


@dataclass(frozen=True)
class Validity:
    """When a key is good; microseconds since 1970."""

    from_us: int
    until_us: int
    revoked_us: int | None

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Validity":
        revoked = entry.get("revoked_at")
        return cls(
            utc_us(entry["valid_from"]), utc_us(entry["valid_until"]), None if revoked is None else utc_us(revoked)
        )

    def good(self, at_us: int | None) -> bool:
        if at_us is None:
            return self.revoked_us is None
        return self.from_us <= at_us < self.until_us and (self.revoked_us is None or at_us < self.revoked_us)


@dataclass(frozen=True)
class Listed:
    """A key of the trust document that signs."""

    role: str
    key: jws.PublicKey
    validity: Validity


@dataclass(frozen=True)
class Trust:
    """A valid trust document."""

    token: str
    agency: str
    root: jws.PublicKey
    keys: dict[str, Listed]
    recipients: frozenset[str]
    revoked_devices: dict[str, int]


def _recipient_kid(recipient: dict[str, str]) -> str:
    """Section 8.5: the id of a recipient whose public key is well-formed and canonical."""
    need(recipient.keys() == {"alg", "kid", "pub"}, "not a recipient")
    alg, public = recipient["alg"], from_base64url(recipient["pub"])
    try:
        if alg == HPKE:
            need(len(public) == _MLKEM + _POINT, "not a hybrid key")
            mlkem.MLKEM1024PublicKey.from_public_bytes(public[:_MLKEM])
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), public[_MLKEM:])
            again = point.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
            need(again == public[_MLKEM:], "not canonical")
        else:
            need(alg == RSA, "unknown alg")
            key = serialization.load_der_public_key(public)
            need(isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS, "not an RSA key of this size")
            form = serialization.PublicFormat.SubjectPublicKeyInfo
            need(key.public_bytes(serialization.Encoding.DER, form) == public, "not canonical")
    except RefusedError:
        raise
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RefusedError("not a public key") from error
    kid = to_base64url(bytes.fromhex(digest(alg.encode() + b"\0" + public)))
    need(kid == recipient["kid"], "another kid")
    return kid


def read_trust(token: str) -> Trust:
    """Section 5.1."""
    parsed = jws.parse(token, "bwc-trust+jws")
    root = jws.public_key(parsed.payload.get("root"))
    said = parsed.verify(root)
    _TRUST(said)
    utc_us(said["issued_at"])
    keys: dict[str, Listed] = {}
    seen = {jws.thumbprint(root)}
    for entry in said["keys"]:
        key = jws.public_key(entry["jwk"])
        kid = jws.thumbprint(key)
        need(kid == entry["kid"] and kid not in seen, "a key under another kid, or twice")
        need(entry["rank"] is None or entry["role"] == "supervisor", "a rank of another than a supervisor")
        seen.add(kid)
        keys[kid] = Listed(entry["role"], key, _checked(Validity.of(entry)))
    live: dict[str, dict[str, Any]] = {}
    recipients = set()
    for entry in said["recipients"]:
        kid = _recipient_kid(entry["recipient"])
        need(kid not in seen, "a recipient twice")
        seen.add(kid)
        recipients.add(kid)
        if _checked(Validity.of(entry)).revoked_us is None:
            live[kid] = entry
    oversight = {kid for kid, entry in live.items() if entry["oversight"]}
    need(len(live) >= _IN_SET.start and oversight and any(e["offline"] for e in live.values()), "too few recipients")
    need("default" in said["sets"], "no default set")
    for kids in said["sets"].values():
        need(len(kids) in _IN_SET and len(set(kids)) == len(kids), "a set of another size")
        need(set(kids) <= recipients and oversight & set(kids), "a set without oversight, or of unlisted recipients")
    revoked = {kid: utc_us(at) for kid, at in said["revoked_devices"].items()}
    return Trust(token, said["agency"], root, keys, frozenset(recipients), revoked)


def _checked(validity: Validity) -> Validity:
    need(validity.from_us < validity.until_us, "never valid")
    return validity


@dataclass(frozen=True)
class Device:
    """A valid device certificate."""

    raw: bytes
    agency: str
    device: str
    key: jws.PublicKey
    validity: Validity


def read_device(raw: bytes, trust: Trust) -> Device:
    """Section 5.3."""
    said = jws.parse(jws.ascii_text(raw).removesuffix("\n"), "bwc-device+jws").verify(trust.root)
    _DEVICE(said)
    need(said["agency"] == trust.agency, "of another agency")
    key = jws.public_key(said["jwk"])
    need(key != trust.root, "the root's own key")
    times = Validity.of(said)
    validity = Validity(times.from_us, times.until_us, trust.revoked_devices.get(jws.thumbprint(key)))
    need(validity.good(validity.from_us), "never valid")
    return Device(raw, said["agency"], said["device"], key, validity)


@dataclass(frozen=True)
class Boot:
    """A valid boot certificate."""

    token: str
    number: int
    key: jws.PublicKey
    kid: str
    prev: str | None
    vouched_us: int | None
    details_key: bytes


def read_boot(token: str, device: Device) -> Boot:
    """Section 5.4."""
    said = jws.parse(token, "bwc-boot+jws").verify(device.key)
    _BOOT(said)
    need((said["agency"], said["device"]) == (device.agency, device.device), "of another device")
    key = jws.public_key(said["jwk"])
    need(key != device.key, "the identity key itself")
    at_us = utc_us(said["time"]["utc"])
    vouched = None if said["time"]["uncertainty_s"] is None else at_us
    details_key = from_base64url(said["details_key"])
    return Boot(token, said["boot"], key, jws.thumbprint(key), said["prev"], vouched, details_key)


@dataclass
class Authority:
    """Who is believed for one device. `copies` gives what lies beside recordings as the certificate of a boot."""

    trust: Trust
    device: Device
    copies: Callable[[int], Iterable[bytes]]
    boots: dict[int, Boot] = field(default_factory=dict)
    times: dict[int, list[int]] = field(default_factory=dict)

    def accept(self, token: str, number: int) -> Boot:
        boot = read_boot(token, self.device)
        need(boot.number == number, "of another boot")
        self.boots.setdefault(number, boot)
        if boot.vouched_us is not None:
            self.vouch(number, boot.vouched_us)
        return boot

    def vouch(self, boot: int, at_us: int) -> None:
        times = self.times.setdefault(boot, [at_us, at_us])
        times[:] = min(times[0], at_us), max(times[1], at_us)

    def boot(self, number: object) -> Boot | None:
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        if number not in self.boots:
            for raw in self.copies(number):
                try:
                    return self.accept(jws.ascii_text(raw).removesuffix("\n"), number)
                except RefusedError:
                    continue
        return self.boots.get(number)

    def invalid_boots(self) -> list[int]:
        """Section 5.5."""
        validity = self.device.validity
        refused = []
        later: int | None = None
        for number in sorted(self.boots, reverse=True):
            if times := self.times.get(number):
                bad = not all(validity.good(at) for at in times)
                later = times[0]
            elif later is None:
                bad = validity.revoked_us is not None
            else:
                bad = validity.revoked_us is not None and later >= validity.revoked_us
            if bad:
                refused.append(number)
        return refused
