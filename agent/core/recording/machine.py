"""The recorder's state machine: an event in, the next state and commands out. No I/O, clock, thread or randomness.

The rules, in order:
1. A start is never refused, whether by button, trigger or tool. It acts first and is journalled after.
2. A recording ends or is suppressed only by a request that the policy granted, and only once the journal line of the
   grant is durable. While policy or storage do not answer, the recording stays as it is.
3. A grant is for one recording and one context. It is void if by then a trigger rose, the wearer declared something
   else or another recording runs, or if its journal line became durable too late.
4. A granted stop takes effect after a post-roll, within which the wearer, a trigger or any change of context cancels
   it. A granted power-off takes effect at once.
5. A suppression (privacy pause, mute) is bounded, each time and summed over the recording. It ends at its limit, at a
   trigger, on request, and when the policy, asked again after a change of context, no longer grants it. What was spoken
   and signed for it counts for as long as it lasts. A granted stop ends it, and none begins after that.
6. Resuming, like starting, is never refused. Both also withdraw all requests that are not carried out yet.
7. A recording that another boot left running is resumed as soon as storage was read; a recording that was started
   before that counts as its continuation. The latch, triggers, used-up limits and classification carry over.
8. SIGTERM ends the process, not the recording: it is stored, journalled as interrupted, and resumed after the next
   start. A critical battery does the same and then powers off: that is no request, and no stop.
9. A mark never changes anything. Outside of a recording there is nothing to mark, which is signalled to the wearer.
10. A trigger is live for its hold time from its rising edge on, not while its level stays high. Whether a level is
    still high is a fact of its own. Its rise is a change of context; its fall voids nothing that was granted.
11. A critical incident latches until a supervisor or an investigator releases it by signature.
12. Failures of sources, storage and inputs are journalled and signalled; they change no recording.
13. Docked means contact and a station's attestation. It is an attribute, ends no recording and starts none.
14. Time never goes back: an event from the past is taken as of now. What was due by the time of an event happens before
    it. Time is cut to the microseconds of the journal, so that a replay of its lines sees the same.
"""

from dataclasses import replace

from msgspec import to_builtins

from agent.clock import MS, NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events, requests, situation, suppression
from agent.core.recording.commands import Command
from agent.core.recording.events import Event
from agent.core.recording.start import blocked, start_recording, take_over
from agent.core.recording.state import State, frozen
from agent.journal import entries

MOST_TRIGGERS = 64
MOST_DETAIL = 300
"""Characters of a problem that are journalled."""
_POLICY_STAYS = frozenset({"policy_refused", "policy_expired"})
"""Events of a policy after which the same one stays in force."""

Step = tuple[State, list[Command]]


