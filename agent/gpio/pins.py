"""Input pins: gpiozero devices whose edges are passed on as they come, without debounce or hold timing.

gpiozero's own debounce and hold timing are not used: they run on threads and clocks of their own, and its mock pins
simulate neither. Callbacks run in a thread of the pin library; they pass the edge on with the kernel's time of it, and
never read a pin.

A line that is busy, or whose chip is missing, is reported and tried again: no recorder ends, or fails to start, because
of a button. What no retry can fix, such as a line that no chip has, is refused.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agent.clock import NS, Clocks
from agent.core.inputs.lines import Edge
from agent.errors import ConfigError, DeviceError
from agent.gpio.config import InputConfig, Pin

PinFactory = Any
"""A `gpiozero.pins.Factory`; gpiozero has no types."""

MAX_EDGES_PER_S = 500
"""Edges beyond this rate are dropped; far fewer are already read as chatter."""
OLDEST_NS = 5 * NS
"""An edge is passed on at most this late; an older time stamp is of another clock."""


def make_pin_factory(name: str, chip: int | str | None = None) -> PinFactory:
    """The pin factory `lgpio`, or `mock` with simulated pins.

    Args:
        name: `lgpio` or `mock`.
        chip: For `lgpio`, see `agent.gpio.chip.ChipFactory`. It may appear later.

    Raises:
        ConfigError: This machine lacks the library.
    """
    if name == "mock":
        from gpiozero.pins.mock import MockFactory, MockPWMPin

        return MockFactory(pin_class=MockPWMPin)
    try:
        from agent.gpio.chip import ChipFactory

        return ChipFactory(chip)
    except Exception as error:  # the library raises errors of its own that it does not share
        raise ConfigError(
            f"can't use the GPIO pins through lgpio: {describe(error)}. On a device install python3-lgpio and give the "
            'recorder access to /dev/gpiochip*; on a bench set pin_factory = "mock" in [controls]'
        ) from error


def open_device(kind: str, name: str, pin: Pin, make: Callable[[], Any]) -> Any:
    """The gpiozero device that `make` makes.

    Raises:
        ConfigError: The pin does not exist, is used twice, or can't do what is required; no retry helps.
        DeviceError: Its chip is missing, it is busy, or it fails.
    """
    from gpiozero.exc import GPIOZeroError

    try:
        return make()
    except GPIOZeroError as error:
        raise ConfigError(
            f"can't use pin {pin!r} for {kind} {name!r}: {describe(error)}. Give it a free GPIO pin of this board in "
            "[controls]"
        ) from error
    except DeviceError:
        raise
    except Exception as error:
        raise DeviceError(getattr(error, "errno", None) or 5, describe(error)) from error


class _Pin:
    """One input, open or not.

    Attributes:
        reported: The level that was passed on last.
        lost: It was reported as unreadable.
    """

    def __init__(
        self, config: InputConfig, factory: PinFactory, changed: "Callable[[_Pin, bool, float], None]"
    ) -> None:
        self.name = config.name
        self.device: Any = None
        self.reported = False
        self.lost = False
        self._config = config
        self._factory = factory
        self._on_change = changed
        self._second_ns = 0
        self._edges = 0

    def open(self, *, listen: bool) -> None:
        """Open or reopen it.

        Raises:
            ConfigError, DeviceError: See `open_device`.
        """
        from gpiozero import InputDevice

        self.close()
        config = self._config
        floating = config.pull == "floating"
        device = open_device(
            "input",
            config.name,
            config.pin,
            lambda: InputDevice(
                config.pin,
                pull_up=None if floating else config.pull == "up",
                active_state=True if floating else None,
                pin_factory=self._factory,
            ),
        )
        self.device = device
        if listen:
            self.listen()

    def listen(self) -> None:
        """Pass edges on from now on; raises whatever the pin library raises."""
        pin = self.device.pin
        pin.edges = "both"
        pin.when_changed = self._changed  # a method: gpiozero keeps no closure alive

    def close(self) -> None:
        """Release it. Never raises: one that can't be released is gone."""
        device, self.device = self.device, None
        if device is not None:
            with contextlib.suppress(Exception):
                device.pin.when_changed = None
            with contextlib.suppress(Exception):
                device.close()

    def read(self) -> bool:
        """The line's level now; raises whatever the pin library raises."""
        return bool(self.device.pin.state) == self._config.high_is_active

    def storm(self, now_ns: int) -> bool:
        """Count an edge; True if there were too many in this second."""
        if now_ns - self._second_ns >= NS:
            self._second_ns = now_ns
            self._edges = 0
        self._edges += 1
        return self._edges > MAX_EDGES_PER_S

    def _changed(self, ticks: float, state: int) -> None:
        self._on_change(self, bool(state) == self._config.high_is_active, ticks)


