"""Simulated pins for tests of the controls, and TOML-free configurations of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpiozero.pins.mock import MockFactory, MockPWMPin

from agent.errors import DeviceError
from agent.gpio.config import ButtonConfig, OutputConfig, SwitchConfig, TriggerConfig

RECORD = ButtonConfig(name="record", pin=17)
MARK = ButtonConfig(name="mark", pin=27)
NORMALLY_CLOSED = ButtonConfig(name="guard", pin=4, pull="up", active_high=True)
FLOATING = ButtonConfig(name="touch", pin=18, pull="floating", active_high=False)
SLIDE = SwitchConfig(name="slide", pin=23)
SIREN = TriggerConfig(name="siren", pin="GPIO22", pull="down")
ALL_INPUTS = (RECORD, MARK, NORMALLY_CLOSED, FLOATING, SLIDE, SIREN)

RED = OutputConfig(name="red", pin=5)
GREEN = OutputConfig(name="green", pin=6, active_high=False)
BUZZER = OutputConfig(name="tone", pin=13)
PIEZO = OutputConfig(name="tone", pin=13, passive=True)
HAPTIC = OutputConfig(name="haptic", pin=19)


class FailingPin(MockPWMPin):  # type: ignore[misc]
    """A pin that can break: like a chip whose device file went away."""

    def __init__(self, factory: Any, info: Any) -> None:
        super().__init__(factory, info)
        self.broken = False

    def _get_state(self) -> Any:
        if self.broken:
            raise OSError(19, "No such device")
        return super()._get_state()

    def _set_state(self, value: Any) -> None:
        if self.broken:
            raise OSError(19, "No such device")
        super()._set_state(value)


@contextmanager
def simulated() -> Iterator[Any]:
    """A pin factory of its own for one test, closed at its end; gpiozero's global one is left alone."""
    factory = MockFactory(pin_class=FailingPin)
    try:
        yield factory
    finally:
        factory.close()


class ShyFactory(MockFactory):  # type: ignore[misc]
    """Pins of a chip that may be gone, some of which somebody else may hold: as `ChipFactory` says it."""

    def __init__(self) -> None:
        super().__init__(pin_class=FailingPin)
        self.gone = False
        self.busy: set[int | str] = set()

    def reserve_pins(self, requester: Any, *names: Any) -> None:
        if self.gone:
            raise DeviceError(19, "no GPIO chip is there")
        for name in names:
            if name in self.busy:
                raise DeviceError(16, f"line {name} is busy: held by 'somebody'")
        super().reserve_pins(requester, *names)
