import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.capture.base import OpenSource
from agent.clock import NS
from agent.config import recorder as configuration
from agent.config.recorder import Config
from agent.config.template import STATE, write_config
from agent.doctor import checks
from agent.doctor.checks import Finding, check_all, other_owner
from agent.encoding.strict_json import sha256_hex
from agent.errors import ConfigError, SourceError
from agent.gpio.config import BENCH_CONTROLS
from agent.keys.files import save_signing_key
from agent.provisioning.first_bundle import sign_first_bundle
from agent.recorder import sources
from agent.recorder.hardening import Hardening
from agent.recorder.ipc.local_socket import LocalServer
from agent.storage.disk import DiskStorage
from tests.support.agency import DAY, NOW
from tests.support.clocks import FakeClocks
from tests.support.device import agency

NAMES = [
    "configuration",
    "clock",
    "evidence folder",
    "storage room",
    "storage speed",
    "device state",
    "camera",
    "keys",
    "key file",
    "policy",
    "run directory",
    "controls",
    "memory",
    "swap",
    "core dumps",
]


@dataclass
class Bench:
    """A provisioned device that is fit, in a folder of its own, to be broken by a test."""

    folder: Path

    def __post_init__(self) -> None:
        pilot = self.folder / "pilot"
        shutil.copytree(agency().device_key.parent.parent, pilot)
        self.device = pilot / "device"
        self.clocks = FakeClocks()
        write_config(self.device, camera="pattern:64x64", controls=BENCH_CONTROLS)
        sign_first_bundle(pilot, "city", "us-mo-kcpd", self.clocks, None)
        (self.device / STATE).mkdir(mode=0o700)
        self.file = self.device / "config.toml"
        self.proc = self.folder / "proc"
        self.proc.mkdir()
        (self.proc / "swaps").write_text("Filename Type Size Used Priority\n")

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def config(self) -> Config:
        return configuration.load(self.file)

    def findings(self) -> dict[str, Finding]:
        found = list(check_all(self.config(), self.file, self.clocks, self.folder))
        assert [finding.check for finding in found] == NAMES
        return {finding.check: finding for finding in found}

    def bad(self) -> dict[str, Finding]:
        return {name: finding for name, finding in self.findings().items() if not finding.good}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(checks, "harden", lambda: checks_hardening(no_core=True))
    mask = os.umask(0o022)
    try:
        yield Bench(tmp_path)
    finally:
        os.umask(mask)


def checks_hardening(*, no_core: bool) -> Hardening:
    return Hardening(not_dumpable=no_core, no_core=no_core, locked=True)


def test_fit_device_passes_every_check_and_no_file_is_left_behind(bench: Bench) -> None:
    before = sorted(path.name for path in bench.device.rglob("*"))
    findings = bench.findings()
    assert [name for name, finding in findings.items() if not finding.good] == []
    assert all(finding.said and "\n" not in finding.said for finding in findings.values())
    assert sorted(path.name for path in bench.device.rglob("*")) == before
    assert "cam-1 of city; recordings open for 3 recipients" in findings["keys"].said
    assert "video h264, audio aac" in findings["camera"].said
    assert "us-mo-kcpd, version 1" in findings["policy"].said


def only(bench: Bench, name: str) -> Finding:
    """The one check that is not well."""
    bad = bench.bad()
    assert list(bad) == [name]
    return bad[name]


def test_another_user_gets_one_sudo_finding_and_no_wrong_remedy(bench: Bench) -> None:
    owner = bench.device.stat().st_uid
    found = list(check_all(bench.config(), bench.file, bench.clocks, bench.folder, user=owner + 1))
    (user,) = [finding for finding in found if not finding.good]
    assert user.check == "user"
    assert user.remedy == f"run with sudo: sudo bwc-agent doctor --config {bench.file}"
    judged = {finding.check for finding in found} - {"user"}
    assert judged == {"configuration", "clock", "memory", "swap", "core dumps"}
    for skipped in set(NAMES) - judged:
        assert skipped in user.said


def test_root_and_the_owner_run_all_checks(bench: Bench) -> None:
    assert other_owner(bench.config(), bench.file, 0) == ""
    assert other_owner(bench.config(), bench.file, bench.device.stat().st_uid) == ""


def test_owner_behind_a_closed_folder_is_another_user(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    config = bench.config()
    monkeypatch.setattr(Path, "stat", closed)
    assert other_owner(config, bench.file, 1000) == "another user"


def test_clock_that_is_not_synchronised(bench: Bench) -> None:
    bench.clocks.source, bench.clocks.uncertainty_s = "unsynchronised", None
    assert "timesyncd" in only(bench, "clock").remedy


def test_evidence_folder_that_others_may_read(bench: Bench) -> None:
    (bench.device / "evidence").chmod(0o755)
    finding = only(bench, "evidence folder")
    assert "0755" in finding.said
    assert "chmod 700" in finding.remedy


def test_missing_evidence_folder_is_reported_and_not_created(bench: Bench) -> None:
    shutil.rmtree(bench.device / "evidence")
    bad = bench.bad()
    assert list(bad) == ["evidence folder", "storage room", "storage speed"]
    assert "mount the card" in bad["evidence folder"].remedy
    assert not (bench.device / "evidence").exists()


def test_storage_that_is_almost_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskStorage, "free_bytes", lambda _self: 100 << 20)
    assert "empty card" in only(bench, "storage room").remedy


