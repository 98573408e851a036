"""A wearer with the card in their hand lays down files that a boot would read, count or follow without end."""

import errno
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import utc_text
from agent.core.recording import events
from agent.decisions.unsafe import UnsafePermitEverything
from agent.domain.policy_settings import PolicySettings
from agent.encoding.strict_json import b64, encode_json
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal import boot_recovery as history
from agent.journal import entries
from agent.journal.format import parse_line
from agent.keys import jws
from agent.recorder import boot as boot_module
from agent.storage.disk import DiskStorage
from agent.verify.findings import Code, Verdict
from agent.verify.verifier import verify
from tests.attacks.test_card_attacks import chain_on
from tests.support.device import Device
from tests.support.storage import MemoryStorage
from tests.support.stores import MemoryRam


def memory(device: Device) -> MemoryStorage:
    assert isinstance(device.storage, MemoryStorage)
    return device.storage


def lay(device: Device, path: str, data: bytes = b"") -> None:
    file = memory(device).create(path)
    file.write_at(0, data)
    file.sync()


def interrupted() -> Device:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(3)
    memory(device).cut_power()
    return device


def test_folders_named_like_this_boots_and_full_of_large_statements_cost_one_look_each() -> None:
    device = interrupted()
    running = device.recording
    header, _, signature = memory(device).read(layout.opening(running, 1)).decode().split(".")
    certificate = memory(device).read(layout.boot_certificate(running, 1))
    large = f"{header}.{b64(encode_json({'a': 'x' * (1 << 14)}))}.{signature}".encode()
    planted = [f"{running.split('-')[0]}-zz{number:03d}" for number in range(40)]
    for name in planted:
        lay(device, layout.boot_certificate(name, 1), certificate)
        for segment in (1, *range(900_000, 900_020)):
            lay(device, layout.opening(name, segment), large)
    reads: Counter[str] = Counter()

    def count(operation: str, path: str) -> None:
        if operation == "read" and path.startswith(f"{layout.RECORDINGS}/"):
            reads[path.split("/")[1]] += 1

    memory(device).fault = count
    device.boot()
    assert {reads[name] for name in planted} == {1}
    device.run(2)
    assert device.recording == running


def test_statement_is_tried_with_the_key_that_it_names_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    device = interrupted()
    running = device.recording
    for _ in range(20):
        device.boot()
        device.run(1)
        memory(device).cut_power()
    header, _, signature = memory(device).read(layout.opening(running, 1)).decode().split(".")
    large = f"{header}.{b64(encode_json({'a': 'x'}))}.{signature}".encode()
    for segment in range(900_000, 900_064):
        lay(device, layout.opening(running, segment), large)
    tried = Counter[str]()
    verify_token = jws.verify

    def count(token: str, typ: str, key: PublicKey) -> jws.Payload:
        tried[typ] += 1
        return verify_token(token, typ, key)

    monkeypatch.setattr(jws, "verify", count)
    device.boot()
    assert tried["bwc-opening+jws"] <= 2 * (64 + 21 + 16)  # that of one key each, not of all 21
    device.run(2)
    assert device.recording == running


def test_journals_laid_where_the_search_for_a_free_number_goes_use_up_no_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "MAX_NAMES", 8)
    monkeypatch.setattr(boot_module, "MAX_NAMES", 8)
    device = interrupted()
    running = device.recording
    boot = step = 1
    while boot < 1 << 40:
        boot += step
        step = 1 if boot <= 8 else 2 * step
        lay(device, layout.journal(boot))
    device.boot()
    device.run(2)
    assert device.recording == running
    assert 9 < device.recorder.status().boot < 1 << 20
    assert not device.recorder.status().storage_failing
    last = device.recorder.status().boot
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running
    assert device.recorder.status().boot > last


@pytest.mark.parametrize("name", [layout.DEVICE, layout.TRUST, layout.CARD_ID])
def test_folder_in_the_place_of_an_unfinished_file_keeps_no_recorder_from_starting(tmp_path: Path, name: str) -> None:
    device = Device(storage=DiskStorage(tmp_path))
    device.run(6)
    device.press("record", times=2)
    device.run(3)
    running = device.recording
    (tmp_path / name).rename(tmp_path / "taken-away")
    (tmp_path / f".{name}.unfinished").mkdir()
    for segment in range(1, 5):
        (tmp_path / layout.recording(running) / f".{segment:04d}.opening.jws.unfinished").mkdir()
    device.boot()
    device.run(3)
    assert device.recording == running
    assert not device.recorder.status().storage_failing
    assert (tmp_path / name).is_file()
    assert (tmp_path / layout.segment(running, 2)).stat().st_size


def cut_out_and_explained(folder: Path, *, torn: bool) -> None:
    """Boot 2 is gone; the boot line of boot 3, which nobody signed, says that it is on another card."""
    (folder / layout.journal(2)).unlink()
    path = folder / layout.journal(3)
    line = parse_line(path.read_bytes().split(b"\n")[0])
    assert isinstance(line.entry, entries.Boot)
    said = entries.Continuity(["card_replaced"], 2, line.n - 1, line.prev, [], whole=True)
    public = {
        "n": line.n,
        "utc": utc_text(line.wall.utc_ns),
        "clock": line.wall.source,
        "within_ms": line.within_ms,
        "mono_us": line.mono_us,
        "prev": line.prev,
        "entry": msgspec.to_builtins(msgspec.structs.replace(line.entry, continuity=said)),
    }
    path.write_bytes(encode_json(public) + b"\n" + (b"{" if torn else b""))


