"""Silence is not a fact: rules rewritten so that Cedar itself decides them with attributes unknown.

Every comparison of a rule gets a guard that asks whether the attributes it reads are in `context.unknown`. In a permit
the guard makes it false, in a forbid true, and the other way round under a negation:

    permit:  context.reason_spoken      becomes  !unknown.contains("reason_spoken") && context.reason_spoken
    forbid:  context.critical_incident  becomes   unknown.contains("critical_incident") || context.critical_incident

This is Kleene's strong three-valued logic, a permit firing where its condition is true and a forbid where it is not
false. So a permit that fires would fire whatever the unknown attributes are, and a forbid that does not fire would not,
whatever they are: an Allow holds in every world that fits what is known. The converse is not claimed: a permit over
`a || !a` does not fire while `a` is unknown. It errs towards recording.

With nothing unknown the guarded rule is the rule. The same guarded rules therefore serve worked cases and the device,
and what the scenarios test is what decides in the field. Cedar's partial evaluation would do too; it is experimental
and its makers warn against deciding by it.
"""

from agent.policy.schema import PARAMETERS
from agent.policy.syntax import Elements, Expr, Literal, Op, Read, reads

_UNKNOWN = Read("unknown")


def surely(expr: Expr) -> Expr:
    """An expression that holds only where `expr` does, whatever the unknown attributes are: for permits."""
    return _guarded(expr, wanted=True)


def possibly(expr: Expr) -> Expr:
    """An expression that fails only where `expr` does, whatever the unknown attributes are: for forbids."""
    return _guarded(expr, wanted=False)


def _guarded(expr: Expr, *, wanted: bool) -> Expr:
    match expr:
        case Op("&&" | "||" as name, (left, right)):
            return Op(name, (_guarded(left, wanted=wanted), _guarded(right, wanted=wanted)))
        case Op("!", (arg,)):
            return Op("!", (_guarded(arg, wanted=not wanted),))
    names = sorted(reads(expr) - set(PARAMETERS))
    if not names:
        return expr
    entities = tuple(Literal(name, "Attribute") for name in names)
    is_unknown = (
        Op("contains", (_UNKNOWN, entities[0]))
        if len(entities) == 1
        else Op("containsAny", (_UNKNOWN, Elements(entities)))
    )
    return Op("&&", (Op("!", (is_unknown,)), expr)) if wanted else Op("||", (is_unknown, expr))
