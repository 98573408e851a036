"""A thread that is blocked in a write can't say so; another one does, counts what is lost, and says when it is over."""

import errno
from dataclasses import dataclass, field

import pytest

from agent.clock import NS
from agent.errors import StorageError
from agent.journal.entries import Entry, PacketsLost, StandbyEntered
from agent.journal.format import Journal
from agent.media.packet import Packet
from agent.media.ring import LostPackets, Ring
from agent.recorder.feed import Feed
from agent.recorder.storage_watch import BEHIND_NS, HANG_NS, JOURNAL_NS, StorageWatch, merged
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.task import RecordingTask
from agent.storage.interface import GrowingFile
from tests.support.clocks import FakeClocks
from tests.support.packets import scene


def never() -> tuple[Journal, GrowingFile, bytes]:
    raise StorageError(errno.EIO, "EIO")


@dataclass
class Watched:
    """A recording without a writer: the test says what is durable."""

    max_bytes: int = 64 << 20
    clocks: FakeClocks = field(default_factory=FakeClocks)

    def __post_init__(self) -> None:
        self.said: list[tuple[str, bool]] = []
        self.posted: list[Entry] = []
        self.feed = Feed(Ring(NS, self.max_bytes))
        self.keeper = JournalWriter(never, self.clocks, report=lambda _error: None)
        self.keeper.post = lambda entry, _details=None, **_more: self.posted.append(entry)  # type: ignore[method-assign]
        self.start_ns = self.clocks.now_ns
        self.packets = iter(scene(200))
        self.jobs: list[RecordingTask] = []
        self.watch = StorageWatch(
            feed=self.feed, journal=self.keeper, tasks=lambda: self.jobs, clocks=self.clocks, report=self._say
        )

    def _say(self, part: str, error: StorageError | None) -> None:
        self.said.append((part, error is not None))

    def begin(self) -> RecordingTask:
        job = RecordingTask("r-0001", self.feed.start(self.clocks.now_ns), self.clocks.now_ns, None)
        self.jobs.append(job)
        return job

    def run(self, seconds: float, *, stored: float = 0.0) -> None:
        """Packets come in for so long; the share `stored` of them becomes durable."""
        end = self.clocks.now_ns + round(seconds * NS)
        count = 0.0
        for packet in self.packets:
            self._take(packet)
            if self.jobs:
                count += stored
                cursor = self.jobs[0].cursor
                held = len(self.feed.read(cursor.written, 1 << 20)[1])
                number = cursor.written + min(int(count), held)
                if number > cursor.written:
                    count -= number - cursor.written
                    self.feed.mark_written(cursor, number)
            self.watch.look()
            if self.clocks.now_ns >= end:
                return

    def _take(self, packet: Packet) -> None:
        self.clocks.now_ns = max(self.clocks.now_ns, packet.time_ns)
        self.feed.put(packet)


def test_nothing_is_reported_while_storage_keeps_up() -> None:
    watched = Watched()
    watched.run(5)
    watched.begin()
    watched.run(30, stored=1.0)
    assert watched.said == []


def test_writer_that_hangs_is_noticed_after_the_stated_time() -> None:
    watched = Watched()
    watched.run(5)
    watched.begin()
    watched.run(2, stored=1.0)
    watched.run(HANG_NS / NS - 0.2)
    assert watched.said == []
    watched.run(0.5)
    assert watched.said == [("progress", True)]
    watched.run(10)
    assert watched.said == [("progress", True)], "one outage"
    watched.run(20, stored=3.0)
    assert watched.said == [("progress", True), ("progress", False)]


def test_storage_that_is_too_slow_is_noticed_although_it_takes_something_all_the_while() -> None:
    watched = Watched()
    watched.run(5)
    watched.begin()
    watched.run(2, stored=1.0)
    watched.run(BEHIND_NS / NS, stored=0.5)
    assert watched.said == []
    watched.run(BEHIND_NS / NS + 2, stored=0.5)
    assert watched.said == [("progress", True)]


def test_long_pre_event_buffer_that_is_drained_is_no_fault() -> None:
    watched = Watched()
    watched.feed.set_pre_event(30 * NS)
    watched.run(40)
    watched.begin()
    watched.run(30, stored=2.0)
    assert watched.said == []


def test_what_is_dropped_from_memory_is_counted_while_the_writer_hangs() -> None:
    watched = Watched(max_bytes=1 << 15)
    watched.run(5)
    job = watched.begin()
    watched.run(60)
    assert watched.said == [("progress", True)]
    lost = [entry for entry in watched.posted if isinstance(entry, PacketsLost)]
    assert 5 <= len(lost) <= 8, "one entry every ten seconds"
    assert sum(entry.packets for entry in lost) == job.unreported_lost > 1000
    rest = sum(gone.packets for gone in watched.feed.take_lost(job.cursor))
    assert job.unreported_lost == rest + sum(entry.packets for entry in lost)
    job.report_lost(job.unreported_lost)
    assert job.unreported_lost == 0


def test_end_of_the_recording_ends_the_outage() -> None:
    watched = Watched()
    watched.run(5)
    watched.begin()
    watched.run(10)
    watched.jobs.clear()
    watched.watch.look()
    assert watched.said == [("progress", True), ("progress", False)]


def test_ended_recording_of_which_all_is_durable_waits_for_nothing() -> None:
    watched = Watched()
    watched.run(5)
    job = watched.begin()
    job.end_ns = watched.clocks.now_ns
    watched.run(0.1, stored=1.0)
    watched.run(20)
    assert watched.said == []


def test_journal_line_that_waits_is_noticed() -> None:
    clocks = FakeClocks()
    watched = Watched(clocks=clocks)
    watched.keeper._posted_ns = clocks.now_ns
    clocks.now_ns += JOURNAL_NS - 1
    watched.watch.look()
    assert watched.said == []
    clocks.now_ns += 1
    watched.watch.look()
    watched.keeper._posted_ns = None
    watched.watch.look()
    assert watched.said == [("lines", True), ("lines", False)]


def test_line_that_was_posted_waits_until_it_is_on_storage() -> None:
    clocks = FakeClocks()
    refusing = JournalWriter(never, clocks, report=lambda _error: None)
    assert refusing.waiting_ns(clocks.now_ns) == 0
    refusing.post(StandbyEntered(1))
    refusing.step()
    assert refusing.waiting_ns(clocks.now_ns + NS) == NS


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([], None), ([LostPackets(1, 10, 5, 6), LostPackets(2, 20, 7, 9)], LostPackets(3, 30, 5, 9))],
)
def test_losses_are_merged(losses: list[LostPackets], expected: LostPackets | None) -> None:
    assert merged(losses) == expected
