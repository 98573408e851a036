"""The decision engine: from a request and a pack to a decision with its reasons. Pure; bad requests never raise.

How it decides:
1. The request is checked (`request.resolve`). An error in it results in a denial that names the error.
2. Cedar evaluates the pack's rules and the base rules in their guarded form (`guards`), with the schema. A
   request is allowed if Cedar allows it *and* reports no error: Cedar skips a policy that errs, even a forbid.
3. A denial names the forbids whose conditions hold on the known attributes. A forbid that denies only because an
   unknown attribute counts as its least favourable value is not named: it is not known that, say, force was used. If no
   forbid certainly holds, and more knowledge could make a permit fire, the denial names `UNKNOWN_SITUATION`, and
   `unknown` lists the attributes that nobody declared or measured. If no permit could fire whatever the unknown values,
   it is a denial by default, and names no rule.
4. The deciding rules state the obligations. A denial for which no rule states one gets `log_denied_attempt`; a denial
   by default also lists what was missing.
5. A grant that would also have been made on the wearer's declarations alone is marked `declared_only`. In the field
   such a grant also carries `flag_for_review`, under every pack, if it ends, pauses or mutes a recording: whether it
   rests on declarations alone depends on the provenance of its facts, which no annotation of a rule can express.
"""

from collections.abc import Iterable

from agent.domain.decision import Decision
from agent.errors import PolicyError
from agent.policy import explain, guards
from agent.policy.cedar import RuleSet, Verdict
from agent.policy.obligations import FLAG_FOR_REVIEW, LOG_DENIED_ATTEMPT
from agent.policy.packs import Pack, Rule
from agent.policy.request import Request, Resolved, resolve, worked_request
from agent.policy.schema import FACTS
from agent.policy.syntax import Expr, reads

UNKNOWN_SITUATION = "base.unknown-situation"
"""Used as a rule id where a request is denied because of attributes that nobody declared or measured."""
UNKNOWN_SITUATION_SOURCE = (
    "Base rules: on the device silence is not a fact; what nobody declared or measured permits nothing, and rules "
    "nothing out that forbids"
)
_ENDING = frozenset({"StopRecording", "PrivacyPause", "Mute", "PowerOff"})


def refused(error: str) -> Decision:
    """A denial for a request that could not be read or evaluated."""
    return Decision(allow=False, obligations=(LOG_DENIED_ATTEMPT,), error=error)


class Engine:
    """Decides requests by one pack.

    Args:
        pack: A loaded pack; its parameters apply to every request in the field.
    """

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self._rules = {rule.id: rule for rule in pack.rules}
        self._all = self._rule_set(pack.rules)
        self._permits = self._rule_set(rule for rule in pack.rules if rule.permit)
        # Every rule as a permit, so that one evaluation lists all that fire: forbids that hold whatever the unknown
        # values are, and permits that could fire if more were known.
        self._held = RuleSet(
            {rule.id: rule.as_cedar(_other_guard(rule), permit=True) for rule in pack.rules}, pack.vocabulary
        )
        self._probes = explain.Probes(pack)

    def _rule_set(self, rules: Iterable[Rule]) -> RuleSet:
        return RuleSet({rule.id: rule.as_cedar(rule.guarded) for rule in rules}, self.pack.vocabulary)

    def decide(self, request: Request) -> Decision:
        """The decision. Bad requests never raise: a bad name or value results in a denial that names it."""
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
        """The decision on a worked case's JSON (see `worked_request`); malformed JSON is denied too."""
        try:
            return self.decide(worked_request(document, field=field))
        except PolicyError as error:
            return refused(str(error))

    def unmet(self, request: Request) -> list["explain.Unmet"]:
        """For each permit in the request's scope, the unmet conditions; the permit with the fewest first.

        Raises:
            PolicyError: The request uses a name that the schema does not define.
        """
        return self._probes.unmet(resolve(request, self.pack.parameters, self.pack.vocabulary))

    def rule(self, rule_id: str) -> Rule:
        """The rule with an id from a decision.

        Raises:
            PolicyError: There is none.
        """
        if rule_id not in self._rules:
            raise PolicyError(f"expected a rule of the pack {self.pack.name}, got {rule_id[:60]!r}")
        return self._rules[rule_id]

    def _granted(self, resolved: Resolved, verdict: Verdict) -> Decision:
        fired = [self._rules[rule_id] for rule_id in verdict.rules]
        # Would the same permits fire if only the wearer's declarations counted?
        word = self._permits.verdict(resolved.without(frozenset(FACTS) - resolved.declared))
        declared_only = verdict.rules <= word.rules and any(reads(rule.condition) for rule in fired)
        obligations = _obligations(fired)
        if declared_only and resolved.field and resolved.action in _ENDING:
            obligations = tuple(sorted({*obligations, FLAG_FOR_REVIEW}))
        return Decision(
            allow=True,
            rules=tuple(sorted(verdict.rules)),
            obligations=obligations,
            declared_only=declared_only,
            compelled=any(rule.compels for rule in fired),
        )

    def _denied(self, resolved: Resolved, verdict: Verdict) -> Decision:
        held = self._held.verdict(resolved).rules
        certain = [self._rules[rule_id] for rule_id in verdict.rules & held]
        if certain:
            read = frozenset().union(*(reads(rule.condition) for rule in certain))
            return Decision(
                allow=False,
                rules=tuple(sorted(rule.id for rule in certain)),
                obligations=_obligations(certain) or (LOG_DENIED_ATTEMPT,),
                missing=() if resolved.field else tuple(sorted(read)),
                unknown=tuple(sorted(read & resolved.unknown)),
            )
        found = self._probes.missing(resolved, lambda changed: self._all.verdict(changed).allow)
        possible = [self._rules[rule_id] for rule_id in held if self._rules[rule_id].permit]
        unknown: frozenset[str] = frozenset()
        if possible:
            nearest = min(
                (reads(rule.condition) & resolved.unknown for rule in possible),
                key=lambda names: (len(names), sorted(names)),
            )
            if self._permits.verdict(resolved).rules:
                nearest = frozenset()  # a permit fires already, and only what might forbid stands in its way
            assumed = (reads(self._rules[rule_id].condition) for rule_id in verdict.rules)
            unknown = nearest.union(*assumed) & resolved.unknown
        return Decision(
            allow=False,
            rules=(UNKNOWN_SITUATION,) if possible else (),
            obligations=tuple(sorted({LOG_DENIED_ATTEMPT, *found.prompts})),
            missing=found.procedures if resolved.field else found.attributes,
            unknown=tuple(sorted(unknown)),
        )


def _other_guard(rule: Rule) -> Expr:
    """A permit's condition where it may hold, a forbid's where it certainly holds: the reverse of `Rule.guarded`."""
    return guards.possibly(rule.condition) if rule.permit else guards.surely(rule.condition)


def _obligations(rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple(sorted({obligation for rule in rules for obligation in rule.obligations}))
