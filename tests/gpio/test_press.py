"""Bench presses: what is pressed on a simulated pin is what a hand would have pressed, and only there."""

from collections.abc import Iterator
from typing import Any

import pytest

from agent.clock import NS
from agent.core.inputs.events import Fault, Gesture, InputEvent, LineFault, LineRecovered, TriggerRaised
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import Edge
from agent.domain.layout import TWO_BUTTONS
from agent.errors import ControlError
from agent.gpio.pins import InputPins
from agent.gpio.press import SimulatedPresses, plan_moves, plan_presses
from tests.gpio.pins import ALL_INPUTS, MARK, RECORD, SIREN, SLIDE, simulated
from tests.support.clocks import FakeClocks
from tests.support.presses import run


class Rig:
    """Simulated pins, the bench that works them, and the edges that came of it."""

    def __init__(self, factory: Any) -> None:
        self.clocks = FakeClocks(monotonic_ns=NS)
        self.edges: list[Edge] = []
        self.controls = InputPins([RECORD, MARK, SLIDE, SIREN], factory, self.clocks)
        self.controls.start(self.edges.append)
        self.bench = SimulatedPresses([RECORD, MARK, SLIDE, SIREN], factory, self.clocks)

    def work(self, *, late_ns: int = 0) -> None:
        """Lets time pass until all is done, each turn as late as the machine is busy."""
        while (due_ns := self.bench.next_deadline_ns()) is not None:
            self.clocks.now_ns = max(self.clocks.now_ns, due_ns) + late_ns
            self.bench.tick(self.clocks.now_ns)

    def told(self) -> list[InputEvent]:
        lines = [config.line() for config in (RECORD, MARK, SLIDE, SIREN)]
        return run(Inputs(lines, TWO_BUTTONS.patterns), self.edges)

    def gestures(self) -> list[str]:
        return [str(event.pattern) for event in self.told() if isinstance(event, Gesture)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with simulated() as factory:
        rig = Rig(factory)
        yield rig
        rig.controls.close()


@pytest.mark.parametrize("late_ns", [0, 1, 20_000_000])
@pytest.mark.parametrize(
    ("name", "hold_s", "times", "gesture"),
    [
        ("record", 0.1, 1, "short:record"),
        ("record", 0.1, 2, "double:record"),
        ("mark", 0.06, 3, "triple:mark"),
        ("record", 3, 1, "hold 3s:record"),
        ("record", 8.0, 1, "hold 8s:record"),
        ("record+mark", 0.3, 1, "chord:mark+record"),
        ("mark+record", 2.0, 1, "chord hold 2s:mark+record"),
    ],
)
def test_bench_press_is_read_as_the_gesture_it_stands_for(
    rig: Rig, name: str, hold_s: float, times: int, *, gesture: str, late_ns: int
) -> None:
    assert rig.bench.press(name, hold_s, times) == times
    rig.work(late_ns=late_ns)
    assert rig.gestures() == [gesture]


def test_busy_machine_makes_a_press_late_but_never_shorter(rig: Rig) -> None:
    rig.bench.press("record", 0.1, 2)
    rig.work(late_ns=2 * NS)
    times = [edge.at_ns for edge in rig.edges if edge.line == "record" and not edge.initial]
    assert all(later - sooner >= NS // 10 for sooner, later in zip(times[::2], times[1::2], strict=True))


def test_stall_at_the_beginning_of_a_press_does_not_shorten_it(rig: Rig) -> None:
    rig.bench.press("record", 0.1)
    rig.clocks.advance(5)
    rig.bench.tick(rig.clocks.now_ns)
    rig.bench.tick(rig.clocks.now_ns)
    assert rig.bench.next_deadline_ns() == rig.clocks.now_ns + 101_000_000


def test_thousand_presses_a_minute_from_the_bench_are_told_as_such(rig: Rig) -> None:
    began_ns = rig.clocks.now_ns
    assert rig.bench.press("record", 0.03, 1000) == 1000
    rig.work()
    assert 60 <= (rig.clocks.now_ns - began_ns) / NS < 63
    told = rig.told()
    assert rig.gestures() == []
    assert [event.fault for event in told if isinstance(event, LineFault)] == [Fault.CHATTER]
    assert [event.fault for event in told if isinstance(event, LineRecovered)] == [Fault.CHATTER]


def test_press_of_a_switch_moves_it_to_its_other_position(rig: Rig) -> None:
    rig.bench.press("slide")
    rig.work()
    assert rig.edges[-1] == Edge("slide", True, rig.clocks.now_ns)
    rig.bench.press("slide", times=2)
    rig.work()
    assert [edge.active for edge in rig.edges if edge.line == "slide" and not edge.initial] == [True, False, True]


def test_press_of_a_trigger_raises_it(rig: Rig) -> None:
    rig.bench.press("siren", 5.0)
    rig.work()
    assert [event.line for event in rig.told() if isinstance(event, TriggerRaised)] == ["siren"]


def test_two_lines_can_be_pressed_at_once_but_not_one_twice(rig: Rig) -> None:
    rig.bench.press("record", 3.0)
    rig.bench.tick(rig.clocks.now_ns)
    rig.clocks.advance(1)
    rig.bench.press("mark", 0.1)
    with pytest.raises(ControlError, match="record is being pressed"):
        rig.bench.press("record+mark")
    rig.work()
    assert rig.gestures() == ["short:mark", "hold 3s:record"]
    rig.bench.press("record")


@pytest.mark.parametrize(
    ("name", "hold_s", "times", "complaint"),
    [
        ("horn", 0.1, 1, "mark, record, siren, slide"),
        ("", 0.1, 1, "expected the name"),
        ("record+record", 0.1, 1, "different"),
        ("record+slide", 0.1, 1, "by itself"),
        ("record", 0.0, 1, "0.03 to 60"),
        ("record", 61.0, 1, "0.03 to 60"),
        ("record", float("nan"), 1, "0.03 to 60"),
        ("record", float("inf"), 1, "0.03 to 60"),
        ("record", 0.1, 0, "1 to 1000"),
        ("record", 0.1, 1001, "1 to 1000"),
    ],
)
def test_press_that_makes_no_sense_is_refused(rig: Rig, name: str, hold_s: float, times: int, complaint: str) -> None:
    with pytest.raises(ControlError, match="expected") as refusal:
        rig.bench.press(name, hold_s, times)
    assert complaint in str(refusal.value)
    assert rig.bench.next_deadline_ns() is None


class RealPins:
    """Stands for a factory of real pins: all that matters is that it is not gpiozero's mock factory."""


@pytest.mark.parametrize("factory", [RealPins(), None])
def test_press_on_real_pins_is_refused(factory: object) -> None:
    bench = SimulatedPresses(ALL_INPUTS, factory, FakeClocks())
    with pytest.raises(ControlError, match='pin_factory = "mock"'):
        bench.press("record")
    assert bench.next_deadline_ns() is None


def test_plans_end_with_every_line_at_rest() -> None:
    for lines in (["record"], ["record", "mark"]):
        level: dict[str, bool] = {}
        for step in plan_presses(lines, 0.1, 7):
            assert level.get(step.line, False) is not step.active
            level[step.line] = step.active
        assert not any(level.values())
    assert [step.active for step in plan_moves("slide", 3, on=False)] == [False, True, False]
