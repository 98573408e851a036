"""A dock service in an attacker's hands: it can withhold, and that is all."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.core.events import Action, DockContact
from agent.core.state import facts
from agent.evidence import entries
from agent.keys import files, jws
from agent.keys.attestation import TYP, attest
from agent.keys.signer import KeySigner
from agent.recorder import inbox
from agent.recorder.deliveries import MOST_REFUSALS
from agent.recorder.local_socket import ask
from agent.recorder.status import write_snapshot
from agent.storage.disk import DiskStorage
from tests.support.device import Device, agency


def lay(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)


def anything(folder: Path, dice: random.Random, nonce: str, number: int) -> None:
    """One thing of all that an attacker with the dock's rights can put there."""
    path = folder / f"{number:06d}"
    forger = KeySigner.generate()
    own = attest(forger, agency="city", device="cam-1", nonce=nonce)
    match dice.randrange(9):
        case 0:
            path.symlink_to("/dev/zero")
        case 1:
            os.mkfifo(path)
        case 2:
            path.mkdir()
        case 3:
            with path.open("wb") as file:
                file.truncate(1 << 33)
        case 4:
            path.write_bytes(dice.randbytes(dice.randrange(4096)))
        case 5:
            path.write_bytes(own.encode())
        case 6:
            head, body, signature = own.split(".")
            path.write_bytes(f"{head}.{body}.{signature[::-1]}".encode())
        case 7:
            path.write_bytes(jws.sign(forger, "bwc-authorization+jws", {"action": "StopRecording"}).encode())
        case _:
            path.write_bytes(jws.sign(forger, "bwc-policy+jws", {"version": 99}).encode())


def test_whatever_lies_in_the_inbox_the_recorder_records_and_permits_nothing_more(tmp_path: Path) -> None:
    dice = random.Random(3)
    device = Device(storage=DiskStorage(tmp_path / "evidence"))
    folder = inbox.make(tmp_path)
    device.run(6)
    device.press("record", times=2)
    recording = device.recording
    policy = device.recorder.status().policy_digest
    device.recorder.control.handle(DockContact(device.clocks.now_ns, closed=True))
    number = 0
    for _ in range(40):
        for _ in range(inbox.MOST_FILES):
            number += 1
            anything(folder, dice, device.recorder.status().dock_nonce, number)
        for message in inbox.take(folder):
            device.recorder.deliveries.deliver(message)
        device.run(0.5)
    assert device.recording == recording != ""
    status = device.recorder.status()
    assert not status.docked
    assert status.policy_digest == policy
    assert (
        facts(device.recorder.control.state, device.clocks.now_ns, Action.POWER_OFF)["dock_state"].value == "undocked"
    )
    told = [e for e in device.entries(entries.Refused) if isinstance(e, entries.Refused) and e.what == "delivery"]
    assert 0 < len(told) <= MOST_REFUSALS * 2
    assert not device.entries(entries.PacketsLost)


def test_attestation_recorded_on_another_day_opens_nothing() -> None:
    station = files.load_signer(f"file:{agency().station}")
    device = Device()
    device.recorder.control.handle(DockContact(device.clocks.now_ns, closed=True))
    device.settle()
    old = attest(station, agency="city", device="cam-1", nonce=device.recorder.status().dock_nonce).encode()
    device.boot()
    device.recorder.control.handle(DockContact(device.clocks.now_ns, closed=True))
    device.settle()
    device.recorder.deliveries.deliver(old)
    device.settle()
    assert not device.recorder.status().docked
    assert TYP in jws.typ_of(old.decode())


def test_snapshot_name_that_was_made_a_link_leads_the_recorder_nowhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".status.json").symlink_to(victim)
    device = Device()
    with pytest.raises(OSError, match="status"):
        write_snapshot(run, device.recorder.status())
    assert victim.read_bytes() == b"precious"


def inet_sockets(pid: int) -> list[str]:
    """Sockets of a process that are neither local nor netlink."""
    own = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    inodes = {name[8:-1] for name in own if name.startswith("socket:[")}
    found: list[str] = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        found.extend(line for line in lines if line.split()[9] in inodes)
    return found


@pytest.mark.parametrize("prefix", [[], ["unshare", "--net"]], ids=["as it is", "without interfaces"])
def test_running_recorder_has_no_network_and_needs_none(tmp_path: Path, prefix: list[str]) -> None:
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces for this user")
    tool = [sys.executable, "-m", "agent"]
    subprocess.run([*tool, "init", str(tmp_path / "pilot")], check=True, capture_output=True)
    config = tmp_path / "pilot" / "device" / "config.toml"
    run = config.parent / "run"
    process = subprocess.Popen([*prefix, *tool, "run", "--config", str(config)])
    try:
        until = time.monotonic() + 20
        while not (run / "status.json").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        assert ask(run, {"ask": "start"})["recording"]
        lay(run / "inbox", "rubbish", b"rubbish")
        while list((run / "inbox").iterdir()):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert inet_sockets(process.pid) == []
        assert ask(run, {"ask": "status"})["mode"] == "recording"
        assert json.loads((run / "status.json").read_bytes())["docked"] is False
    finally:
        process.terminate()
        process.wait(20)
