"""The decision: a request and a pack in, an answer with its reasons out. Pure; it never raises for what a request says.

How it decides:
1. The request is checked (`request.resolve`). What is wrong with it is a denial that names it.
2. Cedar evaluates the pack's rules and the base rules in their guarded form (`guards`), with the schema. Allowed is
   what Cedar allows *and* evaluated without a single error: a policy that errors is skipped by Cedar, a forbid too.
3. The rules that fired give their obligations. A denial for which no rule states an obligation gets
   `log_denied_attempt`; one by default also what was missing.
4. A permit that would have fired on the wearer's word alone is marked `declared_only`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.errors import PolicyError
from agent.policy import explain
from agent.policy.cedar import RuleSet, Verdict
from agent.policy.obligations import LOG_DENIED_ATTEMPT
from agent.policy.packs import Pack, Rule
from agent.policy.request import Request, Resolved, resolve, worked_request
from agent.policy.schema import FACTS
from agent.policy.syntax import reads


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one request.

    Attributes:
        allow: True if it is granted.
        rules: The ids of the rules that made the decision, sorted; none for a denial by default.
        obligations: What has to happen, sorted.
        missing: For a denial what would make it allowed, as far as anything known would. In the field procedures only
            (`speak`, `capture`, `authorise`, `give_reason`), never a fact to claim; in a worked case attributes.
        unknown: Attributes that nobody declared or measured and that a denial turned on; for the journal, not the
            wearer.
        declared_only: The permits rest on the wearer's word alone.
        compelled: The text behind a permit does not only permit but demands: the wearer is to be prompted
            (`prompt_stop`).
        error: What is wrong with the request or its evaluation; empty for nothing.
    """

    allow: bool
    rules: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    declared_only: bool = False
    compelled: bool = False
    error: str = ""


def refused(error: str) -> Decision:
    """The denial of a request that could not be read or evaluated."""
    return Decision(allow=False, obligations=(LOG_DENIED_ATTEMPT,), error=error)


class Engine:
    """Decides by one pack.

    Args:
        pack: A loaded pack; its parameters hold for every request in the field.
    """

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self._rules = {rule.id: rule for rule in pack.rules}
        self._all = self._rule_set(pack.rules)
        self._permits = self._rule_set(rule for rule in pack.rules if rule.permit)
        self._probes = explain.Probes(pack)

    def _rule_set(self, rules: Iterable[Rule]) -> RuleSet:
        return RuleSet({rule.id: rule.as_cedar(rule.guarded) for rule in rules}, self.pack.vocabulary)

    def decide(self, request: Request) -> Decision:
        """The decision. Never raises for what the request says: a bad name or value is a denial that names it."""
        try:
            resolved = resolve(request, self.pack.parameters, self.pack.vocabulary)
        except PolicyError as error:
            return refused(str(error))
        verdict = self._all.verdict(resolved)
        if verdict.errors:
            return refused(f"the rules could not be evaluated, so nothing is permitted: {verdict.errors[0]}")
        if verdict.allow:
            return self._granted(resolved, verdict)
        return self._denied(resolved, verdict)

    def decide_worked(self, document: object, *, field: bool = False) -> Decision:
        """The decision on a worked case's JSON (see `worked_request`); what is malformed about it is a denial too."""
        try:
            return self.decide(worked_request(document, field=field))
        except PolicyError as error:
            return refused(str(error))

    def unmet(self, request: Request) -> list["explain.Unmet"]:
        """For each permit in the request's scope what keeps it from firing, the nearest first.

        Raises:
            PolicyError: The request names something that the schema does not know.
        """
        return self._probes.unmet(resolve(request, self.pack.parameters, self.pack.vocabulary))

    def rule(self, rule_id: str) -> Rule:
        """The rule of that id, out of a decision.

        Raises:
            PolicyError: There is none.
        """
        if rule_id not in self._rules:
            raise PolicyError(f"expected a rule of the pack {self.pack.name}, got {rule_id[:60]!r}")
        return self._rules[rule_id]

    def _granted(self, resolved: Resolved, verdict: Verdict) -> Decision:
        fired = [self._rules[rule_id] for rule_id in verdict.rules]
        # Would the same permits fire if only the wearer's word counted?
        word = self._permits.verdict(resolved.without(frozenset(FACTS) - resolved.declared))
        return Decision(
            allow=True,
            rules=tuple(sorted(verdict.rules)),
            obligations=_obligations(fired),
            declared_only=verdict.rules <= word.rules and any(reads(rule.condition) for rule in fired),
            compelled=any(rule.compels for rule in fired),
        )

    def _denied(self, resolved: Resolved, verdict: Verdict) -> Decision:
        fired = [self._rules[rule_id] for rule_id in verdict.rules]
        if fired:
            read = frozenset().union(*(reads(rule.condition) for rule in fired))
            return Decision(
                allow=False,
                rules=tuple(sorted(verdict.rules)),
                obligations=_obligations(fired) or (LOG_DENIED_ATTEMPT,),
                missing=() if resolved.field else tuple(sorted(read)),
                unknown=tuple(sorted(read & resolved.unknown)),
            )
        found = self._probes.missing(resolved, lambda changed: self._all.verdict(changed).allow)
        return Decision(
            allow=False,
            obligations=tuple(sorted({LOG_DENIED_ATTEMPT, *found.prompts})),
            missing=found.procedures if resolved.field else found.attributes,
            unknown=tuple(sorted(found.read & resolved.unknown)),
        )


def _obligations(rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple(sorted({obligation for rule in rules for obligation in rule.obligations}))
