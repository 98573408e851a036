"""One line's raw edges become debounced changes and a verdict on whether the line is to be believed.

A change is dated by its first edge and believed once the line has been still for `bounce_ms` (a switch: `rest_ms`). If
it is then back where it was, it was a glitch. So bounce changes neither what is read nor the times in it, and nothing
that lasts for less than `bounce_ms` is ever read as anything.

Breaks in a press that are not bounce are added up (`lost_ns`): a hold is one unbroken press, or it is none.
"""

from collections import deque
from dataclasses import dataclass

from agent.core.inputs.events import Fault, LineFault, LineRecovered
from agent.core.inputs.lines import MS, Line, SwitchLine, Timing, TriggerLine, TriggerMode, stuck_limit_ms

_SECOND_NS = 1000 * MS
_ENDS_WITH_RELEASE = (Fault.STUCK, Fault.HELD_AT_BOOT)


@dataclass(frozen=True, slots=True)
class LevelChanged:
    """A debounced change of a line that is to be believed.

    Attributes:
        active: The level it changed to.
        at_ns: Its first edge.
        decided_ns: When it could be believed.
    """

    active: bool
    at_ns: int
    decided_ns: int


Verdict = LevelChanged | LineFault | LineRecovered


class _Rate:
    """Tells whether something happened more than `limit` times within `window_ns`; remembers no more than that."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self._times: deque[int] = deque(maxlen=limit + 1)
        self._window_ns = window_ns

    def exceeded(self, at_ns: int) -> bool:
        """Counts one more at `at_ns` and says whether that was too many."""
        self._times.append(at_ns)
        return len(self._times) == self._times.maxlen and at_ns - self._times[0] <= self._window_ns

    def clear(self) -> None:
        self._times.clear()


class DebouncedLine:
    """The state of one line. Methods return what it has to say, in order; none of them raises.

    Attributes:
        line: Its configuration.
        raw: Level after the last raw edge.
        active: Debounced level.
        since_ns: First edge into that level.
        lost_ns: Raw inactive time within the newest press, bounce of its beginning and end not counted.
        changing_since_ns: First edge of a change that is not decided yet; None at rest.
        settled_ns: When the last change or glitch was decided.
        fault: Why the line is not believed, or None.
    """

    def __init__(self, line: Line, timing: Timing) -> None:
        self.line = line
        self.raw = False
        self.active = False
        self.since_ns = 0
        self.lost_ns = 0
        self.changing_since_ns: int | None = None
        self.settled_ns = 0
        self.fault: Fault | None = None
        self._bounce_ns = timing.bounce_ms * MS
        self._still_ns = (timing.rest_ms if isinstance(line, SwitchLine) else timing.bounce_ms) * MS
        self._recover_ns = timing.recover_ms * MS
        self._unsettled_ns = timing.unsettled_ms * MS
        stuck_ms = stuck_limit_ms(line, timing)
        self._stuck_ns = None if stuck_ms is None else stuck_ms * MS
        self._rests_either_way = isinstance(line, SwitchLine)
        # An impact rattles by nature: short spells and restlessness are no fault there, an endless storm of edges is.
        self._rattles = isinstance(line, TriggerLine) and line.mode is TriggerMode.EDGE
        self._last_edge_ns = 0
        self._opened_ns = 0
        self._undecided_lost_ns = 0
        self._edge_rate = _Rate(timing.chatter_edges, _SECOND_NS)
        self._glitch_rate = _Rate(timing.chatter_glitches, _SECOND_NS)
        self._rise_rate = _Rate(timing.flood_presses, timing.flood_ms * MS)
        self._faulty_rises = 0
        self._faulty_edges = 0

    def edge(self, *, active: bool, at_ns: int) -> list[Verdict]:
        """A raw edge. Time that goes back counts as the time of the line's last edge; a repeated level is no edge."""
        if active == self.raw:
            return []
        at_ns = max(at_ns, self._last_edge_ns)
        if active:
            self._close_break(at_ns)
        else:
            self._opened_ns = at_ns
        self.raw = active
        self._last_edge_ns = at_ns
        if self.changing_since_ns is None:
            self.changing_since_ns = at_ns
        if self.fault is not None:
            self._faulty_edges += 1
            return []
        restless = not self._rattles and at_ns - self.changing_since_ns > self._unsettled_ns
        if self._edge_rate.exceeded(at_ns) or restless:
            return self.fail(Fault.CHATTER, at_ns)
        return []

    def found(self, *, active: bool, at_ns: int) -> list[Verdict]:
        """The level in which the line was found, without an edge; it forgets what it was in the middle of."""
        at_ns = max(at_ns, self._last_edge_ns)
        verdicts = [] if self.fault is None else self._recover(at_ns)
        self.raw = self.active = active
        self.since_ns = self.settled_ns = self._last_edge_ns = at_ns
        self.changing_since_ns = None
        self.lost_ns = self._undecided_lost_ns = 0
        if active and not self._rests_either_way:
            verdicts += self.fail(Fault.HELD_AT_BOOT, at_ns)
        return verdicts

    def fail(self, fault: Fault, at_ns: int, *, partner: str = "", detail: str = "") -> list[Verdict]:
        """The line is not to be believed from now on. Reported once; only a lost pin outdoes a fault that is there."""
        if self.fault is not None and (self.fault is fault or fault is not Fault.LOST):
            return []
        self.fault = fault
        self._faulty_rises = 0
        self._faulty_edges = 0
        for rate in (self._edge_rate, self._glitch_rate, self._rise_rate):
            rate.clear()
        return [LineFault(self.line.name, fault, at_ns, partner=partner, detail=detail)]

    def deadline_ns(self) -> int | None:
        """When time alone next decides something; None if only an edge can."""
        if self.changing_since_ns is not None:
            return self._last_edge_ns + self._still_ns
        if self.fault is None:
            if self._stuck_ns is None or not self.active:
                return None
            return max(self.since_ns + self._stuck_ns, self.settled_ns)
        if self.fault is Fault.LOST or (self.active and not self._rests_either_way):
            return None
        return self._last_edge_ns + self._recover_ns

    def fire(self, at_ns: int) -> list[Verdict]:
        """Decides what is due at `at_ns`, which must be the time that `deadline_ns` gave."""
        if self.changing_since_ns is not None:
            return self._decide(self.changing_since_ns, at_ns)
        if self.fault is None:
            return self.fail(Fault.STUCK, at_ns)
        return self._recover(at_ns)

    def _close_break(self, at_ns: int) -> None:
        if self.changing_since_ns is None:
            return
        began_ns = self.since_ns if self.active else self.changing_since_ns
        self._undecided_lost_ns += max(0, at_ns - max(self._opened_ns, began_ns + self._bounce_ns))

    def _decide(self, changed_ns: int, at_ns: int) -> list[Verdict]:
        self.changing_since_ns = None
        self.settled_ns = at_ns
        lost_ns, self._undecided_lost_ns = self._undecided_lost_ns, 0
        if self.raw == self.active:
            if self.active:
                self.lost_ns += lost_ns
            if self.fault is None and not self._rattles and self._glitch_rate.exceeded(at_ns):
                return self.fail(Fault.CHATTER, at_ns)
            return []
        self.active = self.raw
        self.since_ns = changed_ns
        if self.active:
            self.lost_ns = lost_ns
        counts = self.active or self._rests_either_way
        if self.fault is not None:
            self._faulty_rises += counts
            ended = not self.active and self.fault in _ENDS_WITH_RELEASE
            return self._recover(at_ns) if ended else []
        if counts and not self._rattles and self._rise_rate.exceeded(changed_ns):
            verdicts = self.fail(Fault.FLOOD, at_ns)
            self._faulty_rises = 1
            return verdicts
        return [LevelChanged(self.active, changed_ns, at_ns)]

    def _recover(self, at_ns: int) -> list[Verdict]:
        assert self.fault is not None
        fault, self.fault = self.fault, None
        return [LineRecovered(self.line.name, fault, at_ns, self._faulty_rises, self._faulty_edges)]
