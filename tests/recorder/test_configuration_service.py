"""Wrong and reloaded configurations with a recorder as a real process: it records, and says what it works with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.device_state.configuration import FILE
from agent.encoding.strict_json import sha256_hex
from agent.errors import ControlError
from agent.journal import entries
from agent.recorder.launch import PAUSE_S, UNUSABLE
from tests.support.running import ROOT, Running, ServiceManager, change, command, provision, wait_for

SOON_S = 8.0
"""A recorder that has to begin with another configuration records within this time, on a crowded machine too."""


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    return provision(tmp_path / "pilot")


def once_good(recorder: Running) -> None:
    """Run it until its configuration is kept as good, and end it."""
    kept = recorder.config.parent / "state" / FILE
    with_it = recorder.start()
    wait_for(kept.exists)
    assert with_it.terminate() == 0


def used(recorder: Running, boot: int) -> list[entries.ConfigurationUsed]:
    return [entry for entry in recorder.entries(boot) if isinstance(entry, entries.ConfigurationUsed)]


@pytest.mark.parametrize(
    ("old", "new"), [("[buffer]", "[buffer"), ("max_mb = 96", "max_mbytes = 96"), ("fps = 30", "fps = 0")]
)
def test_recorder_with_a_typo_records_with_the_last_good_configuration_and_reports_it(
    pilot: Path, old: str, new: str
) -> None:
    recorder = Running(pilot)
    once_good(recorder)
    good = sha256_hex(pilot.read_bytes())
    change(pilot, old, new)
    began = time.monotonic()
    with recorder:
        recording = recorder.record(0.5)
        assert time.monotonic() - began < SOON_S
        status = recorder.until(lambda status: status["self_test"] is not None)
        assert status["configuration"]["origin"] == "last_good"
        assert status["configuration"]["digest"] == good
        assert "config.toml" in status["configuration"]["problem"]
        assert "configuration" in status["self_test"]["failed"], "the wearer is shown a fault, and not that it is ready"
        said = command("ctl", "status", "--config", str(pilot))
        assert said.returncode == 1
        assert "LAST GOOD, not the file" in said.stdout
        assert recorder.terminate() == 0
    assert "WARNING: " in recorder.said()
    boot = recorder.entries(2)[0]
    assert isinstance(boot, entries.Boot)
    assert boot.configuration == good
    assert [(entry.what, entry.configuration) for entry in used(recorder, 2)] == [("last_good", good)]
    assert recording.startswith(boot.tag)
    code, report = recorder.verify()
    assert code == 0, report


def test_first_start_with_a_typo_records_with_what_is_valid_in_the_file(pilot: Path) -> None:
    recorder = Running(pilot)
    change(pilot, "segment_s = 60.0", "segment_s = sixty")
    with recorder:
        recorder.record(0.5)
        assert recorder.status()["configuration"]["origin"] == "built_in"
        assert recorder.terminate() == 0
    assert [entry.what for entry in used(recorder, 1)] == ["built_in"]
    assert not (pilot.parent / "state" / FILE).exists(), "what replaces a file is no good configuration of it"
    code, report = recorder.verify()
    assert code == 0, report


def test_file_that_says_nothing_records_from_the_start(pilot: Path) -> None:
    recorder = Running(pilot)
    run = recorder.run_directory
    pilot.write_text(f'[run]\ndirectory = "{run}"\n')
    log = recorder.log.open("ab")
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(pilot)], stdout=log, stderr=log, cwd=ROOT
        )
    try:

        def recording() -> bool:
            try:
                return bool(recorder.status()["recording"])
            except ControlError:
                return False

        wait_for(recording, recorder.said)
        assert recorder.status()["configuration"]["origin"] == "built_in"
    finally:
        process.terminate()
        assert process.wait(20) == 0
        run.rmdir() if not any(run.iterdir()) else None
    causes = [entry.cause for entry in recorder.entries() if isinstance(entry, entries.RecordingStarted)]
    assert causes == ["configuration"]


def test_new_camera_that_is_not_there_gives_way_to_the_last_good_one(pilot: Path) -> None:
    recorder = Running(pilot)
    once_good(recorder)
    good = sha256_hex(pilot.read_bytes())
    change(pilot, 'camera = "pattern:160x120@30"', 'camera = "replay:/nowhere/street.mp4"')
    with recorder.log.open("ab") as log:
        recorder.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(pilot)], stdout=log, stderr=log, cwd=ROOT
        )
    pid = recorder.pid

    def serves() -> bool:
        try:
            return bool(recorder.status()["tracks"])
        except ControlError:
            return False

    try:
        until = time.monotonic() + 40
        while not serves():
            assert time.monotonic() < until, recorder.said()
            assert recorder.process.poll() is None, "to a service manager it is the same process"
            time.sleep(0.1)
        status = recorder.status()
        assert (status["configuration"]["origin"], status["configuration"]["digest"]) == ("last_good", good)
        assert "street.mp4' has delivered nothing for 15 s" in status["configuration"]["problem"]
        assert recorder.pid == pid
        recorder.record(0.5)
        assert recorder.terminate() == 0
    finally:
        recorder.__exit__()
    assert [entry.what for entry in used(recorder, 3)] == ["last_good"]


def test_recording_that_began_on_a_storage_that_is_not_there_continues_on_the_last_good_one(pilot: Path) -> None:
    """A start within the patience for a new storage kept the recorder on it for good, and nothing was ever stored."""
    change(pilot, "max_mb = 96", "max_mb = 1")
    change(pilot, 'camera = "pattern:160x120@30"', 'camera = "pattern:640x360@30"')
    recorder = Running(pilot)
    once_good(recorder)
    change(pilot, 'path = "evidence"', 'path = "/proc/evidence"')
    with recorder.log.open("ab") as log:
        recorder.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(pilot)], stdout=log, stderr=log, cwd=ROOT
        )

    def wait(done: Callable[[dict[str, Any]], bool], seconds: int) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while True:
            try:
                status = recorder.status()
            except ControlError:
                status = {}
            if status and done(status):
                return status
            assert time.monotonic() < until, recorder.said()
            time.sleep(0.1)

    try:
        wait(lambda status: bool(status["tracks"]), 30)
        recorder.ask("start")
        wait(lambda status: status["mode"] == "recording", 10)
        status = wait(lambda status: status["configuration"]["origin"] == "last_good" and status["boot"] > 0, 120)
        wait(lambda status: status["mode"] == "recording", 30)
        boot = status["boot"]
        wait(lambda _: any(isinstance(entry, entries.SegmentOpened) for entry in recorder.entries(boot)), 30)
        assert recorder.terminate() == 0
    finally:
        recorder.__exit__()
    [started] = [entry for entry in recorder.entries(boot) if isinstance(entry, entries.RecordingStarted)]
    assert started.cause == "configuration"


def test_reload_changes_a_running_recording_s_segments_and_ends_nothing(pilot: Path) -> None:
    with Running(pilot) as recorder:
        recording = recorder.record(0.5)
        os.kill(recorder.pid, signal.SIGHUP)  # a terminal that goes away
        change(pilot, "segment_s = 60.0", "segment_s = 2.0")
        change(pilot, "max_mb = 96", "max_mb = 64")
        done = command("reload", "--config", str(pilot))
        assert done.returncode == 0, done.stderr
        assert done.stdout == "applied: recording.segment_s\nneeds a restart: buffer.max_mb\n"
        wait_for(lambda: sum(isinstance(entry, entries.SegmentOpened) for entry in recorder.entries()) >= 3)
        change(pilot, "[buffer]", "[buffer")
        refused = command("reload", "--config", str(pilot))
        assert refused.returncode == 2
        assert "nothing was changed" in refused.stderr
        assert recorder.status()["recording"] == recording
        change(pilot, "[buffer", "[buffer]")
        assert json.loads(command("reload", "--config", str(pilot), "--json").stdout)["applied"] == []
        assert recorder.terminate() == 0
    said = recorder.entries()
    kinds = [entry.what for entry in said if isinstance(entry, entries.ConfigurationUsed)]
    assert kinds == ["reloaded", "refused", "reloaded"]
    assert not [entry for entry in said if isinstance(entry, entries.RecordingEnded | entries.SourceGap)]
    code, report = recorder.verify()
    assert code == 0, report


def test_recorder_without_an_identity_ends_by_itself_slowly_under_a_service_manager(
    pilot: Path, tmp_path: Path
) -> None:
    (pilot.parent / "device.pem").unlink()
    manager = ServiceManager(tmp_path)  # it listens; nothing is said to it
    argv = [sys.executable, "-m", "agent", "run", "--config", str(pilot)]
    environment = {**os.environ, "NOTIFY_SOCKET": str(manager.path)}
    began = time.monotonic()
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "nothing can be recorded: file: " in said
        assert process.poll() is None, "it does not end at once: the service manager would start it again at once"
        process.terminate()
        assert process.wait(5) == UNUSABLE
    assert time.monotonic() - began < PAUSE_S, "and SIGTERM is not kept waiting"
    manager.close()
