"""Policy packs: annotated Cedar text, validated and prepared for evaluation.

The rules by which a pack is loaded, in order:
1. It is nested within bounds (`cedar.check_nesting`) and Cedar parses it; it has at least one policy and no templates.
2. Cedar's validator reports no error under the schema.
3. Annotations are `@id`, `@source` (both on every policy), `@obligations`, `@compels` and `@instead_of`, no others; ids
   are unique and not those of base rules; obligations and compelled actions are from the known vocabulary.
4. Conditions use only the subset of Cedar that `syntax` describes.
5. A permit for StopRecording permits PrivacyPause too, the weaker act; no permit reads the elapsed time.
6. `@instead_of("base.concluded")` means that the pack's own permit replaces that one; no forbid can be replaced.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from agent.encoding.digest import sha256
from agent.errors import PolicyError
from agent.policy import guards, syntax
from agent.policy.cedar import parse_policies, validation_errors
from agent.policy.obligations import OBLIGATIONS, PROMPT_STOP
from agent.policy.request import Value, check_parameters
from agent.policy.schema import ACTIONS, Vocabulary, standard

MAX_TEXT = 1 << 16
"""Maximum length of a pack's text in characters."""

BASE = "base"
BUILT_IN = "built-in"
"""The strictest pack, used by a device that has never received another."""

_FOLDER = Path(__file__).with_name("packs")
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)+")
_ANNOTATIONS = {"id", "source", "obligations", "compels", "instead_of"}
_REPLACEABLE = "base.concluded"


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy of a pack.

    Attributes:
        id: Its `@id`.
        permit: True for a permit, False for a forbid.
        principal: The only principal that it applies to; None for any.
        actions: The actions that it applies to.
        condition: When it fires, guards not included.
        source: The text and clause that it implements.
        obligations: Its obligations.
        compels: The text not only permits but compels the action, so the wearer is prompted.
        instead_of: The base permit that it replaces; empty for none.
    """

    id: str
    permit: bool
    principal: str | None
    actions: tuple[str, ...]
    condition: syntax.Expr
    source: str
    obligations: tuple[str, ...] = ()
    compels: bool = False
    instead_of: str = ""

    def about(self, principal: str, action: str) -> bool:
        """True if its scope covers a request of `principal` for `action`."""
        return action in self.actions and self.principal in (None, principal)

    def as_cedar(self, condition: syntax.Expr | None = None, *, permit: bool | None = None) -> dict[str, Any]:
        """The rule in Cedar's JSON policy format, optionally with another condition or effect."""
        everybody = {"op": "All"}
        asker = {"op": "==", "entity": {"type": "Principal", "id": self.principal}}
        return {
            "effect": "permit" if (self.permit if permit is None else permit) else "forbid",
            "principal": everybody if self.principal is None else asker,
            "action": {"op": "in", "entities": [{"type": "Action", "id": action} for action in self.actions]},
            "resource": everybody,
            "conditions": [
                {"kind": "when", "body": syntax.to_json(self.condition if condition is None else condition)}
            ],
        }

    @property
    def guarded(self) -> syntax.Expr:
        """The guarded condition that is passed to Cedar: see `guards`."""
        return guards.surely(self.condition) if self.permit else guards.possibly(self.condition)


