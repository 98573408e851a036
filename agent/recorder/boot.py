"""What a boot needs before it can sign and seal: its keys, its certificate, its place in the journal.

The keys exist in memory only and end with the process; the boot certificate proves that they were this device's.
"""

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent import __version__
from agent.clock import Clocks, WallReading
from agent.device_state.card import ID_BYTES, view_card
from agent.device_state.compare import Comparison, TamperEvent, compare
from agent.device_state.record import DeviceState
from agent.device_state.store import Loaded
from agent.device_state.updater import ANCHOR_FAILING, StateUpdater
from agent.encoding.strict_json import sha256_hex
from agent.errors import StorageError
from agent.evidence import layout
from agent.evidence.closing import certify
from agent.evidence.details import KEY_BYTES, DetailsKey
from agent.evidence.manifest import Span
from agent.evidence.segment import Identity
from agent.journal import entries
from agent.journal.boot_recovery import (
    Downtime,
    JournalTail,
    RecoveryState,
    attested,
    downtime,
    read_recovery_state,
    read_tail,
)
from agent.journal.format import Journal
from agent.keys.signer import KeySigner
from agent.recorder.identity import DeviceIdentity
from agent.recorder.recipients import recipients_of
from agent.recorder.takeover import Takeover, state_of, take_over
from agent.seal.writer import RandomBytes, Sealer
from agent.storage.interface import MAX_NAMES, GrowingFile, Storage
from agent.storage.same_volume import SameVolumeStorage
from agent.trust.certificates import issue_boot

