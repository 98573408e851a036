"""Output pins: lights, tone and vibration are brought to the levels that the indicator says."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from agent.core.indicator.signals import Output
from agent.errors import ConfigError, DeviceError
from agent.gpio.config import OutputConfig
from agent.gpio.pins import PinFactory, open_device, said

_LIGHTS = (Output.RED, Output.GREEN)


class Outputs:
    """The outputs of a device, open and off.

    Args:
        configs: What is wired where.
        pin_factory: Whose pins.

    Attributes:
        faulty: What was said of the outputs that could not be opened or set, by output.

    Raises:
        ConfigError: A pin is not there or is used twice.
    """

    def __init__(self, configs: Sequence[OutputConfig], pin_factory: PinFactory) -> None:
        self.faulty: dict[Output, str] = {}
        self._configs = {config.output: config for config in configs}
        self._factory = pin_factory
        self._devices: dict[Output, Any] = {}
        self._levels: dict[Output, int] = {}
        lights = [output for output in self._configs if output in _LIGHTS]
        self._only_light = lights[0] if len(lights) == 1 else None
        try:
            for output in self._configs:
                try:
                    self._open(output)
                except DeviceError as error:
                    self.faulty[output] = said(error)[:200]
        except ConfigError:
            self.close()
            raise

    def apply(self, levels: Mapping[Output, int]) -> None:
        """Sets what differs from before. Never raises: an output that fails is in `faulty` until it works again."""
        for output in self._devices:
            level = self._wanted(output, levels)
            if level != self._levels[output]:
                self._set(output, level)

    def check(self, levels: Mapping[Output, int]) -> None:
        """Tries the faulty ones again, opened anew; to be called now and then, for it costs more than `apply`."""
        for output in tuple(self.faulty):
            try:
                self._open(output)
            except Exception as error:  # noqa: BLE001 - as in `_set`
                self.faulty[output] = said(error)[:200]
            else:
                self._set(output, self._wanted(output, levels))

    def close(self) -> None:
        """Switches everything off and gives the pins back."""
        self.apply({})
        with contextlib.ExitStack() as stack:  # all of them, also if one can't be given back
            for device in self._devices.values():
                stack.callback(device.close)
            self._devices.clear()
            self._configs = {}

    def _wanted(self, output: Output, levels: Mapping[Output, int]) -> int:
        if output is self._only_light:
            return max(levels.get(light, 0) for light in _LIGHTS)
        return levels.get(output, 0)

    def _open(self, output: Output) -> None:
        before = self._devices.pop(output, None)
        if before is not None:
            with contextlib.suppress(Exception):  # one that can't be given back is gone
                before.close()
        self._devices[output] = _open(self._configs[output], self._factory)
        self._levels[output] = 0

    def _set(self, output: Output, level: int) -> None:
        device = self._devices[output]
        try:
            if self._configs[output].passive:
                if level:
                    device.frequency = level
                device.value = 0.5 if level else 0.0
            else:
                device.value = bool(level)
        except Exception as error:  # noqa: BLE001 - whatever the pin library raises becomes a report
            self.faulty[output] = said(error)[:200]
        else:
            self._levels[output] = level
            self.faulty.pop(output, None)


def _open(config: OutputConfig, factory: PinFactory) -> Any:
    from gpiozero import DigitalOutputDevice, PWMOutputDevice

    kind = PWMOutputDevice if config.passive else DigitalOutputDevice
    return open_device(
        "output",
        config.name,
        config.pin,
        lambda: kind(config.pin, active_high=config.active_high, initial_value=False, pin_factory=factory),
    )
