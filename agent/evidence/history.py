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
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import WallReading
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import entries, layout
from agent.evidence.carried import Carry
from agent.evidence.entries import Carried
from agent.evidence.journal import CHECKPOINT_TYPE, HELD, MAX_LINE, Line, checkpoint_payload, parse_line, split_lines
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Span
from agent.evidence.manifest import manifest as typed_manifest
from agent.evidence.manifest import opening as typed_opening
from agent.keys import jws
from agent.keys.certificates import BOOT_TYP
from agent.keys.jwk import public_key
from agent.media.packet import Kind
from agent.storage.interface import Storage
from agent.strict_json import sha256_hex

_TAIL = 1 << 20
_MOST_BOOTS = 64
_NO_JOURNAL = {errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EIO}
"""What opening something else than a file says, and a file whose first block is beyond reading for good."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the journal stands.

    Attributes:
        boot: Number of the newest boot, 0 if there is none.
        line: Its last whole line; None if there is none.
        torn_bytes: Bytes after that line, in its file and in any later one: boots that went dark in their first line.
        boot_id: The kernel's boot id in which it was written; empty if unknown.
        strange: Names in the journal's folder whose number is not one of ours.
    """

    boot: int = 0
    line: Line | None = None
    torn_bytes: int = 0
    boot_id: str = ""
    strange: tuple[str, ...] = ()


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
    torn = 0
    for boot in sorted((boot for boot in boots if boot <= newest), reverse=True):
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
            return Tail(newest, line, torn, _boot_id(storage, boot), strange)
    return Tail(newest, None, torn, strange=strange)


def _newest(storage: Storage, boots: set[int], identity: PublicKey) -> int:
    """The newest boot's number: of the last journal that is ours, or of one that follows it without a gap."""
    newest = next((boot for boot in sorted(boots, reverse=True) if _is_ours(storage, boot, identity)), 0)
    while newest + 1 in boots:
        newest += 1
    return newest


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
    story = _story(storage, tail.boot, identity)
    begun = dict.fromkeys(story.begun)
    names = storage.names(layout.RECORDINGS)
    for tag in story.tags:
        begun.update(dict.fromkeys(name for name in names if name.startswith(f"{tag}-")))
    if story.silent:
        begun.update(dict.fromkeys(name for name in names if _certified(storage, name, story.silent)))
    running: Progress | None = None
    ended = []
    for recording in begun:
        progress = _progress(storage, recording, story, identity)
        if identity is not None and not progress.segment and recording not in story.begun:
            continue  # a folder with a name like ours, and nothing in it that we signed
        if recording in story.ended:
            if progress.unfinished:
                ended.append(progress)
        elif progress.unfinished or not progress.segment or not _is_final(storage, recording, progress.segment, story):
            running = progress
    return Left(running, tuple(ended), story.storage_full, story.carried)


@dataclass(slots=True)
class _Story:
    """What journals tell, as far as it matters for going on. `recorded` says that one came as far as a segment."""

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
    spans: dict[str, list[Span]] = field(default_factory=dict)

    def follow(self, line: Line) -> None:
        entry = line.entry
        if self.grants is not None:
            self.grants.follow(line)
        match entry:
            case entries.Boot():
                self.tags.append(entry.tag)
                self.begun += [entry.interrupted] if entry.interrupted else []
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
            case entries.SegmentRecovered():
                self.spans[entry.recording] = []
            case entries.SegmentClosed():
                # Its manifest says what was withheld before; what is on goes on in the next one.
                self.spans[entry.recording] = [s for s in self.spans.get(entry.recording, []) if s.to_us is None]
            case entries.Withheld() if self.grants is None or entry.request in self.grants.signed:
                kinds = [Kind(kind) for kind in sorted(entry.kinds) if kind in set(Kind)]
                self.spans.setdefault(entry.recording, []).extend(
                    Span(kind, entry.request, entry.from_us, None) for kind in kinds
                )
            case entries.Released():
                self.spans[entry.recording] = [
                    Span(s.kind, s.request, s.from_us, entry.to_us)
                    if s.request == entry.request and s.to_us is None
                    else s
                    for s in self.spans.get(entry.recording, [])
                ]
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


def _story(storage: Storage, newest: int, identity: PublicKey | None) -> _Story:
    """What the newest boots tell, back to one that opened a segment: that one had closed all that was left before it.

    A boot that went dark sooner may have closed nothing, and may not even have a line of its own.
    """
    story = _Story(keys=None if identity is None else [])
    told = 0
    for boot in range(newest, 0, -1):
        if identity is None or _is_ours(storage, boot, identity):
            story = _told(storage, boot, identity).and_then(story)
            told += 1
        else:  # it went dark in its first line, or another hand laid this there: it tells nothing, and hides nobody
            story.silent.append(boot)
        if story.recorded or told == _MOST_BOOTS:
            break
    return story


def _told(storage: Storage, boot: int, identity: PublicKey | None) -> _Story:
    """What the journal of one boot tells."""
    story = _Story(grants=None if identity is None else _Grants(identity))
    path = layout.journal(boot)
    if storage.size(path) is None:
        return story
    carry = Carry()
    damaged = False
    with storage.open(path) as stream:
        for raw in iter(lambda: stream.readline(MAX_LINE + 1), b""):
            try:
                line = parse_line(raw.rstrip(b"\n"))
                if not damaged:
                    story.follow(line)
            except EvidenceError:
                damaged = True
                continue
            vouched = story.grants is None or story.grants.vouched
            carry.follow(line, vouched=vouched, damaged=damaged)
    story.carried = carry.carried
    if not story.tags:
        story.silent.append(boot)  # storage took its segments, perhaps, and not its first line
    if story.grants is not None:
        story.keys = [story.grants.key] if story.grants.key is not None else []
    return story


def _progress(storage: Storage, recording: str, story: _Story, identity: PublicKey | None) -> Progress:
    parts: dict[int, set[str]] = {}
    for name in _names(storage, recording):
        part = layout.segment_part(name)
        if part is not None:
            parts.setdefault(part[0], set()).add(part[1])
    last = max(parts, default=0)
    if identity is not None:
        # Of the journals' boot lines, too: whoever takes the copies out of a recording gains nothing.
        keys = [*(story.keys or []), *_boot_keys(storage, recording, identity)]
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
        attested_bytes=story.attested.get((recording, last), 0),
        recipients=recipients,
        withheld=tuple(story.spans.get(recording, ())),
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


def _certified(storage: Storage, recording: str, boots: list[int]) -> bool:
    """True if one of these boots, which no line of a journal names, has signed in a recording."""
    names = set(_names(storage, recording))
    return any(layout.boot_certificate(recording, boot).rpartition("/")[2] in names for boot in boots)


def _signed_by(token: str, key: PublicKey) -> bool:
    try:
        jws.verify(token, MANIFEST_TYPE, key)
    except EvidenceError:
        return False
    return True


def _is_final(storage: Storage, recording: str, segment: int, story: _Story) -> bool:
    """True if this segment's manifest says that the recording ended with it, signed by one of the boots' keys."""
    try:
        token = storage.read(layout.manifest(recording, segment)).decode("ascii")
        if not typed_manifest(jws.peek(token, MANIFEST_TYPE)).final:
            return False
        return story.keys is None or any(_signed_by(token, key) for key in story.keys)
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return False