def test_storage_that_is_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(n * 0.2 for n in range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    finding = only(bench, "storage speed")
    assert "200.0 ms" in finding.said
    assert "card" in finding.remedy


def test_storage_that_refuses_files(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def full(handle: int, data: bytes, offset: int) -> int:
        if offset:
            raise OSError(28, "No space left on device")
        return real(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert "No space left" in only(bench, "storage speed").said
    assert not [path for path in (bench.device / "evidence").iterdir() if "doctor" in path.name]


def test_missing_film_of_a_simulated_camera(bench: Bench) -> None:
    bench.change('camera = "pattern:64x64"', 'camera = "replay:missing.mp4"')
    finding = only(bench, "camera")
    assert "missing.mp4" in finding.said
    assert "[source] camera" in finding.remedy


@pytest.mark.parametrize(
    ("camera", "expected"), [("webcam", "expected a source"), ("pattern:9999x1", "expected width and height")]
)
def test_camera_that_does_not_exist_is_refused_with_its_line(bench: Bench, camera: str, expected: str) -> None:
    bench.change('camera = "pattern:64x64"', f'camera = "{camera}"')
    with pytest.raises(ConfigError, match=rf"line \d+: source: {expected}"):
        bench.config()


def test_adopted_device_with_a_simulated_camera_is_not_fit(bench: Bench) -> None:
    place = bench.folder / "etc/bwc/recorder.toml"
    place.parent.mkdir(parents=True)
    found = {finding.check: finding for finding in check_all(bench.config(), place, bench.clocks, bench.folder)}
    assert "'pattern:64x64' is simulated" in found["camera is real"].said
    assert "picamera2" in found["camera is real"].remedy
    assert {"ctrl-alt-del", "sysrq", "usb input", "card options"} <= set(found)


class Broken:
    """A camera that fails in one way or another."""

    name = "camera"
    streams = ()

    def __init__(self, how: BaseException | None, *, hangs: bool = False) -> None:
        self._how = how
        self._hangs = hangs
        self.go = threading.Event()
        self.closed = False

    def open(self, generation: int) -> OpenSource:
        assert generation == 1
        if self._hangs:
            self.go.wait(30)
        if self._how is not None:
            raise self._how
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        (Broken(SourceError("no cable")), "no cable"),
        (Broken(RuntimeError("libcamera")), "RuntimeError: libcamera"),
        (Broken(None), "delivers nothing"),
    ],
)
def test_camera_that_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, camera: Broken, expected: str) -> None:
    monkeypatch.setattr(sources, "parse_spec", lambda *_: camera)
    assert expected in only(bench, "camera").said


