"""The demonstration's claims can fail, and it takes the broker that is there."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.demo import docking
from agent.demo.docking import Dock, choose_broker, free_port
from agent.demo.stage import Background, DemoFailed, Transcript, signals_held
from agent.errors import ConfigError
from agent.station.store import Store
from tests.support.commands import bwc_agent

TIME = "2026-11-20T10:00:00.000000Z"


def test_claim_that_does_not_hold_ends_the_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    Transcript().claim("this is so", holds=True)
    with pytest.raises(DemoFailed, match="is not so: that is"):
        Transcript().claim("that is", holds=False)
    assert "that is" not in capsys.readouterr().out


def test_failed_claim_is_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_story: object) -> None:
        Transcript().claim("all is well", holds=False)

    monkeypatch.setattr("agent.demo.story.Story._provision", fail)
    monkeypatch.setattr("agent.demo.story.choose_broker", str)
    ran = bwc_agent("demo", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "all is well" in ran.err


def test_camera_that_spoke_while_undocked_is_noticed(tmp_path: Path) -> None:
    office = tmp_path / "agency" / "station"
    office.mkdir(parents=True)
    store = Store(office / "station.sqlite")
    dock = Dock(tmp_path, agency="a", device="cam-1", broker="mosquitto", asked_for=True, port=1, say=Transcript())
    dock.claim_silence()
    with store.transaction():
        store.put_state("cam-1", "docked", "0" * 16, TIME)
    store.close()
    with pytest.raises(DemoFailed, match="silent"):
        dock.claim_silence()
    dock.end()


def test_process_that_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = Background(["sh", "-c", "echo no such port >&2; exit 1"], tmp_path / "broker.log")
    with pytest.raises(DemoFailed, match="broker ended: no such port"):
        process.until("it listens", lambda: False)
    process.end()


@pytest.mark.parametrize(
    ("wanted", "mosquitto", "amqtt", "chosen"),
    [
        ("auto", True, True, "mosquitto"),
        ("auto", True, False, "mosquitto"),
        ("auto", False, True, "embedded"),
        ("embedded", True, True, "embedded"),
        ("auto", False, False, None),
        ("mosquitto", False, True, None),
        ("embedded", True, False, None),
        ("rabbitmq", True, True, None),
    ],
)
def test_broker_is_the_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str, mosquitto: bool, amqtt: bool, chosen: str | None
) -> None:
    monkeypatch.setattr(docking, "_mosquitto", lambda: "/usr/sbin/mosquitto" if mosquitto else None)
    monkeypatch.setattr(docking, "find_spec", lambda _name: object() if amqtt else None)
    if chosen is None:
        with pytest.raises(ConfigError):
            choose_broker(wanted)
    else:
        assert choose_broker(wanted) == chosen


def test_free_port_is_free() -> None:
    assert not docking._listens(free_port())


def test_demonstration_that_is_ended_leaves_no_process_behind(tmp_path: Path) -> None:
    if docking._mosquitto() is None:
        pytest.skip("Debian's mosquitto is not installed: make test-tools")
    out = tmp_path / "out"
    told = subprocess.Popen([sys.executable, "-m", "agent", "demo", "--out", str(out)], stdout=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while len(running(out)) < 5:
            assert time.monotonic() < end, running(out)
            assert told.poll() is None
            time.sleep(0.1)
        told.terminate()
        assert told.wait(30) == 128 + signal.SIGTERM
        assert running(out) == []
    finally:
        told.kill()
        told.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_that_comes_while_a_process_is_started_comes_once_it_is_known(number: signal.Signals) -> None:
    seen: list[str] = []
    before = signal.signal(number, lambda _number, _frame: seen.append("signal"))
    try:
        with signals_held():
            signal.raise_signal(number)
            seen.append("known")
        assert seen == ["known", "signal"]
    finally:
        signal.signal(number, before)


def running(out: Path) -> list[str]:
    """Commands of the processes that name this folder: the demonstration, recorder, broker, station and dock."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(out) in command and "policy sign" not in command and " init " not in command:
                found.append(command)
    return found


def test_film_that_is_not_there_is_named_before_anything_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = bwc_agent("demo", "--out", out, "--camera", f"replay:{tmp_path}/nowhere.mp4", "--broker", "auto").refusal
    assert f"a film to replay as the camera at {tmp_path}/nowhere.mp4, found none" in said
    assert not out.exists()
