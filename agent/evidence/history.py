"""What earlier boots left behind: where the journal stands, which recording was running, which segments are unfinished.

Read at start, before anything is written. What can't be read is reported, never repaired: the new boot's journal goes
on from the last line that is whole, and auditors see the rest as it is.

Whoever has the card can lay files into folders, with any number in their names. So, where the device's identity key is
given, a number counts only if what bears it is ours: a journal by the boot certificate in its first line, a segment by
its opening statement; and a journal that follows such a one without a gap, for a boot may go dark in its first line.
What else lies there is left as it is, and named.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import WallReading
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import entries, layout
from agent.evidence.account import Account, read_account
from agent.evidence.attested import BootJournal, is_ours, read_boot
from agent.evidence.entries import Carried
from agent.evidence.journal import HELD, MAX_LINE, Line, parse_line, split_lines
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Span
from agent.evidence.manifest import manifest as typed_manifest
from agent.evidence.manifest import opening as typed_opening
from agent.keys import jws
from agent.keys.certificates import BOOT_TYP
from agent.keys.jwk import public_key
from agent.storage.interface import Storage
from agent.strict_json import sha256_hex

_TAIL = 1 << 20
_SHORTEST_LINE = 128
"""Bytes that a line of a journal has at least: so many lines can stand in so many bytes at most."""
_MOST_BACK = 64
"""Boots that are looked at for one with an attested line."""
PLAUSIBLE_US = 120_000_000
"""What an honest recorder writes between two checkpoints, twice over."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the journal stands.

    Attributes:
        boot: Number of the newest boot, 0 if there is none.
        line: Its last whole line; None if there is none.
        torn_bytes: Bytes after that line, in its file and in any later one: boots that went dark in their first line.
        boot_id: The kernel's boot id in which it was written; empty if unknown.
        strange: Names in the journal's folder whose number is not one of ours.
        line_boot: The boot whose journal holds `line`; 0 if there is none.
        attested: The last attested line, which may lie before `line`, also in an earlier boot; None if there is none.
        journal: The journal that it is in.
    """

    boot: int = 0
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

        Nobody has signed the times of a line that follows the last checkpoint. They count as long as they lie where an
        honest recorder's would, which signs once a minute; else somebody could hide for how long the camera was off, or
        set its clock to a far future.
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
    """How far a recording came on storage.

    Attributes:
        segment: Number of its last segment, 0 if it never reached storage.
        previous: Hash of the last manifest: of that segment, or of the one before it if it is unfinished.
        unfinished: That segment has no manifest.
        attested_bytes: What the journal last attested of it as synced; 0 if nothing.
        recipients: Opaque id of the recipient set it was sealed to: a restricted recording must go on as one.
        withheld: What was withheld while that segment was written, as its boot journalled it; of an unfinished one.
    """

    recording: str
    segment: int = 0
    previous: str = ""
    unfinished: bool = False
    attested_bytes: int = 0
    recipients: str = ""
    withheld: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier boot left behind.

    Attributes:
        running: The recording that no granted stop has ended; None if the recorder was in standby.
        ended: Recordings that were ended, but whose last segment was not closed any more.
        storage_full: Storage had no room when the journal ends.
        carried: What must not be forgotten by going dark.
    """

    running: Progress | None = None
    ended: tuple[Progress, ...] = ()
    storage_full: bool = False
    carried: Carried = field(default_factory=Carried)


@dataclass(frozen=True, slots=True)
class Dark:
    """How long nothing was journalled: in milliseconds, with the bound on its error and what it rests on."""

    ms: int | None
    uncertainty_ms: int | None
    basis: str


def read_tail(storage: Storage, identity: PublicKey | None = None) -> Tail:
    """The end of the newest journal that has a whole line.

    Args:
        storage: The evidence folder.
        identity: The device's identity key; without it every journal counts.

    Raises:
        StorageError: Storage can't be read at all.
    """
    boots = {boot for boot in map(layout.journal_boot, storage.names(layout.JOURNAL)) if boot}
    newest = max(boots, default=0) if identity is None else _newest(storage, boots, identity)
    strange = tuple(layout.journal(boot) for boot in sorted(boots) if boot > newest)
    ours = sorted((boot for boot in boots if boot <= newest), reverse=True)
    journal, most_n = _attested_end(storage, ours, identity)
    attested = journal.last if journal is not None else None
    found = Tail(newest, strange=strange, attested=attested, journal=journal)
    torn = 0
    for boot in ours:
        if identity is not None and not is_ours(storage, boot, identity):
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
                torn += len(raw) + 1  # no line can have this number here: to count on from it would end the journal
                continue
            return replace(found, line=line, line_boot=boot, torn_bytes=torn, boot_id=_boot_id(storage, boot))
    return replace(found, torn_bytes=torn)