def test_camera_that_hangs_does_not_hang_the_doctor(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Broken(None, hangs=True)
    monkeypatch.setattr(sources, "parse_spec", lambda *_: camera)
    monkeypatch.setattr(checks, "CAMERA_S", 0.1)
    assert "hangs" in only(bench, "camera").said
    camera.go.set()
    for thread in threading.enumerate():
        if thread.name == "camera-check":
            thread.join(10)
    assert camera.closed


def test_identity_key_that_others_may_read(bench: Bench) -> None:
    (bench.device / "device.pem").chmod(0o644)
    bad = bench.bad()
    assert "chmod 600" in bad["key file"].remedy


def test_identity_key_that_does_not_match_the_certificate(bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (bench.device / "device.pem").unlink()
    save_signing_key(bench.device / "device.pem", key, None, os.urandom)
    assert "identity key" in bench.bad()["keys"].said


def test_key_file_that_is_missing(bench: Bench) -> None:
    (bench.device / "device.pem").unlink()
    assert {"keys", "key file"} <= set(bench.bad())


def test_root_that_is_not_the_pinned_one(bench: Bench) -> None:
    bench.change('root = "', 'root = "x')
    assert "another agency's" in bench.bad()["keys"].said


def test_expired_certificate(bench: Bench) -> None:
    bench.clocks.utc_offset_ns = NOW + 30 * 365 * DAY
    assert "valid from" in bench.bad()["keys"].said


def test_policy_for_development_is_not_fit_for_a_shift(bench: Bench) -> None:
    bench.change("unsafe_permit_everything = false", "unsafe_permit_everything = true")
    finding = only(bench, "policy")
    assert "UNSAFE" in finding.said
    assert "unsafe_permit_everything = false" in finding.remedy


def test_policy_that_has_expired_or_was_altered(bench: Bench) -> None:
    bench.clocks.utc_offset_ns += 366 * 86_400 * NS
    printed = bench.bad()["policy"].said
    assert "policy_refused 1" in printed
    assert "expired" in printed
    bench.clocks = FakeClocks()
    bundle = next((bench.device / "evidence/policy").iterdir())
    bundle.write_text(bundle.read_text()[:-9] + "AAAAAAAAA")
    finding = only(bench, "policy")
    assert "built in" in finding.said
    assert "policy_damaged" in finding.said


def test_run_directory_that_is_too_long_or_no_folder(bench: Bench) -> None:
    (bench.device / "run").write_text("")
    assert "not a folder" in only(bench, "run directory").said
    bench.change('directory = "run"', f'directory = "{"r" * 120}"')
    assert "107 bytes" in only(bench, "run directory").said


def test_missing_pins(bench: Bench) -> None:
    bench.change('pin_factory = "mock"', 'pin_factory = "lgpio"')
    assert only(bench, "controls").remedy == "correct [controls]"


def test_buffer_that_does_not_fit_into_memory(bench: Bench) -> None:
    bench.change("max_mb = 96", "max_mb = 65536")
    assert "max_mb" in only(bench, "memory").remedy


def test_unencrypted_swap_and_unreadable_swap_list(bench: Bench) -> None:
    with (bench.proc / "swaps").open("a") as swaps:
        swaps.write("/swapfile file 1 1 1\n")
    finding = only(bench, "swap")
    assert "/swapfile" in finding.said
    assert "swapoff" in finding.remedy
    (bench.proc / "swaps").unlink()
    assert "machine that records" in only(bench, "swap").remedy


def test_core_dumps_that_are_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "harden", lambda: checks_hardening(no_core=False))
    finding = only(bench, "core dumps")
    assert "ON" in finding.said
    assert "LimitCORE=0" in finding.remedy


@pytest.mark.parametrize("well", [True, False])
def test_running_recorder_is_asked_instead_of_opening_its_camera_and_pins_a_second_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, well: bool
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("opened a second time")

    monkeypatch.setattr(sources, "parse_spec", never)
    bench.change('directory = "run"', 'directory = "r"')
    kept = {"problem": "" if well else "it is full", "anchor_problem": "", "counter": 7}
    status = {
        "source_delivering": well,
        "source": "camera",
        "faulty_lines": [] if well else ["record"],
        "device_state": kept,
        "configuration": {
            "origin": "file",
            "digest": sha256_hex(bench.file.read_bytes()),
            "problem": "",
            "pending": [] if well else ["source.camera"],
        },
    }
    server = LocalServer(bench.device / "r", lambda _request: status, lambda _why: None)
    server.start()
    try:
        assert list(bench.bad()) == ([] if well else ["configuration", "device state", "camera", "controls"])
    finally:
        server.close()


# -- device state -----------------------------------------------------------------------------------------------------


def test_device_state_names_the_build(bench: Bench) -> None:
    finding = bench.findings()["device state"]
    assert finding.good
    assert "build: one card for everything, so that card and state can be put back together" in finding.said
    assert "no state yet" in finding.said


def test_state_folder_that_is_missing_or_that_others_may_read(bench: Bench) -> None:
    folder = bench.device / STATE
    folder.chmod(0o750)
    assert "chmod 700" in bench.bad()["device state"].remedy
    folder.rmdir()
    assert "mkdir -m 700" in bench.bad()["device state"].remedy


def test_state_that_lies_on_the_card(bench: Bench) -> None:
    (bench.device / "evidence" / "state").mkdir(mode=0o700)
    bench.change('state = "state"', 'state = "evidence/state"')
    assert "internal storage" in bench.bad()["device state"].remedy


def test_altered_device_state(bench: Bench) -> None:
    (bench.device / STATE / "state.jws").write_bytes(b"a.b.c")
    assert "who had access to the internal storage" in bench.bad()["device state"].remedy


@pytest.mark.parametrize("size", [0, 55, 56])
def test_anchor_is_probed(bench: Bench, size: int) -> None:
    ram = bench.folder / "nvmem"
    if size:
        ram.write_bytes(bytes(size))
    bench.change('anchor = "none"', f'anchor = "nvmem:{ram}"')
    finding = bench.findings()["device state"]
    assert "with a clock chip's RAM" in finding.said
    assert finding.good is (size == 56)


# -- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected", "remedy"),
    [
        ({"origin": "last_good", "problem": "line 3: wrong"}, "last good one: line 3: wrong", "bwc-agent reload"),
        ({"digest": "0" * 64}, "has changed since", "bwc-agent reload"),
        ({"pending": ["buffer.max_mb"]}, "puts buffer.max_mb in force", "systemctl kill"),
        ({}, "as it is", ""),
    ],
)
def test_running_recorder_with_another_configuration_is_found(
    bench: Bench, changes: dict[str, object], expected: str, remedy: str
) -> None:
    digest = sha256_hex(bench.file.read_bytes())
    reported = {"origin": "file", "digest": digest, "problem": "", "pending": [], **changes}
    found = checks._configuration(bench.file, "", {"configuration": reported})
    assert expected in found[0]
    assert remedy in found[1]
    assert bool(found[1]) is bool(remedy)
