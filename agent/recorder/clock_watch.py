"""Detects that the wall clock was set, and that it became or ceased to be trusted.

The rules, in order:
1. The monotonic clock can't be set: if the distance between the two clocks changes, the wall clock was set. Both clocks
   are slewed alike. A step of more than `STEP_NS` is reported, as the sum since the last report: many small steps are
   one large one.
2. A change of the source, or of whether its time is trusted, is reported.
3. There is at most one report in `PAUSE_NS`, so that a clock that is set over and over does not fill the journal; no
   step is lost, for the next report holds the sum.
4. A reading during which the process was delayed says nothing about the clock, and is not used.
"""

from agent.clock import NS, Clocks, WallReading
from agent.journal.entries import ClockChanged

STEP_NS = NS // 2
PAUSE_NS = NS
MAX_DELAY_NS = NS // 20


class ClockWatch:
    """Compares the two clocks with their distance at the time of construction."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        wall = clocks.wall()
        self._distance_ns = wall.utc_ns - clocks.monotonic_ns()
        self._trusted = _trust(wall)
        self._reported_ns: int | None = None

    def look(self) -> ClockChanged | None:
        """The change to be journalled, if any; to be called a few times a second."""
        before = self._clocks.monotonic_ns()
        wall = self._clocks.wall()
        now = self._clocks.monotonic_ns()
        if now - before > MAX_DELAY_NS or (self._reported_ns is not None and now - self._reported_ns < PAUSE_NS):
            return None
        distance_ns = wall.utc_ns - now
        step_ns = distance_ns - self._distance_ns
        if abs(step_ns) <= STEP_NS and _trust(wall) == self._trusted:
            return None
        self._distance_ns, self._trusted, self._reported_ns = distance_ns, _trust(wall), now
        within_ms = None if wall.uncertainty_s is None else int(wall.uncertainty_s * 1000) + 1
        return ClockChanged(round(step_ns / 1_000_000), wall.source, within_ms)


def _trust(wall: WallReading) -> tuple[str, bool]:
    return wall.source, wall.trusted
