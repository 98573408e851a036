import json
import sys
from pathlib import Path

import pytest

from agent.cli import main
from agent.doctor import checks
from agent.doctor.checks import Finding
from agent.recorder.configuration import store
from agent.recorder.hardening import Hardening
from tests.support.commands import bwc_agent
from tests.support.running import change, provision


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        '[device]\nkey = "file:k"\ncertificate = "c"\ntrust = "t"\nroot = "r"\n[storage]\npath = "evidence"\n'
    )
    return path


def run(config: Path, monkeypatch: pytest.MonkeyPatch, findings: list[Finding] | None, *arguments: str) -> int:
    if findings is not None:
        monkeypatch.setattr(checks, "check_all", lambda *_, **_named: iter(findings))
    monkeypatch.setattr(sys, "argv", ["bwc-agent", "doctor", "--config", str(config), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


GOOD = [Finding("clock", "ntp, within 12 ms"), Finding("swap", "none unencrypted (0 areas)")]
BAD = [*GOOD, Finding("key file", "device.pem has mode 0644", "chmod 600 device.pem")]


def test_fit_device_is_one_line_a_check_and_exit_code_zero(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, monkeypatch, GOOD) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("ok") for line in lines[:2])
    assert "fit for a shift" in lines[2]


def test_failed_check_is_printed_with_its_remedy_and_exit_code_one(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, monkeypatch, BAD) == 1
    printed = capsys.readouterr().out
    assert "BAD  key file" in printed
    assert "remedy: chmod 600 device.pem" in printed
    assert "3 checks, 1 failed" in printed


@pytest.mark.parametrize(("findings", "code"), [(GOOD, 0), (BAD, 1)])
def test_findings_as_json(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    findings: list[Finding],
    code: int,
) -> None:
    assert run(config, monkeypatch, findings, "--json") == code
    printed = json.loads(capsys.readouterr().out)
    assert printed["fit"] is (code == 0)
    assert [finding["check"] for finding in printed["findings"]] == [finding.check for finding in findings]
    assert [finding["good"] for finding in printed["findings"]] == [finding.good for finding in findings]


def test_configuration_that_can_not_be_read_is_exit_code_two(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + "[buffer]\npre_event = 3\n")
    assert run(config, monkeypatch, None) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "line 9: buffer.pre_event: unknown key" in printed.err


def test_doctor_of_an_empty_device_names_what_is_missing_and_creates_nothing(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "harden", lambda: Hardening(not_dumpable=True, no_core=True, locked=True))
    assert run(config, monkeypatch, None, "--json") == 1
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    for name in ("evidence folder", "storage room", "storage speed", "keys", "key file", "policy"):
        assert not findings[name]["good"]
        assert findings[name]["remedy"]
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


def test_hardware_is_tested_without_questions_as_json(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with config.open("a") as file:
        file.write('[run]\ndirectory = "run"\n[controls]\npin_factory = "mock"\n')
    (config.parent / "evidence").mkdir()
    assert run(config, monkeypatch, None, "--hardware", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    found = {finding["check"]: finding for finding in report["findings"]}
    assert {"encoder", "battery gauge", "battery-backed clock", "watchdog", "storage sync"} <= set(found)
    assert not found["battery gauge"]["good"]
    assert found["storage sync"]["said"].startswith("sync of 64 KiB")


def test_hardware_of_another_users_camera_is_not_tested(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "evidence").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: config.stat().st_uid + 1)
    assert run(config, monkeypatch, None, "--hardware") == 2
    assert "run with sudo" in capsys.readouterr().err


def test_hardware_test_without_a_terminal_asks_nothing_and_hides_no_finding(config: Path) -> None:
    with config.open("a") as file:
        file.write('[run]\ndirectory = "run"\n[controls]\npin_factory = "mock"\n')
    (config.parent / "evidence").mkdir()
    ran = bwc_agent("doctor", "--hardware", "--config", config)
    assert ran.code == 1
    assert "pins" in ran.out
    assert "simulated" in ran.out
    assert "--->" not in ran.out
    assert "ok   storage sync" in ran.out


def test_invalid_file_is_named_with_its_replacement(tmp_path: Path) -> None:
    file = provision(tmp_path / "pilot")
    change(file, "[buffer]", "[buffer")
    ran = bwc_agent("doctor", "--json", "--config", file)
    assert ran.code == 1
    found = {finding["check"]: finding for finding in json.loads(ran.out)["findings"]}
    assert "a recorder would start with the built in one" in found["configuration"]["said"]
    assert "bwc-agent reload" in found["configuration"]["remedy"]
    assert found["keys"]["good"]
    store(file).save(file.read_text().replace("[buffer", "[buffer]"))
    ran = bwc_agent("doctor", "--config", file)
    assert "a recorder would start with the last good one" in ran.out
    assert ran.code == 1
    assert bwc_agent("doctor", "--hardware", "--config", file).code == 2
