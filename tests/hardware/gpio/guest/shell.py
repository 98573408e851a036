"""A recorder's control path on real lines: the repository's own controls, gestures, core and control loop.

Only what carries commands out is not the recorder's: a policy that refuses all requests, and no storage. What the
control loop gives to the core is written down; those are the requests that hands have made.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.clock import SystemClocks
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import Timing
from agent.core.recording import commands, events
from agent.core.recording.state import State, background
from agent.gpio.config import ButtonConfig, ControlsConfig, OutputConfig, Pull
from agent.gpio.controls import HardwareControls
from agent.recorder.control import Control

_ONE_AT_A_TIME = threading.Lock()
"""A recorder has one set of lines and opens them in one thread. Several at once, in one process, left lines of lgpio's
without edges."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Something that the core was told: its name, and the monotonic time that it is about."""

    what: str
    at_ns: int


def named(event: events.Event) -> str:
    """The name of what an event asks or says; empty for those that time brings."""
    match event:
        case events.StartRequested():
            return "start"
        case events.MarkRequested():
            return "mark"
        case events.ActionRequested():
            return str(event.action)
        case events.Declared():
            return "declare:" + "+".join(sorted(event.values))
        case events.LineFaulty():
            return f"fault:{event.line}:{event.fault}"
        case events.LineRecovered():
            return f"good:{event.line}"
        case events.StealthRequested() | events.Classified() | events.TriggerActivated():
            return type(event).__name__
        case _:
            return ""


class _Observed(Control):
    """A control loop that writes down what it gives to the core."""

    asked: list[Asked]

    def handle(self, event: events.Event) -> None:
        what = named(event)
        if what:
            self.asked.append(Asked(what, getattr(event, "at_ns", 0)))
        super().handle(event)


class _Refusing:
    """Carries out what wearers notice, refuses what is asked, and stores nothing."""

    def __init__(self, hands: HardwareControls, clocks: SystemClocks) -> None:
        self._hands = hands
        self._clocks = clocks
        self.stumbles: list[str] = []

    def carry_out(self, command: commands.Command, durable: Callable[[], None]) -> events.Event | None:
        now = self._clocks.monotonic_ns()
        match command:
            case commands.Decide():
                return events.Decided(now, command.number, allowed=False, policy="refuses everything")
            case commands.OpenRecording():
                return events.RecordingOpened(command.at_ns, command.recording, command.cause, 0, 0, 0, "")
            case commands.AppendEntry() if command.token:
                durable()
            case commands.ShowSignal():
                self._hands.show(command.signal, now)
            case commands.SetStealth():
                self._hands.stealth(now, on=command.on)
            case _:
                pass
        return None

    def update_outputs(self, state: State, now_ns: int) -> float:
        self._hands.background(background(state), now_ns)
        return self._hands.turn(now_ns)

    def report_internal_error(self, problem: str) -> None:
        self.stumbles.append(problem)


class Shell:
    """One recorder's control path on the lines of one chip.

    Args:
        chip: The chip's label.
        timing: Other than the product's, to see that the test would notice.
        floating: The buttons have resistors of their own. gpio-sim's pull-up is no resistor: it lets go of a button.
    """

    def __init__(self, chip: str, timing: Timing | None = None, *, floating: bool = False) -> None:
        pull: Pull = "floating" if floating else "up"
        config = ControlsConfig(
            chip=chip,
            buttons=(
                ButtonConfig(name="record", pin="RECORD", pull=pull, active_high=False),
                ButtonConfig(name="mark", pin="MARK", pull=pull, active_high=False),
            ),
            outputs=(
                OutputConfig(name="red", pin="RED"),
                OutputConfig(name="green", pin="GREEN"),
                OutputConfig(name="tone", pin="TONE"),
                OutputConfig(name="haptic", pin="HAPTIC"),
            ),
        )
        clocks = SystemClocks()
        with _ONE_AT_A_TIME:
            self._begin(config, clocks, timing)

    def _begin(self, config: ControlsConfig, clocks: SystemClocks, timing: Timing | None) -> None:
        self.hands = HardwareControls(config, clocks)
        self._effects = _Refusing(self.hands, clocks)
        inputs = Inputs(self.hands.lines, self.hands.layout.patterns, timing)
        self.control = _Observed(clocks, State(tag="tag"), inputs, self.hands.layout, self._effects)
        self.control.asked = []
        self._thread = threading.Thread(target=self.control.run, name="control")
        self._thread.start()
        self.hands.open(self.control.put)
        self.control.put(events.Booted(clocks.monotonic_ns()))

    @property
    def asked(self) -> list[Asked]:
        """What the core was told so far."""
        return self.control.asked

    @property
    def stumbles(self) -> list[str]:
        """Exceptions that the control loop caught."""
        return self._effects.stumbles

    def close(self) -> None:
        """End the loop and give the lines back."""
        self.control.stop()
        self._thread.join(10)
        self.hands.close()
