"""Places each segment of a recording on one time line. Pure: statements in, nanoseconds out.

The line is the monotonic clock of the first boot that is placed. The rules, in order:

1. Segments of one boot are placed by their opening statements, on its monotonic clock.
2. A later boot of the same kernel continues on the same clock. Else the wall clock measures the downtime, if its error
   was bounded in both boots. Else it is unknown: a gap of `UNKNOWN_NS` stands for it, and is reported as unknown.
3. A boot is never placed before the end of what was recorded before it.
4. `base_ticks` and `start` give the time of a stream's tick 0 to less than a tick. Streams whose tick 0 can be the same
   moment share it, within a segment and between segments, so that ticks are used unchanged and rounding errors never
   accumulate. Only a source that was reopened is placed by the clock, once.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.clock import NS, WallReading, parse_utc
from agent.errors import EvidenceError
from agent.evidence.manifest import Moment, Opening, Track
from agent.media.packet import Kind

UNKNOWN_NS = NS
"""Stands for a downtime that no clock measured."""

Basis = Literal["same_kernel", "trusted_clock", "unknown"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment of a boot, the wall clock with its provenance (see `agent.clock.WallReading`)."""

    mono_us: int
    utc_ns: int
    clock: str
    within_ms: int | None


@dataclass(frozen=True, slots=True)
class BootClock:
    """The known readings of a boot's clocks.

    Attributes:
        kernel: The kernel's boot id; empty if unknown.
        readings: In the order of `mono_us`.
    """

    kernel: str
    readings: Sequence[Reading]


@dataclass(frozen=True, slots=True)
class Downtime:
    """The time between what was recorded in two boots.

    Attributes:
        ns: Its length in the film.
        basis: How that was measured; if `unknown`, `ns` is arbitrary.
        within_ms: Bound on its error; None if it is unknown.
    """

    ns: int
    basis: Basis
    within_ms: int | None


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of a segment on the line.

    Attributes:
        start_ns: Its time 0 on the line.
        epochs_ns: The line's time of tick 0 of each track's stream.
        base_ticks: Ticks to add to the segment's own to get the stream's.
        downtime: The downtime before it, if it is the first of another boot.
    """

    start_ns: int
    epochs_ns: Mapping[Kind, int]
    base_ticks: Mapping[Kind, int]
    downtime: Downtime | None


@dataclass(slots=True)
class _Epoch:
    """A stream's tick 0 lies between two times of the line; `at_ns` is used for it from then on."""

    low_ns: int
    high_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class _Placed:
    """A boot on the line: from `start_ns` on, its monotonic clock plus `shift_ns`."""

    boot: int
    start_ns: int
    shift_ns: int


def reading(moment: Moment) -> Reading:
    """The clock readings in a statement's moment.

    Raises:
        EvidenceError: Its time does not have the expected form.
    """
    try:
        return Reading(moment.mono_us, parse_utc(moment.utc), moment.clock, moment.within_ms)
    except ValueError as error:
        raise EvidenceError(f"expected a time such as 2026-11-22T23:40:00.000000Z, got {moment.utc!r}") from error


class Timeline:
    """The line of one recording. Segments are placed in their order.

    Args:
        clocks: By boot, of all boots in the recording.
    """

    def __init__(self, clocks: Mapping[int, BootClock]) -> None:
        self._clocks = clocks
        self._placed: list[_Placed] = []
        self._epochs: list[_Epoch] = []

    def place(self, opening: Opening, after_ns: int | None) -> Placement:
        """Place a segment.

        Args:
            opening: Its opening statement.
            after_ns: End of what was recorded before, on the line; None if this is the first.
        """
        downtime = None
        if all(placed.boot != opening.boot for placed in self._placed):
            downtime = self._place_boot(opening, after_ns)
        shift_ns = next(placed.shift_ns for placed in self._placed if placed.boot == opening.boot)
        epochs = {track.kind: self._epoch(track, opening.start.mono_us, shift_ns) for track in opening.tracks}
        base_ticks = {track.kind: track.base_ticks for track in opening.tracks}
        return Placement(opening.start.mono_us * 1000 + shift_ns, epochs, base_ticks, downtime)

    def _place_boot(self, opening: Opening, after_ns: int | None) -> Downtime | None:
        start_ns = opening.start.mono_us * 1000
        if not self._placed or after_ns is None:
            self._placed.append(_Placed(opening.boot, start_ns, 0))
            return None
        shift_ns, basis, within_ms = self._shift(self._placed[-1], opening.boot)
        if shift_ns is None:
            shift_ns = after_ns + UNKNOWN_NS - start_ns
        shift_ns = max(shift_ns, after_ns - start_ns)
        self._placed.append(_Placed(opening.boot, start_ns + shift_ns, shift_ns))
        return Downtime(start_ns + shift_ns - after_ns, basis, within_ms)

    def _shift(self, before: _Placed, boot: int) -> tuple[int | None, Basis, int | None]:
        earlier, later = self._clocks.get(before.boot), self._clocks.get(boot)
        if earlier is None or later is None:
            return None, "unknown", None
        if earlier.kernel and earlier.kernel == later.kernel:
            return before.shift_ns, "same_kernel", 0
        last = next((known for known in reversed(earlier.readings) if known.within_ms is not None), None)
        first = next((known for known in later.readings if known.within_ms is not None), None)
        if last is None or first is None:
            return None, "unknown", None
        offset_ns = (first.utc_ns - first.mono_us * 1000) - (last.utc_ns - last.mono_us * 1000)
        return before.shift_ns + offset_ns, "trusted_clock", (first.within_ms or 0) + (last.within_ms or 0)

    def _epoch(self, track: Track, start_us: int, shift_ns: int) -> int:
        # base_ticks is the first tick at or after time 0, and start_us is time 0 without its nanoseconds.
        low_ns = start_us * 1000 + shift_ns - -(-track.base_ticks * NS // track.timescale)
        high_ns = start_us * 1000 + shift_ns + 999 - (track.base_ticks - 1) * NS // track.timescale
        for epoch in reversed(self._epochs):
            if max(low_ns, epoch.low_ns) <= min(high_ns, epoch.high_ns):
                epoch.low_ns, epoch.high_ns = max(low_ns, epoch.low_ns), min(high_ns, epoch.high_ns)
                return epoch.at_ns
        self._epochs.append(_Epoch(low_ns, high_ns, (low_ns + high_ns) // 2))
        return self._epochs[-1].at_ns

    def line_ns(self, boot: int, mono_us: int) -> int | None:
        """Convert a boot's monotonic time to the line; None if no segment of that boot was placed."""
        shifts = [placed.shift_ns for placed in self._placed if placed.boot == boot]
        return mono_us * 1000 + shifts[0] if shifts else None

    def wall(self, at_ns: int) -> WallReading | None:
        """The recorder's wall clock at a moment of the line, with its uncertainty.

        None before anything was placed.
        """
        placed = next((known for known in reversed(self._placed) if known.start_ns <= at_ns), None)
        placed = placed or next(iter(self._placed), None)
        clock = self._clocks.get(placed.boot) if placed else None
        if placed is None or clock is None or not clock.readings:
            return None
        mono_ns = at_ns - placed.shift_ns
        index = bisect_right(clock.readings, mono_ns // 1000, key=lambda known: known.mono_us)
        known = clock.readings[max(0, index - 1)]
        within_s = None if known.within_ms is None else known.within_ms / 1000
        return WallReading(known.utc_ns + mono_ns - known.mono_us * 1000, known.clock, within_s)
