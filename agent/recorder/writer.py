"""The writer: one thread that takes packets from the ring, makes segments of them, and stores them, synced.

The rules, in order:
1. One fragment, one seal, one write, one sync. Only while more than `BACKLOG_NS` of media wait are several fragments
   stored under one sync, so that a pre-event buffer or a stall is caught up quickly.
2. Packets are let go from the ring only after the sync that made them durable.
3. A segment ends at the first IDR picture after its length, when stream parameters change, or with its recording.
4. A storage that refuses is asked again, with the same bytes at the same place: writing them twice is harmless. If only
   this file is beyond help, a new segment begins at the head of the unwritten group (`overlap`), and the old file is
   closed as recovery would close it. Nothing is lost while memory lasts. Where each new file is beyond help as well,
   they are begun further and further apart.
5. A recording's end is a time: all packets before it are stored, none after it.
6. What happens is told to `notify`; nothing here decides, and no error leaves `step`.
"""

import errno
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent.buffer.ring import Cursor, Lost
from agent.clock import NS, Clocks
from agent.errors import SourceError, StorageError
from agent.evidence import layout
from agent.evidence.closing import close_unfinished
from agent.evidence.details import Details
from agent.evidence.entries import Entry, PacketsLost, SegmentClosed, SegmentOpened, SlowSync
from agent.evidence.journal import OpenSegment
from agent.evidence.manifest import Ended, Moment, PreEventLength, Span, moment_at
from agent.evidence.segment import FRAGMENT_NS, Identity, Place, SegmentBuilder, Streams
from agent.media.packet import Kind, Packet
from agent.recorder.feed import Feed
from agent.recorder.plan import STALE_NS, Frame, Plan, Step, plan
from agent.recorder.sync_times import SyncTimes
from agent.seal.writer import RandomBytes
from agent.storage.interface import GrowingFile, Storage
from agent.strict_json import sha256_hex

BACKLOG_NS = NS
MOST_UNSYNCED = 1 << 20
"""Bytes that may be put under one sync while a backlog is caught up."""
STRAGGLERS_NS = NS
"""How long a recording's end waits for packets that are still on their way."""
_LOOK = 256
_LOOK_AGAIN_S = 0.1
"""How often to look whether a recording that has no segment yet, or is to end, can go on."""
MOST_TRIES = 6
"""So often storage is asked for what no new packet needs, while it takes all else; then that is given up, and said."""
MOST_DOUBLINGS = 6
"""Of the time between two attempts that each begin a new file in vain: 32 s at the most."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Ledger(Protocol):
    """What the writer needs of the journal's keeper."""

    @property
    def head(self) -> str:
        """Hash of the newest journal line."""

    @property
    def failing(self) -> bool:
        """True while storage refuses journal lines."""

    def post(self, entry: Entry, details: Details | None = None) -> None:
        """Journal an entry."""

    def attest(self, segment: OpenSegment | None) -> None:
        """Attest the open segment's synced bytes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the writer works.

    Attributes:
        segment_ns: Length of a segment.
        slow_sync_ns: A sync that takes longer is journalled.
        retry_ns: Between two attempts at a storage that refuses.
        attest_ns: Between two attestations of the open segment.
        reserve_bytes: Left free for the journal.
    """

    segment_ns: int = 60 * NS
    slow_sync_ns: int = 150_000_000
    retry_ns: int = NS // 2
    attest_ns: int = NS
    reserve_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class StorageRefused:
    """Storage does not take what it is given; recording goes on in memory."""

    error: StorageError


@dataclass(frozen=True, slots=True)
class StorageTakes:
    """Storage takes bytes again after `outage_ns`."""

    outage_ns: int


@dataclass(frozen=True, slots=True)
class RecordingClosed:
    """All of a recording is on storage, its final manifest included."""

    recording: str


@dataclass(frozen=True, slots=True)
class FirstStored:
    """The first packets of a recording are durable, `took_ns` after the start was asked for."""

    recording: str
    took_ns: int


@dataclass(frozen=True, slots=True)
class WriterFault:
    """Something went wrong that is not storage's doing; a new segment begins."""

    problem: str


WriterEvent = StorageRefused | StorageTakes | RecordingClosed | FirstStored | WriterFault