@pytest.mark.parametrize("torn", [False, True])
def test_unsigned_boot_line_explains_no_missing_boots(tmp_path: Path, torn: bool) -> None:
    device = Device(storage=DiskStorage(tmp_path))
    for _ in range(2):
        device.run(2)
        device.recorder.close()
        device.boot()
    assert verify(tmp_path).verdict is Verdict.UNFINISHED
    cut_out_and_explained(tmp_path, torn=torn)
    report = verify(tmp_path)
    assert report.verdict is Verdict.NOT_INTACT
    assert Code.JOURNAL_LINE_MISSING in {finding.code for finding in report.findings}


def test_first_write_on_another_card_that_the_power_tore_is_explained_by_the_next_boot(tmp_path: Path) -> None:
    device = Device()
    device.run(6)
    device.recorder.close()
    device.storage = MemoryStorage()
    before = device.state.data
    device.boot()
    first = memory(device).files[layout.journal(2)]
    whole = bytes(first.durable).index(b"\n") + 1
    first.durable = bytes(first.durable)[: whole + 5]  # the boot line, and the beginning of its checkpoint
    memory(device).cut_power()
    device.state.data = before
    device.boot()
    device.run(2)
    device.recorder.close()
    for path, file in memory(device).files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(file.data))
    report = verify(tmp_path)
    assert report.verdict is Verdict.UNFINISHED, [finding.sentence for finding in report.bad]
    assert Code.LINE_TORN_FROM_SIGNATURE in {finding.code for finding in report.findings}


@pytest.mark.parametrize("times", [1, 3])
def test_internal_disk_that_fails_for_some_reads_at_boot_makes_no_boot_forget_the_latch(times: int) -> None:
    device = Device(policy=UnsafePermitEverything(PolicySettings()))
    device.run(3)
    device.recorder.control.put(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.run(3)
    latched = device.recorder.control.state.latched
    device.clocks.now_ns += 10**9
    device.settle()
    load, refusals = device.state.load, iter([True] * times)

    def refused() -> bytes | None:
        if next(refusals, False):
            raise StorageError(errno.EIO, "a bad block")
        return load()

    device.state.load = refused  # type: ignore[method-assign]
    device.storage = MemoryStorage()  # and the card is another one, which tells nothing
    device.boot()
    assert times > 1 or device.recorder.control.state.latched
    device.run(3)
    device.recorder.close()
    device.boot()
    assert latched
    assert device.recorder.control.state.latched


def test_card_rolled_back_while_the_clocks_battery_was_out_is_not_silent() -> None:
    device = Device(ram=MemoryRam())
    device.run(3)
    device.clocks.now_ns += 10**9
    device.settle()
    state, card = device.state.data, {path: bytes(file.data) for path, file in memory(device).files.items()}
    device.press("record", times=2)
    device.run(3)
    device.recorder.close()
    device.storage = MemoryStorage()
    for path, data in card.items():
        lay(device, path, data)
    device.state.data, device.ram = state, MemoryRam()
    device.boot()
    device.run(2)
    said = [entry.what for entry in device.entries(entries.Tampered, 2) if isinstance(entry, entries.Tampered)]
    assert said == ["anchor_failing"]
    assert device.recorder.status().device_state.events == ["anchor_failing"]
    device.recorder.close()
    device.boot()
    device.run(2)
    assert not device.recorder.status().device_state.events  # once: the next save has filled the anchor again


def test_manifests_planted_in_the_next_segments_places_leave_no_segment_open() -> None:
    device = interrupted()
    device.segment_s = 5.0
    running = device.recording
    for segment in range(2, 60):
        lay(device, layout.manifest(running, segment), b"planted")
    device.boot()
    device.run(20)
    closed = [entry for entry in device.entries(entries.SegmentClosed, 2) if isinstance(entry, entries.SegmentClosed)]
    assert [entry.segment for entry in closed] == [60, 61, 62]
    assert len(device.entries(entries.StorageFailed, 2)) <= 1
    assert not device.entries(entries.Refused, 2)
    assert memory(device).read(layout.manifest(running, 2)) == b"planted"


def test_invented_triggers_on_a_rolled_back_card_displace_no_real_one() -> None:
    device = Device()
    device.run(3)
    device.press("record", times=2)
    before = {path: bytes(file.durable) for path, file in memory(device).files.items()}
    device.raise_trigger("siren")
    device.run(3)
    for attack in range(4):
        memory(device).cut_power()
        device.storage = MemoryStorage()
        for path, data in before.items():
            lay(device, path, data)
        names = [entries.TriggerRaised(f"invented-{attack}-{number:02d}", 1) for number in range(64)]
        chain_on(device, *names)
        device.boot()
        device.run(3)
        said = device.lines(device.recorder.status().boot)[0].entry
        assert isinstance(said, entries.Boot)
        assert "siren" in said.carried.triggers