_TRIES = 3
"""Attempts to read the device state: without it this boot knows only what the card says."""
MAX_FOREIGN = 8
"""How many names of foreign files are journalled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootContext:
    """What a boot is prepared from.

    Attributes:
        device: Who this device is.
        storage: The evidence folder.
        random_bytes: Source of keys.
        state: The device's own memory.
        tag: Names this boot in the ids of its recordings.
        kernel_boot_id: The kernel's id of its boot: within one the monotonic clock runs on.
        configuration: SHA-256 of the configuration file; empty if there is none.
    """

    device: DeviceIdentity
    storage: Storage
    clocks: Clocks
    random_bytes: RandomBytes
    state: StateUpdater
    tag: str
    kernel_boot_id: str
    configuration: str = ""


@dataclass(frozen=True, slots=True)
class PreparedBoot:
    """A boot that can write.

    Attributes:
        boot: Its number, from 1.
        journal: Makes its lines; the boot line is made already: `first` as an entry, `first_line` as bytes.
        file: Where the lines go.
        recovery_state: What earlier boots left unfinished, by card and device state.
        takeover: What else follows from the comparison of the two.
        foreign: Files in the journal's folder that have a boot's number and are not this device's.
        identity: What to sign and seal with, for a classification and a policy.
        certificate: The boot certificate, a JWS.
    """

    boot: int
    journal: Journal
    file: GrowingFile
    first: entries.Boot
    first_line: bytes
    recovery_state: RecoveryState
    takeover: Takeover
    foreign: tuple[str, ...]
    identity: Callable[[str, str], Identity]
    certificate: bytes


def prepare(context: BootContext) -> PreparedBoot:
    """Read where the journal ends, make this boot's keys, and create its journal.

    Raises:
        StorageError: Storage can't be read or written; nothing is lost by trying again.
    """
    device, storage, clocks, random_bytes = context.device, context.storage, context.clocks, context.random_bytes
    state = context.state
    for _ in range(_TRIES):  # a state that was read is not read again
        loaded = state.load()
    known = loaded.state.mark.boot if loaded.state is not None and loaded.state.mark is not None else 0
    tail = read_tail(storage, device.signer.public_key, known=known)
    found = read_recovery_state(storage, tail, device.signer.public_key)
    view = view_card(storage, tail, found, loaded.state, device.signer.public_key)
    comparison = compare(view, loaded)
    takeover, recovery_state = take_over(storage, found, comparison)
    if loaded.anchor:  # reported now: the first save refills an emptied anchor, after which nothing shows
        takeover = replace(takeover, events=(*takeover.events, TamperEvent(ANCHOR_FAILING, loaded.anchor)))
    position = _position(tail, comparison, loaded, device)
    boot = _next_boot(storage, comparison.boot, random_bytes)
    reading = clocks.wall()
    signer = KeySigner.generate()
    key = random_bytes(KEY_BYTES)
    details = DetailsKey(key, random_bytes)
    _, recipients = recipients_of(device.trust, "default", clocks)
    details_context = {
        "bwc-format": "bwc-details/1",
        "agency": device.agency,
        "device": device.device,
        "boot": str(boot),
    }
    sealer = Sealer(recipients, details_context, 4096, random_bytes)
    token = issue_boot(
        device.signer,
        agency=device.agency,
        device_id=device.device,
        boot=boot,
        boot_id=context.kernel_boot_id,
        key=signer.public_key,
        time=reading,
        details_key=sealer.header + sealer.finish(key),
        prev=position.head if position.number else None,
    )
    certificate = token.encode("ascii")
    journal = Journal(
        device=device.device,
        boot=boot,
        signer=signer,
        details=details,
        clocks=clocks,
        head=position.head,
        number=position.number,
        floor=position.floor,
        sure_utc_ns=recovery_state.carried.passed_us * 1000,
    )
    span = downtime(tail, reading, clocks.monotonic_ns() // 1000, context.kernel_boot_id)
    if comparison.continues_from is not None:
        span = Downtime(None, None, "unknown")  # the card lacks the last line before the downtime
    first = entries.Boot(
        boot=boot,
        tag=context.tag,
        certificate=token,
        version=__version__,
        torn_bytes=tail.torn_bytes,
        dark_ms=span.ms,
        dark_uncertainty_ms=span.uncertainty_ms,
        dark_basis=span.basis,
        interrupted=recovery_state.running.recording if recovery_state.running else "",
        carried=recovery_state.carried,
        configuration=context.configuration,
        unfinished=list(dict.fromkeys(segment.recording for segment in recovery_state.unfinished)),
        continuity=_continuity(comparison),
    )
    # The journal comes last: its name uses up a boot number, which a failed attempt must not do.
    if storage.size(layout.DEVICE) is None:
        storage.publish(layout.DEVICE, device.certificate)
    if storage.size(layout.TRUST) is None:
        storage.publish(layout.TRUST, device.trust.token.encode("ascii"))
    card = view.card or _name_card(storage, random_bytes)
    file = storage.create(layout.journal(boot))
    first_line = journal.line(first)
    fresh = loaded.state is None and not comparison.events
    before = loaded.state or DeviceState(device.agency, device.device)
    state.begin(state_of(before, comparison, recovery_state, takeover, boot=boot, card=card), fresh=fresh)

    def identity(classification: str, policy: str) -> Identity:
        chosen, recipients = recipients_of(device.trust, classification, clocks)
        return Identity(
            agency=device.agency,
            device=device.device,
            boot=boot,
            boot_certificate=sha256_hex(certificate),
            signer=signer,
            details=details,
            recipients=recipients,
            recipient_set=device.trust.set_id(chosen),
            policy=policy,
        )

    return PreparedBoot(
        boot, journal, file, first, first_line, recovery_state, takeover, tail.strange, identity, certificate
    )


@dataclass(frozen=True, slots=True)
class _Position:
    """Number, hash and time of the chain's last line; without one 0, the device certificate's hash, None."""

    number: int
    head: str
    floor: WallReading | None


def _position(tail: JournalTail, comparison: Comparison, loaded: Loaded, device: DeviceIdentity) -> _Position:
    """The card's last line, or the one that the device remembers, so that no number is ever used twice."""
    on_card = tail.timed.wall if tail.timed is not None else None
    mark = comparison.continues_from
    if mark is None:
        if tail.line is None:
            return _Position(0, sha256_hex(device.certificate), None)
        return _Position(tail.line.n, tail.line.hash, on_card)
    remembered = loaded.state.reading() if loaded.state is not None else None
    floors = [floor for floor in (remembered, on_card) if floor is not None]
    return _Position(mark.line, mark.head, max(floors, key=lambda floor: floor.utc_ns, default=None))


