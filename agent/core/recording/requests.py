"""Requests: asked, decided, made durable, carried out or voided. `agent.core.recording.machine` has the rules."""

from collections.abc import Mapping
from dataclasses import replace

from msgspec import to_builtins

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording import suppression as withholding
from agent.core.recording.commands import Command
from agent.core.recording.decisions import decision_details, decision_entry
from agent.core.recording.state import Pending, PostRoll, State, facts, frozen
from agent.journal import entries
from agent.policy.request import Request

MOST_PENDING = 8
"""Requests that may wait at once; what comes beyond is refused at once, and journalled."""
GRANT_VALID_NS = 30 * NS
"""A request that was not carried out by then is not meant any more: the wearer has seen that nothing came of it."""
_PROMPTS = {
    "speak": Signal.SAY_REASON,
    "give_reason": Signal.SAY_REASON,
    "capture": Signal.CAPTURE_REQUEST,
    "authorise": Signal.AUTHORISE,
}
RESTRICTED = "restricted"
RESTRICTING_REASONS = frozenset({"juvenile", "sexual_assault_victim", "medical_facility", "confidential_informant"})
RESTRICTING_PEOPLE = frozenset({"minor", "sexual_assault_victim", "confidential_informant"})
_NEEDS_RECORDING = frozenset({events.Action.STOP_RECORDING, events.Action.PRIVACY_PAUSE, events.Action.MUTE})

Step = tuple[State, list[Command]]


