"""Raw edges in, debounced gestures out: what the wearer's hands and the trigger lines ask for, and which lines lie.

Pure and clocked: all times are monotonic nanoseconds given by the caller; nothing here waits, and nothing raises,
whatever comes in. What comes out depends on the edges and their times alone, not on when or how often `tick` is called.

The rules, in order of importance:
1. A line that is stuck, chatters, is flooded, shorted, lost, or was active when first read, is reported once, and
   nothing on it is read as anything until it is at rest again.
2. Bounce of up to `Timing.bounce_ms` on any edge changes nothing.
3. A hold is one unbroken press of at least its length, told when it is let go.
4. Every press is told exactly once: as part of a gesture, as unmatched, or in a fault's count.
"""

from collections.abc import Collection, Iterable, Sequence

from agent.core.inputs.debounce import DebouncedLine, LevelChanged, Verdict
from agent.core.inputs.events import (
    Fault,
    Gesture,
    HoldReached,
    InputEvent,
    LineFault,
    LineRecovered,
    SwitchMoved,
    TriggerLowered,
    TriggerRaised,
    Unmatched,
    UnmatchedReason,
)
from agent.core.inputs.gestures import GestureRecogniser
from agent.core.inputs.lines import (
    MS,
    ButtonLine,
    Edge,
    Line,
    SwitchLine,
    Timing,
    TriggerLine,
    TriggerMode,
    stuck_limit_ms,
)
from agent.domain.patterns import Kind, Pattern, parse_pattern
from agent.errors import ConfigError

__all__ = [
    "ButtonLine",
    "Edge",
    "Fault",
    "Gesture",
    "HoldReached",
    "InputEvent",
    "Inputs",
    "Kind",
    "Line",
    "LineFault",
    "LineRecovered",
    "Pattern",
    "SwitchLine",
    "SwitchMoved",
    "Timing",
    "TriggerLine",
    "TriggerLowered",
    "TriggerMode",
    "TriggerRaised",
    "Unmatched",
    "UnmatchedReason",
    "check_patterns",
    "parse_pattern",
]

_MAX_UNKNOWN = 16


def check_patterns(lines: Iterable[Line], patterns: Iterable[Pattern], timing: Timing) -> None:
    """Checks that hands can do `patterns` on `lines`.

    Raises:
        ConfigError: A pattern names a line that is not there or is of another kind, a hold that is as short as a short
            press, or one that is as long as it takes to count as stuck.
    """
    by_name = {line.name: line for line in lines}
    for pattern in patterns:
        wanted = ButtonLine if pattern.kind in (Kind.PRESS, Kind.HOLD) else SwitchLine
        for name in pattern.lines:
            line = by_name.get(name)
            if not isinstance(line, wanted):
                kind = "button" if wanted is ButtonLine else "switch"
                there = ", ".join(sorted(line.name for line in by_name.values() if isinstance(line, wanted))) or "none"
                raise ConfigError(f"expected the name of a {kind} in {str(pattern)!r}, got {name!r}; there is: {there}")
            if pattern.kind is not Kind.HOLD:
                continue
            stuck_ms = stuck_limit_ms(line, timing)
            if not timing.short_ms < pattern.hold_ms < (stuck_ms or timing.stuck_ms):
                raise ConfigError(
                    f"expected the hold of {str(pattern)!r} to be longer than a short press ({timing.short_ms} ms) and "
                    f"shorter than what counts as stuck ({stuck_ms} ms)"
                )


class Inputs:
    """All input lines of a device.

    Args:
        lines: What there is.
        patterns: What to look for on buttons and switches, from the layout in force.
        timing: By which times and limits.

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
        """A raw reading of a line; what was due before it is told first.

        An edge at the very nanosecond of a deadline comes before it. A line that can't be read comes back with an
        initial reading.
        """
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
        """What time alone decides up to `now_ns`.

        The caller hands over all edges that it knows of before: read the clock, drain the edges, then tick.
        """
        return self._run(now_ns, inclusive=True)

    def relayout(self, patterns: Collection[Pattern], at_ns: int) -> list[InputEvent]:
        """Another layout is in force from now on. What hands are in the middle of means nothing in either.

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
        """When `tick` next has something to say if no edge comes; None if never."""
        deadlines = [contact.deadline_ns() for contact in self._contacts.values()]
        deadlines.append(self._recogniser.deadline_ns())
        return min((at_ns for at_ns in deadlines if at_ns is not None), default=None)

    @property
    def level_triggers(self) -> frozenset[str]:
        """Names of the trigger lines that stay raised for as long as their cause lasts."""
        triggers = (line for line in self._lines if isinstance(line, TriggerLine))
        return frozenset(line.name for line in triggers if line.mode is TriggerMode.LEVEL)

    def levels(self) -> dict[str, bool]:
        """The debounced level of every line."""
        return {name: contact.active for name, contact in self._contacts.items()}

    def faults(self) -> dict[str, Fault]:
        """The lines that are not listened to, and why."""
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
        """Lets everything happen that is due, in the order of its times."""
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

    def _take(self, contact: DebouncedLine, verdicts: Iterable[Verdict]) -> list[InputEvent]:
        """What a contact's verdicts mean."""
        events: list[InputEvent] = []
        name = contact.line.name
        for verdict in verdicts:
            match verdict:
                case LineFault():
                    events.append(verdict)
                    self._raised.pop(name, None)
                    if name in self._buttons:
                        events += self._recogniser.dropped(name, verdict.at_ns)
                case LineRecovered():
                    events.append(verdict)
                    if isinstance(contact.line, SwitchLine):
                        events.append(SwitchMoved(name, contact.active, contact.since_ns, found=True))
                case LevelChanged():
                    events += self._changed(contact, verdict)
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
                return []  # a pulse was told at its first rise

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
        """Once a name, and no more names than anybody could mistype: a flood of nonsense stays small."""
        name = edge.line[:80]
        if name in self._unknown or len(self._unknown) >= _MAX_UNKNOWN:
            return []
        self._unknown.add(name)
        return [LineFault(name, Fault.UNKNOWN, edge.at_ns)]
