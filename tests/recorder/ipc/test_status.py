import json
import os
import stat
import threading
from pathlib import Path

import msgspec

from agent.clock import NS
from agent.recorder.ipc.status import NAME, Status, write_snapshot
from tests.support.device import Device
from tests.support.storage import MemoryStorage, failing


def status(device: Device) -> Status:
    return device.recorder.status()


def recording() -> Device:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    return device


def test_snapshot_says_what_the_recorder_says(tmp_path: Path) -> None:
    said = status(recording())
    write_snapshot(tmp_path, said)
    assert json.loads((tmp_path / NAME).read_bytes()) == msgspec.to_builtins(said)


def test_status_says_how_long_syncs_take() -> None:
    device = recording()
    said = status(device).sync_ms
    assert said.count > 5
    assert 0.0 <= said.p50 <= said.p95 <= said.p99 <= said.max


def test_snapshot_can_be_read_by_the_dock_services_group_and_by_no_other(tmp_path: Path) -> None:
    before = os.umask(0o077)  # as `harden` sets it
    try:
        write_snapshot(tmp_path, status(recording()))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_snapshot_is_whole_at_every_moment(tmp_path: Path) -> None:
    said = status(recording())
    write_snapshot(tmp_path, said)
    done = threading.Event()
    read: list[int] = []

    def reader() -> None:
        while not done.is_set():
            msgspec.json.decode((tmp_path / NAME).read_bytes(), type=Status)
            read.append(1)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for number in range(300):
            write_snapshot(tmp_path, msgspec.structs.replace(said, source="x" * (number * 37 % 5000)))
    finally:
        done.set()
        thread.join()
    assert read


def test_link_in_the_snapshots_place_or_in_that_of_its_making_is_replaced_and_never_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    said = status(recording())
    (tmp_path / NAME).symlink_to(precious)
    write_snapshot(tmp_path, said)
    (tmp_path / f".{NAME}").symlink_to(precious)
    write_snapshot(tmp_path, said)
    assert not (tmp_path / NAME).is_symlink()
    assert json.loads((tmp_path / NAME).read_bytes())["boot"] == said.boot
    assert precious.read_text() == "precious"


def test_status_names_nobody_and_holds_no_key() -> None:
    text = msgspec.json.encode(status(recording())).decode()
    assert "PRIVATE" not in text
    assert len(text) < 4000


def test_status_follows_a_recording_from_start_to_end() -> None:
    device = Device()
    device.run(6)
    assert (status(device).mode, status(device).recording, status(device).recording_s) == ("standby", "", 0.0)
    device.press("record", times=2)
    device.run(3)
    said = status(device)
    assert (said.mode, said.recording) == ("recording", device.recording)
    assert said.recording_s >= 3
    assert said.backlog_ms < 1000
    device.press("record", hold_s=3.2)
    device.run(1)
    assert (status(device).mode, status(device).recording) == ("standby", "")
    assert status(device).requests == 1


def test_backlog_is_what_waits_for_storage() -> None:
    device = recording()
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"sync", "write"}, 5)
    device.run(5)
    assert 4_000 < status(device).backlog_ms < 7_000
    assert status(device).storage_failing


def test_time_left_is_that_of_the_room_above_the_journals_reserve() -> None:
    device = recording()
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    rate = device.recorder.feed.bytes_a_second()
    storage.free = (16 << 20) + round(rate * 3600)
    left_s = status(device).time_left_s
    assert left_s is not None
    assert abs(left_s - 3600) <= 1
    storage.free = 1 << 20
    assert status(device).time_left_s == 0


def test_what_is_not_known_is_null_and_not_zero() -> None:
    device = Device()
    said = status(device)
    assert said.time_left_s is None
    assert all(track.age_ms is None for track in said.tracks.values())
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"read"}, 5)
    assert status(device).storage_free_bytes is None
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    assert (status(device).clock, status(device).clock_within_ms) == ("unsynchronised", None)


def test_age_of_a_track_grows_while_nothing_comes() -> None:
    device = Device()
    device.run(2)
    device.clocks.advance(3)
    ages = [track.age_ms for track in status(device).tracks.values()]
    assert all(age is not None and 3_000 <= age < 3_200 for age in ages)


def test_boot_is_zero_until_storage_was_read() -> None:
    storage = MemoryStorage()
    storage.fault = failing({"read", "create", "publish", "write", "sync"}, 5)
    device = Device(storage=storage)
    device.run(1)
    assert (status(device).boot, status(device).journal_line) == (0, 0)
    storage.fault = failing(set(), 0)
    device.run(1)
    assert status(device).boot == 1
    assert status(device).journal_line > 0
    assert status(device).uptime_s * NS >= NS