def request_action(state: State, event: events.ActionRequested) -> Step:
    """Journal a request and have it decided."""
    number = state.requests + 1
    again = state.asked_again.get(event.action, 0) + 1
    state = replace(state, requests=number, asked_again=frozen({**state.asked_again, event.action: again}))
    known = facts(state, event.at_ns, event.action)
    request = Request(event.principal, event.action, known)
    entry = entries.Requested(number, event.action, event.at_ns // US, again)
    asked = commands.AppendEntry(entry, request.record())
    if event.action in _NEEDS_RECORDING and not state.recording:
        return state, [asked, commands.ShowSignal(Signal.STANDBY)]
    if len(state.pending) >= MOST_PENDING:
        refused = entries.Decided(number, allowed=False, policy="", at_us=event.at_ns // US, action=event.action)
        return state, [
            asked,
            commands.AppendEntry(refused, {"error": "too many requests at once"}),
            commands.ShowSignal(Signal.REFUSED),
        ]
    waiting = Pending(event, known, state.recording, state.context)
    state = replace(state, pending=frozen({**state.pending, number: waiting}))
    return state, [asked, commands.Decide(number, request, event.at_ns)]


def _without_request(state: State, request: int) -> State:
    return replace(state, pending=frozen({n: entry for n, entry in state.pending.items() if n != request}))


def decision_made(state: State, event: events.Decided) -> Step:
    """Signal a refusal; have a grant made durable before anything follows from it."""
    if state.withheld is not None and event.request == state.withheld.rechecking != 0:
        return withholding.reevaluated(state, event)
    asked = state.pending.get(event.request)
    if asked is None or asked.decided is not None:
        return state, []
    entry = decision_entry(asked.asked.action, event)
    details = {"principal": asked.asked.principal, **decision_details(event)}
    if not event.allowed:
        state = _without_request(state, event.request)
        said: list[Command] = [commands.AppendEntry(entry, details), commands.ShowSignal(Signal.REFUSED)]
        prompts = [_PROMPTS[word] for word in event.missing if word in _PROMPTS]
        said += [commands.ShowSignal(signal) for signal in dict.fromkeys(prompts)]
        if Signal.SAY_REASON in prompts:
            state = replace(state, prompted_ns=event.at_ns)
            said.append(commands.MeasureSpeech(event.at_ns, state.setup.announce_window_ns))
        return state, said
    waiting = replace(asked, decided=event)
    state = replace(state, pending=frozen({**state.pending, event.request: waiting}))
    return state, [commands.AppendEntry(entry, details, token=event.request)]


def grant_stored(state: State, event: events.Durable) -> Step:
    """Carry a grant out, now that everybody can read that it was given."""
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
    if state.authorized_for == granted.asked.action:
        state = replace(state, authorization=None, authorized_for="")
    match granted.asked.action:
        case events.Action.STOP_RECORDING:
            return _begin_post_roll(state, granted, event)
        case events.Action.PRIVACY_PAUSE | events.Action.MUTE:
            return withholding.start(state, event.token, granted, event.at_ns)
        case events.Action.POWER_OFF:
            return _power_off(state, granted, event)
        case _:
            return state, []


def _void_reason(state: State, granted: Pending) -> str:
    """Why a grant is not carried out; empty if it is."""
    action = granted.asked.action
    if granted.context != state.context or granted.recording != state.recording:
        return "changed"
    if action in withholding.KINDS and state.post_roll is not None:
        return "stopping"
    if action in withholding.KINDS and withholding.is_exhausted(state, action):
        return "limit"
    return ""


def expire_pending(state: State, now_ns: int) -> Step:
    """Give up what has waited too long, for the policy's answer or for storage."""
    issued: list[Command] = []
    for number, waiting in state.pending.items():
        if now_ns - waiting.asked.at_ns < GRANT_VALID_NS:
            continue
        state = _without_request(state, number)
        if waiting.decided is None:
            unanswered = entries.Decided(
                number, allowed=False, policy="", at_us=now_ns // US, action=waiting.asked.action
            )
            issued.append(commands.AppendEntry(unanswered, {"error": "the policy did not answer"}))
        else:
            issued.append(commands.AppendEntry(entries.Voided(number, now_ns // US, "late")))
        issued.append(commands.ShowSignal(Signal.REFUSED))
    return state, issued


def cancel_pending(state: State, at_ns: int, why: str) -> Step:
    """Somebody or something wants the recording as it is: withdraw what ends, darkens or silences it, or soon may."""
    issued: list[Command] = [commands.AppendEntry(entries.Voided(number, at_ns // US, why)) for number in state.pending]
    state = replace(state, pending=frozen({}))
    state, taken_back = cancel_stop(state, at_ns, why)
    state, released = withholding.end(state, at_ns, why)
    if not taken_back and not released:
        issued.append(commands.ShowSignal(Signal.RECORDING if state.recording else Signal.STANDBY))
    return state, [*issued, *taken_back, *released]


def _begin_post_roll(state: State, granted: Pending, event: events.Durable) -> Step:
    assert granted.decided is not None
    until_ns = event.at_ns + state.setup.limits.post_roll_s * NS
    rolling = PostRoll(event.token, granted.decided, granted.asked.principal, until_ns)
    issued: list[Command] = [commands.ShowSignal(Signal.GRANTED)]
    state, more = withholding.end(state, event.at_ns, "stop")
    issued += more
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
    """The post-roll is over: the recording ends."""
    rolling = state.post_roll
    assert rolling is not None
    state, released = withholding.end(state, rolling.until_ns, "stop")
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
        *released,
        commands.CloseRecording(recording, rolling.request, rolling.until_ns, details),
        commands.AppendEntry(
            entries.RecordingEnded(recording, rolling.request, rolling.until_ns // US, rolling.decided.declared_only),
            details,
        ),
        commands.AppendEntry(entries.StandbyEntered(rolling.until_ns // US)),
        commands.ShowSignal(Signal.STANDBY),
    ]


def cancel_stop(state: State, at_ns: int, why: str) -> Step:
    """The recording goes on after all."""
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
        rolling = PostRoll(event.token, granted.decided, granted.asked.principal, event.at_ns)
        state, more = end_recording(replace(state, post_roll=rolling))
        issued += more
    said = commands.AppendEntry(entries.PoweringOff(event.token, event.at_ns // US))
    return replace(state, ending=True), [*issued, said, commands.ShutDown(power_off=True)]


def situation_changed(
    state: State,
    event: events.Declared | events.Measured | events.SpeechMeasured | events.Authorised | events.KeySwitched,
) -> Step:
    """Something is known that was not: what was granted for another context is void, and what lasts is asked anew."""
    match event:
        case events.Declared():
            if not state.recording:
                return state, [commands.ShowSignal(Signal.STANDBY)]
            new = replace(state, declared=frozen(_merged(state.declared, event.values)))
            values = {name: _plain(value) for name, value in event.values.items()}
            said: list[Command] = [
                commands.AppendEntry(entries.Declared(state.recording, event.at_ns // US), values),
                commands.ShowSignal(Signal.MARKED),
            ]
            if _restricts(event.values):
                new, more = classify(new, RESTRICTED, event.at_ns)
                said += more
        case events.KeySwitched():
            if event.on == state.key_switch:
                return state, []
            new = replace(state, key_switch=event.on)
            said = [commands.AppendEntry(entries.KeySwitched(event.on, event.at_ns // US))]
        case events.Measured():
            if all(state.measured.get(name) == fact for name, fact in event.facts.items()):
                return state, []
            new = replace(state, measured=frozen({**state.measured, **event.facts}))
            known = {
                name: {"value": _plain(fact.value), "provenance": fact.provenance} for name, fact in event.facts.items()
            }
            said = [commands.AppendEntry(entries.Measured(event.at_ns // US), known)]
        case events.SpeechMeasured():
            return _speech_measured(state, event)
        case events.Authorised():
            new, said = _authorization_received(state, event)
    return context_changed(new, said, event.at_ns)


def context_changed(state: State, issued: list[Command], at_ns: int) -> Step:
    """What requests are decided by has changed: grants are void, and what lasts is asked anew."""
    state = replace(state, context=state.context + 1)
    if state.post_roll is not None:
        state, more = cancel_stop(state, at_ns, "the situation has changed")
        issued = [*issued, *more]
    if state.withheld is not None:
        state, more = withholding.reevaluate(state, at_ns)
        issued = [*issued, *more]
    return state, issued


def _speech_measured(state: State, event: events.SpeechMeasured) -> Step:
    """Speech that was heard makes nothing void: it was prompted for, and can only satisfy what asks for it."""
    if state.prompted_ns < 0 or event.prompt_ns != state.prompted_ns:
        return state, []
    confidence = event.confidence if 0 <= event.confidence <= 1 else 0.0
    entry = entries.SpeechMeasured(event.at_ns // US, event.heard, round(confidence * 100))
    state = replace(state, prompted_ns=-1, spoken_ns=event.at_ns if event.heard else state.spoken_ns)
    return state, [commands.AppendEntry(entry)]


def _authorization_received(state: State, event: events.Authorised) -> Step:
    details = {
        "who": dict(event.who),
        "recording": event.recording,
        "authorization": to_builtins(event.authorization),
    }
    too_late = event.action != "LatchCriticalIncident" and event.recording != state.recording
    entry = commands.AppendEntry(entries.Authorised(event.action, event.at_ns // US, too_late), details)
    if event.action == "LatchCriticalIncident":
        return replace(state, latched=True), [entry, commands.ShowSignal(Signal.GRANTED)]
    if too_late:
        return state, [entry, commands.ShowSignal(Signal.REFUSED)]
    if event.action == "ReleaseCriticalIncident":
        return replace(state, latched=False), [entry, commands.ShowSignal(Signal.GRANTED)]
    until_ns = event.at_ns + event.authorization.expires_in_s * NS
    state = replace(state, authorization=event.authorization, authorized_for=event.action, authorized_until_ns=until_ns)
    return state, [entry, commands.ShowSignal(Signal.GRANTED)]


def classify(state: State, classification: str, at_ns: int) -> Step:
    """From now on the recording is sealed to the recipients of this classification. Once restricted it stays so."""
    if classification == state.classification or (state.classification and classification != RESTRICTED):
        return state, []
    state = replace(state, classification=classification)
    entry = entries.Classified(state.recording, at_ns // US)
    return state, [
        commands.AppendEntry(entry, {"classification": classification}),
        commands.Reclassify(state.recording, classification),
    ]


def _restricts(values: Mapping[str, object]) -> bool:
    """True if what was declared says that somebody is on the recording whom fewer people should see."""
    people = values.get("person_class")
    return values.get("reason_code") in RESTRICTING_REASONS or (
        isinstance(people, frozenset) and bool(people & RESTRICTING_PEOPLE)
    )


def _merged(known: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    """Sets grow by what is added; everything else is replaced."""
    merged = dict(known)
    for name, value in values.items():
        before = merged.get(name)
        merged[name] = before | value if isinstance(before, frozenset) and isinstance(value, frozenset) else value
    return merged


def _plain(value: object) -> object:
    return sorted(map(str, value)) if isinstance(value, frozenset) else value
