from typing import Any

import msgspec
import pytest

from agent.clock import NS, WallReading, utc_text
from agent.domain.layout import TWO_BUTTONS
from agent.domain.limits import Limits
from agent.encoding.strict_json import sha256_hex
from agent.errors import PolicyError
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy import bundle as bundles
from agent.policy.bundle import TYP, OtherRulesError, Trigger, admit, digest_of, read_bundle, rules_digest, sign_bundle
from agent.policy.engine import Engine
from agent.policy.packs import base_rules_text, shipped
from agent.policy.schema import standard
from agent.policy.terms import Terms

KEY = KeySigner.generate()
NOW = 1_795_000_000 * NS
DAY = 86_400 * NS
TALK = '@id("our.talk") @source("x") permit (principal, action == Action::"Mute", resource) when { context.exigent };'


def payload(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "agency": "ex",
        "version": 7,
        "not_before": utc_text(NOW - DAY),
        "expires": utc_text(NOW + DAY),
        "pack": {"name": "us-il", "text": shipped("us-il").text},
        "parameters": {},
        "gestures": {"name": "two", "patterns": TWO_BUTTONS.text()},
        "triggers": {},
        "limits": {},
    }
    return whole | changes


def token(signer: KeySigner = KEY, typ: str = TYP, **changes: Any) -> str:
    return jws.sign(signer, typ, payload(**changes))


def refused(made: str, names: str) -> None:
    with pytest.raises(PolicyError, match=names):
        read_bundle(made, [KEY.public_key], "ex")


def wall(offset_ns: int = 0, uncertainty_s: float | None = 0.1) -> WallReading:
    return WallReading(NOW + offset_ns, "ntp", uncertainty_s)


def test_a_signed_bundle_is_read_back_whole() -> None:
    made = sign_bundle(
        KEY,
        agency="ex",
        version=7,
        not_before_ns=NOW,
        expires_ns=NOW + DAY,
        pack=("us-il", shipped("us-il").text),
        gestures=TWO_BUTTONS,
        parameters={"min_preevent_s": 60},
        triggers={"k9_door": Trigger(mode="edge", active="low")},
        limits=Limits(pause_s=60, stealth=True),
    )
    bundle = read_bundle(made, [KeySigner.generate().public_key, KEY.public_key], "ex")
    assert (bundle.agency, bundle.version, bundle.pack.name) == ("ex", 7, "us-il")
    assert (bundle.not_before_ns, bundle.expires_ns) == (NOW, NOW + DAY)
    assert bundle.pack.parameters["min_preevent_s"] == 60
    assert bundle.gestures.text() == TWO_BUTTONS.text()
    assert bundle.triggers == {"k9_door": Trigger(mode="edge", active="low")}
    assert bundle.limits == Limits(pause_s=60, stealth=True)
    assert bundle.digest == digest_of(made)
    live = {"principal": "wearer", "action": "Mute", "context": {"triggers_active": ["k9_door"]}}
    assert Engine(bundle.pack).decide_worked(live).rules == ("base.trigger",)


def test_what_is_demanded_of_the_device_is_signed_and_a_bundle_from_before_demands_nothing() -> None:
    terms = Terms(pre_event_s=45, simulated_pins=False, classification="restricted")
    assert read_bundle(token(device=msgspec.to_builtins(terms)), [KEY.public_key], "ex").device == terms
    assert "device" not in payload()
    assert read_bundle(token(), [KEY.public_key], "ex").device == Terms()


@pytest.mark.parametrize(
    "device",
    [{"pre_event_s": -1}, {"pre_event_s": 601}, {"pre_event": 5}, {"simulated_pins": "no"}, {"classification": "../x"}],
)
def test_malformed_demands_are_refused(device: dict[str, Any]) -> None:
    refused(token(device=device), "well-formed")


def test_a_misspelt_trigger_name_is_refused_at_signing_and_at_loading() -> None:
    refused(token(triggers={"lights_sirens": {}}), "did you mean 'lights_siren'")
    with pytest.raises(PolicyError, match="did you mean"):
        sign_bundle(
            KEY,
            agency="ex",
            version=7,
            not_before_ns=NOW,
            expires_ns=NOW + DAY,
            pack=("us-il", shipped("us-il").text),
            gestures=TWO_BUTTONS,
            triggers={"lights_sirens": Trigger()},
        )
    assert "k9_door" in read_bundle(token(triggers={"k9_door": {}}), [KEY.public_key], "ex").triggers


def test_an_unsigned_bundle_is_refused() -> None:
    head, body, _ = token().split(".")
    refused(f"{head}.{body}.", "signed policy bundle")
    refused(f"{head}.{body}.AAAA", "signed policy bundle")
    refused("", "signed policy bundle")
    refused("{}", "signed policy bundle")


def test_a_foreign_bundle_is_refused() -> None:
    refused(token(KeySigner.generate()), "policy key of the agency")
    refused(token(agency="other"), "agency ex")


def test_a_bundle_altered_after_signing_is_refused() -> None:
    head, _, signature = token().split(".")
    _, body, _ = token(version=8).split(".")
    refused(f"{head}.{body}.{signature}", "signature")


