"""The machine runs, from power-on through everything that befalls it. One story: the tests follow one another."""

import json
import os
import re
import resource
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hardware.support.machine import Machine, crowding, until

RECORDER, DOCK = "bwc-recorder.service", "bwc-dock.service"
CONFIG = ("--config", "/etc/bwc/recorder.toml")
EVIDENCE = "/var/lib/bwc/evidence"
BACK_S = 2.0
"""So soon a recording goes on, whatever befell the recorder; where others crowd the machine, by as much later."""
PROBE = Path(__file__).with_name("probe.py")


@pytest.fixture(scope="module")
def running(camera: Machine) -> Iterator[Machine]:
    """The camera, switched on."""
    camera.boot()
    ready(camera)
    yield camera
    camera.cut()


def ready(machine: Machine) -> float:
    """Wait until the recorder says that it is ready; the seconds that it took."""
    return until(lambda: machine.try_("systemctl", "is-active", "-q", RECORDER)[0] == 0, "the recorder is ready")


def status(machine: Machine) -> dict[str, Any]:
    """What the recorder says of itself; empty if it does not answer."""
    code, said = machine.try_("bwc-agent", "ctl", "status", "--json", *CONFIG)
    return dict(json.loads(said)) if code < 2 else {}  # 1: it answers, and something is not well


def record(machine: Machine) -> str:
    """Have it record, if it does not yet, for long enough that something is on storage; the recording."""
    machine.run("bwc-agent", "ctl", "start", *CONFIG)
    until(lambda: status(machine).get("recording_s", 0) > 1.5, "it records")
    until(lambda: machine.path("/run/bwc/recording").exists(), "the flag is up")
    return str(status(machine)["recording"])


def spans(machine: Machine, state: str) -> list[dict[str, Any]]:
    """When it was in a state, by the ledger: from its journal alone."""
    told = machine.json("bwc-agent", "ledger", EVIDENCE, "--json")["spans"]
    return [span for span in told if span["state"] == state]


def restarted(machine: Machine, before: int, recording: str) -> float:
    """Wait until another process goes on with a recording; since when it does, by the ledger, on the kernel's clock."""
    until(lambda: machine.pid(RECORDER) not in {0, before}, "another process")
    ready(machine)
    until(lambda: status(machine).get("recording") == recording, "the recording goes on")
    boot = status(machine)["boot"]
    until(lambda: spans(machine, "recording")[-1]["from"]["boot"] == boot, "its journal says so")
    return float(spans(machine, "recording")[-1]["from"]["mono_us"]) / 1e6


def worst(machine: Machine) -> list[str]:
    """What `verify` finds altered, missing or forged; a recorder that runs has not ended, and that is all."""
    report = machine.json("bwc-agent", "verify", EVIDENCE, "--trust", "/etc/bwc/trust.jws", "--json")
    bad = [finding for finding in report["findings"] if finding["severity"] == "bad"]
    assert report["verdict"] in {"intact", "unfinished"}, bad
    return [f"{finding['code']} {finding['subject']}" for finding in bad]


# -- power-on ---------------------------------------------------------------------------------------------------------


def test_both_services_run_from_power_on_without_a_login(running: Machine) -> None:
    until(lambda: running.try_("systemctl", "is-active", "-q", DOCK)[0] == 0, "the dock is up")
    assert running.try_("systemctl", "--failed", "--plain", "--no-legend") == (0, "")
    active_us = int(running.show(RECORDER, "ActiveEnterTimestampMonotonic"))
    manager_us = int(running.show("", "UserspaceTimestampMonotonic"))
    chain = running.run("systemd-analyze", "critical-chain", RECORDER)
    blame = "\n".join(running.run("systemd-analyze", "blame").splitlines()[:12])
    print(f"\nPID 1 to standby: {(active_us - manager_us) / 1e6:.2f} s\n{chain}\n{blame}")
    assert active_us - manager_us < 10e6
    assert status(running)["mode"] == "standby"


