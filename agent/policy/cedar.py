"""The interface to Cedar: policies parsed once, contexts in Cedar's JSON, verdicts that never allow on an error.

All calls of cedarpy are here, because its input may come from a bundle that somebody made to do harm. Cedar's parser is
recursive and ends the process where a text is nested too deeply: 690 brackets do it. So nesting is bounded before a
text reaches it (`check_nesting`), and whatever error cedarpy raises becomes a `PolicyError`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import cedarpy
import msgspec

from agent.errors import PolicyError
from agent.policy.request import Authorization, Json, Resolved, Value, visible_ranks
from agent.policy.schema import ATTRIBUTES, Vocabulary

MAX_BRACKETS = 100
"""Maximum nesting of brackets in a Cedar text."""
MAX_LEVELS = 250
"""Maximum nesting of brackets and chained operators together. A chain such as `a || b || c` nests once an operator,
and Cedar's JSON twice as often; Python reads up to 1,000 levels of JSON."""
_TOKEN = re.compile(
    r"""
    "(?:\\[^\r\n]|[^"\\])*" | //[^\r\n]*
    | (?P<unterminated>") | (?P<opening>[(\[{]) | (?P<closing>[)\]}]) | (?P<separator>[,;])
    | (?P<operator>\|\| | && | [=!<>]= | [!<>.+*-] | \b(?:if|then|else)\b)
    """,
    re.VERBOSE,
)
"""What matters for nesting, by the lexical rules of Cedar's policies and schemas (one pair of rules: strings with
backslash escapes, comments to the end of the line). Strings and comments match the unnamed alternatives."""
_LONGEST_REASON = 500
"""Characters of an error of Cedar's that are passed on; some repeat the whole input."""
_PAIRS = {"(": ")", "[": "]", "{": "}"}

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


def check_nesting(text: str) -> None:
    """Checks that Cedar can parse a text of policies or a schema without exhausting its stack.

    Errs on the side of refusing: a closing bracket of another kind closes nothing, and comparisons and member access
    count as chained although they nest less.

    Raises:
        PolicyError: It is nested too deeply, or a string in it does not end.
    """
    open_groups = [""]
    chained = [0]
    levels = 0
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "unterminated":
                raise PolicyError(
                    f"expected an end of the string that begins {_place(text, token)}; add the quotation mark"
                )
            case "opening":
                open_groups.append(_PAIRS[token[0]])
                chained.append(0)
                levels += 1
            case "closing" if token[0] == open_groups[-1]:
                open_groups.pop()
                levels -= 1 + chained.pop()
            case "separator":
                levels -= chained[-1]
                chained[-1] = 0
            case "operator":
                chained[-1] += 1
                levels += 1
        if len(open_groups) - 1 > MAX_BRACKETS or levels > MAX_LEVELS:
            raise PolicyError(
                f"expected at most {MAX_BRACKETS} nested brackets, and {MAX_LEVELS} with chained operators, got more "
                f"{_place(text, token)}; write simpler conditions, or several policies"
            )


def _place(text: str, token: re.Match[str]) -> str:
    return f"in line {text.count(chr(10), 0, token.start()) + 1}"


@contextmanager
def _cedar_errors(expected: str) -> Iterator[None]:
    """Turns whatever cedarpy, or reading its JSON, raises into a PolicyError: its documentation lists no errors."""
    try:
        yield
    except Exception as error:
        raise PolicyError(f"expected {expected}: {str(error)[:_LONGEST_REASON] or type(error).__name__}") from error


@cache
def cedar_schema(text: str) -> cedarpy.Schema:
    """The parsed schema of a vocabulary's text.

    Raises:
        PolicyError: It is not a Cedar schema, or is nested too deeply.
    """
    check_nesting(text)
    with _cedar_errors("a Cedar schema"):
        return cedarpy.Schema.from_str(text)


def parse_policies(text: str) -> Mapping[str, Any]:
    """A Cedar text in Cedar's JSON format of policy sets.

    Raises:
        PolicyError: It is not Cedar, or is nested too deeply.
    """
    check_nesting(text)
    with _cedar_errors("Cedar policies"):
        document: Mapping[str, Any] = json.loads(cedarpy.policies_to_json_str(text))
        return document


def validation_errors(text: str, vocabulary: Vocabulary) -> list[str]:
    """What Cedar's validator finds wrong with policies under a vocabulary's schema, each with the policy's id.

    Raises:
        PolicyError: They can't be validated.
    """
    check_nesting(text)
    schema = cedar_schema(vocabulary.text)
    with _cedar_errors("Cedar policies that can be validated"):
        result = cedarpy.validate_policies(text, schema)
        ids = result.id_annotations_by_policy_id
        return [f"{ids.get(each.policy_id, each.policy_id)}: {each.error}" for each in result.errors] or (
            [] if result.validation_passed else ["Cedar's validator gives no reason"]
        )


class RuleSet:
    """Policies in the form that Cedar evaluates, parsed once.

    Args:
        policies: In Cedar's JSON format, by id.
        vocabulary: Its schema is the one that every request is checked against.

    Raises:
        PolicyError: Cedar refuses the policies or the schema.
    """

    def __init__(self, policies: Mapping[str, object], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._schema = cedar_schema(vocabulary.text)
        document = {"staticPolicies": policies, "templates": {}, "templateLinks": []}
        with _cedar_errors("policies in Cedar's JSON format"):
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
