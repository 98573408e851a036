"""The whole path over simulated pins: a hand on a button, a gesture, a signal on the lights."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.clock import NS
from agent.core.indicator.signals import CUES, Background, Signal
from agent.core.inputs.events import Gesture, InputEvent, LineFault
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import Edge
from agent.core.recording.events import LineFaulty, LineRecovered
from agent.errors import ConfigError, ControlError
from agent.gpio.config import ControlsConfig
from agent.gpio.controls import HardwareControls
from tests.gpio.pins import BUZZER, GREEN, HAPTIC, MARK, RECORD, RED, SIREN, simulated
from tests.support.clocks import FakeClocks

CONFIG = ControlsConfig(
    pin_factory="mock", buttons=(RECORD, MARK), triggers=(SIREN,), outputs=(RED, GREEN, BUZZER, HAPTIC)
)


class Rig:
    """A control thread's work, step by step: drain what was put, let time pass for the inputs, turn the controls."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.clocks = FakeClocks(monotonic_ns=NS)
        self.controls = HardwareControls(CONFIG, self.clocks, factory)
        self.inputs = Inputs(self.controls.lines, self.controls.layout.patterns)
        self.items: list[Edge | LineFaulty | LineRecovered | Callable[[], None]] = []
        self.told: list[InputEvent] = []
        self.reports: list[LineFaulty | LineRecovered] = []
        self.controls.open(self.items.append)

    def run(self, seconds: float) -> None:
        end_ns = self.clocks.now_ns + round(seconds * NS)
        while self.clocks.now_ns < end_ns:
            now_ns = self.clocks.now_ns
            while self.items:
                item = self.items.pop(0)
                if isinstance(item, Edge):
                    self.told += self.inputs.edge(item)
                elif callable(item):
                    item()
                else:
                    self.reports.append(item)
            self.told += self.inputs.tick(now_ns)
            wait_s = self.controls.turn(now_ns)
            due_ns = [now_ns + max(1, round(wait_s * NS)), end_ns]
            deadline_ns = self.inputs.next_deadline_ns()
            if deadline_ns is not None:
                due_ns.append(max(deadline_ns, now_ns + 1))
            if not self.items:
                self.clocks.now_ns = min(due_ns)

    def gestures(self) -> list[str]:
        return [str(event.pattern) for event in self.told if isinstance(event, Gesture)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with simulated() as factory:
        rig = Rig(factory)
        yield rig
        rig.controls.close()


def test_bench_presses_come_through_the_pins_as_gestures(rig: Rig) -> None:
    assert rig.controls.press("record", 0.1, 2) == 2
    rig.run(2)
    rig.controls.press("record", 3.0, 1)
    rig.run(5)
    assert rig.gestures() == ["double:record", "hold 3s:record"]


def test_press_wakes_the_thread_that_turns(rig: Rig) -> None:
    rig.items.clear()
    rig.controls.press("record", 0.1, 1)
    assert len(rig.items) == 1


def test_signal_goes_to_light_and_motor_and_the_background_comes_back(rig: Rig) -> None:
    rig.controls.background(Background.RECORDING, rig.clocks.now_ns)
    rig.run(0.01)
    assert rig.factory.pin(5).state == 1
    rig.controls.show(Signal.REFUSED, rig.clocks.now_ns)
    rig.controls.turn(rig.clocks.now_ns)
    assert [bool(rig.factory.pin(pin).state) for pin in (5, 13, 19)] == [False, True, True]
    pulses = [state.state for state in rig.factory.pin(19).states]
    rig.run(CUES[Signal.REFUSED].duration_ms / 1000)
    assert [bool(state.state) for state in rig.factory.pin(19).states[len(pulses) :]] == [
        False,
        True,
        False,
        True,
        False,
    ]
    rig.run(0.01)
    assert [bool(rig.factory.pin(pin).state) for pin in (5, 13, 19)] == [True, False, False]


def test_stealth_darkens_the_lights(rig: Rig) -> None:
    rig.controls.background(Background.RECORDING, rig.clocks.now_ns)
    rig.controls.stealth(rig.clocks.now_ns, on=True)
    rig.run(0.01)
    assert rig.factory.pin(5).state == 0


def test_pin_lost_while_running_is_a_fault_and_comes_back(rig: Rig) -> None:
    rig.run(0.5)
    rig.factory.pin(17).broken = True
    rig.run(3)
    (fault,) = [event for event in rig.told if isinstance(event, LineFault)]
    assert (fault.line, fault.fault) == ("record", "lost")
    rig.factory.pin(17).broken = False
    rig.run(2)
    rig.controls.press("record", 0.1, 2)
    rig.run(1)
    assert rig.gestures() == ["double:record"]


def test_output_lost_while_running_is_reported_once_each_way(rig: Rig) -> None:
    rig.factory.pin(19).broken = True
    rig.controls.show(Signal.FAULT, rig.clocks.now_ns)
    rig.run(4)
    rig.factory.pin(19).broken = False
    rig.controls.show(Signal.FAULT, rig.clocks.now_ns)
    rig.run(4)
    assert [(type(report), report.line) for report in rig.reports] == [
        (LineFaulty, "output haptic"),
        (LineRecovered, "output haptic"),
    ]


def test_closed_hands_are_dark_and_silent(rig: Rig) -> None:
    rig.controls.background(Background.RECORDING, rig.clocks.now_ns)
    rig.run(0.01)
    red = rig.factory.pin(5)
    rig.controls.press("record", 0.1, 1)
    record = rig.factory.pin(17)
    rig.controls.close()
    rig.controls.close()
    assert red.state == 0
    assert rig.controls.turn(rig.clocks.now_ns) > 0
    assert record.state  # not pressed any more


def test_wrong_output_gives_the_inputs_back() -> None:
    with simulated() as factory:
        wrong = ControlsConfig(pin_factory="mock", buttons=(RECORD, MARK), outputs=(RED.__class__(name="red", pin=17),))
        with pytest.raises(ConfigError, match="'red'"):
            HardwareControls(wrong, FakeClocks(), factory)
        HardwareControls(CONFIG, FakeClocks(), factory).close()


def test_device_without_controls_needs_no_pins_at_all() -> None:
    hands = HardwareControls(ControlsConfig(), FakeClocks())
    hands.open(lambda _item: None)
    hands.show(Signal.STARTED, 0)
    assert hands.turn(0) >= 0
    assert hands.lines == ()
    with pytest.raises(ControlError, match="mock"):
        hands.press("record", 0.1, 1)
    hands.close()
