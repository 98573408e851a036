"""The `[controls]` table of the configuration: the pins of inputs and outputs, and the gestures.

Pins are GPIO numbers (17), the chip's names of its lines ("ID_SDA", or a name of the device tree), or positions on the
header of a Raspberry Pi ("GPIO17", "BOARD11"). A wrong value is refused with the name of its key when the file is read,
a line that the chip does not have when it is opened; one that is busy or lost is a fault, and tried again.
"""

from collections import Counter
from typing import Literal

import msgspec

from agent.core.indicator.signals import Output
from agent.core.inputs.lines import ButtonLine, Line, SwitchLine, Timing, TriggerLine, TriggerMode, check_patterns
from agent.domain.layout import DEFAULT_LAYOUTS, NO_BUTTONS, THREE_BUTTONS, TWO_BUTTONS, Layout, parse_layout
from agent.errors import ConfigError

Pin = int | str
Pull = Literal["up", "down", "floating"]


class InputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input line.

    Attributes:
        name: Its name in gestures and in the journal.
        pull: The pin's own pull resistor; `floating` if the circuit has one.
        active_high: True if the line is active while the pin is high. By default a pin that is pulled up is active when
            low, one that is pulled down when high; required for a floating one.
    """

    name: str
    pin: Pin
    pull: Pull = "up"
    active_high: bool | None = None

    def __post_init__(self) -> None:
        if self.pull == "floating" and self.active_high is None:
            raise ConfigError(f"expected active_high = true or false for {self.name!r}, whose pin is floating")
        self.line()

    @property
    def high_is_active(self) -> bool:
        """True if the line is active while the pin is high."""
        return self.pull == "down" if self.active_high is None else self.active_high

    def line(self) -> Line:
        """The line as the core has it."""
        raise NotImplementedError


class ButtonConfig(InputConfig, frozen=True, kw_only=True):
    """A push button."""

    def line(self) -> Line:
        """The line as the core has it."""
        return ButtonLine(self.name)


class SwitchConfig(InputConfig, frozen=True, kw_only=True):
    """A slide switch, key switch or contact; active is on or closed."""

    def line(self) -> Line:
        """The line as the core has it."""
        return SwitchLine(self.name)


class TriggerConfig(InputConfig, frozen=True, kw_only=True):
    """A line that starts a recording by itself.

    Attributes:
        mode: `level` for what lasts (lights, siren), `edge` for a pulse (impact).
    """

    mode: Literal["level", "edge"] = "level"

    def line(self) -> Line:
        """The line as the core has it."""
        return TriggerLine(self.name, TriggerMode(self.mode))


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A light, a tone or a vibration motor.

    Attributes:
        name: A light that is the only one shows both colours.
        active_high: True if it is on while the pin is high.
        passive: For the tone: True for a piezo that needs the frequency (PWM), False for a buzzer that makes its own.
    """

    name: Literal["red", "green", "tone", "haptic"]
    pin: Pin
    active_high: bool = True
    passive: bool = False

    def __post_init__(self) -> None:
        if self.passive and self.name != "tone":
            raise ConfigError(f"expected passive only for the tone, got it for {self.name!r}")

    @property
    def output(self) -> Output:
        """The output as the core has it."""
        return Output(self.name)


class ControlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole table.

    Attributes:
        pin_factory: `lgpio` on a device; `mock` on a bench, where nothing is wired and `bwc-agent press` works.
        chip: With `lgpio`: number, name or label of the GPIO chip; by default the one with the header's lines.
        buttons, switches, triggers, outputs: What is wired.
        layout: Name of a built-in layout; empty for the one that fits the buttons. A signed bundle's overrides it.
        gestures: A custom layout instead, such as `"double:record" = "start"`.
        power_key: The kernel's input device of the power button, which requests power-off; empty if there is none.
    """

    pin_factory: Literal["lgpio", "mock"] = "lgpio"
    chip: int | str | None = None
    buttons: tuple[ButtonConfig, ...] = ()
    switches: tuple[SwitchConfig, ...] = ()
    triggers: tuple[TriggerConfig, ...] = ()
    outputs: tuple[OutputConfig, ...] = ()
    layout: str = ""
    gestures: dict[str, str] = {}
    power_key: str = ""

    def __post_init__(self) -> None:
        taken = Counter([*(config.name for config in self.inputs), *(config.name for config in self.outputs)])
        twice = sorted(name for name, count in taken.items() if count > 1)
        if twice:
            raise ConfigError(f"expected a name of its own for each line and output, got {', '.join(twice)} twice")
        check_patterns(self.lines, self.build_layout().patterns, Timing())

    @property
    def inputs(self) -> tuple[InputConfig, ...]:
        """All input lines."""
        return (*self.buttons, *self.switches, *self.triggers)

    @property
    def lines(self) -> tuple[Line, ...]:
        """All input lines as the core has them."""
        return tuple(config.line() for config in self.inputs)

    def build_layout(self) -> Layout:
        """The configured layout.

        Raises:
            ConfigError: There is none of that name, a gesture is malformed, or none can be chosen for these buttons.
        """
        if self.gestures:
            if self.layout:
                raise ConfigError(f"expected either layout = {self.layout!r} or [controls.gestures], got both")
            return parse_layout("configured", self.gestures)
        if self.layout:
            if self.layout not in DEFAULT_LAYOUTS:
                raise ConfigError(f"expected layout to be one of {', '.join(DEFAULT_LAYOUTS)}, got {self.layout!r}")
            return DEFAULT_LAYOUTS[self.layout]
        names = {button.name for button in self.buttons}
        for layout in (THREE_BUTTONS, TWO_BUTTONS):
            if names == {line for pattern in layout.patterns for line in pattern.lines}:
                return layout
        if names or self.switches:
            raise ConfigError(
                "expected buttons record and mark, or record, mark and privacy, for a built-in layout, got "
                f"{', '.join(sorted(names)) or 'switches only'}; say in [controls.gestures] what they mean"
            )
        return NO_BUTTONS


BENCH_CONTROLS = """
[[controls.buttons]]
name = "record"                  # double press starts, hold for 3 s asks to stop, short press marks
pin = 17                         # GPIO number; pulled up, so a press pulls it low

[[controls.buttons]]
name = "mark"
pin = 27

[[controls.switches]]
name = "dock_contact"            # closed while the camera sits in its dock
pin = 26

[[controls.triggers]]
name = "lights_siren"            # its rising edge starts a recording
pin = 22
pull = "down"

[[controls.outputs]]
name = "red"
pin = 5

[[controls.outputs]]
name = "green"
pin = 6

[[controls.outputs]]
name = "tone"
pin = 13

[[controls.outputs]]
name = "haptic"
pin = 19
"""
"""TOML of two buttons, the dock's contact, a trigger and all outputs, for a bench."""

PRIVACY_BUTTON = """
[[controls.buttons]]
name = "privacy"                 # hold for 2 s asks for a privacy pause, short press resumes
pin = 23
"""
"""TOML of the third button, for a bench."""
