"""What a camera can come to: the shipped layouts reach what their packs permit, and what nothing reaches is named."""

import itertools
import json
import tomllib
from pathlib import Path

import pytest

from agent.clock import NS
from agent.core.recording import events
from agent.core.recording.requests import facts
from agent.core.recording.state import Mode, State
from agent.domain.layout import TWO_BUTTONS, Verb, parse_layout
from agent.domain.patterns import MAX_PRESSES, Kind, Pattern, parse_pattern
from agent.errors import PolicyError
from agent.policy.engine import Engine
from agent.policy.field_test import FieldTest
from agent.policy.layouts import BUTTONS, layout_for, shipped_layout
from agent.policy.packs import Pack, load_pack, shipped, shipped_names
from agent.policy.prose import reach_warnings
from agent.policy.reach import BROUGHT, Obstacle, Reach, Reacher, no_stop, reaches
from agent.policy.request import Authorization, parse_declarations, worked_request
from agent.policy.schema import standard
from tests.support.policy import scenarios
from tests.support.wearer import Wearer, edges

UNREACHED = {
    ("aclu-model.concluded-and-left", "left_scene"),
    ("us-ca-lapd.power-off", "location_class"),  # for a power-off only a beacon's word counts, and there is no beacon
    ("us-il.in-car-camera", "other_camera_covering"),
    ("us-mo-kcpd.power-off", "on_duty"),
    ("us-ny-nypd-draft2016.demonstration", "assignment"),
    ("us-ut.participation-over", "left_scene"),
    ("us-ut.inactivity", "inactivity_s"),
}
"""The permits of shipped packs that no gesture can reach, and what they read that no recorder measures or is given."""
BY_AUTHORISATION = {
    "us-ca-lasd.directed-talk",
    "us-ks-joco.approved",
    "us-mn-minneapolis.ordered",
    "us-nj.prosecutor",
}
"""The permits that are reached by a gesture and a signed authorisation only."""
UNREACHED_SCENARIOS = {"IL-05", "UT-01", "NY-03"}

EVERY = [(pack, buttons) for pack in shipped_names() for buttons in BUTTONS]


def permits_of(pack: str, buttons: str) -> tuple[Reach, ...]:
    return reaches(shipped(pack), shipped_layout(pack, buttons))


@pytest.mark.parametrize("buttons", BUTTONS)
def test_the_shipped_layouts_reach_every_permit_but_those_that_no_gesture_can_reach(buttons: str) -> None:
    found = [reach for pack in shipped_names() for reach in permits_of(pack, buttons)]
    unreached = {(each.rule.id, *each.attributes) for each in found if each.way is None}
    assert unreached == UNREACHED
    assert {each.obstacle for each in found if each.way is None} == {Obstacle.NOT_BROUGHT}
    ways = [(each.rule.id, each.way) for each in found if each.way is not None]
    assert {rule for rule, way in ways if "authorization" in way.measured} == BY_AUTHORISATION
    assert all(set(way.measured) <= {"reason_spoken", "authorization"} for _, way in ways)
    # One gesture says all of an exception; nobody has to remember a sequence.
    assert all(len(way.declare) <= 1 for _, way in ways)


@pytest.mark.parametrize(("pack", "buttons"), EVERY)
def test_the_core_grants_what_is_said_to_be_reached_to_gloved_hands(pack: str, buttons: str) -> None:
    layout = shipped_layout(pack, buttons)
    start = next(each for each, intent in layout.intents.items() if intent.verb is Verb.START)
    for reach in permits_of(pack, buttons):
        if reach.way is None or reach.action == "ResumeRecording":
            continue
        wearer = Wearer(shipped(pack), layout)
        wearer.press(start)
        assert wearer.mode is Mode.RECORDING
        wearer.measured(reach.way.measured, reach.action)
        wearer.press(reach.way.ask)
        assert [each.allowed for each in wearer.decisions] == [False], "nothing was declared yet"
        wearer.speak()
        for gesture in reach.way.declare:
            wearer.press(gesture)
        wearer.press(reach.way.ask)
        if reach.way.measured.get("reason_spoken") and not wearer.decisions[-1].allowed:
            wearer.speak()
            wearer.press(reach.way.ask)
        assert wearer.decisions[-1].allowed, reach
        assert wearer.decisions[-1].rules == (reach.rule.id,)
        expected = {"StopRecording": Mode.POST_ROLL, "PrivacyPause": Mode.PRIVACY, "Mute": Mode.MUTED}
        assert wearer.mode is expected[reach.action]


