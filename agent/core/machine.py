"""The recorder's state machine: an event in, the next state and commands out. No I/O, no clock, no thread, no chance.

The rules, in order:
1. A start is never refused. It acts first and is journalled after.
2. A recording ends only by a request that the policy granted, and only once the journal line that says so is on
   storage. Silence of the policy, or of storage, leaves the recording running.
3. A grant is for one recording: if that recording is no longer the running one, the grant is void.
4. A recording that another boot left running goes on, in the same recording, as soon as storage was read; unless a
   new one was begun before that, which then counts as its continuation.
5. SIGTERM ends the process, not the recording: it is stored, said to be interrupted, and goes on after the next start.
6. A mark never changes anything. Outside of a recording there is nothing to mark, and the wearer is told.
7. Failures of sources, storage and inputs are journalled and signalled; they change no recording.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from agent.core import commands as do
from agent.core import events as on
from agent.core.commands import Command
from agent.core.events import Event
from agent.core.signals import Background, Signal
from agent.evidence import entries

US = 1000


class Mode(StrEnum):
    """What the recorder is doing."""

    STANDBY = "standby"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that is not settled: asked, or granted and waiting for its journal line to be durable.

    Attributes:
        recording: The recording it was asked in.
    """

    asked: on.Asked
    recording: str
    decided: on.Decided | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that the core knows.

    Attributes:
        tag: Names this boot in the ids of its recordings.
        recording: Id of the running recording; empty in standby.
        recordings: Recordings begun in this boot.
        requests: Requests made in this boot; the number of the newest one.
        pending: Requests that are not settled, by number.
        storage_failing: Storage refuses.
        failing: Sources that do not deliver, by track.
        faulty_lines: Input lines that are not to be trusted.
        ending: The process was told to end.
    """

    tag: str = ""
    recording: str = ""
    recordings: int = 0
    requests: int = 0
    pending: Mapping[int, Pending] = field(default_factory=lambda: MappingProxyType({}))
    storage_failing: bool = False
    failing: frozenset[str] = frozenset()
    faulty_lines: frozenset[str] = frozenset()
    ending: bool = False

    @property
    def mode(self) -> Mode:
        """What the recorder is doing."""
        return Mode.RECORDING if self.recording else Mode.STANDBY


Step = tuple[State, list[Command]]


def step(state: State, event: Event) -> Step:
    """The next state, and what is to be done, in order."""
    match event:
        case on.Booted():
            return _booted(state, event)
        case on.StartAsked():
            return _start(state, event)
        case on.Asked():
            return _ask(state, event)
        case on.Decided():
            return _decided(state, event)
        case on.Durable():
            return _durable(state, event)
        case on.MarkAsked():
            return _mark(state, event)
        case on.RecordingOpened():
            return state, [_started(event)]
        case on.Told():
            return _told(state)
        case _:
            return _observed(state, event)


def _booted(state: State, event: on.Booted) -> Step:
    if not event.interrupted:
        return state, [] if state.recording else [do.Journal(entries.StandbyEntered()), do.Show(Signal.STANDBY)]
    if state.recording:
        return state, [do.Journal(entries.Continued(event.interrupted, state.recording))]
    state = replace(state, recording=event.interrupted)
    return state, [do.OpenRecording(event.interrupted, event.at_ns, on.Cause.RECOVERY), do.Show(Signal.STARTED)]


def _start(state: State, event: on.StartAsked) -> Step:
    if state.recording:
        return state, [do.Show(Signal.RECORDING)]
    number = state.recordings + 1
    recording = f"{state.tag}-{number:04d}"
    state = replace(state, recording=recording, recordings=number)
    return state, [do.OpenRecording(recording, event.at_ns, event.cause), do.Show(Signal.STARTED)]


def _started(event: on.RecordingOpened) -> Command:
    return do.Journal(
        entries.RecordingStarted(
            recording=event.recording,
            cause=event.cause,
            at_us=event.at_ns // US,
            pre_event_asked_ms=event.asked_ms,
            pre_event_kept_ms=event.kept_ms,
            pre_event_gap_ms=event.gap_ms,
            pre_event_short=event.short,
        )
    )


def _ask(state: State, event: on.Asked) -> Step:
    number = state.requests + 1
    pending = {**state.pending, number: Pending(event, state.recording)}
    state = replace(state, requests=number, pending=MappingProxyType(pending))
    entry = entries.Requested(number, event.action, event.at_ns // US)
    return state, [
        do.Journal(entry, {"principal": event.principal}),
        do.Decide(number, event.action, event.principal, event.at_ns),
    ]


def _without(state: State, request: int) -> State:
    pending = {number: entry for number, entry in state.pending.items() if number != request}
    return replace(state, pending=MappingProxyType(pending))


def _decided(state: State, event: on.Decided) -> Step:
    asked = state.pending.get(event.request)
    if asked is None or asked.decided is not None:
        return state, []
    entry = entries.Decided(event.request, event.allowed, event.policy, event.declared_only)
    details = {
        "principal": asked.asked.principal,
        "rules": list(event.rules),
        "obligations": list(event.obligations),
        "missing": list(event.missing),
    }
    if not event.allowed:
        return _without(state, event.request), [do.Journal(entry, details), do.Show(Signal.REFUSED)]
    pending = {**state.pending, event.request: replace(asked, decided=event)}
    state = replace(state, pending=MappingProxyType(pending))
    return state, [do.Journal(entry, details, token=event.request)]


def _durable(state: State, event: on.Durable) -> Step:
    granted = state.pending.get(event.token)
    if granted is None or granted.decided is None:
        return state, []
    state = _without(state, event.token)
    if granted.asked.action is not on.Action.STOP_RECORDING or granted.recording != state.recording:
        return state, []
    if not granted.recording:
        return state, [do.Show(Signal.STANDBY)]
    details = {
        "principal": granted.asked.principal,
        "rules": list(granted.decided.rules),
        "policy": granted.decided.policy,
    }
    ended = entries.RecordingEnded(granted.recording, event.token, event.at_ns // US)
    return replace(state, recording=""), [
        do.CloseRecording(granted.recording, event.token, details),
        do.Journal(ended, details),
        do.Journal(entries.StandbyEntered()),
        do.Show(Signal.GRANTED),
        do.Show(Signal.STANDBY),
    ]


def _mark(state: State, event: on.MarkAsked) -> Step:
    if not state.recording:
        return state, [do.Show(Signal.STANDBY)]
    return state, [do.Journal(entries.Marked(state.recording, event.at_ns // US)), do.Show(Signal.MARKED)]


def _told(state: State) -> Step:
    if state.ending:
        return state, []
    said: list[Command] = [do.Journal(entries.Interrupted(state.recording))] if state.recording else []
    return replace(state, ending=True), [*said, do.ShutDown()]


def _observed(state: State, event: Event) -> Step:
    """Failures and recoveries: journalled, signalled, and nothing else."""
    match event:
        case on.SourceFailed():
            state = replace(state, failing=state.failing | {event.track})
            entry: entries.Entry = entries.SourceFailed(event.track, event.problem, event.at_ns // US)
            return state, [do.Journal(entry), do.Show(Signal.FAULT)]
        case on.SourceBack():
            state = replace(state, failing=state.failing - {event.track, "both"})
            entry = entries.SourceGap(event.track, event.from_ns // US, event.at_ns // US)
            return state, [do.Journal(entry)]
        case on.StorageRefused():
            state = replace(state, storage_failing=True)
            entry = entries.StorageFailed(event.problem, event.at_ns // US)
            return state, [do.Journal(entry), do.Show(Signal.STORAGE_FAULT)]
        case on.StorageTakes():
            state = replace(state, storage_failing=False)
            return state, [do.Journal(entries.StorageBack(event.outage_ns // (US * 1000)))]
        case on.LineFaulty():
            state = replace(state, faulty_lines=state.faulty_lines | {event.line})
            return state, [do.Journal(entries.InputFault(event.line, event.fault)), do.Show(Signal.FAULT)]
        case on.LineGood():
            state = replace(state, faulty_lines=state.faulty_lines - {event.line})
            return state, [do.Journal(entries.InputRecovered(event.line))]
        case on.Unheard():
            return state, [do.Journal(entries.Refused(event.what, event.why)), do.Show(Signal.REFUSED)]
        case _:
            return state, []


def background(state: State) -> Background:
    """What the lights say all the time in this state: a fault that keeps a recording from being made comes first."""
    if "video" in state.failing or "both" in state.failing or state.storage_failing:
        return Background.FAULT
    return Background.RECORDING if state.recording else Background.STANDBY
