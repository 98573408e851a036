"""The recorder's state machine: an event in, the next state and commands out. No I/O, no clock, no thread, no chance.

The rules, in order:
1. A start is never refused, whether by hand, trigger or tool. It acts first and is journalled after.
2. A recording ends, is darkened or silenced only by a request that the policy granted, and only once the journal line
   that says so is on storage. Silence of the policy, or of storage, leaves the recording as it is.
3. A grant is for one recording and one context: if a trigger rose, the wearer said something else, or another
   recording runs by then, the grant is void. So is one that storage made durable too late to be meant any more.
4. A granted stop takes effect after a post-roll, in which the wearer, a trigger or any change of context takes it back.
   A granted power-off takes effect at once.
5. What is withheld is bounded: each time and summed over the recording. It ends at its limit, at a trigger, when it is
   asked for, and when the policy, asked anew after a change of context, no longer grants it. What was said and signed
   for it counts for as long as it lasts. Nothing is withheld any more once a stop was granted.
6. Resuming is never refused, as a start is not. Both also withdraw whatever was asked for and is not carried out yet.
7. A recording that another boot left running goes on, in the same recording, as soon as storage was read; unless a new
   one was begun before that, which then counts as its continuation. What was latched, raised, used up of a limit or
   classified before the dark still is.
8. SIGTERM ends the process, not the recording: it is stored, said to be interrupted, and goes on after the next start.
   So does a critical battery, and then the machine, which would go dark anyhow: nobody's request, and no stop.
9. A mark never changes anything. Outside of a recording there is nothing to mark, and the wearer is told.
10. A trigger is live for its hold time from its rising edge on, not while its level stays high. Whether a level is
    still high is a fact of its own. Its rise is a change of context; its fall makes nothing void that was granted.
11. A critical incident latches until a supervisor or an investigator releases it, signed.
12. Failures of sources, storage and inputs are journalled and signalled; they change no recording.
13. Docked is contact and a station's attestation, both; it is an attribute, ends no recording and starts none.
14. Time never goes back: an event from before is taken as of now. What was due by the time of an event happens before
    it. Time has the microseconds of the journal, so that a replay of its lines sees the same.
"""

from dataclasses import replace

from msgspec import to_builtins

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, docking, events, requests
from agent.core.recording import suppression as withholding
from agent.core.recording.commands import Command
from agent.core.recording.events import Event
from agent.core.recording.observations import observed
from agent.core.recording.start import blocked, start_recording, take_over
from agent.core.recording.state import State, frozen
from agent.journal import entries

MOST_TRIGGERS = 64
_POLICY_STAYS = frozenset({"policy_refused", "policy_expired"})
"""What may happen to a policy without another one coming into force."""

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
        case (
            events.Declared() | events.Measured() | events.SpeechMeasured() | events.Authorised() | events.KeySwitched()
        ):
            return requests.situation_changed(state, event)
        case events.DockContact():
            return _docking(state, docking.contact(state, event), event.at_ns)
        case events.Attested():
            return _docking(state, docking.attested(state, event), event.at_ns)
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
            return observed(state, event)


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
    asked = commands.AppendEntry(entry, {"principal": event.principal})
    state, issued = requests.cancel_pending(state, event.at_ns, "resumed")
    return state, [asked, *issued]


def _handle_due(state: State, now_ns: int) -> Step:
    """Whatever is due: the end of a post-roll, of what is withheld, of what waits for too long; reminders."""
    state, issued = requests.expire_pending(state, now_ns)
    if state.post_roll is not None and now_ns >= state.post_roll.until_ns:
        state, more = requests.end_recording(state)
        issued += more
    if state.withheld is not None and now_ns >= state.withheld.until_ns:
        state, more = withholding.end(state, now_ns, "limit")
        issued += more
    state, more = _docking(state, docking.settle(state, now_ns), now_ns)
    issued += more
    every_ns = state.setup.limits.reminder_s * NS
    if state.recording and now_ns - state.reminded_ns >= every_ns:
        state = replace(state, reminded_ns=now_ns)
        issued.append(commands.ShowSignal(Signal.WITHHELD if state.withheld is not None else Signal.REMINDER))
    return state, issued


def next_deadline_ns(state: State) -> int | None:
    """When the core next wants a tick; None if nothing is due by itself."""
    due = [pending.asked.at_ns + requests.GRANT_VALID_NS for pending in state.pending.values()]
    if state.post_roll is not None:
        due.append(state.post_roll.until_ns)
    if state.withheld is not None:
        due.append(state.withheld.until_ns)
    if state.recording:
        due.append(state.reminded_ns + state.setup.limits.reminder_s * NS)
    docked_ns = docking.next_deadline_ns(state)
    if docked_ns is not None:
        due.append(docked_ns)
    return min(due, default=None)


def _start_entry(event: events.RecordingOpened) -> Command:
    return commands.AppendEntry(
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


def _mark(state: State, event: events.MarkRequested) -> Step:
    if not state.recording:
        return state, [commands.ShowSignal(Signal.STANDBY)]
    return state, [
        commands.AppendEntry(entries.Marked(state.recording, event.at_ns // US)),
        commands.ShowSignal(Signal.MARKED),
    ]


def _docking(before: State, change: Step, at_ns: int) -> Step:
    """Docked or no longer docked is a change of what requests are decided by."""
    state, issued = change
    if state.docked_told == before.docked_told:
        return state, issued
    return requests.context_changed(state, issued, at_ns)


def _classified(state: State, event: events.Classified) -> Step:
    if not state.recording:
        return state, [commands.ShowSignal(Signal.STANDBY)]
    state, issued = requests.classify(state, event.classification, event.at_ns)
    return state, [*issued, commands.ShowSignal(Signal.MARKED)]


def _stealth(state: State) -> Step:
    if not state.setup.limits.stealth:
        return state, [commands.ShowSignal(Signal.REFUSED)]
    on_now = not state.stealth
    return replace(state, stealth=on_now), [
        commands.AppendEntry(entries.StealthSet(on_now)),
        commands.SetStealth(on_now),
    ]


def _policy(state: State, event: events.PolicyChanged) -> Step:
    """Another policy is another context: what the one before granted is void, and what lasts is asked anew."""
    entry = entries.PolicyChanged(
        event.what,
        event.version,
        event.policy,
        event.at_ns // US,
        event.why[:300],
        event.setup.limits.declared_stops_per_hour,
    )
    details = {"setup": to_builtins(event.setup), "before": to_builtins(state.setup)}
    journalled: list[Command] = [commands.AppendEntry(entry, details)]
    if event.setup == state.setup and event.what in _POLICY_STAYS:
        return state, journalled
    state, ended = withholding.apply_limits(replace(state, setup=event.setup), event.at_ns)
    return requests.context_changed(state, [*journalled, *ended], event.at_ns)


def _power_failing(state: State, event: events.PowerFailing) -> Step:
    """As if told to end, and said why; what is granted and pending ends nothing more."""
    if state.ending:
        return state, []
    said: list[Command] = [commands.AppendEntry(entries.PowerFailing(event.left, event.at_ns // US))]
    if state.recording:
        said.append(commands.AppendEntry(entries.Interrupted(state.recording)))
    return replace(state, ending=True), [
        *said,
        commands.ShowSignal(Signal.BATTERY_LOW),
        commands.ShutDown(power_off=True),
    ]


def _terminate(state: State) -> Step:
    if state.ending:
        return state, []
    said: list[Command] = [commands.AppendEntry(entries.Interrupted(state.recording))] if state.recording else []
    return replace(state, ending=True), [*said, commands.ShutDown()]
