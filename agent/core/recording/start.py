"""Starting, resuming and moving a recording. `machine` has the rules."""

from dataclasses import replace

from agent.clock import MS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.commands import Command
from agent.core.recording.requests import context_changed
from agent.core.recording.situation import RESTRICTED, classify
from agent.core.recording.state import State, frozen
from agent.journal import entries

_ACTIONS = frozenset(events.Action)

Step = tuple[State, list[Command]]


def start_recording(state: State, recording: str, at_ns: int, cause: events.Cause) -> Step:
    """Start a recording. What was declared, used up and authorised before belongs to another encounter."""
    state = replace(
        state,
        recording=recording,
        started_ns=at_ns,
        reminded_ns=at_ns,
        declared=frozen({}),
        used_ns=frozen({}),
        request_counts=frozen({}),
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
    """Storage was read: resume the recording that another boot left running."""
    state = _restore(state, event)
    if not event.interrupted:
        return state, _storage_read(event.at_ns) if state.recording else _standby(event.at_ns)
    if state.recording:
        issued: list[Command] = [
            commands.AppendEntry(entries.Continued(event.interrupted, state.recording, event.at_ns // US))
        ]
    else:
        state, issued = start_recording(state, event.interrupted, event.at_ns, events.Cause.RECOVERY)
    state = _add_used(state, event.carried)
    if event.carried.classified:
        # The classification itself is sealed, and this boot can't read it: the narrowest circle leaks nothing.
        state, more = classify(state, RESTRICTED, event.at_ns)
        issued += more
    return state, issued


def blocked(state: State, event: events.RecordingBlocked) -> Step:
    """Nothing can be stored under the running recording's id: continue it under a new one, which names the old one.

    What was granted for the old one is void.
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
    return context_changed(state, issued, event.at_ns)


def _storage_read(at_ns: int) -> list[Command]:
    return [commands.AppendEntry(entries.StorageRead(at_ns // US))]


def _standby(at_ns: int) -> list[Command]:
    return [commands.AppendEntry(entries.StandbyEntered(at_ns // US)), commands.ShowSignal(Signal.READY)]


def _restore(state: State, event: events.Booted) -> State:
    """Restore the latch and the triggers. How much of their hold time passed while off is unknown: none is counted."""
    raised = {name: event.at_ns - age_ms * MS for name, age_ms in event.carried.triggers.items()}
    return replace(
        state,
        latched=state.latched or event.carried.latched,
        raised=frozen({**raised, **state.raised}),
        context=state.context + 1,
    )


def _add_used(state: State, carried: entries.PersistedState) -> State:
    """Add what the recording used up of its limits in the boots before."""
    used = dict(state.used_ns)
    for action, ms in carried.withheld_ms.items():
        if action in _ACTIONS:
            used[events.Action(action)] = used.get(events.Action(action), 0) + ms * MS
    counts = dict(state.request_counts)
    for action, times in carried.asked.items():
        if action in _ACTIONS:
            counts[events.Action(action)] = counts.get(events.Action(action), 0) + times
    return replace(state, used_ns=frozen(used), request_counts=frozen(counts))
