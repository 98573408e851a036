"""A dock service in an attacker's hands: it can withhold, and that is all."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.core.recording.events import Action, DockContact
from agent.core.recording.requests import facts
from agent.dock.status import read_snapshot
from agent.journal import entries
from agent.keys import files, jws
from agent.keys.signer import KeySigner
from agent.recorder.ipc import inbox
from agent.recorder.ipc.deliveries import MAX_REFUSALS
from agent.recorder.ipc.local_socket import ask
from agent.recorder.ipc.status import write_snapshot
from agent.storage.disk import DiskStorage
from agent.trust.attestation import TYP, attest
from tests.support.device import Device, agency
from tests.support.permissions import looks_into_the_recorder, skip
from tests.support.running import Running, provision


def lay(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)


def anything(folder: Path, dice: random.Random, nonce: str, heard: list[bytes], number: int) -> str:
    """One thing of all that an attacker with the dock's rights can put there; its kind."""
    path = folder / f"{number:06d}"
    forger = KeySigner.generate()
    own = attest(forger, agency="city", device="cam-1", nonce=nonce)
    kind = dice.choice(KINDS)
    match kind:
        case "link":
            path.symlink_to("/dev/zero")
        case "hard link":
            elsewhere = folder.parent / f"precious-{number}"
            elsewhere.write_bytes(own.encode())
            os.link(elsewhere, path)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, 0o600 | stat.S_IFSOCK)
        case "device":
            with contextlib.suppress(PermissionError):
                os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        case "folder":
            path.mkdir()
        case "full folder":
            (path / "inner").mkdir(parents=True)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 33)
        case "noise":
            path.write_bytes(dice.randbytes(dice.randrange(4096)))
        case "forged":
            path.write_bytes(own.encode())
        case "bent":
            head, body, signature = own.split(".")
            path.write_bytes(f"{head}.{body}.{signature[::-1]}".encode())
        case "authorisation":
            path.write_bytes(jws.sign(forger, "bwc-authorization+jws", {"action": "StopRecording"}).encode())
        case "policy":
            path.write_bytes(jws.sign(forger, "bwc-policy+jws", {"version": 99}).encode())
        case "no signature":
            head, body, _ = own.split(".")
            path.write_bytes(f"{head}.{body}.".encode())
        case _:  # a station's word for this very device, over nonces of another day, or for another device
            path.write_bytes(dice.choice(heard))
    return kind


KINDS = ["link", "hard link", "pipe", "socket", "device", "folder", "full folder", "huge", "noise", "forged", "bent"]
KINDS += ["authorisation", "policy", "no signature", "replayed", "replayed"]


def all_facts(device: Device) -> list[object]:
    """What every kind of request would be decided by."""
    now = device.clocks.now_ns
    return [facts(device.recorder.control.state, now, action) for action in Action]


def test_whatever_lies_in_the_inbox_the_recorder_records_and_permits_nothing_more(tmp_path: Path) -> None:
    """Against a twin that goes through the same without any dock service: every fact of every request is the same."""
    dice = random.Random(3)
    station = files.load_signer(f"file:{agency().station}")
    device, twin = Device(storage=DiskStorage(tmp_path / "evidence")), Device()
    old = [attest(station, agency="city", device="cam-1", nonce=device.recorder.status().dock_nonce).encode()]
    old += [attest(station, agency="city", device="cam-2", nonce=device.recorder.status().dock_nonce).encode()]
    folder = inbox.make_folder(tmp_path)
    for one in (device, twin):
        one.run(6)
        one.press("record", times=2)
        one.recorder.control.handle(DockContact(one.clocks.now_ns, closed=True))
        one.settle()
    recording, policy = device.recording, device.recorder.status().policy_digest
    number, laid, stuck, met = 0, set[str](), set[str](), 0
    for _ in range(40):
        for _ in range(inbox.MAX_FILES):
            number += 1
            laid.add(anything(folder, dice, device.recorder.status().dock_nonce, old, number))
        for message in inbox.take(folder, stuck=stuck):
            met += 1
            device.recorder.deliveries.deliver(message)
        for one in (device, twin):
            one.run(0.5)
        assert all_facts(device) == all_facts(twin)
    assert laid == set(KINDS)
    assert met > 300
    assert device.recording == recording != ""
    status = device.recorder.status()
    assert not status.docked
    assert status.policy_digest == policy
    told = [e for e in device.entries(entries.Refused) if isinstance(e, entries.Refused) and e.what == "delivery"]
    assert 0 < len(told) <= MAX_REFUSALS * 2
    assert not device.entries(entries.PacketsLost)
    # And the honest word gets through what still lies there.
    word = attest(station, agency="city", device="cam-1", nonce=device.recorder.status().dock_nonce)
    lay(folder, "honest", word.encode())
    for _ in range(10):
        for message in inbox.take(folder, stuck=stuck):
            device.recorder.deliveries.deliver(message)
    device.settle()
    assert device.recorder.status().docked
    assert all_facts(device) != all_facts(twin)


