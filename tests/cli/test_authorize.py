import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS
from agent.config.template import write_config
from agent.errors import ControlError, EvidenceError
from agent.gpio.config import BENCH_CONTROLS
from agent.keys import jws
from agent.keys.files import load_signer, read_token
from agent.provisioning.agency import Provisioned, provision
from agent.recorder.ipc.local_socket import LocalServer
from agent.trust.authorization import TYP, Authorization, check
from agent.trust.document import verify_trust
from agent.trust.replay_guard import ReplayGuard
from tests.support.clocks import FakeClocks
from tests.support.commands import Ran, bwc_agent
from tests.support.stores import MemoryStore, used_in

CLOCKS = FakeClocks()
RECORDING = "3f9a1c20b7d4-0001"


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.clock.SystemClocks", lambda: CLOCKS)


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    made = provision(tmp_path_factory.mktemp("made") / "pilot", "city", "cam-1", clocks=CLOCKS, random_bytes=os.urandom)
    write_config(made.device, camera="pattern", controls=BENCH_CONTROLS)
    return made


@dataclass
class Camera:
    """What a recorder does with an authorisation, behind its real socket."""

    pilot: Provisioned
    recording: str = RECORDING

    def __post_init__(self) -> None:
        identity = load_signer(f"file:{self.pilot.device_key}")
        self.trust = verify_trust(read_token(self.pilot.trust), load_signer(f"file:{self.pilot.root}").public_key)
        self.used = ReplayGuard(used_in(MemoryStore(), identity), fresh=True)
        self.taken: list[Authorization] = []

    def take(self, token: str) -> Authorization:
        taken = check(
            token,
            trust=self.trust,
            device="cam-1",
            recording=self.recording,
            wall=CLOCKS.wall(),
            used=self.used,
        )
        self.taken.append(taken)
        return taken

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        match request:
            case {"ask": "status"}:
                return {"device": "cam-1", "recording": self.recording}
            case {"ask": "authorize", "token": str(token)}:
                return {"action": self.take(token).action}
            case _:
                raise ControlError(22, "nothing else is done here")


@pytest.fixture
def camera(pilot: Provisioned) -> Iterator[Camera]:
    camera = Camera(pilot)
    server = LocalServer(pilot.device / "run", camera.answer, pytest.fail)
    server.start()
    try:
        yield camera
    finally:
        server.close()


def authorize(pilot: Provisioned, *args: str | Path, action: str = "StopRecording", key: Path | None = None) -> Ran:
    return bwc_agent("authorize", "--key", key or pilot.supervisor, "--action", action, *args)


def for_this(pilot: Provisioned, *args: str | Path, action: str = "StopRecording", key: Path | None = None) -> Ran:
    return authorize(pilot, "--device", "cam-1", "--recording", RECORDING, *args, action=action, key=key)


def test_printed_token_is_accepted_by_the_camera(pilot: Provisioned) -> None:
    ran = for_this(pilot, "--name", "Lt. C. Poe", "--valid-s", "120")
    assert (ran.code, ran.err) == (0, "")
    taken = Camera(pilot).take(ran.out.strip())
    assert (taken.action, taken.type, taken.rank) == ("StopRecording", "supervisor_remote", "lieutenant")
    assert (taken.authoriser, taken.recording) == ("Lt. C. Poe", RECORDING)
    assert taken.expires_ns == CLOCKS.wall().utc_ns + 120 * NS


def test_type_rank_and_action_are_those_that_were_asked_for(pilot: Provisioned) -> None:
    ran = for_this(pilot, "--type", "supervisor_onscene", "--rank", "sergeant", action="ReleaseCriticalIncident")
    taken = Camera(pilot).take(ran.out.strip())
    assert (taken.action, taken.type, taken.rank) == ("ReleaseCriticalIncident", "supervisor_onscene", "sergeant")


def test_authoriser_defaults_to_the_login_name(pilot: Provisioned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "cpoe")
    assert Camera(pilot).take(for_this(pilot).out.strip()).authoriser == "cpoe"


def test_json_says_what_was_signed(pilot: Provisioned) -> None:
    ran = for_this(pilot, "--json", "--valid-s", "60")
    printed = json.loads(ran.out)
    token = printed.pop("token")
    assert printed == {
        "device": "cam-1",
        "recording": RECORDING,
        "action": "StopRecording",
        "type": "supervisor_remote",
        "rank": "lieutenant",
        "expires": "2026-11-18T11:07:40.000000Z",
    }
    assert Camera(pilot).take(token)


def test_token_file_is_private_and_never_overwritten(pilot: Provisioned, tmp_path: Path) -> None:
    out = tmp_path / "leave.jws"
    ran = for_this(pilot, "--out", out)
    assert ran.code == 0
    assert str(out) in ran.out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    assert Camera(pilot).take(read_token(out))
    assert "never overwritten" in for_this(pilot, "--out", out).refusal
    assert out.read_bytes() == before
    assert "does not take a new file" in for_this(pilot, "--out", tmp_path / "nowhere" / "leave.jws").refusal


