"""Output pins: they follow the indicator, and one that fails is told and tried again."""

from collections.abc import Iterator
from typing import Any

import pytest

from agent.core.indicator.signals import Output
from agent.errors import ConfigError
from agent.gpio.config import OutputConfig
from agent.gpio.controls import Outputs
from tests.gpio.pins import BUZZER, GREEN, HAPTIC, PIEZO, RED, simulated


@pytest.fixture
def factory() -> Iterator[Any]:
    with simulated() as pins:
        yield pins


def states(factory: Any, *pins: int) -> list[bool]:
    return [bool(factory.pin(pin).state) for pin in pins]


def test_outputs_are_off_at_first_and_follow_the_levels_with_their_polarity(factory: Any) -> None:
    outputs = Outputs([RED, GREEN, BUZZER, HAPTIC], factory)
    assert states(factory, 5, 6, 13, 19) == [False, True, False, False]
    outputs.apply({Output.RED: 1, Output.GREEN: 1, Output.TONE: 880, Output.HAPTIC: 1})
    assert states(factory, 5, 6, 13, 19) == [True, False, True, True]
    outputs.apply({Output.RED: 1})
    assert states(factory, 5, 6, 13, 19) == [True, True, False, False]
    outputs.close()


def test_everything_is_switched_off_before_the_outputs_are_given_back(factory: Any) -> None:
    outputs = Outputs([GREEN, HAPTIC], factory)
    green, haptic = factory.pin(6), factory.pin(19)
    outputs.apply({Output.GREEN: 1, Output.HAPTIC: 1})
    for pin in (green, haptic):
        pin.clear_states()
    outputs.close()
    assert bool(green.states[1].state) is True
    assert bool(haptic.states[1].state) is False


def test_level_that_stays_is_not_written_again(factory: Any) -> None:
    outputs = Outputs([RED], factory)
    outputs.apply({Output.RED: 1})
    factory.pin(5).broken = True
    outputs.apply({Output.RED: 1})
    assert outputs.faulty == {}
    factory.pin(5).broken = False
    outputs.close()


def test_piezo_is_given_the_frequency(factory: Any) -> None:
    outputs = Outputs([PIEZO], factory)
    outputs.apply({Output.TONE: 1760})
    assert (factory.pin(13).frequency, factory.pin(13).state) == (1760, 0.5)
    outputs.apply({Output.TONE: 440})
    assert (factory.pin(13).frequency, factory.pin(13).state) == (440, 0.5)
    outputs.apply({})
    assert factory.pin(13).state == 0.0
    outputs.close()


def test_only_light_shows_what_either_colour_would(factory: Any) -> None:
    outputs = Outputs([RED], factory)
    outputs.apply({Output.RED: 0, Output.GREEN: 1})
    assert states(factory, 5) == [True]
    outputs.apply({Output.RED: 0, Output.GREEN: 0})
    assert states(factory, 5) == [False]
    outputs.close()


def test_output_that_fails_is_told_does_not_hold_the_others_and_is_tried_again(factory: Any) -> None:
    outputs = Outputs([RED, HAPTIC], factory)
    factory.pin(5).broken = True
    outputs.apply({Output.RED: 1, Output.HAPTIC: 1})
    assert outputs.faulty == {Output.RED: "OSError: [Errno 19] No such device"}
    assert states(factory, 19) == [True]
    factory.pin(5).broken = False
    outputs.apply({Output.RED: 1, Output.HAPTIC: 1})
    assert outputs.faulty == {}
    assert states(factory, 5, 19) == [True, True]
    outputs.close()


def test_output_on_a_pin_that_is_not_there_is_refused(factory: Any) -> None:
    with pytest.raises(ConfigError, match="'haptic'"):
        Outputs([RED, OutputConfig(name="haptic", pin=77)], factory)
    Outputs([RED], factory).close()
