"""Worked cases: requests with the decision that a source text demands, and flips: changes that must reverse it.

The format is a JSON list of objects with `id`, `principal`, `action`, `context`, `expected` (`allow` or `deny`), and
optionally `pack`, `parameters`, `obligations`, `rules` and `flips`; other fields (citation, situation, quote
…) are for human readers. A flip is an object of changes: `principal`, `action`, parameters and attributes by name.
Each flip must reverse the decision, so a policy that denies everything fails.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from agent.domain.decision import Decision
from agent.errors import PolicyError
from agent.policy.engine import Engine
from agent.policy.schema import PARAMETERS


class Case(msgspec.Struct, frozen=True):
    """One worked case; other fields in the file are for human readers."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    principal: str
    action: str
    context: dict[str, Any]
    expected: Literal["allow", "deny"]
    pack: str = ""
    parameters: dict[str, Any] = {}
    obligations: tuple[str, ...] = ()
    rules: tuple[str, ...] | None = None
    flips: tuple[dict[str, Any], ...] = ()

    def request(self, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The request, with the changes of a flip applied."""
        document: dict[str, Any] = {
            "principal": self.principal,
            "action": self.action,
            "context": dict(self.context),
            "parameters": dict(self.parameters),
        }
        for name, value in (changes or {}).items():
            if name in ("principal", "action"):
                document[name] = value
            else:
                document["parameters" if name in PARAMETERS else "context"][name] = value
        return document


@dataclass(frozen=True, slots=True)
class Failure:
    """A case whose decision differs from the expected one.

    Attributes:
        case: Its id.
        flip: The changes of the flip that failed; None for the case itself.
        why: The difference, in words.
        decision: The actual decision.
    """

    case: str
    flip: Mapping[str, Any] | None
    why: str
    decision: Decision


def read_cases(data: bytes) -> list[Case]:
    """The cases in a file.

    Raises:
        PolicyError: The file is malformed, has no cases, or repeats an id.
    """
    try:
        cases = msgspec.json.decode(data, type=list[Case])
    except msgspec.DecodeError as error:
        raise PolicyError(f"expected a JSON list of cases: {error}") from error
    if not cases:
        raise PolicyError("expected at least one case, got an empty list")
    ids = [case.id for case in cases]
    if repeated := next((each for each in ids if ids.count(each) > 1), None):
        raise PolicyError(f"expected each case once, got {repeated} twice")
    return cases


def failures(case: Case, engine_of: Callable[[str], Engine]) -> Iterator[Failure]:
    """The failures of a case and its flips.

    Args:
        case: The case.
        engine_of: Returns the engine for a pack's name, which is empty if the case names none.

    Raises:
        PolicyError: There is no such pack.
    """
    engine = engine_of(case.pack)
    allow = case.expected == "allow"
    decision = engine.decide_worked(case.request())
    if decision.error:
        yield Failure(case.id, None, decision.error, decision)
    elif decision.allow is not allow:
        yield Failure(case.id, None, f"expected {case.expected}, got {_word(decision)}", decision)
    elif owed := sorted(set(case.obligations) - set(decision.obligations)):
        yield Failure(case.id, None, f"obligations not carried: {', '.join(owed)}", decision)
    elif case.rules is not None and set(case.rules) != set(decision.rules):
        yield Failure(case.id, None, f"expected it by {', '.join(case.rules) or 'default'}", decision)
    for flip in case.flips:
        decision = engine.decide_worked(case.request(flip))
        if decision.error:
            yield Failure(case.id, flip, decision.error, decision)
        elif decision.allow is allow:
            yield Failure(case.id, flip, f"expected it to turn, it is still {_word(decision)}", decision)


def _word(decision: Decision) -> str:
    return "allow" if decision.allow else "deny"
