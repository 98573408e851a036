"""Whether storage keeps up, as seen from outside: a thread that is blocked in a write can't tell that it is.

The rules, in order:
1. Nothing became durable for `HANG_NS` although as much media waits, or fell out of memory meanwhile: storage hangs.
2. What waits has grown by `BEHIND_NS` since it was least: storage is too slow.
3. A journal line waits for `JOURNAL_NS`.
Each is an outage of storage, as if it had refused: the wearer is shown it, status says it, and it is journalled, by a
thread that may itself wait for that storage and then does it as soon as that is over. It has ended once something
became durable again and less than `CAUGHT_UP_NS` waits, or as little as ever.
4. While it lasts, what falls out of memory is counted and journalled here, not by the writer.
"""

import errno
from collections.abc import Callable, Sequence

from agent.clock import NS, Clocks
from agent.errors import StorageError
from agent.journal.entries import PacketsLost
from agent.media.ring import LostPackets
from agent.recorder.feed import Feed
from agent.recorder.writing.job import Job
from agent.recorder.writing.journal_writer import JournalWriter

HANG_NS = 3 * NS
BEHIND_NS = 5 * NS
JOURNAL_NS = 10 * NS
"""Longer than reading a long journal takes at the start: until then no line can be stored either."""
CAUGHT_UP_NS = NS
COUNT_NS = 10 * NS
"""So often what has fallen out is journalled, as one entry."""


class StorageWatch:
    """Watches what the writer and the journal's keeper get done; to be asked a few times a second.

    Args:
        feed: Knows what waits.
        keeper: The journal's keeper.
        jobs: Recordings that are not wholly on storage, the one that is being written first.
        clocks: Both clocks.
        said: Told of an outage by its part, `progress` or `lines`, and with None of its end.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        keeper: JournalWriter,
        jobs: Callable[[], Sequence[Job]],
        clocks: Clocks,
        said: Callable[[str, StorageError | None], None],
    ) -> None:
        self._feed = feed
        self._keeper = keeper
        self._jobs = jobs
        self._clocks = clocks
        self._said = said
        self._job: Job | None = None
        self._durable = -1
        self._durable_ns = 0
        self._least_ns = 0
        self._counted_ns = 0
        self._stuck_at = -1
        self._behind = self._silent = False
        self.has_lost = False
        """Something of a recording fell out of memory unstored."""

    def look(self) -> None:
        """Compare with what was seen before."""
        now = self._clocks.monotonic_ns()
        self._look_at_journal(now)
        job = next(iter(self._jobs()), None)
        if job is None:
            self._job = None
            self._over()
        else:
            self._look_at_recording(job, now)

    def _look_at_journal(self, now: int) -> None:
        silent = self._keeper.waiting_ns(now) >= JOURNAL_NS
        if silent != self._silent:
            self._silent = silent
            problem = f"a journal line has waited for {JOURNAL_NS // NS} s"
            self._said("lines", StorageError(errno.ETIMEDOUT, problem) if silent else None)

    def _look_at_recording(self, job: Job, now: int) -> None:
        durable, waits_ns = self._feed.progress(job.cursor, job.end_ns)
        if job is not self._job:
            self._job, self._durable, self._least_ns = job, -1, waits_ns
        if durable != self._durable:
            self._durable, self._durable_ns = durable, now
        self._least_ns = min(self._least_ns, waits_ns)
        falls_out = self._feed.loses(job.cursor)
        self.has_lost |= falls_out
        stuck = now - self._durable_ns >= HANG_NS
        if (stuck and (waits_ns >= HANG_NS or (waits_ns and falls_out))) or waits_ns - self._least_ns >= BEHIND_NS:
            if not self._behind:
                self._behind, self._stuck_at = True, durable
                self._counted_ns = now - COUNT_NS
                self._said("progress", StorageError(errno.ETIMEDOUT, f"{waits_ns // 1_000_000} ms wait for storage"))
        elif durable != self._stuck_at and waits_ns <= max(CAUGHT_UP_NS, self._least_ns + CAUGHT_UP_NS):
            self._over()
        if self._behind and falls_out and now - self._counted_ns >= COUNT_NS:
            self._counted_ns = now
            self._count(job)

    def _count(self, job: Job) -> None:
        gone = merged(self._feed.lost(job.cursor))
        if gone is not None:
            self._keeper.post(
                PacketsLost(job.recording, gone.packets, gone.bytes, gone.from_ns // 1000, gone.to_ns // 1000)
            )

    def _over(self) -> None:
        if self._behind:
            self._behind = False
            self._said("progress", None)


def merged(losses: Sequence[LostPackets]) -> LostPackets | None:
    """Several losses as one; None if there are none."""
    if not losses:
        return None
    return LostPackets(
        sum(gone.packets for gone in losses),
        sum(gone.bytes for gone in losses),
        min(gone.from_ns for gone in losses),
        max(gone.to_ns for gone in losses),
    )