def test_memory_of_the_recorder_is_locked_and_its_units_say_what_protects_it(running: Machine) -> None:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY:
        assert status(running)["locked_memory"]
    else:
        print("\nthis machine lets nobody lock memory without a limit: that it is locked is not shown here")
    assert running.show(RECORDER, "LimitMEMLOCK") == "infinity"
    assert (running.show(RECORDER, "Restart"), running.show(RECORDER, "StartLimitIntervalUSec")) == ("always", "0")
    assert int(running.show(RECORDER, "OOMScoreAdjust")) < 0 < int(running.show(DOCK, "OOMScoreAdjust"))


def test_power_button_is_no_longer_logind_s(running: Machine) -> None:
    ask = (
        "busctl",
        "get-property",
        "org.freedesktop.login1",
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
    )
    for key in ("HandlePowerKey", "HandleSuspendKey", "HandleHibernateKey", "HandleLidSwitch", "IdleAction"):
        assert running.run(*ask, key).strip() == 's "ignore"', key


# -- nobody switches it off -------------------------------------------------------------------------------------------


def test_stop_restart_and_isolate_are_refused(running: Machine) -> None:
    before = running.pid(RECORDER)
    for verb, unit in (("stop", RECORDER), ("restart", RECORDER), ("stop", "bwc.target")):
        code, said = running.try_("systemctl", verb, unit)
        assert code == 4, (verb, unit, said)
    running.try_("systemctl", "isolate", "rescue.target")
    time.sleep(0.5)
    assert running.pid(RECORDER) == before
    running.run("systemctl", "--no-block", "isolate", "multi-user.target")


def test_stop_would_work_without_that_setting(running: Machine) -> None:
    running.drop_in(RECORDER, "[Unit]\nRefuseManualStop=no\n")
    running.run("systemctl", "stop", RECORDER)
    assert running.show(RECORDER, "ActiveState") == "inactive"
    running.lift(RECORDER)
    running.run("systemctl", "start", RECORDER)
    ready(running)


def test_machine_stays_up_while_a_recording_is_under_way(running: Machine) -> None:
    assert "bwc-recorder" not in running.run("systemd-inhibit", "--list", "--no-legend")
    record(running)
    until(lambda: "bwc-recorder" in running.run("systemd-inhibit", "--list", "--no-legend"), "the lock is held")
    for verb in ("poweroff", "reboot", "halt"):
        code, said = running.try_("systemctl", verb)
        assert (code, "denied" in said) == (1, True), (verb, said)
    assert running.up


def test_press_of_the_power_button_is_a_request_and_refused(running: Machine) -> None:
    config = running.path("/etc/bwc/recorder.toml")
    text = config.read_text()
    config.write_text(text.replace("[controls]\n", '[controls]\npower_key = "/run/bwc/power-key"\n', 1))
    pipe = running.path("/run/bwc/power-key")
    os.mkfifo(pipe, 0o644)
    recording, before = status(running)["recording"], running.pid(RECORDER)
    running.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", RECORDER)
    restarted(running, before, recording)
    requests = status(running)["requests"]
    with pipe.open("wb", buffering=0) as key:  # as the kernel's input layer tells it: pressed, and let go
        key.write(struct.pack("llHHi", 0, 0, 1, 116, 1) + struct.pack("llHHi", 0, 0, 1, 116, 0))
        until(lambda: status(running).get("requests") == requests + 1, "it was asked")
        until(lambda: status(running).get("refused", 0) > 0, "it was refused")
    assert running.up
    assert status(running)["recording"] == recording
    config.write_text(text)


BURST = 9
"""So often within two seconds, and systemd reboots at once, past every lock: seven times is its limit."""


def press_ctrl_alt_del(machine: Machine, times: int) -> None:
    """As the kernel tells of it once systemd has asked for that (reboot(2), RB_DISABLE_CAD): SIGINT to PID 1."""
    for _ in range(times):
        leader = machine.leader
        assert leader is not None
        os.kill(leader, signal.SIGINT)
        time.sleep(0.02)


