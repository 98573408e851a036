"""Privacy pauses and mutes: begun, bounded, ended. `machine` has the rules; `requests` has them decided."""

from collections.abc import Mapping
from dataclasses import replace

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.commands import Command
from agent.core.recording.state import Pending, State, Suppression, frozen
from agent.journal import entries
from agent.media.packet import Kind
from agent.policy.request import Authorization, Fact

KINDS = {
    events.Action.PRIVACY_PAUSE: frozenset({Kind.VIDEO, Kind.AUDIO}),
    events.Action.MUTE: frozenset({Kind.AUDIO}),
}

Step = tuple[State, list[Command]]


def is_exhausted(state: State, action: events.Action) -> bool:
    """True if an action has used up its limit in this recording."""
    active = state.suppression
    running_ns = state.now_ns - active.since_ns if active is not None and active.requested.action is action else 0
    return _remaining_ns(state, action, running_ns) <= 0


def start(state: State, request: int, granted: Pending, at_ns: int) -> Step:
    """Begin a granted suppression; it may last for what is left of its limit."""
    requested, decided = granted.requested, granted.decided
    assert decided is not None
    pause = requested.action is events.Action.PRIVACY_PAUSE
    state, issued = end(state, at_ns, "replaced")
    until_ns = at_ns + _remaining_ns(state, requested.action)
    kinds = KINDS[requested.action]
    begun = Suppression(request, requested, decided, kinds, at_ns, until_ns, _lasting_facts(granted.facts))
    state = replace(state, suppression=begun, reminded_ns=at_ns)
    details = {
        "principal": requested.principal,
        "rules": list(decided.rules),
        "obligations": list(decided.obligations),
    }
    entry = entries.Withheld(state.recording, request, sorted(kinds), at_ns // US, until_ns // US)
    return state, [
        *issued,
        commands.Suppress(state.recording, kinds, request, at_ns),
        commands.AppendEntry(entry, details),
        commands.ShowSignal(Signal.GRANTED),
        commands.ShowSignal(Signal.PRIVACY if pause else Signal.MUTED),
    ]


def end(state: State, at_ns: int, why: str) -> Step:
    """End the suppression, if there is one."""
    active = state.suppression
    if active is None:
        return state, []
    action = active.requested.action
    used_ns = state.used_ns.get(action, 0) + max(0, at_ns - active.since_ns)
    state = replace(state, suppression=None, used_ns=frozen({**state.used_ns, action: used_ns}), reminded_ns=at_ns)
    entry = entries.Released(state.recording, active.request, sorted(active.kinds), at_ns // US, why)
    return state, [
        commands.EndSuppression(state.recording, active.kinds, active.request, at_ns),
        commands.AppendEntry(entry),
        commands.ShowSignal(Signal.RESUMED),
    ]


def apply_limits(state: State, now_ns: int) -> Step:
    """End the suppression no later than the limits now in force allow, whatever they were when it began."""
    active = state.suppression
    if active is None:
        return state, []
    until_ns = min(active.until_ns, active.since_ns + _remaining_ns(state, active.requested.action))
    if until_ns <= now_ns:
        return end(state, now_ns, "limit")
    return replace(state, suppression=replace(active, until_ns=until_ns)), []


def _remaining_ns(state: State, action: events.Action, running_ns: int = 0) -> int:
    """How much longer an action may suppress something in this recording; 0 or less if its limit is used up.

    Args:
        state: The core's state.
        action: A privacy pause or a mute.
        running_ns: What it has used since it last began, which `State.used_ns` does not count yet.
    """
    limits = state.settings.limits
    pause = action is events.Action.PRIVACY_PAUSE
    once_s, total_s = (limits.pause_s, limits.pause_total_s) if pause else (limits.mute_s, limits.mute_total_s)
    return min(once_s * NS, total_s * NS - state.used_ns.get(action, 0) - running_ns)


def _lasting_facts(known: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """What was spoken and signed for a request: it stays true of it. A key switch is no signature and may be turned."""
    lasting = {}
    if known["reason_spoken"].value is True:
        lasting["reason_spoken"] = known["reason_spoken"]
    authorization = known["authorization"]
    if isinstance(authorization.value, Authorization) and authorization.value.signed:
        lasting["authorization"] = authorization
    return frozen(lasting)
