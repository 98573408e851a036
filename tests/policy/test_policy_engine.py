from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import PolicyError
from agent.policy.engine import Engine
from agent.policy.obligations import OBLIGATIONS
from agent.policy.packs import load_pack
from agent.policy.prose import describe, outline
from agent.policy.request import worked_request
from tests.support.policy import ALL_PACKS, ENDING, actions, asked, contexts, engine, principals

OPEN = load_pack("open", '@id("open.everything") @source("test") permit (principal, action, resource);')
QUIET: dict[str, Any] = {
    "triggers_active": frozenset(),
    "trigger_line_raised": False,
    "critical_incident": False,
    "enforcement_mode": "none",
}


def worked(pack: str, context: dict[str, Any], action: str = "StopRecording", principal: str = "wearer") -> Any:
    return engine(pack).decide_worked({"principal": principal, "action": action, "context": context})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ALL_PACKS), principals, actions, contexts(), st.booleans())
def test_no_request_raises_and_every_denial_says_why(
    pack: str, principal: str, action: str, context: dict[str, Any], field: bool
) -> None:
    decision = engine(pack).decide(asked(principal, action, context, field=field))
    assert not decision.error
    assert set(decision.obligations) <= set(OBLIGATIONS)
    assert decision.allow <= bool(decision.rules)
    if not decision.allow:
        assert decision.obligations
        assert not decision.declared_only
    if field:
        assert set(decision.missing) <= {"speak", "capture", "authorise", "give_reason"}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([Engine(OPEN), *map(engine, ("us-il", "us-wa", "us-co", "generic-mute"))]),
    st.sampled_from(["principal", "trigger", "incident", "force"]),
    st.sampled_from(ENDING),
    contexts(),
    st.booleans(),
)
def test_a_base_forbid_beats_every_permit(
    decider: Engine, blocked: str, action: str, context: dict[str, Any], field: bool
) -> None:
    blocks: dict[str, tuple[dict[str, Any], str]] = {
        "principal": ({}, "base.asker"),
        "trigger": ({"triggers_active": frozenset({"impact"})}, "base.trigger"),
        "incident": ({"critical_incident": True}, "base.critical-incident"),
        "force": ({"enforcement_mode": "force"}, "base.force"),
    }
    changes, rule = blocks[blocked]
    principal = "administrator" if blocked == "principal" else "wearer"
    decision = decider.decide(asked(principal, action, {**context, **changes}, field=field))
    assert not decision.allow
    assert rule in decision.rules


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL_PACKS), principals, contexts(), st.booleans())
def test_recording_may_always_be_resumed_by_anybody_at_the_camera(
    pack: str, principal: str, context: dict[str, Any], field: bool
) -> None:
    decision = engine(pack).decide(asked(principal, "ResumeRecording", context, field=field))
    assert decision.allow is (principal != "network")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ALL_PACKS), principals, contexts(), st.booleans())
def test_what_permits_a_stop_permits_the_weaker_pause(
    pack: str, principal: str, context: dict[str, Any], field: bool
) -> None:
    if engine(pack).decide(asked(principal, "StopRecording", context, field=field)).allow:
        assert engine(pack).decide(asked(principal, "PrivacyPause", context, field=field)).allow


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL_PACKS), principals, contexts(), st.booleans())
def test_nobody_disables_the_pre_event_buffer(pack: str, principal: str, context: dict[str, Any], field: bool) -> None:
    assert not engine(pack).decide(asked(principal, "DisablePreEvent", context, field=field)).allow


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL_PACKS), st.sampled_from(ENDING), contexts(), st.integers(0, 1 << 53))
def test_elapsed_time_changes_no_decision(pack: str, action: str, context: dict[str, Any], seconds: int) -> None:
    seconds = min(seconds, (1 << 53) - 1)
    first, later = (
        engine(pack).decide(asked("wearer", action, {**context, "elapsed_s": elapsed}, field=False))
        for elapsed in (0, seconds)
    )
    assert first == later


def test_the_law_differs_for_one_and_the_same_situation() -> None:
    victim = {"encounter_state": "on_scene", "request_by": "victim", "request_on_recording": True}
    asks = {**victim, "reason_code": "victim_request", "attestations": ["information_outweighs_recording"]}
    assert worked("us-il", asks).compelled
    assert not worked("us-co", asks).allow
    assert worked("us-ut", asks).allow
    talk = {"encounter_state": "on_scene", "civilians_present": False, "reason_code": "tactical_discussion"}
    spoken = {**talk, "reason_spoken": True}
    assert worked("us-co", talk).allow
    assert worked("us-nj", spoken).allow
    assert not worked("us-mn-minneapolis", spoken).allow
    school = {"location_class": "school", "reason_code": "school", "reason_spoken": True}
    assert worked("us-dc", school).compelled
    assert worked("us-nj", school).allow
    protest = {"encounter_state": "on_scene", "assignment": "demonstration", "reason_code": "demonstration"}
    assert not worked("us-wa-seattle", protest).allow
    assert worked("us-ny-nypd-draft2016", protest).allow


