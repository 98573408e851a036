"""Decisions in words, for people at a workstation. Nothing here decides."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.domain.decision import Decision
from agent.policy import explain
from agent.policy.engine import UNKNOWN_SITUATION, UNKNOWN_SITUATION_SOURCE, Engine
from agent.policy.packs import Pack, Rule
from agent.policy.reach import WEARER, Obstacle, Reach, Way, no_stop
from agent.policy.request import Authorization, Request, Value
from agent.policy.schema import standard
from agent.policy.syntax import to_text

PROCEDURES: Mapping[str, str] = {
    explain.SPEAK: "say the reason aloud, then ask again",
    explain.CAPTURE: "let the request be heard on the recording, then ask again",
    explain.AUTHORISE: "obtain a signed authorisation, then ask again",
    explain.GIVE_REASON: "give a reason, then ask again",
}
"""What the wearer has to do for each procedure."""


def describe(engine: Engine, request: Request, decision: Decision) -> Iterator[str]:
    """A decision in words: the deciding rules, the obligations, and for a denial what is missing, line by line."""
    if decision.error:
        yield f"denied: {decision.error}"
        return
    how = "allowed" if decision.allow else "denied"
    if decision.rules == (UNKNOWN_SITUATION,):
        yield "denied by default: the situation is unknown"
    else:
        yield f"{how} by {'these rules' if decision.rules else 'default: no permit fires'}"
    for rule_id in decision.rules:
        if rule_id == UNKNOWN_SITUATION:
            yield f"  {UNKNOWN_SITUATION}: {UNKNOWN_SITUATION_SOURCE}"
            continue
        rule = engine.rule(rule_id)
        yield f"  {rule.id}: {rule.source}"
        if not decision.allow:
            yield f"    it forbids where {to_text(rule.condition)}"
    if decision.obligations:
        yield f"obligations: {', '.join(decision.obligations)}"
    if decision.declared_only:
        yield "the permit rests on the wearer's word alone (declared_only)"
    if decision.unknown:
        yield f"nobody declared or measured: {', '.join(decision.unknown)}"
    if not decision.allow and decision.rules in ((), (UNKNOWN_SITUATION,)):
        yield "what keeps each permit from firing, the nearest first:"
        for unmet in engine.unmet(request):
            yield f"  {unmet.rule.id}: {unmet.rule.source}"
            for condition in unmet.conditions:
                yield f"    not met: {to_text(condition)}"
    for name in decision.missing:
        yield f"missing: {PROCEDURES.get(explain.PROCEDURES.get(name, name), name)}"


def outline(pack: Pack) -> Iterator[str]:
    """A pack in words, line by line."""
    yield f"pack {pack.name}, digest {pack.digest}"
    yield "parameters: " + ", ".join(f"{name} = {value}" for name, value in pack.parameters.items())
    for heading, rules in (("rules of the pack", pack.own), ("base rules", pack.base)):
        yield f"{heading}:"
        for rule in rules:
            yield from _rule(rule)


def _rule(rule: Rule) -> Iterator[str]:
    who = f"{rule.principal}, " if rule.principal else ""
    yield f"  {'permit' if rule.permit else 'forbid'} {rule.id}: {who}{', '.join(rule.actions)}"
    yield f"    text: {rule.source}"
    yield f"    where {to_text(rule.condition)}"
    if rule.obligations:
        yield f"    obligations: {', '.join(rule.obligations)}"


def reach_lines(found: Sequence[Reach]) -> Iterator[str]:
    """How a camera reaches each permit, or why it can't, line by line."""
    for rule_id, group in itertools.groupby(found, key=lambda each: each.rule.id):
        yield f"  {rule_id}"
        for words, alike in _alike(group):
            yield f"    {', '.join(alike)}: {words}"


def reach_warnings(found: Sequence[Reach]) -> Iterator[str]:
    """A sentence for each unreachable permit, and one if no stop is reachable at all."""
    for rule_id, group in itertools.groupby(found, key=lambda each: each.rule.id):
        for words, alike in _alike(each for each in group if each.obstacle is not None):
            yield f"{rule_id}: {', '.join(alike)}: {words}"
    if no_stop(found):
        yield "no recording can ever be stopped: nothing reaches a permit for StopRecording"


def way_words(way: Way) -> str:
    """A way in words, such as `triple:mark, then hold 3s:record, with the reason spoken after the prompt`."""
    pressed = ", then ".join(str(pattern) for pattern in (*way.declare, way.ask))
    needed = way_needs(way)
    return f"{pressed}, with {' and '.join(needed)}" if needed else pressed


def way_needs(way: Way) -> list[str]:
    """What has to be measured or signed in addition to the gestures, in words."""
    return [_needed(name, value) for name, value in way.measured.items()]


def obstacle_words(reach: Reach) -> str:
    """Why a permit is unreachable, and what would make it reachable."""
    names = ", ".join(reach.attributes)
    match reach.obstacle:
        case Obstacle.NO_GESTURE if reach.suggestion:
            return f"nothing reaches it: no gesture declares {names}; one with {reach.suggestion} would"
        case Obstacle.NO_GESTURE:
            return "nothing reaches it: no gesture of the layout asks for it"
        case Obstacle.ONLY_WITH_OTHERS:
            others = ", ".join(reach.others)
            return f"nothing reaches it alone: it is granted only where {others} grants it too"
        case Obstacle.NOT_BROUGHT:
            return f"nothing reaches it: no camera measures {names}, and nobody brings it signed"
        case Obstacle.NOT_ASKED if reach.rule.principal not in (None, WEARER):
            return f"nothing reaches it: at a camera the wearer asks, never {reach.rule.principal}"
        case Obstacle.NOT_ASKED:
            return "nothing reaches it: no camera asks for it"
        case _:
            return "nothing reaches it: a forbid stands in the way of all that a camera can know"


def _alike(found: Iterable[Reach]) -> list[tuple[str, list[str]]]:
    """Actions grouped by the words that apply to them, in order."""
    actions: dict[str, list[str]] = {}
    for each in found:
        words = obstacle_words(each) if each.way is None else way_words(each.way)
        actions.setdefault(words, []).append(each.action)
    return list(actions.items())


def _needed(name: str, value: Value) -> str:
    match name, value:
        case "reason_spoken", True:
            return "the reason spoken after the prompt"
        case "dock_state", "docked":
            return "the camera in its dock"
        case "authorization", Authorization(signed=True):
            rank = "" if value.rank == standard().values("Rank")[0] else f" ({value.rank} or above)"
            return f"an authorisation signed by {value.type}{rank}"
        case "authorization", _:
            return "the supervisor's key switch turned"
        case _, bool():
            return f"{name} {str(value).lower()}"
        case _:
            return f"{name} of {value}"
