"""The subset of Cedar that packs may use, as an expression tree: parsed from Cedar's JSON, type-checked, evaluated.

Packs use `==`, `!=`, `in`, `<`, `<=`, `>`, `>=`, `contains`, `containsAll`, `containsAny`,
`isEmpty`, `&&`, `||` and `!` over the context's attributes and the principal. Everything else is refused: arithmetic
can overflow, and Cedar skips a policy that errs, even a forbid; `has` hides a misspelt attribute from
Cedar's validator (measured with cedarpy 4.12), and so does comparing entities of two types, which is never true.

Cedar makes the decisions. The evaluation here (Kleene's strong three-valued logic) only serves to search for requests
that fire a rule; Cedar confirms what it finds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import PolicyError
from agent.policy.request import Authorization, Value, visible_ranks
from agent.policy.schema import ATTRIBUTES, AUTHORIZATION_FIELDS, Attribute, Kind, Vocabulary

MAX_DEPTH: Final = 50
"""Levels of a condition. Cedar's JSON reader takes 128 levels of JSON, of which each level here needs two, and the
guards (`guards`) and the rule around it the rest."""
TOO_DEEP: Final = (
    f"expected a condition of at most {MAX_DEPTH} levels, got more; write a simpler condition, or several policies"
)


@dataclass(frozen=True, slots=True)
class Read:
    """`context.name`, or `context.name.part` of an authorisation."""

    name: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Asker:
    """`principal`."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A truth value, a number, or an entity of the enumeration `type`."""

    value: bool | int | str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Elements:
    """`[a, b, …]`."""

    items: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Op:
    """An operator, by Cedar's own name, and its operands."""

    name: str
    args: tuple["Expr", ...]


Expr = Read | Asker | Literal | Elements | Op