@dataclass(slots=True)
class Job:
    """One recording to be written.

    Attributes:
        cursor: Its place in the ring.
        at_ns: When its start was asked for.
        pre_event: What was kept from before; None if it goes on from an earlier boot.
        segment: Number of its last segment so far; `previous` is the hash of that one's manifest.
        end_ns: Packets from then on are not part of it; None while it runs. `end_details` say who permitted that.
        position: Number of the next packet to be sealed.
        over: Kinds of which a packet after the end was seen.
        lost: Packets that fell out of memory since the last manifest.
        stored: True once its first packets are durable.
        caught_up: True once all that was in memory was sealed.
        spans: What was or is withheld.
        roll: A new segment is to begin at the next IDR picture, because it goes to other recipients.
    """

    recording: str
    cursor: Cursor
    at_ns: int
    pre_event: PreEventLength | None
    segment: int = 0
    previous: str = ""
    end_ns: int | None = None
    end_details: Details | None = None
    position: int = 0
    over: set[Kind] = field(default_factory=set)
    lost: int = 0
    stored: bool = False
    caught_up: bool = False
    spans: list[Span] = field(default_factory=list)
    roll: bool = False


@dataclass(slots=True)
class _Open:
    """The segment under writing.

    Attributes:
        first_new: Number of the first packet that no earlier segment holds.
        offset: Bytes that are durable.
        unsynced: Sealed bytes that are to follow, in pieces as they were made; they hold the packets before number
            `unsynced_to`.
        refused: True after storage refused this file once for another reason than room.
        manifest: What was made to close it, and why it ended; kept for another attempt, which must not say otherwise.
    """

    builder: SegmentBuilder
    file: GrowingFile
    first_new: int
    unsynced_to: int
    offset: int = 0
    unsynced: list[bytes | bytearray] = field(default_factory=list)
    attested_ns: int = 0
    refused: bool = False
    manifest: tuple[Ended, bytes] | None = None


class Rest(NamedTuple):
    """How long the writer may sleep: for `seconds` (None: for ever), or until a packet of `until_ns` or later comes."""

    seconds: float | None
    until_ns: int


_UNTIL_CALLED = Rest(None, sys.maxsize)


