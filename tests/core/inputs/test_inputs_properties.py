"""What holds of the inputs for every sequence of edges, not only for those that somebody thought of."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.clock import MS
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
)
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import ButtonLine, Edge, SwitchLine, TriggerLine, TriggerMode
from agent.domain.layout import THREE_BUTTONS, TWO_BUTTONS
from agent.domain.patterns import Kind, parse_pattern
from tests.support.presses import Bounce, change, press, run, run_by_deadlines

BOUNCE_NS = 30 * MS
LINES = (
    ButtonLine("record"),
    ButtonLine("mark"),
    SwitchLine("power"),
    TriggerLine("siren"),
    TriggerLine("impact", TriggerMode.EDGE),
)
PATTERNS = frozenset({*TWO_BUTTONS.patterns, parse_pattern("switch off:power")})

bounces = st.lists(st.integers(1, BOUNCE_NS), max_size=6, unique=True).map(
    lambda offsets: Bounce(tuple(sorted(offsets)[: len(offsets) // 2 * 2]))
)
"""Up to three bounces, all of it within 30 ms."""


def device() -> Inputs:
    return Inputs(LINES, PATTERNS)


Press = tuple[int, int, Bounce, Bounce]
"""Pause before it and its length, both in milliseconds, and the bounce of its two edges."""

presses = st.lists(
    st.tuples(
        st.one_of(st.integers(61, 500), st.integers(61, 5000)),
        st.one_of(st.integers(61, 300), st.integers(61, 9000)),
        bounces,
        bounces,
    ),
    min_size=1,
    max_size=10,
)


def edges_of(line: str, sequence: Sequence[Press], *, bouncing: bool) -> list[Edge]:
    at_ms = 1000
    edges: list[Edge] = []
    for pause_ms, length_ms, closing, opening in sequence:
        at_ms += pause_ms
        edges += (
            press(line, at_ms, length_ms, closing=closing, opening=opening)
            if bouncing
            else press(line, at_ms, length_ms)
        )
        at_ms += length_ms
    return edges


def meaning(events: Sequence[InputEvent]) -> list[tuple[object, ...]]:
    """What was told, without the moment at which it was."""
    told: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case Gesture():
                told.append((event.pattern, event.began_ns, event.held_s))
            case HoldReached():
                told.append((event.pattern, event.began_ns))
            case Unmatched():
                told.append((event.lines, event.presses, event.began_ns, event.held_s, event.why))
            case SwitchMoved() | TriggerRaised() | TriggerLowered():
                told.append((event,))
            case LineFault() | LineRecovered():
                told.append((event.line, event.fault))
    return told


@settings(max_examples=150, deadline=None)
@given(presses)
def test_bounce_of_thirty_milliseconds_on_every_edge_changes_nothing(sequence: list[Press]) -> None:
    clean = run(device(), edges_of("record", sequence, bouncing=False))
    bouncing = run(device(), edges_of("record", sequence, bouncing=True))
    assert meaning(bouncing) == meaning(clean)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 140), st.integers(200, 4000), st.integers(200, 4000), st.tuples(bounces, bounces, bounces, bounces)
)
def test_bounce_does_not_change_a_chord(
    apart_ms: int, first_ms: int, second_ms: int, bounce: tuple[Bounce, Bounce, Bounce, Bounce]
) -> None:
    def edges(bounce: Sequence[Bounce]) -> list[Edge]:
        first = press("record", 1000, first_ms, closing=bounce[0], opening=bounce[1])
        return first + press("mark", 1000 + apart_ms, second_ms, closing=bounce[2], opening=bounce[3])

    if abs(apart_ms) <= 2 and abs(first_ms - apart_ms - second_ms) <= 2:
        return  # one wire, not a chord: tested elsewhere
    assert meaning(run(device(), edges(bounce))) == meaning(run(device(), edges([Bounce()] * 4)))


raw_edges = st.lists(
    st.tuples(st.sampled_from([0.1, 1, 5, 20, 29, 31, 60, 400, 2900, 3100]), st.floats(0.5, 1.5)), max_size=60
)
"""Pauses between edges of one line, of all the lengths that matter, a little off."""


def toggling(line: str, pauses: list[tuple[float, float]]) -> list[Edge]:
    at_ns, active, edges = 1000 * MS, False, []
    for pause_ms, factor in pauses:
        at_ns += max(1, round(pause_ms * factor * MS))
        active = not active
        edges.append(Edge(line, active, at_ns))
    return edges


def active_ns(edges: list[Edge], from_ns: int, to_ns: int) -> int:
    """For how long the raw line was active between two times."""
    total, since = 0, None
    for edge in [*edges, Edge("", active=False, at_ns=to_ns)]:
        if since is not None:
            total += max(0, min(edge.at_ns, to_ns) - max(since, from_ns))
        since = edge.at_ns if edge.active else None
    return total


@settings(max_examples=200, deadline=None)
@given(raw_edges)
def test_nothing_that_is_active_for_less_than_a_hold_is_a_hold(pauses: list[tuple[float, float]]) -> None:
    edges = toggling("record", pauses)
    for event in run(device(), edges):
        if isinstance(event, HoldReached | Gesture) and event.pattern.kind is Kind.HOLD:
            active = active_ns(edges, event.began_ns, event.at_ns)
            assert active >= event.pattern.hold_ms * MS - BOUNCE_NS
            # And it was one press: what is missing is the bounce of its beginning and one more bounce at most. The
            # release itself is believed only after it has lasted for a bounce.
            if isinstance(event, HoldReached):
                assert event.at_ns - event.began_ns - active <= 2 * BOUNCE_NS


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 29.9), min_size=200, max_size=300), st.sampled_from([line.name for line in LINES[:4]]))
def test_line_that_never_rests_is_read_as_nothing(pauses_ms: list[float], line: str) -> None:
    edges = toggling(line, [(pause_ms, 1.0) for pause_ms in pauses_ms])
    events = run(device(), [*edges, Edge(line, active=False, at_ns=edges[-1].at_ns + 20 * MS)])
    assert not [event for event in events if isinstance(event, Gesture | HoldReached | TriggerRaised)]
    assert not [event for event in events if isinstance(event, SwitchMoved) and not event.found]
    if edges[-1].at_ns - edges[0].at_ns > 1000 * MS:
        assert [event.fault for event in events if isinstance(event, LineFault)] == [Fault.CHATTER]


@settings(max_examples=100, deadline=None)
@given(raw_edges, raw_edges, raw_edges, raw_edges)
def test_what_is_told_does_not_depend_on_when_the_clock_is_looked_at(
    record: list[tuple[float, float]],
    mark: list[tuple[float, float]],
    power: list[tuple[float, float]],
    impact: list[tuple[float, float]],
) -> None:
    edges = toggling("record", record) + toggling("mark", mark) + toggling("power", power) + toggling("impact", impact)
    often = run_by_deadlines(device(), edges)
    seldom = run(device(), edges, until_ms=10**9)
    assert often == seldom


def presses_told(events: Sequence[InputEvent]) -> int:
    total = 0
    for event in events:
        match event:
            case Gesture():
                total += event.presses * len(event.lines) or len(event.lines)
            case Unmatched() | LineRecovered():
                total += event.presses
            case _:
                pass
    return total


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(61, 800), st.integers(61, 4000)), max_size=25),
    st.lists(st.tuples(st.integers(61, 800), st.integers(61, 4000)), max_size=25),
)
def test_every_press_is_told_exactly_once(record: list[tuple[int, int]], mark: list[tuple[int, int]]) -> None:
    def clean(line: str, sequence: list[tuple[int, int]]) -> list[Edge]:
        return edges_of(line, [(pause, length, Bounce(), Bounce()) for pause, length in sequence], bouncing=False)

    events = run(device(), clean("record", record) + clean("mark", mark))
    assert presses_told(events) == len(record) + len(mark)


@pytest.mark.parametrize("seed", [1, 2])
def test_of_a_thousand_bouncing_presses_none_is_missed_and_none_invented(seed: int) -> None:
    chance = random.Random(seed)

    def bounce() -> Bounce:
        return Bounce(tuple(sorted(chance.sample(range(1, BOUNCE_NS), 2 * chance.randint(0, 4)))))

    edges, began = [], []
    at_ms = 1000.0
    for _ in range(1000):
        length_ms = chance.uniform(61, 700)
        began.append(round(at_ms * MS))
        edges += press("record", at_ms, length_ms, closing=bounce(), opening=bounce())
        at_ms += length_ms + chance.uniform(440, 900)
    events = run(device(), edges)
    assert all(isinstance(event, Gesture) and str(event.pattern) == "short:record" for event in events)
    assert [event.began_ns for event in events if isinstance(event, Gesture)] == began


class AnyHands(RuleBasedStateMachine):
    """Edges, ticks and faults in any order and at any time, also backwards: nothing raises, and limits always fire."""

    @initialize()
    def boot(self) -> None:
        self.inputs = Inputs(LINES, PATTERNS)
        self.now_ns = 0
        self.told = 0
        self.given = 0

    def take(self, events: list[InputEvent]) -> None:
        self.told += len(events)

    @rule(
        line=st.sampled_from([*(line.name for line in LINES), "horn", ""]),
        active=st.booleans(),
        step_ns=st.one_of(st.integers(-100 * MS, 100 * MS), st.sampled_from([0, 1, 30 * MS, 31 * MS, 3000 * MS])),
        initial=st.sampled_from([False] * 9 + [True]),
    )
    def edge(self, line: str, *, active: bool, step_ns: int, initial: bool) -> None:
        self.now_ns += step_ns
        self.given += 1
        self.take(self.inputs.edge(Edge(line, active, self.now_ns, initial)))

    @rule(step_ns=st.sampled_from([-(10**12), -1, 0, 30 * MS, 400 * MS, 8000 * MS, 31_000 * MS]))
    def tick(self, step_ns: int) -> None:
        self.take(self.inputs.tick(self.now_ns + step_ns))
        self.now_ns += max(0, step_ns)

    @rule(line=st.sampled_from(["record", "power", "impact", "horn"]))
    def lose(self, line: str) -> None:
        self.given += 1
        self.take(self.inputs.edge(Edge(line, active=False, at_ns=self.now_ns, problem="gone")))

    @rule(patterns=st.sampled_from([PATTERNS, TWO_BUTTONS.patterns, frozenset()]))
    def relayout(self, patterns: frozenset[object]) -> None:
        self.given += 1
        chosen = next(known for known in (PATTERNS, TWO_BUTTONS.patterns, frozenset()) if known == patterns)
        self.take(self.inputs.relayout(chosen, self.now_ns))

    @rule()
    def let_everything_go(self) -> None:
        """At rest, and after all limits, no line is faulty that has a pin, and nothing is due any more."""
        for line in LINES:
            self.given += 1
            self.take(self.inputs.edge(Edge(line.name, active=False, at_ns=self.now_ns)))
        self.now_ns += 10**13
        self.take(self.inputs.tick(self.now_ns))
        assert self.inputs.next_deadline_ns() is None
        assert set(self.inputs.faults().values()) <= {Fault.LOST}
        assert not any(self.inputs.levels().values())

    @rule()
    def hold_everything(self) -> None:
        """A button that stays active is always told as faulty in the end."""
        for line in LINES:
            self.given += 1
            self.take(self.inputs.edge(Edge(line.name, active=True, at_ns=self.now_ns)))
        self.now_ns += 10**13
        self.take(self.inputs.tick(self.now_ns))
        assert {"record", "mark", "impact"} <= set(self.inputs.faults())

    @invariant()
    def output_is_bounded_by_input(self) -> None:
        if hasattr(self, "given"):
            assert self.told <= 8 * self.given + 8


AnyHands.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyHands = AnyHands.TestCase


@settings(max_examples=60, deadline=None)
@given(raw_edges)
def test_faulty_line_says_nothing_between_fault_and_recovery(pauses: list[tuple[float, float]]) -> None:
    faulty = False
    for event in run(device(), toggling("record", pauses)):
        if isinstance(event, LineFault):
            assert not faulty
            faulty = True
        elif isinstance(event, LineRecovered):
            assert faulty
            faulty = False
        elif faulty:
            assert isinstance(event, Unmatched)  # what was under way when the fault was told


def test_chord_of_three_buttons_bounces_as_well() -> None:
    inputs = Inputs((*LINES[:2], ButtonLine("privacy")), THREE_BUTTONS.patterns)
    bounce = Bounce((1 * MS, 3 * MS, 10 * MS, 30 * MS))
    edges = [
        *change("mark", active=True, at_ns=1000 * MS, bounce=bounce),
        *change("privacy", active=True, at_ns=1020 * MS, bounce=bounce),
        *change("mark", active=False, at_ns=3500 * MS, bounce=bounce),
        *change("privacy", active=False, at_ns=3600 * MS, bounce=bounce),
    ]
    gestures = [event for event in run(inputs, edges) if isinstance(event, Gesture)]
    assert [(str(event.pattern), event.held_s) for event in gestures] == [("chord hold 2s:mark+privacy", 2.48)]
