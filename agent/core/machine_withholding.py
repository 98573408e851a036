"""Privacy pauses and mutes: granted, bounded, asked anew, ended. The rules are those of `agent.core.machine`."""

from dataclasses import replace

from agent.clock import NS
from agent.core import commands as do
from agent.core import events as on
from agent.core.commands import Command
from agent.core.signals import Signal
from agent.core.state import State, Withheld, facts, frozen
from agent.evidence import entries
from agent.media.packet import Kind
from agent.policy.request import Request

US = 1000
_KINDS = {
    on.Action.PRIVACY_PAUSE: frozenset({Kind.VIDEO, Kind.AUDIO}),
    on.Action.MUTE: frozenset({Kind.AUDIO}),
}

Step = tuple[State, list[Command]]


def withhold(state: State, request: int, asked: on.Asked, decided: on.Decided, at_ns: int) -> Step:
    """Begin to withhold what was granted, for as long as is left of it."""
    commands: list[Command] = []
    if state.withheld is not None:
        state, commands = release(state, at_ns, "replaced")
    limits = state.setup.limits
    pause = asked.action is on.Action.PRIVACY_PAUSE
    once_s, total_s = (limits.pause_s, limits.pause_total_s) if pause else (limits.mute_s, limits.mute_total_s)
    left_ns = min(once_s * NS, total_s * NS - state.used_ns.get(asked.action, 0))
    if left_ns <= 0:
        return state, [*commands, do.Journal(entries.Voided(request), {"why": "limit"}), do.Show(Signal.REFUSED)]
    kinds = _KINDS[asked.action]
    state = replace(state, withheld=Withheld(request, asked, decided, kinds, at_ns, at_ns + left_ns), reminded_ns=at_ns)
    details = {"principal": asked.principal, "rules": list(decided.rules), "obligations": list(decided.obligations)}
    entry = entries.Withheld(state.recording, request, _names(kinds), at_ns // US, (at_ns + left_ns) // US)
    return state, [
        *commands,
        do.Withhold(state.recording, kinds, request, at_ns),
        do.Journal(entry, details),
        do.Show(Signal.GRANTED),
        do.Show(Signal.PRIVACY if pause else Signal.MUTED),
    ]


def release(state: State, at_ns: int, why: str) -> Step:
    """End what is withheld."""
    withheld = state.withheld
    if withheld is None:
        return state, []
    action = withheld.asked.action
    used = state.used_ns.get(action, 0) + max(0, at_ns - withheld.since_ns)
    state = replace(state, withheld=None, used_ns=frozen({**state.used_ns, action: used}), reminded_ns=at_ns)
    entry = entries.Released(state.recording, withheld.request, _names(withheld.kinds), at_ns // US, why)
    return state, [
        do.Release(state.recording, withheld.kinds, withheld.request, at_ns),
        do.Journal(entry),
        do.Show(Signal.RESUMED),
    ]


def recheck(state: State, at_ns: int) -> Step:
    """Ask the policy whether what is withheld would still be granted, now that something has changed."""
    withheld = state.withheld
    if withheld is None:
        return state, []
    number = state.requests + 1
    request = Request(withheld.asked.principal, withheld.asked.action, facts(state, at_ns, withheld.asked.action))
    state = replace(state, requests=number, withheld=replace(withheld, rechecking=number))
    entry = entries.Requested(number, withheld.asked.action, at_ns // US, again=0)
    return state, [do.Journal(entry, request.record()), do.Decide(number, request, at_ns)]


def rechecked(state: State, event: on.Decided) -> Step:
    """The exception goes on, or has ended."""
    withheld = state.withheld
    assert withheld is not None
    entry = do.Journal(
        entries.Decided(event.request, event.allowed, event.policy, event.declared_only),
        {"rules": list(event.rules), "missing": list(event.missing), "error": event.error},
    )
    if event.allowed:
        return replace(state, withheld=replace(withheld, rechecking=0)), [entry]
    state, commands = release(state, event.at_ns, "exception ended")
    return state, [entry, *commands]


def _names(kinds: frozenset[Kind]) -> list[str]:
    return sorted(kinds)
