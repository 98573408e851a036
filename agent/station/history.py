"""Is this still the journal that was seen before? Pure.

A checkpoint signs the hash of the journal's line `line`, and each line names the hash of the one before. So the rules
are, in order:

1. A checkpoint is signed by the key of a boot that this very device's identity key certified, of this agency.
2. Its line and its boot are not below those of the newest one seen: a journal never becomes shorter.
3. At the same line it has the same hash.
4. Beyond that line, the device confirms the hash that it had seen there. The first such confirmation is asked for.

What was copied at one docking and put back before the next is noticed by rule 2, 3 or 4, as soon as one line was seen
that the copy does not hold. The confirmation of rule 4 is the dock service's word; that all lines lead to it is checked
by `bwc-agent verify` once the journal itself is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.clock import WallReading
from agent.dock.messages import Checkpoint
from agent.errors import EvidenceError
from agent.evidence.journal import CHECKPOINT_TYPE, checkpoint_payload
from agent.keys import jws
from agent.keys.certificates import verify_boot, verify_device
from agent.keys.trust import TrustDocument


@dataclass(frozen=True, slots=True)
class Seen:
    """A journal up to a line: its number, its hash, and the boot whose key signed that."""

    line: int
    hash: str
    boot: int


class Verdict(StrEnum):
    """What a checkpoint says about the one before."""

    FIRST = "first"
    SAME = "same"
    EXTENDS = "extends"
    UNCONFIRMED = "unconfirmed"
    """The device has not confirmed yet what was seen: ask."""
    SHORTER = "shorter"
    DIFFERENT = "different"

    @property
    def alarming(self) -> bool:
        """It is another history than the one that was seen."""
        return self in {Verdict.SHORTER, Verdict.DIFFERENT}


def checked(checkpoint: Checkpoint, trust: TrustDocument, device: str, wall: WallReading) -> Seen:
    """What a device's checkpoint signs.

    Raises:
        EvidenceError: It breaks rule 1, or the device is revoked.
    """
    certificate = verify_device(checkpoint.device_certificate, trust, wall.utc_ns if wall.trusted else None)
    if certificate.device != device:
        raise EvidenceError(f"expected a certificate of device {device}, got one of {certificate.device}")
    boot = verify_boot(checkpoint.boot_certificate, certificate)
    payload = checkpoint_payload(jws.verify(checkpoint.jws, CHECKPOINT_TYPE, boot.key))
    if (payload.device, payload.boot) != (device, boot.boot):
        raise EvidenceError(
            f"expected a checkpoint of boot {boot.boot} of {device}, got one of boot {payload.boot} of {payload.device}"
        )
    return Seen(payload.n, payload.head, payload.boot)


def judge(before: Seen | None, now: Seen, confirmed: Mapping[int, str | None]) -> Verdict:
    """What a checkpoint says, given the newest one seen before and what the device confirms."""
    if before is None:
        return Verdict.FIRST
    if now.line < before.line or now.boot < before.boot:
        return Verdict.SHORTER
    if now.line == before.line:
        return Verdict.SAME if now.hash == before.hash else Verdict.DIFFERENT
    if before.line not in confirmed:
        return Verdict.UNCONFIRMED
    return Verdict.EXTENDS if confirmed[before.line] == before.hash else Verdict.DIFFERENT
