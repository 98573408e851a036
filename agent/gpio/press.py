"""Simulated presses on a bench: mock pins are driven like buttons, so that their edges take the way of real ones.

Nothing here waits. Each step is timed from when the step before was done, so that a busy machine makes a press late but
never shorter.
"""

import errno
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.clock import NS, Clocks
from agent.errors import ControlError
from agent.gpio.config import InputConfig, SwitchConfig
from agent.gpio.pins import PinFactory

MAX_TIMES = 1000
MIN_HOLD_S = 0.03
MAX_HOLD_S = 60.0
_MAX_PAUSE_S = 0.2
_FINGERS_APART_NS = 20_000_000
_SWITCH_RESTS_NS = 500_000_000
# A hold of 3 s is released after 3 s, not within their last instant.
_SPARE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """One line is brought to a level, `after_ns` after the step before."""

    line: str
    active: bool
    after_ns: int


@dataclass(slots=True)
class _Run:
    lines: frozenset[str]
    due_ns: int
    steps: deque[Step] = field(default_factory=deque)


def plan_presses(lines: Sequence[str], hold_s: float, times: int) -> list[Step]:
    """The steps of `times` presses of one button, or of several at once.

    The pause between two presses is as long as a press, 0.2 s at most: so two presses are a double press, and
    `hold_s=0.03` makes a thousand a minute. Several buttons are pressed and released 20 ms apart, as by fingers.
    """
    hold_ns = round(hold_s * NS) + _SPARE_NS
    pause_ns = round(min(hold_s, _MAX_PAUSE_S) * NS)
    steps: list[Step] = []
    for number in range(times):
        for finger, line in enumerate(lines):
            lead_ns = _FINGERS_APART_NS if finger else (pause_ns if number else 0)
            steps.append(Step(line, active=True, after_ns=lead_ns))
        for finger, line in enumerate(lines):
            steps.append(Step(line, active=False, after_ns=_FINGERS_APART_NS if finger else hold_ns))
    return steps


def plan_moves(line: str, times: int, *, on: bool) -> list[Step]:
    """The steps of moving a switch `times` times, the first time to `on`; it rests for 0.5 s in each position."""
    return [
        Step(line, active=on == (number % 2 == 0), after_ns=_SWITCH_RESTS_NS if number else 0)
        for number in range(times)
    ]


class SimulatedPresses:
    """Hands for a recorder without any.

    `press` may be called from any thread; `tick` belongs to the thread that reads the inputs' clock.

    Args:
        inputs: What is wired where.
        pin_factory: Whose pins; only gpiozero's mock factory can be worked.
        clocks: For the time between steps.
    """

    def __init__(self, inputs: Sequence[InputConfig], pin_factory: PinFactory, clocks: Clocks) -> None:
        self._inputs = {config.name: config for config in inputs}
        self._factory = pin_factory
        self._clocks = clocks
        self._lock = threading.Lock()
        self._runs: list[_Run] = []
        self._on: dict[str, bool] = {}

    def press(self, name: str, hold_s: float = 0.1, times: int = 1) -> int:
        """Plans presses of a line, or of a chord such as `record+mark`; a switch is moved to its other position.

        Returns:
            How many presses or moves.

        Raises:
            ControlError: The pins are not simulated, there is no such line, it is being pressed already, or a number is
                out of bounds.
        """
        self._refuse_real_pins()
        lines = tuple(name.split("+"))
        for line in lines:
            if line not in self._inputs:
                known = ", ".join(sorted(self._inputs)) or "none"
                raise ControlError(errno.ENOENT, f"expected the name of an input, one of {known}, got {line[:80]!r}")
        if len(set(lines)) != len(lines):
            raise ControlError(errno.EINVAL, f"expected different buttons joined by +, got {name[:80]!r}")
        if not (math.isfinite(hold_s) and MIN_HOLD_S <= hold_s <= MAX_HOLD_S):
            raise ControlError(errno.EINVAL, f"expected a hold of {MIN_HOLD_S} to {MAX_HOLD_S} s, got {hold_s} s")
        if not 1 <= times <= MAX_TIMES:
            raise ControlError(errno.EINVAL, f"expected 1 to {MAX_TIMES} presses, got {times}")
        switches = [line for line in lines if isinstance(self._inputs[line], SwitchConfig)]
        if switches and len(lines) > 1:
            raise ControlError(errno.EINVAL, f"expected a switch to be moved by itself, got {name[:80]!r}")
        with self._lock:
            busy = sorted({line for run in self._runs for line in run.lines} & set(lines))
            if busy:
                raise ControlError(errno.EBUSY, f"{', '.join(busy)} is being pressed; try again when that is over")
            steps = (
                plan_moves(lines[0], times, on=not self._on.get(lines[0], False))
                if switches
                else plan_presses(lines, hold_s, times)
            )
            self._runs.append(_Run(frozenset(lines), self._clocks.monotonic_ns(), deque(steps)))
        return times

    def tick(self, now_ns: int) -> None:
        """Do what is due at `now_ns`: at most one step of each run."""
        with self._lock:
            due = [run for run in self._runs if run.due_ns <= now_ns]
            for run in due:
                self._drive(run.steps.popleft())
                if run.steps:
                    run.due_ns = self._clocks.monotonic_ns() + run.steps[0].after_ns
            self._runs = [run for run in self._runs if run.steps]

    def next_deadline_ns(self) -> int | None:
        """When `tick` is due; None if nothing is planned."""
        with self._lock:
            return min((run.due_ns for run in self._runs), default=None)

    def _drive(self, step: Step) -> None:
        config = self._inputs[step.line]
        pin = self._factory.pin(config.pin)
        self._on[step.line] = step.active
        if step.active == config.high_is_active:
            pin.drive_high()
        else:
            pin.drive_low()

    def _refuse_real_pins(self) -> None:
        from gpiozero.pins.mock import MockFactory

        if not isinstance(self._factory, MockFactory):
            raise ControlError(
                errno.EPERM,
                'presses are for a bench, and these pins are not simulated; set pin_factory = "mock" in [controls]',
            )
