"""The writer: one thread that takes packets from the ring, makes segments of them, and stores them, synced.

The rules, in order:
1. One fragment, one seal, one write, one sync. Only while more than `BACKLOG_NS` of media wait are several fragments
   stored under one sync, so that the writer catches up quickly after a start or a stall.
2. Packets leave the ring only after the sync that made them durable.
3. A segment ends at the first IDR picture after its length, when stream parameters change, or with its recording.
4. A write that storage refused is repeated with the same bytes at the same offset: writing them twice is harmless. If
   only this file fails, a new segment begins at the head of the unwritten group (`overlap`), and the old file is closed
   as recovery would close it. Nothing is lost while memory lasts. If each new file fails as well, the attempts move
   further and further apart.
5. A recording's end is a time: all packets before it are stored, none after it.
6. Events are reported to `notify`; nothing here decides, and no error leaves `step`.

This module holds the loop over recordings and their packets; `segments` seals, syncs and closes, `retries` backs off.
"""

import sys
import threading
from collections import deque
from typing import NamedTuple

from agent.clock import NS
from agent.errors import StorageError
from agent.evidence.details import Details
from agent.evidence.manifest import Span
from agent.media.packet import Kind, Packet
from agent.recorder.writing.plan import STALE_NS, Plan, PlanInput, Step, plan
from agent.recorder.writing.retries import NO_ROOM, StorageRetries
from agent.recorder.writing.segments import CurrentSegment, SegmentWriter, SyncTimes
from agent.recorder.writing.task import RecordingTask, WriterContext, WriterFault

BACKLOG_NS = NS
STRAGGLERS_NS = NS
"""How long a recording's end waits for packets that are still on their way."""
_MAX_PACKETS = 256
"""Packets read from the ring at once."""
_POLL_S = 0.1
"""How often to check whether a recording that has no segment yet, or is to end, can continue."""


class Wait(NamedTuple):
    """How long the writer may sleep: for `seconds` (None: no limit), or until a packet of `until_ns` or later comes."""

    seconds: float | None
    until_ns: int


_UNTIL_WOKEN = Wait(None, sys.maxsize)


