"""Segments are begun, sealed, stored and closed here, and closed as recovery would where a file can't be written on.

Lost packets are counted here: those that fell out of memory before they were sealed, and those of which no fragment can
be made. How long syncs take is measured here too.
"""

import errno
from collections import deque
from dataclasses import dataclass, field

from agent.clock import NS
from agent.encoding.strict_json import sha256_hex
from agent.errors import SourceError, StorageError
from agent.evidence import layout
from agent.evidence.closing import close_unfinished
from agent.evidence.manifest import Ended, Moment, Span, moment_at
from agent.evidence.segment import SegmentBuilder
from agent.journal.entries import PacketsLost, SegmentClosed, SegmentOpened, SlowSync
from agent.journal.format import OpenSegment
from agent.media.packet import Packet
from agent.media.ring import LostPackets
from agent.recorder.ipc.status import SyncLatency
from agent.recorder.writing.new_segment import SegmentFactory
from agent.recorder.writing.retries import StorageRetries
from agent.recorder.writing.task import (
    FirstStored,
    RecordingBlocked,
    RecordingClosed,
    RecordingTask,
    WriterContext,
    WriterFault,
)
from agent.storage.interface import GrowingFile

BLOCKED = frozenset(
    {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMLINK}
)
"""Errors of a recording's folder, not of storage: a file or a link in its place, or no segment number left."""
MAX_MOVES = 8
"""How often a recording may continue as another one: where all folders are refused, that does not help."""
MAX_UNSYNCED = 1 << 20
"""Bytes that may be written under one sync while a backlog is caught up."""
NEWEST_SYNCS = 1500
"""Syncs that the statistics cover: some five minutes of a recording, which is synced five times a second."""


