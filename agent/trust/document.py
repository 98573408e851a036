"""Trust document: an agency's keys with their purposes and validity, and the start of the certificate chain.

The chain: the agency's root signs the trust document (`bwc-trust+jws`) and each device's certificate
(`bwc-device+jws`); a device's identity key signs a certificate for the key that it makes at each boot
(`bwc-boot+jws`; both certificates are read in `certificates.py`); the boot's key signs what is recorded.

The rules of a trust document, in order:

1. It is signed by the root key whose public half it names, and that key is the one that the reader has pinned; a
   reader without a pinned key calls `read_unpinned`.
2. Names, times and keys have the forms described here, no field is missing and none is unknown.
3. Each key is listed once, under its correct `kid`; the root's key has no other role; each has a period of validity.
   A supervisor's key may have a rank, the highest that its authorisations may claim; no other key has one.
4. There are at least two recipients that are not revoked, one of them kept offline and one of oversight.
5. There is a recipient set `default`. Each set has two recipients or more (so that a lost key loses nothing), at most
   as many as a message can have, all listed, and one that is not revoked is of oversight.

A trust document is stored on the device in clear: labels name offices ("custodian"), never persons.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import utc_text
from agent.encoding.digest import sha256
from agent.encoding.strict_json import b64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.jwk import jwk_of, public_key, thumbprint
from agent.keys.signer import Signer
from agent.seal.message import MAX_RECIPIENTS
from agent.seal.recipients import AnyRecipient, parse_recipient
from agent.trust.records import Kid, Label, Name, Record, Utc, Validity, as_record, utc_ns

TYP = "bwc-trust+jws"

Role = Literal["policy", "supervisor", "investigator", "prosecutor", "custodian", "station"]
Rank = Literal["officer", "corporal", "sergeant", "lieutenant"]
RANKS: tuple[Rank, ...] = get_args(Rank)
"""From the lowest to the highest."""

DEFAULT_SET = "default"
_MIN_RECIPIENTS = 2


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that signs: policies, authorisations, annotations or attestations of a dock.

    Attributes:
        rank: The highest that a supervisor's key may claim; None for the lowest, and for all other roles.
    """

    label: str
    role: Role
    key: ec.EllipticCurvePublicKey
    validity: Validity
    rank: Rank | None = None

    @property
    def kid(self) -> str:
        """Its JWK thumbprint."""
        return thumbprint(self.key)


@dataclass(frozen=True, slots=True)
class TrustedRecipient:
    """A key that recordings are sealed to.

    Attributes:
        offline: Its private half is stored without any network.
        oversight: It belongs to an oversight body; every set includes one.
    """

    label: str
    recipient: AnyRecipient
    validity: Validity
    offline: bool = False
    oversight: bool = False

    @property
    def kid(self) -> str:
        """Its recipient's kid."""
        return self.recipient.kid


class _KeyRecord(Record, frozen=True, forbid_unknown_fields=True):
    kid: Kid
    label: Label
    role: Role
    rank: Rank | None
    jwk: dict[str, str]
    valid_from: Utc
    valid_until: Utc
    revoked_at: Utc | None


class _RecipientRecord(Record, frozen=True, forbid_unknown_fields=True):
    label: Label
    recipient: dict[str, str]
    offline: bool
    oversight: bool
    valid_from: Utc
    valid_until: Utc
    revoked_at: Utc | None


class _TrustRecord(Record, frozen=True, forbid_unknown_fields=True):
    agency: Name
    serial: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
    issued_at: Utc
    root: dict[str, str]
    keys: Annotated[list[_KeyRecord], msgspec.Meta(max_length=1024)]
    recipients: Annotated[list[_RecipientRecord], msgspec.Meta(max_length=64)]
    sets: dict[Name, list[Kid]]
    revoked_devices: dict[Kid, Utc]


