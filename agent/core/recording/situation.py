"""What the device learns about the situation: declared, measured, signed, docked. `machine` has the rules.

Each change of it is a change of context, with which `agent.core.recording.requests` voids what was granted before.
Docked needs both the dock's contact and a station's attestation; docking ends no recording and starts none.
"""

from collections.abc import Mapping
from dataclasses import replace

from msgspec import to_builtins

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.commands import Command
from agent.core.recording.requests import context_changed
from agent.core.recording.state import State, frozen
from agent.journal import entries
from agent.policy.request import merge_declarations

RESTRICTED = "restricted"
RESTRICTING_REASONS = frozenset({"juvenile", "sexual_assault_victim", "medical_facility", "confidential_informant"})
RESTRICTING_PEOPLE = frozenset({"minor", "sexual_assault_victim", "confidential_informant"})
SPOOF_NS = 60 * NS
"""A contact that is closed for this long without an attestation is a spoofed dock, or a dock without its station."""

Step = tuple[State, list[Command]]


def declared(state: State, event: events.Declared) -> Step:
    """The wearer has declared something about the recording that is running."""
    if not state.recording:
        return state, [commands.ShowSignal(Signal.STANDBY)]
    state = replace(state, declared=frozen(merge_declarations(state.declared, event.values)))
    values = {name: _plain(value) for name, value in event.values.items()}
    issued: list[Command] = [
        commands.AppendEntry(entries.Declared(state.recording, event.at_ns // US), values),
        commands.ShowSignal(Signal.MARKED),
    ]
    if _restricts(event.values):
        state, more = classify(state, RESTRICTED, event.at_ns)
        issued += more
    return context_changed(state, issued, event.at_ns)


def measured(state: State, event: events.Measured) -> Step:
    """The device or an authority has measured something."""
    if all(state.measured.get(name) == fact for name, fact in event.facts.items()):
        return state, []
    state = replace(state, measured=frozen({**state.measured, **event.facts}))
    facts = {name: {"value": _plain(fact.value), "provenance": fact.provenance} for name, fact in event.facts.items()}
    return context_changed(state, [commands.AppendEntry(entries.Measured(event.at_ns // US), facts)], event.at_ns)


def speech_measured(state: State, event: events.SpeechMeasured) -> Step:
    """The announce window is over. Speech voids no grant: it can only satisfy what requires it."""
    if state.prompted_ns < 0 or event.prompt_ns != state.prompted_ns:
        return state, []
    confidence = event.confidence if 0 <= event.confidence <= 1 else 0.0
    entry = entries.SpeechMeasured(event.at_ns // US, event.detected, round(confidence * 100))
    spoken_ns = event.at_ns if event.detected else state.spoken_ns
    return replace(state, prompted_ns=-1, spoken_ns=spoken_ns), [commands.AppendEntry(entry)]


def authorised(state: State, event: events.Authorised) -> Step:
    """A supervisor's token was checked. One for another recording than the running one changes nothing."""
    details = {
        "who": dict(event.who),
        "recording": event.recording,
        "authorization": to_builtins(event.authorization),
    }
    too_late = event.action != "LatchCriticalIncident" and event.recording != state.recording
    issued: list[Command] = [
        commands.AppendEntry(entries.Authorised(event.action, event.at_ns // US, too_late), details),
        commands.ShowSignal(Signal.REFUSED if too_late else Signal.GRANTED),
    ]
    if event.action == "LatchCriticalIncident":
        state = replace(state, latched=True)
    elif not too_late and event.action == "ReleaseCriticalIncident":
        state = replace(state, latched=False)
    elif not too_late:
        until_ns = event.at_ns + event.authorization.expires_in_s * NS
        state = replace(
            state, authorization=event.authorization, authorized_for=event.action, authorized_until_ns=until_ns
        )
    return context_changed(state, issued, event.at_ns)


def key_switched(state: State, event: events.KeySwitched) -> Step:
    """The supervisor's key switch was turned."""
    if event.on == state.key_switch:
        return state, []
    entry = commands.AppendEntry(entries.KeySwitched(event.on, event.at_ns // US))
    return context_changed(replace(state, key_switch=event.on), [entry], event.at_ns)


def classify(state: State, classification: str, at_ns: int) -> Step:
    """Seal the rest of the recording to the recipients of this classification. Restricted stays restricted."""
    if classification == state.classification or (state.classification and classification != RESTRICTED):
        return state, []
    state = replace(state, classification=classification)
    entry = entries.Classified(state.recording, at_ns // US)
    return state, [
        commands.AppendEntry(entry, {"classification": classification}),
        commands.Reclassify(state.recording, classification),
    ]


def dock_contact(state: State, event: events.DockContact) -> Step:
    """The dock's contact has moved. Opening it ends any attestation at once."""
    if event.closed == state.contact:
        return state, []
    entry = commands.AppendEntry(entries.DockContact(event.closed, event.at_ns // US))
    state = replace(state, contact=event.closed, contact_ns=event.at_ns, spoof_reported=False)
    if not event.closed:
        state = replace(state, attested_until_ns=0)
    state, issued = update_docked(state, event.at_ns)
    return state, [entry, *issued]


def attested(state: State, event: events.Attested) -> Step:
    """A station has attested this device.

    Refused with the contact open, for then the attestation is not about this dock; and over a nonce from before the
    contact last moved, as of an attestation that waited in the queue while the contact opened and closed.
    """
    if not state.contact:
        why = "an attestation came while the dock contact is open"
        return state, [commands.AppendEntry(entries.Refused("attestation", why))]
    if event.nonce_ns is not None and event.nonce_ns < state.contact_ns:
        why = "an attestation came over a nonce from before the dock contact last moved"
        return state, [commands.AppendEntry(entries.Refused("attestation", why))]
    until_ns = max(state.attested_until_ns, min(event.until_ns // US * US, event.at_ns + SPOOF_NS))
    return update_docked(replace(state, attested_until_ns=until_ns, station=event.station), event.at_ns)


def update_docked(state: State, now_ns: int) -> Step:
    """Report once that the device is now docked, no longer docked, or at a dock without a station."""
    issued: list[Command] = []
    docked = state.docked(now_ns)
    changed = docked != state.docked_reported
    if changed:
        state = replace(state, docked_reported=docked)
        issued.append(commands.AppendEntry(entries.Docked(docked, state.station, now_ns // US)))
        issued.append(commands.ShowSignal(Signal.DOCKED if docked else Signal.UNDOCKED))
    if state.contact and not docked and not state.spoof_reported and now_ns - state.contact_ns >= SPOOF_NS:
        state = replace(state, spoof_reported=True)
        issued.append(commands.AppendEntry(entries.Tampered("dock_without_station", now_ns // US)))
    return context_changed(state, issued, now_ns) if changed else (state, issued)


def _restricts(values: Mapping[str, object]) -> bool:
    """True if these declarations name a person or place whose recording fewer people may see."""
    people = values.get("person_class")
    return values.get("reason_code") in RESTRICTING_REASONS or (
        isinstance(people, frozenset) and bool(people & RESTRICTING_PEOPLE)
    )


def _plain(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, frozenset) else value
