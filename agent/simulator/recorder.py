"""A recorder as a dock service sees it, without pictures: a real journal in memory, a status, a nonce.

The journal's lines are made, chained and signed by the code that does so on a device; their content is invented and
marked as simulated. With the agency's root key the device is certified like any other, shows signed checkpoints, and
checks a station's attestation by the recorder's own rules; without it, it shows none and is never attested.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.clock import NS, Clocks
from agent.dock.journal import JournalEvent, parse
from agent.dock.messages import Checkpoint, Clock, Confirmed, Evidence, Policy, SinceDock, Status, Storage, Topics
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError
from agent.evidence.details import KEY_BYTES, DetailsKey
from agent.journal.entries import RecordingEnded
from agent.journal.format import Journal
from agent.keys.signer import KeySigner, Signer
from agent.trust.attestation import Nonces
from agent.trust.certificates import issue_boot, issue_device
from agent.trust.document import TrustDocument

_VALID_NS = 86_400 * NS
_BOOT = 1


@dataclass(frozen=True, slots=True)
class AgencyKeys:
    """The agency's root key, which certifies simulated devices, and the trust document that it signed."""

    root: Signer
    trust: TrustDocument


class SimulatedRecorder:
    """One recorder with `events` journal lines that stations receive.

    Args:
        topics: Of the device.
        keys: Certify it; None: it shows no checkpoint.
        events: How many.
        clocks: Both clocks.
        random_bytes: For nonces and keys.
    """

    def __init__(
        self,
        topics: Topics,
        keys: AgencyKeys | None,
        *,
        events: int,
        clocks: Clocks,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._topics = topics
        self._keys = keys
        self._clocks = clocks
        self._nonces = Nonces(random_bytes)
        self._docked_until_ns = 0
        boot, details = KeySigner.generate(), random_bytes(KEY_BYTES)
        self._certificates = ("", "")
        if keys is not None:
            self._certificates = _certificates(topics, keys, boot, clocks, details)
        journal = Journal(
            device=topics.device,
            boot=_BOOT,
            signer=boot,
            details=DetailsKey(details),
            clocks=clocks,
            head=sha256_hex(self._certificates[0].encode("ascii")),
        )
        raw = [journal.line(RecordingEnded(f"simulated-{number}", number, 0)) for number in range(1, events + 1)]
        journal.checkpoint()
        self._signed = journal.newest
        self.lines = [line for line in (parse(one[:-1]) for one in raw) if line is not None]
        """The journal, as a dock service reads it."""

    @property
    def docked(self) -> bool:
        """True while an attestation holds."""
        return self._clocks.monotonic_ns() < self._docked_until_ns

    def attested(self, token: str) -> bool:
        """Check an attestation; True if it holds."""
        if self._keys is None:
            return False
        try:
            attestation = self._nonces.check(
                token,
                trust=self._keys.trust,
                agency=self._topics.agency,
                device=self._topics.device,
                wall=self._clocks.wall(),
                now_ns=self._clocks.monotonic_ns(),
            )
        except EvidenceError:
            return False
        self._docked_until_ns = attestation.until_ns
        return True

    def status(self, session: str, asked: list[int]) -> Status:
        """Its status, confirming the lines in `asked`."""
        checkpoint = None
        if self._keys is not None:
            own, of_boot = self._certificates
            checkpoint = Checkpoint(
                line=self._signed.n, jws=self._signed.jws, device_certificate=own, boot_certificate=of_boot
            )
        return Status(
            agency=self._topics.agency,
            device=self._topics.device,
            session=session,
            version="simulated",
            mode="standby",
            contact=True,
            docked=self.docked,
            nonce=self._nonces.current(self._clocks.monotonic_ns()),
            policy=Policy(name="simulated", version=0, digest="0" * 64),
            clock=Clock(source="simulated", within_ms=None),
            storage=Storage(free_bytes=None, time_left_s=None, failing=False),
            evidence=Evidence(recordings=0, segments=0, bytes=0, pending_segments=0),
            since_dock=SinceDock(refused=0, tampered=0),
            self_test=None,
            checkpoint=checkpoint,
            confirms=[Confirmed(line=line, hash=self._hash_of(line)) for line in asked],
            battery_pct=None,
            temperature_c=None,
            uptime_s=0,
            boots=_BOOT,
        )

    def _hash_of(self, number: int) -> str | None:
        found: JournalEvent | None = self.lines[number - 1] if 0 < number <= len(self.lines) else None
        return None if found is None else found.hash


def _certificates(
    topics: Topics, keys: AgencyKeys, boot: Signer, clocks: Clocks, details_key: bytes
) -> tuple[str, str]:
    now = clocks.wall()
    identity = KeySigner.generate()
    own = issue_device(
        keys.root,
        agency=topics.agency,
        device=topics.device,
        key=identity.public_key,
        valid_from_ns=now.utc_ns - _VALID_NS,
        valid_until_ns=now.utc_ns + _VALID_NS,
    )
    of_boot = issue_boot(
        identity,
        agency=topics.agency,
        device_id=topics.device,
        boot=_BOOT,
        boot_id="simulated",
        key=boot.public_key,
        time=now,
        details_key=details_key,  # it seals nothing: a simulated journal has no details
    )
    return own, of_boot
