"""Raw edges of input lines in; gestures, triggers, switch positions and line faults out.

All times are monotonic nanoseconds given by the caller. Nothing here waits, and nothing raises, whatever comes in. The
output depends on the edges and their times alone, not on when or how often `tick` is called.

The rules, in order of importance:
1. A faulty line (stuck, chattering, flooded, shorted, lost, or active when first read) is reported once; nothing on it
   is read as input until it is at rest again.
2. Bounce of up to `Timing.bounce_ms` on any edge changes nothing. A change of level is dated by its first edge and
   counts once the line has been still for `bounce_ms` (a switch: `rest_ms`); if the line is then back at its old level,
   the change was a glitch. So nothing shorter than `bounce_ms` is ever read as input.
3. A hold is one unbroken press of at least its length, reported on release. Breaks in a press that are not bounce are
   added up in `DebouncedLine.lost_ns`.
4. Every press is reported exactly once: as part of a gesture, as unmatched, or in the count of a fault.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from agent.clock import MS, NS
from agent.core.inputs.events import (
    Fault,
    Gesture,
    InputEvent,
    LevelChanged,
    LineFault,
    LineRecovered,
    SwitchMoved,
    TriggerLowered,
    TriggerRaised,
)
from agent.core.inputs.gestures import GestureRecogniser
from agent.core.inputs.lines import (
    ButtonLine,
    Edge,
    Line,
    SwitchLine,
    Timing,
    TriggerLine,
    TriggerMode,
    check_patterns,
    stuck_limit_ms,
)
from agent.domain.patterns import Kind, Pattern
from agent.errors import ConfigError

_MAX_UNKNOWN = 16
_ENDS_WITH_RELEASE = (Fault.STUCK, Fault.HELD_AT_BOOT)


LineEvent = LevelChanged | LineFault | LineRecovered


class _Rate:
    """Detects more than `limit` occurrences within `window_ns`."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self._times: deque[int] = deque(maxlen=limit + 1)
        self._window_ns = window_ns

    def exceeded(self, at_ns: int) -> bool:
        """Count an occurrence at `at_ns`; True if that was one too many."""
        self._times.append(at_ns)
        return len(self._times) == self._times.maxlen and at_ns - self._times[0] <= self._window_ns

    def clear(self) -> None:
        self._times.clear()


class DebouncedLine:
    """The debounced state of one line. No method raises.

    Attributes:
        line: Its configuration.
        raw: Level after the last raw edge.
        active: Debounced level.
        since_ns: First edge into that level.
        lost_ns: Raw inactive time within the newest press, bounce of its beginning and end not counted.
        changing_since_ns: First edge of a change that is not decided yet; None at rest.
        settled_ns: When the last change or glitch was decided.
        fault: Why the line is ignored, or None.
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
        # An impact rattles: there, glitches and restlessness are no fault, an endless storm of edges is.
        self._rattles = isinstance(line, TriggerLine) and line.mode is TriggerMode.EDGE
        self._last_edge_ns = 0
        self._opened_ns = 0
        self._undecided_lost_ns = 0
        self._edge_rate = _Rate(timing.chatter_edges, NS)
        self._glitch_rate = _Rate(timing.chatter_glitches, NS)
        self._rise_rate = _Rate(timing.flood_presses, timing.flood_ms * MS)
        self._faulty_rises = 0
        self._faulty_edges = 0

    def edge(self, *, active: bool, at_ns: int) -> list[LineEvent]:
        """A raw edge. An earlier time than the last edge's counts as that; a repeated level is no edge."""
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

    def found(self, *, active: bool, at_ns: int) -> list[LineEvent]:
        """The level in which the line was found, without an edge. A change that was in progress is forgotten."""
        at_ns = max(at_ns, self._last_edge_ns)
        events = [] if self.fault is None else self._recover(at_ns)
        self.raw = self.active = active
        self.since_ns = self.settled_ns = self._last_edge_ns = at_ns
        self.changing_since_ns = None
        self.lost_ns = self._undecided_lost_ns = 0
        if active and not self._rests_either_way:
            events += self.fail(Fault.HELD_AT_BOOT, at_ns)
        return events

    def fail(self, fault: Fault, at_ns: int, *, partner: str = "", detail: str = "") -> list[LineEvent]:
        """Ignore the line from now on. Reported once; only a lost pin replaces a fault that is there."""
        if self.fault is not None and (self.fault is fault or fault is not Fault.LOST):
            return []
        self.fault = fault
        self._faulty_rises = 0
        self._faulty_edges = 0
        for rate in (self._edge_rate, self._glitch_rate, self._rise_rate):
            rate.clear()
        return [LineFault(self.line.name, fault, at_ns, partner=partner, detail=detail)]

    def deadline_ns(self) -> int | None:
        """When `fire` is due if no edge comes; None if only an edge can change anything."""
        if self.changing_since_ns is not None:
            return self._last_edge_ns + self._still_ns
        if self.fault is None:
            if self._stuck_ns is None or not self.active:
                return None
            return max(self.since_ns + self._stuck_ns, self.settled_ns)
        if self.fault is Fault.LOST or (self.active and not self._rests_either_way):
            return None
        return self._last_edge_ns + self._recover_ns

    def fire(self, at_ns: int) -> list[LineEvent]:
        """Decide what is due at `at_ns`, which must be the time that `deadline_ns` gave."""
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

    def _decide(self, changed_ns: int, at_ns: int) -> list[LineEvent]:
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
            events = self.fail(Fault.FLOOD, at_ns)
            self._faulty_rises = 1
            return events
        return [LevelChanged(self.active, changed_ns, at_ns)]

    def _recover(self, at_ns: int) -> list[LineEvent]:
        assert self.fault is not None
        fault, self.fault = self.fault, None
        return [LineRecovered(self.line.name, fault, at_ns, self._faulty_rises, self._faulty_edges)]


