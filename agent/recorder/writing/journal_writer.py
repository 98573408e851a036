"""The journal's writer: the only thread that writes journal lines.

The rules, in order:
1. Lines are appended in the order in which their entries were posted, written and synced. A caller that waits for a
   line before a permissive act is called back once it and a signed checkpoint over it are on storage, never sooner.
2. A line that permits something is followed at once by the checkpoint that signs it, and both are stored in one write,
   the boot line too: the next boot does not believe such a line without a signature (see `agent.journal.line_trust`).
3. While storage refuses, lines wait in memory and no callback is made; nothing is dropped. They are signed when they
   are stored. The file is reopened for that: after a card was pulled and put back the old handle is useless.
4. An entry that can't be written costs that entry, and an error in reading the old journal costs another attempt;
   journalling continues.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.clock import NS, Clocks
from agent.errors import StorageError
from agent.evidence.details import Details
from agent.journal.entries import Entry, Refused
from agent.journal.format import Journal, OpenSegment, Signed
from agent.journal.line_trust import needs_signature
from agent.storage.interface import GrowingFile

CHECKPOINT_NS = 60 * NS
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class _Post:
    entry: Entry | None
    details: Details | None = None
    segment: OpenSegment | None = None
    attests: bool = False
    checkpoint: bool = False
    last: bool = False
    synced: Callable[[], None] | None = None


class JournalWriter:
    """Writes one boot's journal.

    Args:
        prepare: Returns the journal, its file, and the lines that were made already; called again every `RETRY_S` while
            it raises `StorageError`.
        clocks: For the time of checkpoints.
        report: Takes the error once when storage refuses, and None once when it takes lines again.
        reopen: Returns another handle on the file, which must hold this many bytes; or raises `StorageError`.
        appended: Takes each line, its line feed included, when it is made.
        stored: Called after a sync, when all appended lines are on storage.
        posted: Takes each entry when it is posted, in the caller's thread; must not block or raise.
    """

    def __init__(
        self,
        prepare: Callable[[], tuple[Journal, GrowingFile, bytes]],
        clocks: Clocks,
        *,
        report: Callable[[StorageError | None], None],
        reopen: Callable[[int], GrowingFile] | None = None,
        appended: Callable[[bytes], None] = lambda _line: None,
        stored: Callable[[], None] = lambda: None,
        posted: Callable[[Entry, Details | None], None] = lambda _entry, _details: None,
    ) -> None:
        self._prepare = prepare
        self._journal: Journal | None = None
        self._file: GrowingFile | None = None
        self._offset = 0
        self._clocks = clocks
        self._report = report
        self._reopen = reopen
        self._appended = appended
        self._stored = stored
        self._posted = posted
        self._posts: queue.SimpleQueue[_Post] = queue.SimpleQueue()
        self._early: deque[_Post] = deque()
        self._unsynced = bytearray()
        self._waiting: list[Callable[[], None]] = []
        self._failing = False
        self._due = False
        self._segment: OpenSegment | None = None
        self._signed: tuple[int, OpenSegment | None] = (0, None)
        self._checkpoint_ns = clocks.monotonic_ns()
        self._stopping = threading.Event()
        self._ended = False
        self._durable = (0, Signed())
        self._posted_ns: int | None = None
        self._thread: threading.Thread | None = None

    @property
    def head(self) -> str:
        """Hash of the newest line, on storage or not; empty before the first."""
        return self._journal.head if self._journal else ""

    @property
    def number(self) -> int:
        """Number of the newest line, on storage or not; 0 before the first."""
        return self._journal.number if self._journal else 0

    @property
    def durable(self) -> tuple[int, Signed]:
        """Number of the newest line on storage, and the newest checkpoint there: what may be shown to others."""
        return self._durable

    @property
    def failing(self) -> bool:
        """True while storage refuses lines."""
        return self._failing

    def waiting_ns(self, now_ns: int) -> int:
        """How long the oldest line that is not on storage has waited; 0 if all are. From any thread."""
        posted_ns = self._posted_ns
        return 0 if posted_ns is None else max(0, now_ns - posted_ns)

    def post(self, entry: Entry, details: Details | None = None, *, synced: Callable[[], None] | None = None) -> None:
        """Journal an entry; `synced` is called in the journal's thread once it and a checkpoint over it are durable."""
        if self._posted_ns is None:
            self._posted_ns = self._clocks.monotonic_ns()
        self._posts.put(_Post(entry, details, checkpoint=synced is not None, synced=synced))
        self._posted(entry, details)

    def attest(self, segment: OpenSegment | None) -> None:
        """Sign a checkpoint over the chain and the open segment's synced bytes; None once it was closed."""
        self._posts.put(_Post(None, segment=segment, attests=True, checkpoint=True))

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what was posted, end the thread if there is one, release the file."""
        self._posts.put(_Post(None, checkpoint=True, last=True))
        self._stopping.set()
        if self._thread is None:
            self.step()
        else:
            self._thread.join(timeout_s)
        if self._file is not None:
            self._file.close()

    def _run(self) -> None:
        self.step()
        while not (self._ended or (self._stopping.is_set() and self._failing)):
            first: _Post | None = None
            if self._failing:
                self._stopping.wait(RETRY_S)
            else:
                try:
                    first = self._posts.get(timeout=max(0.0, self._next_checkpoint_ns() / NS))
                except queue.Empty:
                    first = None
            self.step(first)

    def _next_checkpoint_ns(self) -> int:
        return self._checkpoint_ns + CHECKPOINT_NS - self._clocks.monotonic_ns()

    def step(self, first: _Post | None = None) -> None:
        """Append a line for each posted entry, write and sync them, and call back those who wait."""
        if first is not None:
            self._early.append(first)
        try:
            journal = self._ready()
        except StorageError as error:
            self._storage_failed(error)
            return
        except Exception as error:  # noqa: BLE001 - rule 4
            self._storage_failed(StorageError(0, f"{type(error).__name__}: {error}"))
            return
        while self._early:
            self._append(journal, self._early.popleft())
        while not self._posts.empty():
            self._append(journal, self._posts.get())
        if self._next_checkpoint_ns() <= 0 or (self._due and not self._failing and not self._is_signed(journal)):
            self._checkpoint(journal)
        self._due &= self._failing
        if not self._store(journal):
            return
        if self._due:  # became due while storage refused
            self._checkpoint(journal)
            if not self._store(journal):
                return
        if self._failing:
            self._failing = False
            self._report(None)
        if self._posts.empty():
            self._posted_ns = None
        waiting, self._waiting = self._waiting, []
        for synced in waiting:
            synced()

    def _ready(self) -> Journal:
        if self._journal is None:
            journal, self._file, lines = self._prepare()
            self._journal = journal
            self._add_lines(lines)
            self._checkpoint(journal)
        return self._journal

    def _add_lines(self, lines: bytes) -> None:
        self._unsynced += lines
        self._appended(lines)

    def _storage_failed(self, error: StorageError) -> None:
        if not self._failing:
            self._failing = True
            self._report(error)

    def _append(self, journal: Journal, post: _Post) -> None:
        if post.entry is not None:
            try:
                self._add_lines(journal.line(post.entry, post.details))
            except Exception as error:  # noqa: BLE001 - rule 4
                why = f"{type(post.entry).__name__}: {type(error).__name__}: {error}"[:300]
                self._add_lines(journal.line(Refused("journal", ascii(why))))
                return  # its `synced` is never called: it is not on storage
            if needs_signature(post.entry):
                self._checkpoint(journal)
        if post.attests:
            self._segment = post.segment
        if post.synced is not None:
            self._waiting.append(post.synced)
        self._due |= post.checkpoint
        self._ended |= post.last

    def _checkpoint(self, journal: Journal) -> None:
        self._add_lines(journal.checkpoint(self._segment))
        self._signed = (journal.number, self._segment)
        self._checkpoint_ns = self._clocks.monotonic_ns()
        self._due = False

    def _is_signed(self, journal: Journal) -> bool:
        """True if the newest line is a checkpoint that signs everything."""
        return self._signed == (journal.number, self._segment)

    def _store(self, journal: Journal) -> bool:
        """Write and sync the appended lines; False if storage refuses."""
        if not self._unsynced:
            return True
        assert self._file is not None
        try:
            if self._failing:
                self._file = self._reopened(self._file)
            self._file.write_at(self._offset, self._unsynced)
            self._file.sync()
        except StorageError as error:
            self._storage_failed(error)
            return False
        self._offset += len(self._unsynced)
        self._unsynced = bytearray()
        self._durable = (journal.number, journal.newest)
        self._stored()
        return True

    def _reopened(self, file: GrowingFile) -> GrowingFile:
        if self._reopen is None:
            return file
        try:
            again = self._reopen(self._offset)
        except StorageError:
            return file
        file.close()
        return again
