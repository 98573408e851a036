"""Taking any one rule away is noticed."""

import dataclasses

import pytest

from agent.policy.analysis import witness
from agent.policy.cases import failures
from agent.policy.engine import Engine
from agent.policy.packs import Pack, Rule, load_pack, shipped
from tests.support.policy import ALL_PACKS, own_cases

_OPEN = '@id("open.everything") @source("test") permit (principal, action, resource);'
"""Under a pack that permits everything only forbids deny."""


def without(pack: Pack, rule: Rule) -> Pack:
    return dataclasses.replace(
        pack,
        own=tuple(each for each in pack.own if each is not rule),
        base=tuple(each for each in pack.base if each is not rule),
    )


def noticed(pack: Pack) -> list[str]:
    engine = Engine(pack)
    return [failure.case for case in own_cases(pack.name) for failure in failures(case, lambda _: engine)]


@pytest.mark.parametrize("name", ALL_PACKS)
def test_taking_any_one_rule_of_a_pack_away_fails_a_case(name: str) -> None:
    pack = shipped(name)
    for rule in pack.own:
        assert noticed(without(pack, rule)), rule.id


@pytest.mark.parametrize("name", ["us-il", "us-mo-kcpd", "us-mn-minneapolis", "us-ut"])
def test_taking_any_one_base_rule_away_fails_a_case(name: str) -> None:
    pack = shipped(name)
    parameter_silences = {"base.preevent-silent"}
    for rule in pack.base:
        if rule.id not in parameter_silences:
            assert noticed(without(pack, rule)), rule.id


def test_taking_the_rule_on_pre_event_sound_away_fails_a_case_of_the_pack_that_requires_it() -> None:
    pack = shipped("aclu-model")
    rule = next(rule for rule in pack.base if rule.id == "base.preevent-silent")
    assert noticed(without(pack, rule))


@pytest.mark.parametrize("name", ALL_PACKS)
def test_each_forbid_alone_turns_an_allow_under_a_pack_that_permits_everything(name: str) -> None:
    pack = shipped(name)
    opened = dataclasses.replace(pack, own=(*load_pack("open", _OPEN).own, *pack.own))
    forbids = [rule for rule in opened.rules if not rule.permit]
    for forbid in forbids:
        if forbid.id == "base.preevent-silent" and not pack.parameters["preevent_audio_required"]:
            continue
        # A request that this forbid denies and no other does, found as one that a permit in its place would allow.
        alone = dataclasses.replace(forbid, permit=True)
        probe = dataclasses.replace(
            opened,
            own=(alone, *(rule for rule in opened.own if rule is not forbid)),
            base=tuple(rule for rule in opened.base if rule is not forbid),
        )
        request = witness(probe, alone)
        if request is None:
            # Everything that it denies another forbid denies too: it only adds its name and obligations.
            assert forbid.id in _NAMES_ONLY, forbid.id
            continue
        assert not Engine(opened).decide(request).allow, forbid.id
        assert Engine(without(opened, forbid)).decide(request).allow, forbid.id


_NAMES_ONLY = {"base.preevent-off", "base.preevent-short"}
"""In us-ca-lapd, which forbids DisablePreEvent altogether."""


def test_a_broken_condition_in_a_base_rule_fails_a_case() -> None:
    # The intentionally broken rule: a trigger blocks only while *no* trigger is live.
    pack = shipped("us-il")
    broken = tuple(
        dataclasses.replace(rule, condition=rule.condition.args[0])
        if rule.id == "base.trigger" and hasattr(rule.condition, "args")
        else rule
        for rule in pack.base
    )
    assert noticed(dataclasses.replace(pack, base=broken))
