"""The interface to Cedar: policies parsed once, contexts in Cedar's JSON, verdicts that never allow on an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cedarpy
import msgspec

from agent.policy.request import Authorization, Json, Resolved, Value, visible_ranks
from agent.policy.schema import ATTRIBUTES, Vocabulary

_NOBODY = cedarpy.Entities.from_json_str("[]")
"""Empty: enumerated entities have neither attributes nor parents."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Cedar's answer to a request.

    Attributes:
        allow: Cedar allows, and reported no error.
        rules: The ids of the determining rules: all permits that fired, or all forbids.
        errors: Errors of the request or the evaluation; Cedar skips a policy that errs, even a forbid.
    """

    allow: bool
    rules: frozenset[str]
    errors: tuple[str, ...]


@cache
def cedar_schema(text: str) -> cedarpy.Schema:
    """The parsed schema of a vocabulary's text."""
    return cedarpy.Schema.from_str(text)


class RuleSet:
    """Policies in the form that Cedar evaluates, parsed once.

    Args:
        policies: In Cedar's JSON format, by id.
        vocabulary: Its schema is the one that every request is checked against.
    """

    def __init__(self, policies: Mapping[str, object], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._schema = cedar_schema(vocabulary.text)
        document = {"staticPolicies": policies, "templates": {}, "templateLinks": []}
        self._policies = cedarpy.PolicySet.from_json_str(msgspec.json.encode(document).decode())

    def verdict(self, resolved: Resolved) -> Verdict:
        """Cedar's verdict on a request."""
        request = {
            "principal": f'Principal::"{resolved.principal}"',
            "action": f'Action::"{resolved.action}"',
            "resource": 'Camera::"this"',
            "context": _context(resolved, self._vocabulary),
        }
        result = cedarpy.is_authorized(request, self._policies, _NOBODY, self._schema)
        errors = tuple(map(str, result.diagnostics.errors))
        return Verdict(result.allowed and not errors, frozenset(result.diagnostics.reasons), errors)


def _context(resolved: Resolved, vocabulary: Vocabulary) -> str:
    """The context in Cedar's JSON: exactly the attributes of the schema, and the names of the unknown ones."""
    unknown = sorted(resolved.unknown & vocabulary.attributes)
    context: dict[str, Any] = {"unknown": [{"type": "Attribute", "id": name} for name in unknown]}
    for name in resolved.values.keys() & vocabulary.attributes:
        value = resolved.values[name]
        context[name] = _cedar_value(ATTRIBUTES[name].type, value, vocabulary)
    return msgspec.json.encode(context).decode()


def _cedar_value(kind: str, value: Value, vocabulary: Vocabulary) -> Json:
    match value:
        case Authorization():
            ranks = visible_ranks(value, vocabulary)
            return {
                "type": {"type": "Authority", "id": value.type},
                "ranks": [{"type": "Rank", "id": rank} for rank in sorted(ranks)],
                "signed": value.signed,
                "expires_in_s": value.expires_in_s,
            }
        case frozenset():
            return [{"type": kind, "id": item} for item in sorted(value)]
        case str():
            return {"type": kind, "id": value}
        case _:
            return value