@pytest.mark.parametrize("service", ["stopped", "absent"])
def test_without_a_dock_service_the_recorder_records_and_is_not_docked(tmp_path: Path, service: str) -> None:
    device, twin = Device(storage=DiskStorage(tmp_path / "evidence")), Device()
    if service == "stopped":  # it was there, was attested, and is gone: what it had brought lapses
        station = files.load_signer(f"file:{agency().station}")
        device.recorder.control.handle(DockContact(device.clocks.now_ns, closed=True))
        device.settle()
        word = attest(station, agency="city", device="cam-1", nonce=device.recorder.status().dock_nonce)
        device.recorder.deliveries.deliver(word.encode())
        device.settle()
        assert device.recorder.status().docked
    for one in (device, twin):
        one.press("record", times=2)
        one.run(61)
        one.recorder.control.turn()
        one.settle()
    status = device.recorder.status()
    assert status.mode == "recording"
    assert not status.docked
    contact_apart = [
        {**facts(one.recorder.control.state, one.clocks.now_ns, Action.POWER_OFF)}["dock_state"]
        for one in (device, twin)
    ]
    assert contact_apart[0] == contact_apart[1]


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
    assert TYP in jws.unverified_typ(old.decode())


def snapshot_s(run: Path) -> float:
    """For how long it has recorded, by the snapshot that is there now."""
    try:
        return float(read_snapshot(run / "status.json")["recording_s"])
    except OSError:
        return -1.0


@pytest.mark.parametrize("what", ["link", "hard link", "pipe", "folder", "full folder"])
def test_whatever_has_the_snapshots_name_leads_and_blocks_the_recorder_nowhere(tmp_path: Path, what: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    run = tmp_path / "run"
    run.mkdir()
    name = run / ".status.json"
    match what:
        case "link":
            name.symlink_to(victim)
        case "hard link":
            os.link(victim, name)
        case "pipe":
            os.mkfifo(name)
        case "folder":
            name.mkdir()
        case _:
            (name / "inner").mkdir(parents=True)
    device = Device()
    done: list[str] = []

    def write() -> None:
        try:
            write_snapshot(run, device.recorder.status())
            done.append("written")
        except OSError:
            done.append("refused")

    worker = threading.Thread(target=write, daemon=True)
    worker.start()
    worker.join(5)
    assert done == ["refused" if what.endswith("folder") else "written"]
    assert victim.read_bytes() == b"precious"
    if done == ["written"]:
        assert read_snapshot(run / "status.json")["device"] == "cam-1"


def test_running_recorder_is_not_held_up_by_a_dock_that_writes_all_day(tmp_path: Path) -> None:
    """All that it can lay, as fast as it can, into the inbox and beside the snapshot; at last the inbox is a link."""
    dice = random.Random(5)
    config = provision(tmp_path / "pilot")
    with Running(config) as recorder:
        recording = recorder.record(0.2)
        run = recorder.run_directory
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "message").write_bytes(b"not yours")
        recorder.until(lambda _status: (run / "inbox").exists())
        until, number = time.monotonic() + 2, 0
        while time.monotonic() < until:
            for _ in range(20):
                number += 1
                with contextlib.suppress(FileNotFoundError):  # the recorder was there in the middle of it
                    anything(run / "inbox", dice, "A" * 22, [b"x.y.z"], number)
            for make in (os.mkfifo, os.mkdir):
                with contextlib.suppress(OSError):
                    make(run / ".status.json")
            status = recorder.status()
            assert (status["mode"], status["recording"], status["docked"]) == ("recording", recording, False)
        (run / "inbox").rename(run / "gone")
        (run / "inbox").symlink_to(outside)
        name = run / ".status.json"
        with contextlib.suppress(OSError):
            name.unlink()
        with contextlib.suppress(OSError):
            name.rmdir()
        before = recorder.status()["recording_s"]
        recorder.until(lambda _status: snapshot_s(run) > before)  # it keeps house still
        assert (outside / "message").read_bytes() == b"not yours"
        assert recorder.terminate() == 0
        told = [e for e in recorder.entries() if isinstance(e, entries.Refused) and e.what == "delivery"]
        assert 0 < len(told) <= MAX_REFUSALS
        assert not [e for e in recorder.entries() if isinstance(e, (entries.PacketsLost, entries.Docked))]
        code, report = recorder.verify()
        assert code == 0, report


