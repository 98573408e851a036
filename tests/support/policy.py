"""Worked cases, packs and random requests for tests of the policy."""

from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.policy.cases import Case, read_cases
from agent.policy.engine import Engine
from agent.policy.packs import BUILT_IN, shipped, shipped_names
from agent.policy.request import Authorization, Fact, Request
from agent.policy.schema import ACTIONS, ATTRIBUTES, FACTS, Attribute, Kind, standard

SCENARIOS = Path(__file__).resolve().parents[1] / "policy" / "scenarios.json"
OWN = SCENARIOS.with_name("cases")

ALL_PACKS = (*shipped_names(), BUILT_IN)
ENDING = ("StopRecording", "PrivacyPause", "Mute", "PowerOff")
"""The actions that end, darken or silence a recording."""


@cache
def engine(name: str) -> Engine:
    """The engine for a shipped pack."""
    return Engine(shipped(name))


@cache
def own_cases(pack: str) -> tuple[Case, ...]:
    """The worked cases in this repository for a pack."""
    return tuple(read_cases((OWN / f"{pack}.json").read_bytes()))


@cache
def scenarios() -> tuple[Case, ...]:
    """The situations that agencies' written rules describe, over all packs, with the decision that the text demands."""
    return tuple(read_cases(SCENARIOS.read_bytes()))


def values(attribute: Attribute) -> st.SearchStrategy[Any]:
    """Values of an attribute, as a checked request has them."""
    words = standard()
    match attribute.kind:
        case Kind.ONE:
            return st.sampled_from(words.values(attribute.type))
        case Kind.SET:
            return st.frozensets(st.sampled_from(words.values(attribute.type)), max_size=2)
        case Kind.TRUTH:
            return st.booleans()
        case Kind.COUNT:
            numbers = st.sampled_from([0, 1, 29, 30, 31, 119, 120, 599, 600, 601, attribute.largest])
            return numbers.map(lambda number: min(number, attribute.largest))
        case Kind.AUTHORIZATION:
            return st.builds(
                Authorization,
                type=st.sampled_from(words.values("Authority")),
                rank=st.sampled_from(words.values("Rank")),
                signed=st.booleans(),
                expires_in_s=st.sampled_from([0, 1, 300]),
            )


def contexts(*, complete: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Values by attribute: some of them, or all."""
    every = {name: values(ATTRIBUTES[name]) for name in FACTS}
    return st.fixed_dictionaries(every) if complete else st.fixed_dictionaries({}, optional=every)


principals = st.sampled_from(standard().values("Principal"))
actions = st.sampled_from(ACTIONS)


def asked(principal: str, action: str, context: dict[str, Any], *, field: bool) -> Request:
    """A request with the first admissible provenance of each attribute."""
    facts = {name: Fact(value, ATTRIBUTES[name].provenances[0]) for name, value in context.items()}
    return Request(principal, action, facts, field=field)