# -- handed to the recorder -------------------------------------------------------------------------------------------


def test_sent_token_is_accepted_by_the_running_recorder(pilot: Provisioned, camera: Camera) -> None:
    ran = authorize(pilot, "--send", "--config", pilot.device / "config.toml")
    assert ran.code == 0, ran.err
    assert "accepted by the recorder" in ran.out
    assert [(taken.device, taken.recording) for taken in camera.taken] == [("cam-1", RECORDING)]


def test_token_for_another_camera_is_refused_with_the_recorders_reason(pilot: Provisioned, camera: Camera) -> None:
    ran = authorize(pilot, "--device", "cam-2", "--send", "--config", pilot.device / "config.toml")
    assert "expected an authorisation for the device cam-1, got one for cam-2" in ran.refusal
    assert camera.taken == []


def test_authorisation_without_a_recording_is_refused(pilot: Provisioned, camera: Camera) -> None:
    camera.recording = ""
    ran = authorize(pilot, "--send", "--config", pilot.device / "config.toml")
    assert ran.code == 2
    assert "--recording" in ran.err


def test_sending_without_a_running_recorder_is_refused(pilot: Provisioned) -> None:
    ran = for_this(pilot, "--send", "--config", pilot.device / "config.toml")
    assert "no recorder answers" in ran.refusal


def test_sent_token_as_json(pilot: Provisioned, camera: Camera) -> None:
    ran = authorize(pilot, "--send", "--config", pilot.device / "config.toml", "--json")
    printed = json.loads(ran.out)
    assert printed["answer"] == {"action": "StopRecording"}
    with pytest.raises(EvidenceError, match="used before"):
        camera.take(printed["token"])


# -- what is not signed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("office", ["policy", "station", "root"])
def test_key_of_another_role_is_refused(pilot: Provisioned, office: str) -> None:
    assert (
        "expected a supervisor or investigator or prosecutor key" in for_this(pilot, key=getattr(pilot, office)).refusal
    )


def test_authority_of_another_role_is_refused(pilot: Provisioned) -> None:
    assert "by a prosecutor key, got one by the supervisor key" in for_this(pilot, "--type", "prosecutor").refusal


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--action", "Stop"), "ReleaseCriticalIncident"),
        (("--type", "chief"), "supervisor_remote"),
        (("--rank", "captain"), "lieutenant"),
        (("--valid-s", "901"), "--valid-s"),
        (("--valid-s", "0"), "--valid-s"),
        (("--send",), "--config"),
        (("--recording", ""), "--recording"),
        (("--device", ""), "--device"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named_and_nothing_is_signed(pilot: Provisioned, args: tuple[str, ...], named: str) -> None:
    ran = for_this(pilot, *args)
    assert (ran.code, ran.out) == (2, "")
    assert named in ran.err


@pytest.mark.parametrize(
    ("args", "named"), [(("--device", "a/b"), "device"), (("--name", "A\nB"), "authoriser")], ids=str
)
def test_a_malformed_name_is_refused_in_one_line(pilot: Provisioned, args: tuple[str, ...], named: str) -> None:
    assert f"$.{named}" in for_this(pilot, *args).refusal


def test_a_missing_key_or_trust_document_is_refused_in_one_line(pilot: Provisioned, tmp_path: Path) -> None:
    assert "No such file" in for_this(pilot, "--trust", pilot.trust, key=tmp_path / "none.pem").refusal
    alone = tmp_path / "keys" / "mine" / "supervisor.pem"
    alone.parent.mkdir(parents=True)
    alone.write_bytes(pilot.supervisor.read_bytes())
    alone.chmod(0o600)
    assert "name it with --trust" in for_this(pilot, key=alone).refusal
    assert for_this(pilot, "--trust", pilot.trust, key=alone).code == 0


def test_a_key_that_others_may_read_is_refused(pilot: Provisioned, tmp_path: Path) -> None:
    loose = tmp_path / "supervisor.pem"
    loose.write_bytes(pilot.supervisor.read_bytes())
    loose.chmod(0o644)
    assert "only its owner can read" in for_this(pilot, "--trust", pilot.trust, key=loose).refusal


def test_a_passphrase_comes_from_a_file_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    made = provision(
        tmp_path / "pilot", "city", "cam-1", clocks=CLOCKS, random_bytes=os.urandom, passphrase="correct horse"
    )
    right, wrong, empty = tmp_path / "right", tmp_path / "wrong", tmp_path / "empty"
    right.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    empty.write_text("")
    for path in (right, wrong, empty):
        path.chmod(0o600)
    ran = for_this(made, "--passphrase-file", right)
    assert jws.unverified_payload(ran.out.strip(), TYP)["device"] == "cam-1"
    for path in (wrong, empty):
        assert "passphrase" in for_this(made, "--passphrase-file", path).refusal
    assert "passphrase" in for_this(made, "--passphrase-file", tmp_path / "none").refusal
    assert "--passphrase-file" in for_this(made).refusal, "nobody is there to be asked"
