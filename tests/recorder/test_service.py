"""The service as a real process, and what it does before it is one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from agent.capture.base import unpaced
from agent.capture.replay import ReplaySource
from agent.config import recorder as configuration
from agent.decisions.signed import SignedPolicy
from agent.decisions.unsafe import UnsafeUntilSigned
from agent.encoding.strict_json import sha256_hex
from agent.errors import ControlError, EvidenceError, KeyFileError
from agent.evidence import layout
from agent.gpio.config import ControlsConfig
from agent.journal import entries
from agent.media.packet import Kind
from agent.monitoring.measurer import Measurer
from agent.provisioning.agency import provision as make_agency
from agent.recorder import service as recorder_service
from agent.recorder.hardening import Hardening
from agent.recorder.identity import load_device_identity
from agent.recorder.ipc.flag import RecordingFlag
from agent.recorder.ipc.local_socket import ask
from agent.recorder.launch import UNUSABLE
from agent.recorder.recorder import Recorder
from agent.recorder.service import Service
from agent.storage.disk import DiskStorage
from tests.support.clips import STREET, clip
from tests.support.clocks import FakeClocks
from tests.support.device import Device, owner
from tests.support.permissions import looks_into_the_recorder, skip, small_disk
from tests.support.running import Running, ServiceManager, change, command, provision, wait_for

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    """A provisioned device's configuration."""
    return provision(tmp_path / "pilot")


def permitted(*words: str) -> bool:
    return subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0


# -- from init to SIGTERM ---------------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    listening = ServiceManager(tmp_path)
    try:
        yield listening
    finally:
        listening.close()


def test_recorder_serves_from_init_to_sigterm_and_says_what_it_did(tmp_path: Path, manager: ServiceManager) -> None:
    made = command("init", str(tmp_path / "pilot"), "--camera", "pattern:160x120@30")
    assert made.returncode == 0, made.stderr
    recorder = Running(tmp_path / "pilot/device/config.toml", environment={"NOTIFY_SOCKET": str(manager.path)})
    with recorder:
        config = str(recorder.config)
        manager.until("READY=1")
        manager.until("WATCHDOG=1")
        wait_for(lambda: "bwc-agent: ready in standby, boot 1; pattern" in recorder.said())
        status = json.loads(command("ctl", "status", "--config", config, "--json").stdout)
        assert (status["mode"], status["boot"]) == ("standby", 1)
        started = command("ctl", "start", "--config", config)
        assert started.returncode == 0
        recording = started.stdout.split()[1]
        assert command("ctl", "mark", "--config", config).stdout == f"marked in {recording}\n"
        recorder.until(lambda status: status["recording_s"] > 0.5)
        # A manager listens all the time: what comes to a socket that is full of heartbeats is lost.
        listening = threading.Thread(target=manager.until, args=("STOPPING=1",))
        listening.start()
        code = recorder.terminate()
        assert code == 0, recorder.said()
        listening.join()
        assert "STOPPING=1" in manager.told
        assert manager.told.count("READY=1") == 1
    said = recorder.entries()
    kinds = [type(entry) for entry in said if not isinstance(entry, entries.Checkpoint)]
    assert kinds[0] is entries.Boot
    assert {entries.RecordingStarted, entries.Marked, entries.SegmentOpened, entries.SelfTested} <= set(kinds)
    assert kinds[-3:] == [entries.Interrupted, entries.SegmentClosed, entries.ShutDown]
    assert isinstance(said[-1], entries.Checkpoint)
    assert (recorder.evidence / layout.manifest(recording, 1)).exists()
    code, report = recorder.verify()
    assert code == 0, report
    assert "Traceback" not in recorder.said()


def test_kill_leaves_a_socket_that_the_next_start_replaces_and_the_recording_continues(pilot: Path) -> None:
    with Running(pilot) as recorder:
        recording = recorder.record(0.5)
        recorder.kill()
        assert list(recorder.run_directory.iterdir())
        recorder.start()
        status = recorder.until(lambda status: status["recording"] == recording)
        assert status["boot"] == 2
        wait_for(lambda: any(isinstance(entry, entries.SegmentRecovered) for entry in recorder.entries(2)))
        assert recorder.terminate() == 0
    boot = recorder.entries(2)[0]
    assert isinstance(boot, entries.Boot)
    assert (boot.interrupted, boot.dark_basis) == (recording, "same_kernel")