@dataclass(frozen=True, slots=True)
class TrustDocument:
    """A verified trust document.

    Attributes:
        agency: Its name.
        serial: Of two documents of one root, the one with the higher serial is in force.
        issued_ns: When it was signed, by the signer's clock.
        root: The agency's root key.
        keys: Keys that may sign, by role.
        recipient_keys: Keys that recordings can be sealed to.
        sets: From a classification to the kids of its recipients.
        revoked_devices: From the kid of a device's identity key to the time (ns) of its revocation.
        token: The signed document itself.
    """

    agency: str
    serial: int
    issued_ns: int
    root: ec.EllipticCurvePublicKey
    keys: tuple[TrustedKey, ...]
    recipient_keys: tuple[TrustedRecipient, ...]
    sets: Mapping[str, tuple[str, ...]]
    revoked_devices: Mapping[str, int]
    token: str

    @property
    def root_kid(self) -> str:
        """The root key's JWK thumbprint, which an agency publishes for comparison."""
        return thumbprint(self.root)

    def key(self, kid: str, role: Role, at_ns: int) -> ec.EllipticCurvePublicKey:
        """The key that `kid` names, for one purpose and one moment.

        Raises:
            EvidenceError: As `listed`.
        """
        return self.listed(kid, (role,), at_ns).key

    def keys_of(self, role: Role) -> list[ec.EllipticCurvePublicKey]:
        """The unrevoked keys of a role, valid now or not: for documents that outlive the key that signed them."""
        return [entry.key for entry in self.keys if entry.role == role and entry.validity.revoked_ns is None]

    def listed(self, kid: str, roles: Collection[Role], at_ns: int | None) -> TrustedKey:
        """The entry of `kid`, if it has one of these roles and is valid at that time.

        Args:
            kid: As a message names it.
            roles: Those that may sign such a message.
            at_ns: Nanoseconds since 1970; None if nobody knows: then only revocation counts.

        Raises:
            EvidenceError: It is not listed, has another role, is revoked, not yet valid or no longer.
        """
        wanted = " or ".join(roles)
        found = next((entry for entry in self.keys if entry.kid == kid), None)
        if found is None:
            raise EvidenceError(f"expected a {wanted} key that the trust document lists, got {kid[:60]!r}")
        if found.role not in roles:
            raise EvidenceError(f"expected a {wanted} key, got the {found.role} key {kid} ({found.label})")
        if not found.validity.covers(at_ns):
            raise EvidenceError(f"the {found.role} key {kid} ({found.label}) is {found.validity.why_not(at_ns)}")
        return found

    def _set(self, classification: str) -> tuple[str, ...]:
        if classification not in self.sets:
            names = ", ".join(sorted(self.sets))
            raise EvidenceError(
                f"expected a classification with a recipient set ({names}), got {classification[:60]!r}"
            )
        return self.sets[classification]

    def recipients(self, classification: str, at_ns: int | None) -> list[AnyRecipient]:
        """Recipients of a recording of this classification: those of its set that are valid then.

        Args:
            classification: The name of a recipient set.
            at_ns: Nanoseconds since 1970; None while no clock can be trusted: then only revocation counts, because a
                device that has just booted must record.

        Raises:
            EvidenceError: There is no such set, or nobody in it is valid.
        """
        kids = self._set(classification)
        listed = {entry.kid: entry for entry in self.recipient_keys}
        valid = [listed[kid].recipient for kid in kids if listed[kid].validity.covers(at_ns)]
        if not valid:
            reasons = "; ".join(f"{listed[kid].label} is {listed[kid].validity.why_not(at_ns)}" for kid in kids)
            raise EvidenceError(f"nobody in the recipient set {classification} is valid: {reasons}")
        return valid

    def set_id(self, classification: str) -> str:
        """An opaque name of a recipient set: base64url of the first 16 bytes of SHA-256 over its sorted kids.

        Raises:
            EvidenceError: There is no such set.
        """
        kids = "\n".join(sorted(self._set(classification)))
        return b64(sha256(b"bwc-agent recipient set\0" + kids.encode("ascii"))[:16])


def _validity(record: _KeyRecord | _RecipientRecord) -> Validity:
    revoked_ns = None if record.revoked_at is None else utc_ns(record.revoked_at)
    validity = Validity(utc_ns(record.valid_from), utc_ns(record.valid_until), revoked_ns)
    if validity.from_ns >= validity.until_ns:
        raise EvidenceError(f"expected {record.label} to be valid for some time, got {validity.why_not(None)}")
    return validity


def _key(record: _KeyRecord) -> TrustedKey:
    key = TrustedKey(record.label, record.role, public_key(record.jwk), _validity(record), record.rank)
    if key.kid != record.kid:
        raise EvidenceError(f"expected {key.kid} as the kid of {record.label}, got {record.kid}")
    if key.rank is not None and key.role != "supervisor":
        raise EvidenceError(f"expected a rank for supervisors' keys alone, got {key.rank} for the {key.role} key")
    return key


def _recipient(record: _RecipientRecord) -> TrustedRecipient:
    recipient = parse_recipient(record.recipient)
    return TrustedRecipient(record.label, recipient, _validity(record), record.offline, record.oversight)


def _check_kids(root_kid: str, entries: Iterable[TrustedKey | TrustedRecipient]) -> None:
    seen = {root_kid}
    for entry in entries:
        if entry.kid in seen:
            raise EvidenceError(f"expected each key once and the root's in no other role, got {entry.kid} again")
        seen.add(entry.kid)


