"""Docked, and not docked: an attribute of what requests are decided by, and nothing more.

The rules are those of `agent.core.recording.machine`. Docked is contact *and* attestation; docking ends no recording.
"""

from dataclasses import replace

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.commands import Command
from agent.core.recording.state import State
from agent.journal import entries

SPOOF_NS = 60 * NS
"""A contact that is closed for this long without an attestation is a spoofed dock, or a dock without its station."""

Change = tuple[State, list[Command]]


def contact(state: State, event: events.DockContact) -> Change:
    """The contact has moved. Opening it ends any attestation at once."""
    if event.closed == state.contact:
        return state, []
    entry = commands.AppendEntry(entries.DockContact(event.closed, event.at_ns // US))
    state = replace(state, contact=event.closed, contact_ns=event.at_ns, spoof_told=False)
    if not event.closed:
        state = replace(state, attested_until_ns=0)
    state, issued = settle(state, event.at_ns)
    return state, [entry, *issued]


def attested(state: State, event: events.Attested) -> Change:
    """A station has attested this device; with the contact open, that is somebody else's word for it.

    So it is over a nonce from before the contact last moved: the attestation was checked while the contact was still
    as before, and waited in the queue while it opened and closed.
    """
    if not state.contact:
        why = "an attestation came while the dock contact is open"
        return state, [commands.AppendEntry(entries.Refused("attestation", why))]
    if event.nonce_ns is not None and event.nonce_ns < state.contact_ns:
        why = "an attestation came over a nonce from before the dock contact last moved"
        return state, [commands.AppendEntry(entries.Refused("attestation", why))]
    until_ns = max(state.attested_until_ns, min(event.until_ns // US * US, event.at_ns + SPOOF_NS))
    return settle(replace(state, attested_until_ns=until_ns, station=event.station), event.at_ns)


def settle(state: State, now_ns: int) -> Change:
    """Say what has become of the dock by now, once."""
    issued: list[Command] = []
    docked = state.docked(now_ns)
    if docked != state.docked_told:
        state = replace(state, docked_told=docked)
        issued.append(commands.AppendEntry(entries.Docked(docked, state.station, now_ns // US)))
        issued.append(commands.ShowSignal(Signal.DOCKED if docked else Signal.UNDOCKED))
    if state.contact and not docked and not state.spoof_told and now_ns - state.contact_ns >= SPOOF_NS:
        state = replace(state, spoof_told=True)
        issued.append(commands.AppendEntry(entries.Tampered("dock_without_station", now_ns // US)))
    return state, issued


def next_deadline_ns(state: State) -> int | None:
    """When something about the dock changes by itself; None if nothing does."""
    if state.docked_told:
        return state.attested_until_ns
    if state.contact and not state.spoof_told:
        return state.contact_ns + SPOOF_NS
    return None
