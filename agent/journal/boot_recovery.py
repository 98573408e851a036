"""What earlier boots left: where the journal stands, which recording was running, which segments are unfinished.

It is read at start, before anything is written. What can't be read is reported, never repaired: the new boot's journal
continues from the last whole line, and auditors see the rest as it is.

Whoever has the card can plant files with any number in their names. So, where the device's identity key is given, a
number counts only if its file is this device's: a journal by the boot certificate in its first line, a segment by its
opening statement. A journal that directly follows such a one counts too, because a boot may lose power in its first
line. Other files are left as they are, and reported.
"""

import errno
from dataclasses import dataclass, field, replace
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import WallReading
from agent.errors import EvidenceError, StorageError
from agent.evidence import folders, layout
from agent.evidence.manifest import Span
from agent.evidence.numbering import highest
from agent.journal.account import Account, account_of, read_account
from agent.journal.attested import TAIL, BootJournal, is_ours, read_boot
from agent.journal.entries import PersistedState
from agent.journal.format import HELD, Line, parse_line, split_lines
from agent.journal.reader import TooLong, certified_boot, read_line
from agent.storage.interface import MAX_NAMES, Storage

_TAIL = 1 << 20
_SHORTEST_LINE = 128
"""Bytes that a line of a journal has at least: so many lines can stand in so many bytes at most."""
_MOST_BACK = 64
"""Boots that are searched for one with an attested line."""
MOST_DARK = 256
"""Boots without a line, before or after the newest one with lines, whose journals are read."""
MOST_RECORDINGS = 256
"""Recordings whose folders are read: the newest that the journals name, and as many that they do not."""
MOST_UNFINISHED = 64
"""Segments that are closed in one boot; the next boot closes the others."""
MOST_REFUSED = 4
MOST_QUOTED = 48
"""Whole lines that are no journal lines: how many are reported, and how many bytes of each."""
PLAUSIBLE_US = 120_000_000
"""Twice the time between two checkpoints."""


@dataclass(frozen=True, slots=True)
class JournalTail:
    """Where the journal stands.

    Attributes:
        boot: Number of the newest boot, 0 if there is none.
        ours: The newest boot with a line of this device; later ones lost power in their first line, or are planted.
        line: Its last whole line; None if there is none.
        torn_bytes: Bytes after that line, in its file and in any later one (of boots that lost power in their first).
        boot_id: The kernel's boot id in which it was written; empty if unknown.
        strange: Files in the journal's folder that are not this device's.
        line_boot: The boot whose journal holds `line`; 0 if there is none.
        attested: The last attested line, which may lie before `line`, also in an earlier boot; None if there is none.
        journal: The journal that it is in.
    """

    boot: int = 0
    ours: int = 0
    line: Line | None = None
    torn_bytes: int = 0
    boot_id: str = ""
    strange: tuple[str, ...] = ()
    line_boot: int = 0
    attested: Line | None = None
    journal: BootJournal | None = field(default=None, repr=False, compare=False)

    @property
    def timed(self) -> Line | None:
        """The last line whose times can be relied on.

        The times of a line after the last checkpoint are unsigned. They count only if a recorder, which signs once a
        minute, can have written them; otherwise a forged line could hide how long the camera was off, or move its clock
        far into the future.
        """
        line, attested = self.line, self.attested
        if line is None or attested is None or line.hash == attested.hash:
            return attested
        later_us = line.mono_us - attested.mono_us
        later_ns = line.wall.utc_ns - attested.wall.utc_ns
        if self.journal is None or self.journal.boot != self.line_boot:
            return attested
        plausible = 0 <= later_us <= PLAUSIBLE_US and 0 <= later_ns <= PLAUSIBLE_US * 1000
        return line if plausible and line.wall.source == attested.wall.source else attested


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording came on storage: what is needed to continue it at once, before anything is repaired.

    Attributes:
        segment: Number of its last segment, 0 if it never reached storage.
        previous: Hash of that segment's manifest, or of its opening statement if it has no manifest (`interrupted`).
        attested_bytes: What the journal last attested of that segment as synced, if it has no manifest; 0 if nothing.
        recipients: Opaque id of the recipient set it was sealed to: a restricted recording must continue as one.
    """

    recording: str
    segment: int = 0
    previous: str = ""
    interrupted: bool = False
    attested_bytes: int = 0
    recipients: str = ""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A segment that an earlier boot opened and did not close.

    Attributes:
        boot: That boot; 0 if unknown.
        final: The recording was ended with it.
        attested_bytes: What the journal last attested of it as synced, 0 if nothing; None if that boot's journal was
            not read: see `attested`.
        withheld: What was suppressed while it was written, as its boot journalled it.
    """

    recording: str
    segment: int
    boot: int
    final: bool = False
    attested_bytes: int | None = None
    withheld: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class RecoveryState:
    """What earlier boots left.

    Attributes:
        running: The recording that no granted stop has ended; None if the recorder was in standby.
        unfinished: Segments that are to be closed, of that recording and of others.
        storage_full: Storage had no room when the journal ends.
        carried: What must survive a loss of power.
        refused: Sentences about a few bytes after the newest journal's last signature that are no lines, or unread.
    """

    running: Progress | None = None
    unfinished: tuple[Unfinished, ...] = ()
    storage_full: bool = False
    carried: PersistedState = field(default_factory=PersistedState)
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Downtime:
    """How long nothing was journalled: in milliseconds, with the bound on its error and what it rests on."""

    ms: int | None
    uncertainty_ms: int | None
    basis: str


