"""Failures, recoveries and tampering: journalled, signalled, and nothing else. They change no recording."""

from dataclasses import replace

from agent.clock import US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.commands import Command
from agent.core.recording.events import Event
from agent.core.recording.state import State
from agent.journal import entries

DETAIL = 300
"""Characters of a problem that are journalled."""


def observed(state: State, event: Event) -> tuple[State, list[Command]]:
    """What a thing that merely happened leads to."""
    match event:
        case events.SourceFailed():
            state = replace(state, failing=state.failing | {event.track})
            entry: entries.Entry = entries.SourceFailed(event.track, event.problem[:300], event.at_ns // US)
            return state, [commands.AppendEntry(entry), commands.ShowSignal(Signal.FAULT)]
        case events.SourceRecovered():
            state = replace(state, failing=state.failing - {event.track, "both"})
            return state, [commands.AppendEntry(entries.SourceGap(event.track, event.from_ns // US, event.at_ns // US))]
        case events.StorageFailed():
            state = replace(state, storage_failing=True)
            entry = entries.StorageFailed(event.problem, event.at_ns // US)
            return state, [commands.AppendEntry(entry), commands.ShowSignal(Signal.STORAGE_FAULT)]
        case events.StorageRecovered():
            state = replace(state, storage_failing=False)
            return state, [commands.AppendEntry(entries.StorageBack(event.outage_ns // (US * 1000)))]
        case events.LineFaulty():
            state = replace(state, faulty_lines=state.faulty_lines | {event.line})
            return state, [
                commands.AppendEntry(entries.InputFault(event.line, event.fault)),
                commands.ShowSignal(Signal.FAULT),
            ]
        case events.LineRecovered():
            state = replace(state, faulty_lines=state.faulty_lines - {event.line})
            return state, [commands.AppendEntry(entries.InputRecovered(event.line, event.presses))]
        case events.RunningLow():
            signal = Signal.BATTERY_LOW if event.what == "battery" else Signal.STORAGE_LOW
            return state, [
                commands.AppendEntry(entries.RunningLow(event.what, event.left, event.at_ns // US)),
                commands.ShowSignal(signal),
            ]
        case events.Tampered():
            entry = entries.Tampered(event.what, event.at_ns // US, event.ended)
            told = commands.AppendEntry(entry, {"detail": event.detail[:DETAIL]} if event.detail else {})
            return state, [told] if event.ended else [told, commands.ShowSignal(Signal.FAULT)]
        case events.SelfTested():
            entry = entries.SelfTested(list(event.passed), sorted(event.failed))
            signal = Signal.FAULT if event.failed else Signal.READY
            return state, [commands.AppendEntry(entry, dict(event.failed)), commands.ShowSignal(signal)]
        case events.MessageRejected():
            return state, [
                commands.AppendEntry(entries.Refused(event.what, event.why[:300])),
                commands.ShowSignal(Signal.REFUSED),
            ]
        case _:
            return state, []