def inet_sockets(pid: int) -> list[str]:
    """Sockets of a process that are neither local nor netlink."""
    own = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    inodes = {name[8:-1] for name in own if name.startswith("socket:[")}
    found: list[str] = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        found.extend(line for line in lines if line.split()[9] in inodes)
    return found


@pytest.mark.parametrize(
    "kind", ["AF_INET, socket.SOCK_STREAM", "AF_INET6, socket.SOCK_STREAM", "AF_INET, socket.SOCK_DGRAM"]
)
def test_socket_of_a_process_that_has_one_is_found(kind: str) -> None:
    """The negative control: what looks for sockets in a running recorder finds them in others."""
    code = f"import socket, sys; s = socket.socket(socket.{kind}); s.bind(('', 0)); s.type == 1 and s.listen();"
    code += "print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(inet_sockets(process.pid)) == 1


def asked_for(trace: Path) -> set[str]:
    """Families of the sockets that were asked for, by strace's words."""
    return set(re.findall(r"socket\((\w+),", trace.read_text()))


def traced(trace: Path) -> list[str]:
    strace = shutil.which("strace")
    if strace is None:
        skip("system calls are watched with Debian's strace: make test-tools")
    return [str(strace), "-f", "-e", "trace=socket", "-o", str(trace)]


def test_recorder_never_asks_the_kernel_for_an_internet_socket(tmp_path: Path) -> None:
    """From its first system call to its last, while it records and is given rubbish; not only when looked at."""
    control = tmp_path / "control"
    code = "import socket; socket.socket(socket.AF_INET); socket.socket(socket.AF_INET6)"
    subprocess.run([*traced(control), sys.executable, "-c", code], check=True)
    assert {"AF_INET", "AF_INET6"} <= asked_for(control)
    config = provision(tmp_path / "pilot")
    trace = tmp_path / "trace"
    recorder = Running(config, prefix=traced(trace))
    with recorder:
        recorder.ask("press", name="dock_contact", hold_s=1.0, times=1)
        recorder.record(0.5)
        recorder.until(lambda _status: (recorder.run_directory / "inbox").exists())
        lay(recorder.run_directory / "inbox", "rubbish", b"rubbish")
        recorder.until(lambda _status: not list((recorder.run_directory / "inbox").iterdir()))
        recorder.until(lambda status: status["recording_s"] > 1)
        # The recorder, and with it strace ends: who kills strace leaves the recorder behind.
        for child in Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        assert recorder.process is not None
        recorder.process.wait(30)
    assert asked_for(trace) <= {"AF_UNIX", "AF_NETLINK"}
    assert "AF_UNIX" in asked_for(trace)


@looks_into_the_recorder
@pytest.mark.parametrize("prefix", [[], ["unshare", "--net"]], ids=["as it is", "without interfaces"])
def test_running_recorder_has_no_network_and_needs_none(tmp_path: Path, prefix: list[str]) -> None:
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        skip("only root may make network namespaces")
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
