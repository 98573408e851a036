"""Input pins: every edge is handed on with its time, and no fault of a pin ever gets further than a report."""

from collections.abc import Iterator
from typing import Any

import pytest
from gpiozero import Device

from agent.core.inputs.lines import Edge
from agent.errors import ConfigError
from agent.gpio.config import ButtonConfig
from agent.gpio.pins import MAX_EDGES_PER_S, InputPins, make_pin_factory
from tests.gpio.pins import ALL_INPUTS, FLOATING, MARK, NORMALLY_CLOSED, RECORD, SIREN, simulated
from tests.support.clocks import FakeClocks


@pytest.fixture
def factory() -> Iterator[Any]:
    with simulated() as pins:
        yield pins


def opened(factory: Any, *inputs: Any) -> tuple[InputPins, list[Edge], FakeClocks]:
    clocks = FakeClocks(monotonic_ns=1000)
    edges: list[Edge] = []
    controls = InputPins(inputs, factory, clocks)
    controls.start(edges.append)
    return controls, edges, clocks


def test_level_of_every_line_is_handed_on_as_it_is_found(factory: Any) -> None:
    controls, edges, _ = opened(factory, *ALL_INPUTS)
    # The floating pin is low, and low means active there; the normally closed button's pull-up reads high.
    assert edges == [
        Edge("record", False, 1000, initial=True),
        Edge("mark", False, 1000, initial=True),
        Edge("guard", True, 1000, initial=True),
        Edge("touch", True, 1000, initial=True),
        Edge("slide", False, 1000, initial=True),
        Edge("siren", False, 1000, initial=True),
    ]
    controls.close()


@pytest.mark.parametrize(
    ("config", "pin", "active_is_high"),
    [(RECORD, 17, False), (NORMALLY_CLOSED, 4, True), (FLOATING, 18, False), (SIREN, 22, True)],
)
def test_edges_are_handed_on_with_polarity_and_time(factory: Any, config: Any, pin: int, active_is_high: bool) -> None:
    controls, edges, clocks = opened(factory, config)
    drive = factory.pin(pin)
    on, off = (drive.drive_high, drive.drive_low) if active_is_high else (drive.drive_low, drive.drive_high)
    off()
    edges.clear()
    for step, move in enumerate((on, off, on)):
        clocks.now_ns = 5000 + step
        move()
    assert edges == [Edge(config.name, step != 1, 5000 + step) for step in range(3)]
    controls.close()


def test_nothing_is_handed_on_before_the_start_and_after_the_end(factory: Any) -> None:
    edges: list[Edge] = []
    controls = InputPins([RECORD], factory, FakeClocks())
    factory.pin(17).drive_low()
    controls.start(edges.append)
    assert edges == [Edge("record", True, 0, initial=True)]
    controls.close()
    factory.pin(17).drive_high()
    assert len(edges) == 1


def test_press_between_the_first_reading_and_the_listening_is_not_lost(factory: Any) -> None:
    edges: list[Edge] = []

    def take(edge: Edge) -> None:
        edges.append(edge)
        if edge.initial:
            factory.pin(17).drive_low()

    controls = InputPins([RECORD], factory, FakeClocks())
    controls.start(take)
    assert edges == [Edge("record", False, 0, initial=True), Edge("record", True, 0)]
    controls.close()


def test_missed_edge_is_made_up_for(factory: Any) -> None:
    controls, edges, clocks = opened(factory, RECORD)
    pin = factory.pin(17)
    pin.when_changed = None
    pin.drive_low()
    assert len(edges) == 1
    clocks.now_ns = 7000
    controls.check()
    controls.check()
    assert edges[1:] == [Edge("record", True, 7000)]
    controls.close()


def test_pin_that_goes_away_is_reported_once_and_comes_back_without_an_edge(factory: Any) -> None:
    controls, edges, clocks = opened(factory, RECORD, MARK)
    edges.clear()
    factory.pin(17).broken = True
    clocks.now_ns = 7000
    controls.check()
    controls.check()
    assert edges == [Edge("record", False, 7000, problem="OSError: [Errno 19] No such device")]
    factory.pin(17).drive_low()
    factory.pin(17).broken = False
    clocks.now_ns = 9000
    controls.check()
    assert edges[1:] == [Edge("record", True, 9000, initial=True)]
    controls.close()


def test_pin_that_can_not_be_read_at_the_start_is_an_event(factory: Any) -> None:
    edges: list[Edge] = []
    controls = InputPins([RECORD], factory, FakeClocks())
    factory.pin(17).broken = True
    controls.start(edges.append)
    assert [edge.problem != "" for edge in edges] == [True]
    controls.close()


def test_storm_of_edges_does_not_flood_the_control_thread(factory: Any) -> None:
    controls, edges, clocks = opened(factory, RECORD)
    pin = factory.pin(17)
    for number in range(20_001):
        clocks.now_ns = 10**9 + number * 49_000
        (pin.drive_high if number % 2 else pin.drive_low)()
    assert len(edges) == 1 + MAX_EDGES_PER_S
    controls.check()
    assert edges[-1].active  # the storm ended low
    clocks.now_ns = 3 * 10**9
    pin.drive_high()
    assert edges[-1] == Edge("record", False, 3 * 10**9)
    controls.close()


@pytest.mark.parametrize("pin", [99, "GPIO99", "BOARD1", "nonsense"])
def test_pin_that_is_not_there_is_refused_by_name(factory: Any, pin: int | str) -> None:
    with pytest.raises(ConfigError, match="'mend'") as refusal:
        InputPins([RECORD, ButtonConfig(name="mend", pin=pin)], factory, FakeClocks())
    assert repr(pin) in str(refusal.value)
    # What was opened before was given back.
    InputPins([RECORD], factory, FakeClocks()).close()


def test_pin_that_is_taken_is_refused(factory: Any) -> None:
    controls = InputPins([RECORD], factory, FakeClocks())
    with pytest.raises(ConfigError, match="can't use pin 17 for input 'other'"):
        InputPins([ButtonConfig(name="other", pin=17)], factory, FakeClocks())
    controls.close()


def test_pin_with_a_pull_resistor_on_the_board_can_not_be_pulled_the_other_way(factory: Any) -> None:
    with pytest.raises(ConfigError, match="pull"):
        InputPins([ButtonConfig(name="record", pin=2, pull="down")], factory, FakeClocks())


def test_same_pin_given_twice_is_refused(factory: Any) -> None:
    with pytest.raises(ConfigError, match="'mark'"):
        InputPins([RECORD, ButtonConfig(name="mark", pin="GPIO17")], factory, FakeClocks())


def test_global_pin_factory_is_left_alone() -> None:
    before = Device.pin_factory
    factory = make_pin_factory("mock")
    controls, _, _ = opened(factory, RECORD)
    assert Device.pin_factory is before
    controls.close()
    factory.close()


def test_machine_without_gpio_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gpiozero.pins.lgpio", None)
    with pytest.raises(ConfigError, match='pin_factory = "mock"'):
        make_pin_factory("lgpio")
