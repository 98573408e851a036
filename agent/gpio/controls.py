"""The wearer's hands and senses put together: pins in, signals out, bench presses; what the recorder holds of them.

Callbacks and other threads only enqueue or plan. All else is done by the thread that calls `turn`.
"""

import contextlib
import threading
from collections.abc import Callable

from agent.clock import NS, Clocks
from agent.core.indicator.indicator import Indicator
from agent.core.indicator.signals import Background, Output, Signal
from agent.core.inputs.lines import Edge, Line
from agent.core.recording.events import LineFaulty, LineRecovered
from agent.domain.layout import Layout
from agent.gpio.config import ControlsConfig
from agent.gpio.outputs import Outputs
from agent.gpio.pins import InputPins, PinFactory, make_pin_factory
from agent.gpio.press import SimulatedPresses

CHECK_NS = NS
"""How often the pins are read again."""

Put = Callable[[Edge | LineFaulty | LineRecovered | Callable[[], None]], None]
"""Enqueues for the control thread; from any thread, never blocks."""


class HardwareControls:
    """The controls of one device.

    Args:
        config: What is wired, and what gestures mean.
        clocks: Both clocks.
        pin_factory: Whose pins; by default those that the configuration names.

    Attributes:
        lines: The input lines.
        layout: What gestures mean until a signed bundle says otherwise.

    Raises:
        ConfigError: A pin is not there or is used twice, or there is no such pin factory on this machine. A chip that
            is not there and a line that something else holds are no errors but reported faults, and tried again.
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
        self._told_faulty: set[Output] = set()
        self._indicator = Indicator()
        self._bench = SimulatedPresses(config.inputs, pin_factory, clocks)
        self._controls = InputPins(config.inputs, pin_factory, clocks)
        try:
            self._outputs = Outputs(config.outputs, pin_factory)
        except BaseException:
            self._controls.close()
            raise

    def open(self, put: Put) -> None:
        """Begins to hand on edges: first the level of every line, as it is found."""
        with self._lock:
            self._put = put
            self._controls.start(put)
            self._next_check_ns = self._clocks.monotonic_ns() + CHECK_NS

    def close(self) -> None:
        """Switches the outputs off and gives the pins back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._put = None
                with contextlib.ExitStack() as stack:  # the outputs too, also if an input can't be given back
                    stack.callback(self._outputs.close)
                    stack.callback(self._controls.close)

    def press(self, name: str, hold_s: float, times: int) -> int:
        """Presses a simulated button; from any thread. Returns at once, before the presses are done.

        Raises:
            ControlError: See `SimulatedPresses.press`.
        """
        planned = self._bench.press(name, hold_s, times)
        put = self._put
        if put is not None:
            put(lambda: None)  # wakes the thread that turns
        return planned

    def show(self, signal: Signal, now_ns: int) -> None:
        """Tells the wearer something."""
        self._indicator.show(signal, now_ns)

    def background(self, state: Background, now_ns: int) -> None:
        """What the lights say while no signal is shown."""
        self._indicator.background(state, now_ns)

    def stealth(self, now_ns: int, *, on: bool) -> None:
        """Lights and tone off, or on again."""
        self._indicator.set_stealth(now_ns, on=on)

    def turn(self, now_ns: int) -> float:
        """Does what is due; seconds until it wants to be called again at the latest."""
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
        """What is wrong with the lines that can't be used now, by name; outputs as `output red`."""
        return {
            **self._controls.problems,
            **{f"output {output}": problem for output, problem in self._outputs.faulty.items()},
        }

    def levels(self) -> dict[str, bool | None]:
        """The level of each input line now; None for one that can't be read."""
        return self._controls.levels()

    def light(self, output: Output, *, on: bool) -> None:
        """Switches one output alone on or off, for a test by eye; a tone sounds at 880 Hz."""
        with self._lock:
            self._outputs.apply({output: 880 if output is Output.TONE else 1} if on else {})

    def _report_outputs(self, now_ns: int) -> None:
        faulty = set(self._outputs.faulty)
        if self._put is None or faulty == self._told_faulty:
            return
        for output in sorted(faulty - self._told_faulty):
            self._put(LineFaulty(now_ns, f"output {output}", f"lost: {self._outputs.faulty[output]}"))
        for output in sorted(self._told_faulty - faulty):
            self._put(LineRecovered(now_ns, f"output {output}"))
        self._told_faulty = faulty
