import shutil
import stat
import sys
from pathlib import Path

import pytest

from agent.cli import main
from agent.config import recorder as configuration
from agent.keys.files import load_signer, needs_passphrase
from agent.recorder.identity import load_device_identity
from tests.support.clips import B_FRAMES, STREET, clip
from tests.support.commands import bwc_agent


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, typed: str = "") -> int:
    monkeypatch.setattr(sys, "argv", ["bwc-agent", "init", *arguments])
    answers = iter([typed, typed])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_provisioned_device_is_complete_and_its_configuration_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pilot = tmp_path / "pilot"
    assert run(monkeypatch, str(pilot), "--agency", "city-pd", "--device", "camera-7") == 0
    printed = capsys.readouterr().out
    assert "agency city-pd" in printed
    file = pilot / "device" / "config.toml"
    assert f"bwc-agent run --config {file}" in printed
    config = configuration.load(file)
    owner = load_device_identity(config, file)
    assert (owner.agency, owner.device) == ("city-pd", "camera-7")
    assert len(owner.trust.recipients("default", None)) == 3
    for key in pilot.rglob("*.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {path.name for path in (pilot / "device").iterdir()} == {
        "config.toml",
        "device.jws",
        "device.pem",
        "dock",
        "dock.toml",
        "evidence",
        "state",
        "trust.jws",
    }
    assert stat.S_IMODE((pilot / "device" / "state").stat().st_mode) == 0o700


def test_no_agency_key_is_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pilot = tmp_path / "pilot"
    run(monkeypatch, str(pilot))
    assert [path.name for path in (pilot / "device").rglob("*.pem")] == ["device.pem"]
    held = (pilot / "device" / "device.pem").read_bytes()
    assert all(path.read_bytes() != held for path in (pilot / "agency").rglob("*.pem"))


def test_nothing_is_ever_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pilot = tmp_path / "pilot"
    assert run(monkeypatch, str(pilot)) == 0
    before = {path: path.read_bytes() for path in pilot.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(monkeypatch, str(pilot)) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "never overwritten" in printed.err
    assert {path: path.read_bytes() for path in pilot.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "arguments", [["--pack", "no-such-pack"], ["--agency", ""], ["--device", "a/b"], ["--agency", "x" * 300]]
)
def test_refused_init_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, str(tmp_path / "pilot"), *arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("bwc-agent: expected")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_that_can_not_be_created_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "/proc/pilot") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("bwc-agent: ")
    assert printed.err.count("\n") == 1


def test_passphrase_protects_the_agencys_keys_and_not_the_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pilot = tmp_path / "pilot"
    assert run(monkeypatch, str(pilot), "--passphrase", typed="correct horse") == 0
    for key in (pilot / "agency").rglob("*.pem"):
        assert needs_passphrase(key)
    assert not needs_passphrase(pilot / "device" / "device.pem")
    load_signer(f"file:{pilot / 'agency' / 'root' / 'root.pem'}", "correct horse")


def test_camera_is_written_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = tmp_path / 'a "b".mp4'
    shutil.copy(clip(STREET), film)
    pilot = tmp_path / "pilot"
    assert run(monkeypatch, str(pilot), "--camera", f"replay:{film}") == 0
    assert configuration.load(pilot / "device" / "config.toml").source.camera == f"replay:{film}"


@pytest.mark.parametrize("option", ["--agency", "--device"])
def test_name_unfit_for_a_certificate_is_refused(tmp_path: Path, option: str) -> None:
    printed = bwc_agent("init", tmp_path / "pilot", option, "bad name/").refusal
    assert f"expected {option} as 1 to 64 letters, digits, dots, underscores and hyphens" in printed
    assert "'bad name/'" in printed
    assert "regex" not in printed
    assert not (tmp_path / "pilot").exists()


@pytest.mark.parametrize("camera", ["replay:/nowhere/street.mp4", "replay-once:/nowhere.mp4", "patern", "/dev/video0"])
def test_camera_that_does_not_exist_is_refused_and_nothing_is_made(tmp_path: Path, camera: str) -> None:
    printed = bwc_agent("init", tmp_path / "pilot", "--camera", camera).refusal
    assert "expected" in printed
    assert camera.rpartition(":")[2] in printed
    assert not (tmp_path / "pilot").exists()


def test_film_with_b_frames_is_refused_with_the_command_that_removes_them(tmp_path: Path) -> None:
    printed = bwc_agent("init", tmp_path / "pilot", "--camera", f"replay:{clip(B_FRAMES)}").refusal
    assert "has B frames, which no camera delivers" in printed
    assert f"ffmpeg -i {clip(B_FRAMES).name} -c:v libx264 -bf 0 -c:a copy camera.mp4" in printed
    assert not (tmp_path / "pilot").exists()


def test_only_a_simulated_camera_gives_a_warning(tmp_path: Path) -> None:
    ran = bwc_agent("init", tmp_path / "bench")
    assert ran.code == 0
    assert "WARNING: the camera pattern is simulated" in ran.err
    real = bwc_agent("init", tmp_path / "real", "--camera", "picamera2")
    assert (real.code, real.err) == (0, "")