class Writer:
    """Writes recordings one after the other.

    Args:
        feed: Where packets come from.
        storage: Where segments go.
        ledger: The journal.
        identity: Whose evidence a recording is; asked anew for each segment.
        certificates: Give device and boot certificate, copied beside each recording.
        clocks: Both clocks.
        random_bytes: Source of data keys.
        frame_length: The frame length of a sealed message for a bit rate in bits a second.
        notify: Told what happens, in this thread.

    Attributes:
        slowest_sync_ns: The longest sync so far.
        sync_times: How long the newest ones took.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        storage: Storage,
        ledger: Ledger,
        identity: Callable[[str], Identity],
        certificates: Callable[[], tuple[bytes, bytes]],
        clocks: Clocks,
        random_bytes: RandomBytes,
        frame_length: Callable[[int], int],
        notify: Callable[[WriterEvent], None],
        settings: Settings | None = None,
    ) -> None:
        self._feed = feed
        self._storage = storage
        self._ledger = ledger
        self._identity = identity
        self._certificates = certificates
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._frame_length = frame_length
        self._notify = notify
        self._settings = settings or Settings()
        self._jobs: deque[Job] = deque()
        self._before: deque[tuple[str, Callable[[], object]]] = deque()
        self._tries = 0
        self._in_vain = 0
        self._begun: tuple[object, SegmentBuilder] | None = None
        self._open: _Open | None = None
        self._abandoned: _Open | None = None
        self._overlap = False
        self.slowest_sync_ns = 0
        self.sync_times = SyncTimes()
        self._rest = _UNTIL_CALLED
        self._room_until_ns = 0
        self._failed_ns: int | None = None
        self._retry_ns = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def first(self, what: str, work: Callable[[], object]) -> None:
        """Do `work` (recovery) in the writer's thread before the next recording; called again while storage refuses."""
        self._before.append((what, work))
        self._feed.ring_bell()

    def begin(self, job: Job) -> None:
        """Write a recording from its cursor on."""
        job.position = job.cursor.written
        self._jobs.append(job)
        self._feed.ring_bell()

    def end(self, recording: str, end_ns: int, details: Details | None) -> None:
        """End a recording: what lies before `end_ns` is still written; `details` say who permitted that."""
        for job in self._named(recording):
            if job.end_ns is None:
                job.end_details = details
                job.end_ns = end_ns
        self._feed.ring_bell()

    def roll(self, recording: str) -> None:
        """Begin a new segment at the next IDR picture: from there on others may open it."""
        for job in self._named(recording):
            job.roll = True

    def withhold(self, recording: str, kinds: frozenset[Kind], request: int, at_ns: int) -> None:
        """Note that nothing of these kinds comes from `at_ns` on, so that no gap in evidence is without its reason."""
        for job in self._named(recording):
            job.spans = [*job.spans, *(Span(kind, request, at_ns // 1000, None) for kind in sorted(kinds))]

    def release(self, recording: str, request: int, at_ns: int) -> None:
        """Note that what was withheld for `request` comes again."""
        for job in self._named(recording):
            job.spans = [
                Span(span.kind, span.request, span.from_us, at_ns // 1000)
                if span.request == request and span.to_us is None
                else span
                for span in job.spans
            ]

    def _named(self, recording: str) -> list[Job]:
        """The jobs of a recording. The writer's thread may be done with one meanwhile: the queue is copied at once."""
        return [job for job in tuple(self._jobs) if job.recording == recording]

    @property
    def busy(self) -> bool:
        """True while a recording is not wholly on storage."""
        return bool(self._jobs)

    @property
    def failing(self) -> bool:
        """True while storage refuses."""
        return self._failed_ns is not None

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Store what is in memory, close the open segment as `interrupted`, end the thread if there is one.

        Returns:
            False if storage takes so long that the thread still works: it may sign something more.
        """
        self._closing = True
        self._feed.ring_bell()
        if self._thread is None:
            self.step()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        rest = self.step()
        while self._jobs or not self._closing:
            self._feed.wait(*rest)
            rest = self.step()

    def step(self) -> Rest:
        """Do all that can be done now; gives back how long nothing more can be."""
        now = self._clocks.monotonic_ns()
        if now < self._retry_ns and not self._closing:
            return Rest((self._retry_ns - now) / NS, sys.maxsize)
        self._rest = _UNTIL_CALLED
        try:
            self._work()
        except StorageError as error:
            self._refused(error)
        except Exception as error:  # noqa: BLE001 - rule 6: no error, not even a mistake of ours, may end a recording
            self._stumbled(error)
        if self._closing and self._failed_ns is not None:
            self._jobs.clear()
        wait_ns = self._retry_ns - self._clocks.monotonic_ns()
        return Rest(wait_ns / NS, sys.maxsize) if wait_ns > 0 else self._rest

    def _refused(self, error: StorageError) -> None:
        """Storage refused: try again later, with another file if it is this one."""
        now = self._clocks.monotonic_ns()
        self._retry_ns = now + self._settings.retry_ns
        if self._open is not None and error.errno not in _NO_ROOM:
            if self._open.refused:
                # Where files can be made and not written, each attempt leaves one: further and further apart.
                self._retry_ns = now + (self._settings.retry_ns << self._in_vain)
                self._in_vain = min(self._in_vain + 1, MOST_DOUBLINGS)
                self._abandon(self._open)
            else:
                self._open.refused = True
        if self._failed_ns is None:
            self._failed_ns = now
            self._notify(StorageRefused(error))

    def _stumbled(self, error: Exception) -> None:
        """Something else went wrong: begin a new segment a little later."""
        self._retry_ns = self._clocks.monotonic_ns() + self._settings.retry_ns
        self._notify(WriterFault(f"{type(error).__name__}: {error}"))
        if self._open is not None:
            self._abandon(self._open)

    def _abandon(self, open_: _Open) -> None:
        open_.file.close()
        self._open, self._abandoned = None, open_
        self._overlap = True
        if self._jobs:
            job = self._jobs[0]
            job.position = self._feed.give_up(job.cursor)

    def _takes(self) -> None:
        if self._failed_ns is not None:
            outage = self._clocks.monotonic_ns() - self._failed_ns
            self._failed_ns = None
            self._notify(StorageTakes(outage))

    def _work(self) -> None:
        while self._before:
            self._unless_hopeless(*self._before[0])
            self._before.popleft()
            self._takes()
        while self._jobs:
            if self._open is not None and self._open.unsynced:
                self._store(self._jobs[0], self._open)
            if not self._advance(self._jobs[0]):
                return
            self._jobs.popleft()

    def _unless_hopeless(self, what: str, work: Callable[[], object]) -> None:
        """Do what bears on the past alone: a bad block in an old file must not keep new ones from being written."""
        try:
            work()
        except StorageError as error:
            if self._ledger.failing or error.errno in _NO_ROOM:
                raise  # it is storage as a whole
            self._tries += 1
            if self._tries < MOST_TRIES:
                raise
            problem: Exception | None = error
        except Exception as error:  # noqa: BLE001 - as in `step`
            problem = error
        else:
            problem = None
        self._tries = 0
        if problem is not None:
            self._notify(WriterFault(f"{what} was given up: {type(problem).__name__}: {problem}"))

    def _advance(self, job: Job) -> bool:
        """Write what there is of a recording; True once all of it is on storage."""
        while True:
            job.position, packets = self._feed.read(job.position, _LOOK)
            last = self._closing or self._is_over(job)
            if self._open is None:
                packets = self._before_end(job, packets)
                if packets:
                    self._open_segment(job, packets)
            decision = self._plan(job, packets, last=last)
            if decision.step is Step.WAIT:
                if last and not packets:
                    self._finish(job, "interrupted" if job.end_ns is None else "stopped")
                    return True
                job.caught_up = self._open is not None
                self._rest = self._until_next(job, decision)
                return False
            self._carry_out(job, decision, packets)
            all_written = decision.step is Step.WRITE and decision.count == len(packets) < _LOOK
            if all_written and not last and job.end_ns is None:
                job.caught_up = True
                self._rest = Rest(STALE_NS / NS, decision.until_ns)  # what has come in meanwhile ends it at once
                return False

    def _until_next(self, job: Job, decision: Plan) -> Rest:
        """How long there is nothing to do for a recording: what has begun is due once it is full or stale."""
        if job.end_ns is not None or not decision.stale_ns:
            return Rest(_LOOK_AGAIN_S, 0)
        return Rest((decision.stale_ns - self._clocks.monotonic_ns()) / NS, decision.until_ns)

    def _plan(self, job: Job, packets: list[Packet], *, last: bool) -> Plan:
        if self._open is None:
            return Plan(Step.WAIT)
        video, audio = self._open.builder.parameters
        # What came before the start is made durable at once: its newest packets do not wait for a full fragment.
        before_start = not job.caught_up and bool(packets) and packets[0].time_ns < job.at_ns
        frame = Frame(
            video=video,
            audio=audio,
            first_ns=self._open.builder.first_ns,
            segment_ns=0 if job.roll else self._settings.segment_ns,
            first_new=self._open.first_new,
            end_ns=job.end_ns,
            last=last or before_start,
            now_ns=self._clocks.monotonic_ns(),
        )
        return plan(packets, job.position, frame)

    def _carry_out(self, job: Job, decision: Plan, packets: list[Packet]) -> None:
        assert self._open is not None
        batch = packets[: decision.count]
        if decision.step is Step.WRITE:
            job.position += len(batch)
            try:
                self._open.unsynced.append(self._open.builder.fragment(batch))
            except SourceError as error:
                self._notify(WriterFault(str(error)))
                size = sum(len(packet.data) for packet in batch)
                self._count_lost(job, [Lost(len(batch), size, batch[0].time_ns, batch[-1].time_ns)])
            self._open.unsynced_to = job.position
            self._count_lost(job, self._feed.taken(job.cursor, job.position))
            backlog = packets[-1].time_ns - batch[0].time_ns > BACKLOG_NS
            if not backlog or sum(map(len, self._open.unsynced)) > MOST_UNSYNCED:
                self._store(job, self._open)
        elif decision.step is Step.SKIP:
            self._pass_over(job, batch)
        else:
            self._close_segment(job, self._open, "rolled")
            if decision.step is Step.REOPEN:
                job.position = self._feed.group_start(job.position)
                self._overlap = True

    def _pass_over(self, job: Job, packets: list[Packet]) -> None:
        for packet in packets:
            job.position += 1
            if job.end_ns is not None and packet.time_ns >= job.end_ns:
                job.over.add(packet.stream.parameters.kind)

    def _before_end(self, job: Job, packets: list[Packet]) -> list[Packet]:
        """The packets from the first on that still belongs to the recording."""
        if job.end_ns is None:
            return packets
        after = 0
        while after < len(packets) and packets[after].time_ns >= job.end_ns:
            after += 1
        self._pass_over(job, packets[:after])
        return packets[after:]

    def _is_over(self, job: Job) -> bool:
        if job.end_ns is None:
            return False
        kinds = {stream.parameters.kind for stream in self._feed.streams if stream is not None}
        return kinds <= job.over or self._clocks.monotonic_ns() >= job.end_ns + STRAGGLERS_NS

    def _open_segment(self, job: Job, packets: list[Packet]) -> None:
        if self._abandoned is not None:
            self._close_abandoned(job, self._abandoned, "fault")
        job.roll = False  # before it is asked whom to seal to, so that nothing that is said meanwhile is passed over
        identity = self._identity(job.recording)
        builder = self._begin(job, packets, identity)
        number = builder.place.segment
        self._certify(job, identity)
        try:
            self._storage.publish(layout.opening(job.recording, number), builder.opening)
            file = self._storage.create(layout.segment(job.recording, number))
        except StorageError as error:
            if error.errno == errno.EEXIST:
                self._pass_over_taken(job, number)
            raise
        self._begun = None
        job.segment = number
        self._open = _Open(builder, file, first_new=job.cursor.written, unsynced_to=job.cursor.written)
        self._open.unsynced.append(builder.prologue)
        self._overlap = False
        self._ledger.post(SegmentOpened(job.recording, number, sha256_hex(builder.opening)))

    def _pass_over_taken(self, job: Job, number: int) -> None:
        """Something else lies in a segment's place: it stays, and the next number is taken that nothing bears.

        All at once, for somebody may have laid files there in great number, and each attempt takes its time.
        """
        parts = map(layout.segment_part, self._storage.names(layout.recording(job.recording)))
        taken = {part[0] for part in parts if part is not None}
        while number + 1 in taken:
            number += 1
        job.segment = number

    def _begin(self, job: Job, packets: list[Packet], identity: Identity) -> SegmentBuilder:
        """A new segment, or the one whose opening statement storage may already hold from an attempt that failed."""
        place = Place(job.recording, job.segment + 1, job.previous)
        streams = self._streams_of(job, packets)
        first_ns = min(packet.time_ns for packet in packets[:8])
        what = (place, first_ns, streams.parameters, identity.recipient_set, identity.policy)
        if self._begun is not None and self._begun[0] == what:
            return self._begun[1]
        now = self._clocks.monotonic_ns()
        builder = SegmentBuilder(
            identity,
            place,
            streams,
            first_ns=first_ns,
            start=moment_at(self._clocks.wall(), now, first_ns),
            journal_head=self._ledger.head,
            frame_length=self._frame_length(_bit_rate(packets)),
            random_bytes=self._random_bytes,
            pre_event=job.pre_event if place.segment == 1 else None,
            overlap=self._overlap,
        )
        self._begun = (what, builder)
        return builder

    def _certify(self, job: Job, identity: Identity) -> None:
        device, boot = self._certificates()
        for path, data in (
            (layout.device_certificate(job.recording), device),
            (layout.boot_certificate(job.recording, identity.boot), boot),
        ):
            if self._storage.size(path) is None:
                self._storage.publish(path, data)

    def _streams_of(self, job: Job, packets: list[Packet]) -> Streams:
        """The streams of a new segment: of its first picture, and of its first sound that no older segment holds.

        Where the packets at hand have none of a kind, what the sources have declared counts.
        """
        declared = self._feed.streams
        pictures = (p.stream for p in packets if p.stream.parameters.kind is Kind.VIDEO)
        new = packets[max(0, job.cursor.written - job.position) :]
        sounds = (p.stream for p in new if p.stream.parameters.kind is Kind.AUDIO)
        return Streams(next(pictures, declared.video), next(sounds, declared.audio))

    def _store(self, job: Job, open_: _Open) -> None:
        """Write and sync what is sealed but not yet durable, then let the ring go of it."""
        self._check_room()
        end = open_.offset
        for piece in open_.unsynced:
            open_.file.write_at(end, piece)
            end += len(piece)
        before = self._clocks.monotonic_ns()
        open_.file.sync()
        now = self._clocks.monotonic_ns()
        open_.offset = end
        open_.unsynced = []
        self._in_vain = 0
        self._takes()
        self.slowest_sync_ns = max(self.slowest_sync_ns, now - before)
        self.sync_times.note(now - before)
        if now - before > self._settings.slow_sync_ns:
            self._ledger.post(SlowSync((now - before) // 1_000_000))
        self._let_go(job, open_.unsynced_to)
        if not job.stored:
            job.stored = True
            self._notify(FirstStored(job.recording, now - job.at_ns))
        if now - open_.attested_ns >= self._settings.attest_ns:
            open_.attested_ns = now
            self._ledger.attest(self._state(open_))

    def _check_room(self) -> None:
        """See that the journal's reserve stays free; looked at once a second, and always while storage refuses."""
        now = self._clocks.monotonic_ns()
        if now < self._room_until_ns and self._failed_ns is None:
            return
        if self._storage.free_bytes() < self._settings.reserve_bytes:
            raise StorageError(errno.ENOSPC, "the room that is left is reserved for the journal")
        self._room_until_ns = now + NS

    def _state(self, open_: _Open) -> OpenSegment:
        builder = open_.builder
        return OpenSegment(builder.place.recording, builder.place.segment, open_.offset, builder.sha256)

    def _let_go(self, job: Job, number: int) -> None:
        self._count_lost(job, self._feed.written(job.cursor, number))

    def _count_lost(self, job: Job, losses: list[Lost]) -> None:
        for gone in losses:
            job.lost += gone.packets
            self._ledger.post(
                PacketsLost(job.recording, gone.packets, gone.bytes, gone.from_ns // 1000, gone.to_ns // 1000)
            )

    def _finish(self, job: Job, ended: Ended) -> None:
        if self._open is not None:
            self._close_segment(job, self._open, ended)
        elif self._abandoned is not None:
            self._close_abandoned(job, self._abandoned, ended)
        self._begun = None
        self._let_go(job, job.position)
        self._feed.end(job.cursor)
        if ended == "stopped":
            self._notify(RecordingClosed(job.recording))

    def _close_segment(self, job: Job, open_: _Open, ended: Ended) -> None:
        builder = open_.builder
        if not builder.finished:
            open_.unsynced.append(builder.finish())
        if open_.unsynced:
            self._store(job, open_)
        path = layout.manifest(job.recording, builder.place.segment)
        if open_.manifest is None or (open_.manifest[0] != ended and self._storage.size(path) is None):
            made = builder.manifest(
                ended,
                stop=self._stop(job, ended),
                lost_packets=job.lost,
                withheld=_spans_since(job.spans, builder.first_ns // 1000),
                details=job.end_details if ended == "stopped" else None,
            )
            open_.manifest = (ended, made)
        ended, manifest = open_.manifest
        self._storage.publish(path, manifest)
        open_.file.close()
        self._open = None
        self._closed(job, manifest, ended)

    def _stop(self, job: Job, ended: Ended) -> Moment | None:
        if ended != "stopped" or job.end_ns is None:
            return None
        return moment_at(self._clocks.wall(), self._clocks.monotonic_ns(), job.end_ns)

    def _close_abandoned(self, job: Job, abandoned: _Open, ended: Ended) -> None:
        """Close a file that could not be written on as recovery would: by what is on storage."""

        def close() -> None:
            closed = close_unfinished(
                self._storage,
                self._identity(job.recording),
                abandoned.builder.place,
                ended=ended,
                attested_bytes=abandoned.offset,
                recovered=False,
                final=ended == "stopped",
                lost_packets=job.lost,
                stop=self._stop(job, ended),
                details=job.end_details if ended == "stopped" else None,
                withheld=_spans_since(job.spans, abandoned.builder.first_ns // 1000),
            )
            self._closed(job, closed.manifest, closed.ended)

        place = abandoned.builder.place
        self._unless_hopeless(f"closing of {place.recording}, segment {place.segment:04d},", close)
        self._abandoned = None

    def _closed(self, job: Job, manifest: bytes, ended: Ended) -> None:
        job.previous = sha256_hex(manifest)
        job.lost = 0
        self._ledger.attest(None)
        self._ledger.post(SegmentClosed(job.recording, job.segment, job.previous, ended, ended == "stopped"))


def _spans_since(spans: list[Span], from_us: int) -> list[Span]:
    """What was withheld at or after a moment."""
    return [span for span in spans if span.to_us is None or span.to_us >= from_us]


def _bit_rate(packets: list[Packet]) -> int:
    """Bits a second of the packets at hand; a guess when there are few."""
    span = max(packet.time_ns for packet in packets) - min(packet.time_ns for packet in packets)
    return sum(len(packet.data) for packet in packets) * 8 * NS // max(span, FRAGMENT_NS)