class Inputs:
    """All input lines of a device.

    Args:
        patterns: The gestures to recognise, from the layout in force.

    Raises:
        ConfigError: Two lines have the same name, or `check_patterns` refuses.
    """

    def __init__(self, lines: Sequence[Line], patterns: Collection[Pattern], timing: Timing | None = None) -> None:
        self._timing = timing or Timing()
        self._lines = tuple(lines)
        names = [line.name for line in self._lines]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"expected a name of its own for each input line, got {', '.join(twice)} more than once")
        self._contacts = {line.name: DebouncedLine(line, self._timing) for line in self._lines}
        self._unknown: set[str] = set()
        self._raised: dict[str, int] = {}
        self._adopt(patterns)

    def edge(self, edge: Edge) -> list[InputEvent]:
        """A raw reading of a line. What was due before it is reported first; an edge at a deadline comes before it."""
        events = self._run(edge.at_ns, inclusive=False)
        contact = self._contacts.get(edge.line)
        if contact is None:
            return events + self._report_unknown(edge)
        if edge.problem:
            return events + self._take(contact, contact.fail(Fault.LOST, edge.at_ns, detail=edge.problem))
        if edge.initial:
            return events + self._found(contact, edge)
        rising = edge.active and not contact.raw
        events += self._take(contact, contact.edge(active=edge.active, at_ns=edge.at_ns))
        if rising:
            events += self._pulse(contact, edge.at_ns)
        return events

    def tick(self, now_ns: int) -> list[InputEvent]:
        """What time alone decides up to `now_ns`. Read the clock, pass in all known edges, then tick."""
        return self._run(now_ns, inclusive=True)

    def relayout(self, patterns: Collection[Pattern], at_ns: int) -> list[InputEvent]:
        """Another layout is in force from now on. Gestures that are in progress are dropped.

        Raises:
            ConfigError: See `check_patterns`; the old layout then stays in force.
        """
        check_patterns(self._lines, patterns, self._timing)
        events = self._run(at_ns, inclusive=False)
        for name in self._buttons:
            events += self._recogniser.dropped(name, at_ns)
        self._adopt(patterns)
        return events

    def next_deadline_ns(self) -> int | None:
        """When `tick` is due if no edge comes; None if never."""
        deadlines = [contact.deadline_ns() for contact in self._contacts.values()]
        deadlines.append(self._recogniser.deadline_ns())
        return min((at_ns for at_ns in deadlines if at_ns is not None), default=None)

    @property
    def level_triggers(self) -> frozenset[str]:
        """Names of the trigger lines of mode `level`."""
        triggers = (line for line in self._lines if isinstance(line, TriggerLine))
        return frozenset(line.name for line in triggers if line.mode is TriggerMode.LEVEL)

    def levels(self) -> dict[str, bool]:
        """The debounced level of every line."""
        return {name: contact.active for name, contact in self._contacts.items()}

    def faults(self) -> dict[str, Fault]:
        """The lines that are ignored now, and why."""
        return {name: contact.fault for name, contact in self._contacts.items() if contact.fault is not None}

    def _adopt(self, patterns: Collection[Pattern]) -> None:
        check_patterns(self._lines, patterns, self._timing)
        self._buttons = {line.name: self._contacts[line.name] for line in self._lines if isinstance(line, ButtonLine)}
        self._recogniser = GestureRecogniser(self._buttons, patterns, self._timing)
        self._switch_patterns = {
            (pattern.lines[0], pattern.kind is Kind.SWITCH_ON): pattern
            for pattern in patterns
            if pattern.kind in (Kind.SWITCH_ON, Kind.SWITCH_OFF)
        }

    def _run(self, until_ns: int, *, inclusive: bool) -> list[InputEvent]:
        """Do everything that is due, in the order of time."""
        events: list[InputEvent] = []
        while (at_ns := self.next_deadline_ns()) is not None and (
            at_ns < until_ns or (inclusive and at_ns == until_ns)
        ):
            for contact in self._contacts.values():
                if contact.deadline_ns() == at_ns:
                    events += self._take(contact, contact.fire(at_ns))
                    break
            else:
                events += self._recogniser.fire(at_ns)
        return events

    def _take(self, contact: DebouncedLine, reported: Iterable[LineEvent]) -> list[InputEvent]:
        """Events for what a line reported."""
        events: list[InputEvent] = []
        name = contact.line.name
        for event in reported:
            match event:
                case LineFault():
                    events.append(event)
                    self._raised.pop(name, None)
                    if name in self._buttons:
                        events += self._recogniser.dropped(name, event.at_ns)
                case LineRecovered():
                    events.append(event)
                    if isinstance(contact.line, SwitchLine):
                        events.append(SwitchMoved(name, contact.active, contact.since_ns, found=True))
                case LevelChanged():
                    events += self._changed(contact, event)
        return events

    def _changed(self, contact: DebouncedLine, change: LevelChanged) -> list[InputEvent]:
        name = contact.line.name
        match contact.line:
            case ButtonLine():
                if change.active:
                    return [*self._recogniser.pressed(name, change)]
                twin = self._recogniser.twin(name, change)
                if twin is None:
                    return [*self._recogniser.released(name, change)]
                return self._shorted(contact, self._contacts[twin], change.decided_ns)
            case SwitchLine():
                events: list[InputEvent] = [SwitchMoved(name, change.active, change.at_ns)]
                pattern = self._switch_patterns.get((name, change.active))
                if pattern is not None:
                    events.append(Gesture(pattern, change.at_ns, change.decided_ns, 0.0))
                return events
            case TriggerLine(mode=TriggerMode.LEVEL):
                if change.active:
                    self._raised[name] = change.at_ns
                    return [TriggerRaised(name, change.at_ns)]
                return [] if self._raised.pop(name, None) is None else [TriggerLowered(name, change.at_ns)]
            case TriggerLine():
                return []  # a pulse is reported at its first rise

    def _shorted(self, one: DebouncedLine, other: DebouncedLine, at_ns: int) -> list[InputEvent]:
        events = self._take(one, one.fail(Fault.SHORTED, at_ns, partner=other.line.name))
        return events + self._take(other, other.fail(Fault.SHORTED, at_ns, partner=one.line.name))

    def _pulse(self, contact: DebouncedLine, at_ns: int) -> list[InputEvent]:
        line = contact.line
        if contact.fault is not None or not isinstance(line, TriggerLine) or line.mode is not TriggerMode.EDGE:
            return []
        last_ns = self._raised.get(line.name)
        if last_ns is not None and at_ns < last_ns + self._timing.holdoff_ms * MS:
            return []
        self._raised[line.name] = at_ns
        return [TriggerRaised(line.name, at_ns)]

    def _found(self, contact: DebouncedLine, edge: Edge) -> list[InputEvent]:
        name = contact.line.name
        events: list[InputEvent] = []
        if name in self._buttons:
            events += self._recogniser.dropped(name, edge.at_ns)
        self._raised.pop(name, None)
        was_faulty = contact.fault is not None
        events += self._take(contact, contact.found(active=edge.active, at_ns=edge.at_ns))
        if isinstance(contact.line, SwitchLine) and not was_faulty:
            events.append(SwitchMoved(name, contact.active, contact.since_ns, found=True))
        return events

    def _report_unknown(self, edge: Edge) -> list[InputEvent]:
        """Report an unknown line once, and at most `_MAX_UNKNOWN` of them: a flood of invalid names stays small."""
        name = edge.line[:80]
        if name in self._unknown or len(self._unknown) >= _MAX_UNKNOWN:
            return []
        self._unknown.add(name)
        return [LineFault(name, Fault.UNKNOWN, edge.at_ns)]
