"""What earlier boots left behind: where the journal stands, which recording was running, which segments are unfinished.

Read at start, before anything is written. What can't be read is reported, never repaired: the new boot's journal goes
on from the last line that is whole, and auditors see the rest as it is.

Whoever has the card can lay files into folders, with any number in their names. So, where the device's identity key is
given, a number counts only if what bears it is ours: a journal by the boot certificate in its first line, a segment by
its opening statement; and a journal that follows such a one without a gap, for a boot may go dark in its first line.
What else lies there is left as it is, and named.
"""

import errno
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import WallReading
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import entries, folders, layout
from agent.evidence.carried import Carry
from agent.evidence.entries import Carried
from agent.evidence.journal import CHECKPOINT_TYPE, HELD, MAX_LINE, Line, checkpoint_payload, parse_line, split_lines
from agent.evidence.manifest import Span
from agent.evidence.numbering import highest
from agent.keys import jws
from agent.keys.certificates import BOOT_TYP
from agent.keys.jwk import public_key
from agent.media.packet import Kind
from agent.storage.interface import MOST_NAMES, Storage

_TAIL = 1 << 20
_MOST_BOOTS = 64
MOST_SILENT_BOOTS = 256
"""So far back is looked for a boot that recorded, those counted that left no line."""
MOST_SILENT = 8
"""Boots without a line whose recordings are looked for by their certificates."""
MOST_RECORDINGS = 256
"""Recordings that the journals do not name, and such that they name, whose folders are looked at."""
MOST_UNFINISHED = 64
"""Segments that are closed in one boot; what is left is left to the next one."""
MOST_UNSIGNED = 4 << 20
"""Bytes of a journal after the last signature that are read: anybody can append lines, only the recorder signs them,
once a minute at least. A journal that is longer than what was signed costs a boot no more than this."""
SIGNED_EVERY = 256 << 10
"""Every so many bytes a signature is checked, whatever it signs."""
MOST_SPANS = 256
MOST_REFUSED = 4
MOST_QUOTED = 48
_NO_JOURNAL = {errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EIO}
"""What opening something else than a file says, and a file whose first block is beyond reading for good."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the journal stands.

    Attributes:
        boot: Number of the newest boot, 0 if there is none.
        ours: The newest boot that has left a line; those after it went dark in their first one, or are not ours.
        line: Its last whole line; None if there is none.
        torn_bytes: Bytes after that line, in its file and in any later one: boots that went dark in their first line.
        boot_id: The kernel's boot id in which it was written; empty if unknown.
        strange: Names in the journal's folder whose number is not one of ours.
    """

    boot: int = 0
    ours: int = 0
    line: Line | None = None
    torn_bytes: int = 0
    boot_id: str = ""
    strange: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording came on storage: what is needed to go on with it at once, before anything is repaired.

    Attributes:
        segment: Number of its last segment, 0 if it never reached storage.
        previous: Hash of that segment's manifest, or of its opening statement if it has no manifest (`interrupted`).
        recipients: Opaque id of the recipient set it was sealed to: a restricted recording must go on as one.
    """

    recording: str
    segment: int = 0
    previous: str = ""
    interrupted: bool = False
    recipients: str = ""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A segment that an earlier boot opened and did not close.

    Attributes:
        boot: That boot; 0 if nobody can tell.
        final: The recording was ended with it.
        attested_bytes: What the journal last attested of it as synced, 0 if nothing; None if that boot's journal was
            not read: see `attested`.
        withheld: What was withheld while it was written, as its boot journalled it.
    """

    recording: str
    segment: int
    boot: int
    final: bool = False
    attested_bytes: int | None = None
    withheld: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier boot left behind.

    Attributes:
        running: The recording that no granted stop has ended; None if the recorder was in standby.
        unfinished: Segments that are to be closed, of that recording and of others.
        storage_full: Storage had no room when the journal ends.
        carried: What must not be forgotten by going dark.
        refused: Whole lines that are none, and what was not read because nobody signed it; a few, escaped.
    """

    running: Progress | None = None
    unfinished: tuple[Unfinished, ...] = ()
    storage_full: bool = False
    carried: Carried = field(default_factory=Carried)
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dark:
    """How long nothing was journalled: in milliseconds, with the bound on its error and what it rests on."""

    ms: int | None
    uncertainty_ms: int | None
    basis: str


def read_tail(storage: Storage, identity: PublicKey | None = None, *, known: int = 0) -> Tail:
    """The end of the newest journal that has a whole line.

    Args:
        storage: The evidence folder.
        identity: The device's identity key; without it every journal counts.
        known: A boot whose journal was on storage, as far as the device remembers.

    Raises:
        StorageError: Storage can't be read at all.
    """
    boots = {boot for boot in map(layout.journal_boot, storage.names(layout.JOURNAL)) if boot}
    ours = newest = max(boots, default=0)
    if identity is not None:
        ours, newest = _newest(storage, boots, identity, known)
    strange = tuple(layout.journal(boot) for boot in sorted(boots) if boot > newest)
    torn = 0
    for boot in _looked_at(ours, newest):
        if storage.size(layout.journal(boot)) is None:
            continue
        if identity is not None and not _is_ours(storage, boot, identity):
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
            return Tail(newest, ours, line, torn, _boot_id(storage, boot), strange)
    return Tail(newest, ours, None, torn, strange=strange)


def _newest(storage: Storage, boots: set[int], identity: PublicKey, known: int) -> tuple[int, int]:
    """The newest boot that left a line, and the newest one: that, or one that follows it without a gap."""
    ours = newest = highest(boots, partial(_is_ours, storage, identity=identity), known=known)
    step = 1
    while storage.size(layout.journal(newest + step)) is not None:
        newest += step
        step = 1 if newest - ours < MOST_NAMES else 2 * step
    return ours, newest


def _looked_at(ours: int, newest: int) -> range:
    """Boots whose journals are looked at, the newest first: those before ours, and those after it, up to a bound."""
    return range(min(newest, ours + MOST_SILENT_BOOTS), max(0, ours - MOST_SILENT_BOOTS), -1)


def _is_ours(storage: Storage, boot: int, identity: PublicKey) -> bool:
    """True if a journal begins with the boot line of that very boot, certified by the device's identity key."""
    try:
        first = parse_line(_first_line(storage, boot))
        if not isinstance(first.entry, entries.Boot):
            return False
        return bool(jws.verify(first.entry.certificate, BOOT_TYP, identity).get("boot") == boot == first.entry.boot)
    except EvidenceError:
        return False
    except StorageError as error:
        if error.errno in _NO_JOURNAL:
            return False
        raise  # a card that went away says nothing about whose the journal is


