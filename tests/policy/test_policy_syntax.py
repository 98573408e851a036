import json
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy.cedar import RuleSet
from agent.policy.packs import shipped
from agent.policy.request import resolve
from agent.policy.schema import standard
from agent.policy.syntax import Expr, conjuncts, evaluate, parse, reads, to_json, to_text
from tests.support.policy import ALL_PACKS, asked, contexts

CONDITIONS = [rule.condition for name in ALL_PACKS for rule in shipped(name).rules]


def from_text(text: str) -> Expr:
    policies = json.loads(cedarpy.policies_to_json_str(f"permit (principal, action, resource) when {{ {text} }};"))
    return parse(policies["staticPolicies"]["policy0"]["conditions"][0]["body"])


@pytest.mark.parametrize("condition", CONDITIONS, ids=map(to_text, CONDITIONS))
def test_a_condition_is_the_same_after_a_round_through_json_and_through_text(condition: Expr) -> None:
    assert parse(to_json(condition)) == condition
    assert from_text(to_text(condition)) == condition


@pytest.mark.parametrize(
    "text",
    [
        "!(context.exigent || context.adversarial) && (context.left_scene || !context.on_duty)",
        "(context.exigent && context.adversarial) == context.left_scene",
        "(context.inactivity_s < 5) == (context.elapsed_s >= context.min_inactivity_s)",
        '[Person::"minor"].containsAll(context.person_class)',
        '!context.attestations.containsAny([Attestation::"no_enforcement_expected"])',
        "!!context.exigent",
        "context.exigent && (context.adversarial && context.left_scene)",
    ],
)
def test_brackets_are_written_where_they_matter(text: str) -> None:
    assert to_text(from_text(text)) == text


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CONDITIONS), st.sampled_from(standard().values("Principal")), contexts(complete=True))
def test_our_evaluation_agrees_with_cedars(condition: Expr, principal: str, context: dict[str, Any]) -> None:
    policy = {
        "effect": "permit",
        "principal": {"op": "All"},
        "action": {"op": "All"},
        "resource": {"op": "All"},
        "conditions": [{"kind": "when", "body": to_json(condition)}],
    }
    resolved = resolve(asked(principal, "Mute", context, field=False), shipped("us-ut").parameters, standard())
    verdict = RuleSet({"it": policy}, standard()).verdict(resolved)
    assert not verdict.errors
    assert evaluate(condition, principal, resolved.values, standard()) is verdict.allow


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CONDITIONS), contexts(), contexts(complete=True))
def test_a_value_found_with_others_missing_holds_whatever_they_are(
    condition: Expr, known: dict[str, Any], world: dict[str, Any]
) -> None:
    parameters = dict(shipped("us-ut").parameters)
    partly = evaluate(condition, "wearer", parameters | known, standard())
    if partly is not None:
        assert evaluate(condition, "wearer", parameters | world | known, standard()) is partly


def test_conjuncts_and_reads_of_a_condition() -> None:
    condition = from_text(
        "context.exigent && !(context.adversarial || context.left_scene) && !!context.on_duty && true"
    )
    assert [to_text(each) for each in conjuncts(condition)] == [
        "context.exigent",
        "!context.adversarial",
        "!context.left_scene",
        "context.on_duty",
    ]
    assert reads(condition) == {"exigent", "adversarial", "left_scene", "on_duty"}
