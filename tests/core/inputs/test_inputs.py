"""Gestures: what hands do is told once, in time, with the time at which they did it."""

import pytest

from agent.clock import MS
from agent.core.inputs.events import (
    Gesture,
    HoldReached,
    InputEvent,
    LineFault,
    SwitchMoved,
    TriggerLowered,
    TriggerRaised,
    Unmatched,
    UnmatchedReason,
)
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import ButtonLine, Edge, SwitchLine, Timing, TriggerLine, TriggerMode
from agent.domain.layout import THREE_BUTTONS, TWO_BUTTONS
from agent.domain.patterns import parse_pattern
from agent.errors import ConfigError
from tests.support.presses import Bounce, press, run, square

BUTTONS = (ButtonLine("record"), ButtonLine("mark"), ButtonLine("privacy"))


def inputs_for(*patterns: str, timing: Timing | None = None) -> Inputs:
    lines = (*BUTTONS, SwitchLine("power"), TriggerLine("siren"), TriggerLine("impact", TriggerMode.EDGE))
    return Inputs(lines, frozenset(parse_pattern(pattern) for pattern in patterns), timing)


def two_buttons() -> Inputs:
    return Inputs(BUTTONS[:2], TWO_BUTTONS.patterns)


def told(events: list[InputEvent]) -> list[str]:
    """The gestures, as text."""
    return [str(event.pattern) for event in events if isinstance(event, Gesture)]


def test_double_press_is_one_gesture_with_the_time_of_its_first_contact() -> None:
    events = run(two_buttons(), press("record", 1000, 90) + press("record", 1250, 90))
    assert events == [Gesture(parse_pattern("double:record"), 1000 * MS, 1370 * MS, 0.09)]


def test_short_press_waits_for_the_second_one_only_where_there_can_be_one() -> None:
    (waited,) = run(inputs_for("short:mark", "double:mark"), press("mark", 1000, 90))
    (at_once,) = run(inputs_for("short:mark", "double:record"), press("mark", 1000, 90))
    assert isinstance(waited, Gesture)
    assert isinstance(at_once, Gesture)
    assert at_once.at_ns == 1120 * MS
    assert waited.at_ns == 1490 * MS
    assert waited.began_ns == at_once.began_ns == 1000 * MS


def test_presses_further_apart_than_the_gap_are_single_ones() -> None:
    assert told(run(two_buttons(), press("record", 1000, 100) + press("record", 1501, 100))) == ["short:record"] * 2
    assert told(run(two_buttons(), press("record", 1000, 100) + press("record", 1499, 100))) == ["double:record"]


def test_more_presses_than_a_double_still_start() -> None:
    edges = [edge for at_ms in range(1000, 2000, 200) for edge in press("record", at_ms, 100)]
    assert told(run(two_buttons(), edges)) == ["double:record", "double:record", "short:record"]


def test_number_of_presses_that_means_nothing_is_told_as_such() -> None:
    (event,) = run(inputs_for("triple:mark"), press("mark", 1000, 100) + press("mark", 1200, 100))
    assert event == Unmatched(("mark",), 2, 1000 * MS, 1700 * MS, 0.1, UnmatchedReason.NO_PATTERN)


def test_hold_is_felt_when_reached_and_told_when_let_go() -> None:
    inputs = two_buttons()
    pattern = parse_pattern("hold 3s:record")
    assert run(inputs, [Edge("record", True, 1000 * MS)], until_ms=3999) == []
    assert inputs.tick(4000 * MS) == [HoldReached(pattern, 1000 * MS, 4000 * MS)]
    assert run(inputs, [Edge("record", False, 4500 * MS)]) == [Gesture(pattern, 1000 * MS, 4530 * MS, 3.5)]


def test_longest_hold_that_was_reached_counts_alone() -> None:
    events = run(two_buttons(), press("record", 1000, 8200))
    assert [str(event.pattern) for event in events if isinstance(event, HoldReached)] == [
        "hold 3s:record",
        "hold 8s:record",
    ]
    assert told(events) == ["hold 8s:record"]


@pytest.mark.parametrize("held_ms", [801, 1500, 2999, 3000])
def test_hold_let_go_too_early_is_neither_a_hold_nor_a_press(held_ms: int) -> None:
    (event,) = run(two_buttons(), press("record", 1000, held_ms))
    assert event == Unmatched(
        ("record",), 1, 1000 * MS, (1030 + held_ms) * MS, held_ms / 1000, UnmatchedReason.LET_GO_EARLY
    )