def test_a_token_signed_for_another_purpose_is_refused() -> None:
    refused(token(typ="bwc-trust+jws"), "another purpose")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"version": 0}, "version"),
        ({"version": 1.5}, "version"),
        ({"version": "7"}, "version"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2026-13-40T00:00:00.000000Z"}, "time"),
        ({"expires": utc_text(NOW - DAY)}, "expires after"),
        ({"extra": 1}, "extra"),
        ({"pack": {"name": "built-in", "text": TALK}}, "built-in"),
        ({"pack": {"name": "../x", "text": TALK}}, "pack"),
        ({"parameters": {"min_rank": "general"}}, "general"),
        ({"parameters": {"reason_code": "school"}}, "reason_code"),
        ({"gestures": {"name": "two", "patterns": {}}, "limits": {"pause_s": 9, "pause_total_s": 8}}, "limit"),
        ({"gestures": {"name": "two", "patterns": {"wave:record": "start"}}}, "gestures"),
        ({"gestures": {"name": "two", "patterns": {"short:record": "ask_stop", "double:record": "start"}}}, "hold"),
        ({"triggers": {"Siren": {}}}, "trigger"),
        ({"triggers": {f"t{number}": {} for number in range(33)}}, "32"),
        ({"triggers": {"k9": {"mode": "sometimes"}}}, "mode"),
        ({"limits": {"pause_s": -1}}, "pause_s"),
        ({"limits": {"pause_s": 700, "pause_total_s": 600}}, "700"),
        ({"limits": {"pauses": 1}}, "pauses"),
    ],
)
def test_a_bundle_with_a_wrong_field_is_refused_and_the_error_names_it(changes: dict[str, Any], names: str) -> None:
    refused(token(**changes), names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "empty pack"),
        ("// nothing", "empty pack"),
        (TALK.replace("context.exigent", "context.exigen"), "exigen"),
        (TALK.replace("context.exigent", "context.exigent && !context.exigent"), "our.talk.*can never fire"),
        (TALK.replace("context.exigent", "context.critical_incident"), "our.talk.*can never fire"),
        (TALK.replace("permit", "forbid").replace("context.exigent", "context.inactivity_s < 0"), "will never fire"),
    ],
)
def test_a_bundle_whose_pack_is_invalid_empty_or_has_a_dead_rule_is_refused(text: str, names: str) -> None:
    refused(token(pack={"name": "our", "text": text}), names)
    with pytest.raises(PolicyError, match=names):
        sign_bundle(
            KEY,
            agency="ex",
            version=1,
            not_before_ns=NOW,
            expires_ns=NOW + DAY,
            pack=("our", text),
            gestures=TWO_BUTTONS,
        )


@pytest.mark.parametrize(
    "declared", ["reason_spoken=true", "critical_incident=false", "victim_reqest", "x=y", "school+worship"]
)
def test_a_gesture_that_declares_what_no_wearer_can_is_refused(declared: str) -> None:
    patterns = {"double:record": "start", "double:mark": f"declare:{declared}"}
    refused(token(gestures={"name": "two", "patterns": patterns}), declared.partition("=")[0].partition("+")[0])


def test_a_bundle_outside_of_its_validity_is_not_admitted() -> None:
    bundle = read_bundle(token(), [KEY.public_key], "ex")
    admit(bundle, wall(), 0, "")
    for reading, names in (
        (wall(DAY), "expired"),
        (wall(-DAY - 1), "valid from"),
        # A clock that could be wrong by more than is left cannot say that it is valid.
        (wall(DAY - NS, 2.0), "expired"),
        (wall(-DAY + NS, 2.0), "valid from"),
        (wall(uncertainty_s=None), "uncertainty"),
    ):
        with pytest.raises(PolicyError, match=names):
            admit(bundle, reading, 0, "")


def test_a_policy_rolled_back_is_not_admitted() -> None:
    bundle = read_bundle(token(), [KEY.public_key], "ex")
    admit(bundle, wall(), 7, bundle.digest)
    admit(bundle, wall(), 7, "")
    with pytest.raises(PolicyError, match="older"):
        admit(bundle, wall(), 8, "")
    with pytest.raises(PolicyError, match="same version"):
        admit(bundle, wall(), 7, sha256_hex(b"another"))


def test_only_a_trusted_clock_can_tell_that_a_bundle_has_expired() -> None:
    bundle = read_bundle(token(), [KEY.public_key], "ex")
    assert not bundle.surely_expired(wall())
    assert bundle.surely_expired(wall(DAY + NS))
    assert not bundle.surely_expired(wall(DAY + NS, 5.0))
    assert not bundle.surely_expired(wall(DAY + NS, None))


def carrying(**changes: Any) -> dict[str, Any]:
    return {"base": base_rules_text(), "schema": standard().text} | changes


