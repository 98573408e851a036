"""The life of a request: requested, decided, made durable, carried out or voided. `machine` has the rules."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events, suppression
from agent.core.recording.commands import Command
from agent.core.recording.state import Pending, PostRoll, State, frozen
from agent.domain.decision import Decision
from agent.evidence.details import Details
from agent.journal import entries
from agent.policy.obligations import FLAG_FOR_REVIEW
from agent.policy.request import KEY_SWITCH, Authorization, Fact, Request, says_concluded
from agent.policy.schema import Provenance

MOST_PENDING = 8
"""Requests that may be pending at once; any more are refused at once, and journalled."""
GRANT_VALID_NS = 30 * NS
"""A request that is not carried out by then expires: the wearer has seen that nothing came of it."""
_PROMPTS = {
    "speak": Signal.SAY_REASON,
    "give_reason": Signal.SAY_REASON,
    "capture": Signal.CAPTURE_REQUEST,
    "authorise": Signal.AUTHORISE,
}
_RECORDING_ONLY = frozenset({events.Action.STOP_RECORDING, events.Action.PRIVACY_PAUSE, events.Action.MUTE})

Step = tuple[State, list[Command]]


class Decider(Protocol):
    """What decides requests, such as `agent.policy.engine.Engine`."""

    def decide(self, request: Request) -> Decision:
        """The decision. Never raises: what is wrong with a request is a denial that names it."""


def request_action(state: State, event: events.ActionRequested) -> Step:
    """Journal a request and have it decided."""
    number = state.requests + 1
    count = state.request_counts.get(event.action, 0) + 1
    state = replace(state, requests=number, request_counts=frozen({**state.request_counts, event.action: count}))
    known = facts(state, event.at_ns, event.action)
    request = Request(event.principal, event.action, known)
    requested = entries.Requested(number, event.action, event.at_ns // US, count)
    entry = commands.AppendEntry(requested, request.record())
    if event.action in _RECORDING_ONLY and not state.recording:
        return state, [entry, commands.ShowSignal(Signal.STANDBY)]
    if len(state.pending) >= MOST_PENDING:
        refused = entries.Decided(number, allowed=False, policy="", at_us=event.at_ns // US, action=event.action)
        return state, [
            entry,
            commands.AppendEntry(refused, {"error": "too many requests at once"}),
            commands.ShowSignal(Signal.REFUSED),
        ]
    pending = Pending(event, known, state.recording, state.context)
    state = replace(state, pending=frozen({**state.pending, number: pending}))
    return state, [entry, commands.Decide(number, request, event.at_ns)]


def answer(decider: Decider, digest: str, command: commands.Decide) -> events.Decided:
    """Have a request decided: on the device, and again in a replay of the journal.

    Args:
        decider: The policy in force.
        digest: SHA-256 that names it.
        command: The request.
    """
    decision = decider.decide(command.request)
    return events.Decided(
        at_ns=command.at_ns,
        request=command.number,
        allowed=decision.allow,
        policy=digest,
        rules=decision.rules,
        obligations=decision.obligations,
        missing=decision.missing,
        unknown=decision.unknown,
        declared_only=decision.declared_only,
        error=decision.error,
    )


def _without_request(state: State, request: int) -> State:
    return replace(state, pending=frozen({number: each for number, each in state.pending.items() if number != request}))


def decision_made(state: State, event: events.Decided) -> Step:
    """Signal a refusal. Make a grant durable before anything follows from it."""
    if state.suppression is not None and event.request == state.suppression.rechecking != 0:
        return _reevaluated(state, event)
    pending = state.pending.get(event.request)
    if pending is None or pending.decided is not None:
        return state, []
    entry = _decision_entry(pending.requested.action, event)
    details = {"principal": pending.requested.principal, **_decision_details(event)}
    if not event.allowed:
        state = _without_request(state, event.request)
        issued: list[Command] = [commands.AppendEntry(entry, details), commands.ShowSignal(Signal.REFUSED)]
        prompts = [_PROMPTS[word] for word in event.missing if word in _PROMPTS]
        issued += [commands.ShowSignal(signal) for signal in dict.fromkeys(prompts)]
        if Signal.SAY_REASON in prompts:
            state = replace(state, prompted_ns=event.at_ns)
            issued.append(commands.MeasureSpeech(event.at_ns, state.settings.announce_window_ns))
        return state, issued
    granted = replace(pending, decided=event)
    state = replace(state, pending=frozen({**state.pending, event.request: granted}))
    return state, [commands.AppendEntry(entry, details, token=event.request)]


def grant_stored(state: State, event: events.Durable) -> Step:
    """Carry out a grant whose journal line is durable."""
    granted = state.pending.get(event.token)
    if granted is None or granted.decided is None:
        return state, []
    state = _without_request(state, event.token)
    why = _void_reason(state, granted)
    if why:
        return state, [
            commands.AppendEntry(entries.Voided(event.token, event.at_ns // US, why)),
            commands.ShowSignal(Signal.REFUSED),
        ]
    if state.authorized_for == granted.requested.action:
        state = replace(state, authorization=None, authorized_for="")
    match granted.requested.action:
        case events.Action.STOP_RECORDING:
            return _begin_post_roll(state, granted, event)
        case events.Action.PRIVACY_PAUSE | events.Action.MUTE:
            return suppression.start(state, event.token, granted, event.at_ns)
        case events.Action.POWER_OFF:
            return _power_off(state, granted, event)
        case _:
            return state, []


def _void_reason(state: State, granted: Pending) -> str:
    """Why a grant is void; empty if it is carried out."""
    action = granted.requested.action
    if granted.context != state.context or granted.recording != state.recording:
        return "changed"
    if action in suppression.KINDS and state.post_roll is not None:
        return "stopping"
    if action in suppression.KINDS and suppression.is_exhausted(state, action):
        return "limit"
    return ""


def expire_pending(state: State, now_ns: int) -> Step:
    """Give up requests that have waited too long for the policy or for storage."""
    issued: list[Command] = []
    for number, pending in state.pending.items():
        if now_ns - pending.requested.at_ns < GRANT_VALID_NS:
            continue
        state = _without_request(state, number)
        if pending.decided is None:
            unanswered = entries.Decided(
                number, allowed=False, policy="", at_us=now_ns // US, action=pending.requested.action
            )
            issued.append(commands.AppendEntry(unanswered, {"error": "the policy did not answer"}))
        else:
            issued.append(commands.AppendEntry(entries.Voided(number, now_ns // US, "late")))
        issued.append(commands.ShowSignal(Signal.REFUSED))
    return state, issued


def cancel_pending(state: State, at_ns: int, why: str) -> Step:
    """Withdraw what is pending, cancel a stop and end a suppression: the recording is to go on as it is."""
    issued: list[Command] = [commands.AppendEntry(entries.Voided(number, at_ns // US, why)) for number in state.pending]
    state = replace(state, pending=frozen({}))
    state, cancelled = cancel_stop(state, at_ns, why)
    state, ended = suppression.end(state, at_ns, why) if state.suppression is not None else (state, [])
    if not cancelled and not ended:
        issued.append(commands.ShowSignal(Signal.RECORDING if state.recording else Signal.STANDBY))
    return state, [*issued, *cancelled, *ended]


def _begin_post_roll(state: State, granted: Pending, event: events.Durable) -> Step:
    assert granted.decided is not None
    until_ns = event.at_ns + state.settings.limits.post_roll_s * NS
    rolling = PostRoll(event.token, granted.decided, granted.requested.principal, until_ns)
    issued: list[Command] = [commands.ShowSignal(Signal.GRANTED)]
    if state.suppression is not None:
        state, issued_by_end = suppression.end(state, event.at_ns, "stop")
        issued += issued_by_end
    state = replace(state, post_roll=rolling)
    if until_ns <= event.at_ns:
        state, more = end_recording(state)
        return state, [*issued, *more]
    return state, [
        *issued,
        commands.AppendEntry(entries.PostRollBegan(event.token, until_ns // US)),
        commands.ShowSignal(Signal.POST_ROLL),
    ]


def end_recording(state: State) -> Step:
    """End the recording: the post-roll is over."""
    rolling = state.post_roll
    assert rolling is not None
    ended: list[Command] = []
    if state.suppression is not None:
        state, ended = suppression.end(state, rolling.until_ns, "stop")
    recording = state.recording
    details = {
        "principal": rolling.principal,
        "rules": list(rolling.decided.rules),
        "obligations": list(rolling.decided.obligations),
        "policy": rolling.decided.policy,
    }
    state = replace(
        state, recording="", post_roll=None, declared=frozen({}), authorization=None, context=state.context + 1
    )
    return state, [
        *ended,
        commands.CloseRecording(recording, rolling.request, rolling.until_ns, details),
        commands.AppendEntry(
            entries.RecordingEnded(recording, rolling.request, rolling.until_ns // US, rolling.decided.declared_only),
            details,
        ),
        commands.AppendEntry(entries.StandbyEntered(rolling.until_ns // US)),
        commands.ShowSignal(Signal.STANDBY),
    ]


def cancel_stop(state: State, at_ns: int, why: str) -> Step:
    """Cancel a granted stop within its post-roll."""
    rolling = state.post_roll
    if rolling is None:
        return state, []
    entry = entries.StopTakenBack(rolling.request, at_ns // US)
    return replace(state, post_roll=None), [
        commands.AppendEntry(entry, {"why": why}),
        commands.ShowSignal(Signal.RESUMED),
    ]


def _power_off(state: State, granted: Pending, event: events.Durable) -> Step:
    issued: list[Command] = [commands.ShowSignal(Signal.GRANTED)]
    if state.recording:
        assert granted.decided is not None
        rolling = PostRoll(event.token, granted.decided, granted.requested.principal, event.at_ns)
        state, more = end_recording(replace(state, post_roll=rolling))
        issued += more
    entry = commands.AppendEntry(entries.PoweringOff(event.token, event.at_ns // US))
    return replace(state, ending=True), [*issued, entry, commands.ShutDown(power_off=True)]


def context_changed(state: State, issued: list[Command], at_ns: int) -> Step:
    """What requests are decided by has changed: a stop is cancelled, a suppression re-evaluated, a grant void."""
    state = replace(state, context=state.context + 1)
    if state.post_roll is not None:
        state, more = cancel_stop(state, at_ns, "the situation has changed")
        issued = [*issued, *more]
    if state.suppression is not None:
        state, more = _reevaluate(state, at_ns)
        issued = [*issued, *more]
    return state, issued


def _reevaluate(state: State, at_ns: int) -> Step:
    """Ask the policy whether the suppression would still be granted, now that something has changed."""
    active = state.suppression
    assert active is not None
    number = state.requests + 1
    known = {**facts(state, at_ns, active.requested.action), **active.lasting_facts}
    request = Request(active.requested.principal, active.requested.action, frozen(known))
    state = replace(state, requests=number, suppression=replace(active, rechecking=number))
    entry = entries.Requested(number, active.requested.action, at_ns // US, again=0)
    return state, [commands.AppendEntry(entry, request.record()), commands.Decide(number, request, at_ns)]


def _reevaluated(state: State, event: events.Decided) -> Step:
    """Keep the suppression if it is still granted; end it if not."""
    active = state.suppression
    assert active is not None
    entry = commands.AppendEntry(_decision_entry(active.requested.action, event), _decision_details(event))
    if event.allowed:
        return replace(state, suppression=replace(active, rechecking=0)), [entry]
    state, issued = suppression.end(state, event.at_ns, "exception ended")
    return state, [entry, *issued]


def _decision_entry(action: events.Action, event: events.Decided) -> entries.Decided:
    """The public part of a decision on a request for `action`."""
    return entries.Decided(
        event.request,
        event.allowed,
        event.policy,
        event.declared_only,
        event.at_ns // US,
        action,
        FLAG_FOR_REVIEW in event.obligations,
    )


def _decision_details(event: events.Decided) -> Details:
    """The sealed part: what made the decision, what it demands and what it lacked."""
    return {
        "rules": list(event.rules),
        "obligations": list(event.obligations),
        "missing": list(event.missing),
        "unknown": list(event.unknown),
        "error": event.error,
    }


SPOKEN_FOR_NS = 120 * NS
"""For how long a spoken reason counts."""


def facts(state: State, now_ns: int, action: events.Action) -> Mapping[str, Fact]:
    """What was declared, measured and signed, by attribute: what a request for `action` is decided by.

    Attributes of which nothing is known are left out: on the device silence is not a fact.
    """
    known = {name: Fact(value, Provenance.DECLARED) for name, value in state.declared.items()}
    known |= state.measured
    measured: dict[str, object] = {
        "triggers_active": state.live_triggers(now_ns),
        "trigger_line_raised": bool(state.lines_raised),
        "conclusion_declared": says_concluded(state.declared),
        "critical_incident": state.latched,
        "reason_spoken": state.spoken_ns >= 0 and now_ns - state.spoken_ns < SPOKEN_FOR_NS,
        "dock_state": "docked" if state.docked(now_ns) else "undocked",
        "preevent_s": state.settings.pre_event_s,
        "preevent_audio": state.settings.pre_event_audio,
        "elapsed_s": max(0, now_ns - state.started_ns) // NS if state.recording else 0,
    }
    if state.raised:
        measured["seconds_since_last_trigger"] = max(0, now_ns - max(state.raised.values())) // NS
    known |= {name: Fact(value, Provenance.MEASURED) for name, value in measured.items()}
    known["authorization"] = Fact(_authorization(state, now_ns, action), Provenance.SIGNED)
    return frozen(known)


def _authorization(state: State, now_ns: int, action: events.Action) -> Authorization:
    """The authorisation for this very action; without one, what a turned key switch counts as."""
    left_s = (state.authorized_until_ns - now_ns) // NS
    if state.authorization is None or state.authorized_for != action or left_s <= 0:
        return KEY_SWITCH if state.key_switch else Authorization()
    given = state.authorization
    return Authorization(given.type, given.rank, given.signed, left_s)
