"""Bad contacts and bad hands: stuck, bouncing, shorted, hammered or lost lines are told once and never read."""

import pytest

from agent.clock import MS
from agent.core.inputs.events import (
    Fault,
    Gesture,
    HoldReached,
    InputEvent,
    LineFault,
    LineRecovered,
    SwitchMoved,
    TriggerRaised,
    Unmatched,
    UnmatchedReason,
)
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import ButtonLine, Edge, SwitchLine, TriggerLine, TriggerMode
from agent.domain.layout import TWO_BUTTONS
from agent.domain.patterns import parse_pattern
from tests.support.presses import Bounce, press, run, square


def device() -> Inputs:
    lines = (
        ButtonLine("record"),
        ButtonLine("mark"),
        SwitchLine("power"),
        TriggerLine("siren"),
        TriggerLine("impact", TriggerMode.EDGE),
    )
    return Inputs(lines, {*TWO_BUTTONS.patterns, parse_pattern("switch off:power")})


def gestures(events: list[InputEvent]) -> list[str]:
    return [str(event.pattern) for event in events if isinstance(event, Gesture)]


def faults(events: list[InputEvent]) -> list[tuple[str, Fault]]:
    return [(event.line, event.fault) for event in events if isinstance(event, LineFault)]


def recoveries(events: list[InputEvent]) -> list[tuple[str, Fault]]:
    return [(event.line, event.fault) for event in events if isinstance(event, LineRecovered)]


def test_button_held_at_boot_asks_for_nothing_until_it_was_let_go() -> None:
    inputs = device()
    events = inputs.edge(Edge("record", True, 0, initial=True))
    assert events == [LineFault("record", Fault.HELD_AT_BOOT, 0)]
    events = run(inputs, [Edge("record", False, 9000 * MS), *press("record", 9100, 100), *press("record", 9300, 100)])
    assert events[0] == LineRecovered("record", Fault.HELD_AT_BOOT, 9030 * MS, presses=0, edges=1)
    assert gestures(events) == ["double:record"]


def test_button_held_since_boot_for_an_hour_is_told_once() -> None:
    inputs = device()
    inputs.edge(Edge("record", True, 0, initial=True))
    assert inputs.tick(3_600_000 * MS) == []
    assert inputs.faults() == {"record": Fault.HELD_AT_BOOT}


def test_trigger_active_at_boot_has_no_rising_edge() -> None:
    inputs = device()
    events = inputs.edge(Edge("siren", True, 0, initial=True)) + run(inputs, [Edge("siren", False, 5000 * MS)])
    assert faults(events) == [("siren", Fault.HELD_AT_BOOT)]
    assert recoveries(events) == [("siren", Fault.HELD_AT_BOOT)]
    assert not [event for event in events if isinstance(event, TriggerRaised)]


def test_stuck_button_never_asks_for_a_stop() -> None:
    events = run(device(), [Edge("record", True, 1000 * MS)], until_ms=3_600_000)
    assert [type(event) for event in events] == [HoldReached, HoldReached, LineFault, Unmatched]
    assert events[2] == LineFault("record", Fault.STUCK, 31_000 * MS)
    assert events[3] == Unmatched(("record",), 1, 1000 * MS, 31_000 * MS, 0.0, UnmatchedReason.FAULT)


def test_stuck_button_that_comes_loose_is_a_button_again() -> None:
    events = run(device(), press("record", 1000, 40_000) + press("record", 41_500, 100) + press("record", 41_700, 100))
    assert recoveries(events) == [("record", Fault.STUCK)]
    assert gestures(events) == ["double:record"]


def test_trigger_line_held_for_hours_is_neither_stuck_nor_raised_again() -> None:
    events = run(device(), [Edge("siren", True, 1000 * MS)], until_ms=7_200_000)
    assert events == [TriggerRaised("siren", 1000 * MS)]


def test_pulse_line_that_stays_high_is_stuck() -> None:
    events = run(device(), [Edge("impact", True, 1000 * MS)], until_ms=60_000)
    assert events == [TriggerRaised("impact", 1000 * MS), LineFault("impact", Fault.STUCK, 31_000 * MS)]