@dataclass(frozen=True)
class Pack:
    """A loaded pack: its own rules and the base rules that apply with it.

    Attributes:
        name: The pack's name.
        text: Its Cedar text.
        own: Its own rules.
        base: The base rules that apply with it.
        parameters: The value of each parameter.
        vocabulary: The schema that it was validated against.
        base_text: The Cedar text of the base rules.
    """

    name: str
    text: str
    own: tuple[Rule, ...]
    base: tuple[Rule, ...]
    parameters: Mapping[str, Value]
    vocabulary: Vocabulary
    base_text: str

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules that apply, the pack's own first."""
        return self.own + self.base

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 over all inputs of its decisions: schema, base rules, text and parameters."""
        parts = [
            self.vocabulary.text,
            self.base_text,
            self.text,
            json.dumps(dict(self.parameters), sort_keys=True),
        ]
        return sha256(msgspec.json.encode(parts)).hex()


def load_pack(
    name: str,
    text: str,
    parameters: Mapping[str, object] | None = None,
    vocabulary: Vocabulary | None = None,
    base_text: str | None = None,
) -> Pack:
    """Loads a pack, by the rules at the top of this module.

    Args:
        name: The pack's name.
        text: Its Cedar text.
        parameters: Those that differ from `parameters.toml`.
        vocabulary: The schema; that of this package if None.
        base_text: The Cedar text of the base rules; that of this package if None.

    Raises:
        PolicyError: A rule is violated; the message names policy and place.
    """
    words = vocabulary or standard()
    base_text = base_rules_text() if base_text is None else base_text
    own = read_rules(name, text, words)
    base = _base_rules(words, base_text)
    ids = {rule.id for rule in base}
    for rule in own:
        if rule.id in ids or rule.id.startswith(f"{BASE}."):
            raise PolicyError(f"{name}: expected an @id of the pack's own, got {rule.id}, which is a base rule's name")
    replaced = {rule.instead_of for rule in own}
    known = dict(_shipped_parameters(name, words)) | check_parameters(parameters or {}, words)
    kept = tuple(rule for rule in base if rule.id not in replaced)
    return Pack(name, text, own, kept, MappingProxyType(known), words, base_text)


@cache
def shipped_names() -> tuple[str, ...]:
    """The names of the packs that ship with this package; without the base rules and the built-in pack."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.cedar") if path.stem not in (BASE, BUILT_IN)))


@cache
def shipped(name: str) -> Pack:
    """A shipped pack, or the pack `built-in`.

    Raises:
        PolicyError: There is none of that name.
    """
    if name not in (*shipped_names(), BUILT_IN):
        raise PolicyError(f"expected one of the packs {', '.join(shipped_names())}, got {name[:60]!r}")
    return load_pack(name, _shipped_text(name))


@cache
def _shipped_text(name: str) -> str:
    return (_FOLDER / f"{name}.cedar").read_text("utf-8")


@cache
def _parameter_file() -> dict[str, dict[str, Any]]:
    with (_FOLDER / "parameters.toml").open("rb") as file:
        return tomllib.load(file)


def _shipped_parameters(name: str, vocabulary: Vocabulary) -> dict[str, Value]:
    tables = _parameter_file()
    return check_parameters({**tables["defaults"], **tables.get(name, {})}, vocabulary)


def base_rules_text() -> str:
    """The Cedar text of this package's base rules."""
    return _shipped_text(BASE)


_base_cache: dict[tuple[str, str], tuple[Rule, ...]] = {}


def _base_rules(vocabulary: Vocabulary, text: str) -> tuple[Rule, ...]:
    key = (vocabulary.text, text)
    if key not in _base_cache:
        _base_cache[key] = read_rules(BASE, text, vocabulary)
    return _base_cache[key]


def read_rules(name: str, text: str, vocabulary: Vocabulary) -> tuple[Rule, ...]:
    """The rules of a Cedar text, checked by the rules at the top of this module that concern a pack by itself.

    Raises:
        PolicyError: A rule is violated; the message names policy and place.
    """
    if len(text) > MAX_TEXT:
        raise PolicyError(f"{name}: expected a pack of at most {MAX_TEXT} characters, got {len(text)}")
    try:
        document = parse_policies(text)
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from error
    policies: Mapping[str, Mapping[str, Any]] = document["staticPolicies"]
    if document["templates"] or document["templateLinks"]:
        raise PolicyError(f"{name}: expected policies, got a template: who and what belongs into conditions")
    if not policies:
        raise PolicyError(f"{name}: expected at least one policy, got an empty pack")
    _validate(name, text, vocabulary)
    rules = tuple(_rule(name, policies[key], vocabulary) for key in sorted(policies, key=_position))
    ids = [rule.id for rule in rules]
    if repeated := next((each for each in ids if ids.count(each) > 1), None):
        raise PolicyError(f"{name}: expected each @id once, got {repeated} twice")
    return rules


def _position(policy_id: str) -> int:
    return int(policy_id.removeprefix("policy"))


def _validate(name: str, text: str, vocabulary: Vocabulary) -> None:
    if found := validation_errors(text, vocabulary):
        raise PolicyError(f"{name}: expected a pack that is valid under the schema: {'; '.join(found[:5])}")


