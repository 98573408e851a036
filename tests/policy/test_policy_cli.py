import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agent.cli.policy import policy_app
from agent.errors import BwcError, KeyFileError, PolicyError, ProvisioningError
from agent.keys.files import save_signing_key
from agent.keys.signer import KeySigner
from agent.policy.bundle import read_bundle
from agent.policy.packs import shipped
from tests.support.agency import Agency
from tests.support.policy import OWN

REQUEST: dict[str, Any] = {
    "principal": "wearer",
    "action": "StopRecording",
    "context": {"encounter_state": "on_scene", "request_by": "victim", "request_on_recording": True},
    "parameters": {},
}


def run(*arguments: str, given: object = None) -> Result:
    text = given if isinstance(given, str) else json.dumps(given)
    result = CliRunner().invoke(policy_app, list(arguments), input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit | BwcError):
        raise result.exception
    return result


def refusal(result: Result) -> str:
    """The error that the program prints as its last line, with exit code 2."""
    assert isinstance(result.exception, BwcError)
    return str(result.exception)


def test_decide_prints_one_json_object_with_the_four_fields() -> None:
    result = run("decide", "--pack", "us-il", given=REQUEST)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "decision": "allow",
        "rules": ["us-il.victim-witness"],
        "obligations": ["capture_request_on_recording", "log_reason_code", "resume_when_exception_ends"],
        "missing": [],
    }


@pytest.mark.parametrize("levels", [60, 300, 3000])
def test_a_pack_nested_to_end_the_process_is_refused_by_every_command(tmp_path: Path, levels: int) -> None:
    condition = "!(" * levels + "context.exigent" + ")" * levels
    text = (
        f'@id("our.talk") @source("x") permit (principal, action == Action::"Mute", resource) when {{ {condition} }};'
    )
    pack, key, target = tmp_path / "our.cedar", tmp_path / "policy.pem", tmp_path / "our.jws"
    pack.write_text(text)
    save_signing_key(key, KeySigner.generate()._private_key, None, os.urandom)
    signing = ["--key", str(key), "--agency", "ex", "--version", "1", "-o", str(target)]
    for arguments in (["test", "--pack", str(pack)], ["show", str(pack)], ["sign", str(pack), *signing]):
        said = refusal(run(*arguments))
        assert said.startswith("our: ")
        assert "at most 50 levels" in said or "at most 100 nested brackets" in said
    assert not target.exists()


def test_a_denial_is_an_answer_and_an_exit_code_only_where_asked_for() -> None:
    unheard = {**REQUEST, "context": {"request_by": "victim"}}
    result = run("decide", "--pack", "us-il", given=unheard)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["decision"] == "deny"
    assert json.loads(result.stdout)["missing"] == ["request_on_recording"]
    assert run("decide", "--pack", "us-il", "--exit-code", given=unheard).exit_code == 1
    assert run("decide", "--pack", "us-il", "--exit-code", given=REQUEST).exit_code == 0


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({**REQUEST, "context": {"reqest_by": "victim"}}, "reqest_by"),
        ({**REQUEST, "context": {"request_by": "mayor"}}, "mayor"),
        ({**REQUEST, "action": "Stop"}, "Stop"),
        ({**REQUEST, "id": "IL-01"}, "id"),
        ("not json", "not json"),
        ('{"principal": "wearer", "principal": "supervisor"}', "twice"),
        ("[]", "object"),
    ],
)
def test_a_malformed_request_is_denied_names_what_is_wrong_and_exits_2(given: object, names: str) -> None:
    result = run("decide", "--pack", "us-il", given=given)
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert answer["decision"] == "deny"
    assert answer["rules"] == []
    assert names in answer["error"]
    assert names in result.stderr


def test_in_the_field_what_the_request_leaves_out_is_unknown() -> None:
    answer = json.loads(run("decide", "--pack", "us-il", "--field", given={**REQUEST, "parameters": {}}).stdout)
    assert answer["decision"] == "deny"
    assert answer["missing"] == []
    assert "enforcement_mode" in answer["unknown"]


def test_an_unknown_pack_is_refused() -> None:
    assert "us-xx" in refusal(run("decide", "--pack", "us-xx", given=REQUEST))


def test_explain_says_what_keeps_each_permit_from_firing() -> None:
    result = run("explain", "--pack", "us-nj", given=REQUEST)
    assert result.exit_code == 0
    assert "not met: context.reason_spoken" in result.stdout
    assert "say the reason aloud, then ask again" in result.stdout
    assert "P.L.2020 c.129" in result.stdout


def test_explain_refuses_a_malformed_request() -> None:
    assert "nope" in refusal(run("explain", "--pack", "us-nj", given="nope"))
    assert "mayor" in refusal(run("explain", "--pack", "us-nj", given={**REQUEST, "principal": "mayor"}))


