"""The package's life on a camera: a sealed key, an upgrade while recording, removal, purge, installation, power-off."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardware.support.machine import Machine, crowding, until
from tests.hardware.system.test_2_running import CONFIG, EVIDENCE, RECORDER, ready, record, restarted, spans, status

OLD, NEW = "/root/bwc-agent.deb", "/root/newer.deb"
STATE = "/var/lib/bwc-state"
KEPT = ("/etc/bwc", "/var/lib/bwc", STATE)
POWER_OFF_RULE = """\
@id("bench.power-off")
@source("This suite: a power-off that is granted")
permit (principal == Principal::"wearer", action == Action::"PowerOff", resource);
"""
UPGRADE_S = 4.0
"""Longer than after a kill: what is in memory is stored and signed first."""


@pytest.fixture(scope="module")
def running(camera: Machine, newer: Path) -> Iterator[Machine]:
    """The camera, switched on."""
    (camera.root / NEW[1:]).write_bytes(newer.read_bytes())
    if not camera.up:
        camera.boot()
    ready(camera)
    yield camera
    camera.cut()


def kept(machine: Machine) -> dict[str, int]:
    """All files of evidence and keys, with their sizes."""
    script = f"find {' '.join(KEPT)} -type f ! -name '*.unfinished' -printf '%s %p\\n'"
    return {
        name: int(size) for size, name in (line.split(" ", 1) for line in machine.run("sh", "-c", script).splitlines())
    }


def stop_recording(machine: Machine) -> None:
    """As the wearer does: the encounter is declared concluded, and a stop asked for and granted."""
    machine.run("bwc-agent", "press", "mark", "--times", "2", *CONFIG)
    time.sleep(1.5)
    machine.run("bwc-agent", "press", "record", "--hold", "3.2", *CONFIG)
    until(lambda: status(machine).get("mode") == "standby", "the stop is granted")
    until(lambda: not machine.path("/run/bwc/recording").exists(), "the flag is down")


def signed_for(machine: Machine) -> str:
    """Which device the evidence is of, by its certificate."""
    return machine.run("sha256sum", f"{EVIDENCE}/device.jws").split()[0]


def test_sealed_key_serves_as_well(running: Machine) -> None:
    recording, before = record(running), running.pid(RECORDER)
    said = running.run("env", "KEY=host", "/usr/libexec/bwc-agent/seal-key")
    assert "bwc-device.pem" in said
    assert not running.path("/etc/bwc/device.pem").exists()
    assert b"PRIVATE KEY" not in running.path("/etc/credstore.encrypted/bwc-device.pem").read_bytes()
    running.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", RECORDER)
    until(lambda: running.pid(RECORDER) not in {0, before}, "another process")
    ready(running)
    until(lambda: status(running).get("recording") == recording, "the recording goes on")


def test_upgrade_while_recording_records_on(running: Machine) -> None:
    recording, before, held = record(running), running.pid(RECORDER), kept(running)
    busy = crowding()
    running.run("dpkg", "-i", NEW)
    restarted(running, before, recording)
    until(lambda: running.path("/run/bwc/recording").exists(), "the flag is up")
    was = spans(running, "off")[-1]["length_us"] / 1e6
    limit = UPGRADE_S * max(busy, crowding())
    print(f"\nupgrade: dark for {was:.2f} s (at most {limit:.2f})")
    assert 0 <= was <= limit
    after = kept(running)
    assert all(after.get(name, -1) >= size or name.startswith(f"{STATE}/") for name, size in held.items())
    assert running.run("dpkg-query", "-W", "-f", "${Version}", "bwc-agent").startswith("9.")


def test_removal_while_recording_is_refused(running: Machine) -> None:
    record(running)
    code, said = running.try_("dpkg", "--remove", "bwc-agent")
    assert code, said
    assert "a recording is running" in said
    assert status(running)["mode"] == "recording"


def test_removal_and_purge_keep_evidence_and_keys_and_the_camera_comes_back(running: Machine) -> None:
    stop_recording(running)
    device, boot = signed_for(running), status(running)["boot"]
    running.run("dpkg", "--remove", "bwc-agent")
    held = kept(running)
    assert not running.path("/usr/lib/bwc-agent").exists()
    assert not running.path("/usr/lib/systemd/system/bwc-recorder.service").exists()
    mask = running.path("/etc/systemd/system/ctrl-alt-del.target")
    assert not mask.is_symlink()
    assert "kept /var/lib/bwc" in running.run("dpkg", "--purge", "bwc-agent")
    assert kept(running) == held
    assert running.path("/etc/credstore.encrypted/bwc-device.pem").exists()
    assert f"{EVIDENCE}/journal/00000001.jsonl" in held
    running.run("dpkg", "-i", OLD)
    ready(running)
    assert mask.is_symlink()
    until(lambda: status(running).get("boot") == boot + 1, "the next boot of the same camera")
    assert signed_for(running) == device
    report = json.loads(running.try_("bwc-agent", "verify", EVIDENCE, "--trust", "/etc/bwc/trust.jws", "--json")[1])
    assert report["verdict"] in {"intact", "unfinished"}, report["summary"]


def permit_power_off(machine: Machine) -> None:
    """A bundle of the agency by which the wearer may power off; the next start puts it in force."""
    machine.path("/root/bench.cedar").write_text(POWER_OFF_RULE)
    bundle = f"{EVIDENCE}/policy/00000002.jws"
    key = "file:/root/pilot/agency/policy/policy.pem"
    identity = ("--agency", "city-pd", "--version", "2")
    machine.run("bwc-agent", "policy", "sign", "/root/bench.cedar", "--key", key, *identity, "-o", bundle)
    machine.run("chown", "bwc-recorder:bwc-exchange", bundle)
    machine.run("chmod", "0640", bundle)


def test_granted_power_off_powers_the_machine_off_and_a_purge_that_is_asked_for_purges(running: Machine) -> None:
    permit_power_off(running)
    recording, before = record(running), running.pid(RECORDER)
    os.kill(before, 9)
    until(lambda: running.pid(RECORDER) not in {0, before}, "another process")
    ready(running)
    until(lambda: status(running).get("recording") == recording, "the recording goes on")
    assert status(running)["policy_version"] == 2
    running.run("bwc-agent", "press", "mark", "--times", "2", *CONFIG)
    time.sleep(1.5)
    running.run("bwc-agent", "press", "record", "--hold", "8.3", "--wait", "0", *CONFIG)
    seconds = running.off()
    print(f"\npower-off: {seconds:.1f} s from the press, of which the hold is 8.3 s")
    journals = sorted((running.root / EVIDENCE[1:] / "journal").glob("*.jsonl"))
    lines = [json.loads(line) for line in journals[-1].read_text().splitlines()]
    assert "power_off" in json.dumps(lines)
    running.boot()
    ready(running)
    running.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", RECORDER)
    ready(running)
    assert running.up, "an end without a grant powers nothing off"
    until(lambda: status(running).get("mode") == "standby", "it stands by")
    until(lambda: not running.path("/run/bwc/recording").exists(), "the flag is down")
    running.run("env", "BWC_PURGE=evidence-and-keys", "dpkg", "--purge", "bwc-agent")
    assert not [place for place in KEPT if running.path(place).exists()]