def _attested_end(storage: Storage, boots: list[int], identity: PublicKey | None) -> tuple[BootJournal | None, int]:
    """The newest journal with an attested line, and the highest number that a line after it can have."""
    loose = 0
    for boot in boots[:_MOST_BACK]:
        journal = read_boot(storage, boot, identity)
        if journal is not None and journal.last is not None:
            loose += journal.size - journal.attested_bytes
            return journal, journal.last.n + loose // _SHORTEST_LINE
        loose += storage.size(layout.journal(boot)) or 0
    return None, loose // _SHORTEST_LINE


def _boot_id(storage: Storage, boot: int) -> str:
    journal = layout.journal(boot)
    try:
        with storage.open(journal) as stream:
            first = parse_line(stream.readline(MAX_LINE + 1).rstrip(b"\n"))
        if isinstance(first.entry, entries.Boot):
            return str(jws.peek(first.entry.certificate, BOOT_TYP).get("boot_id", ""))
    except (EvidenceError, StorageError):
        return ""
    return ""


def _newest(storage: Storage, boots: set[int], identity: PublicKey) -> int:
    """The newest boot's number: of the last journal that is ours, or of one that follows it without a gap."""
    newest = next((boot for boot in sorted(boots, reverse=True) if is_ours(storage, boot, identity)), 0)
    while newest + 1 in boots:
        newest += 1
    return newest


def _last_lines(storage: Storage, path: str) -> tuple[list[bytes], bytes]:
    size = storage.size(path) or 0
    with storage.open(path) as stream:
        start = max(0, size - _TAIL)
        stream.seek(start)
        data = stream.read(_TAIL)
    lines, rest = split_lines(data)
    return (lines[1:] if start else lines), rest


