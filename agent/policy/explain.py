"""What would reverse a denial: the unmet conditions of each permit, and the procedures that would meet them.

Each condition of each permit is a separate policy here, so that one evaluation by Cedar lists all that are met.

A device must not coach: it may say what to *do* (speak, let the request be heard, ask for leave, give a reason where
any will do), never what to *claim*. So a procedure is named only if Cedar confirms that it alone would reverse
the denial.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.policy import guards
from agent.policy.cedar import RuleSet
from agent.policy.obligations import BEFORE
from agent.policy.packs import Pack, Rule
from agent.policy.request import Authorization, Resolved, Value
from agent.policy.schema import Vocabulary
from agent.policy.syntax import Expr, conjuncts, evaluate, reads

SPEAK = "speak"
CAPTURE = "capture"
AUTHORISE = "authorise"
GIVE_REASON = "give_reason"

PROCEDURES: Mapping[str, str] = {
    "reason_spoken": SPEAK,
    "request_on_recording": CAPTURE,
    "authorization": AUTHORISE,
    "reason_code": GIVE_REASON,
}
"""The attributes that a procedure can change."""

_AUTHORITIES = ("supervisor_onscene", "supervisor_remote", "prosecutor")


@dataclass(frozen=True, slots=True)
class Unmet:
    """A permit that does not fire, and the conditions that keep it from firing."""

    rule: Rule
    conditions: tuple[Expr, ...]

    @property
    def reads(self) -> frozenset[str]:
        """The attributes that these conditions read."""
        return frozenset().union(*map(reads, self.conditions))


@dataclass(frozen=True, slots=True)
class Missing:
    """What a denial by default lacks.

    Attributes:
        procedures: What to do, if that alone would reverse the denial.
        attributes: The attributes that the permit with the fewest unmet conditions lacks.
        prompts: Obligations to be met before the decision can change.
        read: Every attribute that any permit in question lacks.
    """

    procedures: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    prompts: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()


class Probes:
    """The conditions of a pack's permits, each as a policy.

    Args:
        pack: The pack.
    """

    def __init__(self, pack: Pack) -> None:
        self._vocabulary = pack.vocabulary
        self._permits = [(rule, conjuncts(rule.condition)) for rule in pack.rules if rule.permit]
        policies = {
            f"{rule.id}#{index}": rule.as_cedar(guards.surely(condition))
            for rule, conditions in self._permits
            for index, condition in enumerate(conditions)
        }
        self._rules = RuleSet(policies, pack.vocabulary)

    def unmet(self, resolved: Resolved) -> list[Unmet]:
        """For each permit in the request's scope, the unmet conditions; the permit with the fewest first."""
        met = self._rules.verdict(resolved).rules
        found = [
            Unmet(rule, tuple(each for index, each in enumerate(conditions) if f"{rule.id}#{index}" not in met))
            for rule, conditions in self._permits
            if rule.about(resolved.principal, resolved.action)
        ]
        return sorted(found, key=lambda unmet: len(unmet.conditions))

    def missing(self, resolved: Resolved, allows: Callable[[Resolved], bool]) -> Missing:
        """What a request that is denied by default lacks.

        Args:
            resolved: The request.
            allows: Whether the pack allows a changed request.
        """
        found = self.unmet(resolved)
        if not found:
            return Missing()
        read = frozenset().union(*(unmet.reads for unmet in found))
        ways = [way for unmet in found if (way := _way(unmet, resolved, allows, self._vocabulary))]
        if not ways:
            return Missing(attributes=tuple(sorted(found[0].reads)), read=read)
        rule, attributes, authority = min(ways, key=lambda way: len(way[1]))
        procedures = tuple(PROCEDURES[name] for name in attributes)
        return Missing(procedures, attributes, frozenset(_prompts(rule, procedures, authority)), read)


def _way(
    unmet: Unmet, resolved: Resolved, allows: Callable[[Resolved], bool], vocabulary: Vocabulary
) -> tuple[Rule, tuple[str, ...], str] | None:
    """The attributes by which procedures alone meet these conditions, and who would authorise it; None if none do."""
    touched = [reads(condition) & PROCEDURES.keys() for condition in unmet.conditions]
    if not all(touched):
        return None
    attributes = tuple(sorted(frozenset().union(*touched)))
    changes: dict[str, Value] = {}
    if "reason_spoken" in attributes:
        changes["reason_spoken"] = True
    if "request_on_recording" in attributes:
        changes["request_on_recording"] = True
    if "reason_code" in attributes:
        reasons = [reason for reason in vocabulary.values("Reason") if reason != "none"]
        if not all(_takes_any(condition, reasons, vocabulary) for condition in unmet.conditions):
            return None
        changes["reason_code"] = reasons[0]
    for authority in _AUTHORITIES if "authorization" in attributes else ("",):
        if authority:
            highest = vocabulary.values("Rank")[-1]
            changes["authorization"] = Authorization(authority, highest, signed=True, expires_in_s=1)
        if allows(resolved.knowing(changes)):
            return unmet.rule, attributes, authority
    return None


def _takes_any(condition: Expr, reasons: list[str], vocabulary: Vocabulary) -> bool:
    """True if the condition does not read the reason, or holds for any: asking for one is then no hint."""
    if "reason_code" not in reads(condition):
        return True
    return all(evaluate(condition, "", {"reason_code": reason}, vocabulary) is True for reason in reasons)


def _prompts(rule: Rule, procedures: tuple[str, ...], authority: str) -> Iterator[str]:
    """The obligations that the permit states as due before it fires; if it states none, the general prompt."""
    own = set(rule.obligations) & set(BEFORE)
    if CAPTURE in procedures:
        yield "prompt_capture_request"
    if SPEAK in procedures:
        yield "announce_stop" if "announce_stop" in own else "state_reason_on_camera"
    if AUTHORISE in procedures and authority.startswith("supervisor"):
        yield "supervisor_approval"
    if GIVE_REASON in procedures:
        yield "log_reason_code"
