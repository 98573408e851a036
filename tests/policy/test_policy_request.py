from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import PolicyError
from agent.policy.packs import shipped
from agent.policy.request import (
    Authorization,
    Fact,
    Request,
    from_record,
    parse_declaration,
    parse_declarations,
    resolve,
    worked_request,
)
from agent.policy.schema import ATTRIBUTES, FACTS, Kind, Provenance, standard
from tests.support.policy import actions, asked, contexts, engine, principals

PARAMETERS = shipped("us-il").parameters


def worked(context: dict[str, Any], **changes: Any) -> Any:
    document = {"principal": "wearer", "action": "StopRecording", "context": context, **changes}
    return resolve(worked_request(document), PARAMETERS, standard())


def test_a_worked_case_has_the_documented_defaults() -> None:
    values = worked({}).values
    assert values["encounter_state"] == values["enforcement_mode"] == values["reason_code"] == "none"
    assert values["civilians_present"] is True
    assert values["on_duty"] is True
    assert values["location_class"] == "public"
    assert values["assignment"] == "patrol"
    assert values["dock_state"] == "undocked"
    assert values["person_class"] == values["triggers_active"] == frozenset()
    assert values["authorization"] == Authorization("none", "officer", signed=False, expires_in_s=0)


def test_an_authorisation_that_names_no_end_has_five_minutes_and_none_has_none() -> None:
    given_leave = worked({"authorization": {"type": "supervisor_remote", "signed": True}}).values["authorization"]
    assert given_leave == Authorization("supervisor_remote", "officer", signed=True, expires_in_s=300)
    assert worked({"authorization": {"type": "none"}}).values["authorization"].expires_in_s == 0


@pytest.mark.parametrize(
    ("context", "names"),
    [
        ({"reason_cod": "school"}, "reason_cod.*did you mean reason_code"),
        ({"reason_code": "scool"}, "scool.*did you mean school"),
        ({"reason_code": None}, "reason_code"),
        ({"reason_code": ["school"]}, "reason_code"),
        ({"exigent": "true"}, "exigent"),
        ({"exigent": 1}, "exigent"),
        ({"inactivity_s": True}, "inactivity_s"),
        ({"inactivity_s": -1}, "inactivity_s"),
        ({"inactivity_s": 1.5}, "inactivity_s"),
        ({"inactivity_s": 1 << 53}, "inactivity_s"),
        ({"battery_pct": 101}, "battery_pct"),
        ({"person_class": "minor"}, "person_class"),
        ({"person_class": ["adult"]}, "adult"),
        ({"person_class": [["minor"]]}, "person_class"),
        ({"triggers_active": ["siren"]}, "siren"),
        ({"authorization": "supervisor"}, "authorization"),
        ({"authorization": {"kind": "none"}}, "kind"),
        ({"authorization": {"type": "mayor"}}, "mayor"),
        ({"authorization": {"signed": "yes"}}, "signed"),
        ({"min_rank": "officer"}, "min_rank"),
        ({"unknown": []}, "unknown"),
        ({10**5000: 1}, "unreadable int"),
    ],
)
def test_an_unknown_name_or_value_is_refused_and_the_denial_names_it(context: dict[Any, Any], names: str) -> None:
    with pytest.raises(PolicyError, match=names) as caught:
        worked(context)
    decision = engine("us-wa").decide_worked({"principal": "wearer", "action": "StopRecording", "context": context})
    assert not decision.allow
    assert decision.error == str(caught.value)
    assert decision.obligations == ("log_denied_attempt",)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"principal": "wearer"},
        {"principal": "mayor", "action": "StopRecording"},
        {"principal": "wearer", "action": "Stop"},
        {"principal": 'wearer"; permit', "action": "StopRecording"},
        {"principal": "wearer", "action": "StopRecording", "context": []},
        {"principal": "wearer", "action": "StopRecording", "parameters": {"min_rnk": "officer"}},
        {"principal": "wearer", "action": "StopRecording", "parameters": {"exigent": True}},
        {"principal": "wearer", "action": "StopRecording", "contxt": {}},
    ],
)
def test_a_malformed_request_is_a_denial_that_says_why(document: object) -> None:
    decision = engine("us-wa").decide_worked(document)
    assert not decision.allow
    assert decision.error