@pytest.mark.parametrize(("pack", "buttons"), EVERY)
def test_gloved_hands_do_each_pattern_of_a_layout_and_no_other_is_recognised(pack: str, buttons: str) -> None:
    layout = shipped_layout(pack, buttons)
    for pattern in layout.patterns:
        wearer = Wearer(shipped(pack), layout)
        assert [gesture.pattern for gesture in wearer.press(pattern)] == [pattern]


@pytest.mark.parametrize(("pack", "buttons"), EVERY)
def test_a_press_too_few_or_too_many_asks_to_end_nothing(pack: str, buttons: str) -> None:
    layout = shipped_layout(pack, buttons)
    asking = {Verb.ASK_STOP, Verb.ASK_PRIVACY, Verb.ASK_MUTE, Verb.ASK_POWER_OFF}
    for pattern in layout.patterns:
        if pattern.chord or pattern.kind is not Kind.PRESS:
            continue
        for count in range(1, min(pattern.presses + 2, MAX_PRESSES + 1)):
            gestures = Wearer(shipped(pack), layout).press(Pattern(Kind.PRESS, pattern.lines, presses=count))
            intents = [layout.intent(gesture.pattern) for gesture in gestures]
            assert not [intent for intent in intents if intent is not None and intent.verb in asking]


@pytest.mark.parametrize(("pack", "buttons"), EVERY)
def test_a_layout_keeps_to_the_rules_at_the_top_of_its_file(pack: str, buttons: str) -> None:
    layout = shipped_layout(pack, buttons)
    lines = {line for pattern in layout.patterns for line in pattern.lines}
    assert lines == ({"record", "mark"} if buttons == "two-buttons" else {"record", "mark", "privacy"})
    assert max(pattern.presses for pattern in layout.patterns) <= 4
    holds = sorted((each for each in layout.patterns if each.kind is Kind.HOLD), key=lambda each: each.lines)
    for _, group in itertools.groupby(holds, key=lambda each: each.lines):
        lengths = sorted(each.hold_ms for each in group)
        assert len(lengths) <= 2
        assert all(longer - shorter >= 3000 for shorter, longer in itertools.pairwise(lengths))
    for pattern, intent in layout.intents.items():
        if intent.verb is Verb.DECLARE:
            said = parse_declarations(intent.argument, standard())
            assert said["enforcement_mode"] in {"none", "investigative", "arrest_search"}, pattern
    said_by = [intent.argument for intent in layout.intents.values() if intent.verb is Verb.DECLARE]
    assert len(said_by) == len(set(said_by))


@pytest.mark.parametrize("buttons", BUTTONS)
def test_what_real_rules_allow_is_reached_by_gestures_that_say_nothing_false(buttons: str) -> None:
    unreached = set()
    for case in scenarios():
        if case.expected == "allow":
            reacher = Reacher(shipped(case.pack), shipped_layout(case.pack, buttons))
            if reacher.case(worked_request(case.request())).obstacle is not None:
                unreached.add(case.id)
    assert unreached == UNREACHED_SCENARIOS


def test_what_a_recorder_brings_is_what_the_core_tells_the_policy() -> None:
    state = State(raised={"siren": 1 * NS})
    assert set(facts(state, 2 * NS, events.Action.STOP_RECORDING)) == set(BROUGHT)


def test_the_file_names_every_pack_and_no_other() -> None:
    path = Path("agent/policy/packs/layouts.toml")
    for tables in tomllib.loads(path.read_text("utf-8")).values():
        assert set(tables) == {"common", *shipped_names()}


OWN_PACK = """
@id("city.victim")
@source("General order 12.3: a victim asks, on the recording")
permit (principal, action in [Action::"StopRecording", Action::"PrivacyPause"], resource)
when { context.request_by == Requester::"victim" && context.request_on_recording };
"""
UNKNOWN_FORCE = {
    "double:record": "start",
    "hold 3s:record": "ask_stop",
    "hold 2s:mark": "ask_privacy",
    "triple:mark": "declare:request_by=victim+request_on_recording=true",
}
"""Gestures that declare all that the permit reads, and not what the base rules forbid by: a trap of the field."""


def own(text: str = OWN_PACK) -> Pack:
    return load_pack("city", text)


def obstacles(pack: Pack, gestures: dict[str, str]) -> dict[tuple[str, str], Obstacle | None]:
    return {(each.rule.id, each.action): each.obstacle for each in reaches(pack, parse_layout("city", gestures))}