def test_long_press_is_a_press_where_there_is_no_hold() -> None:
    assert told(run(inputs_for("short:mark"), press("mark", 1000, 2500))) == ["short:mark"]


def test_short_press_before_a_hold_is_told_by_itself() -> None:
    events = run(two_buttons(), press("record", 1000, 100) + press("record", 1200, 3500))
    assert told(events) == ["short:record", "hold 3s:record"]


def test_release_that_was_delivered_late_does_not_lengthen_a_hold() -> None:
    inputs = two_buttons()
    inputs.edge(Edge("record", True, 1000 * MS))
    inputs.tick(5000 * MS)
    events = run(inputs, [Edge("record", False, 3900 * MS)])
    assert [event.why for event in events if isinstance(event, Unmatched)] == [UnmatchedReason.LET_GO_EARLY]
    assert told(events) == []


def test_chord_is_not_also_the_presses_it_is_made_of() -> None:
    events = run(two_buttons(), press("record", 1000, 300) + press("mark", 1100, 300))
    assert told(events) == ["chord:mark+record"]
    assert events[0] == Gesture(parse_pattern("chord:mark+record"), 1100 * MS, 1330 * MS, 0.2)


def test_chord_hold_counts_from_the_last_finger_to_the_first_let_go() -> None:
    pattern = parse_pattern("chord hold 2s:record+mark")
    events = run(two_buttons(), press("record", 1000, 2300) + press("mark", 1100, 3000))
    assert events == [
        HoldReached(pattern, 1100 * MS, 3100 * MS),
        Gesture(pattern, 1100 * MS, 3330 * MS, 2.2),
    ]


def test_chord_hold_let_go_early_is_no_press_of_either() -> None:
    events = run(two_buttons(), press("record", 1000, 1500) + press("mark", 1100, 1800))
    assert [(event.lines, event.presses, event.why) for event in events if isinstance(event, Unmatched)] == [
        (("mark", "record"), 2, UnmatchedReason.LET_GO_EARLY)
    ]
    assert told(events) == []


def test_second_finger_that_comes_late_is_a_press_of_its_own() -> None:
    events = run(two_buttons(), press("record", 1000, 3500) + press("mark", 1200, 100))
    assert told(events) == ["short:mark", "hold 3s:record"]


def test_presses_before_a_chord_are_told_before_it() -> None:
    edges = press("record", 1000, 100) + press("record", 1200, 300) + press("mark", 1250, 300)
    assert told(run(two_buttons(), edges)) == ["short:record", "chord:mark+record"]


def test_buttons_that_are_no_chord_are_read_side_by_side() -> None:
    events = run(inputs_for("short:record", "short:mark"), press("record", 1000, 200) + press("mark", 1050, 300))
    assert told(events) == ["short:record", "short:mark"]


def test_tapping_one_button_right_after_the_other_is_no_chord() -> None:
    events = run(two_buttons(), press("record", 1000, 70) + press("mark", 1080, 70))
    assert told(events) == ["short:record", "short:mark"]


def test_tapping_with_a_release_that_bounces_is_no_chord_either() -> None:
    bounce = Bounce((1 * MS, 29 * MS))
    events = run(two_buttons(), press("record", 1000, 100, opening=bounce) + press("mark", 1105, 100))
    assert told(events) == ["short:record", "short:mark"]


def test_finger_that_was_delivered_late_does_not_turn_a_hold_into_a_chord() -> None:
    inputs = two_buttons()
    inputs.edge(Edge("record", True, 1000 * MS))
    inputs.tick(4500 * MS)
    inputs.edge(Edge("mark", True, 1050 * MS))
    inputs.tick(4600 * MS)
    events = run(inputs, [Edge("record", False, 4700 * MS), Edge("mark", False, 4800 * MS)])
    assert told(events) == ["hold 3s:record", "hold 2s:mark"]


def test_release_dated_before_its_press_counts_as_of_the_press() -> None:
    inputs = two_buttons()
    inputs.edge(Edge("record", True, 1000 * MS))
    inputs.tick(1100 * MS)
    inputs.edge(Edge("record", False, 500 * MS))
    assert told(run(inputs, press("record", 1300, 100))) == ["double:record"]