class InputPins:
    """The input lines of a device.

    Args:
        inputs: What is wired where.
        pin_factory: Makes the pins.
        clocks: For the times of edges.

    Attributes:
        problems: Why lines can't be used now, by name.

    Raises:
        ConfigError: A pin does not exist, is used twice, or has no such pull resistor.
    """

    def __init__(self, inputs: Sequence[InputConfig], pin_factory: PinFactory, clocks: Clocks) -> None:
        self._clocks = clocks
        self._lock = threading.RLock()
        self._on_edge: Callable[[Edge], None] | None = None
        self._pins: list[_Pin] = []
        self.problems: dict[str, str] = {}
        try:
            for config in inputs:
                pin = _Pin(config, pin_factory, self._changed)
                self._pins.append(pin)
                try:
                    pin.open(listen=False)
                except DeviceError as error:
                    self.problems[pin.name] = str(error)
        except ConfigError:
            self.close()
            raise

    def start(self, on_edge: Callable[[Edge], None]) -> None:
        """Pass on the level of every line as it is found, then every edge.

        Args:
            on_edge: Called from any thread, also one of the pin library's; must not block, wait or raise.
        """
        for pin in self._pins:
            with self._lock:
                self._read(pin, on_edge, initial=True)
                if not pin.lost:
                    try:
                        pin.listen()
                    except Exception as error:  # noqa: BLE001 - whatever the pin library raises becomes a report
                        self._lose(pin, error, on_edge)
        self._on_edge = on_edge
        self.check()  # what moved between reading and listening

    def check(self) -> None:
        """Read every pin: report a missed edge or an unreadable pin, and reopen that. Never raises."""
        if self._on_edge is None:
            return
        for pin in self._pins:
            with self._lock:
                self._read(pin, self._on_edge, initial=pin.lost)

    def levels(self) -> dict[str, bool | None]:
        """The level of each line; None for one that can't be read."""
        found: dict[str, bool | None] = {}
        for pin in self._pins:
            try:
                found[pin.name] = pin.read() if pin.device is not None else None
            except Exception:  # noqa: BLE001 - unreadable is the answer
                found[pin.name] = None
        return found

    def close(self) -> None:
        """Release the pins. No edge is passed on any more."""
        self._on_edge = None
        for pin in self._pins:
            pin.close()
        self._pins.clear()

    def _read(self, pin: _Pin, on_edge: Callable[[Edge], None], *, initial: bool) -> None:
        try:
            active = self._level(pin)
        except Exception as error:  # noqa: BLE001 - whatever the pin library raises becomes a report, once
            self._lose(pin, error, on_edge)
            return
        self.problems.pop(pin.name, None)
        pin.lost = False
        if initial or active != pin.reported:
            pin.reported = active
            on_edge(Edge(pin.name, active, self._clocks.monotonic_ns(), initial))

    @staticmethod
    def _level(pin: _Pin) -> bool:
        """The level of a pin. One that was lost is reopened if reading it still fails."""
        if pin.device is not None:
            try:
                return pin.read()
            except Exception:
                if not pin.lost:
                    raise  # it is reported first, and tried at the next check
        pin.open(listen=True)
        return pin.read()

    def _lose(self, pin: _Pin, error: Exception, on_edge: Callable[[Edge], None]) -> None:
        self.problems[pin.name] = describe(error)[:200]
        if not pin.lost:
            pin.lost = True
            on_edge(Edge(pin.name, active=False, at_ns=self._clocks.monotonic_ns(), problem=self.problems[pin.name]))

    def _changed(self, pin: _Pin, active: bool, ticks: float) -> None:  # noqa: FBT001 - called by its place
        on_edge = self._on_edge
        now_ns = self._clocks.monotonic_ns()
        at_ns = round(ticks * NS)
        if not 0 <= now_ns - at_ns <= OLDEST_NS:
            at_ns = now_ns
        with self._lock:
            if on_edge is None or pin.lost or pin.storm(now_ns):
                return
            pin.reported = active
            on_edge(Edge(pin.name, active, at_ns))


def describe(error: Exception) -> str:
    """The text of an error; one of the pin library with its type, because some have no text."""
    return str(error) if isinstance(error, DeviceError) else f"{type(error).__name__}: {error}"
