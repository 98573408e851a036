"""A station's attestation: a signature over a device and a fresh nonce of its recorder, for "it is at my dock".

The rules, in order:
1. It is a JWS of type `bwc-attestation+jws` by a key that the agency's trust document lists as a station's, valid now;
   while no clock can be trusted only revocation counts, because a camera must be able to dock to get the time.
2. It names this agency and this device.
3. Its nonce is one that this recorder made itself, less than `LIFE_NS` ago. So it is fresh by the recorder's own
   monotonic clock, whatever any wall clock says, and none can be replayed.
4. It holds until `LIFE_NS` after its nonce was made, no longer; it is renewed with a newer nonce.
5. Its size is bounded (`MAX_BYTES`), and names and nonce are compared before the signature is checked: in a flood of
   foreign or old attestations each costs the recorder the parsing of some hundred bytes, no more.
"""

from collections import deque
from dataclasses import dataclass
from typing import Annotated

import msgspec

from agent.clock import NS, WallReading
from agent.encoding.strict_json import b64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.signer import Signer
from agent.seal.writer import RandomBytes
from agent.trust.document import Role, TrustDocument
from agent.trust.records import Name, Record, as_record

TYP = "bwc-attestation+jws"
LIFE_NS = 60 * NS
RENEW_NS = 20 * NS
"""A new nonce is shown this often, so that a station can renew in good time."""
NONCE_BYTES = 16
MAX_BYTES = 2048
"""Of an attestation, which has some 450: two names and a nonce."""
_ROLES: tuple[Role, ...] = ("station",)


class _Payload(Record, frozen=True, forbid_unknown_fields=True):
    agency: Name
    device: Name
    nonce: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]


@dataclass(frozen=True, slots=True)
class Attestation:
    """A verified attestation.

    Attributes:
        station: The label of its key in the trust document.
        nonce_ns: When the nonce was made, nanoseconds of the recorder's monotonic clock.
        until_ns: When it ends, by the same clock.
    """

    station: str
    nonce_ns: int
    until_ns: int


def attest(station: Signer, *, agency: str, device: str, nonce: str) -> str:
    """Sign that the device that showed this nonce is at this station's dock.

    Raises:
        EvidenceError: A name does not have its form.
    """
    payload = {"agency": agency, "device": device, "nonce": nonce}
    as_record(payload, _Payload, "attestation")
    return jws.sign(station, TYP, payload)


class Nonces:
    """The recorder's own nonces: the newest is shown, those younger than `LIFE_NS` are accepted.

    Args:
        random_bytes: Source of nonces.
    """

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._made: deque[tuple[str, int]] = deque()

    def current(self, now_ns: int) -> str:
        """The nonce to show now."""
        while self._made and now_ns - self._made[0][1] >= LIFE_NS:
            self._made.popleft()
        if not self._made or now_ns - self._made[-1][1] >= RENEW_NS:
            self._made.append((b64(self._random_bytes(NONCE_BYTES)), now_ns))
        return self._made[-1][0]

    def check(
        self, token: str, *, trust: TrustDocument, agency: str, device: str, wall: WallReading, now_ns: int
    ) -> Attestation:
        """Verify an attestation.

        Raises:
            EvidenceError: It breaks one of the rules at the top of this module; the text says which.
        """
        if len(token) > MAX_BYTES:
            raise EvidenceError(f"expected an attestation of at most {MAX_BYTES} bytes, got {len(token)}")
        record = as_record(jws.unverified_payload(token, TYP), _Payload, "attestation")
        if (record.agency, record.device) != (agency, device):
            raise EvidenceError(
                f"expected an attestation of {device} of {agency}, got one of {record.device} of {record.agency}"
            )
        made_ns = next((made_ns for nonce, made_ns in self._made if nonce == record.nonce), None)
        if made_ns is None or now_ns - made_ns >= LIFE_NS:
            raise EvidenceError(
                "expected an attestation over a fresh nonce of this recorder, got an old or foreign one"
            )
        listed = trust.listed(jws.unverified_kid(token, TYP), _ROLES, wall.utc_ns if wall.trusted else None)
        jws.verify(token, TYP, listed.key)  # of the same text whose payload was read above
        return Attestation(listed.label, made_ns, made_ns + LIFE_NS)