def _next_boot(storage: Storage, highest: int, random_bytes: RandomBytes) -> int:
    """The number of this boot: above all that were begun, and not the name of any file.

    Beyond a bound the search is random: an attacker who could predict it could occupy the names and use up all numbers.
    """
    boot = highest + 1
    while storage.size(layout.journal(boot)) is not None:
        near = boot - highest < MAX_NAMES
        boot += 1 if near else 1 + int.from_bytes(random_bytes(2), "big")
    return boot


def _continuity(comparison: Comparison) -> entries.Continuity | None:
    if not comparison.events:
        return None
    mark = comparison.continues_from
    return entries.Continuity(
        events=list(dict.fromkeys(event.kind for event in comparison.events)),
        boot=mark.boot if mark is not None else 0,
        line=mark.line if mark is not None else 0,
        head=mark.head if mark is not None else "",
        recordings=list(comparison.missing_recordings),
        whole=comparison.whole,
    )


def _name_card(storage: Storage, random_bytes: RandomBytes) -> str:
    """Give a card its id; empty if something else has the file's name, which is never overwritten.

    Raises:
        StorageError: Storage refuses.
    """
    card = random_bytes(ID_BYTES).hex()
    try:
        storage.publish(layout.CARD_ID, f"{card}\n".encode("ascii"))
    except StorageError as error:
        if error.errno == errno.EEXIST:
            return ""
        raise
    return card


class CurrentBoot:
    """What this boot writes with, once storage was read.

    Attributes:
        storage: The evidence folder, as long as it is the one with this boot's journal.
        prepared: None before storage was read.
        report_tampering: Called for evidence of tampering that is found later: its kind and a description.
    """

    def __init__(self, context: BootContext) -> None:
        self.storage = SameVolumeStorage(context.storage, self._journal_path)
        self._context = replace(context, storage=self.storage)
        self._device = context.device
        self.prepared: PreparedBoot | None = None
        self._certifying = threading.Lock()
        self.report_tampering: Callable[[str, str], None] = lambda _kind, _what: None

    def prepare(self) -> PreparedBoot:
        """Prepare this boot, once (see `prepare`).

        Raises:
            StorageError: Storage can't be read or written; nothing is lost by trying again.
        """
        self.prepared = prepare(self._context)
        return self.prepared

    def ready(self) -> PreparedBoot:
        """What was prepared.

        Raises:
            StorageError: Storage has not been read yet; to be tried again.
        """
        if self.prepared is None:
            raise StorageError(errno.EAGAIN, "storage has not been read yet in this boot")
        return self.prepared

    def _journal_path(self) -> str:
        """This boot's journal, which identifies the volume; empty before there is one."""
        return layout.journal(self.prepared.boot) if self.prepared is not None else ""

    def certify(self, recording: str) -> None:
        """Put copies of the device's and this boot's certificate beside a recording, before anything is signed in it.

        From any thread, one at a time: two that create the same file at once would make each other fail.

        Raises:
            StorageError: Storage refuses, or has not been read yet; to be tried again.
        """
        ready = self.ready()
        with self._certifying:
            certify(self.storage, recording, ready.boot, (self._device.certificate, ready.certificate))

    def attested(self, boot: int, recording: str, segment: int) -> tuple[int, tuple[Span, ...]]:
        """The bytes of a segment that an older boot's journal attests, and the pauses and mutes in it.

        Raises:
            StorageError: Storage can't be read.
        """
        return attested(self.storage, boot, self._device.signer.public_key, recording, segment)

    def tamper_events(self) -> list[TamperEvent]:
        """Evidence of tampering with the card or the device state; to be called once.

        Raises:
            StorageError: Storage has not been read yet.
        """
        ready = self.ready()
        found = list(ready.takeover.events)
        if ready.foreign:
            found.append(TamperEvent("planted_files", ", ".join(ready.foreign[:MAX_FOREIGN])))
        if ready.recovery_state.refused:
            found.append(TamperEvent("journal_damaged", "; ".join(ready.recovery_state.refused)))
        return found

    def reopen_journal(self, offset: int) -> GrowingFile:
        """This boot's journal, opened again after storage was gone; it must hold the `offset` bytes that were synced.

        Raises:
            StorageError: It is missing, or on another storage.
        """
        path = layout.journal(self.ready().boot)
        if (self.storage.size(path) or 0) < offset:
            raise StorageError(errno.ENODEV, f"expected {path} with what was synced; this is not the same storage")
        return self.storage.reopen(path)