def _check_recipients(recipients: Sequence[TrustedRecipient], sets: Mapping[str, Sequence[str]]) -> None:
    live = [entry for entry in recipients if entry.validity.revoked_ns is None]
    if len(live) < _MIN_RECIPIENTS or not any(e.offline for e in live) or not any(e.oversight for e in live):
        raise EvidenceError(
            f"expected at least {_MIN_RECIPIENTS} unrevoked recipients, one of them kept offline and one of oversight"
        )
    if DEFAULT_SET not in sets:
        raise EvidenceError(f"expected a recipient set {DEFAULT_SET}, got {', '.join(sorted(sets)) or 'none'}")
    listed = {entry.kid for entry in recipients}
    oversight = {entry.kid for entry in live if entry.oversight}
    for name, kids in sets.items():
        if not _MIN_RECIPIENTS <= len(kids) <= MAX_RECIPIENTS or len(set(kids)) != len(kids):
            raise EvidenceError(
                f"expected {_MIN_RECIPIENTS} to {MAX_RECIPIENTS} different recipients in set {name}, got {len(kids)}"
            )
        if unknown := set(kids) - listed:
            raise EvidenceError(f"expected listed recipients in the set {name}, got {', '.join(sorted(unknown))}")
        if not oversight & set(kids):
            raise EvidenceError(f"expected a recipient of oversight that is not revoked in the set {name}, got none")


def _document(token: str, payload: Mapping[str, Any], root: ec.EllipticCurvePublicKey) -> TrustDocument:
    record = as_record(payload, _TrustRecord, "trust document")
    if public_key(record.root) != root:
        raise EvidenceError("expected a trust document that names the root key that signed it, got another")
    keys = tuple(_key(entry) for entry in record.keys)
    recipients = tuple(_recipient(entry) for entry in record.recipients)
    _check_kids(thumbprint(root), (*keys, *recipients))
    _check_recipients(recipients, record.sets)
    return TrustDocument(
        agency=record.agency,
        serial=record.serial,
        issued_ns=utc_ns(record.issued_at),
        root=root,
        keys=keys,
        recipient_keys=recipients,
        sets={name: tuple(kids) for name, kids in record.sets.items()},
        revoked_devices={kid: utc_ns(at) for kid, at in record.revoked_devices.items()},
        token=token,
    )


def read_unpinned(token: str) -> TrustDocument:
    """The trust document in a token, verified with the root key that it names itself.

    Anybody can make one: compare `root_kid` with the one that the agency publishes, or use `verify_trust`.

    Raises:
        EvidenceError: It breaks one of the rules at the top of this module.
    """
    root = public_key(jws.unverified_payload(token, TYP).get("root"))
    return _document(token, jws.verify(token, TYP, root), root)


def verify_trust(token: str, root: ec.EllipticCurvePublicKey) -> TrustDocument:
    """The trust document in a token, verified with the agency's root key.

    Raises:
        EvidenceError: It breaks one of the rules at the top of this module.
    """
    return _document(token, jws.verify(token, TYP, root), root)


def _times(validity: Validity) -> dict[str, str | None]:
    return {
        "valid_from": utc_text(validity.from_ns),
        "valid_until": utc_text(validity.until_ns),
        "revoked_at": None if validity.revoked_ns is None else utc_text(validity.revoked_ns),
    }


def issue_trust(
    root: Signer,
    *,
    agency: str,
    serial: int,
    issued_ns: int,
    keys: Sequence[TrustedKey],
    recipients: Sequence[TrustedRecipient],
    sets: Mapping[str, Sequence[str]],
    revoked_devices: Mapping[str, int] | None = None,
) -> str:
    """Sign a trust document. Times are truncated to microseconds.

    Raises:
        EvidenceError: It would break one of the rules at the top of this module.
    """
    payload = {
        "agency": agency,
        "serial": serial,
        "issued_at": utc_text(issued_ns),
        "root": jwk_of(root.public_key),
        "keys": [
            {
                "kid": key.kid,
                "label": key.label,
                "role": key.role,
                "rank": key.rank,
                "jwk": jwk_of(key.key),
                **_times(key.validity),
            }
            for key in keys
        ],
        "recipients": [
            {
                "label": entry.label,
                "recipient": entry.recipient.public(),
                "offline": entry.offline,
                "oversight": entry.oversight,
                **_times(entry.validity),
            }
            for entry in recipients
        ],
        "sets": {name: list(kids) for name, kids in sets.items()},
        "revoked_devices": {kid: utc_text(at) for kid, at in (revoked_devices or {}).items()},
    }
    token = jws.sign(root, TYP, payload)
    verify_trust(token, root.public_key)
    return token