@pytest.mark.parametrize("line", ["record", "power", "siren"])
@pytest.mark.parametrize(
    ("high_ms", "low_ms"),
    [(0.05, 0.05), (1, 1), (10, 10), (8.333, 8.333), (20, 20), (29, 3), (3, 29), (25, 11)],
    ids=["10-kHz", "500-Hz", "50-Hz-hum", "60-Hz-hum", "25-Hz", "mostly-high", "mostly-low", "uneven"],
)
def test_chattering_line_is_told_once_and_read_as_nothing(line: str, high_ms: float, low_ms: float) -> None:
    events = run(device(), square(line, 1000, high_ms=high_ms, low_ms=low_ms, until_ms=1000 + 60 * (high_ms + low_ms)))
    if high_ms + low_ms > 10:  # the short ones are over before a second is
        assert faults(events) == [(line, Fault.CHATTER)]
        assert recoveries(events) == [(line, Fault.CHATTER)]
    assert not [event for event in events if isinstance(event, Gesture | HoldReached | TriggerRaised)]
    assert not [event for event in events if isinstance(event, SwitchMoved) and not event.found]


def test_line_that_chatters_for_ten_minutes_makes_two_reports() -> None:
    events = run(device(), square("record", 1000, high_ms=10, low_ms=10, until_ms=601_000))
    assert faults(events) == [("record", Fault.CHATTER)]
    (recovered,) = [event for event in events if isinstance(event, LineRecovered)]
    assert recovered.edges > 59_000
    assert gestures(events) == []


def test_storm_of_edges_on_an_impact_line_is_told_as_chatter() -> None:
    events = run(device(), square("impact", 1000, high_ms=1, low_ms=1, until_ms=9000))
    assert len([event for event in events if isinstance(event, TriggerRaised)]) == 1
    assert faults(events) == [("impact", Fault.CHATTER)]


def test_contact_that_breaks_again_and_again_in_a_hold_asks_for_nothing() -> None:
    # Three breaks of 20 ms, two seconds apart: too few for chatter, too many for one unbroken press.
    edges = [Edge("record", True, 1000 * MS)]
    for at_ms in (1500, 2100, 2700):
        edges += [Edge("record", False, at_ms * MS), Edge("record", True, (at_ms + 20) * MS)]
    events = run(device(), [*edges, Edge("record", False, 6000 * MS)])
    assert [type(event) for event in events] == [Unmatched]
    assert isinstance(events[0], Unmatched)
    assert events[0].why is UnmatchedReason.INTERRUPTED


def test_hold_that_begins_with_chatter_asks_for_nothing() -> None:
    edges = [Edge("record", number % 2 == 0, (1000 + 20 * number) * MS) for number in range(11)]
    events = run(device(), [*edges, Edge("record", False, 6000 * MS)])
    assert [event.why for event in events if isinstance(event, Unmatched)] == [UnmatchedReason.INTERRUPTED]
    assert gestures(events) == []


def test_one_break_in_a_hold_only_adds_its_own_length() -> None:
    edges = [Edge("record", True, 1000 * MS), Edge("record", False, 2000 * MS), Edge("record", True, 2025 * MS)]
    events = run(device(), [*edges, Edge("record", False, 5000 * MS)])
    assert events[0] == HoldReached(parse_pattern("hold 3s:record"), 1000 * MS, 4025 * MS)
    assert gestures(events) == ["hold 3s:record"]


@pytest.mark.parametrize(("high_ms", "low_ms"), [(30, 30), (31, 29), (20, 40), (40, 20), (45, 15), (15, 45), (55, 5)])
def test_thousand_presses_a_minute_never_become_a_hold_and_stay_bounded(high_ms: int, low_ms: int) -> None:
    events = run(device(), square("record", 1000, high_ms=high_ms, low_ms=low_ms, until_ms=61_000))
    assert not [event for event in events if isinstance(event, HoldReached)]
    assert not [text for text in gestures(events) if "hold" in text]
    assert len(events) <= 12
    assert len(faults(events)) == len(recoveries(events)) == 1


def test_hammering_is_told_with_the_number_of_presses() -> None:
    # 400 presses in 48 s, each of them clean.
    events = run(device(), square("record", 1000, high_ms=60, low_ms=60, until_ms=1000 + 400 * 120))
    (recovered,) = [event for event in events if isinstance(event, LineRecovered)]
    assert faults(events) == [("record", Fault.FLOOD)]
    assert gestures(events) == ["double:record"] * 6
    assert recovered.presses + 2 * 6 == 400


