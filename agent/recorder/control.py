"""The control thread: takes queued events, passes them to the core, and carries the commands out.

It never waits for storage, a source or the journal: everything it calls only enqueues. An exception, whatever its
origin, is journalled, and the loop continues.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from agent.clock import NS, Clocks
from agent.core.indicator.signals import Signal
from agent.core.inputs.events import (
    Fault,
    Gesture,
    HoldReached,
    InputEvent,
    LineFault,
    LineRecovered,
    SwitchMoved,
    TriggerLowered,
    TriggerRaised,
)
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import Edge
from agent.core.recording import commands, events, machine
from agent.core.recording.state import State
from agent.domain.layout import Intent, Layout, Verb
from agent.policy.request import parse_declarations
from agent.policy.schema import standard

SUPERVISOR_KEY = "supervisor_key"
DOCK_CONTACT = "dock_contact"
"""Switches of these names are facts of the device, whatever the layout says."""
SETTLE_NS = 50_000_000
"""Edges carry the kernel's time, and reach the control loop at most this much later. Time passes for the inputs only as
far as all edges are known: otherwise, on a busy machine, the pause within a double press would seem to be over."""
TURN_S = 0.25
"""The loop runs at least this often, so that the watchdog sees that it is alive."""


class Effects(Protocol):
    """Carries out commands. Each call returns at once."""

    def carry_out(self, command: commands.Command, durable: Callable[[], None]) -> events.Event | None:
        """Carry out a command; returns the event that answers it at once, if any.

        `durable` is to be called, from any thread, once a journal line that has a token is on storage.
        """

    def update_outputs(self, state: State, now_ns: int) -> float:
        """Show the state to the wearer; returns the seconds until the next call at the latest."""

    def report_internal_error(self, problem: str) -> None:
        """Report a caught exception."""


Item = events.Event | Edge | Callable[[], None]


class Control:
    """The control thread's loop.

    Args:
        clocks: Both clocks.
        state: What the core knows at first.
        inputs: Makes gestures of edges.
        layout: Maps gestures to requests.
        effects: Carries commands out.
    """

    def __init__(self, clocks: Clocks, state: State, inputs: Inputs, layout: Layout, effects: Effects) -> None:
        self._clocks = clocks
        self._state = state
        self._inputs = inputs
        self._layout = layout
        self._effects = effects
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.turns = 0

    @property
    def state(self) -> State:
        """What the core knows."""
        return self._state

    def use(self, layout: Layout) -> None:
        """Let gestures mean this from now on; to be called in the control thread (`put` a function that does)."""
        # Inputs first: a layout for buttons that this device lacks is refused there, and the old one stays whole.
        self._handle_inputs(self._inputs.relayout(layout.patterns, self._clocks.monotonic_ns()))
        self._layout = layout

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
        if item is not None:
            self._try(lambda: self._take(item))
        if self._items.empty():
            # Time may pass for the inputs only once all edges of before are read: else, after a stall, the pause
            # within a double press would seem over and a start would become a mark.
            self._try(lambda: self._handle_inputs(self._inputs.tick(now - SETTLE_NS)))
        due_ns = machine.next_deadline_ns(self._state)
        if due_ns is not None and now >= due_ns:
            self._try(lambda: self.handle(events.Tick(now)))
        try:
            wait = self._effects.update_outputs(self._state, now)
        except Exception as error:  # noqa: BLE001 - as in `_try`
            self._effects.report_internal_error(f"{type(error).__name__}: {error}")
            return TURN_S
        gestures_ns = self._inputs.next_deadline_ns()
        if gestures_ns is not None:
            wait = min(wait, (gestures_ns + SETTLE_NS - now) / NS)
        core_ns = machine.next_deadline_ns(self._state)
        if core_ns is not None:
            wait = min(wait, (core_ns - now) / NS)
        return wait

    def _try(self, work: Callable[[], None]) -> None:
        """Run one task; an error in it must neither end the thread nor delay another task."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the control thread survives every error
            self._effects.report_internal_error(f"{type(error).__name__}: {error}")

    def _take(self, item: Item) -> None:
        if isinstance(item, Edge):
            self._handle_inputs(self._inputs.edge(item))
        elif callable(item):
            item()
        else:
            self.handle(item)

    def handle(self, event: events.Event) -> None:
        """Let the core handle an event and carry its commands out, and what follows from them.

        An event of the future is one of now: the core's time must never run ahead of the clock.
        """
        event = replace(event, at_ns=min(event.at_ns, self._clocks.monotonic_ns()))
        self._state, issued = machine.step(self._state, event)
        for command in issued:
            # The state has changed already: what fails, such as a light, must not keep the rest from being carried out.
            self._try(partial(self._carry_out, command))

    def _carry_out(self, command: commands.Command) -> None:
        answer = self._effects.carry_out(command, self._durable(command))
        if answer is not None:
            self.handle(answer)

    def _durable(self, command: commands.Command) -> Callable[[], None]:
        token = command.token if isinstance(command, commands.AppendEntry) else 0
        return lambda: self.put(events.Durable(self._clocks.monotonic_ns(), token))

    def _handle_inputs(self, inputs: list[InputEvent]) -> None:
        for event in inputs:
            for core_event in self._core_events(event):
                self.handle(core_event)

    def _core_events(self, event: InputEvent) -> list[events.Event]:
        match event:
            case TriggerRaised():
                return [events.TriggerActivated(event.at_ns, event.line), *self._level(event, raised=True)]
            case TriggerLowered():
                return self._level(event, raised=False)
            case LineFault():
                fault = f"{event.fault}: {event.detail}" if event.detail else str(event.fault)
                # Raised since before this boot: no rising edge was seen, but its level is what it is.
                level = self._level(event, raised=True) if event.fault is Fault.HELD_AT_BOOT else []
                return [events.LineFaulty(event.at_ns, event.line, fault), *level]
            case LineRecovered():
                good = events.LineRecovered(event.at_ns, event.line, event.presses)
                return [good, *self._level(event, raised=False)]
            case SwitchMoved() if event.line == SUPERVISOR_KEY:
                return [events.KeySwitched(event.at_ns, event.on)]
            case SwitchMoved() if event.line == DOCK_CONTACT:
                return [events.DockContact(event.at_ns, event.on)]
            case HoldReached():
                self._effects.carry_out(commands.ShowSignal(Signal.HOLD_REACHED), lambda: None)
                return []
            case Gesture():
                intent = self._layout.intent(event.pattern)
                return [] if intent is None else asked_by(intent, event)
            case _:
                return []

    def _level(
        self, event: TriggerRaised | TriggerLowered | LineFault | LineRecovered, *, raised: bool
    ) -> list[events.Event]:
        """What a trigger line's level says; nothing of a pulse's or of another line's."""
        known = event.line in self._inputs.level_triggers
        return [events.TriggerLevel(event.at_ns, event.line, raised)] if known else []