def read_tail(storage: Storage, identity: PublicKey | None = None, *, known: int = 0) -> JournalTail:
    """The end of the newest journal that has a whole line.

    Args:
        storage: The evidence folder.
        identity: The device's identity key; without it every journal counts.
        known: A boot whose journal was on storage by the device state; 0 if there is none.

    Raises:
        StorageError: Storage can't be read at all.
    """
    boots = {boot for boot in map(layout.journal_boot, storage.names(layout.JOURNAL)) if boot}
    ours = newest = max(boots, default=0)
    if identity is not None:
        ours, newest = _newest(storage, boots, identity, known)
    strange = tuple(layout.journal(boot) for boot in sorted(boots) if boot > newest)
    to_read = [boot for boot in _boots_to_read(ours, newest) if storage.size(layout.journal(boot)) is not None]
    journal, most_n = _attested_end(storage, to_read, ours, identity)
    attested = journal.last if journal is not None else None
    found = JournalTail(newest, ours, strange=strange, attested=attested, journal=journal)
    torn = 0
    for boot in to_read:
        if identity is not None and (boot > ours or not is_ours(storage, boot, identity)):
            torn += storage.size(layout.journal(boot)) or 0
            continue
        lines, rest = _last_lines(storage, layout.journal(boot))
        torn += len(rest)
        for raw in reversed(lines):
            try:
                line = parse_line(raw)
            except EvidenceError:
                torn += len(raw) + 1
                continue
            if not (attested.n if attested is not None else 1) <= line.n <= most_n:
                torn += len(raw) + 1  # no line can have this number here; continuing from it would exhaust the numbers
                continue
            return replace(found, line=line, line_boot=boot, torn_bytes=torn, boot_id=_boot_id(storage, boot))
    return replace(found, torn_bytes=torn)


def _attested_end(
    storage: Storage, boots: list[int], ours: int, identity: PublicKey | None
) -> tuple[BootJournal | None, int]:
    """The newest journal with an attested line, and the highest number that a line after it can have."""
    loose = 0
    for boot in boots:
        if boot <= ours - _MOST_BACK:
            break
        journal = read_boot(storage, boot, identity) if boot <= ours else None
        if journal is not None and journal.last is not None:
            loose += journal.size - journal.attested_bytes
            return journal, journal.last.n + loose // _SHORTEST_LINE
        loose += storage.size(layout.journal(boot)) or 0
    return None, loose // _SHORTEST_LINE


