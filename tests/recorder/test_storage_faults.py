"""A whole recorder on storage that refuses in the worst moments: nothing is lost or stuck, and all of it is said."""

import errno
from collections.abc import Callable

import pytest

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.core.recording.events import Cause, StartRequested
from agent.errors import StorageError
from agent.evidence import layout
from agent.evidence.manifest import MANIFEST_TYPE
from agent.journal import entries
from agent.keys import jws
from tests.support.device import Device
from tests.support.storage import MemoryStorage, failing

EVERYTHING = {"sync", "write", "create", "publish", "read", "reopen", "name"}


def memory(device: Device) -> MemoryStorage:
    assert isinstance(device.storage, MemoryStorage)
    return device.storage


def times(count: int, operation: str, part: str, code: int = errno.EIO) -> Callable[[str, str], None]:
    """A fault that comes so often, for one operation on paths with `part` in them."""
    left = [count]

    def fault(asked: str, path: str) -> None:
        if asked == operation and part in path and left[0]:
            left[0] -= 1
            raise StorageError(code, errno.errorcode[code])

    return fault


def recording(device: Device) -> str:
    device.run(6)
    device.press("record", times=2)
    assert device.recording
    return device.recording


def stop(device: Device) -> None:
    device.press("record", hold_s=3.2)
    device.run(3)
    assert not device.recording
    assert not device.recorder.writer.busy


def manifests(device: Device, recording_id: str) -> list[dict[str, object]]:
    names = [name for name in device.storage.names(layout.recording(recording_id)) if name.endswith("manifest.jws")]
    tokens = [device.storage.read(f"{layout.recording(recording_id)}/{name}").decode() for name in names]
    return [dict(jws.unverified_payload(token, MANIFEST_TYPE)) for token in tokens]


def outages(device: Device) -> list[str]:
    kinds = (entries.StorageFailed, entries.StorageBack)
    return [type(entry).__name__ for entry in device.entries() if isinstance(entry, kinds)]


# -- one outage, told once ---------------------------------------------------------------------------------------------


def test_outage_of_everything_is_journalled_once_with_its_whole_length() -> None:
    device = Device()
    recording(device)
    storage = memory(device)
    storage.fault = failing(EVERYTHING, errno.EIO)
    device.run(20)
    assert device.signals.lights is Background.FAULT
    assert device.signals.shown.count(Signal.STORAGE_FAULT) == 1
    assert device.recorder.status().storage_failing
    storage.fault = failing(set(), 0)
    device.run(3)
    assert outages(device) == ["StorageFailed", "StorageBack"]
    back = device.entries(entries.StorageBack)[0]
    assert isinstance(back, entries.StorageBack)
    assert 19_000 <= back.outage_ms <= 21_500
    assert not device.recorder.status().storage_failing
    assert device.signals.lights is not Background.FAULT


def test_outage_in_standby_ends_when_the_journal_is_taken_again() -> None:
    device = Device()
    device.run(6)
    storage = memory(device)
    storage.fault = failing({"sync"}, errno.EIO)
    lights = []
    device.run(70)  # the minute's checkpoint is refused
    lights.append(device.signals.lights)
    storage.fault = failing(set(), 0)
    device.run(2)
    lights.append(device.signals.lights)
    assert lights == [Background.FAULT, Background.STANDBY]
    assert outages(device) == ["StorageFailed", "StorageBack"]


def test_outage_lasts_until_segments_and_journal_are_both_taken_again() -> None:
    device = Device()
    recording(device)
    storage = memory(device)
    storage.fault = failing({"sync", "write"}, errno.EIO)
    device.run(5)
    storage.fault = failing({"sync", "write"}, errno.EIO, only="journal")
    device.run(5)
    assert not device.recorder.writer.failing
    assert device.recorder.status().storage_failing
    storage.fault = failing(set(), 0)
    device.run(2)
    assert outages(device) == ["StorageFailed", "StorageBack"]
    assert not device.recorder.status().storage_failing


def test_storage_that_has_no_byte_left_has_no_time_left_either() -> None:
    device = Device()
    recording(device)
    memory(device).free = 0
    device.run(1)
    assert device.recorder.status().time_left_s == 0