def _rule(pack: str, policy: Mapping[str, Any], vocabulary: Vocabulary) -> Rule:
    annotations: Mapping[str, str | None] = policy.get("annotations", {})
    rule_id = annotations.get("id") or ""
    if not _ID.fullmatch(rule_id):
        raise PolicyError(f"{pack}: expected an @id such as us-xx.victim-request on every policy, got {rule_id[:60]!r}")
    where = f"{pack}: {rule_id}"
    if unknown := sorted(set(annotations) - _ANNOTATIONS):
        raise PolicyError(f"{where}: unknown annotation @{unknown[0]}; there are @{', @'.join(sorted(_ANNOTATIONS))}")
    source = (annotations.get("source") or "").strip()
    if not source:
        raise PolicyError(f"{where}: expected a @source, the text that it follows with the clause")
    permit = policy["effect"] == "permit"
    rule = Rule(
        id=rule_id,
        permit=permit,
        principal=_principal(where, policy["principal"]),
        actions=_actions(where, policy["action"]),
        condition=_condition(where, policy["conditions"], vocabulary),
        source=source,
        obligations=_obligations(where, annotations) if "obligations" in annotations else (),
        compels=_compels(where, annotations, permit=permit),
        instead_of=_instead_of(where, annotations),
    )
    if policy["resource"] != {"op": "All"}:
        raise PolicyError(f"{where}: expected `resource` without a constraint, there is one camera")
    if permit and "StopRecording" in rule.actions and "PrivacyPause" not in rule.actions:
        raise PolicyError(f"{where}: expected a permit for StopRecording to permit PrivacyPause too, the weaker act")
    if permit and "elapsed_s" in syntax.reads(rule.condition):
        raise PolicyError(f"{where}: expected no permit that reads elapsed_s: elapsed time is never a permission")
    return rule


def _principal(where: str, scope: Mapping[str, Any]) -> str | None:
    match scope:
        case {"op": "All"}:
            return None
        case {"op": "==", "entity": {"type": "Principal", "id": str(principal)}}:
            return principal
    raise PolicyError(f"{where}: expected `principal` or `principal == Principal::…` in the scope")


def _actions(where: str, scope: Mapping[str, Any]) -> tuple[str, ...]:
    match scope:
        case {"op": "All"}:
            return ACTIONS
        case {"op": "==" | "in", "entity": {"id": str(action)}}:
            return (action,)
        case {"op": "in", "entities": [*entities]}:
            named = {entity["id"] for entity in entities}
            return tuple(action for action in ACTIONS if action in named)
    raise PolicyError(f"{where}: expected `action`, `action == …` or `action in […]` in the scope")


def _condition(where: str, clauses: list[Mapping[str, Any]], vocabulary: Vocabulary) -> syntax.Expr:
    whole: syntax.Expr = syntax.TRUE
    for clause in clauses:
        try:
            part = syntax.parse(clause["body"])
            syntax.check_condition(part, vocabulary)
        except PolicyError as error:
            raise PolicyError(f"{where}: {error}") from error
        if clause["kind"] == "unless":
            part = syntax.Op("!", (part,))
        whole = part if whole == syntax.TRUE else syntax.Op("&&", (whole, part))
        if syntax.depth(whole) > syntax.MAX_DEPTH:  # after each clause, so that no number of clauses makes it deep
            raise PolicyError(f"{where}: {syntax.TOO_DEEP}")
    return whole


def _obligations(where: str, annotations: Mapping[str, str | None]) -> tuple[str, ...]:
    listed = [each.strip() for each in (annotations["obligations"] or "").split(",")]
    for each in listed:
        if each not in OBLIGATIONS:
            raise PolicyError(f"{where}: unknown obligation {each!r:.60}; there are {', '.join(OBLIGATIONS)}")
    if len(set(listed)) != len(listed):
        raise PolicyError(f"{where}: expected each obligation once")
    return tuple(listed)


def _compels(where: str, annotations: Mapping[str, str | None], *, permit: bool) -> bool:
    if "compels" not in annotations:
        return False
    if annotations["compels"] != PROMPT_STOP or not permit:
        raise PolicyError(f'{where}: expected @compels("{PROMPT_STOP}") on a permit, and nothing else')
    return True


def _instead_of(where: str, annotations: Mapping[str, str | None]) -> str:
    if "instead_of" not in annotations:
        return ""
    if annotations["instead_of"] != _REPLACEABLE:
        raise PolicyError(f'{where}: expected @instead_of("{_REPLACEABLE}"): no other base rule can be replaced')
    return _REPLACEABLE
