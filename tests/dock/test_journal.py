import errno
from pathlib import Path

import pytest

from agent.dock.journal import JournalReader
from agent.dock.messages import Event, decode
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal.entries import Decided, PolicyChanged, RecordingEnded
from agent.storage.disk import DiskStorage
from tests.attacks.test_card_attacks import chain_on
from tests.support.device import Device
from tests.support.evidence import recorder
from tests.support.storage import MemoryStorage, failing

MOST = 1 << 20
FAR = 99_999_999


def journalled() -> tuple[Device, MemoryStorage]:
    """A device that has recorded for a little, and its storage."""
    storage = MemoryStorage()
    device = recorder(storage)
    device.run(1)
    return device, storage


def newest(device: Device) -> int:
    device.press("record", times=2)
    device.run(1)
    return device.lines()[-1].n


def other_boot() -> bytes:
    """The first line of boot 1 of a device with the same key."""
    _, storage = journalled()
    return storage.read(layout.journal(1)).splitlines(keepends=True)[0]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage\n", id="garbage"),
        pytest.param(b'{"n":1,"utc":"","clock":"","within_ms":1,"mono_us":1,"entry":{"kind":"boot"}}\n', id="bare"),
        pytest.param(other_boot(), id="another boot's"),
    ],
)
def test_planted_journal_far_ahead_does_not_hide_what_the_recorder_writes(data: bytes) -> None:
    device, storage = journalled()
    storage.publish(layout.journal(FAR), data)
    reader = JournalReader(storage)
    before = list(reader.lines(MOST, MOST))
    assert [line.n for line in before] == [line.n for line in device.lines()]
    last = newest(device)
    after = list(reader.lines(MOST, MOST))
    assert [line.n for line in after] == list(range(before[-1].n + 1, last + 1))
    assert reader.line_hash(last) == after[-1].hash
    assert storage.read(layout.journal(FAR)) == data


def test_line_that_somebody_appended_is_told_as_unattested() -> None:
    device, storage = journalled()
    device.press("record", times=2)
    device.run(1)
    storage.cut_power()
    grant = Decided(1, allowed=True, policy="00" * 32)
    chain_on(device, grant, RecordingEnded(device.recording, 1, 1), PolicyChanged("policy_in_force", 9, "00" * 32))
    device.boot()
    device.run(1)
    forged = {line.n for line in device.lines(1)[-3:]}
    lines = list(JournalReader(storage).lines(MOST, MOST))
    assert {line.n for line in lines if not line.attested} == forged
    told = {line.n: line.event("city", "cam-1").data.entry for line in lines if line.reported}
    assert all(entry.get("unattested", False) == (n in forged) for n, entry in told.items())
    assert forged <= told.keys()
    for line in lines:
        if line.n in forged:
            assert decode(line.event_payload("city", "cam-1"), Event).data.entry["unattested"] is True


def test_planted_journal_is_not_taken_for_the_one_that_goes_on() -> None:
    """Lines numbered far ahead, in a file of the next number: what the recorder writes is still read."""
    device, storage = journalled()
    line = b'{"n":999999,"utc":"","clock":"","within_ms":1,"mono_us":1,"entry":{"kind":"boot"}}\n'
    storage.publish(layout.journal(2), line)
    reader = JournalReader(storage)
    assert [read.n for read in reader.lines(1000, MOST)] == [line.n for line in device.lines()]
    device.boot()
    assert device.recorder.status().boot == 3
    device.run(1)
    assert [read.n for read in reader.lines(1000, MOST)][-1] == device.lines(3)[-1].n


@pytest.mark.parametrize("path", [layout.DEVICE, layout.journal(1)])
def test_journal_that_cannot_be_read_for_a_while_is_read_on_from_the_same_place(path: str) -> None:
    device, storage = journalled()
    device.boot()
    device.run(1)
    reader = JournalReader(storage)
    for _ in range(2):
        storage.fault = failing({"read"}, errno.EIO, only=path)
        with pytest.raises(StorageError):
            list(reader.lines(MOST, 2))
        with pytest.raises(StorageError):
            reader.line_hash(1)
        storage.fault = lambda _operation, _path: None
        assert len(list(reader.lines(MOST, 2))) == 2
    rest = [line.n for line in reader.lines(MOST, MOST)]
    assert rest == list(range(5, device.lines(2)[-1].n + 1))


def test_folder_or_link_with_a_journals_name_does_not_keep_the_journal_from_being_read(tmp_path: Path) -> None:
    device, storage = journalled()
    for name in (layout.DEVICE, layout.journal(1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(storage.read(name))
    (tmp_path / layout.journal(FAR)).mkdir()
    (tmp_path / layout.journal(FAR - 1)).symlink_to(tmp_path / layout.journal(1))
    (tmp_path / layout.journal(FAR - 2)).symlink_to(tmp_path / "nowhere")
    assert [line.n for line in JournalReader(DiskStorage(tmp_path)).lines(MOST, MOST)] == [
        line.n for line in device.lines()
    ]


def test_journal_whose_first_line_comes_in_later_is_read_then() -> None:
    _, storage = journalled()
    whole = storage.read(layout.journal(1))
    storage.files[layout.journal(1)].data[:] = whole[:100]
    reader = JournalReader(storage)
    assert list(reader.lines(MOST, MOST)) == []
    storage.files[layout.journal(1)].data[:] = whole
    assert len(list(reader.lines(MOST, MOST))) == whole.count(b"\n")


@pytest.mark.parametrize("numbered", [False, True], ids=["copies", "copies and the same number"])
def test_old_lines_copied_behind_a_journal_do_not_lose_the_place_up_to_which_it_was_read(*, numbered: bool) -> None:
    """Copies mislead a search by line numbers to their end, where another line may have the number."""
    device, storage = journalled()
    newest(device)
    confirmed = device.lines()[-3]
    storage.cut_power()
    file = storage.files[layout.journal(1)]
    copied = bytes(file.data).splitlines(keepends=True)[1]
    file.data += copied * (1_500_000 // len(copied))
    if numbered:
        file.data += copied.replace(b'"n":2,', b'"n":%d,' % confirmed.n)
    assert JournalReader(storage).line_hash(confirmed.n) == confirmed.hash
    unread = JournalReader(storage, confirmed.n, confirmed.hash).lines(MOST, MOST)
    assert [line.n for line in unread] == [confirmed.n + 1, confirmed.n + 2]