def test_three_fingers_where_two_are_known_leave_the_third_alone() -> None:
    inputs = Inputs(BUTTONS, THREE_BUTTONS.patterns)
    edges = press("mark", 1000, 2500) + press("privacy", 1040, 2500) + press("record", 1080, 200)
    assert told(run(inputs, edges)) == ["short:record", "chord hold 2s:mark+privacy"]


def test_two_of_a_chord_of_three_are_told_as_nothing_known() -> None:
    inputs = inputs_for("chord:mark+privacy+record", "short:record", "short:mark")
    events = run(inputs, press("mark", 1000, 200) + press("record", 1040, 200))
    assert [(event.lines, event.why) for event in events if isinstance(event, Unmatched)] == [
        (("mark", "record"), UnmatchedReason.NO_PATTERN)
    ]


def test_switch_tells_its_moves_and_the_gestures_on_them() -> None:
    inputs = inputs_for("switch off:power")
    events = run(inputs, [Edge("power", True, 1000 * MS), Edge("power", False, 2000 * MS)])
    assert events == [
        SwitchMoved("power", on=True, at_ns=1000 * MS),
        SwitchMoved("power", on=False, at_ns=2000 * MS),
        Gesture(parse_pattern("switch off:power"), 2000 * MS, 2250 * MS, 0.0),
    ]


def test_switch_found_in_a_position_at_boot_is_a_fact_and_no_request() -> None:
    inputs = inputs_for("switch on:power")
    assert inputs.edge(Edge("power", True, 5 * MS, initial=True)) == [
        SwitchMoved("power", on=True, at_ns=5 * MS, found=True)
    ]


def test_level_trigger_is_raised_and_lowered_at_its_first_edges() -> None:
    events = run(inputs_for(), press("siren", 1000, 3_600_000))
    assert events == [TriggerRaised("siren", 1000 * MS), TriggerLowered("siren", 3_601_000 * MS)]


def test_impact_of_a_millisecond_raises_an_edge_trigger_at_once() -> None:
    inputs = inputs_for()
    assert inputs.edge(Edge("impact", True, 1000 * MS)) == [TriggerRaised("impact", 1000 * MS)]
    assert inputs.edge(Edge("impact", False, 1001 * MS)) == []


def test_rattling_impact_is_raised_once_a_second() -> None:
    events = run(inputs_for(), square("impact", 1000, high_ms=6, low_ms=9, until_ms=4500))
    assert [event.at_ns // MS for event in events if isinstance(event, TriggerRaised)] == [1000, 2005, 3010, 4015]
    assert not [event for event in events if isinstance(event, LineFault)]


def test_new_layout_ends_what_hands_are_in_the_middle_of() -> None:
    inputs = two_buttons()
    inputs.edge(Edge("record", True, 1000 * MS))
    inputs.tick(1100 * MS)
    patterns = [parse_pattern("short:record"), parse_pattern("hold 2s:record")]
    assert inputs.relayout(patterns, 2000 * MS) == [
        Unmatched(("record",), 1, 1000 * MS, 2000 * MS, 0.0, UnmatchedReason.FAULT)
    ]
    events = run(inputs, [Edge("record", False, 4000 * MS), *press("record", 6000, 100)])
    assert told(events) == ["short:record"]


def test_refused_layout_leaves_the_old_one_in_force() -> None:
    inputs = two_buttons()
    with pytest.raises(ConfigError, match="privacy"):
        inputs.relayout([parse_pattern("short:privacy")], 0)
    assert told(run(inputs, press("record", 1000, 90) + press("record", 1250, 90))) == ["double:record"]


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("short:horn", "there is: mark, privacy, record"),
        ("switch on:record", "expected the name of a switch"),
        ("hold 2s:power", "expected the name of a button"),
        ("short:siren", "expected the name of a button"),
    ],
)
def test_pattern_on_a_line_that_can_not_do_it_is_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        inputs_for(pattern)


def test_hold_that_is_no_longer_than_a_press_or_as_long_as_a_jam_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than a short press"):
        inputs_for("hold 1s:record", timing=Timing(short_ms=1000))
    with pytest.raises(ConfigError, match="counts as stuck"):
        Inputs([ButtonLine("record", stuck_ms=5000)], [parse_pattern("hold 5s:record")])


def test_two_lines_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="siren more than once"):
        Inputs([ButtonLine("siren"), TriggerLine("siren")], [])


def test_timing_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="gap_ms"):
        Timing(gap_ms=20)
    with pytest.raises(ConfigError, match="at least 1"):
        Timing(flood_presses=0)
