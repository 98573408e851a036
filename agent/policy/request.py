"""Requests and their context: every fact with its provenance, checked before Cedar evaluates it.

Rules, in order:
1. A name or value that the schema does not define is refused, and the error names it.
2. Attributes that a worked case leaves out have the defaults of `schema.ATTRIBUTES`.
3. In the field there are no defaults: what nobody declared or measured is unknown. A value must have one of the
   attribute's admissible provenances: a declared `reason_spoken`, which must be measured, is refused.
4. Power-off in the field never rests on a declared place: only a beacon's place counts.
5. The pack gives the parameters. A worked case may override them; a request in the field may not.
"""

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agent.errors import PolicyError
from agent.policy.schema import (
    ACTIONS,
    ATTRIBUTES,
    FACTS,
    LARGEST_COUNT,
    PARAMETERS,
    Attribute,
    Kind,
    Provenance,
    Vocabulary,
)

DEFAULT_EXPIRY_S = 300
"""Validity of an authorisation in a worked case that does not state it, in seconds."""

_MOST_LISTED = 10
"""Maximum number of values that an error message lists."""

Json = str | int | bool | list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Authorization:
    """Permission given by somebody with the authority to do so.

    Attributes:
        type: `none`, `supervisor_onscene`, `supervisor_remote` or `prosecutor`.
        rank: The rank of the person who gave it.
        signed: True if a signature by a key of the trust document was verified.
        expires_in_s: Seconds until it ends.
    """

    type: str = "none"
    rank: str = "officer"
    signed: bool = False
    expires_in_s: int = 0


KEY_SWITCH = Authorization("supervisor_onscene", "officer", signed=False, expires_in_s=60)
"""The value of a turned key switch: somebody with that key is present, but nothing was signed."""

Value = str | int | bool | frozenset[str] | Authorization