def test_gestures_that_leave_force_unknown_reach_no_stop() -> None:
    layout = parse_layout("city", UNKNOWN_FORCE)
    found = reaches(own(), layout)
    assert no_stop(found)
    victim = found[0]
    assert victim.obstacle is Obstacle.NO_GESTURE
    assert victim.suggestion == "declare:enforcement_mode=none+request_by=victim+request_on_recording=true"
    assert any("no recording can ever be stopped" in warning for warning in reach_warnings(found))
    wearer = Wearer(own(), layout)
    for gesture in ("double:record", "triple:mark", "hold 3s:record"):
        wearer.press(parse_pattern(gesture))
    assert [each.allowed for each in wearer.decisions] == [False], "as it was on the camera"


def test_the_suggested_declaration_reaches_the_permit() -> None:
    suggestion = reaches(own(), parse_layout("city", UNKNOWN_FORCE))[0].suggestion
    mended = reaches(own(), parse_layout("city", UNKNOWN_FORCE | {"triple:mark": suggestion}))
    assert [each.obstacle for each in mended if each.rule.id == "city.victim"] == [None, None]


def test_a_permit_that_fires_only_where_another_does_is_not_reached() -> None:
    gestures = UNKNOWN_FORCE | {"double:mark": "declare:encounter_state=concluded+enforcement_mode=none"}
    found = reaches(own(), parse_layout("city", gestures))
    # With the end declared too it is known that no force is used; but then the base permit grants by itself.
    assert found[0].obstacle is Obstacle.ONLY_WITH_OTHERS
    assert found[0].others == ("base.concluded",)
    assert found[0].mendable
    assert not no_stop(found)


def test_the_layout_of_a_device_without_a_policy_reaches_no_exception_of_illinois() -> None:
    found = obstacles(shipped("us-il"), TWO_BUTTONS.text())
    assert found["us-il.victim-witness", "StopRecording"] is Obstacle.NO_GESTURE
    assert found["base.concluded", "StopRecording"] is None


def test_what_no_gesture_asks_for_is_not_reached() -> None:
    gestures = {"double:record": "start", "double:mark": "declare:encounter_state=concluded+enforcement_mode=none"}
    found = obstacles(own(), gestures)
    assert found["base.concluded", "StopRecording"] is Obstacle.NO_GESTURE
    assert found["base.resume", "ResumeRecording"] is None, "a start resumes"


def test_what_no_camera_asks_for_is_not_reached() -> None:
    text = OWN_PACK + (
        '@id("city.supervisor") @source("x") permit (principal == Principal::"supervisor", '
        'action == Action::"Mute", resource);'
        '@id("city.buffer") @source("x") permit (principal, action == Action::"DisablePreEvent", resource);'
    )
    found = obstacles(own(text), UNKNOWN_FORCE)
    assert found["city.supervisor", "Mute"] is Obstacle.NOT_ASKED
    assert found["city.buffer", "DisablePreEvent"] is Obstacle.NOT_ASKED


def test_a_key_switch_is_a_way_where_nobody_has_to_sign() -> None:
    text = OWN_PACK.replace(
        'context.request_by == Requester::"victim" && context.request_on_recording',
        'context.authorization.type == Authority::"supervisor_onscene"',
    )
    gestures = UNKNOWN_FORCE | {"triple:mark": "declare:enforcement_mode=none"}
    way = reaches(own(text), parse_layout("city", gestures))[0].way
    assert way is not None
    leave = way.measured["authorization"]
    assert isinstance(leave, Authorization)
    assert not leave.signed


def test_a_layout_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(PolicyError, match="four-buttons"):
        layout_for("us-il", "four-buttons")
    with pytest.raises(PolicyError, match="us-xx"):
        layout_for("city", "us-xx:two-buttons")
    assert layout_for("city", "two-buttons") is TWO_BUTTONS
    assert layout_for("city", "us-il:two-buttons").name == "us-il.two-buttons"


def test_a_way_is_json_and_words_that_agree() -> None:
    pack = shipped("us-nj")
    record = FieldTest.run(pack, shipped_layout("us-nj", "two-buttons"), [], Engine(pack)).record()
    civilian = json.loads(json.dumps(record))["permits"][0]
    assert civilian == {
        "rule": "us-nj.civilian-request",
        "action": "StopRecording",
        "reached": True,
        "declare": ["triple:mark"],
        "ask": "hold 3s:record",
        "needs": {"reason_spoken": True},
        "words": "triple:mark, then hold 3s:record, with the reason spoken after the prompt",
    }


def test_hands_make_more_than_one_edge_of_a_press() -> None:
    assert len(edges(parse_pattern("short:mark"), 0)) == 10
