import errno
from collections.abc import Callable

import pytest

from agent.errors import StorageError
from agent.evidence import entries, layout
from agent.evidence.details import DetailsKey
from agent.evidence.entries import Marked, Tampered
from agent.evidence.journal import Journal
from agent.evidence.mark import JournalMark
from agent.keys.signer import KeySigner
from tests.support.clocks import FakeClocks
from tests.support.device import Device
from tests.support.storage import MemoryStorage
from tests.support.stores import MemoryStore

SIGNER = KeySigner.generate()
PATH = layout.journal(1)


class Bench:
    """A journal of ten lines, the sixth of which is marked."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.store = MemoryStore()
        self.mark = JournalMark(self.store, SIGNER, "cam-1")
        self.journal = Journal(
            device="cam-1",
            boot=1,
            signer=SIGNER,
            details=DetailsKey(bytes(32)),
            clocks=FakeClocks(),
            head="00" * 32,
        )
        self.lines = []
        for number in range(10):
            self.lines.append(self.journal.line(Marked("r1", number)))
            if number == 5:
                self.mark.save(1, self.journal.number, self.journal.head)
        self.write(self.lines)

    def write(self, lines: list[bytes], path: str = PATH) -> None:
        self.storage.files.pop(path, None)
        self.storage.create(path).data[:] = b"".join(lines)

    def judged(self) -> str:
        return self.mark.judge(self.storage)


def test_journal_that_holds_what_was_marked_is_well() -> None:
    bench = Bench()
    assert bench.judged() == ""
    bench.write(bench.lines[:6])
    assert bench.judged() == ""


def test_line_that_was_torn_by_a_power_cut_after_the_mark_is_well() -> None:
    bench = Bench()
    bench.write([*bench.lines[:8], bench.lines[8][:20]])
    assert bench.judged() == ""


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_journal_that_was_cut_below_the_mark_is_named(kept: int) -> None:
    bench = Bench()
    bench.write(bench.lines[:kept])
    assert "line 6 of boot 1 was on storage, and is gone" in bench.judged()


def test_journal_that_is_gone_is_named() -> None:
    bench = Bench()
    del bench.storage.files[PATH]
    assert "is gone" in bench.judged()


def test_journal_whose_marked_line_is_another_one_is_named() -> None:
    bench = Bench()
    bench.write([*bench.lines[:5], bench.lines[5].replace(b'"at_us":5', b'"at_us":6'), *bench.lines[6:]])
    assert "not the one that was written" in bench.judged()


def test_mark_that_was_taken_away_is_named_but_not_on_a_new_card() -> None:
    bench = Bench()
    bench.store.data = None
    assert "gone" in bench.judged()
    assert JournalMark(MemoryStore(), SIGNER, "cam-1").judge(MemoryStorage()) == ""


@pytest.mark.parametrize(
    "alter",
    [
        lambda data: data[:-4] + b"AAAA",
        lambda data: data.replace(b".", b"", 1),
        lambda _data: b"",
        lambda _data: b"\xff\xfe",
        lambda _data: b"{}",
    ],
)
def test_mark_that_was_altered_is_named(alter: Callable[[bytes], bytes]) -> None:
    bench = Bench()
    assert bench.store.data is not None
    bench.store.data = alter(bench.store.data)
    assert "altered" in bench.judged()


def test_mark_of_another_key_is_none_of_ours() -> None:
    bench = Bench()
    JournalMark(bench.store, KeySigner.generate(), "cam-1").save(1, 6, "00" * 32)
    assert "altered" in bench.judged()


def test_storage_that_can_not_be_read_is_no_verdict() -> None:
    bench = Bench()
    bench.store.refusing = "before"
    with pytest.raises(StorageError):
        bench.judged()


def test_long_journal_is_not_read_as_a_whole() -> None:
    bench = Bench()
    for number in range(8000):
        bench.lines.append(bench.journal.line(Marked("r1", number)))
    bench.write(bench.lines)
    assert bench.judged() == ""  # the mark lies before what is looked at
    bench.mark.save(1, bench.journal.number, bench.journal.head)
    assert bench.judged() == ""
    bench.write(bench.lines[:-1])
    assert "is gone" in bench.judged()


# -- on a device ------------------------------------------------------------------------------------------------------


def tampered(device: Device, boot: int) -> list[str]:
    return [entry.what for entry in device.entries(boot=boot) if isinstance(entry, Tampered)]


def test_journal_truncated_while_the_device_was_off_is_named_by_the_next_boot() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    device.press("record", hold_s=3.2)
    device.recorder.close()
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    file = storage.files[PATH]
    lines = bytes(file.data).splitlines(keepends=True)
    ended = next(n for n, line in enumerate(lines) if b'"recording_ended"' in line)
    file.data[:] = b"".join(lines[:ended])
    file.durable = bytes(file.data)
    device.boot()
    device.run(1)
    assert tampered(device, 2) == ["journal_cut"]


def test_mark_that_can_not_be_read_is_said_and_not_passed_over() -> None:
    device = Device()
    device.run(6)
    device.recorder.close()

    def link() -> bytes | None:
        raise StorageError(errno.ELOOP, "a link lies in its place")

    device.marked.load = link  # type: ignore[method-assign]
    device.boot()
    device.run(1)
    assert tampered(device, 2) == ["journal_cut"]


def test_device_that_is_killed_over_and_over_cries_no_wolf() -> None:
    device = Device()
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    for boot in range(1, 6):
        device.run(3)
        device.press("record", times=2)
        device.run(boot * 7)
        storage.cut_power()
        device.boot()
    device.run(1)
    for boot in range(1, 7):
        assert tampered(device, boot) == []


def test_journal_is_marked_at_boot_every_minute_and_at_the_end() -> None:
    device = Device()
    marks = [device.marked.data]
    device.run(30)
    assert device.marked.data == marks[0] is not None
    device.run(40)
    marks.append(device.marked.data)
    device.recorder.close()
    marks.append(device.marked.data)
    assert len(set(marks)) == 3
    assert isinstance(device.entries()[-2], entries.ShutDown)