def test_dock_user_that_the_machine_does_not_know_keeps_no_camera_from_recording(pilot: Path) -> None:
    change(pilot, 'dock_user = ""', 'dock_user = "bwc-gone"')
    with Running(pilot) as recorder:
        recorder.record(0.2)
        assert recorder.terminate() == 0
        refused = [entry for entry in recorder.entries() if isinstance(entry, entries.Refused)]
    assert ["bwc-gone" in entry.why for entry in refused] == [True]


def test_sighup_and_a_second_recorder_change_nothing(pilot: Path) -> None:
    with Running(pilot) as recorder:
        recording = recorder.record()
        recorder.signal(signal.SIGHUP)
        second = command("run", "--config", str(pilot))
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert "a recorder is running already" in second.stderr
        assert recorder.status()["recording"] == recording
        assert [path.name for path in (recorder.evidence / "journal").iterdir()] == ["00000001.jsonl"]
        recorder.signal(signal.SIGINT)
        recorder.signal(signal.SIGTERM)  # twice is once
        assert recorder.process is not None
        assert recorder.process.wait(20) == 0
    assert sum(isinstance(entry, entries.Interrupted) for entry in recorder.entries()) == 1


def test_second_recorder_with_another_run_directory_is_kept_off_the_same_evidence(pilot: Path, tmp_path: Path) -> None:
    with Running(pilot) as recorder:
        other = pilot.parent / "other.toml"
        shutil.copy(pilot, other)
        change(other, f'directory = "{recorder.run_directory}"', f'directory = "{tmp_path}/r"')
        second = command("run", "--config", str(other))
        assert second.returncode == 2
        assert "another recorder" in second.stderr
        assert [path.name for path in (recorder.evidence / "journal").iterdir()] == ["00000001.jsonl"]


def test_service_manager_that_does_not_listen_delays_nothing(pilot: Path, manager: ServiceManager) -> None:
    manager.fill()
    with Running(pilot, environment={"NOTIFY_SOCKET": str(manager.path)}) as recorder:
        recorder.record(0.3)
        assert recorder.terminate() == 0


# -- what can be asked of it ------------------------------------------------------------------------------------------


def test_no_request_stops_pauses_mutes_or_switches_off(pilot: Path) -> None:
    with Running(pilot) as recorder:
        recording = recorder.record()
        words = [
            "stop",
            "pause",
            "privacy",
            "mute",
            "off",
            "power_off",
            "shutdown",
            "end",
            "resume",
            "config",
            "delete",
        ]
        words += ["StopRecording", "PrivacyPause", "Mute", "PowerOff", "", "START", "start "]
        for word in words:
            with pytest.raises(ControlError, match="nothing else is done here"):
                recorder.ask(word)
        for request in ({"ask": "start", "stop": True}, {"ask": ["stop"]}, {"stop": 1}, {}):
            with contextlib.suppress(ControlError):
                ask(recorder.run_directory, request)
        for odd in ({"hold_s": -1, "times": 1}, {"hold_s": 0.1, "times": 10**30}, {"hold_s": 1e308, "times": 1}):
            with pytest.raises(ControlError):
                recorder.ask("press", name="record", **odd)
        with pytest.raises(ControlError):
            recorder.ask("policy", token="x.y.z")
        with pytest.raises(ControlError):
            recorder.ask("authorize", token="x.y.z")
        status = recorder.status()
        assert (status["recording"], status["mode"]) == (recording, "recording")


# -- what leaks -------------------------------------------------------------------------------------------------------