def test_an_agency_tests_its_own_pack_with_its_own_cases(tmp_path: Path) -> None:
    pack = tmp_path / "ours.cedar"
    pack.write_text(shipped("us-il").text)
    passed = run("test", str(OWN / "us-il.json"), "--pack", str(pack))
    assert passed.exit_code == 3, "the device's own gestures declare nothing that these rules read"
    assert " 0 failed" in passed.stdout
    # The same with one condition lost: a case and a flip say which.
    pack.write_text(
        shipped("us-il").text.replace("(context.request_on_recording || context.capture_impractical)", "true")
    )
    failed = run("test", str(OWN / "us-il.json"), "--pack", str(pack))
    assert failed.exit_code == 1
    assert "FAILED us-il/victim-unheard: expected deny, got allow" in failed.stdout
    assert 'FAILED us-il/victim flip {"request_on_recording": false}' in failed.stdout
    report = json.loads(run("test", str(OWN / "us-il.json"), "--pack", str(pack), "--json").stdout)
    assert {each["case"] for each in report["failed"]} >= {"us-il/victim", "us-il/victim-unheard"}


def test_cases_run_against_the_pack_they_name_and_others_are_left_out_for_a_named_pack(tmp_path: Path) -> None:
    cases = [*json.loads((OWN / "us-wa.json").read_bytes()), *json.loads((OWN / "us-dc.json").read_bytes())]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases))
    passed = run("test", str(path))
    assert passed.exit_code == 3
    assert "WARNING case us-wa/reason: the rules allow it, a camera refuses: no gesture declares" in passed.stdout
    assert "left out" in run("test", str(path), "--pack", "us-dc").stdout
    assert "us-nj" in refusal(run("test", str(path), "--pack", "us-nj"))
    assert run("test", str(path), "--pack", "agent/policy/packs/us-dc.cedar").exit_code != 0


def test_gestures_alone_are_tested_without_cases() -> None:
    reached = run("test", "--pack", "us-nj", "--layout", "three-buttons")
    assert reached.exit_code == 0
    assert "us-nj on a camera with the layout us-nj.three-buttons:" in reached.stdout
    assert "PrivacyPause: hold 5s:privacy, then hold 2s:privacy" in reached.stdout
    assert "WARNING" not in reached.stdout
    unmeasured = run("test", "--pack", "aclu-model")
    assert unmeasured.exit_code == 0, "no layout mends what no camera measures"
    assert "no camera measures left_scene" in unmeasured.stdout
    assert "expected a file of cases" in refusal(run("test"))
    assert "four-buttons" in refusal(run("test", "--pack", "us-nj", "--layout", "four-buttons"))