def dark(tail: Tail, now: WallReading, mono_us: int, boot_id: str) -> Dark:
    """How long it was dark between the last line and now, as far as a clock can tell.

    The monotonic clock tells exactly if the kernel did not boot in between; else the wall clock does, if it was
    trusted at both ends; else nobody knows.
    """
    line = tail.timed
    if line is None:
        return Dark(None, None, "first_boot" if not tail.boot else "unknown")
    same_boot = tail.journal is not None and tail.journal.boot == tail.line_boot
    if same_boot and tail.boot_id and tail.boot_id == boot_id and mono_us >= line.mono_us:
        return Dark((mono_us - line.mono_us) // 1000, 1, "same_kernel")
    before = line.wall
    if now.uncertainty_s is None or before.uncertainty_s is None or before.source == HELD:
        return Dark(None, None, "unknown")
    elapsed_ms = max(0, (now.utc_ns - before.utc_ns) // 10**6)
    return Dark(elapsed_ms, int((now.uncertainty_s + before.uncertainty_s) * 1000) + 1, "trusted_clock")


def left_behind(storage: Storage, tail: Tail, identity: PublicKey | None = None) -> Left:
    """What the newest boots left unfinished.

    Whoever has the card can chain lines on that nobody signed, and lay files into folders. So a recording counts as
    ended only by attested lines (see `agent.evidence.account`), or by a final manifest that a boot has signed for it.
    One that only an unattested line names is gone on with only if there is no other.

    The journal says which recordings were begun and ended; the folders say how far they came, also where the journal's
    last lines did not reach storage (a start acts first and is journalled after).

    Raises:
        StorageError: Storage can't be read.
    """
    if not tail.boot:
        return Left()
    account = read_account(storage, tail.boot, identity, tail.journal)
    begun = _candidates(storage, account, identity)
    running: Progress | None = None
    ended = []
    for recording in begun:
        progress = _progress(storage, recording, account, identity)
        if identity is not None and not progress.segment and recording not in account.begun:
            continue  # a folder with a name like ours, and nothing in it that we signed
        if recording in account.ended:
            if progress.unfinished:
                ended.append(progress)
        elif (
            progress.unfinished
            or not progress.segment
            or not _is_final(storage, recording, progress.segment, account, identity)
        ):
            running = progress
    if running is None:
        # Begun by a boot that lost power before anything of it was signed or stored.
        new = [name for name in account.claimed if name not in begun and name.startswith(tuple(account.tags))]
        running = Progress(new[-1]) if new else None
    return Left(running, tuple(ended), account.storage_full, account.carried)


def _candidates(storage: Storage, account: Account, identity: PublicKey | None) -> list[str]:
    """Recordings that may run or be unfinished, in the order in which they began: of several, the last one goes on.

    Those of a boot without an attested line are found by its certificate. If it is older than one that is attested,
    somebody has damaged its journal, and what it recorded must not take the place of what the newer one says.
    """
    names = storage.names(layout.RECORDINGS)
    older = [boot for boot in account.silent if boot < account.boot]
    newer = [boot for boot in account.silent if boot > account.boot]
    found = [
        name for name in names if older and name not in account.begun and _certified(storage, name, older, identity)
    ]
    found += account.begun
    for tag in account.tags:
        found += [name for name in names if name.startswith(f"{tag}-")]
    found += [name for name in names if newer and _certified(storage, name, newer, identity)]
    return list(dict.fromkeys(found))


def _progress(storage: Storage, recording: str, account: Account, identity: PublicKey | None) -> Progress:
    parts: dict[int, set[str]] = {}
    for name in _names(storage, recording):
        part = layout.segment_part(name)
        if part is not None:
            parts.setdefault(part[0], set()).add(part[1])
    last = max(parts, default=0)
    if identity is not None:
        # Of the journals' boot lines, too: whoever takes the copies out of a recording gains nothing.
        keys = [*account.keys, *_boot_keys(storage, recording, identity)]
        last = next((n for n in sorted(parts, reverse=True) if _was_opened(storage, recording, n, keys)), 0)
    if not last:
        return Progress(recording)
    recipients = _recipients(storage, recording, last)
    if "manifest.jws" in parts[last]:
        return Progress(recording, last, _manifest_hash(storage, recording, last), recipients=recipients)
    return Progress(
        recording,
        last,
        _manifest_hash(storage, recording, last - 1) if last > 1 else "",
        unfinished=True,
        attested_bytes=account.attested.get((recording, last), 0),
        recipients=recipients,
        withheld=tuple(account.spans.get(recording, ())),
    )


def _names(storage: Storage, recording: str) -> list[str]:
    """The names in a recording's folder; none if what lies in its place is no folder, or not the recorder's to read."""
    try:
        return storage.names(layout.recording(recording))
    except StorageError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM}:
            return []
        raise


def _boot_keys(storage: Storage, recording: str, identity: PublicKey) -> Iterator[PublicKey]:
    """Keys of the boots whose certificates lie in a recording."""
    for name in _names(storage, recording):
        if name.startswith("boot-"):
            try:
                token = storage.read(f"{layout.recording(recording)}/{name}").decode("ascii")
                yield public_key(jws.verify(token, BOOT_TYP, identity).get("jwk"))
            except (StorageError, EvidenceError, KeyFileError, UnicodeDecodeError):
                continue


def _was_opened(storage: Storage, recording: str, segment: int, keys: list[PublicKey]) -> bool:
    """True if one of the keys has signed the opening statement of this very segment."""
    try:
        token = storage.read(layout.opening(recording, segment)).decode("ascii")
    except (StorageError, UnicodeDecodeError):
        return False
    for key in keys:
        try:
            statement = typed_opening(jws.verify(token, OPENING_TYPE, key))
        except EvidenceError:
            continue
        return (statement.recording, statement.segment) == (recording, segment)
    return False


def _recipients(storage: Storage, recording: str, segment: int) -> str:
    """The recipient set that a segment's opening statement names. Its signature is not checked here."""
    try:
        token = storage.read(layout.opening(recording, segment)).decode("ascii")
        return typed_opening(jws.peek(token, OPENING_TYPE)).recipients
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return ""


def _manifest_hash(storage: Storage, recording: str, segment: int) -> str:
    try:
        return sha256_hex(storage.read(layout.manifest(recording, segment)))
    except StorageError:
        return ""


def _certified(storage: Storage, recording: str, boots: list[int], identity: PublicKey | None) -> bool:
    """True if one of these boots, which no line of a journal names, has signed in a recording.

    A name alone is no certificate: else somebody could lay one beside an old recording, which would then be gone on
    with in place of the one that was interrupted.
    """
    names = set(_names(storage, recording))
    for boot in boots:
        path = layout.boot_certificate(recording, boot)
        if path.rpartition("/")[2] not in names:
            continue
        if identity is None:
            return True
        try:
            token = storage.read(path).decode("ascii")
            if jws.verify(token, BOOT_TYP, identity).get("boot") == boot:
                return True
        except (StorageError, EvidenceError, UnicodeDecodeError):
            continue
    return False


def _signed_by(token: str, key: PublicKey) -> bool:
    try:
        jws.verify(token, MANIFEST_TYPE, key)
    except EvidenceError:
        return False
    return True


def _is_final(storage: Storage, recording: str, segment: int, account: Account, identity: PublicKey | None) -> bool:
    """True if one of the boots' keys has signed that this very recording ended with this segment.

    A final manifest of another recording, laid in its place, ends nothing.
    """
    try:
        token = storage.read(layout.manifest(recording, segment)).decode("ascii")
        statement = typed_manifest(jws.peek(token, MANIFEST_TYPE))
        if not statement.final or (statement.recording, statement.segment) != (recording, segment):
            return False
        keys = account.keys if identity is None else [*account.keys, *_boot_keys(storage, recording, identity)]
        return identity is None or any(_signed_by(token, key) for key in keys)
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return False