@pytest.mark.parametrize(
    ("pack", "context", "missing"),
    [
        ("us-nv-lvmpd", {"encounter_state": "concluded"}, ("speak",)),
        ("us-il", {"request_by": "victim", "request_on_recording": False, "capture_impractical": False}, ("capture",)),
        ("us-ks-joco", {"reason_code": "officer_judgement", "enforcement_mode": "arrest_search"}, ("authorise",)),
        ("us-wa", {"reason_code": "none"}, ("give_reason",)),
        ("us-wa", {}, ("give_reason",)),
        (
            "us-nj",
            {"request_by": "subject", "request_prompted_by_officer": False, "request_on_recording": False},
            ("speak", "capture"),
        ),
        # Here only a fact would do, and a device does not suggest facts.
        ("us-il", {"request_by": "none"}, ()),
        ("us-dc", {"location_class": "public"}, ()),
        ("us-mo-kcpd", {"reason_code": "none", "encounter_state": "none", "civilians_present": False}, ()),
        ("us-co", {"reason_code": "none", "civilians_present": False}, ()),
        ("us-ut", {"request_by": "victim", "request_on_recording": False}, ()),
    ],
)
def test_in_the_field_a_refusal_names_procedures_and_never_a_fact_to_claim(
    pack: str, context: dict[str, Any], missing: tuple[str, ...]
) -> None:
    decision = engine(pack).decide(asked("wearer", "StopRecording", {**QUIET, **context}, field=True))
    assert not decision.allow
    assert decision.missing == missing


@pytest.mark.parametrize(
    ("condition", "context", "missing"),
    [
        # Saying something does not help where nothing may be said.
        ("!context.reason_spoken", {"reason_spoken": True}, ()),
        (
            "context.request_on_recording == context.exigent",
            {"request_on_recording": False, "exigent": True},
            ("capture",),
        ),
        ("context.request_on_recording == context.exigent", {"request_on_recording": True, "exigent": False}, ()),
        ('context.reason_code == Reason::"admin"', {"reason_code": "none"}, ()),
    ],
)
def test_a_procedure_is_named_only_where_it_would_turn_the_refusal(
    condition: str, context: dict[str, Any], missing: tuple[str, ...]
) -> None:
    text = f'@id("our.it") @source("x") permit (principal, action == Action::"Mute", resource) when {{ {condition} }};'
    decision = Engine(load_pack("our", text)).decide(asked("wearer", "Mute", {**QUIET, **context}, field=True))
    assert not decision.allow
    assert decision.missing == missing


def test_what_a_refusal_names_turns_it_when_done() -> None:
    context = {**QUIET, "request_by": "subject", "request_prompted_by_officer": False}
    done = {**context, "reason_spoken": True, "request_on_recording": True}
    assert not engine("us-nj").decide(asked("wearer", "StopRecording", context, field=True)).allow
    assert engine("us-nj").decide(asked("wearer", "StopRecording", done, field=True)).allow


def test_a_worked_refusal_names_the_attributes_of_the_nearest_permit() -> None:
    home = {"location_class": "private_residence", "request_by": "occupant", "request_on_recording": True}
    assert worked("us-mo-kcpd", home).missing == ("attestations",)
    assert worked("us-il", {"request_by": "victim"}).missing == ("request_on_recording",)
    assert worked("us-il", {"request_by": "victim", "triggers_active": ["impact"]}).missing == ("triggers_active",)


def test_a_denial_by_default_carries_what_is_owed_before_the_next_try() -> None:
    unheard = worked("us-il", {"encounter_state": "on_scene", "request_by": "victim"})
    assert unheard.rules == ()
    assert unheard.obligations == ("log_denied_attempt", "prompt_capture_request")


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_a_pack_and_its_decisions_can_be_told_in_words(pack: str) -> None:
    assert any("base.trigger" in line for line in outline(engine(pack).pack))
    for context in ({}, {"critical_incident": True}, {"encounter_state": "concluded", "reason_spoken": True}):
        request = worked_request({"principal": "wearer", "action": "StopRecording", "context": context})
        lines = list(describe(engine(pack), request, engine(pack).decide(request)))
        assert lines[0].startswith(("allowed by", "denied by"))


def test_only_rules_of_the_pack_can_be_asked_for() -> None:
    assert engine("us-il").rule("base.force").permit is False
    with pytest.raises(PolicyError, match="us-nj"):
        engine("us-il").rule("us-nj.break")
