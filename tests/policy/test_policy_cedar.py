import pytest

from agent.errors import PolicyError
from agent.policy import syntax
from agent.policy.cedar import MAX_BRACKETS, MAX_LEVELS, RuleSet, cedar_schema, check_nesting, parse_policies
from agent.policy.engine import Engine
from agent.policy.packs import base_rules_text, load_pack, shipped, shipped_names
from agent.policy.schema import standard


def pack_text(condition: str) -> str:
    return (
        f'@id("our.rule") @source("x") permit (principal, action == Action::"Mute", resource) when {{ {condition} }};'
    )


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 300 + "context.exigent" + ")" * 300,
        "[" * 300 + "]" * 300 + ".isEmpty()",
        "{a: " * 300 + "1" + "}" * 300 + " == {}",
        "context.exigent" + " || context.exigent" * 300,
        "1" + " + 1" * 300 + " == 301",
        "context" + ".exigent" * 300,
        "context" + '["exigent"]' * 20_000,
        "if true then true else " * 300 + "true",
        "context.exigent" + ".isEmpty()" * 300,
        "context has a" + ".a" * 300,
        "context.exigent } " + "when { context.exigent } " * 1000 + "when { context.exigent",
        "context.exigent // " + "\r" + "&& (context.exigent" * 300 + ")" * 300,
    ],
    ids=["parens", "sets", "records", "or", "plus", "member", "index", "if", "method", "has", "clauses", "comment"],
)
def test_conditions_nested_to_exhaust_a_parser_are_refused(condition: str) -> None:
    with pytest.raises(PolicyError, match=r"nested brackets|levels|at most|part of Cedar"):
        load_pack("our", pack_text(condition))


def test_types_nested_to_exhaust_the_schema_parser_are_refused() -> None:
    for opening, closing in (("{a: ", "}"), ("Set<", ">")):
        for levels in (300, 3000):
            with pytest.raises(PolicyError, match="nested brackets"):
                cedar_schema(f"type Deep = {opening * levels}Bool{closing * levels};")


def test_errors_of_cedar_are_policy_errors() -> None:
    with pytest.raises(PolicyError, match="expected a Cedar schema"):
        cedar_schema(standard().text + "\nnot cedar\n")
    with pytest.raises(PolicyError, match="expected Cedar policies"):
        parse_policies("not cedar")
    with pytest.raises(PolicyError, match="expected policies in Cedar's JSON format"):
        RuleSet({"our.rule": {"effect": "sometimes"}}, standard())


def test_strings_comments_and_closed_brackets_do_not_count_as_nesting() -> None:
    check_nesting('"' + "(" * 1000 + '\\" ((' + '"')
    check_nesting("// " + "(" * 1000 + ' "\n permit (principal, action, resource);')
    check_nesting("(a && b) ; " * 1000)
    check_nesting("[" + "a.b, " * 1000 + "]")
    check_nesting("(" * MAX_BRACKETS + ")" * MAX_BRACKETS)
    check_nesting("a" + " || a" * MAX_LEVELS)


@pytest.mark.parametrize(
    "text",
    [
        "(" * (MAX_BRACKETS + 1),
        "(}" * (MAX_BRACKETS + 1),
        '"a" ' + "(" * (MAX_BRACKETS + 1) + ' "b"',
        "// comment\n" + "(" * (MAX_BRACKETS + 1),
        "// comment\r" + "(" * (MAX_BRACKETS + 1),
        '"\\\\"' + "(" * (MAX_BRACKETS + 1) + '"',
        "a" + " || a" * (MAX_LEVELS + 1),
        "(a || " * 100 + "a" + " || a" * 60,
    ],
)
def test_brackets_hidden_from_a_scan_are_counted(text: str) -> None:
    with pytest.raises(PolicyError, match="nested brackets"):
        check_nesting(text)


def test_a_string_that_does_not_end_is_refused_with_its_line() -> None:
    with pytest.raises(PolicyError, match="line 2"):
        check_nesting('"a" \n "b')


@pytest.mark.parametrize("effect", ["permit", "forbid"])
@pytest.mark.parametrize(
    "leaf",
    [
        "context.exigent",
        "!(context.exigent)",
        "context.inactivity_s > context.seconds_since_last_trigger",
        'context.authorization.ranks.containsAny([Rank::"sergeant", Rank::"lieutenant"])',
    ],
)
def test_the_deepest_condition_that_a_pack_may_have_decides(leaf: str, effect: str) -> None:
    chain = next(n for n in range(syntax.MAX_DEPTH, 0, -1) if _depth(leaf, n) == syntax.MAX_DEPTH)
    text = pack_text(" && ".join([leaf] * chain)).replace("permit", effect)
    pack = load_pack("our", text)
    assert syntax.depth(pack.own[0].condition) == syntax.MAX_DEPTH
    request = {"principal": "wearer", "action": "Mute", "context": {}}
    for field in (False, True):
        assert Engine(pack).decide_worked(request, field=field).error == ""
    with pytest.raises(PolicyError, match=f"at most {syntax.MAX_DEPTH} levels"):
        load_pack("our", pack_text(" && ".join([leaf] * (chain + 1))).replace("permit", effect))


def _depth(leaf: str, count: int) -> int:
    """The levels of a chain of so many of these conditions."""
    [policy] = parse_policies(pack_text(leaf))["staticPolicies"].values()
    return syntax.depth(syntax.parse(policy["conditions"][0]["body"])) + count - 1


def test_every_shipped_text_is_far_from_the_bounds() -> None:
    for name in shipped_names():
        assert max(syntax.depth(rule.condition) for rule in shipped(name).rules) <= syntax.MAX_DEPTH // 2
    for text in (standard().text, base_rules_text(), *(shipped(name).text for name in shipped_names())):
        check_nesting("((((((((((" + text)