class Writer:
    """Writes recordings one after the other."""

    def __init__(self, context: WriterContext) -> None:
        self._feed = context.feed
        self._clocks = context.clocks
        self._notify = context.notify
        self._settings = context.settings
        self._tasks: deque[RecordingTask] = deque()
        self._retries = StorageRetries(context)
        self._segments = SegmentWriter(context, self._retries)
        self._wait = _UNTIL_WOKEN
        self._closing = False
        self._thread: threading.Thread | None = None

    def begin(self, task: RecordingTask) -> None:
        """Write a recording from its cursor on."""
        task.position = task.cursor.written
        self._tasks.append(task)
        self._feed.wake_writer()

    def end(self, recording: str, end_ns: int, details: Details | None) -> None:
        """End a recording at `end_ns`; packets before that are still written. `details` say who permitted it."""
        for task in self._named(recording):
            if task.end_ns is None:
                task.end_details = details
                task.end_ns = end_ns
        self._feed.wake_writer()

    def continue_as(self, recording: str, by: str) -> None:
        """Write a recording as another one, `by`, from its next segment on."""
        for task in self._named(recording):
            task.successor = by
        self._feed.wake_writer()

    def roll(self, recording: str) -> None:
        """Begin a new segment at the next IDR picture, sealed to the recipients that count from now on."""
        for task in self._named(recording):
            task.roll = True

    def suppress(self, recording: str, kinds: frozenset[Kind], request: int, at_ns: int) -> None:
        """Note that no packets of these kinds come from `at_ns` on: manifests state the reason of each gap."""
        for task in self._named(recording):
            task.spans = [*task.spans, *(Span(kind, request, at_ns // 1000, None) for kind in sorted(kinds))]

    def end_suppression(self, recording: str, request: int, at_ns: int) -> None:
        """Note that what was suppressed for `request` is recorded again."""
        for task in self._named(recording):
            task.spans = [
                Span(span.kind, span.request, span.from_us, at_ns // 1000)
                if span.request == request and span.to_us is None
                else span
                for span in task.spans
            ]

    def _named(self, recording: str) -> list[RecordingTask]:
        """A recording's tasks. The writer's thread may finish one meanwhile, so a copy of the queue is searched."""
        return [task for task in self.tasks if recording in (task.recording, task.successor)]

    @property
    def busy(self) -> bool:
        """True while a recording is not wholly on storage."""
        return bool(self._tasks)

    @property
    def tasks(self) -> tuple[RecordingTask, ...]:
        """Recordings that are not wholly on storage, the one that is being written first."""
        return tuple(self._tasks)

    @property
    def has_stored(self) -> bool:
        """True once the first bytes of the recording that is being written are durable, or if there is none."""
        tasks = self.tasks
        return not tasks or tasks[0].stored

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
            False if the thread still waits for storage: it may sign something more.
        """
        self._closing = True
        self._feed.wake_writer()
        if self._thread is None:
            self.step()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        wait = self.step()
        while self._tasks or not self._closing:
            self._feed.wait(*wait)
            wait = self.step()

    def step(self) -> Wait:
        """Do all that can be done now; returns how long there is nothing more to do."""
        now = self._clocks.monotonic_ns()
        if now < self._retries.next_attempt_ns and not self._closing:
            return Wait((self._retries.next_attempt_ns - now) / NS, sys.maxsize)
        self._wait = _UNTIL_WOKEN
        try:
            self._work()
        except StorageError as error:
            self._storage_failed(error)
        except Exception as error:  # noqa: BLE001 - rule 6: no error, a bug included, may end a recording
            self._report_internal_error(error)
        if self._closing and self._retries.failing:
            self._tasks.clear()
        wait_ns = self._retries.next_attempt_ns - self._clocks.monotonic_ns()
        return Wait(wait_ns / NS, sys.maxsize) if wait_ns > 0 else self._wait

    def _storage_failed(self, error: StorageError) -> None:
        """Try again later; with another file if this one has failed before."""
        current = self._segments.current
        abandoned = False
        if current is not None and error.errno not in NO_ROOM:
            abandoned, current.failed = current.failed, True
        self._retries.failed(error, file_abandoned=abandoned)
        if current is not None and abandoned:
            self._abandon(current)

    def _report_internal_error(self, error: Exception) -> None:
        """Begin a new segment a little later."""
        self._retries.postpone()
        self._notify(WriterFault(f"{type(error).__name__}: {error}"))
        if self._segments.current is not None:
            self._abandon(self._segments.current)

    def _abandon(self, current: CurrentSegment) -> None:
        self._segments.abandon(current)
        if self._tasks:
            task = self._tasks[0]
            task.position = self._feed.discard_sealed(task.cursor)

    def _work(self) -> None:
        while self._tasks:
            current = self._segments.current
            if current is not None and current.unsynced:
                self._segments.store(self._tasks[0], current)
            if not self._advance(self._tasks[0]):
                return
            self._tasks.popleft()

    def _advance(self, task: RecordingTask) -> bool:
        """Write what has come in of a recording; True once all of it is on storage."""
        while True:
            task.position, packets = self._feed.read(task.position, _MAX_PACKETS)
            last = self._closing or self._is_over(task)
            if self._segments.current is None:
                packets = self._before_end(task, packets)
                if packets:
                    self._segments.begin(task, packets)
            decision = self._plan(task, packets, last=last)
            if decision.step is Step.WAIT:
                if last and not packets:
                    self._segments.finish(task, "interrupted" if task.end_ns is None else "stopped")
                    return True
                task.caught_up = self._segments.current is not None
                self._wait = self._until_next(task, decision)
                return False
            self._carry_out(task, decision, packets)
            all_written = decision.step is Step.WRITE and decision.count == len(packets) < _MAX_PACKETS
            if all_written and not last and task.end_ns is None:
                task.caught_up = True
                self._wait = Wait(STALE_NS / NS, decision.until_ns)  # a packet that came in meanwhile ends it at once
                return False

    def _until_next(self, task: RecordingTask, decision: Plan) -> Wait:
        """How long there is nothing to do for a recording: a begun fragment is written once it is full or stale."""
        if task.end_ns is not None or not decision.stale_ns:
            return Wait(_POLL_S, 0)
        return Wait((decision.stale_ns - self._clocks.monotonic_ns()) / NS, decision.until_ns)

    def _plan(self, task: RecordingTask, packets: list[Packet], *, last: bool) -> Plan:
        current = self._segments.current
        if current is None:
            return Plan(Step.WAIT)
        video, audio = current.builder.parameters
        # The pre-event packets are made durable at once: the newest of them do not wait for a full fragment.
        before_start = not task.caught_up and bool(packets) and packets[0].time_ns < task.at_ns
        state = PlanInput(
            video=video,
            audio=audio,
            first_ns=current.builder.first_ns,
            segment_ns=0 if task.roll else self._settings.segment_ns,
            first_new=current.first_new,
            end_ns=task.end_ns,
            last=last or before_start,
            now_ns=self._clocks.monotonic_ns(),
        )
        return plan(packets, task.position, state)

    def _carry_out(self, task: RecordingTask, decision: Plan, packets: list[Packet]) -> None:
        current = self._segments.current
        assert current is not None
        batch = packets[: decision.count]
        if decision.step is Step.WRITE:
            backlog = packets[-1].time_ns - batch[0].time_ns > BACKLOG_NS
            self._segments.write(task, current, batch, backlog=backlog)
        elif decision.step is Step.SKIP:
            self._skip(task, batch)
        else:
            self._segments.close(task, current, "rolled")
            if decision.step is Step.REOPEN:
                task.position = self._feed.group_start(task.position)
                self._segments.overlap = True

    def _skip(self, task: RecordingTask, packets: list[Packet]) -> None:
        for packet in packets:
            task.position += 1
            if task.end_ns is not None and packet.time_ns >= task.end_ns:
                task.ended_kinds.add(packet.stream.parameters.kind)

    def _before_end(self, task: RecordingTask, packets: list[Packet]) -> list[Packet]:
        """The packets from the first on that still belongs to the recording."""
        if task.end_ns is None:
            return packets
        after = 0
        while after < len(packets) and packets[after].time_ns >= task.end_ns:
            after += 1
        self._skip(task, packets[:after])
        return packets[after:]

    def _is_over(self, task: RecordingTask) -> bool:
        if task.end_ns is None:
            return False
        kinds = {stream.parameters.kind for stream in self._feed.streams if stream is not None}
        return kinds <= task.ended_kinds or self._clocks.monotonic_ns() >= task.end_ns + STRAGGLERS_NS