def test_a_bundle_carries_its_base_rules_its_schema_and_every_parameter() -> None:
    made = sign_bundle(
        KEY,
        agency="ex",
        version=7,
        not_before_ns=NOW,
        expires_ns=NOW + DAY,
        pack=("us-ca-lapd", shipped("us-ca-lapd").text),
        gestures=TWO_BUTTONS,
        parameters={"trigger_hold_s": 5},
    )
    told = jws.verify(made, TYP, KEY.public_key)
    assert (told["format"], told["carried"]) == (2, carrying())
    assert told["parameters"] == dict(shipped("us-ca-lapd").parameters) | {"trigger_hold_s": 5}
    assert read_bundle(made, [KEY.public_key], "ex").carried == rules_digest(base_rules_text(), standard().text)


def test_a_bundle_of_before_that_carries_nothing_is_read() -> None:
    bundle = read_bundle(token(), [KEY.public_key], "ex")
    assert bundle.carried == ""
    assert bundle.pack.base_text == base_rules_text()


def test_base_rules_that_an_agency_weakened_never_come_into_force() -> None:
    weak = '@id("base.all") @source("x") permit (principal, action, resource);'
    made = token(format=2, carried=carrying(base=weak))
    refused(made, "sign the pack again")
    with pytest.raises(OtherRulesError) as caught:
        read_bundle(made, [KEY.public_key], "ex", withdrawn=True)
    assert caught.value.rules == rules_digest(weak, standard().text)
    refused(token(format=2, carried=carrying(schema=standard().text + "\n")), "sign the pack again")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"format": 2}, "carried rules"),
        ({"format": 1, "carried": carrying()}, "carried rules"),
        ({"carried": carrying()}, "carried rules"),
        ({"format": 3}, "format"),
        ({"format": 2, "carried": {"base": ""}}, "schema"),
        ({"format": 2, "carried": carrying(extra="")}, "extra"),
    ],
)
def test_what_is_carried_has_its_form(changes: dict[str, Any], names: str) -> None:
    refused(token(**changes), names)


def released(monkeypatch: pytest.MonkeyPatch, schema: str, which: str = "EARLIER_RULES") -> None:
    """As if an earlier release had this schema."""
    monkeypatch.setattr(bundles, which, frozenset({rules_digest(base_rules_text(), schema)}))


def test_withdrawn_rules_are_accepted_in_a_replay_and_by_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    older = standard().text + "\n"
    made = token(format=2, carried=carrying(schema=older))
    released(monkeypatch, older, "WITHDRAWN_RULES")
    refused(made, "sign the pack again")
    assert read_bundle(made, [KEY.public_key], "ex", withdrawn=True).pack.vocabulary.text == older
    released(monkeypatch, older)
    assert read_bundle(made, [KEY.public_key], "ex").pack.vocabulary.text == older


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": standard().text + "\ntype Deep = " + "{a: " * 3000 + "Bool" + "}" * 3000 + ";\n"},
        {"schema": standard().text + "\nnot cedar\n"},
        {"base": "permit (principal, action, resource) when { " + "(" * 3000 + "true" + ")" * 3000 + " };"},
    ],
    ids=["deep schema", "malformed schema", "deep base rules"],
)
def test_carried_rules_that_would_end_the_process_are_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    made = token(format=2, carried=carrying(**changed))
    refused(made, "sign the pack again")
    texts = carrying(**changed)
    monkeypatch.setattr(bundles, "EARLIER_RULES", frozenset({rules_digest(texts["base"], texts["schema"])}))
    refused(made, "nested brackets|Cedar schema")


@pytest.mark.parametrize(("levels", "names"), [(60, "at most 50 levels"), (300, "nested"), (3000, "nested")])
def test_a_signed_pack_nested_to_end_the_process_is_refused(levels: int, names: str) -> None:
    nested = "!(" * levels + "context.exigent" + ")" * levels
    refused(token(pack={"name": "our", "text": TALK.replace("context.exigent", nested)}), names)


def test_a_schema_of_before_an_attribute_decides_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    text = standard().text
    older = text.replace("  battery_pct: Long,\n", "").replace('"battery_pct", ', "")
    assert older != text
    made = token(format=2, carried=carrying(schema=older))
    released(monkeypatch, older)
    bundle = read_bundle(made, [KEY.public_key], "ex")
    assert "battery_pct" not in bundle.pack.vocabulary.attributes
    engine, now = Engine(bundle.pack), Engine(shipped("us-il"))
    for context in (
        {"request_by": "victim", "request_on_recording": True},
        {"request_by": "victim"},
        {"encounter_state": "concluded", "triggers_active": ["holster"]},
        {"person_class": ["confidential_informant"], "enforcement_mode": "force"},
    ):
        asked = {"principal": "wearer", "action": "StopRecording", "context": context}
        for field in (False, True):
            assert engine.decide_worked(asked, field=field) == now.decide_worked(asked, field=field)


def test_a_schema_of_a_release_to_come_is_refused_by_the_attribute_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = standard().text.replace("  battery_pct: Long,\n", "  battery_pct: Long,\n  heart_rate: Long,\n")
    released(monkeypatch, later)
    refused(token(format=2, carried=carrying(schema=later)), "heart_rate")
    for broken in ("", "entity A;", standard().text.replace("entity Place enum", "entity Places enum")):
        released(monkeypatch, broken)
        refused(token(format=2, carried=carrying(schema=broken)), "expected a schema")
