"""Failures, recoveries and tampering: journalled, signalled, and nothing else. They change no recording."""

from dataclasses import replace

from agent.core.indicator.signals import Signal
from agent.core.recording import commands as do
from agent.core.recording import events as on
from agent.core.recording.commands import Command
from agent.core.recording.events import Event
from agent.core.recording.state import State
from agent.journal import entries

US = 1000
DETAIL = 300
"""Characters of a problem that are journalled."""


def observed(state: State, event: Event) -> tuple[State, list[Command]]:
    """What a thing that merely happened leads to."""
    match event:
        case on.SourceFailed():
            state = replace(state, failing=state.failing | {event.track})
            entry: entries.Entry = entries.SourceFailed(event.track, event.problem[:300], event.at_ns // US)
            return state, [do.Journal(entry), do.Show(Signal.FAULT)]
        case on.SourceBack():
            state = replace(state, failing=state.failing - {event.track, "both"})
            return state, [do.Journal(entries.SourceGap(event.track, event.from_ns // US, event.at_ns // US))]
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
            return state, [do.Journal(entries.InputRecovered(event.line, event.presses))]
        case on.RunningLow():
            signal = Signal.BATTERY_LOW if event.what == "battery" else Signal.STORAGE_LOW
            return state, [do.Journal(entries.RunningLow(event.what, event.left, event.at_ns // US)), do.Show(signal)]
        case on.Tampered():
            entry = entries.Tampered(event.what, event.at_ns // US, event.ended)
            told = do.Journal(entry, {"detail": event.detail[:DETAIL]} if event.detail else {})
            return state, [told] if event.ended else [told, do.Show(Signal.FAULT)]
        case on.SelfTested():
            entry = entries.SelfTested(list(event.passed), sorted(event.failed))
            signal = Signal.FAULT if event.failed else Signal.READY
            return state, [do.Journal(entry, dict(event.failed)), do.Show(signal)]
        case on.Unheard():
            return state, [do.Journal(entries.Refused(event.what, event.why[:300])), do.Show(Signal.REFUSED)]
        case _:
            return state, []
