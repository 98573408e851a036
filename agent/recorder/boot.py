"""What one boot needs before it can sign and seal anything: its keys, its certificate, its place in the journal.

All of it is made in memory and forgotten with the process; only the certificate says that it was this device's.
"""

import contextlib
import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent import __version__
from agent.clock import Clocks, WallReading
from agent.device_state.card import ID_BYTES, view_of
from agent.device_state.compare import Comparison, TamperEvent, compare
from agent.device_state.record import DeviceState
from agent.device_state.store import Loaded
from agent.device_state.updater import ANCHOR_FAILING, StateUpdater
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
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
from agent.keys.signer import KeySigner, Signer
from agent.recorder.takeover import Takeover, state_of, take_over
from agent.seal.recipients import AnyRecipient
from agent.seal.writer import RandomBytes, Sealer
from agent.storage.interface import MOST_NAMES, GrowingFile, Storage
from agent.storage.same_volume import SameVolumeStorage
from agent.trust.certificates import issue_boot
from agent.trust.document import TrustDocument

_TRIES = 3
"""To read the device state: without it this boot has the card's word alone for what holds on."""
MOST_STRANGE = 8
"""Names of files that are not ours, as many as are journalled."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Who this device is, and whom it trusts.

    Attributes:
        signer: The identity key.
        certificate: The device certificate, a JWS; its names are `agency` and `device`.
        trust: The agency's trust document.
    """

    agency: str
    device: str
    signer: Signer
    certificate: bytes
    trust: TrustDocument


@dataclass(frozen=True, slots=True)
class PreparedBoot:
    """A boot that can write.

    Attributes:
        boot: Its number, from 1.
        journal: Makes its lines; the boot line is made already: `first` as an entry, `first_line` as bytes.
        file: Where the lines go.
        left: What the boot before left behind, by card and device state.
        takeover: What else follows from the comparison of the two.
        strange: Files in the journal's folder that bear a number and are not ours.
        identity: What is signed and sealed with, for a classification and a policy.
        certificate: The boot certificate, a JWS.
    """

    boot: int
    journal: Journal
    file: GrowingFile
    first: entries.Boot
    first_line: bytes
    left: RecoveryState
    takeover: Takeover
    strange: tuple[str, ...]
    identity: Callable[[str, str], Identity]
    certificate: bytes