def test_hammered_switch_asks_for_nothing() -> None:
    events = run(device(), square("power", 1000, high_ms=100, low_ms=100, until_ms=61_000))
    assert faults(events) == [("power", Fault.CHATTER)]
    assert gestures(events) == []
    assert isinstance(events[-1], SwitchMoved)
    assert events[-1].found


def test_trigger_wiggled_to_block_a_stop_is_told_as_a_flood() -> None:
    events = run(device(), square("siren", 1000, high_ms=100, low_ms=100, until_ms=61_000))
    assert faults(events) == [("siren", Fault.FLOOD)]
    assert len([event for event in events if isinstance(event, TriggerRaised)]) == 12


def test_two_buttons_on_one_wire_are_told_as_shorted_and_not_as_a_chord() -> None:
    bounce = Bounce((1 * MS, 2 * MS))
    edges = [
        edge
        for line in ("record", "mark")
        for edge in press(line, 1000 + (0.3 if line == "mark" else 0), 3500, closing=bounce, opening=bounce)
    ]
    events = run(device(), edges)
    assert gestures(events) == []
    assert {(event.line, event.partner) for event in events if isinstance(event, LineFault)} == {
        ("record", "mark"),
        ("mark", "record"),
    }
    assert {fault for _, fault in recoveries(events)} == {Fault.SHORTED}
    (dropped,) = [event for event in events if isinstance(event, Unmatched)]
    assert (dropped.presses, dropped.why) == (2, UnmatchedReason.FAULT)


def test_fingers_that_only_land_together_are_a_chord() -> None:
    events = run(device(), press("record", 1000, 300) + press("mark", 1000, 340))
    assert gestures(events) == ["chord:mark+record"]
    assert faults(events) == []


def test_lost_pin_is_told_once_and_comes_back_without_a_request() -> None:
    inputs = device()
    inputs.edge(Edge("record", True, 1000 * MS))
    inputs.tick(1100 * MS)
    assert inputs.edge(Edge("record", False, 1200 * MS, problem="bad handle")) == [
        LineFault("record", Fault.LOST, 1200 * MS, detail="bad handle"),
        Unmatched(("record",), 1, 1000 * MS, 1200 * MS, 0.0, UnmatchedReason.FAULT),
    ]
    assert inputs.edge(Edge("record", False, 1300 * MS, problem="bad handle")) == []
    assert run(inputs, [Edge("record", False, 2000 * MS), *press("record", 3000, 100)]) == []
    assert inputs.edge(Edge("record", False, 90_000 * MS, initial=True)) == [
        LineRecovered("record", Fault.LOST, 90_000 * MS, presses=1, edges=3)
    ]
    assert gestures(run(inputs, press("record", 91_000, 100) + press("record", 91_200, 100))) == ["double:record"]


def test_lost_switch_is_found_once_when_it_comes_back() -> None:
    inputs = device()
    inputs.edge(Edge("power", False, 1000 * MS, problem="bad handle"))
    assert inputs.edge(Edge("power", True, 2000 * MS, initial=True)) == [
        LineRecovered("power", Fault.LOST, 2000 * MS, presses=0, edges=0),
        SwitchMoved("power", on=True, at_ns=2000 * MS, found=True),
    ]


def test_switch_that_chattered_is_found_where_it_rests_and_asks_for_nothing() -> None:
    inputs = device()
    inputs.edge(Edge("power", True, 0, initial=True))
    edges = square("power", 1000, high_ms=10, low_ms=10, until_ms=3000)
    events = run(inputs, edges)
    assert events[-1] == SwitchMoved("power", on=False, at_ns=events[-1].at_ns, found=True)
    assert gestures(events) == []


def test_faulty_button_takes_its_chord_with_it() -> None:
    edges = [*press("record", 1000, 5000), Edge("mark", True, 1050 * MS)]
    edges += square("mark", 1200, high_ms=5, low_ms=5, until_ms=4000)
    events = run(device(), edges)
    assert ("mark", Fault.CHATTER) in faults(events)
    assert gestures(events) == []


def test_unknown_lines_are_told_once_each_and_a_flood_of_names_is_bounded() -> None:
    inputs = device()
    events = [event for at in range(100) for event in inputs.edge(Edge("horn", True, at))]
    assert events == [LineFault("horn", Fault.UNKNOWN, 0)]
    names = [event for at in range(1000) for event in inputs.edge(Edge(f"x{at}" * 50, True, at))]
    assert len(names) == 15
    assert all(isinstance(event, LineFault) and len(event.line) <= 80 for event in names)
