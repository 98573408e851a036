"""What a power cut left open is closed beside the recording, never before it, and never in its way."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.core.indicator.signals import Background
from agent.encoding.strict_json import sha256_hex
from agent.errors import StorageError
from agent.evidence import closing, layout
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Manifest, Opening, manifest, opening
from agent.journal.entries import (
    Boot,
    Continued,
    RecordingEnded,
    RecordingStarted,
    Refused,
    SegmentOpened,
    SegmentRecovered,
    ShutDown,
    StorageFailed,
)
from agent.keys import jws
from agent.recorder.writing.recovery import WAIT_NS
from agent.recorder.writing.retries import MAX_TRIES
from agent.storage.disk import DiskStorage
from agent.verify.findings import Code, Verdict
from agent.verify.verifier import verify
from tests.attacks.test_card_attacks import interrupted, memory
from tests.support.device import Device, trust
from tests.support.evidence import check, codes, files_of, write
from tests.support.running import wait_for
from tests.support.storage import MemoryStorage


def said_at_opening(device: Device, recording: str, segment: int) -> Opening:
    return opening(
        jws.unverified_payload(device.storage.read(layout.opening(recording, segment)).decode(), OPENING_TYPE)
    )


def said_at_end(device: Device, recording: str, segment: int) -> Manifest:
    return manifest(
        jws.unverified_payload(device.storage.read(layout.manifest(recording, segment)).decode(), MANIFEST_TYPE)
    )


def digest(device: Device, path: str) -> str:
    return sha256_hex(device.storage.read(path))


def stop(device: Device) -> None:
    device.press("record", hold_s=3.2)
    device.run(2)
    assert not device.recording
    device.recorder.close()


def refusing_manifests(recording: str, segment: int, code: int = errno.EIO) -> "Refusing":
    return Refusing(layout.manifest(recording, segment), code)


class Refusing:
    """A storage that takes all but one file."""

    def __init__(self, path: str, code: int) -> None:
        self.path, self.code, self.asked = path, code, 0

    def __call__(self, operation: str, path: str) -> None:
        if operation == "publish" and path == self.path:
            self.asked += 1
            raise StorageError(self.code, errno.errorcode[self.code])


# -- the order ---------------------------------------------------------------------------------------------------------


def test_next_segment_is_durable_before_the_interrupted_one_is_looked_into() -> None:
    device = interrupted()
    running = device.recording
    storage = memory(device)
    old, new = layout.segment(running, 1), layout.segment(running, 2)
    seen: list[str] = []

    def watch(operation: str, path: str) -> None:
        if (operation, path) in {("read", old), ("sync", new), ("publish", layout.manifest(running, 1))}:
            seen.append(f"{operation} {path[-8:]}")

    device.boot()
    storage.fault = watch
    device.run(2)
    assert seen[0] == "sync 0002.seg"
    assert {"read 0001.seg", "publish fest.jws"} <= set(seen)


def test_chain_leads_through_the_opening_statement_of_the_interrupted_segment() -> None:
    device = interrupted()
    running = device.recording
    device.boot()
    device.run(2)
    following = said_at_opening(device, running, 2)
    assert following.interrupted
    assert following.previous == digest(device, layout.opening(running, 1))
    assert said_at_end(device, running, 1).opening == following.previous
    stop(device)
    last = said_at_end(device, running, 2)
    assert not last.interrupted, "the manifest before was there when this one was made"
    assert last.previous == digest(device, layout.manifest(running, 1))
    entries = device.entries(boot=2)
    opened = next(n for n, entry in enumerate(entries) if isinstance(entry, SegmentOpened))
    recovered = next(n for n, entry in enumerate(entries) if isinstance(entry, SegmentRecovered))
    assert opened < recovered
    assert verify(device.storage, trust()).verdict is Verdict.INTACT


@settings(deadline=None, max_examples=25)
@given(
    claimed=st.sampled_from([0, 1, 1 << 20, 1 << 30, 4 << 40]),
    names=st.integers(0, 3000),
    refuses=st.sampled_from(["", "read", "publish"]),
)
def test_what_is_done_before_the_first_durable_byte_does_not_depend_on_the_interrupted_segment(
    claimed: int, names: int, refuses: str
) -> None:
    device = interrupted()
    running = device.recording
    storage = Claiming(files_of(memory(device)), layout.segment(running, 1), claimed)
    for number in range(names):
        storage.publish(f"{layout.recording(running)}/planted-{number}.seg", b"")
    if refuses:
        storage.refuse(refuses, layout.segment(running, 1), layout.manifest(running, 1))
    device.storage = storage
    device.boot()
    storage.begin(layout.segment(running, 2))
    device.run(1)
    assert storage.until_durable == EXPECTED
    assert device.recording == running
    assert not device.recorder.status().storage_failing


EXPECTED = ["publish 0002.opening.jws", "publish boot-00000002.jws", "create 0002.seg", "sync 0002.seg"]


class Claiming(MemoryStorage):
    """Says that a file has another size than it has, and notes what is done until another one is durable."""

    def __init__(self, files: dict[str, bytes], path: str, claimed: int) -> None:
        super().__init__()
        for name, data in files.items():
            MemoryStorage.publish(self, name, data)
        self._path, self._claimed = path, claimed
        self._new = ""
        self._refused: tuple[str, ...] = ()
        self._operation = ""
        self.until_durable: list[str] = []

    def begin(self, new: str) -> None:
        self._new = new
        self.fault = self._note

    def refuse(self, operation: str, *paths: str) -> None:
        self._operation, self._refused = operation, paths

    def _note(self, operation: str, path: str) -> None:
        name = path.rpartition("/")[2]
        folder = path.startswith(self._new.rpartition("/")[0])
        if self._new and folder and operation in {"publish", "create", "sync"}:
            made = f"{operation} {name}"
            if made not in self.until_durable and not (operation == "create" and not name.endswith(".seg")):
                self.until_durable.append(made)
            self.until_durable.sort(key=EXPECTED.index) if made in EXPECTED else None
        if self._new and path == self._path:
            self.until_durable.append("looked at the interrupted segment")
        if (operation, path) == ("sync", self._new):
            self._new = ""
        if operation == self._operation and path in self._refused:
            raise StorageError(errno.EIO, "EIO")

    def size(self, path: str) -> int | None:
        return self._claimed if path == self._path else super().size(path)


# -- repairs that fail -------------------------------------------------------------------------------------------------


def test_power_cut_before_the_repair_leaves_two_open_segments_and_the_next_boot_closes_both() -> None:
    device = interrupted()
    running = device.recording
    storage = memory(device)
    storage.fault = refusing_manifests(running, 1)
    device.boot()
    device.run(3)
    assert storage.size(layout.manifest(running, 1)) is None
    storage.cut_power()
    storage.fault = lambda _operation, _path: None
    report = check(files_of(storage))
    assert report.verdict is Verdict.UNFINISHED, report.bad
    device.boot()
    device.run(3)
    boot = device.entries(Boot, 3)[0]
    assert isinstance(boot, Boot)
    assert boot.unfinished == [running]
    recovered = [entry for entry in device.entries(SegmentRecovered, 3) if isinstance(entry, SegmentRecovered)]
    assert [(entry.recording, entry.segment) for entry in recovered] == [(running, 1), (running, 2)]
    assert all(0 < entry.attested_bytes <= entry.whole_bytes for entry in recovered)
    assert said_at_end(device, running, 2).previous == digest(device, layout.manifest(running, 1))
    stop(device)
    assert verify(device.storage, trust()).verdict is Verdict.INTACT


def test_repair_that_fails_for_good_is_given_up_and_reported_and_the_recording_is_stored_all_the_while() -> None:
    device = interrupted()
    running = device.recording
    storage = memory(device)
    storage.fault = refused = refusing_manifests(running, 1)
    device.boot()
    device.run(40)
    assert refused.asked == MAX_TRIES
    (given_up,) = [entry for entry in device.entries(Refused, 2) if isinstance(entry, Refused)]
    assert given_up.what == "recovery"
    assert "segment 0001" in given_up.why
    assert not device.entries(StorageFailed, 2)
    assert device.recorder.status().backlog_ms < 1000
    stop(device)
    report = check(files_of(storage))
    assert report.verdict is Verdict.UNFINISHED, report.bad
    assert codes(report) == {Code.UNFINISHED}
    storage.fault = lambda _operation, _path: None
    device.boot()
    device.run(WAIT_NS / NS + 1)
    assert [type(entry) for entry in device.entries(SegmentRecovered, 3)] == [SegmentRecovered]
    device.recorder.close()
    assert check(files_of(storage)).verdict is Verdict.INTACT


def test_repair_waits_for_new_bytes_and_not_for_ever() -> None:
    device = interrupted()
    running = device.recording
    device.boot()
    device.clocks.now_ns += WAIT_NS - NS
    device.settle()
    assert memory(device).size(layout.manifest(running, 1)) is None
    device.clocks.now_ns += 2 * NS
    device.settle()
    assert memory(device).size(layout.manifest(running, 1)) is not None
    device.run(2)
    assert said_at_opening(device, running, 2).interrupted, "that was how it stood at the start"
    stop(device)
    assert check(files_of(memory(device))).verdict is Verdict.INTACT


def test_repair_that_hangs_delays_neither_the_recording_nor_its_end_and_no_end_in_order_is_reported() -> None:
    device = interrupted()
    running = device.recording
    storage = memory(device)
    release, entered = threading.Event(), threading.Event()

    def hang(operation: str, path: str) -> None:
        if operation == "read" and path == layout.segment(running, 1):
            entered.set()
            assert release.wait(60)

    device.boot()
    device.recorder.recovery.step = lambda: None  # type: ignore[method-assign] # not in this thread
    storage.fault = hang
    device.run(2)
    del device.recorder.recovery.step
    device.recorder.recovery.start()
    assert entered.wait(20)
    device.recorder.recovery.step = lambda: None  # type: ignore[method-assign]
    device.run(10)
    assert device.recorder.status().backlog_ms < 1000
    assert device.signals.lights is Background.RECORDING
    device.press("record", hold_s=3.2)
    device.run(2)
    assert not device.recording
    device.recorder.close(0.1)
    assert not device.entries(ShutDown, 2)
    release.set()
    thread = device.recorder.recovery._thread
    assert thread is not None
    wait_for(lambda: not thread.is_alive())
    storage.fault = lambda _operation, _path: None
    assert check(files_of(storage)).verdict is not Verdict.NOT_INTACT


def test_manifest_of_the_interrupted_segment_that_is_removed_later_is_missed() -> None:
    device = interrupted()
    running = device.recording
    device.boot()
    device.run(2)
    stop(device)
    files = files_of(memory(device))
    del files[layout.manifest(running, 1)]
    assert Code.MANIFEST_MISSING in codes(check(files))


def test_segment_between_that_is_removed_breaks_the_chain() -> None:
    device = interrupted()
    running = device.recording
    device.boot()
    device.run(2)
    stop(device)
    files = files_of(memory(device))
    other = files[layout.opening(running, 2)]
    files[layout.opening(running, 1)] = other
    assert check(files).verdict is Verdict.NOT_INTACT
    for path in [path for path in files if path.startswith(f"{layout.recording(running)}/0001")]:
        del files[path]
    assert Code.SEGMENT_MISSING in codes(check(files))


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_no_more_is_read_than_was_attested_and_the_stated_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "TAIL_BYTES", 10_000)
    device = interrupted()
    running = device.recording
    file = memory(device).files[layout.segment(running, 1)]
    real = len(file.data)
    file.data += bytes(1 << 20)
    file.durable = bytes(file.data)
    device.boot()
    device.run(2)
    said = said_at_end(device, running, 1)
    assert said.bytes == said.attested_bytes + 10_000
    assert said.sha256 == sha256_hex(bytes(file.data[: said.bytes]))
    assert said.unread_bytes == real + (1 << 20) - said.bytes
    stop(device)
    assert Code.SEGMENT_EXTENDED in codes(check(files_of(memory(device))))


def test_attested_length_that_nobody_can_have_written_is_no_bound() -> None:
    assert closing.readable(1 << 50) == closing.MOST_BYTES
    assert closing.readable(0) == closing.TAIL_BYTES


# -- a folder in which nothing can be stored ---------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "link", "fifo"])
def test_interrupted_recording_whose_folder_was_replaced_continues_as_its_successor(what: str, tmp_path: Path) -> None:
    device = interrupted()
    old = device.recording
    evidence = write(files_of(memory(device)), tmp_path / "evidence")
    folder = evidence / layout.recording(old)
    folder.rename(tmp_path / "taken")
    if what == "file":
        folder.write_bytes(b"not a folder")
    elif what == "link":
        folder.symlink_to(tmp_path / "taken")
    else:
        os.mkfifo(folder)
    device.storage = DiskStorage(evidence)
    device.boot()
    device.run(6)
    new = device.recording
    assert new != old
    assert not device.recorder.status().storage_failing
    assert (evidence / layout.segment(new, 1)).stat().st_size > 100_000
    assert not (tmp_path / "taken" / "0002.seg").exists()
    (continued,) = device.entries(Continued, 2)
    assert isinstance(continued, Continued)
    assert (continued.recording, continued.by) == (old, new)
    assert [e.recording for e in device.entries(RecordingStarted, 2) if isinstance(e, RecordingStarted)] == [old, new]
    device.boot()
    device.run(2)
    assert device.recording == new, "and the boot after goes on with that one"
    stop(device)
    (ended,) = device.entries(RecordingEnded, 3)
    assert isinstance(ended, RecordingEnded)
    assert ended.recording == new
    wrong = {finding.code for finding in verify(evidence, trust()).bad if finding.recording == new}
    assert not wrong


def test_folder_that_is_replaced_while_it_is_written_loses_nothing(tmp_path: Path) -> None:
    device = Device(storage=DiskStorage(tmp_path / "evidence"), segment_s=4.0)
    device.run(6)
    device.press("record", times=2)
    old = device.recording
    device.run(3)
    folder = tmp_path / "evidence" / layout.recording(old)
    folder.rename(tmp_path / "taken")
    folder.write_bytes(b"")
    device.run(30)
    new = device.recording
    assert new != old
    status = device.recorder.status()
    assert (status.storage_failing, status.backlog_ms < 1000) == (False, True)
    assert (tmp_path / "evidence" / layout.segment(new, 1)).stat().st_size > 100_000
    stop(device)


def test_storage_whose_folders_are_all_refused_makes_no_end_of_recordings(tmp_path: Path) -> None:
    device = Device(storage=DiskStorage(tmp_path / "evidence"))
    device.run(6)
    (tmp_path / "evidence" / "recordings").write_bytes(b"")
    device.press("record", times=2)
    device.run(60)
    assert device.recorder.status().storage_failing
    assert device.signals.lights is Background.FAULT
    assert len(device.entries(Continued)) <= 8
