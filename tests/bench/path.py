"""Our path from encoded packet to sealed file: the recorder's own ring, writer, storage and journal, nothing stood in.

Two things differ from a recorder in the field. The source comes as fast as it is taken, but runs no further ahead than
a camera would in front of a slow card (`record`), so that each fragment is synced by itself and nothing is saved by
catching up. And the clock follows the media's time, so that what happens once a second (attestation, checkpoint,
journal line, their sync) happens once for each second of media.
"""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.capture import OpenSource
from agent.clock import NS, Clocks, SystemClocks, WallReading
from agent.evidence import layout
from agent.evidence.closing import certify
from agent.evidence.details import DetailsKey
from agent.evidence.manifest import PreEventLength
from agent.evidence.segment import FRAGMENT_NS, Identity
from agent.journal.format import Journal
from agent.keys.signer import KeySigner
from agent.media.packet import Kind, Packet
from agent.media.ring import Cursor, LostPackets, Ring
from agent.recorder.feed import Feed
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.task import (
    FirstStored,
    RecordingClosed,
    RecordingTask,
    Settings,
    WriterContext,
    WriterEvent,
)
from agent.recorder.writing.writer import Writer
from agent.seal.framing import frame_length_for
from agent.seal.recipients import HpkeRecipientKey
from agent.storage.disk import DiskStorage
from agent.storage.interface import GrowingFile

RECORDING = "bench"
MAX_BYTES = 64 << 20
SLOT_NS = 2 * FRAGMENT_NS
"""The source is at most two ahead: less than what the writer takes for a backlog and stores with fewer syncs."""
PATIENCE_S = 60.0


class MediaClocks:
    """Both clocks of the recorder; the monotonic one shows what it is told."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._system = SystemClocks()

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall(self) -> WallReading:
        return self._system.wall()


class WatchedFile:
    """A file on disk whose syncs are counted, and may be left out or held up."""

    def __init__(self, path: str, file: GrowingFile, storage: "WatchedStorage") -> None:
        self._path = path
        self._file = file
        self._storage = storage

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._file.write_at(offset, data)

    def sync(self) -> None:
        self._storage.gate.wait()
        self._storage.syncs[self._path] += 1
        if self._storage.sync:
            self._file.sync()

    def close(self) -> None:
        self._file.close()


class WatchedStorage:
    """The recorder's own storage.

    Args:
        root: The evidence folder.
        sync: False leaves out the syncs of files that grow (segments, journal). Those that make a new name durable
            stay, a few for each segment.

    Attributes:
        syncs: How many were asked for, by path.
        gate: Syncs wait while it is cleared, as on a card that stalls.
    """

    def __init__(self, root: Path, *, sync: bool = True) -> None:
        self._disk = DiskStorage(root)
        self.sync = sync
        self.syncs: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    def create(self, path: str) -> GrowingFile:
        return WatchedFile(path, self._disk.create(path), self)

    def reopen(self, path: str) -> GrowingFile:
        return WatchedFile(path, self._disk.reopen(path), self)

    def publish(self, path: str, data: bytes) -> None:
        self._disk.publish(path, data)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        return self._disk.read(path, limit)

    def open(self, path: str) -> BinaryIO:
        return self._disk.open(path)

    def names(self, path: str) -> list[str]:
        return self._disk.names(path)

    def size(self, path: str) -> int | None:
        return self._disk.size(path)

    def free_bytes(self) -> int:
        return self._disk.free_bytes()


class WatchedFeed(Feed):
    """The recorder's own feed; one can wait until packets are on storage."""

    def __init__(self, ring: Ring) -> None:
        super().__init__(ring)
        self.faults: list[object] = []
        self._awaited = 0
        self._reached = threading.Event()

    def fail(self, fault: object) -> None:
        """Note that something went wrong on the way: whoever waits is told."""
        self.faults.append(fault)
        self._reached.set()

    def mark_written(self, cursor: Cursor, number: int) -> list[LostPackets]:
        lost = super().mark_written(cursor, number)
        if number >= self._awaited:
            self._reached.set()
        return lost

    def wait_written(self, cursor: Cursor, number: int) -> None:
        """Wait until all packets before `number` are on storage.

        Raises:
            RuntimeError: Something went wrong on the way, or nothing happens any more.
        """
        self._awaited = number
        self._reached.clear()
        if cursor.written < number and not self.faults and not self._reached.wait(PATIENCE_S):
            raise RuntimeError(f"expected packet {number} on storage within {PATIENCE_S} s, it is not")
        if self.faults:
            raise RuntimeError(f"expected a recording without faults, got {self.faults}")


