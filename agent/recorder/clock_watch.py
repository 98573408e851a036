"""Notices that somebody set the wall clock, and when it begins or ceases to be trusted.

The rules, in order:
1. The monotonic clock can't be set, so a wall clock that no longer keeps its distance to it was. What is slewed, both
   clocks follow; what is stepped by more than `STEP_NS` is told, with its sum since it was last told: many small steps
   are one large one.
2. A source that changes, or whose time becomes or ceases to be trusted, is told.
3. It is told at most once in `PAUSE_NS`, so that a clock that is set over and over fills no journal; nothing is lost by
   waiting, for the sum is told later.
4. A reading between which and the next the process was held up says nothing about the clock, and is not used.
"""

from agent.clock import NS, Clocks, WallReading
from agent.journal.entries import ClockChanged

STEP_NS = NS // 2
PAUSE_NS = NS
HELD_UP_NS = NS // 20


class ClockWatch:
    """Compares the two clocks, from the moment when it is made."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        wall = clocks.wall()
        self._distance_ns = wall.utc_ns - clocks.monotonic_ns()
        self._vouched = _vouched(wall)
        self._told_ns: int | None = None

    def look(self) -> ClockChanged | None:
        """What is to be journalled, if anything; to be called a few times a second."""
        before = self._clocks.monotonic_ns()
        wall = self._clocks.wall()
        now = self._clocks.monotonic_ns()
        if now - before > HELD_UP_NS or (self._told_ns is not None and now - self._told_ns < PAUSE_NS):
            return None
        distance_ns = wall.utc_ns - now
        step_ns = distance_ns - self._distance_ns
        if abs(step_ns) <= STEP_NS and _vouched(wall) == self._vouched:
            return None
        self._distance_ns, self._vouched, self._told_ns = distance_ns, _vouched(wall), now
        within_ms = None if wall.uncertainty_s is None else int(wall.uncertainty_s * 1000) + 1
        return ClockChanged(round(step_ns / 1_000_000), wall.source, within_ms)


def _vouched(wall: WallReading) -> tuple[str, bool]:
    return wall.source, wall.trusted
