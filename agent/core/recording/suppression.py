"""Privacy pauses and mutes: granted, bounded, re-evaluated, ended. `agent.core.recording.machine` has the rules."""

from collections.abc import Mapping
from dataclasses import replace

from agent.clock import NS, US
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.commands import Command
from agent.core.recording.decisions import decision_details, decision_entry
from agent.core.recording.state import Pending, State, Suppression, facts, frozen
from agent.journal import entries
from agent.media.packet import Kind
from agent.policy.request import Authorization, Fact, Request

KINDS = {
    events.Action.PRIVACY_PAUSE: frozenset({Kind.VIDEO, Kind.AUDIO}),
    events.Action.MUTE: frozenset({Kind.AUDIO}),
}

Step = tuple[State, list[Command]]


def remaining_ns(state: State, action: events.Action, running_ns: int = 0) -> int:
    """For how long an action may withhold something; 0 or less if its limit is used up.

    Args:
        state: What the core knows.
        action: A privacy pause or a mute.
        running_ns: How much it has used since it last began, which `State.used_ns` does not count yet.
    """
    limits = state.setup.limits
    pause = action is events.Action.PRIVACY_PAUSE
    once_s, total_s = (limits.pause_s, limits.pause_total_s) if pause else (limits.mute_s, limits.mute_total_s)
    return min(once_s * NS, total_s * NS - state.used_ns.get(action, 0) - running_ns)


def is_exhausted(state: State, action: events.Action) -> bool:
    """True if an action may withhold nothing any more in this recording."""
    withheld = state.withheld
    running_ns = state.now_ns - withheld.since_ns if withheld is not None and withheld.asked.action is action else 0
    return remaining_ns(state, action, running_ns) <= 0


def start(state: State, request: int, granted: Pending, at_ns: int) -> Step:
    """Begin to withhold what was granted, for as long as is left of it."""
    asked, decided = granted.asked, granted.decided
    assert decided is not None
    pause = asked.action is events.Action.PRIVACY_PAUSE
    state, issued = end(state, at_ns, "replaced")
    until_ns = at_ns + remaining_ns(state, asked.action)
    kinds = KINDS[asked.action]
    withheld = Suppression(request, asked, decided, kinds, at_ns, until_ns, _lasting_facts(granted.facts))
    state = replace(state, withheld=withheld, reminded_ns=at_ns)
    details = {"principal": asked.principal, "rules": list(decided.rules), "obligations": list(decided.obligations)}
    entry = entries.Withheld(state.recording, request, _names(kinds), at_ns // US, until_ns // US)
    return state, [
        *issued,
        commands.Suppress(state.recording, kinds, request, at_ns),
        commands.AppendEntry(entry, details),
        commands.ShowSignal(Signal.GRANTED),
        commands.ShowSignal(Signal.PRIVACY if pause else Signal.MUTED),
    ]


def end(state: State, at_ns: int, why: str) -> Step:
    """End what is withheld."""
    withheld = state.withheld
    if withheld is None:
        return state, []
    action = withheld.asked.action
    used = state.used_ns.get(action, 0) + max(0, at_ns - withheld.since_ns)
    state = replace(state, withheld=None, used_ns=frozen({**state.used_ns, action: used}), reminded_ns=at_ns)
    entry = entries.Released(state.recording, withheld.request, _names(withheld.kinds), at_ns // US, why)
    return state, [
        commands.EndSuppression(state.recording, withheld.kinds, withheld.request, at_ns),
        commands.AppendEntry(entry),
        commands.ShowSignal(Signal.RESUMED),
    ]


def apply_limits(state: State, now_ns: int) -> Step:
    """What is withheld ends no later than the limits now in force say, whatever they were when it began."""
    withheld = state.withheld
    if withheld is None:
        return state, []
    until_ns = min(withheld.until_ns, withheld.since_ns + remaining_ns(state, withheld.asked.action))
    if until_ns <= now_ns:
        return end(state, now_ns, "limit")
    return replace(state, withheld=replace(withheld, until_ns=until_ns)), []


def reevaluate(state: State, at_ns: int) -> Step:
    """Ask the policy whether what is withheld would still be granted, now that something has changed."""
    withheld = state.withheld
    if withheld is None:
        return state, []
    number = state.requests + 1
    known = {**facts(state, at_ns, withheld.asked.action), **withheld.done}
    request = Request(withheld.asked.principal, withheld.asked.action, frozen(known))
    state = replace(state, requests=number, withheld=replace(withheld, rechecking=number))
    entry = entries.Requested(number, withheld.asked.action, at_ns // US, again=0)
    return state, [commands.AppendEntry(entry, request.record()), commands.Decide(number, request, at_ns)]


def reevaluated(state: State, event: events.Decided) -> Step:
    """The exception goes on, or has ended."""
    withheld = state.withheld
    assert withheld is not None
    entry = commands.AppendEntry(decision_entry(withheld.asked.action, event), decision_details(event))
    if event.allowed:
        return replace(state, withheld=replace(withheld, rechecking=0)), [entry]
    state, issued = end(state, event.at_ns, "exception ended")
    return state, [entry, *issued]


def _lasting_facts(known: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """What was said and signed for a request: it stays true of it. A key switch is no signature and may be turned."""
    done = {}
    if known["reason_spoken"].value is True:
        done["reason_spoken"] = known["reason_spoken"]
    leave = known["authorization"]
    if isinstance(leave.value, Authorization) and leave.value.signed:
        done["authorization"] = leave
    return frozen(done)


def _names(kinds: frozenset[Kind]) -> list[str]:
    return sorted(kinds)