class Recording:
    """One recording into one folder; writer and journal run in threads of their own, as in the recorder.

    Args:
        root: The evidence folder.
        keys: Whom it is sealed to.
        clocks: Of writer and journal.
        sync: False leaves syncs out (see `WatchedStorage`).
        pre_event_ns: Length of the ring before a start.
        settings: Of the writer.

    Attributes:
        first_stored_ns: From the start that was asked for to the first sync.
    """

    def __init__(
        self,
        root: Path,
        keys: Sequence[HpkeRecipientKey],
        clocks: Clocks,
        *,
        sync: bool = True,
        pre_event_ns: int = 5 * NS,
        settings: Settings | None = None,
    ) -> None:
        self.storage = WatchedStorage(root, sync=sync)
        self.feed = WatchedFeed(Ring(pre_event_ns, MAX_BYTES))
        self.first_stored_ns = 0
        self._closed = threading.Event()
        signer, details = KeySigner.generate(), DetailsKey(os.urandom(32))
        recipients = [key.recipient for key in keys]
        identity = Identity("bench", "cam-1", 1, "00" * 32, signer, details, recipients, "set-1", "00" * 32)
        journal = Journal(device="cam-1", boot=1, signer=signer, details=details, clocks=clocks, head="00" * 32)
        journal_file = self.storage.create(layout.journal(1))
        self._journal = JournalWriter(lambda: (journal, journal_file, b""), clocks, report=self.feed.fail)
        self._writer = Writer(
            WriterContext(
                feed=self.feed,
                storage=self.storage,
                journal=self._journal,
                identity=lambda _recording: identity,
                certify=lambda recording: certify(self.storage, recording, 1, (b"device", b"boot")),
                clocks=clocks,
                random_bytes=os.urandom,
                frame_length=frame_length_for,
                notify=self._notified,
                settings=settings or Settings(),
            )
        )
        self._journal.start()
        self._writer.start()

    def _notified(self, event: WriterEvent) -> None:
        match event:
            case FirstStored():
                self.first_stored_ns = event.took_ns
            case RecordingClosed():
                self._closed.set()
            case _:
                self.feed.fail(event)

    def start(self, at_ns: int) -> RecordingTask:
        """Ask for the recording."""
        cursor = self.feed.start(at_ns)
        found = cursor.pre_event
        asked, kept, excess, gap = (
            ns // 10**6 for ns in (found.asked_ns, found.kept_ns, found.excess_ns, found.gap_ns)
        )
        length = PreEventLength(asked, kept, excess, gap, found.short, silent=False)
        job = RecordingTask(RECORDING, cursor, at_ns, length)
        self._writer.begin(job)
        return job

    def stop(self, end_ns: int) -> None:
        """End it, wait until all of it is on storage, and end the threads.

        Raises:
            RuntimeError: Something went wrong on the way, so that what was measured is not what it seems.
        """
        self._writer.end(RECORDING, end_ns, None)
        closed = self._closed.wait(PATIENCE_S)
        self._writer.close()
        self._journal.close()
        if self.feed.faults or not closed:
            raise RuntimeError(f"expected a recording without faults, closed in time; {closed=}, {self.feed.faults}")

    def segments(self) -> list[str]:
        """Paths of the sealed segments."""
        folder = layout.recording(RECORDING)
        return [f"{folder}/{name}" for name in self.storage.names(folder) if name.endswith(".seg")]

    def recorded(self, counts: "Counts", ring_bytes: int) -> "Recorded":
        """What came of it."""
        paths, syncs = self.segments(), self.storage.syncs
        sealed_bytes = sum(self.storage.size(path) or 0 for path in paths)
        journal_syncs = syncs[layout.journal(1)]
        return Recorded(counts, sealed_bytes, sum(syncs[path] for path in paths), journal_syncs, ring_bytes)