def test_settings_are_tested_as_they_would_be_signed(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[gestures]\n"double:record" = "start"\n"hold 3s:record" = "ask_stop"\n')
    result = run("test", "--pack", "us-tx-sanantonio", "--settings", str(settings), "--json")
    assert result.exit_code == 3
    [camera] = json.loads(result.stdout)["camera"]
    assert camera["no_stop"] is True
    stop = camera["permits"][0]
    assert (stop["rule"], stop["reached"], stop["obstacle"]) == ("us-tx-sanantonio.concluded", False, "no_gesture")
    assert stop["suggestion"] == "declare:encounter_state=concluded+enforcement_mode=none"
    settings.write_text(settings.read_text() + f'"double:mark" = "{stop["suggestion"]}"\n')
    assert run("test", "--pack", "us-tx-sanantonio", "--settings", str(settings)).exit_code == 3, "no privacy pause"
    settings.write_text(settings.read_text() + '"hold 2s:mark" = "ask_privacy"\n')
    assert run("test", "--pack", "us-tx-sanantonio", "--settings", str(settings)).exit_code == 0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[]", "empty"),
        ("{}", "list of cases"),
        ('[{"id": "a"}]', "principal"),
        (
            json.dumps([{"id": "a", "principal": "wearer", "action": "Mute", "context": {}, "expected": "deny"}] * 2),
            "twice",
        ),
        (
            json.dumps([{"id": "a", "principal": "wearer", "action": "Mute", "context": {}, "expected": "deny"}]),
            "pack",
        ),
    ],
)
def test_a_file_that_holds_no_cases_is_refused(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "cases.json"
    path.write_text(text)
    assert names in refusal(run("test", str(path)))


def test_a_case_that_misspells_an_attribute_fails_even_if_it_expects_a_denial(tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    case = {"id": "a", "principal": "wearer", "action": "Mute", "context": {"exigen": True}, "expected": "deny"}
    path.write_text(json.dumps([case]))
    result = run("test", str(path), "--pack", "us-il")
    assert result.exit_code == 1
    assert "exigen" in result.stdout


def test_a_signed_bundle_is_what_a_camera_takes_and_show_checks_it(tmp_path: Path) -> None:
    agency = Agency()
    key, bundle, trust, settings = (tmp_path / name for name in ("policy.pem", "b.jws", "trust.jws", "settings.toml"))
    save_signing_key(key, agency.policy._private_key, None, os.urandom)
    trust.write_text(agency.token())
    settings.write_text(
        """
        [parameters]
        min_preevent_s = 45
        [gestures]
        "double:record" = "start"
        "hold 3s:record" = "ask_stop"
        "double:mark" = "declare:victim_request"
        [triggers.k9_door]
        mode = "edge"
        [limits]
        pause_s = 60
        """
    )
    arguments = ["us-il", "--key", str(key), "--agency", agency.name, "--version", "4", "--settings", str(settings)]
    signed = run("sign", *arguments, "-o", str(bundle))
    assert signed.exit_code == 0, signed.exception
    warned = [line for line in signed.stderr.splitlines() if line.startswith("WARNING: ")]
    assert any("us-il.victim-witness" in line and "no gesture declares enforcement_mode" in line for line in warned)
    assert "no recording can ever be stopped" in warned[-1]
    tested = run("test", "--pack", str(bundle), "--trust", str(trust))
    assert tested.exit_code == 3
    assert [line for line in tested.stdout.splitlines() if line.startswith("WARNING ")] == [
        line.replace("WARNING: ", "WARNING ") for line in warned
    ]
    assert "--settings" in refusal(run("test", "--pack", str(bundle), "--settings", str(settings)))
    read = read_bundle(bundle.read_text(), [agency.policy.public_key], agency.name)
    assert read.pack.parameters["min_preevent_s"] == 45
    assert read.limits.pause_s == 60
    assert dict(read.gestures.text())["double:mark"] == "declare:victim_request"
    shown = json.loads(run("show", str(bundle), "--trust", str(trust), "--json").stdout)
    assert (shown["version"], shown["pack"], shown["bundle"]) == (4, "us-il", read.digest)
    assert "version: 4" in run("show", str(bundle), "--trust", str(trust)).stdout
    assert isinstance(run("sign", *arguments, "-o", str(bundle)).exception, ProvisioningError)
    assert "trust" in refusal(run("show", str(bundle)))
    trust.write_text(Agency().token())
    assert "policy key" in refusal(run("show", str(bundle), "--trust", str(trust)))


@pytest.mark.parametrize(
    ("text", "names"), [("x = ", "settings"), ("[pack]", "pack"), ("[limits]\npause_s = -1", "pause_s")]
)
def test_wrong_settings_are_not_signed(tmp_path: Path, text: str, names: str) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(text)
    output = tmp_path / "b.jws"
    arguments = ["us-il", "--key", "policy.pem", "--agency", "ex", "--version", "1", "-o", str(output)]
    assert names in refusal(run("sign", *arguments, "--settings", str(settings)))
    assert not output.exists()


def test_signing_needs_a_key_a_known_layout_and_a_pack_without_dead_rules(tmp_path: Path) -> None:
    key, output, pack = tmp_path / "policy.pem", tmp_path / "b.jws", tmp_path / "ours.cedar"
    base = ["--agency", "ex", "--version", "1", "-o", str(output)]
    assert isinstance(run("sign", "us-il", "--key", str(key), *base).exception, KeyFileError)
    save_signing_key(key, KeySigner.generate()._private_key, None, os.urandom)
    assert "four" in refusal(run("sign", "us-il", "--key", str(key), "--layout", "four", *base))
    pack.write_text('@id("our.a") @source("x") permit (principal, action, resource) when { false };')
    assert "our.a" in refusal(run("sign", str(pack), "--key", str(key), *base))
    pack.write_bytes(b"\xff")
    assert "UTF-8" in refusal(run("sign", str(pack), "--key", str(key), *base))
    assert "ours" in refusal(run("sign", str(tmp_path / "ours2.cedar"), "--key", str(key), *base))
    assert not output.exists()


def test_show_lists_the_packs_and_tells_the_rules_of_one() -> None:
    assert "us-nv-lvmpd" in run("show").stdout.split()
    assert len(json.loads(run("show", "--json").stdout)) == 24
    assert "P.L.2020 c.129" in run("show", "us-nj").stdout
    document = json.loads(run("show", "us-nj", "--json").stdout)
    assert {rule["id"] for rule in document["rules"]} >= {"us-nj.break", "base.force"}
    assert isinstance(run("show", "us-xx").exception, PolicyError)


@pytest.mark.parametrize("command", ["decide", "explain", "test", "sign", "show"])
def test_every_command_has_help_with_an_example_and_exit_codes(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    assert "Example:" in text
    assert "Exit codes:" in text
