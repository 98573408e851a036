"""Guarded rules: rules rewritten so that Cedar itself decides them with unknown attributes.

Every comparison of a rule gets a guard that asks whether the attributes it reads are in `context.unknown`. In a permit
the guard makes it false, in a forbid true, and the reverse under a negation:

    permit:  context.reason_spoken      becomes  !unknown.contains("reason_spoken") && context.reason_spoken
    forbid:  context.critical_incident  becomes   unknown.contains("critical_incident") || context.critical_incident

This is Kleene's strong three-valued logic: a permit fires if its condition is true, a forbid if it is not false. So a
permit that fires, and a forbid that does not, would do the same for any values of the unknown attributes: an Allow
holds in every situation that is consistent with the known attributes. The converse does not hold: a permit over
`a || !a` does not fire while `a` is unknown. The error is on the side of recording.

If nothing is unknown, a guarded rule is equivalent to the rule. So worked cases and the device use the same guarded
rules, and the scenarios test the rules that decide in the field. Cedar's partial evaluation would also do, but it is
experimental, and its authors warn against basing decisions on it.
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
