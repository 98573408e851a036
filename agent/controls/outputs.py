"""Output pins: lights, tone and vibration are brought to the levels that the indicator says."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from agent.controls.config import OutputConfig
from agent.controls.gpio import PinFactory, open_device
from agent.core.signals import Output
from agent.errors import ConfigError

_LIGHTS = (Output.RED, Output.GREEN)


class Outputs:
    """The outputs of a device, open and off.

    Args:
        configs: What is wired where.
        pin_factory: Whose pins.

    Attributes:
        faulty: What the pin library said of the outputs that it could not set, by output.

    Raises:
        ConfigError: A pin is not there or is taken.
    """

    def __init__(self, configs: Sequence[OutputConfig], pin_factory: PinFactory) -> None:
        self.faulty: dict[Output, str] = {}
        self._devices: dict[Output, Any] = {}
        self._passive: set[Output] = set()
        self._levels: dict[Output, int] = {}
        lights = [config.output for config in configs if config.output in _LIGHTS]
        self._only_light = lights[0] if len(lights) == 1 else None
        try:
            for config in configs:
                self._devices[config.output] = _open(config, pin_factory)
                self._levels[config.output] = 0
                if config.passive:
                    self._passive.add(config.output)
        except ConfigError:
            self.close()
            raise

    def apply(self, levels: Mapping[Output, int]) -> None:
        """Sets what differs from before. Never raises: an output that fails is in `faulty` until it works again."""
        for output, device in self._devices.items():
            level = levels.get(output, 0)
            if output is self._only_light:
                level = max(levels.get(light, 0) for light in _LIGHTS)
            if level == self._levels[output]:
                continue
            try:
                if output in self._passive:
                    if level:
                        device.frequency = level
                    device.value = 0.5 if level else 0.0
                else:
                    device.value = bool(level)
            except Exception as error:  # noqa: BLE001 - whatever the pin library raises becomes a report
                self.faulty[output] = f"{type(error).__name__}: {error}"[:200]
            else:
                self._levels[output] = level
                self.faulty.pop(output, None)

    def close(self) -> None:
        """Switches everything off and gives the pins back."""
        self.apply({})
        with contextlib.ExitStack() as stack:  # all of them, also if one can't be given back
            for device in self._devices.values():
                stack.callback(device.close)
            self._devices.clear()


def _open(config: OutputConfig, factory: PinFactory) -> Any:
    from gpiozero import DigitalOutputDevice, PWMOutputDevice

    kind = PWMOutputDevice if config.passive else DigitalOutputDevice
    return open_device(
        "output",
        config.name,
        config.pin,
        lambda: kind(config.pin, active_high=config.active_high, initial_value=False, pin_factory=factory),
    )
