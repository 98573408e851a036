import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from agent.errors import EvidenceError, StorageError
from agent.evidence.details import DetailsKey
from agent.journal.entries import (
    AnyEntry,
    Authorised,
    Checkpoint,
    Continued,
    Decided,
    Marked,
    PolicyChanged,
    RecordingEnded,
    Refused,
    Released,
    ShutDown,
    StandbyEntered,
)
from agent.journal.format import (
    CHECKPOINT_TYPE,
    CheckpointPayload,
    Journal,
    Line,
    OpenSegment,
    checkpoint_payload,
    parse_line,
    split_lines,
)
from agent.journal.reader import Chain, Link
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.recorder.writing.journal_writer import CHECKPOINT_NS, JournalWriter
from agent.storage.interface import GrowingFile
from tests.support.clocks import FakeClocks
from tests.support.storage import MemoryStorage, failing

PATH = "journal/00000001.jsonl"
HEAD = "00" * 32
PATIENCE_S = 20.0


def mark(number: int) -> Marked:
    return Marked("r1", number)


@dataclass
class Kept:
    """A keeper on storage in memory, and what it told."""

    clocks: FakeClocks = field(default_factory=FakeClocks)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    prepare: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.signer = KeySigner.generate()
        self.told: list[object] = []
        self.prepared = 0
        self.keeper = JournalWriter(self._prepare, self.clocks, report=self.told.append, reopen=self._reopen)

    def _prepare(self) -> tuple[Journal, GrowingFile, bytes]:
        self.prepared += 1
        self.prepare()
        journal = Journal(
            device="cam-1", boot=1, signer=self.signer, details=DetailsKey(bytes(32)), clocks=self.clocks, head=HEAD
        )
        return journal, self.storage.create(PATH), journal.line(StandbyEntered())

    def _reopen(self, offset: int) -> GrowingFile:
        if (self.storage.size(PATH) or 0) < offset:
            raise StorageError(errno.ENODEV, "another card")
        return self.storage.reopen(PATH)

    @property
    def lines(self) -> list[Line]:
        """What is on storage for good, its chain checked."""
        raw, rest = split_lines(self.storage.files[PATH].durable)
        assert rest == b""
        chain, lines = Chain(HEAD), []
        for line in map(parse_line, raw):
            assert chain.link(line.n, line.prev) is Link.FOLLOWS
            chain.take(line.n, line.hash)
            lines.append(line)
        return lines

    @property
    def entries(self) -> list[AnyEntry]:
        return [line.entry for line in self.lines if not isinstance(line.entry, Checkpoint)]

    @property
    def checkpoints(self) -> list[CheckpointPayload]:
        tokens = [line.entry.jws for line in self.lines if isinstance(line.entry, Checkpoint)]
        return [checkpoint_payload(jws.verify(t, CHECKPOINT_TYPE, self.signer.public_key)) for t in tokens]


def marks(count: int) -> list[AnyEntry]:
    return [StandbyEntered(), *(mark(number) for number in range(count))]


def test_lines_are_stored_in_the_order_in_which_they_were_posted() -> None:
    kept = Kept()
    for number in range(50):
        kept.keeper.post(mark(number))
        if number % 7 == 0:
            kept.keeper.step()
    kept.keeper.step()
    assert kept.entries == marks(50)
    assert kept.keeper.number == len(kept.lines)
    assert kept.keeper.head == kept.lines[-1].hash


def test_nobody_is_called_back_before_line_and_signature_are_on_storage() -> None:
    kept = Kept()
    seen: list[list[AnyEntry]] = []
    signed: list[int] = []

    def look() -> None:
        seen.append(kept.entries)
        signed.append(kept.checkpoints[-1].n)

    kept.keeper.post(mark(0), synced=look)
    assert not seen
    kept.keeper.step()
    assert seen == [marks(1)]
    assert signed == [3]


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_nobody_is_called_back_while_storage_refuses_and_nothing_is_dropped(operation: str) -> None:
    kept = Kept()
    kept.keeper.step()
    kept.storage.fault = failing({operation}, errno.EIO)
    told: list[int] = []
    for number in range(200):
        kept.keeper.post(mark(number), synced=lambda number=number: told.append(number))  # type: ignore[misc]
        kept.keeper.step()
        kept.clocks.advance(0.5)
    assert not told
    kept.storage.fault = failing(set(), 0)
    kept.keeper.step()
    assert told == list(range(200))
    assert kept.entries == marks(200)
    assert not kept.keeper.failing
    assert [type(item) for item in kept.told] == [StorageError, type(None)]


def test_what_waited_while_storage_refused_is_signed_before_anybody_is_called_back() -> None:
    kept = Kept()
    kept.keeper.step()
    kept.storage.fault = failing({"sync"}, errno.ENOSPC)
    signed: list[int] = []
    kept.keeper.post(mark(0))
    kept.keeper.step()
    kept.keeper.post(mark(1), synced=lambda: signed.append(kept.checkpoints[-1].n))
    kept.keeper.step()
    kept.storage.fault = failing(set(), 0)
    kept.keeper.step()
    numbers = {line.entry: line.n for line in kept.lines}
    assert signed == [numbers[mark(1)]]


