"""Card in hand: a file that claims 4 TiB and holds nothing. It delays no recording, and is read as far as is due."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.evidence import layout
from agent.evidence.closing import TAIL_BYTES
from agent.evidence.manifest import MANIFEST_TYPE, manifest
from agent.journal.attested import TAIL
from agent.journal.entries import Entry, Marked, SegmentRecovered, Tampered
from agent.journal.format import MAX_LINE
from agent.keys import jws
from agent.storage.disk import DiskStorage
from agent.verify.findings import Code
from agent.verify.verifier import verify
from tests.attacks.test_card_attacks import chain_on, interrupted, memory
from tests.support.device import Device, trust
from tests.support.evidence import files_of, write

TIB = 1 << 40


class CountingStorage(DiskStorage):
    """Counts the bytes that are read of each file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.was_read: dict[str, int] = {}

    def open(self, path: str) -> BinaryIO:
        stream = super().open(path)
        read, readline = stream.read, stream.readline

        def count(data: bytes) -> bytes:
            self.was_read[path] = self.was_read.get(path, 0) + len(data)
            return data

        stream.read = lambda size=-1: count(read(size))  # type: ignore[method-assign]
        stream.readline = lambda size=-1: count(readline(size))  # type: ignore[method-assign]
        return stream


def on_disk(device: Device, folder: Path) -> CountingStorage:
    storage = CountingStorage(write(files_of(memory(device)), folder / "evidence"))
    device.storage = storage
    return storage


def test_sparse_segment_delays_no_recording_and_is_read_as_far_as_is_due(tmp_path: Path) -> None:
    device = interrupted()
    running = device.recording
    storage = on_disk(device, tmp_path)
    sealed = storage.root / layout.segment(running, 1)
    size = sealed.stat().st_size
    os.truncate(sealed, 4 * TIB)
    device.boot()
    device.run(4)
    assert device.recording == running
    assert not device.recorder.status().storage_failing
    assert (storage.root / layout.segment(running, 2)).stat().st_size > 100_000
    (recovered,) = device.entries(SegmentRecovered, 2)
    assert isinstance(recovered, SegmentRecovered)
    # Twice: once for its hash, and again for the heads of its frames.
    assert storage.was_read[layout.segment(running, 1)] <= recovered.attested_bytes + TAIL_BYTES + size + MAX_LINE
    said = manifest(jws.unverified_payload(storage.read(layout.manifest(running, 1)).decode(), MANIFEST_TYPE))
    assert said.bytes == recovered.attested_bytes + TAIL_BYTES
    assert said.unread_bytes == 4 * TIB - said.bytes
    assert recovered.attested_bytes <= recovered.whole_bytes <= size
    assert [e.what for e in device.entries(Tampered, 2) if isinstance(e, Tampered)] == ["segment_lengthened"]
    device.press("record", hold_s=3.2)
    device.run(2)
    device.recorder.close()
    os.truncate(sealed, size)  # whoever put it back hides nothing: the manifest has seen it
    report = verify(storage.root, trust())
    assert Code.SEGMENT_EXTENDED in {finding.code for finding in report.bad}


def test_sparse_journal_is_read_as_far_as_somebody_signed_it(tmp_path: Path) -> None:
    device = interrupted()
    running = device.recording
    storage = on_disk(device, tmp_path)
    path = storage.root / layout.journal(1)
    size = path.stat().st_size
    os.truncate(path, 10 << 30)
    device.boot()
    device.run(3)
    assert device.recording == running
    assert device.recorder.status().boot == 2
    assert storage.was_read[layout.journal(1)] < 6 * size + 8 * TAIL
    assert (storage.root / layout.segment(running, 2)).exists()


def test_unsigned_lines_are_read_up_to_a_bound(tmp_path: Path) -> None:
    device = interrupted()
    running = device.recording
    size = len(memory(device).files[layout.journal(1)].data)
    said: list[Entry] = [Marked(running, 1)] * 400
    chain_on(device, *said)  # type: ignore[arg-type]
    file = memory(device).files[layout.journal(1)]
    tail = bytes(file.data[size:])
    file.data += tail * (4 * TAIL // len(tail))
    file.durable = bytes(file.data)
    storage = on_disk(device, tmp_path)
    device.boot()
    device.run(3)
    assert device.recording == running
    assert storage.was_read[layout.journal(1)] < 6 * size + 8 * TAIL
    assert "journal_damaged" in [e.what for e in device.entries(Tampered, 2) if isinstance(e, Tampered)]


def test_signed_journal_is_read_to_its_end_however_long_it_is() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    for _ in range(40):
        for _ in range(120):
            device.recorder.journal.post(Marked(running, 1), {"x": "y" * 900})
        device.run(1)
    assert len(memory(device).files[layout.journal(1)].data) > 4 * TAIL
    device.press("record", hold_s=3.2)
    device.run(1)
    memory(device).cut_power()
    device.boot()
    assert not device.recording, "the grant stands at its end"
    assert not device.entries(Tampered, 2)


@pytest.mark.parametrize("what", ["fifo", "folder", "link", "device"])
def test_something_else_in_the_place_of_the_interrupted_segment_delays_nothing(what: str, tmp_path: Path) -> None:
    device = interrupted()
    running = device.recording
    storage = on_disk(device, tmp_path)
    sealed = storage.root / layout.segment(running, 1)
    sealed.unlink()
    if what == "fifo":
        os.mkfifo(sealed)
    elif what == "folder":
        sealed.mkdir()
    elif what == "link":
        sealed.symlink_to("/dev/zero")
    else:
        try:
            os.mknod(sealed, 0o020600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")
    device.boot()
    device.run(4)
    assert device.recording == running
    assert not device.recorder.status().storage_failing
    assert (storage.root / layout.segment(running, 2)).stat().st_size > 100_000
    assert layout.segment(running, 1) not in storage.was_read


def test_ten_thousand_planted_files_delay_no_recording(tmp_path: Path) -> None:
    device = interrupted()
    running = device.recording
    storage = on_disk(device, tmp_path)
    folder = storage.root / layout.recording(running)
    opening = (folder / "0001.opening.jws").read_bytes()
    for number in range(2, 5_002):
        (folder / f"{number:04d}.opening.jws").write_bytes(opening)
        (folder / f"{number:04d}.seg").write_bytes(b"")
    for boot in range(2, 5_002):
        (storage.root / layout.journal(boot)).write_bytes(b"{}\n")
    device.boot()
    device.run(4)
    assert device.recording == running
    status = device.recorder.status()
    assert (status.boot, status.storage_failing) == (5_002, False)
    assert (folder / "5002.seg").stat().st_size > 100_000
    assert sum(path.startswith(layout.recording(running)) for path in storage.was_read) < 300
    assert sum(path.startswith(layout.JOURNAL) for path in storage.was_read) < 700