def test_claimed_speech_is_refused_in_the_field() -> None:
    # Only the device measures speech; the wearer's word for it is not believed, and the request is denied for it.
    request = Request("wearer", "StopRecording", {"reason_spoken": Fact(value=True, provenance=Provenance.DECLARED)})
    decision = engine("us-wa").decide(request)
    assert not decision.allow
    assert "reason_spoken" in decision.error


@pytest.mark.parametrize("name", FACTS)
def test_a_provenance_that_an_attribute_cannot_have_is_refused(name: str) -> None:
    attribute = ATTRIBUTES[name]
    default: object = Authorization() if attribute.kind is Kind.AUTHORIZATION else attribute.default
    for provenance in Provenance:
        request = Request("wearer", "ResumeRecording", {name: Fact(default, provenance)})
        decision = engine("us-wa").decide(request)
        assert decision.allow is (provenance in attribute.provenances), (name, provenance)


def test_a_request_in_the_field_brings_no_parameters() -> None:
    request = Request("wearer", "ResumeRecording", {}, {"min_inactivity_s": 0})
    assert "parameters" in engine("us-ut").decide(request).error


def test_parameters_of_a_worked_case_hold_over_the_packs() -> None:
    assert worked({}, parameters={"min_preevent_s": 120}).values["min_preevent_s"] == 120
    assert worked({}).values["min_preevent_s"] == 30


@settings(max_examples=60, deadline=None)
@given(principals, actions, contexts())
def test_a_request_read_back_from_the_journal_decides_the_same(
    principal: str, action: str, context: dict[str, Any]
) -> None:
    request = asked(principal, action, context, field=True)
    again = from_record(request.record())
    assert engine("us-nj").decide(again) == engine("us-nj").decide(request)
    assert again.record() == request.record()


@pytest.mark.parametrize("record", [{}, {"principal": "wearer"}, {"principal": "w", "action": "a", "facts": {"x": 1}}])
def test_a_record_that_is_none_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match="record"):
        from_record(record)


def test_a_gesture_can_declare_what_the_wearer_may_declare_and_nothing_else() -> None:
    words = standard()
    assert parse_declaration("victim_request", words) == ("reason_code", "victim_request")
    assert parse_declaration("encounter_state=concluded", words) == ("encounter_state", "concluded")
    assert parse_declaration("civilians_present=false", words) == ("civilians_present", False)
    assert parse_declaration("person_class=minor", words) == ("person_class", frozenset({"minor"}))
    for text in (
        "reason_spoken=true",
        "critical_incident=false",
        "authorization=none",
        "on_duty=false",
        "x=y",
        "",
        "=",
    ):
        with pytest.raises(PolicyError):
            parse_declaration(text, words)
    for text in ("civilians_present=maybe", "encounter_state=over", "victim_reqest"):
        with pytest.raises(PolicyError):
            parse_declaration(text, words)


def test_several_declarations_in_one_gesture_add_up_and_never_contradict() -> None:
    words = standard()
    assert parse_declarations("encounter_state=concluded+enforcement_mode=none", words) == {
        "encounter_state": "concluded",
        "enforcement_mode": "none",
    }
    both = parse_declarations("person_class=minor+person_class=sexual_assault_victim", words)
    assert both == {"person_class": frozenset({"minor", "sexual_assault_victim"})}
    for text in ("school+worship", "exigent=false+exigent=true", "exigent=false+exigent=false", "school+", "+"):
        with pytest.raises(PolicyError):
            parse_declarations(text, words)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
        max_leaves=12,
    )
)
def test_no_document_at_all_raises_or_is_allowed(document: object) -> None:
    assert not engine("us-wa").decide_worked(document).allow


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(FACTS),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=8), max_size=2),
)
def test_no_value_of_any_attribute_raises(name: str, value: object) -> None:
    document = {"principal": "wearer", "action": "StopRecording", "context": {name: value}}
    engine("us-wa").decide_worked(document)
