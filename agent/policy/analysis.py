"""Dead rules: a permit or forbid that can never fire is a mistake, and is refused before the pack is signed.

Method. A finite set of requests decides whether a rule can fire, because rules distinguish attribute values only by the
constants that they name. For each attribute the search tries the named values and one that no rule names; for numbers,
zero, each constant that they are compared with, and as many values above it as there are numbers in comparison; for
sets, all subsets of the named elements and one other; for authorisations, every type, rank and signature. No two
attributes share an enumeration, so no rule can compare two of them. The parameters are the pack's.
Conditions are evaluated on partial assignments (`syntax.evaluate`): a branch is abandoned as soon as a condition fails.
A permit counts as alive only if it fires while no forbid does.

The search is sound and complete for the subset of Cedar that packs may use: Cedar confirms each request that it finds,
and if it finds none, no class of requests that the rules can distinguish contains one. Limits: the search visits at
most `MAX_STEPS` states for a rule and refuses the pack if that is not enough; it does not ask whether a request can
*occur* (a docked camera in a school); a permit that only ever fires together with another one is alive.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from agent.errors import PolicyError
from agent.policy import syntax
from agent.policy.packs import Pack, Rule
from agent.policy.request import Authorization, Fact, Request, Value
from agent.policy.schema import ATTRIBUTES, FACTS, Kind, Vocabulary

MAX_STEPS = 200_000


@dataclass(frozen=True, slots=True)
class Goal:
    """A condition and the value it must have."""

    condition: syntax.Expr
    wanted: bool


def witness(pack: Pack, rule: Rule) -> Request | None:
    """A worked case that `rule` decides; None if there is none.

    Raises:
        PolicyError: The search would take too long.
    """
    rivals = [other for other in pack.rules if rule.permit and not other.permit]
    for action in rule.actions:
        for principal in pack.vocabulary.values("Principal"):
            if not rule.about(principal, action):
                continue
            goals = [Goal(rule.condition, wanted=True)]
            goals += [Goal(other.condition, wanted=False) for other in rivals if other.about(principal, action)]
            found = Search(pack, rule.id, principal, goals).run()
            if found is not None:
                facts = {name: Fact(value, ATTRIBUTES[name].provenances[0]) for name, value in found.items()}
                return Request(principal, action, facts, field=False)
    return None


class Search:
    """Depth-first search for attribute values that meet all goals.

    Args:
        pack: Provides the parameters and the vocabulary.
        rule_id: The rule that the goals belong to, for error messages.
        principal: Who makes the request.
        goals: Conditions, guarded or not (`guards`).
        choices: The values to try, in order, by attribute. For an attribute that is left out, all values that the
            conditions can distinguish.
    """

    def __init__(
        self,
        pack: Pack,
        rule_id: str,
        principal: str,
        goals: Sequence[Goal],
        *,
        choices: Mapping[str, Sequence[Value]] | None = None,
    ) -> None:
        self._vocabulary = pack.vocabulary
        self._rule_id = rule_id
        self._principal = principal
        self._goals = goals
        self._parameters = pack.parameters
        self._known: dict[str, Value] = {}
        self._choices = choices or {}
        self._candidates = _Candidates([goal.condition for goal in goals], pack.parameters, pack.vocabulary)
        self._steps = 0

    def run(self, given: Mapping[str, Value] | None = None) -> Mapping[str, Value] | None:
        """The values of the attributes that matter; None if nothing meets the goals.

        Args:
            given: Fixed values by attribute; for guarded conditions also the value of `unknown`.

        Raises:
            PolicyError: The search would take too long.
        """
        self._known = {**self._parameters, **(given or {})}
        self._steps = 0
        return {name: self._known[name] for name in FACTS if name in self._known} if self._descend() else None

    def _descend(self) -> bool:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise PolicyError(
                f"{self._rule_id}: not known after {MAX_STEPS} steps whether it can ever fire; write simpler conditions"
            )
        undecided = None
        for goal in self._goals:
            result = syntax.evaluate(goal.condition, self._principal, self._known, self._vocabulary)
            if result is None:
                undecided = undecided or goal
            elif result is not goal.wanted:
                return False
        if undecided is None:
            return True
        name = min(syntax.reads(undecided.condition) - self._known.keys())
        for value in self._choices[name] if name in self._choices else self._candidates.of(name):
            self._known[name] = value
            if self._descend():
                return True
        del self._known[name]
        return False


class _Candidates:
    """For each attribute, the values that the conditions can distinguish."""

    def __init__(
        self, conditions: Sequence[syntax.Expr], parameters: Mapping[str, Value], vocabulary: Vocabulary
    ) -> None:
        self._vocabulary = vocabulary
        parts = [part for condition in conditions for part in syntax.walk(condition)]
        self._named: set[tuple[str, Value]] = {
            (each.type, each.value) for each in parts if isinstance(each, syntax.Literal)
        }
        self._named |= {(ATTRIBUTES[name].type, parameters[name]) for name in parameters if ATTRIBUTES[name].type}
        literals = [each.value for each in parts if isinstance(each, syntax.Literal)]
        self._numbers = sorted({each for each in (*literals, *parameters.values()) if _is_number(each)})
        reads = {(each.name, each.part) for each in parts if isinstance(each, syntax.Read) and each.name in ATTRIBUTES}
        self._counts = sum(1 for name, part in reads if _is_count(name, part))

    def of(self, name: str) -> Iterator[Value]:
        """The values to try for an attribute."""
        attribute = ATTRIBUTES[name]
        match attribute.kind:
            case Kind.ONE:
                yield from self._choices(attribute.type)
            case Kind.SET:
                elements = self._choices(attribute.type)
                for size in range(len(elements) + 1):
                    yield from map(frozenset, itertools.combinations(elements, size))
            case Kind.TRUTH:
                yield from (True, False)
            case Kind.COUNT:
                yield from self._values(attribute.largest)
            case Kind.AUTHORIZATION:
                yield from self._authorizations()

    def _choices(self, enumeration: str) -> list[str]:
        values = self._vocabulary.values(enumeration)
        named = [value for value in values if (enumeration, value) in self._named]
        return named + [value for value in values if value not in named][:1]

    def _values(self, largest: int) -> list[int]:
        near = {low + step for low in (0, *self._numbers) for step in range(-1, self._counts + 1)}
        return sorted(value for value in near | {largest} if 0 <= value <= largest)

    def _authorizations(self) -> Iterator[Authorization]:
        yield Authorization()
        types = [value for value in self._vocabulary.values("Authority") if value != "none"]
        ranks = self._vocabulary.values("Rank")
        for given, rank, signed in itertools.product(types, reversed(ranks), (True, False)):
            for expiry in self._values(ATTRIBUTES["elapsed_s"].largest):
                yield Authorization(given, rank, signed, expiry)


def _is_number(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(name: str, part: str) -> bool:
    return ATTRIBUTES[name].kind is Kind.COUNT or part == "expires_in_s"


def dead_rules(pack: Pack) -> tuple[str, ...]:
    """The pack's own rules that can never make a decision, in order.

    Raises:
        PolicyError: The search would take too long.
    """
    return tuple(rule.id for rule in pack.own if witness(pack, rule) is None)