def test_ctrl_alt_del_ends_nothing(running: Machine) -> None:
    code, said = running.try_("systemctl", "start", "ctrl-alt-del.target")
    assert (code != 0, "masked" in said) == (True, True), said
    recording, before = record(running), running.pid(RECORDER)
    press_ctrl_alt_del(running, 1)
    time.sleep(1)
    press_ctrl_alt_del(running, BURST)
    time.sleep(1)
    assert running.pid(RECORDER) == before
    assert status(running)["recording"] == recording


def test_doctor_finds_the_machine_closed(running: Machine) -> None:
    """Of SysRq it tells what the host's kernel says: a container can't set it, so that this is not shown here."""
    report = running.json("bwc-agent", "doctor", "--json", *CONFIG)
    found = {finding["check"]: finding for finding in report["findings"]}
    assert found["ctrl-alt-del"]["good"], found["ctrl-alt-del"]
    assert found["usb input"]["said"] == "no USB input device is active"
    assert "sysrq" in found["sysrq"]["said"]
    assert running.path("/usr/lib/sysctl.d/60-bwc.conf").read_text().endswith("\nkernel.sysrq = 0\n")
    assert not found["camera is real"]["good"], "this camera is simulated, and it says so"


# -- its configuration ------------------------------------------------------------------------------------------------


def test_reload_changes_what_can_change_and_ends_nothing(running: Machine) -> None:
    recording, before = record(running), running.pid(RECORDER)
    config = running.path("/etc/bwc/recorder.toml")
    text = config.read_text()
    config.write_text(text.replace("segment_s = 60.0", "segment_s = 5.0"))
    running.run("systemctl", "reload", RECORDER)
    config.write_text(text.replace("[buffer]", "[buffer"))
    assert running.try_("systemctl", "reload", RECORDER)[0], "a file that is wrong is refused"
    config.write_text(text)
    running.run("systemctl", "reload", RECORDER)
    assert (running.pid(RECORDER), status(running)["recording"]) == (before, recording)
    journal = running.path(f"{EVIDENCE}/journal/{status(running)['boot']:08d}.jsonl")

    def entries() -> list[str]:
        lines = [json.loads(line)["entry"] for line in journal.read_bytes().splitlines() if line.endswith(b"}")]
        return [entry["what"] for entry in lines if entry["kind"] == "configuration"]

    until(lambda: entries() == ["reloaded", "refused", "reloaded"], "the journal says so")


def test_typo_leaves_a_camera_that_records_within_seconds(running: Machine) -> None:
    recording, before = record(running), running.pid(RECORDER)
    until(lambda: running.path("/var/lib/bwc-state/last-configuration.jws").exists(), "it was kept as good")
    restarts = int(running.show(RECORDER, "NRestarts"))
    config = running.path("/etc/bwc/recorder.toml")
    text = config.read_text()
    config.write_text(text.replace("[buffer]", "[buffer"))
    busy = crowding()
    os.kill(before, signal.SIGKILL)
    killed = time.monotonic()
    took = restarted(running, before, recording) - killed
    limit = BACK_S * max(busy, crowding())
    print(f"\na typo: recording again after {took:.2f} s (at most {limit:.2f})")
    known = status(running)["configuration"]
    assert (known["origin"], "recorder.toml" in known["problem"]) == ("last_good", True)
    assert int(running.show(RECORDER, "NRestarts")) == restarts + 1
    assert 0 < took <= limit
    config.write_text(text)
    before = running.pid(RECORDER)
    running.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", RECORDER)
    restarted(running, before, recording)
    assert status(running)["configuration"]["origin"] == "file"


# -- what befalls it --------------------------------------------------------------------------------------------------