@dataclass(frozen=True, slots=True)
class Fact:
    """The value of one attribute and its provenance. Unchecked until the decision."""

    value: object
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an action.

    Attributes:
        principal: Who makes it, as in the schema.
        action: The action, as in the schema.
        facts: By attribute.
        parameters: A worked case's, which override the pack's; must be empty in the field.
        field: True on the device, where attributes without a fact are unknown; False for a worked case.
    """

    principal: str
    action: str
    facts: Mapping[str, Fact]
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    field: bool = True

    def record(self) -> dict[str, Any]:
        """The request as JSON with provenance, for the journal. `from_record` reads it back."""
        facts = {
            name: {"value": plain(fact.value), "provenance": str(fact.provenance)}
            for name, fact in sorted(self.facts.items())
        }
        return {"principal": self.principal, "action": self.action, "facts": facts}


def from_record(record: Mapping[str, Any]) -> Request:
    """The field request that `Request.record` wrote down.

    Raises:
        PolicyError: The record is malformed.
    """
    try:
        facts = {
            str(name): Fact(fact["value"], Provenance(fact["provenance"])) for name, fact in record["facts"].items()
        }
        return Request(str(record["principal"]), str(record["action"]), facts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PolicyError(
            f"expected a request's record with principal, action and facts, got {_shown(record)}"
        ) from error


def worked_request(document: object, *, field: bool = False) -> Request:
    """The request of a worked case: `{"principal", "action", "context", "parameters"}`, the last two optional.

    Args:
        document: The decoded JSON.
        field: Make a request as on the device: attributes left out are unknown, and there are no parameters.

    Raises:
        PolicyError: The document does not have that form; the message names the fault.
    """
    if not isinstance(document, Mapping):
        raise PolicyError(f"expected a request as a JSON object, got {type(document).__name__}")
    if unknown := sorted(map(str, set(document) - {"principal", "action", "context", "parameters"})):
        raise PolicyError(f"expected a request of principal, action, context and parameters, got {unknown[0]!r} too")
    for name in ("principal", "action"):
        if not isinstance(document.get(name), str):
            raise PolicyError(f"expected a request with a text as {name}, got {_shown(document.get(name))}")
    parts = {}
    for name in ("context", "parameters"):
        parts[name] = document.get(name, {})
        if not isinstance(parts[name], Mapping):
            raise PolicyError(f"expected a request with an object as {name}, got {_shown(parts[name])}")
    facts = {}
    for name, value in parts["context"].items():
        _check_name(name, FACTS, "context")
        facts[name] = Fact(value, ATTRIBUTES[name].provenances[0])
    return Request(document["principal"], document["action"], facts, parts["parameters"], field=field)


def parse_declarations(text: str, vocabulary: Vocabulary) -> dict[str, Value]:
    """The values of a gesture's `declare:`: one declaration, or several joined by `+`.

    Elements of one set accumulate; no other attribute may be declared twice.

    Raises:
        PolicyError: As `parse_declaration`; or one attribute is declared twice.
    """
    declared: dict[str, Value] = {}
    for part in text.split("+"):
        name, value = parse_declaration(part, vocabulary)
        before = declared.get(name)
        if isinstance(before, frozenset) and isinstance(value, frozenset):
            value = before | value
        elif before is not None:
            raise PolicyError(f"expected each attribute declared once in {_shown(text)}, got {name} twice")
        declared[name] = value
    return declared


def parse_declaration(text: str, vocabulary: Vocabulary) -> tuple[str, Value]:
    """One declaration of a `declare:`: a reason code, or `attribute=value` of an attribute that can be declared.

    A set is declared one element at a time: `person_class=minor` is the set of minor alone.

    Raises:
        PolicyError: No such reason code or attribute, or the attribute can't be declared.
    """
    name, equals, value = text.partition("=")
    if not equals:
        name, value = "reason_code", text
    _check_name(name, FACTS, "declaration")
    attribute = ATTRIBUTES[name]
    if Provenance.DECLARED not in attribute.provenances:
        raise PolicyError(f"expected a declaration of an attribute that the wearer may declare, got {name}")
    truths = {"true": True, "false": False}
    if attribute.kind is Kind.TRUTH:
        return name, check_value(attribute, truths.get(value, value), vocabulary)
    return name, check_value(attribute, [value] if attribute.kind is Kind.SET else value, vocabulary)


def merge_declarations(known: Mapping[str, object], values: Mapping[str, object]) -> dict[str, Any]:
    """The declarations after `values` is added: sets are united, other values are replaced."""
    merged: dict[str, Any] = dict(known)
    for name, value in values.items():
        before = merged.get(name)
        merged[name] = before | value if isinstance(before, frozenset) and isinstance(value, frozenset) else value
    return merged


def says_concluded(declared: Mapping[str, object]) -> bool:
    """True if the wearer has declared, by either of the two attributes for it, that the encounter is over."""
    return declared.get("encounter_state") == "concluded" or declared.get("reason_code") == "encounter_concluded"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked request: a value for every attribute, and the set of unknown attributes.

    Attributes:
        principal: Who makes the request.
        action: The action.
        values: By attribute, parameters too. The value of an unknown attribute is a placeholder that decides nothing.
        unknown: Attributes that nobody declared or measured.
        declared: Attributes that the wearer declared.
        field: As in the request.
    """

    principal: str
    action: str
    values: Mapping[str, Value]
    unknown: frozenset[str]
    declared: frozenset[str]
    field: bool

    def knowing(self, changes: Mapping[str, Value]) -> "Resolved":
        """A copy in which these values are known."""
        return Resolved(
            self.principal,
            self.action,
            MappingProxyType({**self.values, **changes}),
            self.unknown - changes.keys(),
            self.declared,
            self.field,
        )

    def without(self, names: Collection[str]) -> "Resolved":
        """A copy in which these attributes are unknown."""
        unknown = self.unknown | frozenset(names)
        return Resolved(self.principal, self.action, self.values, unknown, self.declared, self.field)


def resolve(request: Request, parameters: Mapping[str, Value], vocabulary: Vocabulary) -> Resolved:
    """The request with a value for every attribute, by the rules at the top of this module.

    Args:
        request: An unchecked request.
        parameters: The pack's, complete and checked.
        vocabulary: The vocabulary that it is checked against.

    Raises:
        PolicyError: A rule is violated; the message names the attribute or value.
    """
    _check_choice("principal", request.principal, vocabulary.values("Principal"))
    _check_choice("action", request.action, ACTIONS)
    if request.field and request.parameters:
        raise PolicyError(f"expected no parameters from a request in the field, got {next(iter(request.parameters))!r}")
    values: dict[str, Value] = dict(parameters) | check_parameters(request.parameters, vocabulary)
    unknown, declared = set(), set()
    for name in request.facts:
        _check_name(name, FACTS, "context")
    for name in FACTS:
        if name not in vocabulary.attributes:
            continue  # the schema is older than this attribute, so none of its rules reads it
        attribute = ATTRIBUTES[name]
        fact = request.facts.get(name)
        if fact is None:
            values[name] = Authorization() if attribute.kind is Kind.AUTHORIZATION else attribute.default
            if request.field:
                unknown.add(name)
            elif attribute.provenances[0] is Provenance.DECLARED:
                declared.add(name)
            continue
        if fact.provenance not in attribute.provenances:
            allowed = " or ".join(attribute.provenances)
            raise PolicyError(f"expected {name} as {allowed}, got it as {fact.provenance!s}: it is not believed")
        values[name] = check_value(attribute, fact.value, vocabulary)
        if fact.provenance is Provenance.DECLARED:
            declared.add(name)
    if request.field and request.action == "PowerOff" and "location_class" in declared:
        unknown.add("location_class")
    return Resolved(
        request.principal,
        request.action,
        MappingProxyType(values),
        frozenset(unknown),
        frozenset(declared),
        request.field,
    )