class SyncTimes:
    """How long the newest syncs took. One thread notes them, any may read.

    Args:
        newest: How many are remembered.
    """

    def __init__(self, newest: int = NEWEST_SYNCS) -> None:
        self._times: deque[int] = deque(maxlen=newest)

    def note(self, took_ns: int) -> None:
        """Remember the duration of a sync."""
        self._times.append(took_ns)

    def latency(self) -> SyncLatency:
        """Percentiles (nearest rank) of those that are remembered."""
        times = sorted(self._times)  # copied at once: it may grow meanwhile
        if not times:
            return SyncLatency()
        p50, p95, p99 = (_ms(times[max(0, -(-len(times) * part // 100) - 1)]) for part in (50, 95, 99))
        return SyncLatency(len(times), p50, p95, p99, _ms(times[-1]))


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)


@dataclass(slots=True)
class CurrentSegment:
    """The segment that is being written.

    Attributes:
        first_new: Number of the first packet that no earlier segment holds.
        offset: Bytes that are durable.
        unsynced: Sealed bytes that follow, in pieces as they were made; they hold the packets before number
            `unsynced_to`.
        failed: True after storage refused this file once for another reason than room.
        manifest: Why it ended, its manifest, and how many lost packets that states; kept for another attempt, which
            must not state anything else.
    """

    builder: SegmentBuilder
    file: GrowingFile
    first_new: int
    unsynced_to: int
    offset: int = 0
    unsynced: list[bytes | bytearray] = field(default_factory=list)
    attested_ns: int = 0
    failed: bool = False
    manifest: tuple[Ended, bytes, int] | None = None


class SegmentWriter:
    """Writes one segment after the other; for the writer's thread alone.

    Args:
        context: The writer's dependencies.
        retries: Is notified when storage takes bytes.

    Attributes:
        current: The segment that is being written; None between two.
        overlap: The next segment holds packets again that an older one holds.
        slowest_sync_ns: The longest sync so far.
        sync_times: How long the newest ones took.
    """

    def __init__(self, context: WriterContext, retries: StorageRetries) -> None:
        self._segments = SegmentFactory(context)
        self._feed = context.feed
        self._storage = context.storage
        self._journal = context.journal
        self._identity = context.identity
        self._clocks = context.clocks
        self._retries = retries
        self._notify = context.notify
        self._settings = context.settings
        self.current: CurrentSegment | None = None
        self._abandoned: CurrentSegment | None = None
        self.overlap = False
        self._room_until_ns = 0
        self.slowest_sync_ns = 0
        self.sync_times = SyncTimes()

    def begin(self, task: RecordingTask, packets: list[Packet]) -> None:
        """Begin the next segment of a recording with these packets; an abandoned file is closed first.

        Raises:
            StorageError: Storage refuses.
        """
        if self._abandoned is not None:
            self._close_abandoned(task, self._abandoned, "fault")
        if task.successor:
            self._segments.forget()
            task.continue_as_successor()
        try:
            builder, file = self._segments.make(task, packets, overlap=self.overlap)
        except StorageError as error:
            if error.errno in BLOCKED and task.blocked != task.recording and task.moves < MAX_MOVES:
                task.blocked = task.recording
                self._notify(RecordingBlocked(task.recording))
            raise
        self.current = CurrentSegment(builder, file, first_new=task.cursor.written, unsynced_to=task.cursor.written)
        self.current.unsynced.append(builder.prologue)
        self.overlap = False
        self._journal.post(SegmentOpened(task.recording, task.segment, sha256_hex(builder.opening)))

    def write(self, task: RecordingTask, current: CurrentSegment, batch: list[Packet], *, backlog: bool) -> None:
        """Seal packets as one fragment and store it; with a `backlog`, several fragments are stored at once.

        Raises:
            StorageError: Storage refuses; the sealed bytes are kept for another attempt.
        """
        task.position += len(batch)
        try:
            current.unsynced.append(current.builder.fragment(batch))
        except SourceError as error:
            self._notify(WriterFault(str(error)))
            size = sum(len(packet.data) for packet in batch)
            task.lost += len(batch)
            self._journal_lost(task, [LostPackets(len(batch), size, batch[0].time_ns, batch[-1].time_ns)])
        current.unsynced_to = task.position
        self._journal_lost(task, self._feed.mark_sealed(task.cursor, task.position))
        if not backlog or sum(map(len, current.unsynced)) > MAX_UNSYNCED:
            self.store(task, current)

    def store(self, task: RecordingTask, current: CurrentSegment) -> None:
        """Write and sync what is sealed but not yet durable, then release it from the ring.

        Raises:
            StorageError: Storage refuses; nothing is lost by trying again.
        """
        self._check_room()
        end = current.offset
        for piece in current.unsynced:
            current.file.write_at(end, piece)
            end += len(piece)
        before = self._clocks.monotonic_ns()
        current.file.sync()
        now = self._clocks.monotonic_ns()
        current.offset = end
        current.unsynced = []
        self._retries.segment_written()
        self.slowest_sync_ns = max(self.slowest_sync_ns, now - before)
        self.sync_times.note(now - before)
        if now - before > self._settings.slow_sync_ns:
            self._journal.post(SlowSync((now - before) // 1_000_000))
        self._release(task, current.unsynced_to)
        if not task.stored:
            task.stored = True
            self._notify(FirstStored(task.recording, now - task.at_ns))
        if now - current.attested_ns >= self._settings.attest_ns:
            current.attested_ns = now
            self._journal.attest(self._state(current))

    def _check_room(self) -> None:
        """Keep the journal's reserve free; checked once a second, and always while storage refuses."""
        now = self._clocks.monotonic_ns()
        if now < self._room_until_ns and not self._retries.failing:
            return
        if self._storage.free_bytes() < self._settings.reserve_bytes:
            raise StorageError(errno.ENOSPC, "the room that is left is reserved for the journal")
        self._room_until_ns = now + NS

    def _state(self, current: CurrentSegment) -> OpenSegment:
        builder = current.builder
        return OpenSegment(builder.place.recording, builder.place.segment, current.offset, builder.sha256)

    def _release(self, task: RecordingTask, number: int) -> None:
        self._journal_lost(task, self._feed.mark_written(task.cursor, number))

    def _journal_lost(self, task: RecordingTask, losses: list[LostPackets]) -> None:
        for lost in losses:
            self._journal.post(
                PacketsLost(task.recording, lost.packets, lost.bytes, lost.from_ns // 1000, lost.to_ns // 1000)
            )

    def abandon(self, current: CurrentSegment) -> None:
        """Stop writing this file. It is closed as recovery would close it, once another one can be begun."""
        current.file.close()
        self.current, self._abandoned = None, current
        self.overlap = True

    def finish(self, task: RecordingTask, ended: Ended) -> None:
        """Close the last segment of a recording, and release the recording from the ring.

        Raises:
            StorageError: Storage refuses; to be tried again.
        """
        if self.current is not None:
            self.close(task, self.current, ended)
        elif self._abandoned is not None:
            self._close_abandoned(task, self._abandoned, ended)
        self._segments.forget()
        self._release(task, task.position)
        self._feed.remove_cursor(task.cursor)
        if ended == "stopped":
            self._notify(RecordingClosed(task.recording))

    def close(self, task: RecordingTask, current: CurrentSegment, ended: Ended) -> None:
        """Close the current segment: everything sealed is stored, and the manifest states why it `ended`.

        Raises:
            StorageError: Storage refuses; to be tried again.
        """
        builder = current.builder
        if not builder.finished:
            current.unsynced.append(builder.finish())
        if current.unsynced:
            self.store(task, current)
        path = layout.manifest(task.recording, builder.place.segment)
        if current.manifest is None or (current.manifest[0] != ended and self._storage.size(path) is None):
            lost = task.unreported_lost
            made = builder.manifest(
                ended,
                stop=self._stop(task, ended),
                lost_packets=lost,
                withheld=_spans_since(task.spans, builder.first_ns // 1000),
                details=task.end_details if ended == "stopped" else None,
                before=task.closed_by() if builder.place.interrupted else "",
            )
            current.manifest = (ended, made, lost)
        ended, manifest, lost = current.manifest
        self._storage.publish(path, manifest)
        current.file.close()
        self.current = None
        self._closed(task, manifest, ended, lost)

    def _stop(self, task: RecordingTask, ended: Ended) -> Moment | None:
        if ended != "stopped" or task.end_ns is None:
            return None
        return moment_at(self._clocks.wall(), self._clocks.monotonic_ns(), task.end_ns)

    def _close_abandoned(self, task: RecordingTask, abandoned: CurrentSegment, ended: Ended) -> None:
        """Close a file that could not be written on as recovery would, by what is on storage."""

        def close() -> None:
            lost = task.unreported_lost
            closed = close_unfinished(
                self._storage,
                self._identity(task.recording),
                abandoned.builder.place,
                ended=ended,
                attested_bytes=abandoned.offset,
                most_bytes=abandoned.builder.bytes,
                recovered=False,
                final=ended == "stopped",
                lost_packets=lost,
                stop=self._stop(task, ended),
                details=task.end_details if ended == "stopped" else None,
                withheld=_spans_since(task.spans, abandoned.builder.first_ns // 1000),
            )
            self._closed(task, closed.manifest, closed.ended, lost)

        place = abandoned.builder.place
        self._retries.retry_limited(f"closing of {place.recording}, segment {place.segment:04d},", close)
        self._abandoned = None

    def _closed(self, task: RecordingTask, manifest: bytes, ended: Ended, lost: int) -> None:
        task.previous, task.interrupted = sha256_hex(manifest), False
        task.report_lost(lost)
        self._journal.attest(None)
        self._journal.post(SegmentClosed(task.recording, task.segment, task.previous, ended, ended == "stopped"))


def _spans_since(spans: list[Span], from_us: int) -> list[Span]:
    """The pauses and mutes that had not ended before `from_us`."""
    return [span for span in spans if span.to_us is None or span.to_us >= from_us]