def test_kill_is_survived(running: Machine) -> None:
    recording, took, limits = record(running), [], []
    for _ in range(3):
        busy = crowding()
        before, killed = running.pid(RECORDER), time.monotonic()
        os.kill(before, signal.SIGKILL)
        took.append(restarted(running, before, recording) - killed)
        limits.append(BACK_S * max(busy, crowding()))
    said = ", ".join(f"{one:.2f} (at most {limit:.2f})" for one, limit in zip(took, limits, strict=True))
    print(f"\nkill -9: recording again after {said} s")
    assert all(0 < one <= limit for one, limit in zip(took, limits, strict=True))


def test_hang_is_survived(running: Machine) -> None:
    """The unit's own 10 s are cut to 3 s, to save time; what is measured begins when it is killed."""
    assert running.show(RECORDER, "WatchdogUSec") == "10s"
    running.drop_in(RECORDER, "[Service]\nWatchdogSec=3s\n")
    recording, before = record(running), running.pid(RECORDER)
    os.kill(before, signal.SIGKILL)  # the next one has the shorter watchdog
    restarted(running, before, recording)
    time.sleep(4)
    before = running.pid(RECORDER)
    assert running.show(RECORDER, "WatchdogUSec") == "3s"
    os.kill(before, signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: not Path(f"/proc/{before}").exists(), "the watchdog bites", 8)
    killed = time.monotonic()
    busy = crowding()
    took = restarted(running, before, recording) - killed
    limit = BACK_S * max(busy, crowding())
    running.lift(RECORDER)
    print(f"\nhang: killed after {killed - stopped:.2f} s, recording again {took:.2f} s later (at most {limit:.2f})")
    assert 0 < took <= limit


def test_recorder_out_of_memory_is_survived(running: Machine) -> None:
    """As at MemoryMax: the kernel kills what can't have more. What it has already stays counted where it was."""
    if running.group is None:
        pytest.skip("needs control groups of version 1: in the machine itself nothing limits memory here")
    recording, before = record(running), running.pid(RECORDER)
    small = running.group / "small"
    small.mkdir()
    (small / "memory.limit_in_bytes").write_text(str(64 << 10))
    (small / "cgroup.procs").write_text(str(before))
    until(lambda: not Path(f"/proc/{before}").exists(), "it is killed for want of memory", 30)
    killed = time.monotonic()
    busy = crowding()
    took = restarted(running, before, recording) - killed
    limit = BACK_S * max(busy, crowding())
    until(lambda: not (small / "cgroup.procs").read_text(), "nothing is left in it")
    small.rmdir()
    print(f"\nout of memory: recording again after {took:.2f} s (at most {limit:.2f})")
    assert 0 < took <= limit


def test_program_that_eats_all_memory_is_killed_before_the_recorder(running: Machine) -> None:
    if running.group is None:
        pytest.skip("needs control groups of version 1: in the machine itself nothing limits memory here")
    record(running)
    before = running.pid(RECORDER)
    limit = running.group / "memory.limit_in_bytes"
    used = int((running.group / "memory.usage_in_bytes").read_text())
    limit.write_text(str(max(used, 256 << 20) + (128 << 20)))
    eat = "eaten = []\nwhile True: eaten.append(bytearray(1 << 20))"
    code, _said = running.try_("systemd-run", "--wait", "-q", "--unit=hog", "python3", "-c", eat)
    limit.write_text("-1")
    assert code, "the eater was to be killed"
    assert running.pid(RECORDER) == before
    assert status(running)["mode"] == "recording"


def test_crashing_dock_is_survived(running: Machine) -> None:
    record(running)
    running.drop_in(DOCK, "[Service]\nRestartSec=50ms\n")
    before, gaps = running.pid(RECORDER), len(spans(running, "off"))
    for _ in range(6):
        victim = running.pid(DOCK)
        if victim:
            os.kill(victim, signal.SIGSEGV)
        until(lambda victim=victim: running.pid(DOCK) not in {0, victim}, "another dock")  # type: ignore[misc]
    assert running.pid(RECORDER) == before
    assert len(spans(running, "off")) == gaps
    running.lift(DOCK)
    assert running.show(DOCK, "ActiveState") == "active"


# -- sandboxes --------------------------------------------------------------------------------------------------------

