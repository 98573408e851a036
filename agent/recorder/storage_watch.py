"""How storage is doing, observed from outside: hangs, outages, free space.

A thread that is blocked in a write can't notice that it is. The rules of `StorageWatch`, in order:
1. Nothing became durable for `HANG_NS` although as much media waits, or was dropped from memory meanwhile: storage
   hangs.
2. What waits has grown by `BEHIND_NS` over its minimum: storage is too slow.
3. A journal line waits for `JOURNAL_NS`.
Each is an outage of storage, as if it had refused: the wearer is signalled, the status says it, and it is journalled as
soon as that is possible. The outage is over once something became durable again and less than `CAUGHT_UP_NS` waits, or
as little as ever.
4. While it lasts, lost packets are counted and journalled here, not by the writer.
"""

import errno
import threading
from collections.abc import Callable, Sequence

from agent.clock import NS, Clocks
from agent.core.recording import events
from agent.errors import StorageError
from agent.journal.entries import PacketsLost
from agent.media.ring import LostPackets
from agent.recorder.feed import Feed
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.task import RecordingTask

FREE_SPACE_TIMEOUT_S = 0.25
HANG_NS = 3 * NS
BEHIND_NS = 5 * NS
JOURNAL_NS = 10 * NS
"""Longer than reading a long journal takes at boot, during which no line can be stored either."""
CAUGHT_UP_NS = NS
COUNT_NS = 10 * NS
"""How often lost packets are journalled, as one entry."""


class StorageWatch:
    """Watches the progress of the writer and of the journal; `look` is to be called a few times a second.

    Args:
        feed: Knows what waits.
        journal: The journal's writer.
        tasks: Recordings that are not wholly on storage, the one that is being written first.
        clocks: Both clocks.
        report: Takes an outage by its part, `progress` or `lines`; with None its end.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        journal: JournalWriter,
        tasks: Callable[[], Sequence[RecordingTask]],
        clocks: Clocks,
        report: Callable[[str, StorageError | None], None],
    ) -> None:
        self._feed = feed
        self._journal = journal
        self._tasks = tasks
        self._clocks = clocks
        self._report = report
        self._task: RecordingTask | None = None
        self._durable = -1
        self._durable_ns = 0
        self._least_ns = 0
        self._counted_ns = 0
        self._stuck_at = -1
        self._behind = self._silent = False
        self.has_lost = False
        """Packets of a recording were dropped from memory before they were stored."""

    def look(self) -> None:
        """Compare the progress with that of the last call."""
        now = self._clocks.monotonic_ns()
        self._look_at_journal(now)
        task = next(iter(self._tasks()), None)
        if task is None:
            self._task = None
            self._end_outage()
        else:
            self._look_at_recording(task, now)

    def _look_at_journal(self, now: int) -> None:
        silent = self._journal.waiting_ns(now) >= JOURNAL_NS
        if silent != self._silent:
            self._silent = silent
            problem = f"a journal line has waited for {JOURNAL_NS // NS} s"
            self._report("lines", StorageError(errno.ETIMEDOUT, problem) if silent else None)

    def _look_at_recording(self, task: RecordingTask, now: int) -> None:
        durable, waits_ns = self._feed.progress(task.cursor, task.end_ns)
        if task is not self._task:
            self._task, self._durable, self._least_ns = task, -1, waits_ns
        if durable != self._durable:
            self._durable, self._durable_ns = durable, now
        self._least_ns = min(self._least_ns, waits_ns)
        has_lost = self._feed.has_lost(task.cursor)
        self.has_lost |= has_lost
        stuck = now - self._durable_ns >= HANG_NS
        if (stuck and (waits_ns >= HANG_NS or (waits_ns and has_lost))) or waits_ns - self._least_ns >= BEHIND_NS:
            if not self._behind:
                self._behind, self._stuck_at = True, durable
                self._counted_ns = now - COUNT_NS
                self._report("progress", StorageError(errno.ETIMEDOUT, f"{waits_ns // 1_000_000} ms wait for storage"))
        elif durable != self._stuck_at and waits_ns <= max(CAUGHT_UP_NS, self._least_ns + CAUGHT_UP_NS):
            self._end_outage()
        if self._behind and has_lost and now - self._counted_ns >= COUNT_NS:
            self._counted_ns = now
            self._journal_lost(task)

    def _journal_lost(self, task: RecordingTask) -> None:
        lost = merged(self._feed.take_lost(task.cursor))
        if lost is not None:
            self._journal.post(
                PacketsLost(task.recording, lost.packets, lost.bytes, lost.from_ns // 1000, lost.to_ns // 1000)
            )

    def _end_outage(self) -> None:
        if self._behind:
            self._behind = False
            self._report("progress", None)


def merged(losses: Sequence[LostPackets]) -> LostPackets | None:
    """Several losses as one; None if there are none."""
    if not losses:
        return None
    return LostPackets(
        sum(loss.packets for loss in losses),
        sum(loss.bytes for loss in losses),
        min(loss.from_ns for loss in losses),
        max(loss.to_ns for loss in losses),
    )


class StorageOutages:
    """Reports one outage at a time to the core, whichever part of the recorder storage refuses; from any thread.

    Args:
        clocks: Both clocks.
        put: Takes the events of the outage's begin and end.
    """

    def __init__(self, clocks: Clocks, put: Callable[[events.Event], None]) -> None:
        self._clocks = clocks
        self._put = put
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._failed_ns = 0

    def report(self, part: str, error: StorageError | None) -> None:
        """A part of the recorder, such as `journal` or `segments`, was refused; or is served again, with None.

        The outage lasts from the first refusal of any part until all are served again.
        """
        now = self._clocks.monotonic_ns()
        with self._lock:
            before = bool(self._failing)
            if error is not None:
                self._failing.add(part)
            else:
                self._failing.discard(part)
            if error is not None and not before:
                self._failed_ns = now
                self._put(events.StorageFailed(now, errno.errorcode.get(error.errno or 0, "unknown")))
            elif before and not self._failing:
                self._put(events.StorageRecovered(now, now - self._failed_ns))


class FreeSpace:
    """Asks how much room storage has without waiting for it: a hanging storage may not answer for hours.

    Args:
        query: Returns the bytes that may still be written; may block, or raise `StorageError`. It runs in a thread of
            its own, of which there is at most one.
        timeout_s: How long to wait for an answer.
    """

    def __init__(self, query: Callable[[], int], timeout_s: float = FREE_SPACE_TIMEOUT_S) -> None:
        self._query = query
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def bytes(self) -> int | None:
        """Bytes that may still be written; None if storage does not answer in time. From any thread."""
        answers: list[int] = []

        def ask() -> None:
            try:
                answers.append(self._query())
            except StorageError:
                return

        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return None
            self._thread = threading.Thread(target=ask, name="free space", daemon=True)
            self._thread.start()
            self._thread.join(self._timeout_s)
        return answers[0] if answers else None
