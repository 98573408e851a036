"""Decisions in words, for people at a workstation. Nothing here decides."""

from collections.abc import Iterator, Mapping

from agent.domain.decision import Decision
from agent.policy import explain
from agent.policy.engine import UNKNOWN_SITUATION, UNKNOWN_SITUATION_SOURCE, Engine
from agent.policy.packs import Pack, Rule
from agent.policy.request import Request
from agent.policy.syntax import to_text

PROCEDURES: Mapping[str, str] = {
    explain.SPEAK: "say the reason aloud, then ask again",
    explain.CAPTURE: "let the request be heard on the recording, then ask again",
    explain.AUTHORISE: "obtain a signed authorisation, then ask again",
    explain.GIVE_REASON: "give a reason, then ask again",
}
"""What each procedure means for the wearer."""


def describe(engine: Engine, request: Request, decision: Decision) -> Iterator[str]:
    """A decision in words: what made it, what it demands, and for a denial what stands in the way, line by line."""
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
