"""The segment under writing: sealed, stored, closed; and the one before it, if its file was beyond help.

Losses are counted here, where they are noticed: packets that fell out of memory before they were taken, and such as no
fragment can be made of.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.clock import NS, Clocks
from agent.encoding.strict_json import sha256_hex
from agent.errors import SourceError, StorageError
from agent.evidence import layout
from agent.evidence.closing import close_unfinished
from agent.evidence.manifest import Ended, Moment, Span, moment_at
from agent.evidence.segment import Identity, SegmentBuilder
from agent.journal.entries import PacketsLost, SegmentClosed, SegmentOpened, SlowSync
from agent.journal.format import OpenSegment
from agent.media.packet import Packet
from agent.media.ring import LostPackets
from agent.recorder.feed import Feed
from agent.recorder.writing.job import (
    FirstStored,
    Job,
    JournalSink,
    Notify,
    RecordingBlocked,
    RecordingClosed,
    Settings,
    WriterFault,
)
from agent.recorder.writing.new_segment import SegmentMaker
from agent.recorder.writing.retries import Retries
from agent.recorder.writing.sync_times import SyncTimes
from agent.storage.interface import GrowingFile, Storage

BLOCKED = frozenset(
    {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMLINK}
)
"""What is wrong with a recording's folder, and not with storage: a file or a link in its place, or no number left."""
MOST_MOVES = 8
"""So often a recording goes on as another one: where all folders are refused, that helps nothing."""
MOST_UNSYNCED = 1 << 20
"""Bytes that may be put under one sync while a backlog is caught up."""


@dataclass(slots=True)
class Open:
    """The segment under writing.

    Attributes:
        first_new: Number of the first packet that no earlier segment holds.
        offset: Bytes that are durable.
        unsynced: Sealed bytes that are to follow, in pieces as they were made; they hold the packets before number
            `unsynced_to`.
        refused: True after storage refused this file once for another reason than room.
        manifest: Why it ended, what was made to close it, and how many lost packets that states; kept for another
            attempt, which must not say otherwise.
    """

    builder: SegmentBuilder
    file: GrowingFile
    first_new: int
    unsynced_to: int
    offset: int = 0
    unsynced: list[bytes | bytearray] = field(default_factory=list)
    attested_ns: int = 0
    refused: bool = False
    manifest: tuple[Ended, bytes, int] | None = None


