"""Lines that are busy, and chips that are missing: reported, tried again, and no reason not to record."""

from collections.abc import Iterator

import pytest

from agent.clock import NS
from agent.core.indicator.signals import Background
from agent.core.inputs.lines import Edge
from agent.core.recording.events import LineFaulty, LineRecovered
from agent.gpio.config import ControlsConfig
from agent.gpio.controls import HardwareControls
from agent.gpio.pins import OLDEST_NS, InputPins
from tests.gpio.pins import GREEN, MARK, RECORD, RED, ShyFactory
from tests.support.clocks import FakeClocks

CONFIG = ControlsConfig(pin_factory="mock", buttons=(RECORD, MARK), outputs=(RED, GREEN))


@pytest.fixture
def factory() -> Iterator[ShyFactory]:
    factory = ShyFactory()
    try:
        yield factory
    finally:
        factory.close()


def test_busy_line_is_reported_with_its_holder_while_the_others_work(factory: ShyFactory) -> None:
    factory.busy = {17}
    edges: list[Edge] = []
    controls = InputPins([RECORD, MARK], factory, FakeClocks(monotonic_ns=1000))
    assert controls.problems == {"record": "line 17 is busy: held by 'somebody'"}
    controls.start(edges.append)
    assert edges == [
        Edge("record", False, 1000, problem="line 17 is busy: held by 'somebody'"),
        Edge("mark", False, 1000, initial=True),
    ]
    factory.pin(27).drive_low()
    assert edges[2:] == [Edge("mark", True, 1000)]
    controls.close()


def test_line_that_was_busy_is_taken_once_it_is_free_and_listened_to(factory: ShyFactory) -> None:
    factory.busy = {17}
    edges: list[Edge] = []
    controls = InputPins([RECORD], factory, FakeClocks(monotonic_ns=1000))
    controls.start(edges.append)
    controls.check()
    controls.check()
    assert len(edges) == 1  # told once
    factory.busy = set()
    controls.check()
    assert edges[1:] == [Edge("record", False, 1000, initial=True)]
    assert controls.problems == {}
    factory.pin(17).drive_low()
    assert edges[2:] == [Edge("record", True, 1000)]
    controls.close()


def test_recorder_without_its_chip_begins_all_the_same(factory: ShyFactory) -> None:
    factory.gone = True
    clocks = FakeClocks(monotonic_ns=NS)
    hands = HardwareControls(CONFIG, clocks, factory)
    told: list[object] = []
    hands.open(told.append)
    hands.background(Background.RECORDING, clocks.now_ns)
    hands.turn(clocks.now_ns)
    assert set(hands.problems) == {"record", "mark", "output red", "output green"}
    assert [each.line for each in told if isinstance(each, LineFaulty)] == ["output green", "output red"]
    assert hands.levels() == {"record": None, "mark": None}
    factory.gone = False
    clocks.advance(1.5)
    hands.turn(clocks.now_ns)
    assert hands.problems == {}
    assert hands.levels() == {"record": False, "mark": False}
    hands.turn(clocks.now_ns)
    assert {each.line for each in told if isinstance(each, LineRecovered)} == {"output green", "output red"}
    assert factory.pin(5).state == 1  # it shows what it should have shown before
    hands.close()


@pytest.mark.parametrize(
    ("ticks_ns", "stamped_ns"),
    [
        (99 * NS, 99 * NS),  # the kernel's time of the edge, and not that at which it was heard of
        (100 * NS, 100 * NS),
        (101 * NS, 100 * NS),  # of another clock
        (100 * NS - OLDEST_NS - 1, 100 * NS),
        (0, 100 * NS),
    ],
)
def test_edge_bears_the_time_of_the_kernel_if_it_can_be_that(
    factory: ShyFactory, ticks_ns: int, stamped_ns: int
) -> None:
    edges: list[Edge] = []
    controls = InputPins([RECORD], factory, FakeClocks(monotonic_ns=100 * NS))
    controls.start(edges.append)
    factory.pin(17).when_changed(ticks_ns / NS, 0)
    assert edges[-1] == Edge("record", True, stamped_ns)
    controls.close()