def test_storage_that_refuses_the_signature_over_what_waited_is_waited_for_again() -> None:
    kept = Kept()
    kept.keeper.step()
    kept.storage.fault = failing({"sync"}, errno.EIO)
    told: list[bool] = []
    kept.keeper.post(mark(0))
    kept.keeper.step()
    kept.keeper.post(mark(1), synced=lambda: told.append(True))
    syncs = iter([None, StorageError(errno.EIO, "once more")])

    def second_fails(operation: str, _path: str) -> None:
        error = next(syncs, None) if operation == "sync" else None
        if error is not None:
            raise error

    kept.storage.fault = second_fails
    kept.keeper.step()
    assert not told
    kept.storage.fault = failing(set(), 0)
    kept.keeper.step()
    assert told == [True]
    assert kept.checkpoints[-1].n >= 3
    assert [type(item) for item in kept.told] == [StorageError, type(None)]


def test_long_outage_signs_once_a_minute_and_not_at_every_attempt() -> None:
    kept = Kept()
    kept.keeper.step()
    kept.storage.fault = failing({"write"}, errno.EIO)
    for _ in range(10 * 60 * 2):
        kept.keeper.attest(None)
        kept.keeper.step()
        kept.clocks.advance(0.5)
    kept.storage.fault = failing(set(), 0)
    kept.keeper.step()
    assert 9 <= len(kept.checkpoints) <= 12


def test_storage_that_was_gone_and_came_back_is_written_on_where_it_stood() -> None:
    kept = Kept()
    kept.keeper.post(mark(0))
    kept.keeper.step()
    kept.storage.cut_power()  # the handles are dead
    kept.keeper.post(mark(1))
    kept.storage.fault = failing({"reopen", "read"}, errno.ENODEV)
    kept.keeper.step()
    kept.keeper.step()
    assert kept.keeper.failing
    kept.storage.fault = failing(set(), 0)
    kept.keeper.post(mark(2))
    kept.keeper.step()
    assert kept.entries == marks(3)
    assert kept.prepared == 1
    assert [type(item) for item in kept.told] == [StorageError, type(None)]


def test_journal_is_never_continued_on_storage_that_holds_less_than_was_synced() -> None:
    kept = Kept()
    kept.keeper.post(mark(0))
    kept.keeper.step()
    kept.storage.cut_power()
    kept.storage.files[PATH].data[:] = kept.storage.files[PATH].data[:10]
    told: list[bool] = []
    kept.keeper.post(mark(1), synced=lambda: told.append(True))
    for _ in range(3):
        kept.keeper.step()
    assert kept.keeper.failing
    assert not told
    assert len(kept.storage.files[PATH].data) == 10


PERMITTING: list[AnyEntry] = [
    RecordingEnded("r1", 1, 2),
    Continued("r1", "r2"),
    Released("r1", 1, ["audio"], 2, "limit"),
    Decided(1, allowed=True, policy="00" * 32),
    Authorised("ReleaseCriticalIncident", 1),
    PolicyChanged("policy_in_force", 1, "00" * 32),
    ShutDown(),
]


@pytest.mark.parametrize("entry", PERMITTING, ids=lambda entry: type(entry).__name__)
@pytest.mark.parametrize("outage", [False, True])
def test_line_that_permits_something_and_its_signature_reach_storage_in_one_write(
    entry: AnyEntry, outage: bool
) -> None:
    kept = Kept()
    kept.keeper.step()
    if outage:
        kept.storage.fault = failing({"write"}, errno.EIO)
        kept.keeper.post(mark(0))
        kept.keeper.step()
    kept.keeper.post(entry)
    kept.keeper.post(mark(1))
    kept.keeper.step()
    writes: list[int] = []

    def count(operation: str, _path: str) -> None:
        if operation == "write":
            writes.append(len(kept.storage.files[PATH].durable))

    kept.storage.fault = count
    kept.keeper.step()
    kinds = [type(line.entry) for line in kept.lines]
    assert kinds[kinds.index(type(entry)) + 1] is Checkpoint
    assert len(writes) == outage


def test_boot_line_and_its_signature_reach_storage_in_one_write() -> None:
    kept = Kept()
    kept.keeper.step()
    assert [type(line.entry) for line in kept.lines] == [StandbyEntered, Checkpoint]
    assert kept.storage.syncs == 1


def test_idle_journal_is_signed_every_minute() -> None:
    kept = Kept()
    kept.keeper.step()
    for _ in range(10 * 60 * 10):
        kept.clocks.advance(0.1)
        kept.keeper.step()
    times = [payload.mono_us for payload in kept.checkpoints]
    assert len(times) == 11
    assert all(
        later - earlier <= CHECKPOINT_NS // 1000 + 100_000 for earlier, later in zip([0, *times], times, strict=False)
    )