class Segments:
    """Writes one segment after the other; for the writer's thread alone.

    Args:
        maker: Begins them.
        feed: Where packets come from, and is told how far they are durable.
        storage: Where segments go.
        ledger: The journal.
        identity: Whose evidence a recording is, for a file that is closed as recovery would.
        clocks: Both clocks.
        retries: Told when storage takes bytes.
        notify: Told what happens.
        settings: How the writer works.

    Attributes:
        open: The segment under writing; None between two.
        overlap: The next segment holds packets again that an older one holds.
        slowest_sync_ns: The longest sync so far.
        sync_times: How long the newest ones took.
    """

    def __init__(
        self,
        *,
        maker: SegmentMaker,
        feed: Feed,
        storage: Storage,
        ledger: JournalSink,
        identity: Callable[[str], Identity],
        clocks: Clocks,
        retries: Retries,
        notify: Notify,
        settings: Settings,
    ) -> None:
        self._maker = maker
        self._feed = feed
        self._storage = storage
        self._ledger = ledger
        self._identity = identity
        self._clocks = clocks
        self._retries = retries
        self._notify = notify
        self._settings = settings
        self.open: Open | None = None
        self._abandoned: Open | None = None
        self.overlap = False
        self._room_until_ns = 0
        self.slowest_sync_ns = 0
        self.sync_times = SyncTimes()

    def begin(self, job: Job, packets: list[Packet]) -> None:
        """Begin the next segment of a recording with these packets; what was given up before is closed first.

        Raises:
            StorageError: Storage refuses.
        """
        if self._abandoned is not None:
            self._close_abandoned(job, self._abandoned, "fault")
        if job.successor:
            self._maker.forget()
            job.move()
        try:
            builder, file = self._maker.make(job, packets, overlap=self.overlap)
        except StorageError as error:
            if error.errno in BLOCKED and job.blocked != job.recording and job.moves < MOST_MOVES:
                job.blocked = job.recording
                self._notify(RecordingBlocked(job.recording))
            raise
        self.open = Open(builder, file, first_new=job.cursor.written, unsynced_to=job.cursor.written)
        self.open.unsynced.append(builder.prologue)
        self.overlap = False
        self._ledger.post(SegmentOpened(job.recording, job.segment, sha256_hex(builder.opening)))

    def write(self, job: Job, open_: Open, batch: list[Packet], *, backlog: bool) -> None:
        """Seal packets as one fragment, and store it; while there is a `backlog`, only once there are enough of them.

        Raises:
            StorageError: Storage refuses; what was sealed is kept for another attempt.
        """
        job.position += len(batch)
        try:
            open_.unsynced.append(open_.builder.fragment(batch))
        except SourceError as error:
            self._notify(WriterFault(str(error)))
            size = sum(len(packet.data) for packet in batch)
            job.lost += len(batch)
            self._count_lost(job, [LostPackets(len(batch), size, batch[0].time_ns, batch[-1].time_ns)])
        open_.unsynced_to = job.position
        self._count_lost(job, self._feed.taken(job.cursor, job.position))
        if not backlog or sum(map(len, open_.unsynced)) > MOST_UNSYNCED:
            self.store(job, open_)

    def store(self, job: Job, open_: Open) -> None:
        """Write and sync what is sealed but not yet durable, then let the ring go of it.

        Raises:
            StorageError: Storage refuses; nothing is lost by trying again.
        """
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
        self._retries.wrote()
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
        if now < self._room_until_ns and not self._retries.failing:
            return
        if self._storage.free_bytes() < self._settings.reserve_bytes:
            raise StorageError(errno.ENOSPC, "the room that is left is reserved for the journal")
        self._room_until_ns = now + NS

    def _state(self, open_: Open) -> OpenSegment:
        builder = open_.builder
        return OpenSegment(builder.place.recording, builder.place.segment, open_.offset, builder.sha256)

    def _let_go(self, job: Job, number: int) -> None:
        self._count_lost(job, self._feed.written(job.cursor, number))

    def _count_lost(self, job: Job, losses: list[LostPackets]) -> None:
        for gone in losses:
            self._ledger.post(
                PacketsLost(job.recording, gone.packets, gone.bytes, gone.from_ns // 1000, gone.to_ns // 1000)
            )

    def abandon(self, open_: Open) -> None:
        """Give the open file up: it is closed as recovery would close it, once another one can be begun."""
        open_.file.close()
        self.open, self._abandoned = None, open_
        self.overlap = True

    def finish(self, job: Job, ended: Ended) -> None:
        """Close the last segment of a recording, and let the ring go of it.

        Raises:
            StorageError: Storage refuses; to be asked again.
        """
        if self.open is not None:
            self.close(job, self.open, ended)
        elif self._abandoned is not None:
            self._close_abandoned(job, self._abandoned, ended)
        self._maker.forget()
        self._let_go(job, job.position)
        self._feed.end(job.cursor)
        if ended == "stopped":
            self._notify(RecordingClosed(job.recording))

    def close(self, job: Job, open_: Open, ended: Ended) -> None:
        """End the open segment: all that is sealed is stored, and its manifest says why it ended.

        Raises:
            StorageError: Storage refuses; to be asked again.
        """
        builder = open_.builder
        if not builder.finished:
            open_.unsynced.append(builder.finish())
        if open_.unsynced:
            self.store(job, open_)
        path = layout.manifest(job.recording, builder.place.segment)
        if open_.manifest is None or (open_.manifest[0] != ended and self._storage.size(path) is None):
            lost = job.unstated
            made = builder.manifest(
                ended,
                stop=self._stop(job, ended),
                lost_packets=lost,
                withheld=_spans_since(job.spans, builder.first_ns // 1000),
                details=job.end_details if ended == "stopped" else None,
                before=job.repaired() if builder.place.interrupted else "",
            )
            open_.manifest = (ended, made, lost)
        ended, manifest, lost = open_.manifest
        self._storage.publish(path, manifest)
        open_.file.close()
        self.open = None
        self._closed(job, manifest, ended, lost)

    def _stop(self, job: Job, ended: Ended) -> Moment | None:
        if ended != "stopped" or job.end_ns is None:
            return None
        return moment_at(self._clocks.wall(), self._clocks.monotonic_ns(), job.end_ns)

    def _close_abandoned(self, job: Job, abandoned: Open, ended: Ended) -> None:
        """Close a file that could not be written on as recovery would: by what is on storage."""

        def close() -> None:
            lost = job.unstated
            closed = close_unfinished(
                self._storage,
                self._identity(job.recording),
                abandoned.builder.place,
                ended=ended,
                attested_bytes=abandoned.offset,
                most_bytes=abandoned.builder.bytes,
                recovered=False,
                final=ended == "stopped",
                lost_packets=lost,
                stop=self._stop(job, ended),
                details=job.end_details if ended == "stopped" else None,
                withheld=_spans_since(job.spans, abandoned.builder.first_ns // 1000),
            )
            self._closed(job, closed.manifest, closed.ended, lost)

        place = abandoned.builder.place
        self._retries.retry_limited(f"closing of {place.recording}, segment {place.segment:04d},", close)
        self._abandoned = None

    def _closed(self, job: Job, manifest: bytes, ended: Ended, lost: int) -> None:
        job.previous, job.interrupted = sha256_hex(manifest), False
        job.state_lost(lost)
        self._ledger.attest(None)
        self._ledger.post(SegmentClosed(job.recording, job.segment, job.previous, ended, ended == "stopped"))


def _spans_since(spans: list[Span], from_us: int) -> list[Span]:
    """What was withheld at or after a moment."""
    return [span for span in spans if span.to_us is None or span.to_us >= from_us]
