import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.cli.ctl import _lines
from agent.errors import ControlError
from agent.recorder.ipc.local_socket import LocalServer

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "agency": "city",
    "device": "cam-1",
    "mode": "recording",
    "recording": "abc-0001",
    "recording_s": 12.3,
    "boot": 2,
    "boot_tag": "abc",
    "uptime_s": 60.0,
    "policy": "us-mo-kcpd, version 1",
    "tracks": {"video": {"codec": "h264", "age_ms": 20}, "audio": {"codec": "aac", "age_ms": 20}},
    "source": "pattern",
    "source_delivering": True,
    "openings": 1,
    "memory_bytes": 5_000_000,
    "backlog_ms": 200,
    "storage_free_bytes": 32_000_000_000,
    "time_left_s": 64_000,
    "storage_failing": False,
    "slowest_sync_ms": 12,
    "sync_ms": {"count": 300, "p50": 1.5, "p95": 4.0, "p99": 9.25, "max": 12.0},
    "journal_line": 99,
    "clock": "ntp",
    "clock_within_ms": 12,
    "faulty_lines": [],
    "dock_contact": False,
    "docked": False,
    "station": "",
    "requests": 3,
    "refused": 1,
    "missing": [],
    "locked_memory": True,
    "configuration": {"origin": "file", "digest": "0" * 64, "problem": "", "pending": []},
    "power": {
        "battery_percent": 41.5,
        "battery_volts": 3.71,
        "battery_percent_an_hour": -11.0,
        "charging": False,
        "celsius": 48.3,
        "undervoltage": True,
        "throttled": False,
        "saving": "saving",
        "bit_rate_lowered": True,
        "unknown": {},
    },
}


class Recorder:
    """Stands in for a running recorder at the socket, with the answers that a test sets."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.recording = "abc-0001"
        self.status = STATUS
        self.refusal = ""

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        if self.refusal:
            raise ControlError(1, self.refusal)
        match request["ask"]:
            case "status":
                return self.status
            case _:
                return {"recording": self.recording}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bwc-") as name:
        (Path(name) / "config.toml").write_text(
            '[device]\nkey = "file:k"\ncertificate = "c"\ntrust = "t"\nroot = "r"\n'
            '[storage]\npath = "evidence"\n[run]\ndirectory = "run"\n'
        )
        yield Path(name)


@pytest.fixture
def recorder(folder: Path) -> Iterator[Recorder]:
    made = Recorder()
    server = LocalServer(folder / "run", made.answer, lambda _why: None)
    server.start()
    try:
        yield made
    finally:
        server.close()


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bwc-agent", *arguments, "--config", str(folder / "config.toml")])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_start_names_the_recording(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, monkeypatch, "ctl", "start") == 0
    assert capsys.readouterr().out == "recording abc-0001\n"
    assert run(folder, monkeypatch, "ctl", "start", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"recording": "abc-0001"}
    assert recorder.asked == [{"ask": "start"}] * 2


def test_mark_says_whether_there_was_anything_to_mark(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, monkeypatch, "ctl", "mark") == 0
    assert capsys.readouterr().out == "marked in abc-0001\n"
    recorder.recording = ""
    assert run(folder, monkeypatch, "ctl", "mark") == 1
    assert "nothing to mark" in capsys.readouterr().out
    assert run(folder, monkeypatch, "ctl", "mark", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"recording": ""}


def test_status_is_printed_as_text_and_as_json(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, monkeypatch, "ctl", "status") == 0
    printed = capsys.readouterr().out
    for words in (
        "cam-1 of city, boot 2",
        "recording abc-0001, 12 s",
        "us-mo-kcpd",
        "delivers",
        "32.0 GB free, 17.8 h",
        "power     battery 42 %, discharging, 48 °C, undervoltage, bit rate lowered",
    ):
        assert words in printed
    assert "ntp, within 12 ms" in printed
    assert "requests  3, refused 1" in printed
    assert run(folder, monkeypatch, "ctl", "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == recorder.status


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"source_delivering": False}, "DOWN"),
        ({"storage_failing": True}, "FAILS"),
        ({"faulty_lines": ["record"]}, "record is not trusted"),
    ],
)
@pytest.mark.usefixtures("recorder")
def test_status_of_a_faulty_recorder_ends_with_exit_code_one(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    expected: str,
) -> None:
    for name, value in change.items():
        monkeypatch.setitem(STATUS, name, value)
    assert run(folder, monkeypatch, "ctl", "status") == 1
    assert expected in capsys.readouterr().out


def test_unknown_values_in_a_status_are_named(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.status = STATUS | {
        "mode": "standby",
        "recording": "",
        "tracks": {},
        "storage_free_bytes": None,
        "time_left_s": None,
        "clock": "unsynchronised",
        "clock_within_ms": None,
    }
    assert run(folder, monkeypatch, "ctl", "status") == 0
    printed = capsys.readouterr().out
    assert "no track yet" in printed
    assert "unsynchronised, accuracy unknown" in printed
    assert "GB free" not in printed


def test_time_left_of_zero_is_printed(
    folder: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.status = STATUS | {"storage_free_bytes": 0, "time_left_s": 0}
    run(folder, monkeypatch, "ctl", "status")
    assert "0.0 h left" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["ctl", "start"], ["ctl", "mark"], ["ctl", "status"], ["press", "record"]])
def test_recorders_refusal_is_one_line_and_exit_code_two(
    folder: Path,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    recorder.refusal = "not on this device"
    assert run(folder, monkeypatch, *command) == 2
    assert capsys.readouterr() == ("", "bwc-agent: not on this device\n")


@pytest.mark.parametrize("command", [["ctl", "start"], ["ctl", "mark"], ["ctl", "status"], ["press", "record"]])
def test_recorder_that_does_not_run_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(folder, monkeypatch, *command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "start it with: bwc-agent run" in printed.err


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "dock      not docked"),
        ({"dock_contact": True}, "dock      contact closed, but no station attests it"),
        ({"dock_contact": True, "docked": True, "station": "north"}, "dock      docked, attested by north"),
    ],
)
def test_dock_state_is_printed(changed: dict[str, Any], expected: str) -> None:
    assert expected in _lines({**STATUS, **changed})