def _boot_id(storage: Storage, boot: int) -> str:
    try:
        with storage.open(layout.journal(boot)) as stream:
            return certified_boot(parse_line(read_line(stream).rstrip(b"\n")), boot, None).boot_id
    except (EvidenceError, StorageError):
        return ""


def _newest(storage: Storage, boots: set[int], identity: PublicKey, known: int) -> tuple[int, int]:
    """The newest boot that left a line, and the newest one: that, or one that follows it without a gap."""
    ours = newest = highest(boots, partial(is_ours, storage, identity=identity), known=known)
    while newest - ours < MAX_NAMES and storage.size(layout.journal(newest + 1)) is not None:
        newest += 1
    return ours, newest


def _boots_to_read(ours: int, newest: int) -> range:
    """Boots whose journals are read, the newest first: some before and some after the newest of this device."""
    return range(min(newest, ours + MOST_DARK), max(0, ours - MOST_DARK), -1)


def names_in(storage: Storage, path: str) -> list[str]:
    """The names in a folder; none if what lies in its place is no folder.

    Raises:
        StorageError: Storage can't be read.
    """
    try:
        return storage.names(path)
    except StorageError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            return []
        raise


def _last_lines(storage: Storage, path: str) -> tuple[list[bytes], bytes]:
    size = storage.size(path) or 0
    with storage.open(path) as stream:
        start = max(0, size - _TAIL)
        stream.seek(start)
        data = stream.read(_TAIL)
    lines, rest = split_lines(data)
    return (lines[1:] if start else lines), rest


