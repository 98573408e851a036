"""The control thread: takes what threads enqueue, lets the core decide, and has the commands carried out.

It never waits for storage, a source or the journal: all it calls are short hand-overs. An exception in here, whatever
its origin, is journalled and the loop turns on.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from agent.clock import NS, Clocks
from agent.core import commands as do
from agent.core import events as on
from agent.core import machine
from agent.core.gestures_layout import Layout, Verb
from agent.core.inputs import Inputs
from agent.core.inputs_events import Gesture, InputEvent, LineFault, LineRecovered, TriggerRaised
from agent.core.inputs_lines import Edge

TURN_S = 0.25
"""The loop turns at least this often, so that a watchdog can tell that it lives."""


class Effects(Protocol):
    """What commands do to the world. Each call returns at once."""

    def open_recording(self, command: do.OpenRecording) -> on.RecordingOpened:
        """Give it its place in the ring and have it written."""

    def close_recording(self, command: do.CloseRecording) -> None:
        """Have it ended now."""

    def decide(self, command: do.Decide) -> on.Decided:
        """Ask the policy."""

    def journal(self, command: do.Journal, durable: Callable[[], None] | None) -> None:
        """Have an entry journalled; `durable` is called from any thread once it is on storage."""

    def show(self, command: do.Show) -> None:
        """Signal to the wearer."""

    def shut_down(self) -> None:
        """Begin to end the process."""

    def turned(self, state: machine.State, now_ns: int) -> float:
        """The loop has turned: seconds until it should turn again at the latest."""

    def stumbled(self, problem: str) -> None:
        """An exception was caught."""


Item = on.Event | Edge | Callable[[], None]


class Control:
    """The control thread's loop.

    Args:
        clocks: Both clocks.
        state: What the core knows at first.
        inputs: Makes gestures of edges.
        layout: What gestures ask for.
        effects: Carries commands out.
    """

    def __init__(self, clocks: Clocks, state: machine.State, inputs: Inputs, layout: Layout, effects: Effects) -> None:
        self._clocks = clocks
        self._state = state
        self._inputs = inputs
        self._layout = layout
        self._effects = effects
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.turns = 0

    @property
    def state(self) -> machine.State:
        """What the core knows."""
        return self._state

    def put(self, item: Item) -> None:
        """Enqueue an event or an edge; from any thread, never blocks."""
        self._items.put(item)

    def call(self, work: Callable[[], Mapping[str, Any]]) -> "Future[Mapping[str, Any]]":
        """Have something done in the control thread, between two events."""
        future: Future[Mapping[str, Any]] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - handed to the caller, who waits for it
                future.set_exception(error)

        self._items.put(run)
        return future

    def stop(self) -> None:
        """Let the loop end after what is enqueued."""
        self._stopping.set()
        self._items.put(lambda: None)

    def run(self) -> None:
        """Turn until stopped."""
        wait = 0.0
        while not (self._stopping.is_set() and self._items.empty()):
            try:
                item: Item | None = self._items.get(timeout=max(0.0, min(wait, TURN_S)))
            except queue.Empty:
                item = None
            wait = self.turn(item)

    def drain(self) -> None:
        """Handle all that is enqueued, and return: for those who run the loop themselves."""
        while not self._items.empty():
            self.turn(self._items.get())
        self.turn()

    def turn(self, item: Item | None = None) -> float:
        """Handle one item, let time pass for the inputs, and say when to turn again at the latest, in seconds."""
        self.turns += 1
        now = self._clocks.monotonic_ns()
        try:
            if isinstance(item, Edge):
                self._gestures(self._inputs.edge(item))
            elif callable(item):
                item()
            elif item is not None:
                self.handle(item)
            self._gestures(self._inputs.tick(now))
            wait = self._effects.turned(self._state, now)
        except Exception as error:  # noqa: BLE001 - the control thread outlives every mistake, ours too
            self._effects.stumbled(f"{type(error).__name__}: {error}")
            return TURN_S
        deadline = self._inputs.next_deadline_ns()
        return wait if deadline is None else min(wait, (deadline - now) / NS)

    def handle(self, event: on.Event) -> None:
        """Let the core handle an event and carry its commands out, and what follows from them."""
        self._state, commands = machine.step(self._state, event)
        for command in commands:
            answer = self._carry_out(command)
            if answer is not None:
                self.handle(answer)

    def _carry_out(self, command: do.Command) -> on.Event | None:
        match command:
            case do.OpenRecording():
                return self._effects.open_recording(command)
            case do.CloseRecording():
                self._effects.close_recording(command)
            case do.Decide():
                return self._effects.decide(command)
            case do.Journal():
                self._effects.journal(command, self._durable(command.token) if command.token else None)
            case do.Show():
                self._effects.show(command)
            case do.ShutDown():
                self._effects.shut_down()
        return None

    def _durable(self, token: int) -> Callable[[], None]:
        return lambda: self.put(on.Durable(self._clocks.monotonic_ns(), token))

    def _gestures(self, told: list[InputEvent]) -> None:
        for event in told:
            asked = self._asked(event)
            if asked is not None:
                self.handle(asked)

    def _asked(self, event: InputEvent) -> on.Event | None:
        match event:
            case TriggerRaised():
                return on.StartAsked(event.at_ns, on.Cause.TRIGGER)
            case LineFault():
                return on.LineFaulty(event.at_ns, event.line, event.fault)
            case LineRecovered():
                return on.LineGood(event.at_ns, event.line)
            case Gesture():
                intent = self._layout.intent(event.pattern)
                return None if intent is None else asked_by(intent.verb, event)
            case _:
                return None


def asked_by(verb: Verb, gesture: Gesture) -> on.Event | None:
    """The core's event for what a gesture asks; None for what this recorder does not know yet."""
    match verb:
        case Verb.START:
            return on.StartAsked(gesture.began_ns, on.Cause.BUTTON)
        case Verb.MARK:
            return on.MarkAsked(gesture.began_ns)
        case Verb.ASK_STOP:
            return on.Asked(gesture.at_ns, on.Action.STOP_RECORDING, on.Principal.WEARER)
        case _:
            return None
