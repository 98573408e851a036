"""Comparison of a device's newest checkpoint with the one before: is it still the same journal? Pure.

A checkpoint signs the hash of the journal's line `line`, and each line names the hash of the one before. So the rules
are, in order:

1. A checkpoint is signed by the key of a boot that this device's identity key certified, for this agency.
2. Its line and its boot are not below those of the newest one seen: a journal never becomes shorter.
3. At the same line it has the same hash.
4. Beyond that line, the device confirms the hash that the station saw there, once it has been asked to.

A card that was copied at one docking and put back before the next is noticed by rule 2, 3 or 4, as soon as the station
has seen a line that the copy lacks. The confirmation of rule 4 is the dock service's word; `bwc-agent verify` checks
that the lines chain to it once the journal itself is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.clock import WallReading
from agent.dock.messages import Checkpoint
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError
from agent.journal.format import CHECKPOINT_TYPE, checkpoint_payload
from agent.keys import jws
from agent.trust.certificates import BootCertificate, DeviceCertificate, verify_boot, verify_device
from agent.trust.document import TrustDocument


@dataclass(frozen=True, slots=True)
class SeenJournal:
    """A journal up to a line: its number, its hash, and the boot whose key signed that."""

    line: int
    hash: str
    boot: int


class Verdict(StrEnum):
    """What a checkpoint shows, compared with the one before."""

    FIRST = "first"
    SAME = "same"
    EXTENDS = "extends"
    UNCONFIRMED = "unconfirmed"
    """The device has not confirmed the line that was seen: ask."""
    SHORTER = "shorter"
    DIFFERENT = "different"

    @property
    def alarming(self) -> bool:
        """It is another journal than the one that was seen."""
        return self in {Verdict.SHORTER, Verdict.DIFFERENT}


class CheckpointVerifier:
    """Verifies checkpoints, and caches each device's newest certificates and checkpoint by their hash.

    A docked device shows the same ones every few seconds; whether they are valid now is checked each time.
    """

    def __init__(self, trust: TrustDocument) -> None:
        self._trust = trust
        self._certified: dict[str, tuple[str, DeviceCertificate, BootCertificate]] = {}
        self._seen: dict[str, tuple[str, SeenJournal]] = {}

    def verify(self, checkpoint: Checkpoint, device: str, wall: WallReading) -> SeenJournal:
        """The journal that a device's checkpoint signs.

        Raises:
            EvidenceError: It breaks rule 1, or the device is revoked.
        """
        at_ns = wall.utc_ns if wall.trusted else None
        shown = sha256_hex(f"{checkpoint.device_certificate} {checkpoint.boot_certificate}".encode())
        known, certificate, boot = self._certified.get(device, ("", None, None))
        if known != shown or certificate is None or boot is None or not certificate.validity.covers(at_ns):
            certificate, boot = _certified(checkpoint, self._trust, device, at_ns)
            self._certified[device] = (shown, certificate, boot)
        shown = sha256_hex(f"{shown} {checkpoint.jws}".encode())
        before = self._seen.get(device)
        if before is None or before[0] != shown:
            before = self._seen[device] = (shown, _signed_journal(checkpoint, device, boot))
        return before[1]


def _certified(
    checkpoint: Checkpoint, trust: TrustDocument, device: str, at_ns: int | None
) -> tuple[DeviceCertificate, BootCertificate]:
    certificate = verify_device(checkpoint.device_certificate, trust, at_ns)
    if certificate.device != device:
        raise EvidenceError(f"expected a certificate of device {device}, got one of {certificate.device}")
    return certificate, verify_boot(checkpoint.boot_certificate, certificate)


def _signed_journal(checkpoint: Checkpoint, device: str, boot: BootCertificate) -> SeenJournal:
    payload = checkpoint_payload(jws.verify(checkpoint.jws, CHECKPOINT_TYPE, boot.key))
    if (payload.device, payload.boot) != (device, boot.boot):
        raise EvidenceError(
            f"expected a checkpoint of boot {boot.boot} of {device}, got one of boot {payload.boot} of {payload.device}"
        )
    return SeenJournal(payload.n, payload.head, payload.boot)


def compare(before: SeenJournal | None, now: SeenJournal, confirmed: Mapping[int, str | None]) -> Verdict:
    """Compare a checkpoint with the newest one seen before, given the hashes that the device confirms."""
    if before is None:
        return Verdict.FIRST
    if now.line < before.line or now.boot < before.boot:
        return Verdict.SHORTER
    if now.line == before.line:
        return Verdict.SAME if now.hash == before.hash else Verdict.DIFFERENT
    if before.line not in confirmed:
        return Verdict.UNCONFIRMED
    return Verdict.EXTENDS if confirmed[before.line] == before.hash else Verdict.DIFFERENT