def prepare(
    storage: Storage,
    owner: DeviceIdentity,
    clocks: Clocks,
    random_bytes: RandomBytes,
    *,
    kernel_boot_id: str,
    tag: str,
    state: StateUpdater,
    configuration: str = "",
) -> PreparedBoot:
    """Read where the journal stands, make this boot's keys, and open its journal.

    Args:
        storage: The evidence folder.
        owner: Who this device is.
        clocks: Both clocks.
        random_bytes: Source of keys.
        kernel_boot_id: The kernel's name for its boot, which tells whether the monotonic clock went on.
        tag: Names this boot in the ids of its recordings.
        state: The device's own memory; it learns what it has to remember from this boot on.
        configuration: SHA-256 of the configuration file; empty if there is none.

    Raises:
        StorageError: Storage can't be read or written; nothing is lost by trying again.
    """
    for _ in range(_TRIES):  # at most: what was read is not read again
        loaded = state.load()
    known = loaded.state.mark.boot if loaded.state is not None and loaded.state.mark is not None else 0
    tail = read_tail(storage, owner.signer.public_key, known=known)
    found = read_recovery_state(storage, tail, owner.signer.public_key)
    view = view_of(storage, tail, found, loaded.state, owner.signer.public_key)
    comparison = compare(view, loaded)
    takeover, left = take_over(storage, found, comparison)
    if loaded.anchor:  # said now: the first save fills an anchor that was emptied, and nothing would show any more
        takeover = replace(takeover, events=(*takeover.events, TamperEvent(ANCHOR_FAILING, loaded.anchor)))
    position = _position(tail, comparison, loaded, owner)
    boot = _next_boot(storage, comparison.boot, random_bytes)
    reading = clocks.wall()
    signer = KeySigner.generate()
    key = random_bytes(KEY_BYTES)
    details = DetailsKey(key, random_bytes)
    _, recipients = recipients_of(owner.trust, "default", clocks)
    context = {"bwc-format": "bwc-details/1", "agency": owner.agency, "device": owner.device, "boot": str(boot)}
    sealer = Sealer(recipients, context, 4096, random_bytes)
    token = issue_boot(
        owner.signer,
        agency=owner.agency,
        device_id=owner.device,
        boot=boot,
        boot_id=kernel_boot_id,
        key=signer.public_key,
        time=reading,
        details_key=sealer.header + sealer.finish(key),
        prev=position.head if position.number else None,
    )
    certificate = token.encode("ascii")
    journal = Journal(
        device=owner.device,
        boot=boot,
        signer=signer,
        details=details,
        clocks=clocks,
        head=position.head,
        number=position.number,
        floor=position.floor,
        sure_utc_ns=left.carried.passed_us * 1000,
    )
    span = downtime(tail, reading, clocks.monotonic_ns() // 1000, kernel_boot_id)
    if comparison.goes_on_from is not None:
        span = Downtime(None, None, "unknown")  # the card does not hold the line after which it went dark
    first = entries.Boot(
        boot=boot,
        tag=tag,
        certificate=token,
        version=__version__,
        torn_bytes=tail.torn_bytes,
        dark_ms=span.ms,
        dark_uncertainty_ms=span.uncertainty_ms,
        dark_basis=span.basis,
        interrupted=left.running.recording if left.running else "",
        carried=left.carried,
        configuration=configuration,
        unfinished=list(dict.fromkeys(segment.recording for segment in left.unfinished)),
        continuity=_continuity(comparison),
    )
    # The journal comes last: its name uses up a boot number, which an attempt that fails on the way must not do.
    if storage.size(layout.DEVICE) is None:
        storage.publish(layout.DEVICE, owner.certificate)
    if storage.size(layout.TRUST) is None:
        storage.publish(layout.TRUST, owner.trust.token.encode("ascii"))
    card = view.card or _name_card(storage, random_bytes)
    file = storage.create(layout.journal(boot))
    first_line = journal.line(first)
    fresh = loaded.state is None and not comparison.events
    before = loaded.state or DeviceState(owner.agency, owner.device)
    state.begin(state_of(before, comparison, left, takeover, boot=boot, card=card), fresh=fresh)

    def identity(classification: str, policy: str) -> Identity:
        chosen, recipients = recipients_of(owner.trust, classification, clocks)
        return Identity(
            agency=owner.agency,
            device=owner.device,
            boot=boot,
            boot_certificate=sha256_hex(certificate),
            signer=signer,
            details=details,
            recipients=recipients,
            recipient_set=owner.trust.set_id(chosen),
            policy=policy,
        )

    return PreparedBoot(boot, journal, file, first, first_line, left, takeover, tail.strange, identity, certificate)


@dataclass(frozen=True, slots=True)
class _Position:
    """Where the chain stands: number, hash and time of its last line; 0, the device certificate's and None for none."""

    number: int
    head: str
    floor: WallReading | None


def _position(tail: JournalTail, comparison: Comparison, loaded: Loaded, owner: DeviceIdentity) -> _Position:
    """The card's last line; or what the device remembers, so that no number is ever used twice."""
    on_card = tail.timed.wall if tail.timed is not None else None
    mark = comparison.goes_on_from
    if mark is None:
        if tail.line is None:
            return _Position(0, sha256_hex(owner.certificate), None)
        return _Position(tail.line.n, tail.line.hash, on_card)
    remembered = loaded.state.reading() if loaded.state is not None else None
    floors = [floor for floor in (remembered, on_card) if floor is not None]
    return _Position(mark.line, mark.head, max(floors, key=lambda floor: floor.utc_ns, default=None))


def _next_boot(storage: Storage, highest: int, random_bytes: RandomBytes) -> int:
    """The number of this boot: above all that were begun, and one whose place nothing lies in.

    Beyond a bound it is looked for at random: whoever knew where could fill these places, and use up all numbers.
    """
    boot = highest + 1
    while storage.size(layout.journal(boot)) is not None:
        near = boot - highest < MOST_NAMES
        boot += 1 if near else 1 + int.from_bytes(random_bytes(2), "big")
    return boot


def _continuity(comparison: Comparison) -> entries.Continuity | None:
    if not comparison.events:
        return None
    mark = comparison.goes_on_from
    return entries.Continuity(
        events=list(dict.fromkeys(event.kind for event in comparison.events)),
        boot=mark.boot if mark is not None else 0,
        line=mark.line if mark is not None else 0,
        head=mark.head if mark is not None else "",
        recordings=list(comparison.missing_recordings),
        whole=comparison.whole,
    )


def _name_card(storage: Storage, random_bytes: RandomBytes) -> str:
    """Give a card its id; empty if something else lies in its place, which is never overwritten.

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


def recipients_of(trust: TrustDocument, classification: str, clocks: Clocks) -> tuple[str, list[AnyRecipient]]:
    """Whom to seal to, and the set they are of. A recorder must seal to somebody, or it could not record.

    Where nobody of the set is valid by the clock, those count who were not revoked: keys that ran out over night are
    better than no evidence. Where the set does not exist, the narrowest one is taken: `restricted`, then `default`.

    Raises:
        EvidenceError: Everybody was revoked.
    """
    now = clocks.wall()
    attempts = [(classification, now.utc_ns if now.trusted else None)]
    attempts += [(name, None) for name in (classification, "restricted", "default")]
    for name, at_ns in attempts:
        with contextlib.suppress(EvidenceError):
            return name, trust.recipients(name, at_ns)
    raise EvidenceError("every recipient of the trust document was revoked: this device needs a new one")


class CurrentBoot:
    """What one boot writes with, once storage was read; until then who asks for it is told to ask again.

    Args:
        owner: Who this device is.
        storage: The evidence folder.
        clocks: Both clocks.
        random_bytes: Source of keys.
        kernel_boot_id: The kernel's name for its boot.
        tag: Names this boot in the ids of its recordings.
        configuration: SHA-256 of the configuration file; empty if there is none.
        state: The device's own memory.

    Attributes:
        storage: The evidence folder, as long as it is the one with this boot's journal.
        prepared: What was read and made; None before storage was read.
        suspect: Told of a sign that somebody was at the card, found later: its kind, and in words.
    """

    def __init__(
        self,
        *,
        owner: DeviceIdentity,
        storage: Storage,
        clocks: Clocks,
        random_bytes: RandomBytes,
        kernel_boot_id: str,
        tag: str,
        configuration: str,
        state: StateUpdater,
    ) -> None:
        self._owner = owner
        self.storage = SameVolumeStorage(storage, self._anchor)
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._kernel_boot_id = kernel_boot_id
        self._tag = tag
        self._configuration = configuration
        self._state = state
        self.prepared: PreparedBoot | None = None
        self._certifying = threading.Lock()
        self.suspect: Callable[[str, str], None] = lambda _kind, _what: None

    def prepare(self) -> PreparedBoot:
        """Read where the journal stands, and make this boot's keys and journal; not again once that is done.

        Raises:
            StorageError: Storage can't be read or written; nothing is lost by trying again.
        """
        self.prepared = prepare(
            self.storage,
            self._owner,
            self._clocks,
            self._random_bytes,
            kernel_boot_id=self._kernel_boot_id,
            tag=self._tag,
            state=self._state,
            configuration=self._configuration,
        )
        return self.prepared

    def ready(self) -> PreparedBoot:
        """What was prepared.

        Raises:
            StorageError: Nothing yet: to be asked again.
        """
        if self.prepared is None:
            raise StorageError(errno.EAGAIN, "storage has not been read yet in this boot")
        return self.prepared

    def _anchor(self) -> str:
        """This boot's journal, beside which all else belongs; empty before there is one."""
        return layout.journal(self.prepared.boot) if self.prepared is not None else ""

    def certify(self, recording: str) -> None:
        """Put copies of the device's and this boot's certificate beside a recording, before anything is signed in it.

        From any thread: two that write one new file at once would spoil it for each other.

        Raises:
            StorageError: Storage refuses, or has not been read yet; it can be tried again.
        """
        ready = self.ready()
        with self._certifying:
            certify(self.storage, recording, ready.boot, (self._owner.certificate, ready.certificate))

    def attested(self, boot: int, recording: str, segment: int) -> tuple[int, tuple[Span, ...]]:
        """What an older boot's journal attests of a segment, and what was withheld in it.

        Raises:
            StorageError: Storage can't be read.
        """
        return attested(self.storage, boot, self._owner.signer.public_key, recording, segment)

    def suspicions(self) -> list[TamperEvent]:
        """Signs that somebody was at the card or the device's memory; to be looked for once.

        Raises:
            StorageError: Storage has not been read yet.
        """
        ready = self.ready()
        found = list(ready.takeover.events)
        if ready.strange:
            found.append(TamperEvent("planted_files", ", ".join(ready.strange[:MOST_STRANGE])))
        if ready.left.refused:
            found.append(TamperEvent("journal_damaged", "; ".join(ready.left.refused)))
        return found

    def journal_again(self, offset: int) -> GrowingFile:
        """This boot's journal, opened anew after storage was gone: it holds what was synced, or it is another's.

        Raises:
            StorageError: It is not there, or is not the same.
        """
        path = layout.journal(self.ready().boot)
        if (self.storage.size(path) or 0) < offset:
            raise StorageError(errno.ENODEV, f"expected {path} with what was synced; this is not the same storage")
        return self.storage.reopen(path)