def pieces_of(path: Path) -> list[bytes]:
    """Bytes from the middle of pictures and sounds, that no other file would hold by chance."""
    opened = ReplaySource(path, unpaced(FakeClocks().monotonic_ns), loop=False).open(1)
    found = []
    for packet in opened:
        size = len(packet.data)
        if size >= (200 if packet.kind is Kind.VIDEO else 64):
            found.append(packet.data[size // 2 : size // 2 + 32])
        if len(found) == 120:
            break
    opened.close()
    return found


def test_nothing_of_the_pictures_lies_in_clear_anywhere(tmp_path: Path) -> None:
    film = clip(STREET)
    config = provision(tmp_path / "pilot", camera=f"replay:{film}")
    with Running(config) as recorder:
        recorder.record(1.5)
        pieces = pieces_of(film)
        folders = (recorder.config.parent.parent, recorder.run_directory)
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        stored = b"".join(path.read_bytes() for path in files)
        assert any(path.suffix == ".seg" and path.stat().st_size > 50_000 for path in files)
        assert not [piece for piece in pieces if piece in stored]
        assert b"moof\x00\x00\x00\x10mfhd" not in b"".join(path.read_bytes() for path in files if path.suffix == ".seg")
        assert recorder.terminate() == 0


@looks_into_the_recorder
def test_recorder_holds_no_file_but_its_own_and_speaks_to_no_network(tmp_path: Path) -> None:
    film = clip(STREET)
    config = provision(tmp_path / "pilot", camera=f"replay:{film}")
    cut_off = ("unshare", "-n") if permitted("unshare", "-n") else ()
    with Running(config, prefix=cut_off) as recorder:
        recorder.record(0.5)
        handles = recorder.handles()
        regular = [name for name in handles if name.startswith("/") and not name.startswith("/dev/")]
        here = (str(film.resolve()), str(recorder.evidence), str(recorder.log))
        assert [name for name in regular if not name.startswith(here) or "(deleted)" in name] == []
        assert not [name for name in handles if "memfd" in name]
        inodes = {name.removeprefix("socket:[").rstrip("]") for name in handles if name.startswith("socket:")}
        network = Path(f"/proc/{recorder.pid}/net")
        for protocol in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
            table = network / protocol
            if table.exists():
                assert not inodes & set(table.read_text().split())
        assert inodes <= set((network / "unix").read_text().split())
        limits = Path(f"/proc/{recorder.pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        assert recorder.terminate() == 0


# -- storage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    with small_disk(tmp_path / "card", "24m") as place:
        yield place


def onto(card: Path, config: Path) -> None:
    """Evidence goes onto the card."""
    shutil.copytree(config.parent / "evidence", card / "evidence")
    shutil.rmtree(config.parent / "evidence")
    (config.parent / "evidence").mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", str(card / "evidence"), str(config.parent / "evidence")], check=True)
    change(config, "reserve_mb = 16", "reserve_mb = 1")
    change(config, "segment_s = 60.0", "segment_s = 2.0")


def off(config: Path) -> None:
    subprocess.run(["umount", "-l", str(config.parent / "evidence")], check=False, capture_output=True)


def test_recording_continues_in_memory_while_the_card_is_full_and_is_caught_up(pilot: Path, card: Path) -> None:
    onto(card, pilot)
    try:
        with Running(pilot) as recorder:
            recorder.record(0.5)
            filler = card / "filler"
            with filler.open("wb") as file:
                while recorder.status()["storage_free_bytes"] > (1 << 20):
                    file.write(bytes(256 << 10))
                    file.flush()
            status = recorder.until(lambda status: status["storage_failing"] and status["backlog_ms"] > 1500)
            assert status["mode"] == "recording"
            assert status["time_left_s"] == 0
            filler.unlink()
            recorder.until(lambda status: not status["storage_failing"] and status["backlog_ms"] < 1000)
            assert recorder.terminate() == 0
            kinds = [type(entry) for entry in recorder.entries()]
            assert kinds.count(entries.StorageFailed) == kinds.count(entries.StorageBack) == 1
            assert entries.PacketsLost not in kinds
            code, report = recorder.verify()
            assert code == 0, report
    finally:
        off(pilot)


def test_card_that_is_pulled_out_and_inserted_again_gets_all_that_came_meanwhile(pilot: Path, card: Path) -> None:
    onto(card, pilot)
    try:
        with Running(pilot) as recorder:
            recording = recorder.record(0.5)
            off(pilot)
            recorder.until(lambda status: status["storage_failing"] and status["backlog_ms"] > 1000)
            assert list(recorder.evidence.iterdir()) == []  # nothing went below the mount point
            subprocess.run(["mount", "--bind", str(card / "evidence"), str(recorder.evidence)], check=True)
            status = recorder.until(lambda status: not status["storage_failing"] and status["backlog_ms"] < 1000)
            assert status["recording"] == recording
            assert recorder.terminate() == 0
            assert entries.PacketsLost not in [type(entry) for entry in recorder.entries()]
            code, report = recorder.verify()
            assert code == 0, report
    finally:
        off(pilot)


@NEEDS_ROOT
def test_folder_whose_permissions_were_removed_is_storage_that_refuses(pilot: Path) -> None:
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
    if not permitted(*powerless):
        skip("only root may give up permissions")
    change(pilot, "segment_s = 60.0", "segment_s = 2.0")
    with Running(pilot, prefix=powerless) as recorder:
        recording = recorder.record(0.5)
        folder = recorder.evidence / layout.recording(recording)
        folder.chmod(0o500)
        recorder.until(lambda status: status["storage_failing"])
        folder.chmod(0o700)
        recorder.until(lambda status: not status["storage_failing"] and status["backlog_ms"] < 1000)
        assert recorder.terminate() == 0
        assert entries.PacketsLost not in [type(entry) for entry in recorder.entries()]
        code, report = recorder.verify()
        assert code == 0, report


# -- edited configuration ---------------------------------------------------------------------------------------------


def refused(config: Path) -> str:
    with pytest.raises((KeyFileError, EvidenceError)) as why:
        load_device_identity(configuration.load(config), config)
    return str(why.value)


@pytest.fixture(scope="module")
def foreign() -> Iterator[Path]:
    """Another agency's device of the same name."""
    with tempfile.TemporaryDirectory() as name:
        made = make_agency(Path(name) / "pilot", "city", "cam-1", clocks=FakeClocks(), random_bytes=os.urandom)
        yield made.device_key.parent


def test_journal_names_the_configuration_that_each_boot_was_started_with(pilot: Path) -> None:
    with Running(pilot) as recorder:
        first = sha256_hex(pilot.read_bytes())
        assert recorder.terminate() == 0
        change(pilot, "pre_event_s = 1.0", "pre_event_s = 0.5")
        recorder.start()
        second = sha256_hex(pilot.read_bytes())
        wait_for(lambda: bool(recorder.entries(2)))
        boots = [recorder.entries(boot)[0] for boot in (1, 2)]
    assert [boot.configuration for boot in boots if isinstance(boot, entries.Boot)] == [first, second]
    assert first != second


@looks_into_the_recorder
def test_recorder_keeps_nothing_in_memory_that_only_command_lines_need(pilot: Path) -> None:
    with Running(pilot) as recorder:
        mapped = Path(f"/proc/{recorder.pid}/maps").read_text()
    loaded = {Path(line.split()[-1]).name.split(".")[0] for line in mapped.splitlines() if "/" in line}
    assert "_rust" in loaded
    assert not loaded & {"_pydantic_core", "_hashlib", "libcrypto", "libssl", "_ssl"}


def test_owner_is_who_the_certificate_names(pilot: Path) -> None:
    owner = load_device_identity(configuration.load(pilot), pilot)
    assert (owner.agency, owner.device) == ("city", "cam-1")


def test_foreign_trust_document_is_refused_by_the_pinned_root(pilot: Path, foreign: Path) -> None:
    shutil.copy(foreign / "trust.jws", pilot.parent / "trust.jws")
    assert "another agency's" in refused(pilot)


def test_edited_root_is_refused(pilot: Path, foreign: Path) -> None:
    del foreign
    change(pilot, 'root = "', 'root = "A')
    assert "[device] root is wrong" in refused(pilot)


def test_foreign_trust_document_with_the_root_edited_to_match_does_not_fit_the_certificate(
    pilot: Path, foreign: Path
) -> None:
    from agent.keys.files import read_token
    from agent.trust.document import read_unpinned

    shutil.copy(foreign / "trust.jws", pilot.parent / "trust.jws")
    mine = configuration.load(pilot).device.root
    change(pilot, mine, read_unpinned(read_token(foreign / "trust.jws")).root_kid)
    assert refused(pilot)


def test_certificate_of_another_device_is_refused(pilot: Path, foreign: Path) -> None:
    shutil.copy(foreign / "device.jws", pilot.parent / "device.jws")
    assert refused(pilot)


def test_key_of_another_device_is_refused(pilot: Path, foreign: Path) -> None:
    (pilot.parent / "device.pem").unlink()
    shutil.copy(foreign / "device.pem", pilot.parent / "device.pem")
    assert "identity key" in refused(pilot)


def test_altered_trust_document_is_refused(pilot: Path) -> None:
    token = (pilot.parent / "trust.jws").read_text()
    (pilot.parent / "trust.jws").write_text(token[:-8] + ("A" * 8))
    assert refused(pilot)


@pytest.mark.parametrize("name", ["device.pem", "device.jws", "trust.jws"])
def test_missing_or_empty_identity_is_one_line_and_an_exit_code_of_its_own(pilot: Path, name: str) -> None:
    (pilot.parent / name).unlink()
    assert name in refused(pilot)
    (pilot.parent / name).write_bytes(b"")
    (pilot.parent / name).chmod(0o600)
    assert refused(pilot)
    change(pilot, 'directory = "run"', f'directory = "{pilot.parent}/r"')
    done = command("run", "--config", str(pilot))
    assert done.returncode == UNUSABLE
    assert done.stderr.startswith("bwc-agent: nothing can be recorded: ")
    assert done.stderr.count("\n") == 1
    assert not (pilot.parent / "evidence" / "journal").exists()


# -- what the watchdog rests on ---------------------------------------------------------------------------------------


def test_storage_that_answers_nothing_does_not_starve_the_watchdog(
    pilot: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that hangs hangs whoever asks it, be it only for its free room; no restart would mend it."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    # Of this process: other tests need it as it is.
    monkeypatch.setattr(recorder_service, "harden", lambda: Hardening(not_dumpable=False, no_core=False, locked=False))
    monkeypatch.setattr(recorder_service, "share_one_heap", lambda: None)
    service = Service(configuration.load(pilot), pilot)
    never = threading.Event()

    def hang(*_: object) -> None:
        never.wait()

    for name in ("status", "warn"):
        monkeypatch.setattr(service.recorder, name, hang)
    monkeypatch.setattr(service.recorder.policy, "check", hang)
    threads = [threading.Thread(target=kept, daemon=True) for kept in (service._housekeeping, service._report)]
    for thread in threads:
        thread.start()
    service.recorder.control.put(lambda: None)
    manager.until("WATCHDOG=1")
    manager.told.clear()
    manager.until("WATCHDOG=1")
    service._ending.set()
    never.set()
    for thread in threads:
        thread.join()
    service.discard()


@pytest.mark.parametrize("delivers", [True, False])
def test_machine_is_kept_up_while_it_records_whether_or_not_the_camera_delivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivers: bool
) -> None:
    device = Device()
    service = Service.__new__(Service)
    service.recorder, service._flag = device.recorder, RecordingFlag(tmp_path)
    monkeypatch.setattr(Recorder, "standing_by", property(lambda _recorder: delivers))
    device.run(6)
    device.press("record", times=2)
    device.run(1)
    service._show_recording()
    assert (tmp_path / "recording").exists()
    device.press("record", hold_s=3.2)
    device.run(20)
    assert not device.recording
    service._show_recording()
    assert not (tmp_path / "recording").exists()


def test_error_in_measuring_a_small_picture_does_not_reach_the_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    service = Service.__new__(Service)
    service.recorder = device.recorder
    service._measurer = Measurer(lambda _fact: None, lambda: 0, decode_pictures=False)

    def broken(*_given: object, **_named: object) -> None:
        raise ValueError("a row too short")

    monkeypatch.setattr(service._measurer, "look", broken)
    device.run(1)
    service._look(memoryview(bytes(16)), 4, 4, 0, 4)
    device.run(1)
    refused = [entry for entry in device.entries(entries.Refused) if isinstance(entry, entries.Refused)]
    assert [entry.what for entry in refused if "a row too short" in entry.why] == ["control"]


@pytest.mark.parametrize("pins", ["lgpio", "mock"])
def test_unsafe_policy_needs_simulated_pins(
    pilot: Path, tmp_path: Path, pins: Literal["lgpio", "mock"], capfd: pytest.CaptureFixture[str]
) -> None:
    config = configuration.load(pilot)
    config = replace(
        config,
        policy=replace(config.policy, unsafe_permit_everything=True),
        controls=ControlsConfig(pin_factory=pins),
    )
    service = Service.__new__(Service)
    service._clocks, service._unsafe_refused = FakeClocks(), ""
    policy = service._policy(config, owner(), DiskStorage(tmp_path))
    refused = pins == "lgpio"
    assert type(policy) is (SignedPolicy if refused else UnsafeUntilSigned)
    assert bool(service._unsafe_refused) is refused
    assert ("unsafe_permit_everything is refused" in capfd.readouterr().err) is refused