def _first_line(storage: Storage, boot: int) -> bytes:
    """Read more than once if need be: passed over for one bad moment, a journal of ours would be gone on with twice."""
    for left in reversed(range(_TRIES)):
        try:
            with storage.open(layout.journal(boot)) as stream:
                return stream.readline(MAX_LINE + 1).rstrip(b"\n")
        except StorageError as error:
            if not left or error.errno != errno.EIO:
                raise
    raise AssertionError


def _names(storage: Storage, path: str) -> list[str]:
    """The names in a folder; none if what lies in its place is no folder."""
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


def _boot_id(storage: Storage, boot: int) -> str:
    try:
        with storage.open(layout.journal(boot)) as stream:
            first = parse_line(stream.readline(1 << 16).rstrip(b"\n"))
        if isinstance(first.entry, entries.Boot):
            return str(jws.peek(first.entry.certificate, "bwc-boot+jws").get("boot_id", ""))
    except (EvidenceError, StorageError):
        return ""
    return ""


def dark(tail: Tail, now: WallReading, mono_us: int, boot_id: str) -> Dark:
    """How long it was dark between the last line and now, as far as a clock can tell.

    The monotonic clock tells exactly if the kernel did not boot in between; else the wall clock does, if it was
    trusted at both ends; else nobody knows.
    """
    if tail.line is None:
        return Dark(None, None, "first_boot" if not tail.boot else "unknown")
    if tail.boot_id and tail.boot_id == boot_id and mono_us >= tail.line.mono_us:
        return Dark((mono_us - tail.line.mono_us) // 1000, 1, "same_kernel")
    before = tail.line.wall
    if now.uncertainty_s is None or before.uncertainty_s is None or before.source == HELD:
        return Dark(None, None, "unknown")
    elapsed_ms = max(0, (now.utc_ns - before.utc_ns) // 10**6)
    return Dark(elapsed_ms, int((now.uncertainty_s + before.uncertainty_s) * 1000) + 1, "trusted_clock")


def left_behind(storage: Storage, tail: Tail, identity: PublicKey | None = None) -> Left:
    """What the newest boots left unfinished.

    Who has the card can chain lines on that nobody signed, and lay files into folders. So, where the device's identity
    key is given, a recording counts as ended only by a request whose grant its boot has signed, as it does before it
    acts on one, or by a final manifest that it has signed.

    The journal says which recordings were begun and ended; the folders say how far they came, also where the journal's
    last lines did not reach storage (a start acts first and is journalled after).

    Raises:
        StorageError: Storage can't be read.
    """
    if not tail.boot:
        return Left()
    story = _story(storage, tail, identity)
    running: Progress | None = None
    unfinished: list[Unfinished] = []
    for recording in _candidates(storage, story):
        folder = folders.look(storage, recording, story.keys or (), identity, known=story.opened.get(recording, 0))
        begun = recording in story.begun
        if identity is not None and not folder.last and not begun:
            continue  # a folder with a name like ours, and nothing in it that we signed
        ended = recording in story.ended
        unfinished += (
            Unfinished(
                recording,
                segment,
                boot,
                final=ended and segment == folder.last,
                attested_bytes=story.attested.get((recording, segment), 0) if boot in story.boots or not boot else None,
                withheld=tuple(story.spans.get((boot, recording), ())),
            )
            for segment, boot in folder.open
        )
        if ended or (recording in story.unfinished and not begun):
            continue
        if folder.interrupted or not folder.last or not folders.is_final(storage, recording, folder.last, story.keys):
            running = Progress(recording, folder.last, folder.previous, folder.interrupted, folder.recipients)
    return Left(running, tuple(unfinished[-MOST_UNFINISHED:]), story.storage_full, story.carried, story.refused)


def attested(
    storage: Storage, boot: int, identity: PublicKey | None, recording: str, segment: int
) -> tuple[int, tuple[Span, ...]]:
    """What the journal of an older boot attests of a segment, and what was withheld then; nothing if it is not ours.

    Raises:
        StorageError: Storage can't be read.
    """
    if not boot or (identity is not None and not _is_ours(storage, boot, identity)):
        return 0, ()
    story = _told(storage, boot, identity)
    return story.attested.get((recording, segment), 0), tuple(story.spans.get((boot, recording), ()))


def _candidates(storage: Storage, story: "_Story") -> list[str]:
    """Recordings that may run or be unfinished, the oldest first.

    The journal's own come last: where somebody has laid down more than can be looked at, those are not pushed out.
    """
    listed = [name for name in _names(storage, layout.RECORDINGS) if layout.is_recording_id(name)]
    found: dict[str, None] = {}
    for tag in story.tags:
        found.update(dict.fromkeys(name for name in listed if name.startswith(f"{tag}-")))
    for boot in story.silent:
        found.update(dict.fromkeys(name for name in listed if folders.certified(storage, name, [boot])))
    own = dict.fromkeys([*story.unfinished, *story.begun])
    laid = [name for name in found if name not in own]
    # The order decides which one is gone on with, where several run: the one that was begun last.
    chosen = {*laid[-MOST_RECORDINGS:], *list(own)[-MOST_RECORDINGS:]}
    return [name for name in dict.fromkeys([*story.unfinished, *story.begun, *laid]) if name in chosen]


@dataclass(slots=True)
class _Story:
    """What journals tell, as far as it matters for going on.

    Attributes:
        recorded: One came as far as a segment.
        boots: Whose journals were read; `boot` is the one that is being read.
        opened: The last segment that was opened, by recording.
        unfinished: Recordings with segments that were not closed when the boot began.
        spans: What was withheld, by boot and recording.
        refused: See `Left`.
    """

    recorded: bool = False
    tags: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    attested: dict[tuple[str, int], int] = field(default_factory=dict)
    storage_full: bool = False
    carried: Carried = field(default_factory=Carried)
    grants: "_Grants | None" = None
    keys: "list[PublicKey] | None" = None
    silent: list[int] = field(default_factory=list)
    spans: dict[tuple[int, str], list[Span]] = field(default_factory=dict)
    boots: set[int] = field(default_factory=set)
    opened: dict[str, int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    boot: int = 0

    def follow(self, line: Line) -> None:
        entry = line.entry
        if self.grants is not None:
            self.grants.follow(line)
        match entry:
            case entries.Boot():
                self.tags.append(entry.tag)
                self.begun += [entry.interrupted] if entry.interrupted else []
                self.unfinished += entry.unfinished
            case entries.Continued():
                self.ended.add(entry.recording)
                self.begun.append(entry.by)  # so that it ends only if that one does
            case entries.RecordingEnded() if self.grants is not None and entry.request not in self.grants.signed:
                return  # nobody signed that it was granted
            case entries.RecordingStarted():
                self.begun.append(entry.recording)
            case entries.RecordingEnded():
                self.ended.add(entry.recording)
            case entries.SegmentOpened():
                self.recorded = True
                self.opened[entry.recording] = max(entry.segment, self.opened.get(entry.recording, 0))
            case entries.SegmentClosed():
                # Its manifest says what was withheld before; what is on goes on in the next one.
                self._keep_spans(entry.recording, [s for s in self._spans(entry.recording) if s.to_us is None])
            case entries.Withheld() if self.grants is None or entry.request in self.grants.signed:
                kinds = [Kind(kind) for kind in sorted(entry.kinds) if kind in set(Kind)]
                began = [Span(kind, entry.request, entry.from_us, None) for kind in kinds]
                self._keep_spans(entry.recording, self._spans(entry.recording) + began)
            case entries.Released():
                released = [
                    Span(s.kind, s.request, s.from_us, entry.to_us)
                    if s.request == entry.request and s.to_us is None
                    else s
                    for s in self._spans(entry.recording)
                ]
                self._keep_spans(entry.recording, released)
            case entries.Checkpoint():
                payload = checkpoint_payload(jws.peek(entry.jws, CHECKPOINT_TYPE))
                if payload.recording:
                    self.attested[payload.recording, payload.segment] = payload.bytes
            case entries.StorageFailed():
                self.storage_full = entry.problem == "ENOSPC"
            case entries.StorageBack():
                self.storage_full = False
            case _:
                return

    def _spans(self, recording: str) -> list[Span]:
        return self.spans.get((self.boot, recording), [])

    def _keep_spans(self, recording: str, spans: list[Span]) -> None:
        self.spans[self.boot, recording] = spans[-MOST_SPANS:]

    def and_then(self, later: "_Story") -> "_Story":
        """Both, one after the other."""
        return _Story(
            recorded=self.recorded or later.recorded,
            tags=self.tags + later.tags,
            begun=self.begun + later.begun,
            ended=self.ended | later.ended,
            attested=self.attested | later.attested,
            storage_full=later.storage_full if later.tags else self.storage_full,
            carried=later.carried if later.tags else self.carried,
            silent=self.silent + later.silent,
            spans={**self.spans, **later.spans},
            boots=self.boots | later.boots,
            opened={**self.opened, **later.opened},
            unfinished=self.unfinished + later.unfinished,
            refused=(self.refused + later.refused)[-MOST_REFUSED:],
            keys=None if later.keys is None else [*(self.keys or []), *later.keys],
        )


class _Grants:
    """Which requests a boot granted over its signature, as it does before it acts on one.

    Attributes:
        vouched: The newest line is a checkpoint by the boot's key, over a grant or a leave that stands before it.
    """

    def __init__(self, identity: PublicKey) -> None:
        self.signed: set[int] = set()
        self.vouched = False
        self._identity = identity
        self.key: PublicKey | None = None
        self._promised: set[int] = set()
        self._waits = False
        self._head = ""

    def follow(self, line: Line) -> None:
        """The next line of the boot's journal."""
        if line.prev != self._head:
            self._promised.clear()  # it does not follow: what stands before is under no later signature
            self._waits = False
        self._head = line.hash
        self.vouched = False
        match line.entry:
            case entries.Boot() as entry:
                self.key = self._of(entry.certificate)
            case entries.Decided(allowed=True) as entry:
                self._promised.add(entry.request)
            case entries.Authorised():
                self._waits = True
            case entries.Checkpoint() as entry if self._promised or self._waits:
                self.vouched = self._vouches(entry, line)
                if self.vouched:
                    self.signed |= self._promised
                self._promised.clear()
                self._waits = False
            case _:
                return

    def signs(self, line: Line, *, sure: bool) -> bool:
        """True if a line that was followed is a checkpoint by the boot's key.

        Args:
            line: It.
            sure: Look, even if nothing else made it worth its time.
        """
        if self.vouched:
            return True
        return sure and isinstance(line.entry, entries.Checkpoint) and self._vouches(line.entry, line)

    def _of(self, certificate: str) -> PublicKey | None:
        try:
            return public_key(jws.verify(certificate, BOOT_TYP, self._identity).get("jwk"))
        except (EvidenceError, KeyFileError):
            return None

    def _vouches(self, entry: entries.Checkpoint, line: Line) -> bool:
        if self.key is None:
            return False
        try:
            payload = checkpoint_payload(jws.verify(entry.jws, CHECKPOINT_TYPE, self.key))
        except EvidenceError:
            return False
        return (payload.n, payload.head) == (line.n - 1, line.prev)


def _story(storage: Storage, tail: Tail, identity: PublicKey | None) -> _Story:
    """What the newest boots tell, back to one that opened a segment: that one had closed all that was left before it.

    A boot that went dark sooner may have closed nothing, and may not even have a line of its own.
    """
    story = _Story(keys=None if identity is None else [])
    told = 0
    for boot in _looked_at(tail.ours, tail.boot):
        if identity is None or (boot <= tail.ours and _is_ours(storage, boot, identity)):
            story = _told(storage, boot, identity).and_then(story)
            told += 1
        else:  # it went dark in its first line, or another hand laid this there: it tells nothing, and hides nobody
            story.silent.append(boot)
            # Those that follow ours at once are kept: whoever lays down more of them pushes none of these out.
            story.silent = story.silent[-MOST_SILENT:]
        if story.recorded or told == _MOST_BOOTS:
            break
    return story


def _told(storage: Storage, boot: int, identity: PublicKey | None) -> _Story:
    """What the journal of one boot tells."""
    story = _Story(grants=None if identity is None else _Grants(identity), boots={boot}, boot=boot)
    path = layout.journal(boot)
    if storage.size(path) is None:
        return story
    carry = Carry()
    refused: list[str] = []
    unsigned = 0
    with storage.open(path) as stream:
        for raw in iter(lambda: stream.readline(MAX_LINE + 1), b""):
            unsigned += len(raw)
            if not raw.endswith(b"\n") and len(raw) <= MAX_LINE:
                break  # torn by a loss of power
            if unsigned > MOST_UNSIGNED and identity is not None:
                refused.append(f"boot {boot}: over {MOST_UNSIGNED} bytes that nobody signed: the rest was not read")
                break
            try:
                line = parse_line(raw.rstrip(b"\n"))
                if not refused:
                    story.follow(line)
            except EvidenceError as error:
                if len(refused) < MOST_REFUSED:
                    refused.append(ascii(f"boot {boot}: {error}: {raw[:MOST_QUOTED]!r}"))
                continue
            if story.grants is not None and story.grants.signs(line, sure=unsigned > SIGNED_EVERY):
                unsigned = 0
            vouched = story.grants is None or story.grants.vouched
            carry.follow(line, vouched=vouched, damaged=bool(refused))
    story.carried = carry.carried
    story.refused = tuple(refused)
    if not story.tags:
        story.silent.append(boot)  # storage took its segments, perhaps, and not its first line
    if story.grants is not None:
        story.keys = [story.grants.key] if story.grants.key is not None else []
    return story