def test_open_segment_is_attested_from_its_first_attestation_to_its_end() -> None:
    kept = Kept()
    one = OpenSegment("r1", 1, 4096, "aa" * 32)
    more = OpenSegment("r1", 1, 8192, "bb" * 32)
    kept.keeper.attest(one)
    kept.keeper.step()
    kept.keeper.attest(more)
    kept.keeper.step()
    kept.clocks.advance(61)
    kept.keeper.step()
    kept.keeper.post(mark(0), synced=lambda: None)
    kept.keeper.step()
    kept.keeper.attest(None)
    kept.keeper.step()
    kept.clocks.advance(61)
    kept.keeper.step()
    attested = [(payload.recording, payload.bytes, payload.sha256) for payload in kept.checkpoints]
    last = ("r1", 8192, more.sha256)
    nothing = ("", 0, "")
    assert attested == [nothing, ("r1", 4096, one.sha256), last, last, last, nothing, nothing]


def test_storage_that_cannot_be_read_at_boot_is_asked_until_it_can() -> None:
    kept = Kept()
    errors: list[Exception] = [StorageError(errno.EIO, "not yet"), OSError(errno.EIO, "raw"), EvidenceError("odd")]

    def prepare() -> None:
        if errors:
            raise errors.pop(0)

    kept.prepare = prepare
    told: list[bool] = []
    kept.keeper.post(mark(0), synced=lambda: told.append(True))
    for _ in range(3):
        kept.keeper.step()
        assert (kept.keeper.head, kept.keeper.number, told) == ("", 0, [])
    kept.keeper.post(mark(1))
    kept.keeper.step()
    assert kept.entries == marks(2)
    assert told == [True]
    assert [type(item) for item in kept.told] == [StorageError, type(None)]


@pytest.mark.parametrize("entry", [Refused("source", "\ud800"), Refused("source", "x" * 70_000)])
def test_entry_that_cannot_be_written_costs_itself_and_is_named(entry: Refused) -> None:
    kept = Kept()
    told: list[bool] = []
    kept.keeper.post(mark(0))
    kept.keeper.post(entry, synced=lambda: told.append(True))
    kept.keeper.post(mark(1))
    kept.keeper.step()
    named = kept.entries[2]
    assert isinstance(named, Refused)
    assert named.what == "journal"
    assert "Refused" in named.why
    assert kept.entries == [StandbyEntered(), mark(0), named, mark(1)]
    assert not told  # no permissive act may rest on it


def test_close_stores_and_signs_what_was_posted() -> None:
    kept = Kept()
    kept.keeper.attest(OpenSegment("r1", 1, 4096, "aa" * 32))
    kept.keeper.attest(None)
    kept.keeper.post(ShutDown())
    kept.keeper.close()
    assert kept.entries == [StandbyEntered(), ShutDown()]
    assert isinstance(kept.lines[-1].entry, Checkpoint)
    assert kept.checkpoints[-1].n == kept.lines[-1].n - 1
    assert kept.checkpoints[-1].recording == ""


def test_segment_that_could_not_be_closed_stays_attested_at_the_end() -> None:
    kept = Kept()
    kept.keeper.attest(OpenSegment("r1", 1, 4096, "aa" * 32))
    kept.keeper.close()
    assert kept.checkpoints[-1].bytes == 4096


# -- as a thread ------------------------------------------------------------------------------------------------------


def test_thread_stores_at_once_and_ends_when_closed() -> None:
    kept = Kept()
    kept.keeper.start()
    for number in range(100):
        synced = threading.Event()
        kept.keeper.post(mark(number), synced=synced.set)
        assert synced.wait(PATIENCE_S)
    kept.keeper.attest(OpenSegment("r1", 1, 4096, "aa" * 32))
    kept.keeper.attest(None)
    kept.keeper.post(ShutDown())
    kept.keeper.close(PATIENCE_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "journal"]
    assert kept.entries == [*marks(100), ShutDown()]
    assert isinstance(kept.lines[-1].entry, Checkpoint)
    assert kept.checkpoints[-1].recording == ""


def test_thread_that_waits_for_storage_can_be_closed() -> None:
    kept = Kept()
    kept.storage.fault = failing({"create", "write"}, errno.EIO)
    failed = threading.Event()
    kept.keeper._report = lambda _error: failed.set()
    kept.keeper.start()
    assert failed.wait(PATIENCE_S)
    kept.keeper.post(mark(0))
    kept.keeper.close(PATIENCE_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "journal"]


def test_thread_takes_up_where_storage_takes_again() -> None:
    kept = Kept()
    kept.storage.fault = failing({"create", "write", "read"}, errno.EIO)
    failed = threading.Event()
    kept.keeper._report = lambda _error: failed.set()
    kept.keeper.start()
    synced = threading.Event()
    kept.keeper.post(mark(0), synced=synced.set)
    assert failed.wait(PATIENCE_S)
    kept.storage.fault = failing(set(), 0)
    assert synced.wait(PATIENCE_S)
    kept.keeper.close(PATIENCE_S)
    assert parse_line(kept.storage.files[PATH].durable.splitlines()[2]).entry == mark(0)