# -- a name that is there, but not for good ---------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["device.jws", "boot-", "opening", ".seg", "manifest"])
@pytest.mark.parametrize("count", [1, 3])
def test_file_whose_name_was_not_made_durable_stops_no_recording(part: str, count: int) -> None:
    device = Device(segment_s=4)
    device.run(6)
    memory(device).fault = times(count, "name", part)
    device.press("record", times=2)
    running = device.recording
    device.run(20)
    stop(device)
    names = device.storage.names(layout.recording(running))
    numbers = [part[0] for part in map(layout.segment_part, names) if part and part[1] == "seg"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 4
    for number in numbers:
        assert f"{number:04d}.opening.jws" in names
        assert f"{number:04d}.manifest.jws" in names
    assert [manifest["final"] for manifest in manifests(device, running)] == [False] * (len(numbers) - 1) + [True]
    assert not device.entries(entries.PacketsLost)


@pytest.mark.parametrize("operation", ["publish", "create"])
@pytest.mark.parametrize("part", ["opening", ".seg", "manifest"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_refusal_at_each_step_of_a_segment_stops_no_recording(operation: str, part: str, code: int) -> None:
    device = Device(segment_s=4)
    device.run(6)
    memory(device).fault = times(5, operation, part, code)
    device.press("record", times=2)
    running = device.recording
    device.run(14)
    stop(device)
    names = device.storage.names(layout.recording(running))
    parts = [part for part in map(layout.segment_part, names) if part]
    numbers = sorted({number for number, _ in parts})
    assert len(parts) == 3 * len(numbers)
    assert numbers == list(range(1, len(numbers) + 1))
    assert not device.entries(entries.PacketsLost)


def test_strange_file_in_a_segments_place_is_left_alone_and_the_recording_continues_after_it() -> None:
    device = Device(segment_s=4)
    running = recording(device)
    storage = memory(device)
    number = len([name for name in storage.names(layout.recording(running)) if name.endswith(".seg")]) + 1
    storage.create(layout.opening(running, number)).data[:] = b"strange"
    device.run(12)
    stop(device)
    assert storage.read(layout.opening(running, number)) == b"strange"
    assert storage.size(layout.manifest(running, number + 1)) is not None
    assert not device.entries(entries.PacketsLost)
    assert manifests(device, running)[-1]["final"]


# -- what an earlier boot left can't be read --------------------------------------------------------------------------


def cut(device: Device) -> MemoryStorage:
    storage = memory(device)
    storage.cut_power()
    device.clocks.advance(5)
    return storage


@pytest.mark.parametrize("ended", [False, True])
def test_old_segment_that_cannot_be_read_keeps_no_new_one_from_being_written(ended: bool) -> None:
    """A bad block in what a power cut left behind: it can't be closed, but it must not end all recording either."""
    device = Device()
    running = recording(device)
    device.run(3)
    if ended:
        memory(device).fault = failing({"publish"}, errno.EIO, only="manifest")
        device.press("record", hold_s=3.2)
    storage = cut(device)
    storage.fault = failing({"read"}, errno.EIO, only="0001.seg")
    device.boot()
    device.run(10)
    if ended:
        device.press("record", times=2)
    assert (device.recording == running) is not ended
    device.run(10)
    new = [name for name in storage.names(layout.recording(device.recording)) if name.endswith(".seg")]
    assert new == (["0001.seg"] if ended else ["0001.seg", "0002.seg"])
    path = layout.segment(device.recording, len(new))
    assert len(storage.files[path].durable) > 10_000
    said = [entry for entry in device.entries(boot=2) if isinstance(entry, entries.Refused)]
    assert any("recover" in entry.why and "0001" in entry.why for entry in said)
    storage.fault = failing(set(), 0)
    if not ended:
        stop(device)
        assert manifests(device, running)[-1]["final"]


def test_outage_of_everything_gives_up_no_recovery() -> None:
    device = Device()
    running = recording(device)
    device.run(3)
    storage = cut(device)
    device.boot()
    storage.fault = failing({"read", "write", "sync", "publish", "create"}, errno.EIO)
    device.run(30)
    storage.fault = failing(set(), 0)
    device.run(5)
    assert device.recording == running
    assert device.entries(entries.SegmentRecovered, boot=2)
    assert storage.size(layout.manifest(running, 1)) is not None


# -- storage that is gone ---------------------------------------------------------------------------------------------


def test_card_that_was_pulled_out_and_inserted_again_misses_nothing() -> None:
    device = Device()
    running = recording(device)
    device.run(3)
    storage = memory(device)
    storage.cut_power()  # every handle is dead
    storage.fault = failing(EVERYTHING, errno.ENODEV)
    device.press("mark")
    device.run(8)
    storage.fault = failing(set(), 0)
    device.run(3)
    stop(device)
    kinds = [type(entry) for entry in device.entries()]
    assert entries.Marked in kinds
    assert kinds.index(entries.Marked) < kinds.index(entries.RecordingEnded)
    assert not device.entries(entries.PacketsLost)
    assert [manifest["ended"] for manifest in manifests(device, running)] == ["fault", "stopped"]
    assert storage.names(layout.JOURNAL) == ["00000001.jsonl"]


def test_folder_below_a_missing_card_is_not_taken_for_the_card() -> None:
    """Where a card was mounted there is a plain folder when it is gone; what went there would be hidden by the card."""
    device = Device(segment_s=4)
    running = recording(device)
    device.run(2)
    storage = memory(device)
    storage.cut_power()
    card = storage.files
    below: dict[str, object] = {}
    storage.files = below  # type: ignore[assignment]
    device.run(12)
    assert below == {}
    assert device.recorder.status().storage_failing
    storage.files = card
    device.run(5)
    stop(device)
    assert not device.entries(entries.PacketsLost)
    assert manifests(device, running)[-1]["final"]


def test_start_is_taken_while_storage_is_gone_and_stored_when_it_is_back() -> None:
    device = Device()
    device.run(6)
    storage = memory(device)
    storage.fault = failing(EVERYTHING, errno.ENODEV)
    device.recorder.control.handle(StartRequested(device.clocks.now_ns, Cause.BUTTON))
    started_ns = device.clocks.now_ns
    device.run(10)
    storage.fault = failing(set(), 0)
    device.run(2)
    entry = device.entries(entries.RecordingStarted)[0]
    assert isinstance(entry, entries.RecordingStarted)
    assert entry.at_us * 1000 == started_ns // 1000 * 1000
    assert storage.size(layout.segment(device.recording, 1))
    assert device.recorder.feed.backlog_ns(device.recorder.effects.task.cursor) < NS  # type: ignore[union-attr]
