import pytest

from agent.errors import PolicyError
from agent.policy.obligations import OBLIGATIONS
from agent.policy.packs import load_pack, shipped, shipped_names
from agent.policy.schema import standard
from tests.support.policy import ALL_PACKS

GOOD = """
@id("our.talk") @source("our policy 1.2") @obligations("log_reason_code")
permit (principal, action in [Action::"StopRecording", Action::"PrivacyPause"], resource)
when { context.reason_code == Reason::"tactical_discussion" && !context.civilians_present };
"""


def condition(text: str, scope: str = 'principal, action == Action::"Mute", resource') -> str:
    return f'@id("our.rule") @source("x") permit ({scope}) when {{ {text} }};'


def test_all_23_packs_ship() -> None:
    assert len(shipped_names()) == 23


@pytest.mark.parametrize("name", ALL_PACKS)
def test_a_shipped_pack_names_its_text_its_date_and_what_was_not_seen(name: str) -> None:
    pack = shipped(name)
    head = pack.text.split("\n\n@id", 1)[0]
    for word in ("// Text:", "// Date:", "// Not seen"):
        assert word in head
    assert all(rule.id.startswith(f"{name}.") for rule in pack.own)
    assert all(rule.source for rule in pack.rules)


def test_an_agency_may_bring_its_own_pack_with_its_own_parameters() -> None:
    pack = load_pack("our", GOOD, {"min_preevent_s": 60})
    assert [rule.id for rule in pack.own] == ["our.talk"]
    assert pack.parameters["min_preevent_s"] == 60
    assert pack.parameters["min_inactivity_s"] == 600
    assert any(rule.id == "base.concluded" for rule in pack.base)
    assert pack.digest != load_pack("our", GOOD).digest


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "empty pack"),
        ("// only a comment", "empty pack"),
        ("permit (principal, action", "Cedar policies"),
        (condition('context.reason_cod == Reason::"school"'), "reason_cod"),
        (condition('context.reason_code == Reason::"scool"'), "scool"),
        (condition('context.reason_code == "school"'), "valid under the schema"),
        (condition("context has reason_cod"), "reason_cod"),
        (condition('context.reason_code == Place::"school"'), "fitting types"),
        (condition('[Place::"school"].contains(context.reason_code)'), "our"),
        (condition("context.elapsed_s + 1 > 600"), "'\\+'"),
        (condition("context.reason_code is Place"), "'is'"),
        (condition("if context.exigent then false else true"), "'if-then-else'"),
        (condition('context.unknown.contains(Attribute::"exigent")'), "unknown attribute 'unknown'"),
        (condition("context.authorization.rank"), "rank"),
        (condition('context["authorization"] == context.authorization'), "of authorization"),
        (condition('resource == Camera::"this"'), "'resource'"),
        (condition("context.battery_pct"), "our"),
        (condition("true", 'principal, action == Action::"Mute", resource == Camera::"this"'), "resource"),
        (condition("true", 'principal is Principal, action == Action::"Mute", resource'), "scope"),
        (condition("true", 'principal == ?principal, action == Action::"Mute", resource'), "template"),
        (condition("true", 'principal, action == Action::"Unmute", resource'), "Unmute"),
        (condition("context.elapsed_s > 600"), "elapsed"),
        (condition("true", 'principal, action == Action::"StopRecording", resource'), "PrivacyPause"),
        ('@source("x") permit (principal, action, resource);', "@id"),
        ('@id("X Y") @source("x") permit (principal, action, resource);', "@id"),
        ('@id("our.rule") permit (principal, action, resource);', "@source"),
        ('@id("our.rule") @source("x") @oblige("y") permit (principal, action, resource);', "@oblige"),
        ('@id("our.rule") @source("x") @obligations("be_nice") permit (principal, action, resource);', "be_nice"),
        ('@id("our.rule") @source("x") @obligations("") permit (principal, action, resource);', "obligation ''"),
        (
            '@id("o.r") @source("x") @obligations("announce_stop,announce_stop") permit (principal, action, resource);',
            "once",
        ),
        ('@id("our.rule") @source("x") @compels("stop") permit (principal, action, resource);', "prompt_stop"),
        ('@id("our.rule") @source("x") @compels("prompt_stop") forbid (principal, action, resource);', "on a permit"),
        ('@id("our.rule") @source("x") @instead_of("base.force") permit (principal, action, resource);', "no other"),
        ('@id("base.mine") @source("x") permit (principal, action, resource);', "base rule"),
        (GOOD + GOOD, "twice"),
        (GOOD + " " * (1 << 16), "at most"),
    ],
)
def test_a_pack_that_is_not_what_it_must_be_is_refused_and_the_error_names_it(text: str, names: str) -> None:
    with pytest.raises(PolicyError, match=names):
        load_pack("our", text)


def test_deeply_nested_conditions_are_refused() -> None:
    with pytest.raises(PolicyError, match="levels"):
        load_pack("our", condition("!" * 3 + "(" + " && ".join(["context.exigent"] * 60) + ")"))


def test_an_unknown_pack_is_refused_and_the_error_names_those_there_are() -> None:
    with pytest.raises(PolicyError, match="us-il"):
        shipped("us-xx")


@pytest.mark.parametrize("name", ["min_preevents_s", "reason_code"])
def test_an_unknown_parameter_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match=name):
        load_pack("our", GOOD, {name: 1})


def test_an_agency_may_name_its_own_triggers() -> None:
    vocabulary = standard().with_triggers(["k9_door", "impact"])
    assert vocabulary.values("Trigger") == ("lights_siren", "weapon_drawn", "holster", "impact", "k9_door")
    text = condition('context.triggers_active.contains(Trigger::"k9_door")')
    assert load_pack("our", text, vocabulary=vocabulary).own
    with pytest.raises(PolicyError, match="k9_door"):
        load_pack("our", text)
    assert standard().with_triggers(["impact"]) is standard()


@pytest.mark.parametrize("name", ['x"]; entity Evil enum ["y', "", "Siren", "a" * 33])
def test_a_trigger_name_that_would_alter_the_schema_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="trigger"):
        standard().with_triggers([name])


def test_every_obligation_word_is_known_once() -> None:
    assert len(set(OBLIGATIONS)) == len(OBLIGATIONS) == 28
