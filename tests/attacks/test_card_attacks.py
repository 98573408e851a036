"""A wearer with the card in their hand, and no key: battery out, a few lines chained on, card and battery in again."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.clock import utc_text
from agent.encoding.strict_json import encode_json, sha256_hex
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal.boot_recovery import read_recovery_state, read_tail
from agent.journal.entries import (
    AnyEntry,
    Boot,
    Continued,
    Decided,
    PersistedState,
    RecordingEnded,
    RecordingStarted,
    Requested,
    SegmentOpened,
    StandbyEntered,
    Tampered,
    TriggerRaised,
)
from agent.journal.format import parse_line, split_lines
from agent.storage.disk import DiskStorage
from agent.verify.findings import Code
from agent.verify.verifier import verify
from tests.support.device import Device, owner
from tests.support.storage import MemoryStorage, failing


def memory(device: Device) -> MemoryStorage:
    assert isinstance(device.storage, MemoryStorage)
    return device.storage


def chain_on(device: Device, *said: AnyEntry, boot: int = 1) -> None:
    """Lines as anybody can write them: the format is public, and the chain is made of hashes alone."""
    file = memory(device).files[layout.journal(boot)]
    raw, _ = split_lines(bytes(file.data))
    last = parse_line(raw[-1])
    head, number = last.hash, last.n
    for entry in said:
        number += 1
        public = {
            "n": number,
            "utc": utc_text(last.wall.utc_ns),
            "clock": last.wall.source,
            "within_ms": last.within_ms,
            "mono_us": last.mono_us,
            "prev": head,
            "entry": msgspec.to_builtins(entry),
        }
        line = encode_json(public)
        head = sha256_hex(line)
        file.data += line + b"\n"
    file.durable = bytes(file.data)


def interrupted() -> Device:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(4)
    memory(device).cut_power()
    return device


def forged_stop(recording: str) -> list[AnyEntry]:
    return [
        Requested(1, "StopRecording", 1, 1),
        Decided(1, allowed=True, policy="00" * 32),
        RecordingEnded(recording, 1, 2),
        StandbyEntered(),
    ]


def test_stop_chained_on_to_the_journal_by_the_wearer_ends_no_recording() -> None:
    device = interrupted()
    running = device.recording
    chain_on(device, *forged_stop(running))
    device.boot()
    device.run(2)
    assert device.recording == running


def test_continuation_chained_on_to_the_journal_ends_no_recording() -> None:
    device = interrupted()
    chain_on(device, Continued(device.recording, "nobodys-0001"))
    device.boot()
    device.run(2)
    assert device.recording


def test_stop_chained_on_to_the_journal_is_named_by_verify(tmp_path: Path) -> None:
    device = interrupted()
    chain_on(device, *forged_stop(device.recording))
    for path, file in memory(device).files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(file.data))
    assert Code.LINE_NOT_BELIEVED in {finding.code for finding in verify(tmp_path).findings}


@pytest.mark.parametrize("cut", [False, True])
def test_stop_that_was_granted_over_a_signature_is_still_one_after_the_next_boot(cut: bool) -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    device.press("record", hold_s=3.2)
    device.run(1)
    assert not device.recording
    if cut:
        memory(device).cut_power()
    else:
        device.recorder.close()
    device.boot()
    assert not device.recording


def test_end_without_any_grant_chained_on_ends_no_recording() -> None:
    device = interrupted()
    chain_on(
        device, RecordingStarted(device.recording, "button", 1, 0, 0, 0, ""), RecordingEnded(device.recording, 0, 1)
    )
    device.boot()
    assert device.recording


def test_final_manifest_that_the_wearer_lays_beside_the_segment_ends_no_recording() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    device.press("record", hold_s=3.2)
    old = device.storage.read(layout.manifest(next(iter(device.storage.names(layout.RECORDINGS))), 1))
    head, body, _ = old.decode().split(".")
    device.press("record", times=2)
    running = device.recording
    device.run(4)
    memory(device).cut_power()
    forged = f"{head}.{body}.{'A' * 86}".encode()
    device.storage.publish(layout.manifest(running, 1), forged)
    device.boot()
    device.run(2)
    assert device.recording == running


def test_recording_of_a_boot_whose_journal_never_reached_storage_continues() -> None:
    storage = MemoryStorage()
    storage.fault = failing({"sync", "write"}, errno.EIO, only="journal")
    device = Device(storage=storage)
    device.run(6)
    device.press("record", times=2)
    device.run(4)
    running = device.recording
    storage.cut_power()
    storage.fault = failing(set(), 0)
    device.boot()
    device.run(3)
    assert device.recording == running
    assert "0001.manifest.jws" in storage.names(layout.recording(running))


# -- planted names ----------------------------------------------------------------------------------------------------


def plant(device: Device, path: str, data: bytes) -> None:
    file = memory(device).create(path)
    file.write_at(0, data)
    file.sync()
    file.close()


def planted(device: Device, boot: int) -> list[str]:
    found = [entry for entry in device.entries(Tampered, boot) if isinstance(entry, Tampered)]
    return [entry.what for entry in found if entry.what == "planted_files"]


def test_planted_journal_with_the_highest_number_moves_no_boot_out_of_reach() -> None:
    device = interrupted()
    running = device.recording
    real = bytes(memory(device).files[layout.journal(1)].data)
    plant(device, layout.journal(99_999_999), real)
    plant(device, layout.journal(500), b"not ours\n")
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recorder.status().boot == 2
    assert device.recording == running
    assert planted(device, 2) == ["planted_files"]
    assert bytes(memory(device).files[layout.journal(99_999_999)].data) == real
    memory(device).cut_power()
    device.boot()
    device.run(1)
    assert device.recorder.status().boot == 3


def test_journal_planted_in_the_next_boots_place_is_skipped() -> None:
    device = interrupted()
    running = device.recording
    plant(device, layout.journal(2), bytes(memory(device).files[layout.journal(1)].data))
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recorder.status().boot == 3
    assert device.recording == running
    assert device.lines(3)[0].prev == device.lines(1)[-1].hash


def lines_of(*said: AnyEntry, utc_ns: int) -> bytes:
    """Lines that nobody signed, as a journal of their own."""
    head, made = "00" * 32, b""
    for number, entry in enumerate(said, 1):
        line = encode_json(
            {
                "n": number,
                "utc": utc_text(utc_ns),
                "clock": "ntp",
                "within_ms": 1,
                "mono_us": 1,
                "prev": head,
                "entry": msgspec.to_builtins(entry),
            }
        )
        head, made = sha256_hex(line), made + line + b"\n"
    return made


def test_forged_journal_in_the_next_boots_place_makes_no_boot_forget_what_the_real_one_tells() -> None:
    device = interrupted()
    running = device.recording
    device.recorder.journal.post(TriggerRaised("critical_incident", device.clocks.now_ns // 1000))
    device.run(2)
    real = next(entry for entry in device.entries(Boot, 1) if isinstance(entry, Boot))
    forged = msgspec.structs.replace(real, boot=2, interrupted="", carried=PersistedState(), tag="ab" * 6)
    opened = SegmentOpened("abababababab-0001", 1, "00" * 32)
    plant(device, layout.journal(2), lines_of(forged, opened, utc_ns=device.clocks.wall().utc_ns))
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running
    boot = next(entry for entry in device.entries(Boot, 3) if isinstance(entry, Boot))
    assert boot.carried.latched


def test_very_many_empty_journals_in_the_next_boots_places_make_no_boot_forget_the_real_one() -> None:
    device = interrupted()
    running = device.recording
    for boot in range(2, 80):
        plant(device, layout.journal(boot), b"")
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recorder.status().boot == 80
    assert device.recording == running


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
@pytest.mark.parametrize("place", ["journal", "recording"])
def test_what_is_no_file_or_folder_where_one_is_looked_for_keeps_no_journal_from_being_read(
    tmp_path: Path, place: str, kind: str
) -> None:
    device = interrupted()
    disk = DiskStorage(tmp_path)
    for path, file in memory(device).files.items():
        disk.publish(path, bytes(file.durable))
    tag = device.recording.split("-")[0]
    planted_at = tmp_path / (layout.journal(2) if place == "journal" else layout.recording(f"{tag}-9999"))
    if kind == "folder" and place == "journal":
        planted_at.mkdir()
    elif kind == "folder":
        planted_at.write_bytes(b"")
    elif kind == "link":
        planted_at.symlink_to("/dev/null")
    else:
        os.mkfifo(planted_at)
    identity = owner().signer.public_key
    tail = read_tail(disk, identity)
    running = read_recovery_state(disk, tail, identity).running
    assert running is not None
    assert running.recording == device.recording


def test_planted_names_that_the_recorder_may_not_read_delay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    device = interrupted()
    running = device.recording
    other = f"{running.split('-')[0]}-9999"
    plant(device, layout.journal(2), b"")
    plant(device, layout.segment(other, 1), b"")
    memory(device).cut_power()

    denied = {layout.journal(2), layout.recording(other)}
    for name in ("open", "names"):  # whoever may not read a file may still ask how long it is
        real = getattr(MemoryStorage, name)

        def refuse(storage: MemoryStorage, path: str, real: Callable[..., object] = real) -> object:
            if path in denied:
                raise StorageError(errno.EACCES, "not yours")
            return real(storage, path)

        monkeypatch.setattr(MemoryStorage, name, refuse)
    device.boot()
    device.run(2)
    assert device.recording == running
    assert device.lines(3)[0].prev == device.lines(1)[-1].hash


@pytest.mark.parametrize("problem", [errno.EIO, errno.ENODEV])
def test_card_that_cannot_be_read_for_a_moment_does_not_have_the_journal_written_twice(problem: int) -> None:
    device = interrupted()
    device.boot()
    device.run(3)
    memory(device).cut_power()
    last = device.lines(2)[-1].hash
    left = [problem] * 2

    def once(operation: str, path: str) -> None:
        if operation == "read" and path == layout.journal(2) and left:
            raise StorageError(left.pop(), "a moment")

    memory(device).fault = once
    device.boot()
    device.run(2)
    assert device.lines(3)[0].prev == last


def test_planted_segment_with_the_highest_number_moves_no_segment_out_of_reach() -> None:
    device = interrupted()
    running = device.recording
    plant(device, layout.segment(running, 999_999), b"x")
    plant(device, layout.opening(running, 70), memory(device).read(layout.opening(running, 1)))
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running
    assert memory(device).size(layout.manifest(running, 1)) is not None
    assert memory(device).size(layout.segment(running, 2)) is not None
    assert memory(device).size(layout.segment(running, 1_000_000)) is None


def test_very_many_segments_planted_in_the_next_ones_places_are_skipped_at_once() -> None:
    device = interrupted()
    running = device.recording
    for number in range(2, 60):
        plant(device, layout.segment(running, number), b"x")
    device.recorder.writer.roll(running)
    device.run(6)
    assert memory(device).size(layout.opening(running, 60)) is not None
    assert device.recorder.feed.backlog_ns(device.recorder.effects.task.cursor) < 2 * 10**9  # type: ignore[union-attr]
    assert bytes(memory(device).files[layout.segment(running, 2)].data) == b"x"


def test_planted_folder_that_is_named_like_a_recording_is_not_continued() -> None:
    device = interrupted()
    running = device.recording
    tag = running.split("-")[0]
    for path, data in (
        (layout.boot_certificate(f"{tag}-9999", 1), memory(device).read(layout.boot_certificate(running, 1))),
        (layout.opening(f"{tag}-9999", 1), memory(device).read(layout.opening(running, 1))),
        (layout.segment(f"{tag}-9999", 1), b"x"),
    ):
        plant(device, path, data)
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running


def ended_and_interrupted() -> tuple[Device, str, str]:
    """A device with a recording that was ended, and one that was interrupted."""
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    ended = device.recording
    device.press("record", hold_s=3.2)
    device.run(8)
    assert not device.recording
    device.press("record", times=2)
    device.run(4)
    memory(device).cut_power()
    return device, ended, device.recording


def test_ended_recording_with_a_planted_certificate_is_not_continued_instead_of_the_interrupted_one() -> None:
    device, ended, running = ended_and_interrupted()
    plant(device, layout.journal(2), b"")
    plant(device, layout.boot_certificate(ended, 2), memory(device).read(layout.boot_certificate(ended, 1)))
    del memory(device).files[layout.manifest(ended, 1)]
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running


@pytest.mark.parametrize("remembered", [True, False])
def test_damaged_journal_of_an_older_boot_puts_none_of_its_recordings_in_place_of_the_interrupted_one(
    remembered: bool,
) -> None:
    device, ended, running = ended_and_interrupted()
    device.boot()
    device.run(2)
    assert device.recording == running
    memory(device).cut_power()
    del memory(device).files[layout.journal(1)]
    del memory(device).files[layout.manifest(ended, 1)]
    if not remembered:
        device.state.data = None
    device.boot()
    device.run(2)
    assert device.recording == running


def test_certificates_taken_out_of_a_recording_do_not_keep_it_from_being_closed_and_continued() -> None:
    device = interrupted()
    running = device.recording
    memory(device).cut_power()
    del memory(device).files[layout.boot_certificate(running, 1)]
    device.boot()
    device.run(2)
    assert device.recording == running
    assert memory(device).size(layout.manifest(running, 1)) is not None
    assert memory(device).size(layout.opening(running, 2)) is not None


def test_storage_that_makes_files_and_takes_no_bytes_is_not_filled_with_them() -> None:
    device = interrupted()
    running = device.recording
    memory(device).fault = failing({"write", "sync"}, errno.EIO, only=".seg")
    device.run(120)
    made = [
        path for path in memory(device).files if path.startswith(layout.recording(running)) and path.endswith(".seg")
    ]
    assert len(made) <= 12
    memory(device).fault = failing(set(), 0)
    device.run(40)
    assert not device.recorder.writer.failing
    assert device.recording == running