def step(state: State, event: Event) -> Step:
    """The next state, and what is to be done, in order. Never raises, whatever the event in whatever state."""
    at_ns = max(event.at_ns // US * US, state.now_ns)
    if at_ns != event.at_ns:
        event = replace(event, at_ns=at_ns)
    if at_ns != state.now_ns:
        state = replace(state, now_ns=at_ns)
    state, due = _handle_due(state, at_ns)
    state, issued = _handle(state, event)
    return state, [*due, *issued] if due else issued


def _handle(state: State, event: Event) -> Step:
    match event:
        case events.Booted():
            return take_over(state, event)
        case events.RecordingBlocked():
            return blocked(state, event)
        case events.StartRequested():
            return _start(state, event.at_ns, event.cause)
        case events.TriggerActivated():
            return _trigger(state, event)
        case events.TriggerLevel():
            return _trigger_level(state, event)
        case events.ActionRequested(action=events.Action.RESUME_RECORDING):
            return _resume(state, event)
        case events.ActionRequested():
            return requests.request_action(state, event)
        case events.Decided():
            return requests.decision_made(state, event)
        case events.Durable():
            return requests.grant_stored(state, event)
        case events.MarkRequested():
            return _mark(state, event)
        case events.Declared():
            return situation.declared(state, event)
        case events.Measured():
            return situation.measured(state, event)
        case events.SpeechMeasured():
            return situation.speech_measured(state, event)
        case events.Authorised():
            return situation.authorised(state, event)
        case events.KeySwitched():
            return situation.key_switched(state, event)
        case events.DockContact():
            return situation.dock_contact(state, event)
        case events.Attested():
            return situation.attested(state, event)
        case events.Classified():
            return _classified(state, event)
        case events.StealthRequested():
            return _stealth(state)
        case events.PolicyChanged():
            return _policy(state, event)
        case events.RecordingOpened():
            return state, [_start_entry(event)]
        case events.TerminationRequested():
            return _terminate(state)
        case events.PowerFailing():
            return _power_failing(state, event)
        case _:
            return _observed(state, event)


def _start(state: State, at_ns: int, cause: events.Cause) -> Step:
    if state.recording:
        return requests.cancel_pending(state, at_ns, f"start by {cause}")
    number = state.recordings + 1
    return start_recording(replace(state, recordings=number), f"{state.tag}-{number:04d}", at_ns, cause)


def _trigger(state: State, event: events.TriggerActivated) -> Step:
    raised = {name: at for name, at in state.raised.items() if name != event.name}
    if len(raised) >= MOST_TRIGGERS:
        del raised[min(raised, key=lambda name: raised[name])]
    state = replace(state, raised=frozen({**raised, event.name: event.at_ns}), context=state.context + 1)
    if event.name == "critical_incident":
        state = replace(state, latched=True)
    entry = commands.AppendEntry(entries.TriggerRaised(event.name, event.at_ns // US))
    state, issued = _start(state, event.at_ns, events.Cause.TRIGGER)
    return state, [entry, *issued]


def _trigger_level(state: State, event: events.TriggerLevel) -> Step:
    if (event.name in state.lines_raised) is event.raised:
        return state, []
    if event.raised and len(state.lines_raised) >= MOST_TRIGGERS:
        return state, []  # as many as this are raised: one more changes no fact
    entry = commands.AppendEntry(entries.TriggerLevel(event.name, event.raised, event.at_ns // US))
    if event.raised:
        state = replace(state, lines_raised=state.lines_raised | {event.name})
        return requests.context_changed(state, [entry], event.at_ns)
    return replace(state, lines_raised=state.lines_raised - {event.name}), [entry]


def _resume(state: State, event: events.ActionRequested) -> Step:
    number = state.requests + 1
    state = replace(state, requests=number)
    entry = entries.Requested(number, event.action, event.at_ns // US, again=1)
    requested = commands.AppendEntry(entry, {"principal": event.principal})
    state, issued = requests.cancel_pending(state, event.at_ns, "resumed")
    return state, [requested, *issued]


def _handle_due(state: State, now_ns: int) -> Step:
    """Do what is due: expire requests, end a post-roll or a suppression, update docking, remind."""
    state, issued = requests.expire_pending(state, now_ns)
    if state.post_roll is not None and now_ns >= state.post_roll.until_ns:
        state, more = requests.end_recording(state)
        issued += more
    if state.suppression is not None and now_ns >= state.suppression.until_ns:
        state, more = suppression.end(state, now_ns, "limit")
        issued += more
    if state.contact or state.docked_reported:
        state, more = situation.update_docked(state, now_ns)
        issued += more
    every_ns = state.settings.limits.reminder_s * NS
    if state.recording and now_ns - state.reminded_ns >= every_ns:
        state = replace(state, reminded_ns=now_ns)
        issued.append(commands.ShowSignal(Signal.SUPPRESSED if state.suppression is not None else Signal.REMINDER))
    return state, issued


def next_deadline_ns(state: State) -> int | None:
    """When the core next wants a tick; None if nothing is due by itself."""
    due = [pending.requested.at_ns + requests.GRANT_VALID_NS for pending in state.pending.values()]
    if state.post_roll is not None:
        due.append(state.post_roll.until_ns)
    if state.suppression is not None:
        due.append(state.suppression.until_ns)
    if state.recording:
        due.append(state.reminded_ns + state.settings.limits.reminder_s * NS)
    if state.docked_reported:
        due.append(state.attested_until_ns)
    elif state.contact and not state.spoof_reported:
        due.append(state.contact_ns + situation.SPOOF_NS)
    return min(due, default=None)


def _start_entry(event: events.RecordingOpened) -> Command:
    return commands.AppendEntry(
        entries.RecordingStarted(
            recording=event.recording,
            cause=event.cause,
            at_us=event.at_ns // US,
            pre_event_asked_ms=event.requested_ms,
            pre_event_kept_ms=event.kept_ms,
            pre_event_gap_ms=event.gap_ms,
            pre_event_short=event.short,
        )
    )


def _mark(state: State, event: events.MarkRequested) -> Step:
    if not state.recording:
        return state, [commands.ShowSignal(Signal.STANDBY)]
    return state, [
        commands.AppendEntry(entries.Marked(state.recording, event.at_ns // US)),
        commands.ShowSignal(Signal.MARKED),
    ]


def _classified(state: State, event: events.Classified) -> Step:
    if not state.recording:
        return state, [commands.ShowSignal(Signal.STANDBY)]
    state, issued = situation.classify(state, event.classification, event.at_ns)
    return state, [*issued, commands.ShowSignal(Signal.MARKED)]


def _stealth(state: State) -> Step:
    if not state.settings.limits.stealth:
        return state, [commands.ShowSignal(Signal.REFUSED)]
    on_now = not state.stealth
    return replace(state, stealth=on_now), [
        commands.AppendEntry(entries.StealthSet(on_now)),
        commands.SetStealth(on_now),
    ]


def _policy(state: State, event: events.PolicyChanged) -> Step:
    """Another policy is another context: grants of the one before are void, a suppression is re-evaluated."""
    entry = entries.PolicyChanged(
        event.what,
        event.version,
        event.policy,
        event.at_ns // US,
        event.why[:MOST_DETAIL],
        event.settings.limits.declared_stops_per_hour,
    )
    details = {"setup": to_builtins(event.settings), "before": to_builtins(state.settings)}
    journalled: list[Command] = [commands.AppendEntry(entry, details)]
    if event.settings == state.settings and event.what in _POLICY_STAYS:
        return state, journalled
    state, ended = suppression.apply_limits(replace(state, settings=event.settings), event.at_ns)
    return requests.context_changed(state, [*journalled, *ended], event.at_ns)


def _power_failing(state: State, event: events.PowerFailing) -> Step:
    """As `_terminate`, with the reason journalled, and the machine powered off. Pending grants end nothing more."""
    if state.ending:
        return state, []
    issued: list[Command] = [commands.AppendEntry(entries.PowerFailing(event.left, event.at_ns // US))]
    if state.recording:
        issued.append(commands.AppendEntry(entries.Interrupted(state.recording)))
    return replace(state, ending=True), [
        *issued,
        commands.ShowSignal(Signal.BATTERY_LOW),
        commands.ShutDown(power_off=True),
    ]


def _terminate(state: State) -> Step:
    if state.ending:
        return state, []
    issued: list[Command] = [commands.AppendEntry(entries.Interrupted(state.recording))] if state.recording else []
    return replace(state, ending=True), [*issued, commands.ShutDown()]


def _observed(state: State, event: Event) -> Step:
    """Journal and signal a failure, a recovery or tampering; it changes no recording."""
    match event:
        case events.SourceFailed():
            state = replace(state, failing=state.failing | {event.track})
            entry: entries.Entry = entries.SourceFailed(event.track, event.problem[:MOST_DETAIL], event.at_ns // US)
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
            return state, [commands.AppendEntry(entries.StorageBack(event.outage_ns // MS))]
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
            issued = commands.AppendEntry(entry, {"detail": event.detail[:MOST_DETAIL]} if event.detail else {})
            return state, [issued] if event.ended else [issued, commands.ShowSignal(Signal.FAULT)]
        case events.SelfTested():
            entry = entries.SelfTested(list(event.passed), sorted(event.failed))
            signal = Signal.FAULT if event.failed else Signal.READY
            return state, [commands.AppendEntry(entry, dict(event.failed)), commands.ShowSignal(signal)]
        case events.MessageRejected():
            return state, [
                commands.AppendEntry(entries.Refused(event.what, event.why[:MOST_DETAIL])),
                commands.ShowSignal(Signal.REFUSED),
            ]
        case _:
            return state, []