def asked_by(intent: Intent, gesture: Gesture) -> list[events.Event]:
    """The core's events for what a gesture asks."""
    match intent.verb:
        case Verb.START:
            return [events.StartRequested(gesture.began_ns, events.Cause.BUTTON)]
        case Verb.MARK:
            return [events.MarkRequested(gesture.began_ns)]
        case Verb.ASK_STOP:
            return [events.ActionRequested(gesture.at_ns, events.Action.STOP_RECORDING)]
        case Verb.ASK_PRIVACY:
            return [events.ActionRequested(gesture.at_ns, events.Action.PRIVACY_PAUSE)]
        case Verb.ASK_MUTE:
            return [events.ActionRequested(gesture.at_ns, events.Action.MUTE)]
        case Verb.ASK_POWER_OFF:
            return [events.ActionRequested(gesture.at_ns, events.Action.POWER_OFF)]
        case Verb.RESUME:
            return [events.ActionRequested(gesture.at_ns, events.Action.RESUME_RECORDING)]
        case Verb.DECLARE:
            return [events.Declared(gesture.at_ns, parse_declarations(intent.argument, standard()))]
        case Verb.CLASSIFY:
            return [events.Classified(gesture.at_ns, intent.argument)]
        case Verb.STEALTH:
            return [events.StealthRequested(gesture.at_ns)]
