"""A wearer with a camera's core: fingers press, the layout says what it means, and the policy decides."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.clock import MS, NS
from agent.core.indicator.signals import Signal
from agent.core.inputs.events import Gesture
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import ButtonLine
from agent.core.recording import commands, events, machine
from agent.core.recording.requests import answer
from agent.core.recording.state import Mode, State
from agent.domain.layout import Layout
from agent.domain.limits import Limits
from agent.domain.patterns import Kind, Pattern
from agent.domain.policy_settings import PolicySettings
from agent.policy.engine import Engine
from agent.policy.packs import Pack
from agent.policy.request import Authorization
from agent.recorder.control import asked_by
from tests.support.presses import Bounce, press, run

BOUNCE = Bounce((1 * MS, 3 * MS, 5 * MS, 9 * MS))
"""A worn contact under a glove: four changes within 10 ms, on every edge."""
PRESS_MS = 300.0
"""A slow press: a gloved finger stays on the button for longer than a bare one."""
PAUSE_MS = 250.0
APART_MS = 90.0
"""Between the two buttons of a chord."""


def edges(pattern: Pattern, at_ms: float) -> list[Any]:
    """The raw edges of hands that do a pattern, slowly and with bounce."""
    if pattern.kind is Kind.HOLD:
        for_ms, times = pattern.hold_ms + 700.0, 1
    else:
        for_ms, times = PRESS_MS, pattern.presses
    made = []
    for number in range(times):
        for finger, line in enumerate(pattern.lines):
            began_ms = at_ms + number * (PRESS_MS + PAUSE_MS) + finger * APART_MS
            made += press(line, began_ms, for_ms, closing=BOUNCE, opening=BOUNCE)
    return made


class Wearer:
    """A recording camera and its wearer.

    Args:
        pack: By which the policy decides.
        layout: What gestures mean.
    """

    def __init__(self, pack: Pack, layout: Layout) -> None:
        self._layout = layout
        self._engine = Engine(pack)
        names = sorted({line for pattern in layout.patterns for line in pattern.lines})
        self._inputs = Inputs([ButtonLine(name) for name in names], layout.patterns)
        self._now_ms = 1_000.0
        self._window: commands.MeasureSpeech | None = None
        self.signals: list[Signal] = []
        self.decisions: list[events.Decided] = []
        self.state = State(PolicySettings(limits=Limits(post_roll_s=2)), tag="test")
        self.send(events.Booted(self._ns()))

    @property
    def mode(self) -> Mode:
        return self.state.mode

    def send(self, event: events.Event) -> None:
        """An event, and whatever follows from it at once."""
        self.state, told = machine.step(self.state, event)
        for command in told:
            match command:
                case commands.Decide():
                    decided = answer(self._engine, "00" * 32, command)
                    self.decisions.append(decided)
                    self.send(decided)
                case commands.AppendEntry(token=token) if token:
                    self.send(events.Durable(self.state.now_ns, token))
                case commands.MeasureSpeech():
                    self._window = command
                case commands.ShowSignal(signal=signal):
                    self.signals.append(signal)

    def press(self, pattern: Pattern) -> list[Gesture]:
        """Hands do a pattern; the gestures that were recognised."""
        made = edges(pattern, self._now_ms)
        self._now_ms = max(edge.at_ns for edge in made) / MS + 2_000.0
        found = [event for event in run(self._inputs, made, until_ms=self._now_ms) if isinstance(event, Gesture)]
        for gesture in found:
            intent = self._layout.intent(gesture.pattern)
            for event in asked_by(intent, gesture) if intent is not None else ():
                self.send(event)
        return found

    def speak(self) -> None:
        """The wearer says something after the prompt; nothing is heard if there was none."""
        window, self._window = self._window, None
        if window is not None:
            self.send(events.SpeechMeasured(self.state.now_ns + NS, window.prompt_ns, detected=True, confidence=1.0))

    def authorised(self, action: str, given: Authorization) -> None:
        """Somebody signs leave for an action in this recording; an unsigned one is a key that is turned."""
        now_ns = self._ns()
        if not given.signed:
            self.send(events.KeySwitched(now_ns, on=True))
            return
        self.send(events.Authorised(now_ns, action, self.state.recording, given))

    def measured(self, needs: Mapping[str, Any], action: str) -> None:
        """What has to be measured or signed besides comes about; speech comes after the prompt."""
        leave = needs.get("authorization")
        if leave is not None:
            self.authorised(action, replace(leave, expires_in_s=300) if leave.signed else leave)
        if needs.get("dock_state") == "docked":
            self.send(events.DockContact(self._ns(), closed=True))
            self.send(events.Attested(self._ns(), self._ns() + 50 * NS, "station"))

    def _ns(self) -> int:
        return round(self._now_ms * MS)
