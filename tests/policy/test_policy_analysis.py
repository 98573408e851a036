import dataclasses

import pytest

from agent.errors import PolicyError
from agent.policy import analysis
from agent.policy.analysis import dead_rules, witness
from agent.policy.engine import Engine
from agent.policy.packs import Pack, load_pack, shipped
from agent.policy.schema import ATTRIBUTES
from tests.support.policy import ALL_PACKS


def pack_of(effect: str, condition: str, action: str = 'action == Action::"Mute"') -> Pack:
    return load_pack(
        "our", f'@id("our.it") @source("x") {effect} (principal, {action}, resource) when {{ {condition} }};'
    )


@pytest.mark.parametrize("name", ALL_PACKS)
def test_no_shipped_rule_is_dead_and_cedar_confirms_each(name: str) -> None:
    pack = shipped(name)
    assert dead_rules(pack) == ()
    for rule in pack.own:
        request = witness(pack, rule)
        assert request is not None
        decision = Engine(pack).decide(request)
        assert rule.id in decision.rules
        assert decision.allow is rule.permit


@pytest.mark.parametrize(
    ("effect", "condition"),
    [
        ("permit", "false"),
        ("permit", "context.exigent && !context.exigent"),
        ("permit", 'context.reason_code == Reason::"school" && context.reason_code == Reason::"worship"'),
        ("permit", "context.inactivity_s < 0"),
        ("permit", "context.battery_pct > 100"),
        ("permit", "context.inactivity_s < 10 && context.inactivity_s > 9"),
        ("permit", "context.inactivity_s < context.preevent_s && context.preevent_s <= context.inactivity_s"),
        ("permit", 'context.person_class.isEmpty() && context.person_class.contains(Person::"minor")'),
        ("permit", "context.min_inactivity_s < 600"),
        ("permit", 'context.authorization.type == Authority::"none" && !context.authorization.ranks.isEmpty()'),
        ("permit", 'principal == Principal::"investigator"'),
        ("permit", 'context.enforcement_mode == EnforcementMode::"force"'),
        ("permit", "context.critical_incident"),
        ("permit", '!context.triggers_active.isEmpty() || context.enforcement_mode == EnforcementMode::"force"'),
        ("forbid", 'context.dock_state == Dock::"docked" && context.dock_state == Dock::"undocked"'),
        ("forbid", 'context.triggers_active.contains(Trigger::"impact") && context.triggers_active.isEmpty()'),
    ],
)
def test_a_rule_that_can_never_fire_is_found(effect: str, condition: str) -> None:
    assert dead_rules(pack_of(effect, condition)) == ("our.it",)


@pytest.mark.parametrize(
    ("effect", "condition"),
    [
        ("permit", "true"),
        ("permit", 'context.reason_code != Reason::"none" && context.reason_code != Reason::"admin"'),
        ("permit", "context.inactivity_s > 8 && context.inactivity_s < 10"),
        ("permit", "context.inactivity_s < context.preevent_s && context.preevent_s < context.battery_pct"),
        ("permit", "context.inactivity_s == 9007199254740991"),
        ("permit", 'context.person_class.containsAll([Person::"minor", Person::"privileged_counsel"])'),
        ("permit", '!context.person_class.isEmpty() && !context.person_class.contains(Person::"minor")'),
        (
            "permit",
            'context.authorization.ranks.contains(Rank::"lieutenant") && context.authorization.expires_in_s < 5',
        ),
        ("permit", "context.authorization.ranks.contains(context.min_rank)"),
        ("permit", 'context.enforcement_mode in [EnforcementMode::"force", EnforcementMode::"interrogation"]'),
        ("forbid", 'context.enforcement_mode == EnforcementMode::"force"'),
        ("forbid", 'principal == Principal::"network"'),
    ],
)
def test_a_rule_that_can_fire_is_found_with_a_request_that_cedar_confirms(effect: str, condition: str) -> None:
    pack = pack_of(effect, condition)
    request = witness(pack, pack.own[0])
    assert request is not None
    decision = Engine(pack).decide(request)
    assert "our.it" in decision.rules
    assert decision.allow is (effect == "permit")


def test_a_permit_that_another_rule_of_the_pack_always_forbids_is_dead() -> None:
    pack = load_pack(
        "our",
        """
        @id("our.talk") @source("x") permit (principal, action == Action::"Mute", resource)
        when { context.reason_code == Reason::"tactical_discussion" };
        @id("our.no-mute") @source("x") forbid (principal, action == Action::"Mute", resource)
        unless { context.reason_code == Reason::"attorney_client" };
        """,
    )
    assert dead_rules(pack) == ("our.talk",)


def test_a_parameter_that_silences_a_rule_is_seen() -> None:
    pack = shipped("us-ut")
    assert dead_rules(dataclasses.replace(pack, parameters={**pack.parameters, "min_inactivity_s": 1 << 53})) == (
        "us-ut.inactivity",
    )


def test_no_two_attributes_share_an_enumeration_as_the_search_for_dead_rules_takes_for_granted() -> None:
    kinds = [attribute.type for attribute in ATTRIBUTES.values() if attribute.type]
    assert len(set(kinds)) == len(kinds)


def test_a_search_that_would_take_too_long_refuses_the_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "MAX_STEPS", 3)
    with pytest.raises(PolicyError, match="3 steps"):
        dead_rules(shipped("us-nj"))