@dataclass(slots=True)
class Counts:
    """Packets that came by: pictures, pictures and sound, and their encoded bytes."""

    frames: int = 0
    packets: int = 0
    media_bytes: int = 0

    def add(self, packet: Packet) -> None:
        self.packets += 1
        self.frames += packet.stream.parameters.kind is Kind.VIDEO
        self.media_bytes += len(packet.data)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run took in and wrote.

    Attributes:
        syncs, journal_syncs: Of segments, and of the journal.
        ring_bytes: The most that was in memory, looked at once in each `SLOT_NS`.
    """

    counts: Counts
    sealed_bytes: int
    syncs: int
    journal_syncs: int
    ring_bytes: int


def record(root: Path, keys: Sequence[HpkeRecipientKey], source: OpenSource, media_ns: int, *, sync: bool) -> Recorded:
    """Record the first `media_ns` of a source that does not wait and whose first packet is at time 0.

    After each `SLOT_NS` the source waits until all that came before the slot is on storage.
    """
    clocks = MediaClocks()
    # How long a sync takes can't be told from a clock that shows the media's time.
    recording = Recording(root, keys, clocks, sync=sync, settings=Settings(slow_sync_ns=sys.maxsize))
    recording.feed.declare(*source.streams)
    job = recording.start(0)
    counts = Counts()
    slot_began = ring_bytes = 0
    slot_end_ns = SLOT_NS
    for packet in source:
        time_ns = packet.time_ns
        if time_ns >= media_ns:
            break
        if time_ns >= slot_end_ns:
            recording.feed.wait_written(job.cursor, slot_began)
            slot_began = counts.packets
            ring_bytes = max(ring_bytes, recording.feed.bytes)
            # All before this is on storage: a clock further on would make fragments stale that only wait their turn.
            clocks.now_ns = slot_end_ns - SLOT_NS
            slot_end_ns += SLOT_NS
        recording.feed.put(packet)
        counts.add(packet)
    source.close()
    clocks.now_ns = media_ns + 2 * NS
    recording.stop(media_ns)
    return recording.recorded(counts, ring_bytes)


def record_live(
    root: Path, keys: Sequence[HpkeRecipientKey], source: OpenSource, media_ns: int
) -> tuple[Recorded, float]:
    """Record a source that comes at its own pace, for `media_ns`; with syncs and the system's clocks.

    Returns:
        What was recorded, and the CPU seconds for it: those of the writer's and the journal's threads, and of the
        source's thread while it hands packets over. (What remains of the process when the source's own cost is taken
        off would be lost in the noise of the latter, which is several times as much.)
    """
    began_ns = source.streams[0].epoch_ns
    recording = Recording(root, keys, SystemClocks())
    recording.feed.declare(*source.streams)
    recording.start(began_ns)
    counts = Counts()
    handing_over_ns = 0
    for packet in source:
        if packet.time_ns - began_ns >= media_ns:
            break
        before = time.thread_time_ns()
        recording.feed.put(packet)
        handing_over_ns += time.thread_time_ns() - before
        counts.add(packet)
    source.close()
    own = [thread.native_id for thread in threading.enumerate() if thread.name in {"writer", "journal"}]
    assert len(own) == len({"writer", "journal"})
    ring_bytes = recording.feed.bytes
    cpu_s = sum(thread_cpu_s("self", thread) for thread in own) + handing_over_ns / NS
    recording.stop(began_ns + media_ns)
    return recording.recorded(counts, ring_bytes), cpu_s


def thread_cpu_s(pid: int | str, thread: int | str | None) -> float:
    """CPU time of a thread so far (the scheduler's own count, in nanoseconds)."""
    return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) / NS
