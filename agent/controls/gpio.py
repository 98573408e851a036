"""Input pins: gpiozero devices whose edges are handed on as they come, without debounce, hold or any other judgement.

gpiozero's own debounce and hold timing are not used: they run on threads and clocks of their own, and its mock pins
simulate neither. Callbacks run in a thread of the pin library; they stamp the edge, hand it on, and never read a pin.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agent.clock import NS, Clocks
from agent.controls.config import InputConfig, Pin
from agent.core.inputs_lines import Edge
from agent.errors import ConfigError

PinFactory = Any
"""A `gpiozero.pins.Factory`; gpiozero has no types."""

MAX_EDGES_PER_S = 500
"""A line that changes faster is not followed edge by edge: more than enough to be known as chattering."""


def make_pin_factory(name: str) -> PinFactory:
    """The pin factory `lgpio`, or `mock` with simulated pins.

    Raises:
        ConfigError: It can't be had on this machine.
    """
    if name == "mock":
        from gpiozero.pins.mock import MockFactory, MockPWMPin

        return MockFactory(pin_class=MockPWMPin)
    try:
        from gpiozero.pins.lgpio import LGPIOFactory

        return LGPIOFactory()
    except Exception as error:  # the library raises errors of its own that it does not share
        raise ConfigError(
            f"can't use the GPIO pins through lgpio: {_said(error)}. On a device install python3-lgpio and give the "
            'recorder access to /dev/gpiochip*; on a bench set pin_factory = "mock" in [controls]'
        ) from error


def open_device(kind: str, name: str, pin: Pin, make: Callable[[], Any]) -> Any:
    """The gpiozero device that `make` makes.

    Raises:
        ConfigError: The pin is not there, is taken, or can't do what is asked of it.
    """
    try:
        return make()
    except Exception as error:  # as above
        raise ConfigError(
            f"can't use pin {pin!r} for {kind} {name!r}: {_said(error)}. Give it a free GPIO pin of this board in "
            "[controls]"
        ) from error


class _Pin:
    """One open input."""

    def __init__(self, config: InputConfig, factory: PinFactory) -> None:
        from gpiozero import DigitalInputDevice

        self.name = config.name
        floating = config.pull == "floating"
        self.device = open_device(
            "input",
            config.name,
            config.pin,
            lambda: DigitalInputDevice(
                config.pin,
                pull_up=None if floating else config.pull == "up",
                active_state=True if floating else None,
                bounce_time=None,
                pin_factory=factory,
            ),
        )
        # gpiozero calls a pulled-up pin active when it is low.
        self._inverted = (config.pull == "up") == config.high_is_active
        self.reported = False
        self.lost = False
        self._second_ns = 0
        self._edges = 0

    def meaning(self, *, device_active: bool) -> bool:
        """The line's level for a level of the device."""
        return device_active != self._inverted

    def read(self) -> bool:
        """The line's level now; raises whatever the pin library raises."""
        return self.meaning(device_active=bool(self.device.is_active))

    def storm(self, now_ns: int) -> bool:
        """Counts an edge and says whether there were too many in this second to hand it on."""
        if now_ns - self._second_ns >= NS:
            self._second_ns = now_ns
            self._edges = 0
        self._edges += 1
        return self._edges > MAX_EDGES_PER_S


class Controls:
    """The input lines of a device, open.

    Args:
        inputs: What is wired where.
        pin_factory: Whose pins.
        clocks: For the time of an edge.

    Raises:
        ConfigError: A pin is not there, is taken, or has no such pull resistor.
    """

    def __init__(self, inputs: Sequence[InputConfig], pin_factory: PinFactory, clocks: Clocks) -> None:
        self._clocks = clocks
        self._lock = threading.Lock()
        self._on_edge: Callable[[Edge], None] | None = None
        self._pins: list[_Pin] = []
        try:
            for config in inputs:
                self._pins.append(_Pin(config, pin_factory))
        except ConfigError:
            self.close()
            raise

    def start(self, on_edge: Callable[[Edge], None]) -> None:
        """Hands on the level of every line as it is found, then every edge.

        Args:
            on_edge: Called from any thread, also one of the pin library's; must not block, wait or raise.
        """
        for pin in self._pins:
            with self._lock:
                self._read(pin, on_edge, initial=True)
            # A closure for each pin: gpiozero keeps the callback, and calls it without telling the level.
            pin.device.when_activated = self._callback(pin, active=True)
            pin.device.when_deactivated = self._callback(pin, active=False)
        self._on_edge = on_edge
        self.check()  # what moved between reading and listening

    def check(self) -> None:
        """Reads every pin: a missed edge is made up for, a pin that can't be read is reported. Never raises."""
        if self._on_edge is None:
            return
        for pin in self._pins:
            with self._lock:
                self._read(pin, self._on_edge, initial=pin.lost)

    def close(self) -> None:
        """Gives the pins back. No edge is handed on any more."""
        self._on_edge = None
        with contextlib.ExitStack() as stack:  # all of them, also if one can't be given back
            for pin in self._pins:
                stack.callback(pin.device.close)
            self._pins.clear()

    def _read(self, pin: _Pin, on_edge: Callable[[Edge], None], *, initial: bool) -> None:
        now_ns = self._clocks.monotonic_ns()
        try:
            active = pin.read()
        except Exception as error:  # noqa: BLE001 - whatever the pin library raises becomes a report, once
            if not pin.lost:
                pin.lost = True
                on_edge(Edge(pin.name, active=False, at_ns=now_ns, problem=_said(error)[:200]))
            return
        pin.lost = False
        if initial or active != pin.reported:
            pin.reported = active
            on_edge(Edge(pin.name, active, now_ns, initial))

    def _callback(self, pin: _Pin, *, active: bool) -> Callable[[], None]:
        level = pin.meaning(device_active=active)

        def changed() -> None:
            on_edge = self._on_edge
            now_ns = self._clocks.monotonic_ns()
            with self._lock:
                if on_edge is None or pin.lost or pin.storm(now_ns):
                    return
                pin.reported = level
                on_edge(Edge(pin.name, level, now_ns))

        return changed


def _said(error: Exception) -> str:
    """What an error of the pin library says, with its kind, for some say nothing."""
    return f"{type(error).__name__}: {error}"