NODES = {"mem": ("c", 1, 1), "disk": ("b", 254, 0), "loop": ("b", 7, 0), "terminal": ("c", 4, 1), "key": ("c", 13, 64)}
SEEN = (
    *(
        ("write", place)
        for place in ("/etc", "/usr/lib/bwc-agent", "/var/log", "/srv/open", "/home/officer", "/run/open")
    ),
    *(("read", path) for path in ("/etc/shadow", "/home/officer/diary", "/etc/bwc/device.pem", "/tmp/foreign")),
    ("read", "/proc/1/cmdline"),
    *(("device", f"/dev/bwc-{name}") for name in NODES if name != "key"),
    ("device-write", "/dev/bwc-key"),
    ("write", "/proc/sys/kernel"),
    ("append", "/sys/fs/cgroup/cgroup.procs"),
)
"""What neither service is to reach, though its modes would let everybody."""


def sandboxed(machine: Machine, unit: str, wanted: list[tuple[str, str]], *, weak: bool = False) -> set[str]:
    """What the probe reaches, run with a unit's own settings; `weak`: with its user alone."""
    text = machine.path(f"/usr/lib/systemd/system/{unit}").read_text()
    lines = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        key = line.partition("=")[0]
        if key in {"Restart", "RestartSec", "Type", "SuccessExitStatus", "RefuseManualStop", "NotifyAccess"}:
            continue
        if key.startswith(("Watchdog", "ExecSt", "Condition")):
            continue
        if weak and not key.startswith(("[", "User", "Group", "Supplementary", "LoadCred", "#")):
            continue
        lines.append(line)
    target = machine.path("/run/systemd/system/bwc-probe.service")
    argument = json.dumps([list(pair) for pair in wanted]).replace('"', '\\"')
    added = ["[Service]", "Type=oneshot", "StandardOutput=truncate:/run/probe.json"]
    added.append(f'ExecStart=/usr/bin/python3 -I /opt/probe.py "{argument}"')
    target.write_text("\n".join([*lines, *added, ""]))
    machine.run("systemctl", "daemon-reload")
    code, said = machine.try_("systemctl", "start", "bwc-probe.service")
    assert not code, said + machine.run("journalctl", "-b", "--no-pager", "-n", "20", "-u", "bwc-probe.service")
    return set(json.loads(machine.path("/run/probe.json").read_text()))


@pytest.fixture(scope="module")
def furnished(running: Machine) -> Machine:
    """The machine with things that everybody may read and write, were it not for a sandbox."""
    script = """
    mkdir -p /srv/open /run/open /home/officer && chmod 777 /srv/open /run/open /home/officer
    echo dear > /home/officer/diary; echo foreign > /tmp/foreign; chmod 644 /home/officer/diary /tmp/foreign
    """
    running.run("sh", "-c", script)
    for name, (kind, major, minor) in NODES.items():
        running.run("mknod", "-m", "666", f"/dev/bwc-{name}", kind, str(major), str(minor))
    (running.path("/opt") / "probe.py").write_text(PROBE.read_text())
    return running


def test_recorder_s_sandbox_holds(furnished: Machine) -> None:
    own = [("write", EVIDENCE), ("write", "/run/bwc"), ("device", "/dev/bwc-key"), ("device", "/dev/null")]
    reached = sandboxed(furnished, RECORDER, [*SEEN, *own, ("write", "/etc/bwc")])
    assert reached == {f"{kind} {path}" for kind, path in own}