def check_parameters(parameters: Mapping[str, object], vocabulary: Vocabulary) -> dict[str, Value]:
    """Parameters by name, checked.

    Raises:
        PolicyError: A name or value is not known.
    """
    checked: dict[str, Value] = {}
    for name, value in parameters.items():
        _check_name(name, PARAMETERS, "parameters")
        checked[name] = check_value(ATTRIBUTES[name], value, vocabulary)
    return checked


def check_value(attribute: Attribute, value: object, vocabulary: Vocabulary) -> Value:
    """A value of an attribute in its canonical form.

    Raises:
        PolicyError: The attribute can't have this value.
    """
    name = attribute.name
    match attribute.kind:
        case Kind.ONE:
            return _check_choice(name, value, vocabulary.values(attribute.type))
        case Kind.SET:
            if not isinstance(value, list | tuple | set | frozenset):
                raise PolicyError(f"expected {name} as a list, got {_shown(value)}")
            return frozenset(_check_choice(name, item, vocabulary.values(attribute.type)) for item in value)
        case Kind.TRUTH:
            return _check_truth(name, value)
        case Kind.COUNT:
            return _check_count(name, value, attribute.largest)
        case Kind.AUTHORIZATION:
            return _check_authorization(name, value, vocabulary)


def _check_authorization(name: str, value: object, vocabulary: Vocabulary) -> Authorization:
    if isinstance(value, Authorization):
        value = {
            "type": value.type,
            "rank": value.rank,
            "signed": value.signed,
            "expires_in_s": value.expires_in_s,
        }
    if not isinstance(value, Mapping):
        raise PolicyError(f"expected {name} as an object, got {_shown(value)}")
    for part in value:
        _check_name(part, ("type", "rank", "signed", "expires_in_s"), name)
    given = _check_choice(f"{name}.type", value.get("type", "none"), vocabulary.values("Authority"))
    return Authorization(
        given,
        _check_choice(f"{name}.rank", value.get("rank", "officer"), vocabulary.values("Rank")),
        _check_truth(f"{name}.signed", value.get("signed", False)),
        _check_count(
            f"{name}.expires_in_s",
            value.get("expires_in_s", 0 if given == "none" else DEFAULT_EXPIRY_S),
            LARGEST_COUNT,
        ),
    )


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    listed = f"one of {', '.join(choices)}" if len(choices) <= _MOST_LISTED else f"one of the schema's {len(choices)}"
    raise PolicyError(f"unknown value {_shown(value)} of {name}{_like(value, choices)}: expected {listed}")


def _check_truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"expected {name} to be true or false, got {_shown(value)}")
    return value


def _check_count(name: str, value: object, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise PolicyError(f"expected {name} to be a whole number from 0 to {largest}, got {_shown(value)}")
    return value


def _check_name(name: object, names: tuple[str, ...], where: str) -> None:
    if name not in names:
        raise PolicyError(f"unknown attribute {_shown(name)} in {where}{_like(name, names)}")


def _shown(value: object) -> str:
    """A value shortened for an error message; one that Python refuses to print (a very long integer) by its type."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return f"an unreadable {type(value).__name__}"


def _like(value: object, choices: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(value, choices, 1) if isinstance(value, str) else []
    return f" (did you mean {near[0]}?)" if near else ""


def plain(value: object) -> Json:
    """A fact's value in JSON form: an authorisation as an object, a set as a sorted list."""
    if isinstance(value, Authorization):
        return {"type": value.type, "rank": value.rank, "signed": value.signed, "expires_in_s": value.expires_in_s}
    if isinstance(value, set | frozenset | tuple):
        return sorted(value, key=str)
    return value  # type: ignore[return-value]


def visible_ranks(authorization: Authorization, vocabulary: Vocabulary) -> frozenset[str]:
    """The rank of an authorisation's giver and all ranks below it; empty where there is no authorisation."""
    if authorization.type == "none":
        return frozenset()
    ranks = vocabulary.values("Rank")
    return frozenset(ranks[: ranks.index(authorization.rank) + 1])
