"""The start of a recording, and what a boot takes over. `agent.core.recording.machine` has the rules."""

from dataclasses import replace

from agent.clock import MS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events, requests
from agent.core.recording.commands import Command
from agent.core.recording.state import State, frozen
from agent.journal import entries

_ACTIONS = frozenset(events.Action)

Step = tuple[State, list[Command]]


def start_recording(state: State, recording: str, at_ns: int, cause: events.Cause) -> Step:
    """A recording begins with a clean slate: what was said before belongs to another encounter."""
    state = replace(
        state,
        recording=recording,
        started_ns=at_ns,
        reminded_ns=at_ns,
        declared=frozen({}),
        used_ns=frozen({}),
        asked_again=frozen({}),
        spoken_ns=-1,
        prompted_ns=-1,
        authorization=None,
        authorized_for="",
        classification="",
        context=state.context + 1,
    )
    issued: list[Command] = [commands.OpenRecording(recording, at_ns, cause), commands.ShowSignal(Signal.STARTED)]
    if state.ending:
        issued.append(commands.AppendEntry(entries.Interrupted(recording)))
    return state, issued


def take_over(state: State, event: events.Booted) -> Step:
    """Storage was read: what another boot left running goes on."""
    state = _remembered(state, event)
    if not event.interrupted:
        return state, _read(event.at_ns) if state.recording else _standby(event.at_ns)
    if state.recording:
        issued: list[Command] = [
            commands.AppendEntry(entries.Continued(event.interrupted, state.recording, event.at_ns // US))
        ]
    else:
        state, issued = start_recording(state, event.interrupted, event.at_ns, events.Cause.RECOVERY)
    state = _continued(state, event.carried)
    if event.carried.classified:
        # As what, is sealed, and this boot can't read it: the narrowest circle is the one that leaks nothing.
        state, more = requests.classify(state, requests.RESTRICTED, event.at_ns)
        issued += more
    return state, issued


def blocked(state: State, event: events.RecordingBlocked) -> Step:
    """Nothing of the running recording can be stored under its id: it goes on under a new one, which names it.

    What was granted, was granted for the old one: it is void.
    """
    if not state.recording or state.recording != event.recording:
        return state, []
    number = state.recordings + 1
    by = f"{state.tag}-{number:04d}"
    state = replace(state, recordings=number, recording=by)
    at_us = event.at_ns // US
    issued: list[Command] = [
        commands.AppendEntry(entries.RecordingStarted(by, events.Cause.RECOVERY, at_us, 0, 0, 0, "")),
        commands.MoveRecording(event.recording, by),
        commands.AppendEntry(entries.Continued(event.recording, by, at_us)),  # last: what it names must have begun
        commands.ShowSignal(Signal.FAULT),
    ]
    return requests.context_changed(state, issued, event.at_ns)


def _read(at_ns: int) -> list[Command]:
    return [commands.AppendEntry(entries.StorageRead(at_ns // US))]


def _standby(at_ns: int) -> list[Command]:
    return [commands.AppendEntry(entries.StandbyEntered(at_ns // US)), commands.ShowSignal(Signal.READY)]


def _remembered(state: State, event: events.Booted) -> State:
    """The latch, and triggers: nobody knows how much of their hold time passed in the dark, so none of it did."""
    raised = {name: event.at_ns - age_ms * MS for name, age_ms in event.carried.triggers.items()}
    return replace(
        state,
        latched=state.latched or event.carried.latched,
        raised=frozen({**raised, **state.raised}),
        context=state.context + 1,
    )


def _continued(state: State, carried: entries.PersistedState) -> State:
    """What the recording has used up of its limits, in this boot and before."""
    used = dict(state.used_ns)
    for action, ms in carried.withheld_ms.items():
        if action in _ACTIONS:
            used[events.Action(action)] = used.get(events.Action(action), 0) + ms * MS
    asked = dict(state.asked_again)
    for action, times in carried.asked.items():
        if action in _ACTIONS:
            asked[events.Action(action)] = asked.get(events.Action(action), 0) + times
    return replace(state, used_ns=frozen(used), asked_again=frozen(asked))
