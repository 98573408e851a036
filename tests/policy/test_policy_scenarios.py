import json

import pytest

from agent.policy.cases import failures
from tests.support.policy import ALL_PACKS, OWN, engine, own_cases, scenarios


def test_every_scenario_decides_as_its_text_demands_and_every_flip_turns() -> None:
    found = [failure for case in scenarios() for failure in failures(case, engine)]
    assert found == []


def test_an_allowed_scenario_carries_exactly_the_obligations_of_its_text() -> None:
    for case in scenarios():
        decision = engine(case.pack).decide_worked(case.request())
        if decision.allow:
            assert set(decision.obligations) == set(case.obligations), case.id


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_every_case_of_a_pack_decides_by_the_rules_it_names_and_every_flip_turns(pack: str) -> None:
    found = [failure for case in own_cases(pack) for failure in failures(case, engine)]
    assert found == []


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_every_rule_of_a_pack_makes_the_decision_in_some_case(pack: str) -> None:
    named = {rule for case in own_cases(pack) for rule in case.rules or ()}
    assert {rule.id for rule in engine(pack).pack.own} <= named


def test_every_case_belongs_to_the_pack_of_its_file() -> None:
    assert {path.stem for path in OWN.glob("*.json")} == set(ALL_PACKS)
    for pack in ALL_PACKS:
        assert {case.pack for case in own_cases(pack)} == {pack}
        assert all(case["situation"] for case in json.loads((OWN / f"{pack}.json").read_bytes()))


def test_the_base_permit_for_the_end_does_not_apply_where_the_text_says_more_or_only_speaks_of_muting() -> None:
    without = {pack for pack in ALL_PACKS if all(rule.id != "base.concluded" for rule in engine(pack).pack.rules)}
    assert without == {
        "aclu-model",
        "us-nv-lvmpd",
        "us-mn-minneapolis",
        "us-nv",
        "us-wa-seattle",
        "us-tx-sanantonio",
        "us-unknown-324.05",
        "generic-mute",
        "built-in",
    }


def test_a_compelled_stop_is_marked_so_that_the_wearer_can_be_prompted() -> None:
    compelled = {rule.id for pack in ALL_PACKS for rule in engine(pack).pack.own if rule.compels}
    assert compelled == {"us-il.victim-witness", "us-il.informant", "us-nj.civilian-request", "us-dc.school"}
    victim = {"encounter_state": "on_scene", "request_by": "victim", "request_on_recording": True}
    request = {"principal": "wearer", "action": "StopRecording", "context": victim}
    assert engine("us-il").decide_worked(request).compelled
    assert not engine("us-ny-statepolice").decide_worked(request).compelled