def test_dock_s_sandbox_holds(furnished: Machine) -> None:
    own = [("read", "/run/bwc/status.json"), ("write", "/var/lib/bwc-dock")]
    recording = status(furnished)["recording"]
    folder = f"{EVIDENCE}/recordings/{recording}"
    readable = [("list", folder), ("read", f"{folder}/0001.seg"), ("read", f"{EVIDENCE}/journal/00000001.jsonl")]
    foreign = [
        ("write", folder),
        ("append", f"{folder}/0001.seg"),
        ("append", f"{EVIDENCE}/journal/00000001.jsonl"),
        ("list", "/run/bwc/inbox"),
        ("unix", "/run/bwc/recorder.sock"),
        ("write", "/run/bwc"),
        ("device", "/dev/bwc-key"),
    ]
    inbox = [("write", "/run/bwc/inbox")]
    reached = sandboxed(furnished, DOCK, [*SEEN, *own, *readable, *foreign, *inbox])
    assert reached == {f"{kind} {path}" for kind, path in (*own, *readable, *inbox)} | {"IPv4", "IPv6", "to listen"}


def test_probe_would_find_holes(furnished: Machine) -> None:
    reached = sandboxed(furnished, RECORDER, list(SEEN), weak=True)
    print(f"\nwithout the sandbox: {', '.join(sorted(reached))}")
    assert {"IPv4", "netlink", "write /srv/open", "read /home/officer/diary", "read /tmp/foreign"} <= reached
    assert {"device /dev/bwc-loop", "capabilities", "new privileges", "read /proc/1/cmdline", "to listen"} <= reached
    assert "read /etc/bwc/device.pem" not in reached, "that is its mode's part"


# -- power ------------------------------------------------------------------------------------------------------------


def test_reboot_while_recording_goes_on_in_the_next_boot(running: Machine) -> None:
    recording, boot = record(running), status(running)["boot"]
    # Past the lock, straight to the service manager: root can, and the recording has to live with it.
    running.try_("systemctl", "--no-block", "start", "reboot.target")
    running.reboots()
    seconds = ready(running)
    until(lambda: status(running).get("recording") == recording, "the recording goes on")
    assert status(running)["boot"] == boot + 1
    print(f"\nreboot: recording on {seconds:.1f} s after the manager answered")


def test_power_cut_while_recording_is_named_and_recorded_on(running: Machine) -> None:
    recording, boot = record(running), status(running)["boot"]
    running.cut()
    running.boot()
    ready(running)
    until(lambda: status(running).get("recording") == recording, "the recording goes on")
    assert status(running)["boot"] == boot + 1
    report = running.json("bwc-agent", "verify", EVIDENCE, "--trust", "/etc/bwc/trust.jws", "--json")
    said = [finding["sentence"] for finding in report["findings"]]
    assert any(f"closed by boot {boot + 1}" in sentence and "cut by a loss of power" in sentence for sentence in said)
    assert all("journal" in line or line.split()[1].endswith(".seg") for line in worst(running))


def test_card_is_mounted_so_that_nothing_on_it_runs_whatever_fstab_says(running: Machine) -> None:
    running.cut()
    fstab = running.root / "etc/fstab"
    fstab.write_text("/var/lib/bwc /var/lib/bwc none bind,nofail,x-systemd.before=local-fs.target 0 0\n")
    running.boot()
    ready(running)
    options = set(running.run("findmnt", "-n", "-o", "OPTIONS", "/var/lib/bwc").strip().split(","))
    assert {"nosuid", "nodev", "noexec", "rw"} <= options
    assert until(lambda: status(running).get("boot", 0) > 0, "it writes there") >= 0
    found = {one["check"]: one for one in running.json("bwc-agent", "doctor", "--json", *CONFIG)["findings"]}
    assert found["card options"]["good"]
    running.run("mount", "-o", "remount,bind,suid,dev,exec", "/var/lib/bwc")
    found = {one["check"]: one for one in running.json("bwc-agent", "doctor", "--json", *CONFIG)["findings"]}
    assert not found["card options"]["good"]


def test_ctrl_alt_del_would_reboot_without_the_mask(running: Machine) -> None:
    running.path("/etc/fstab").write_text("")
    running.path("/etc/systemd/system/ctrl-alt-del.target").unlink()
    running.run("systemctl", "daemon-reload")
    press_ctrl_alt_del(running, 1)
    running.reboots()
    ready(running)
    running.path("/etc/systemd/system/ctrl-alt-del.target").symlink_to("/dev/null")
