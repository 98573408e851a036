"""The hardware controls of a device: input pins, outputs that show signals, simulated presses.

Callbacks and other threads only enqueue or plan. All else is done by the thread that calls `turn`.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.clock import NS, Clocks
from agent.core.indicator.indicator import Indicator
from agent.core.indicator.signals import Background, Output, Signal
from agent.core.inputs.lines import Edge, Line
from agent.core.recording.events import LineFaulty, LineRecovered
from agent.domain.layout import Layout
from agent.errors import ConfigError, DeviceError
from agent.gpio.config import ControlsConfig, OutputConfig
from agent.gpio.pins import InputPins, PinFactory, describe, make_pin_factory, open_device
from agent.gpio.press import SimulatedPresses

CHECK_NS = NS
"""How often the pins are read again."""
_LIGHTS = (Output.RED, Output.GREEN)

Put = Callable[[Edge | LineFaulty | LineRecovered | Callable[[], None]], None]
"""Enqueues for the control thread; from any thread, never blocks."""


class Outputs:
    """The outputs of a device, open and off.

    Args:
        configs: What is wired where.
        pin_factory: Makes the pins.

    Attributes:
        faulty: Why outputs could not be opened or set, by output.

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
                    self.faulty[output] = describe(error)[:200]
        except ConfigError:
            self.close()
            raise

    def apply(self, levels: Mapping[Output, int]) -> None:
        """Set the outputs whose level has changed. Never raises: a failing output is in `faulty` until it works."""
        for output in self._devices:
            level = self._wanted(output, levels)
            if level != self._levels[output]:
                self._set(output, level)

    def check(self, levels: Mapping[Output, int]) -> None:
        """Reopen the faulty outputs; costs more than `apply`."""
        for output in tuple(self.faulty):
            try:
                self._open(output)
            except Exception as error:  # noqa: BLE001 - as in `_set`
                self.faulty[output] = describe(error)[:200]
            else:
                self._set(output, self._wanted(output, levels))

    def close(self) -> None:
        """Switch everything off and release the pins."""
        self.apply({})
        with contextlib.ExitStack() as stack:  # all of them, also if releasing one fails
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
            with contextlib.suppress(Exception):  # an output that can't be released is gone
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
            self.faulty[output] = describe(error)[:200]
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


class HardwareControls:
    """The controls of one device.

    Args:
        config: What is wired, and what gestures mean.
        clocks: For the times of edges.
        pin_factory: By default the one that the configuration names.

    Attributes:
        lines: The input lines.
        layout: In force until a signed bundle brings another.

    Raises:
        ConfigError: A pin is not there or is used twice, or there is no such pin factory on this machine. A chip that
            is missing and a line that is busy are no errors: they are reported as faults, and tried again.
    """

    def __init__(self, config: ControlsConfig, clocks: Clocks, pin_factory: PinFactory = None) -> None:
        self.lines: tuple[Line, ...] = config.lines
        self.layout: Layout = config.build_layout()
        self._clocks = clocks
        wired = bool(config.inputs or config.outputs)
        if pin_factory is None and wired:
            pin_factory = make_pin_factory(config.pin_factory, config.chip)
        self._lock = threading.RLock()
        self._closed = False
        self._put: Put | None = None
        self._next_check_ns = 0
        self._reported_faulty: set[Output] = set()
        self._indicator = Indicator()
        self._bench = SimulatedPresses(config.inputs, pin_factory, clocks)
        self._controls = InputPins(config.inputs, pin_factory, clocks)
        try:
            self._outputs = Outputs(config.outputs, pin_factory)
        except BaseException:
            self._controls.close()
            raise

    def open(self, put: Put) -> None:
        """Start to enqueue edges, the level of every line first."""
        with self._lock:
            self._put = put
            self._controls.start(put)
            self._next_check_ns = self._clocks.monotonic_ns() + CHECK_NS

    def close(self) -> None:
        """Switch the outputs off and release the pins."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._put = None
                with contextlib.ExitStack() as stack:  # the outputs also if releasing an input fails
                    stack.callback(self._outputs.close)
                    stack.callback(self._controls.close)

    def press(self, name: str, hold_s: float, times: int) -> int:
        """Press a simulated button; from any thread. Returns before the presses are done.

        Raises:
            ControlError: See `SimulatedPresses.press`.
        """
        planned = self._bench.press(name, hold_s, times)
        put = self._put
        if put is not None:
            put(lambda: None)  # wakes the thread that turns
        return planned

    def show(self, signal: Signal, now_ns: int) -> None:
        """Show a signal."""
        self._indicator.show(signal, now_ns)

    def background(self, state: Background, now_ns: int) -> None:
        """Set what the lights show while there is no signal."""
        self._indicator.background(state, now_ns)

    def stealth(self, now_ns: int, *, on: bool) -> None:
        """Switch lights and tone off, or on again."""
        self._indicator.set_stealth(now_ns, on=on)

    def turn(self, now_ns: int) -> float:
        """Do what is due. Returns the seconds until the next call at the latest."""
        with self._lock:
            if self._closed:
                return CHECK_NS / NS
            self._bench.tick(now_ns)
            if now_ns >= self._next_check_ns:
                self._next_check_ns = now_ns + CHECK_NS
                self._controls.check()
                self._outputs.check(self._indicator.levels(now_ns))
            self._outputs.apply(self._indicator.levels(now_ns))
            self._report_outputs(now_ns)
            due = [self._next_check_ns, self._bench.next_deadline_ns(), self._indicator.next_change_ns(now_ns)]
        return max(0.0, (min(at_ns for at_ns in due if at_ns is not None) - now_ns) / NS)

    @property
    def problems(self) -> dict[str, str]:
        """Why lines can't be used now, by name; outputs as `output red`."""
        return {
            **self._controls.problems,
            **{f"output {output}": problem for output, problem in self._outputs.faulty.items()},
        }

    def levels(self) -> dict[str, bool | None]:
        """The level of each input line; None for one that can't be read."""
        return self._controls.levels()

    def light(self, output: Output, *, on: bool) -> None:
        """Switch one output on, all others off, for a test by eye; a tone sounds at 880 Hz."""
        with self._lock:
            self._outputs.apply({output: 880 if output is Output.TONE else 1} if on else {})

    def _report_outputs(self, now_ns: int) -> None:
        faulty = set(self._outputs.faulty)
        if self._put is None or faulty == self._reported_faulty:
            return
        for output in sorted(faulty - self._reported_faulty):
            self._put(LineFaulty(now_ns, f"output {output}", f"lost: {self._outputs.faulty[output]}"))
        for output in sorted(self._reported_faulty - faulty):
            self._put(LineRecovered(now_ns, f"output {output}"))
        self._reported_faulty = faulty
