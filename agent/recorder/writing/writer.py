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

Here is the loop over recordings and their packets; `segments` seals, syncs and closes, `retries` asks a storage again.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from agent.clock import NS, Clocks
from agent.errors import StorageError
from agent.evidence.details import Details
from agent.evidence.manifest import Span
from agent.evidence.segment import Identity
from agent.media.packet import Kind, Packet
from agent.recorder.feed import Feed
from agent.recorder.writing.job import Job, JournalSink, Notify, Settings, WriterFault
from agent.recorder.writing.new_segment import SegmentMaker
from agent.recorder.writing.plan import STALE_NS, Frame, Plan, Step, plan
from agent.recorder.writing.retries import NO_ROOM, Retries
from agent.recorder.writing.segments import Open, Segments
from agent.recorder.writing.sync_times import SyncTimes
from agent.seal.writer import RandomBytes
from agent.storage.interface import Storage

BACKLOG_NS = NS
STRAGGLERS_NS = NS
"""How long a recording's end waits for packets that are still on their way."""
_LOOK = 256
_LOOK_AGAIN_S = 0.1
"""How often to look whether a recording that has no segment yet, or is to end, can go on."""


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
        certify: Puts copies of device and boot certificate beside a recording.
        clocks: Both clocks.
        random_bytes: Source of data keys.
        frame_length: The frame length of a sealed message for a bit rate in bits a second.
        notify: Told what happens, in this thread.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        storage: Storage,
        ledger: JournalSink,
        identity: Callable[[str], Identity],
        certify: Callable[[str], None],
        clocks: Clocks,
        random_bytes: RandomBytes,
        frame_length: Callable[[int], int],
        notify: Notify,
        settings: Settings | None = None,
    ) -> None:
        self._feed = feed
        self._clocks = clocks
        self._notify = notify
        self._settings = settings or Settings()
        self._jobs: deque[Job] = deque()
        self._retries = Retries(clocks, ledger, notify, self._settings)
        maker = SegmentMaker(
            feed=feed,
            storage=storage,
            ledger=ledger,
            identity=identity,
            certify=certify,
            clocks=clocks,
            random_bytes=random_bytes,
            frame_length=frame_length,
        )
        self._segments = Segments(
            maker=maker,
            feed=feed,
            storage=storage,
            ledger=ledger,
            identity=identity,
            clocks=clocks,
            retries=self._retries,
            notify=notify,
            settings=self._settings,
        )
        self._rest = _UNTIL_CALLED
        self._closing = False
        self._thread: threading.Thread | None = None

    def begin(self, job: Job) -> None:
        """Write a recording from its cursor on."""
        job.position = job.cursor.written
        self._jobs.append(job)
        self._feed.wake_writer()

    def end(self, recording: str, end_ns: int, details: Details | None) -> None:
        """End a recording: what lies before `end_ns` is still written; `details` say who permitted that."""
        for job in self._named(recording):
            if job.end_ns is None:
                job.end_details = details
                job.end_ns = end_ns
        self._feed.wake_writer()

    def move(self, recording: str, by: str) -> None:
        """Write a recording as another one from its next segment on."""
        for job in self._named(recording):
            job.successor = by
        self._feed.wake_writer()

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
        return [job for job in self.jobs if recording in (job.recording, job.successor)]

    @property
    def busy(self) -> bool:
        """True while a recording is not wholly on storage."""
        return bool(self._jobs)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Recordings that are not wholly on storage, the one that is being written first."""
        return tuple(self._jobs)

    @property
    def storing(self) -> bool:
        """True once the first bytes of the recording that is being written are durable, or while there is none."""
        jobs = self.jobs
        return not jobs or jobs[0].stored

    @property
    def failing(self) -> bool:
        """True while storage refuses."""
        return self._retries.failing

    @property
    def slowest_sync_ns(self) -> int:
        """The longest sync so far."""
        return self._segments.slowest_sync_ns

    @property
    def sync_times(self) -> SyncTimes:
        """How long the newest syncs took."""
        return self._segments.sync_times

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
        self._feed.wake_writer()
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
        if now < self._retries.due_ns and not self._closing:
            return Rest((self._retries.due_ns - now) / NS, sys.maxsize)
        self._rest = _UNTIL_CALLED
        try:
            self._work()
        except StorageError as error:
            self._refused(error)
        except Exception as error:  # noqa: BLE001 - rule 6: no error, not even a mistake of ours, may end a recording
            self._report_internal_error(error)
        if self._closing and self._retries.failing:
            self._jobs.clear()
        wait_ns = self._retries.due_ns - self._clocks.monotonic_ns()
        return Rest(wait_ns / NS, sys.maxsize) if wait_ns > 0 else self._rest

    def _refused(self, error: StorageError) -> None:
        """Storage refused: try again later, with another file if it is this one."""
        open_ = self._segments.open
        in_vain = False
        if open_ is not None and error.errno not in NO_ROOM:
            in_vain, open_.refused = open_.refused, True
        self._retries.refused(error, in_vain=in_vain)
        if open_ is not None and in_vain:
            self._abandon(open_)

    def _report_internal_error(self, error: Exception) -> None:
        """Something else went wrong: begin a new segment a little later."""
        self._retries.put_off()
        self._notify(WriterFault(f"{type(error).__name__}: {error}"))
        if self._segments.open is not None:
            self._abandon(self._segments.open)

    def _abandon(self, open_: Open) -> None:
        self._segments.abandon(open_)
        if self._jobs:
            job = self._jobs[0]
            job.position = self._feed.give_up(job.cursor)

    def _work(self) -> None:
        while self._jobs:
            open_ = self._segments.open
            if open_ is not None and open_.unsynced:
                self._segments.store(self._jobs[0], open_)
            if not self._advance(self._jobs[0]):
                return
            self._jobs.popleft()

    def _advance(self, job: Job) -> bool:
        """Write what there is of a recording; True once all of it is on storage."""
        while True:
            job.position, packets = self._feed.read(job.position, _LOOK)
            last = self._closing or self._is_over(job)
            if self._segments.open is None:
                packets = self._before_end(job, packets)
                if packets:
                    self._segments.begin(job, packets)
            decision = self._plan(job, packets, last=last)
            if decision.step is Step.WAIT:
                if last and not packets:
                    self._segments.finish(job, "interrupted" if job.end_ns is None else "stopped")
                    return True
                job.caught_up = self._segments.open is not None
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
        open_ = self._segments.open
        if open_ is None:
            return Plan(Step.WAIT)
        video, audio = open_.builder.parameters
        # What came before the start is made durable at once: its newest packets do not wait for a full fragment.
        before_start = not job.caught_up and bool(packets) and packets[0].time_ns < job.at_ns
        frame = Frame(
            video=video,
            audio=audio,
            first_ns=open_.builder.first_ns,
            segment_ns=0 if job.roll else self._settings.segment_ns,
            first_new=open_.first_new,
            end_ns=job.end_ns,
            last=last or before_start,
            now_ns=self._clocks.monotonic_ns(),
        )
        return plan(packets, job.position, frame)

    def _carry_out(self, job: Job, decision: Plan, packets: list[Packet]) -> None:
        open_ = self._segments.open
        assert open_ is not None
        batch = packets[: decision.count]
        if decision.step is Step.WRITE:
            backlog = packets[-1].time_ns - batch[0].time_ns > BACKLOG_NS
            self._segments.write(job, open_, batch, backlog=backlog)
        elif decision.step is Step.SKIP:
            self._pass_over(job, batch)
        else:
            self._segments.close(job, open_, "rolled")
            if decision.step is Step.REOPEN:
                job.position = self._feed.group_start(job.position)
                self._segments.overlap = True

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