def downtime(tail: JournalTail, now: WallReading, mono_us: int, boot_id: str) -> Downtime:
    """How long nothing was journalled between the last line and now, as far as a clock can tell.

    Exactly by the monotonic clock if the kernel did not restart in between; else by the wall clock if it was trusted
    at both ends; else it is unknown.
    """
    line = tail.timed
    if line is None:
        return Downtime(None, None, "first_boot" if not tail.boot else "unknown")
    same_boot = tail.journal is not None and tail.journal.boot == tail.line_boot
    if same_boot and tail.boot_id and tail.boot_id == boot_id and mono_us >= line.mono_us:
        return Downtime((mono_us - line.mono_us) // 1000, 1, "same_kernel")
    before = line.wall
    if now.uncertainty_s is None or before.uncertainty_s is None or before.source == HELD:
        return Downtime(None, None, "unknown")
    elapsed_ms = max(0, (now.utc_ns - before.utc_ns) // 10**6)
    return Downtime(elapsed_ms, int((now.uncertainty_s + before.uncertainty_s) * 1000) + 1, "trusted_clock")


def read_recovery_state(storage: Storage, tail: JournalTail, identity: PublicKey | None = None) -> RecoveryState:
    """What the newest boots left unfinished.

    Whoever has the card can append unsigned lines and plant files. So a recording counts as ended only by attested
    lines (see `agent.journal.account`), or by a final manifest that a boot has signed for it. One that only an
    unattested line names is continued only if there is no other.

    The journal says which recordings were begun and ended; the folders say how far they came, also where the journal's
    last lines did not reach storage (a start takes effect first and is journalled afterwards).

    Raises:
        StorageError: Storage can't be read.
    """
    if not tail.boot:
        return RecoveryState()
    account = read_account(storage, _boots_to_read(tail.ours, tail.boot), identity, tail.journal)
    running: Progress | None = None
    unfinished: list[Unfinished] = []
    for recording in _candidates(storage, account, identity):
        folder = folders.look(storage, recording, account.keys, identity, known=account.opened.get(recording, 0))
        begun = recording in account.begun
        if identity is not None and not folder.last and not begun:
            continue  # a folder with a name like ours, and nothing in it that we signed
        ended = recording in account.ended
        unfinished += (
            Unfinished(
                recording,
                segment,
                boot,
                final=ended and segment == folder.last,
                attested_bytes=account.attested.get((recording, segment), 0)
                if boot in account.boots or not boot
                else None,
                withheld=tuple(account.spans.get((boot, recording), ())),
            )
            for segment, boot in folder.open
        )
        if ended or (recording in account.unfinished and not begun):
            continue
        if folder.interrupted or not folder.last or not _is_final(storage, recording, folder.last, account, identity):
            known = account.attested.get((recording, folder.last), 0) if folder.interrupted else 0
            running = Progress(recording, folder.last, folder.previous, folder.interrupted, known, folder.recipients)
    if running is None:
        # It was begun by a boot that lost power before anything of it was signed or stored.
        new = [name for name in account.claimed if name not in account.begun and name.startswith(tuple(account.tags))]
        running = Progress(new[-1]) if new else None
    refused = _refused(tail.journal) if tail.journal is not None else ()
    return RecoveryState(running, tuple(unfinished[-MOST_UNFINISHED:]), account.storage_full, account.carried, refused)


def attested(
    storage: Storage, boot: int, identity: PublicKey | None, recording: str, segment: int
) -> tuple[int, tuple[Span, ...]]:
    """What the journal of an older boot attests of a segment, and what was suppressed then; nothing if it is forged.

    Raises:
        StorageError: Storage can't be read.
    """
    journal = read_boot(storage, boot, identity) if boot else None
    if journal is None:
        return 0, ()
    account = account_of(journal)
    return account.attested.get((recording, segment), 0), tuple(account.spans.get((boot, recording), ()))


def _candidates(storage: Storage, account: Account, identity: PublicKey | None) -> list[str]:
    """Recordings that may run or be unfinished, in the order in which they began: of several, the last one continues.

    Those of a boot without an attested line are found by its certificate. If it is older than one that is attested,
    somebody has damaged its journal, and what it recorded must not take the place of what the newer one says.

    Those that the journals name are listed apart, so that planted folders, however many, displace none of them. Of the
    others only those are opened that one of these boots has begun: reading a folder that somebody has filled is slow.
    """
    listed = [name for name in names_in(storage, layout.RECORDINGS) if layout.is_recording_id(name)]
    older = [boot for boot in account.silent if boot < account.boot]
    newer = [boot for boot in account.silent if boot > account.boot]
    own = list(dict.fromkeys([*account.unfinished, *account.begun]))[-MOST_RECORDINGS:]
    before = [
        name for name in listed if older and name not in own and folders.certified(storage, name, older, identity)
    ]
    named = [name for name in listed if name not in own and name.startswith(tuple(f"{tag}-" for tag in account.tags))]
    keys = None if identity is None else folders.by_kid(account.keys)
    after = [name for name in named[-MOST_RECORDINGS:] if folders.begun_by(storage, name, keys)]
    after += [name for name in listed if newer and folders.certified(storage, name, newer, identity)]
    return list(dict.fromkeys([*before[-MOST_RECORDINGS:], *own, *after[-MOST_RECORDINGS:]]))


def _is_final(storage: Storage, recording: str, segment: int, account: Account, identity: PublicKey | None) -> bool:
    return folders.is_final(storage, recording, segment, account.keys, identity)


def _refused(journal: BootJournal) -> tuple[str, ...]:
    """What follows the last signature and is no line, escaped: somebody else may have written it."""
    found = []
    for item in journal.no_lines():
        if isinstance(item, TooLong):
            found.append(f"boot {journal.boot}: a line of {item.size} bytes")
        else:
            try:
                parse_line(item.raw)
            except EvidenceError as error:
                found.append(ascii(f"boot {journal.boot}: {error}: {item.raw[:MOST_QUOTED]!r}"))
        if len(found) == MOST_REFUSED:
            break
    unread = journal.size - journal.attested_bytes - TAIL
    if unread > 0:
        found.append(f"boot {journal.boot}: {unread} bytes more than what is read without a signature")
    return tuple(found)
