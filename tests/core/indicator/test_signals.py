"""Signals are told apart without a screen, come in the right order, and end."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import MS
from agent.core.indicator.indicator import Indicator
from agent.core.indicator.signals import (
    BACKGROUNDS,
    CUES,
    Background,
    Output,
    Priority,
    Signal,
    Step,
    Steps,
    pulses_ms,
    told_apart,
)

LIGHTS = (Output.RED, Output.GREEN)


def light(steps: dict[Output, Steps]) -> Steps:
    """What a light or an eye without colour sees of both: their sum, millisecond by millisecond."""
    lanes = [[bool(step.level) for step in steps.get(output, ()) for _ in range(step.ms)] for output in LIGHTS]
    longest = max(len(lane) for lane in lanes)
    total = [any(lane[at] for lane in lanes if at < len(lane)) for at in range(longest)]
    return tuple(Step(1, int(on)) for on in total)


def test_every_signal_and_background_has_its_pattern() -> None:
    assert set(CUES) == set(Signal)
    assert set(BACKGROUNDS) == set(Background)


def test_two_signals_never_feel_alike() -> None:
    felt = {signal: CUES[signal].steps[Output.HAPTIC] for signal in Signal}
    assert [pair for pair in combinations(Signal, 2) if not told_apart(felt[pair[0]], felt[pair[1]])] == []


def test_two_signals_never_look_alike_even_without_colour() -> None:
    seen = {signal: light(dict(CUES[signal].steps)) for signal in Signal}
    alike = [(one, other) for one, other in combinations(Signal, 2) if not told_apart(seen[one], seen[other])]
    assert alike == []


def test_two_signals_never_sound_alike_even_to_the_tone_deaf() -> None:
    tones = {signal: CUES[signal].steps[Output.TONE] for signal in Signal}
    assert [pair for pair in combinations(Signal, 2) if not told_apart(tones[pair[0]], tones[pair[1]])] == []


def test_two_backgrounds_never_look_alike_even_without_colour() -> None:
    def character(state: Background) -> tuple[int, float, int]:
        steps = light(dict(BACKGROUNDS[state])) if BACKGROUNDS[state] else (Step(1000, 0),)
        lit = sum(step.level for step in steps) / len(steps) if len(steps) > 1 else 0.0
        return len(pulses_ms(steps)), lit, len(steps)

    for one, other in combinations(Background, 2):
        (pulses, lit, cycle), (other_pulses, other_lit, other_cycle) = character(one), character(other)
        slower, faster = max(cycle, other_cycle), min(cycle, other_cycle)
        assert pulses != other_pulses or abs(lit - other_lit) >= 0.25 or slower >= 2 * faster, (one, other)


def test_told_apart_asks_for_more_than_a_nuance() -> None:
    one = (Step(100, 1), Step(100, 0), Step(100, 1))
    assert not told_apart(one, (Step(100, 1), Step(500, 0), Step(199, 1)))
    assert told_apart(one, (Step(100, 1), Step(100, 0), Step(200, 1)))
    assert told_apart(one, (Step(100, 1),))
    assert pulses_ms((Step(50, 440), Step(50, 880), Step(10, 0), Step(5, 1))) == (100, 5)


def test_signals_are_long_enough_for_a_motor_and_short_enough_for_a_wearer() -> None:
    for cue in CUES.values():
        assert cue.duration_ms <= 3500
        for step in cue.steps[Output.HAPTIC]:
            assert step.ms >= 80
        for output in LIGHTS:
            assert all(step.ms >= 100 for step in cue.steps[output])


def test_answer_to_a_hand_is_felt_at_once_and_ends_in_the_background() -> None:
    indicator = Indicator()
    indicator.background(Background.RECORDING, 0)
    assert indicator.levels(0) == {Output.RED: 1, Output.GREEN: 0, Output.TONE: 0, Output.HAPTIC: 0}
    indicator.show(Signal.GRANTED, 1000 * MS)
    assert indicator.levels(1000 * MS) == {Output.RED: 0, Output.GREEN: 0, Output.TONE: 1760, Output.HAPTIC: 1}
    assert indicator.next_change_ns(1000 * MS) == 1080 * MS
    assert indicator.levels(1080 * MS)[Output.HAPTIC] == 0
    assert indicator.levels(1220 * MS)[Output.GREEN] == 1
    end_ns = (1000 + CUES[Signal.GRANTED].duration_ms) * MS
    assert indicator.playing(end_ns - 1) is Signal.GRANTED
    assert indicator.playing(end_ns) is None
    assert indicator.levels(end_ns) == {Output.RED: 1, Output.GREEN: 0, Output.TONE: 0, Output.HAPTIC: 0}
    assert indicator.next_change_ns(end_ns) is None


def test_fault_interrupts_an_answer_which_is_then_told_whole() -> None:
    indicator = Indicator()
    indicator.show(Signal.REFUSED, 0)
    indicator.show(Signal.STORAGE_FAULT, 300 * MS)
    assert indicator.playing(300 * MS) is None
    assert indicator.levels(300 * MS)[Output.HAPTIC] == 0
    assert indicator.playing(550 * MS) is Signal.STORAGE_FAULT
    answer_ns = (550 + CUES[Signal.STORAGE_FAULT].duration_ms + 250) * MS
    assert indicator.playing(answer_ns) is Signal.REFUSED
    assert indicator.levels(answer_ns)[Output.HAPTIC] == 1


def test_answer_that_is_no_longer_news_is_dropped() -> None:
    indicator = Indicator()
    indicator.show(Signal.FAULT, 0)
    indicator.show(Signal.HOLD_REACHED, 10 * MS)
    over_ns = (CUES[Signal.FAULT].duration_ms + 250) * MS
    assert indicator.playing(over_ns) is None
    assert indicator.next_change_ns(over_ns) is None


def test_clock_that_goes_back_does_not_tell_a_signal_again() -> None:
    indicator = Indicator()
    indicator.show(Signal.MARKED, 1000 * MS)
    assert indicator.playing(9000 * MS) is None
    assert indicator.playing(1000 * MS) is None
    indicator.show(Signal.MARKED, 500 * MS)
    assert indicator.playing(0) is Signal.MARKED


def told_in_order(indicator: Indicator) -> list[Signal]:
    order: list[Signal] = []
    now_ns: int | None = 0
    while now_ns is not None:
        playing = indicator.playing(now_ns)
        if playing is not None and (not order or order[-1] is not playing):
            order.append(playing)
        now_ns = indicator.next_change_ns(now_ns)
    return order


def test_of_everything_at_once_only_the_weightiest_waits() -> None:
    indicator = Indicator()
    faults = [Signal.FAULT, Signal.STORAGE_FAULT]
    answers = [signal for signal in Signal if CUES[signal].priority is Priority.ANSWER]
    for signal in (Signal.REMINDER, *answers, *faults, Signal.READY, Signal.DOCKED, Signal.UNDOCKED):
        indicator.show(signal, 0)
    order = told_in_order(indicator)
    assert order[:2] == faults
    assert len(order) <= 9
    assert Signal.UNDOCKED not in order


def test_signals_of_one_priority_keep_their_order_and_a_pause_between_them() -> None:
    indicator = Indicator()
    for signal in (Signal.GRANTED, Signal.SAY_REASON, Signal.MARKED):
        indicator.show(signal, 0)
    assert told_in_order(indicator) == [Signal.GRANTED, Signal.SAY_REASON, Signal.MARKED]


def test_higher_priority_goes_before_what_came_earlier() -> None:
    indicator = Indicator()
    indicator.show(Signal.STANDBY, 0)
    indicator.show(Signal.DOCKED, 1)
    indicator.show(Signal.STORAGE_LOW, 2)
    first_end_ns = (CUES[Signal.STANDBY].duration_ms + 250) * MS
    assert indicator.playing(first_end_ns) is Signal.STORAGE_LOW


def test_same_signal_does_not_wait_twice() -> None:
    indicator = Indicator()
    for at in range(100):
        indicator.show(Signal.BATTERY_LOW, at)
    cue_ns = CUES[Signal.BATTERY_LOW].duration_ms * MS
    assert indicator.playing(cue_ns + 250 * MS) is Signal.BATTERY_LOW
    assert indicator.playing(2 * cue_ns + 500 * MS + 100) is None


def test_stealth_leaves_only_what_is_felt() -> None:
    indicator = Indicator(stealth=True)
    indicator.background(Background.RECORDING, 0)
    indicator.show(Signal.STARTED, 0)
    assert indicator.levels(0) == {Output.RED: 0, Output.GREEN: 0, Output.TONE: 0, Output.HAPTIC: 1}
    indicator.set_stealth(10 * MS, on=False)
    assert indicator.levels(10 * MS)[Output.TONE] > 0
    assert not indicator.stealth


def test_background_blinks_by_the_clock() -> None:
    indicator = Indicator()
    indicator.background(Background.STANDBY, 500 * MS)
    assert indicator.levels(500 * MS)[Output.GREEN] == 1
    assert indicator.next_change_ns(500 * MS) == 560 * MS
    assert indicator.levels(560 * MS)[Output.GREEN] == 0
    assert indicator.next_change_ns(560 * MS) == 4500 * MS
    assert indicator.levels(4500 * MS)[Output.GREEN] == 1
    assert indicator.levels(100_000 * MS) == dict.fromkeys(Output, 0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*Signal, *Background]), st.integers(-2000, 4000)),
        max_size=30,
    )
)
def test_indicator_never_raises_never_lies_about_its_next_change_and_comes_to_rest(
    shown: list[tuple[Signal | Background, int]],
) -> None:
    indicator = Indicator()
    now_ns = 0
    for what, step_ms in shown:
        now_ns += step_ms * MS
        if isinstance(what, Signal):
            indicator.show(what, now_ns)
        else:
            indicator.background(what, now_ns)
    now_ns = max(0, now_ns) + 10**11
    indicator.background(Background.RECORDING, now_ns)
    assert indicator.next_change_ns(now_ns) is None
    indicator.show(Signal.CAPTURE_REQUEST, now_ns)
    while (next_ns := indicator.next_change_ns(now_ns)) is not None:
        assert next_ns > now_ns
        before = indicator.levels(now_ns)
        middle_ns = (now_ns + next_ns) // 2
        assert indicator.levels(middle_ns) == before
        now_ns = next_ns
    assert indicator.levels(now_ns) == {Output.RED: 1, Output.GREEN: 0, Output.TONE: 0, Output.HAPTIC: 0}


def test_what_hands_wait_for_is_told_before_what_can_wait() -> None:
    answers = (Signal.GRANTED, Signal.REFUSED, Signal.SAY_REASON, Signal.CAPTURE_REQUEST, Signal.AUTHORISE)
    assert {CUES[signal].priority for signal in answers} == {Priority.ANSWER}
    assert CUES[Signal.REMINDER].priority is Priority.INFORMATION
    assert CUES[Signal.FAULT].priority is CUES[Signal.STORAGE_FAULT].priority is Priority.FAULT
