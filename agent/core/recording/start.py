"""The start of a recording, and what a boot takes over. `agent.core.recording.machine` has the rules."""

from dataclasses import replace

from agent.core.indicator.signals import Signal
from agent.core.recording import commands as do
from agent.core.recording import events as on
from agent.core.recording import requests
from agent.core.recording.commands import Command
from agent.core.recording.state import State, frozen
from agent.journal import entries

_MS = 1_000_000
_US = 1000
_ACTIONS = frozenset(on.Action)

Step = tuple[State, list[Command]]


def begin(state: State, recording: str, at_ns: int, cause: on.Cause) -> Step:
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
    commands: list[Command] = [do.OpenRecording(recording, at_ns, cause), do.Show(Signal.STARTED)]
    if state.ending:
        commands.append(do.Journal(entries.Interrupted(recording)))
    return state, commands


def booted(state: State, event: on.Booted) -> Step:
    """Storage was read: what another boot left running goes on."""
    state = _remembered(state, event)
    if not event.interrupted:
        return state, _read(event.at_ns) if state.recording else _standby(event.at_ns)
    if state.recording:
        commands: list[Command] = [
            do.Journal(entries.Continued(event.interrupted, state.recording, event.at_ns // _US))
        ]
    else:
        state, commands = begin(state, event.interrupted, event.at_ns, on.Cause.RECOVERY)
    state = _continued(state, event.carried)
    if event.carried.classified:
        # As what, is sealed, and this boot can't read it: the narrowest circle is the one that leaks nothing.
        state, more = requests.classify(state, requests.RESTRICTED, event.at_ns)
        commands += more
    return state, commands


def blocked(state: State, event: on.RecordingBlocked) -> Step:
    """Nothing of the running recording can be stored under its id: it goes on under a new one, which names it.

    What was granted, was granted for the old one: it is void.
    """
    if not state.recording or state.recording != event.recording:
        return state, []
    number = state.recordings + 1
    by = f"{state.tag}-{number:04d}"
    state = replace(state, recordings=number, recording=by)
    at_us = event.at_ns // _US
    commands: list[Command] = [
        do.Journal(entries.RecordingStarted(by, on.Cause.RECOVERY, at_us, 0, 0, 0, "")),
        do.MoveRecording(event.recording, by),
        do.Journal(entries.Continued(event.recording, by, at_us)),  # last: what it names must have begun
        do.Show(Signal.FAULT),
    ]
    return requests.context_changed(state, commands, event.at_ns)


def _read(at_ns: int) -> list[Command]:
    return [do.Journal(entries.StorageRead(at_ns // _US))]


def _standby(at_ns: int) -> list[Command]:
    return [do.Journal(entries.StandbyEntered(at_ns // _US)), do.Show(Signal.READY)]


def _remembered(state: State, event: on.Booted) -> State:
    """The latch, and triggers: nobody knows how much of their hold time passed in the dark, so none of it did."""
    raised = {name: event.at_ns - age_ms * _MS for name, age_ms in event.carried.triggers.items()}
    return replace(
        state,
        latched=state.latched or event.carried.latched,
        raised=frozen({**raised, **state.raised}),
        context=state.context + 1,
    )


def _continued(state: State, carried: entries.Carried) -> State:
    """What the recording has used up of its limits, in this boot and before."""
    used = dict(state.used_ns)
    for action, ms in carried.withheld_ms.items():
        if action in _ACTIONS:
            used[on.Action(action)] = used.get(on.Action(action), 0) + ms * _MS
    asked = dict(state.asked_again)
    for action, times in carried.asked.items():
        if action in _ACTIONS:
            asked[on.Action(action)] = asked.get(on.Action(action), 0) + times
    return replace(state, used_ns=frozen(used), asked_again=frozen(asked))
