"""Silence is not a fact: what holds with attributes unknown holds in every world that fits what is known."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy.analysis import witness
from agent.policy.cedar import RuleSet
from agent.policy.engine import UNKNOWN_SITUATION, Engine
from agent.policy.packs import load_pack, shipped
from agent.policy.prose import describe
from agent.policy.request import Fact, Request, check_value, resolve
from agent.policy.schema import ATTRIBUTES, FACTS, Kind, Provenance, standard
from agent.policy.syntax import reads, to_text
from tests.support.policy import ALL_PACKS, ENDING, actions, asked, contexts, engine, own_cases, principals, values

QUIET: dict[str, Any] = {"triggers_active": frozenset(), "trigger_line_raised": False, "critical_incident": False}


def field(context: dict[str, Any], action: str = "StopRecording", pack: str = "us-il") -> Any:
    return engine(pack).decide(asked("wearer", action, {**QUIET, **context}, field=True))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ALL_PACKS), principals, actions, contexts(), contexts(complete=True))
def test_what_is_allowed_with_attributes_unknown_is_allowed_whatever_they_are(
    pack: str, principal: str, action: str, known: dict[str, Any], world: dict[str, Any]
) -> None:
    decided = engine(pack).decide(asked(principal, action, known, field=True))
    if decided.allow:
        completed = engine(pack).decide(asked(principal, action, {**world, **known}, field=True))
        assert completed.allow
        assert set(decided.rules) <= set(completed.rules)


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_every_allowed_case_stays_allowed_whatever_single_attribute_its_rules_do_not_need_becomes_unknown(
    pack: str,
) -> None:
    # The random test above seldom hits an Allow; here each starts from one, the first for each rule.
    first = {case.rules: case for case in reversed(own_cases(pack))}
    for case in first.values():
        request = case.request()
        full = {name: ATTRIBUTES[name].default for name in FACTS if name != "authorization"} | request["context"]
        decided = engine(pack).decide_worked({**request, "context": full})
        if not decided.allow or request["parameters"]:
            continue
        for name in full:
            context = {each: value for each, value in full.items() if each != name}
            silent = engine(pack).decide_worked({**request, "context": context, "parameters": {}}, field=True)
            if silent.allow:
                for other in _all_values(name):
                    told = engine(pack).decide_worked({**request, "context": {**full, name: other}})
                    assert told.allow, (case.id, name, other)


def _all_values(name: str) -> list[Any]:
    attribute = ATTRIBUTES[name]
    match attribute.kind:
        case Kind.ONE:
            return list(standard().values(attribute.type))
        case Kind.SET:
            return [[], *([value] for value in standard().values(attribute.type))]
        case Kind.TRUTH:
            return [True, False]
        case _:
            return [0, 1, attribute.largest]


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_an_unknown_attribute_satisfies_no_permit_that_reads_it_however_favourable_its_placeholder(pack: str) -> None:
    decider = engine(pack)
    for rule in decider.pack.rules:
        request = witness(decider.pack, rule)
        if not rule.permit or request is None or "||" in to_text(rule.condition):
            continue
        resolved = resolve(request, decider.pack.parameters, decider.pack.vocabulary)
        assert rule.id in decider._all.verdict(resolved).rules
        for name in reads(rule.condition) & set(FACTS):
            assert rule.id not in decider._all.verdict(resolved.without([name])).rules, (rule.id, name)


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_an_unknown_attribute_lifts_no_forbid_that_reads_it_however_favourable_its_placeholder(pack: str) -> None:
    decider = engine(pack)
    for rule in decider.pack.rules:
        request = witness(decider.pack, rule)
        if rule.permit or request is None:
            continue
        resolved = resolve(request, decider.pack.parameters, decider.pack.vocabulary)
        for name in reads(rule.condition) & set(FACTS):
            for value in _all_values(name):
                silent = resolved.knowing({name: check_value(ATTRIBUTES[name], value, standard())}).without([name])
                assert rule.id in decider._all.verdict(silent).rules, (rule.id, name, value)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL_PACKS), principals, actions, contexts(complete=True))
def test_with_nothing_unknown_the_field_decides_as_the_worked_case_does(
    pack: str, principal: str, action: str, context: dict[str, Any]
) -> None:
    context = {**context, "location_class": "public"} if action == "PowerOff" else context
    measured = Request(
        principal,
        action,
        {name: Fact(value, ATTRIBUTES[name].provenances[-1]) for name, value in context.items()},
    )
    in_field = engine(pack).decide(measured)
    worked = engine(pack).decide(asked(principal, action, context, field=False))
    assert (in_field.allow, in_field.rules) == (worked.allow, worked.rules)
    added = {"flag_for_review"} if in_field.declared_only and action in ENDING else set()
    assert set(in_field.obligations) == {*worked.obligations, *added}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL_PACKS), st.sampled_from(FACTS), contexts(), st.data())
def test_the_placeholder_of_an_unknown_attribute_decides_nothing(
    pack: str, name: str, context: dict[str, Any], data: st.DataObject
) -> None:
    context.pop(name, None)
    request = asked("wearer", "StopRecording", {**QUIET, **context}, field=True)
    if name in QUIET:
        request = asked("wearer", "StopRecording", context, field=True)
    decider = engine(pack)
    resolved = resolve(request, decider.pack.parameters, decider.pack.vocabulary)
    placed = resolved.knowing({name: data.draw(values(ATTRIBUTES[name]))}).without([name])
    verdicts = [decider._all.verdict(each) for each in (resolved, placed)]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("pack", ALL_PACKS)
@pytest.mark.parametrize("action", ENDING)
def test_silence_permits_nothing(pack: str, action: str) -> None:
    assert not engine(pack).decide(Request("wearer", action, {})).allow
    assert not field({}, action, pack).allow


@pytest.mark.parametrize("name", ["triggers_active", "critical_incident", "enforcement_mode"])
def test_an_unmeasured_trigger_incident_or_force_blocks_as_a_live_one_does(name: str) -> None:
    context = {"encounter_state": "concluded", "enforcement_mode": "none", **QUIET}
    assert field({"encounter_state": "concluded", "enforcement_mode": "none"}).allow
    del context[name]
    decision = engine("us-il").decide(asked("wearer", "StopRecording", context, field=True))
    assert not decision.allow
    assert decision.rules == (UNKNOWN_SITUATION,)
    assert decision.unknown == (name,)
    assert decision.missing == ()


@pytest.mark.parametrize("pack", ALL_PACKS)
@pytest.mark.parametrize("action", ENDING)
def test_refusal_with_nothing_declared_names_no_rule_that_is_only_assumed(pack: str, action: str) -> None:
    decision = field({}, action, pack)
    assert not decision.allow
    unconditional = {rule.id for rule in engine(pack).pack.rules if not rule.permit and not reads(rule.condition)}
    assert set(decision.rules) <= {UNKNOWN_SITUATION, *unconditional}


def test_refusal_that_force_was_used_needs_a_declaration_of_force() -> None:
    silent = field({})
    assert silent.rules == (UNKNOWN_SITUATION,)
    assert "enforcement_mode" in silent.unknown
    assert silent.obligations == ("log_denied_attempt",)
    assert field({"enforcement_mode": "force"}).rules == ("base.force",)
    said = list(describe(engine("us-il"), asked("wearer", "StopRecording", QUIET, field=True), silent))
    assert said[0] == "denied by default: the situation is unknown"
    assert not any("force is being used" in line for line in said)


def test_refusal_names_the_rule_that_holds_and_not_the_one_that_is_assumed_beside_it() -> None:
    decision = field({"critical_incident": True})
    assert decision.rules == ("base.critical-incident",)
    assert decision.unknown == ()


def test_refusal_that_no_knowledge_could_turn_is_by_default_and_blames_nothing_unknown() -> None:
    # No rule of this pack permits a mute, whatever the situation is.
    decision = field({}, "Mute", "us-nv")
    assert (decision.rules, decision.unknown) == ((), ())


def test_conclusion_declared_under_a_raised_trigger_line_is_refused_in_the_field() -> None:
    word = {"encounter_state": "concluded", "enforcement_mode": "none", "conclusion_declared": True}
    for action in ("StopRecording", "PrivacyPause"):
        assert field(word, action).allow
        refused = field({**word, "trigger_line_raised": True}, action)
        assert (refused.allow, refused.rules) == (False, ("base.conclusion-under-trigger",))


def test_stop_that_a_text_compels_is_not_blocked_by_lights_left_on() -> None:
    victim = {"request_by": "victim", "request_on_recording": True, "enforcement_mode": "none"}
    assert field({**victim, "trigger_line_raised": True, "conclusion_declared": False}).allow


def test_pack_may_let_a_conclusion_count_under_a_raised_trigger_line() -> None:
    word = {"encounter_state": "concluded", "enforcement_mode": "none", "conclusion_declared": True}
    request = asked("wearer", "StopRecording", {**QUIET, **word, "trigger_line_raised": True}, field=True)
    pack = shipped("us-il")
    allowing = load_pack(pack.name, pack.text, {"conclusion_under_trigger": True})
    assert Engine(allowing).decide(request).allow


@pytest.mark.parametrize("action", ["StopRecording", "PrivacyPause"])
def test_grant_on_the_wearers_word_alone_is_flagged_for_review_under_every_pack(action: str) -> None:
    word: dict[str, Any] = {"encounter_state": "concluded", "enforcement_mode": "none"}
    word |= {"reason_code": "officer_judgement", "request_by": "victim", "request_on_recording": True}
    word["request_prompted_by_officer"] = False
    flagged = 0
    for pack in ALL_PACKS:
        decision = field(word, action, pack)
        if decision.allow:
            assert ("flag_for_review" in decision.obligations) is decision.declared_only, pack
            flagged += decision.declared_only
    assert flagged > 10
    assert "flag_for_review" not in field({}, "ResumeRecording").obligations


def test_civilians_nobody_declared_absent_are_taken_to_be_present() -> None:
    talk = {"encounter_state": "on_scene", "enforcement_mode": "none", "reason_code": "tactical_discussion"}
    assert not field(talk, pack="us-co").allow
    assert field({**talk, "civilians_present": False}, pack="us-co").allow


@pytest.mark.parametrize(("pack", "allowed"), [("us-ca-lapd", True), ("us-mo-kcpd", False)])
def test_power_off_rests_on_a_beacon_and_never_on_a_declared_place(pack: str, *, allowed: bool) -> None:
    known = {"enforcement_mode": "none", "encounter_state": "none", "civilians_present": False, **QUIET}
    facts = {name: Fact(value, ATTRIBUTES[name].provenances[0]) for name, value in known.items()}
    declared = facts | {"location_class": Fact("station", Provenance.DECLARED)}
    beacon = facts | {"location_class": Fact("station", Provenance.MEASURED)}
    decision = engine(pack).decide(Request("wearer", "PowerOff", declared))
    assert not decision.allow
    assert engine(pack).decide(Request("wearer", "PowerOff", beacon)).allow is allowed
    if pack == "us-ca-lapd":
        assert "location_class" in decision.unknown


def test_a_declared_place_does_for_what_is_not_power_off() -> None:
    school = {"location_class": "school", "enforcement_mode": "none", "reason_code": "school"}
    assert field(school, pack="us-dc").allow


def test_a_permit_on_the_wearers_word_alone_is_marked() -> None:
    word = {"encounter_state": "concluded", "enforcement_mode": "none"}
    assert field(word).declared_only
    dispatch = asked("wearer", "StopRecording", {**QUIET, **word}, field=True)
    facts = {**dispatch.facts, "encounter_state": Fact("concluded", Provenance.SIGNED)}
    decision = engine("us-il").decide(Request("wearer", "StopRecording", facts))
    assert decision.allow
    assert not decision.declared_only


def test_a_permit_that_needs_a_measurement_is_not_marked() -> None:
    spoken = {"encounter_state": "concluded", "enforcement_mode": "none", "reason_spoken": True}
    assert field(spoken, pack="us-nv-lvmpd").allow
    assert not field(spoken, pack="us-nv-lvmpd").declared_only
    # Where one permit rests on a measurement and another on the wearer's word, both fired: not the word alone.
    both = {**spoken, "inactivity_s": 900}
    assert field(both, pack="us-ut").rules == ("base.concluded", "us-ut.inactivity")
    assert not field(both, pack="us-ut").declared_only
    assert not field({}, "ResumeRecording").declared_only


def test_a_rule_that_errors_denies_even_where_cedar_would_skip_a_forbid() -> None:
    # Cedar skips a policy that errors: this forbid overflows, and Cedar alone would say Allow.
    decider = Engine(load_pack("our", '@id("our.a") @source("x") permit (principal, action, resource);'))
    policies: dict[str, Any] = {rule.id: rule.as_cedar(rule.guarded) for rule in decider.pack.own}
    add = {"+": {"left": {".": {"left": {"Var": "context"}, "attr": "elapsed_s"}}, "right": {"Value": (1 << 63) - 1}}}
    policies["overflows"] = {
        "effect": "forbid",
        "principal": {"op": "All"},
        "action": {"op": "All"},
        "resource": {"op": "All"},
        "conditions": [{"kind": "when", "body": {">": {"left": add, "right": {"Value": 0}}}}],
    }
    decider._all = RuleSet(policies, decider.pack.vocabulary)
    request = asked("wearer", "Mute", {"elapsed_s": 1}, field=False)
    resolved = resolve(request, decider.pack.parameters, decider.pack.vocabulary)
    assert decider._all.verdict(resolved).errors
    assert not decider._all.verdict(resolved).allow
    decision = decider.decide(request)
    assert not decision.allow
    assert "could not be evaluated" in decision.error