TRUE = Literal(value=True)
_CONNECTIVES = ("&&", "||", "!")
_ORDER: Mapping[str, Callable[[int, int], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_SETS: Mapping[str, Callable[[frozenset[Any], frozenset[Any]], bool]] = {
    "containsAll": lambda a, b: b <= a,
    "containsAny": lambda a, b: bool(a & b),
}
_BINARY = ("==", "!=", "in", "contains", *_ORDER, *_SETS)


def depth(expr: Expr) -> int:
    """The number of levels of an expression; 1 if it has no parts."""
    match expr:
        case Elements(parts) | Op(_, parts):
            return 1 + max(map(depth, parts), default=0)
        case _:
            return 1


def parse(body: Mapping[str, Any], level: int = 0) -> Expr:
    """An expression from Cedar's JSON policy format.

    Raises:
        PolicyError: It uses a construct that packs may not use; the message names it.
    """
    if level >= MAX_DEPTH:
        raise PolicyError(TOO_DEEP)
    if len(body) != 1:
        raise PolicyError(f"expected one operator in each place of a condition, got {sorted(body)!r:.80}")
    [(name, operand)] = body.items()
    match name, operand:
        case "Value", {"__entity": {"type": str(kind), "id": str(value)}}:
            return Literal(value, kind)
        case "Value", bool() | int():
            return Literal(operand)
        case "Set", list():
            return Elements(tuple(parse(item, level + 1) for item in operand))
        case "Var", "principal":
            return Asker()
        case ".", {"left": {"Var": "context"}, "attr": str(attribute)}:
            return Read(attribute)
        case ".", {"left": {".": {"left": {"Var": "context"}, "attr": str(attribute)}}, "attr": str(part)}:
            return Read(attribute, part)
        case "&&" | "||", {"left": left, "right": right}:
            return Op(name, (parse(left, level + 1), parse(right, level + 1)))
        case "!" | "isEmpty", {"arg": argument}:
            return Op(name, (parse(argument, level + 1),))
        case _, {"left": left, "right": right} if name in _BINARY:
            return Op(name, (parse(left, level + 1), parse(right, level + 1)))
    raise PolicyError(f"expected a condition in the part of Cedar that packs may use, got {_shown(name, operand)}")


def _shown(name: str, operand: object) -> str:
    match name, operand:
        case "Value", str():
            return f"the text {operand!r:.60}: values are enumerated entities"
        case "Var", _:
            return f"{operand!r:.60}: conditions read the context and the principal"
        case ".", {"attr": attribute}:
            return f"a read of {attribute!r:.60} from something that is not the context"
        case "has", {"attr": attribute}:
            return f"has {attribute!r:.60}: every attribute is always there"
        case _:
            return repr(name)[:60]


def to_json(expr: Expr) -> dict[str, Any]:
    """The expression in Cedar's JSON policy format."""
    match expr:
        case Read(name, part):
            read = {".": {"left": {"Var": "context"}, "attr": name}}
            return {".": {"left": read, "attr": part}} if part else read
        case Asker():
            return {"Var": "principal"}
        case Literal(str() as value, kind):
            return {"Value": {"__entity": {"type": kind, "id": value}}}
        case Literal(value):
            return {"Value": value}
        case Elements(items):
            return {"Set": [to_json(item) for item in items]}
        case Op("!" | "isEmpty" as name, (argument,)):
            return {name: {"arg": to_json(argument)}}
        case Op(name, (left, right)):
            return {name: {"left": to_json(left), "right": to_json(right)}}
    raise AssertionError(expr)


def check_condition(expr: Expr, vocabulary: Vocabulary) -> None:
    """Checks that an expression is Boolean and compares only values of the same type.

    Raises:
        PolicyError: It is not; the message says where.
    """
    if _type(expr, vocabulary) != "Bool":
        raise PolicyError(f"expected a condition that is true or false, got {to_text(expr)}")


def _attribute_type(attribute: Attribute, part: str) -> str:
    if attribute.kind is Kind.AUTHORIZATION:
        if part not in AUTHORIZATION_FIELDS:
            known = ", ".join(AUTHORIZATION_FIELDS)
            raise PolicyError(f"expected one of {known} of {attribute.name}, got {part or 'the whole'!r:.60}")
        kind, enumeration = AUTHORIZATION_FIELDS[part]
    elif part:
        raise PolicyError(f"expected {attribute.name} to have no parts, got {part!r:.60}")
    else:
        kind, enumeration = attribute.kind, attribute.type
    names = {Kind.TRUTH: "Bool", Kind.COUNT: "Long", Kind.ONE: enumeration, Kind.SET: f"Set<{enumeration}>"}
    return names[kind]


def _type(expr: Expr, vocabulary: Vocabulary) -> str:
    match expr:
        case Read(name, part):
            if name not in ATTRIBUTES:
                raise PolicyError(f"unknown attribute {name!r:.60} in a condition")
            return _attribute_type(ATTRIBUTES[name], part)
        case Asker():
            return "Principal"
        case Literal(bool()):
            return "Bool"
        case Literal(int()):
            return "Long"
        case Literal(value, kind):
            if value not in vocabulary.enumerations.get(kind, ()):
                raise PolicyError(f'unknown value {kind}::"{value}" in a condition')
            return kind
        case Elements(items):
            kinds = {_type(item, vocabulary) for item in items}
            if len(kinds) != 1:
                raise PolicyError(f"expected a set of one kind of values, got {to_text(expr)}")
            return f"Set<{kinds.pop()}>"
        case Op(name, args):
            kinds_of = [_type(arg, vocabulary) for arg in args]
            if _fits(name, kinds_of):
                return "Bool"
            raise PolicyError(f"expected operands of fitting types in {to_text(expr)}, got {' and '.join(kinds_of)}")


def _fits(name: str, kinds: list[str]) -> bool:
    match name:
        case "&&" | "||" | "!":
            return set(kinds) == {"Bool"}
        case "==" | "!=":
            return kinds[0] == kinds[1]
        case "in":
            # Without a hierarchy of entities `in` is equality, or membership of a set.
            return kinds[0] not in ("Bool", "Long") and kinds[1] in (kinds[0], f"Set<{kinds[0]}>")
        case "contains":
            return kinds[0] == f"Set<{kinds[1]}>"
        case "isEmpty":
            return kinds[0].startswith("Set<")
        case "containsAll" | "containsAny":
            return kinds[0] == kinds[1] and kinds[0].startswith("Set<")
        case _:
            return kinds == ["Long", "Long"]


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all its parts."""
    yield expr
    match expr:
        case Elements(parts) | Op(_, parts):
            for part in parts:
                yield from walk(part)


def reads(expr: Expr) -> frozenset[str]:
    """The names of the attributes that an expression reads."""
    return frozenset(part.name for part in walk(expr) if isinstance(part, Read))


def conjuncts(expr: Expr) -> tuple[Expr, ...]:
    """The conditions that must all hold for `expr` to hold."""
    match expr:
        case Op("&&", args):
            return tuple(each for arg in args for each in conjuncts(arg))
        case Op("!", (Op("||", args),)):
            return tuple(each for arg in args for each in conjuncts(Op("!", (arg,))))
        case Op("!", (Op("!", (arg,)),)):
            return conjuncts(arg)
        case Literal(True):
            return ()
        case _:
            return (expr,)


def to_text(expr: Expr) -> str:
    """The expression as Cedar writes it, on one line."""
    return _text(expr, 0)


_STRENGTH: Final[Mapping[str, int]] = {"||": 1, "&&": 2, "!": 4}
_COMPARES: Final = 3
"""Operator precedence; an operator inside one of higher precedence needs brackets."""


def _text(expr: Expr, around: int) -> str:
    match expr:
        case Read(name, part):
            return f"context.{name}.{part}" if part else f"context.{name}"
        case Asker():
            return "principal"
        case Literal(bool() as value):
            return str(value).lower()
        case Literal(int() as value):
            return str(value)
        case Literal(value, kind):
            return f'{kind}::"{value}"'
        case Elements(items):
            return "[" + ", ".join(map(to_text, items)) + "]"
        case Op("isEmpty", (arg,)):
            return f"{_text(arg, _STRENGTH['!'])}.isEmpty()"
        case Op("contains" | "containsAll" | "containsAny" as name, (left, right)):
            return f"{_text(left, _STRENGTH['!'])}.{name}({to_text(right)})"
    strength = _STRENGTH.get(expr.name, _COMPARES)
    if expr.name == "!":
        text = f"!{_text(expr.args[0], strength)}"
    else:
        left, right = expr.args
        # Comparisons do not chain, so both sides of one need brackets around another.
        inside = strength + (strength == _COMPARES)
        text = f"{_text(left, inside)} {expr.name} {_text(right, strength + 1)}"
    return f"({text})" if strength < around else text


Known = Mapping[str, Value]
Result = bool | int | str | frozenset[Any] | None


def evaluate(expr: Expr, principal: str, known: Known, vocabulary: Vocabulary) -> Result:
    """The value of a checked expression; None if it depends on attributes that are not in `known`."""
    match expr:
        case Read(name, part):
            return _read(known.get(name), part, vocabulary)
        case Asker():
            return principal
        case Literal(value):
            return value
        case Elements(items):
            values = [evaluate(item, principal, known, vocabulary) for item in items]
            return None if None in values else frozenset(values)
        case Op(name, args) if name in _CONNECTIVES:
            return _connect(name, args, lambda arg: evaluate(arg, principal, known, vocabulary))
        case Op(name, args):
            operands = [evaluate(arg, principal, known, vocabulary) for arg in args]
            return None if None in operands else _apply(name, operands)


def _read(value: Value | None, part: str, vocabulary: Vocabulary) -> Result:
    if not isinstance(value, Authorization):
        return value
    if part == "ranks":
        return visible_ranks(value, vocabulary)
    result: Result = getattr(value, part)
    return result


def _connect(name: str, args: tuple[Expr, ...], value_of: Callable[[Expr], Result]) -> Result:
    if name == "!":
        value = value_of(args[0])
        return None if value is None else not value
    decisive = name == "||"
    values = [value_of(arg) for arg in args]
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _apply(name: str, operands: list[Any]) -> bool:
    if name == "isEmpty":
        return not operands[0]
    left, right = operands
    if name == "contains":
        return right in left
    if name == "in":
        return bool(left in right) if isinstance(right, frozenset) else bool(left == right)
    if name in _ORDER:
        return _ORDER[name](left, right)
    if name in _SETS:
        return _SETS[name](left, right)
    return bool(left == right) is (name == "==")
