"""The journal's keeper: the only thread that writes journal lines.

Lines are made in the order in which they were posted, written, synced, and only then are those told who wait for it
before a permissive act. While storage refuses, lines pile up in memory and nobody is told; nothing is dropped.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.clock import NS, Clocks
from agent.errors import StorageError
from agent.evidence.details import Details
from agent.evidence.entries import Entry
from agent.evidence.journal import Journal, OpenSegment, Signed
from agent.storage.interface import GrowingFile

CHECKPOINT_NS = 60 * NS
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class _Post:
    entry: Entry | None
    details: Details | None = None
    segment: OpenSegment | None = None
    checkpoint: bool = False
    synced: Callable[[], None] | None = None


class Keeper:
    """Keeps one boot's journal.

    Args:
        prepare: Gives the journal and the file its lines go to, and the lines that were made already; called again,
            every `RETRY_S`, while it raises `StorageError`.
        clocks: For the time of checkpoints.
        failed: Told once when storage refuses, with the error, and once when it takes lines again, with None.
    """

    def __init__(
        self,
        prepare: Callable[[], tuple[Journal, GrowingFile, bytes]],
        clocks: Clocks,
        *,
        failed: Callable[[StorageError | None], None],
    ) -> None:
        self._prepare = prepare
        self._journal: Journal | None = None
        self._file: GrowingFile | None = None
        self._offset = 0
        self._clocks = clocks
        self._failed = failed
        self._posts: queue.SimpleQueue[_Post] = queue.SimpleQueue()
        self._early: deque[_Post] = deque()
        self._unsynced = bytearray()
        self._waiting: list[Callable[[], None]] = []
        self._failing = False
        self._segment: OpenSegment | None = None
        self._checkpoint_ns = clocks.monotonic_ns()
        self._stopping = False
        self._durable = (0, Signed())
        self._thread: threading.Thread | None = None

    @property
    def head(self) -> str:
        """Hash of the newest line that was made; empty before the first."""
        return self._journal.head if self._journal else ""

    @property
    def number(self) -> int:
        """Number of the newest line that was made; 0 before the first."""
        return self._journal.number if self._journal else 0

    @property
    def durable(self) -> tuple[int, Signed]:
        """Number of the newest line on storage, and the newest checkpoint there: what others may be shown."""
        return self._durable

    def post(self, entry: Entry, details: Details | None = None, *, synced: Callable[[], None] | None = None) -> None:
        """Journal an entry; `synced` is called in the keeper's thread once it and a checkpoint over it are durable."""
        self._posts.put(_Post(entry, details, checkpoint=synced is not None, synced=synced))

    def attest(self, segment: OpenSegment | None) -> None:
        """Sign a checkpoint over the chain and the open segment's synced bytes; None once it was closed."""
        self._posts.put(_Post(None, segment=segment, checkpoint=True))

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what was posted, end the thread if there is one, release the file."""
        self._stopping = True
        self._posts.put(_Post(None, checkpoint=True))
        if self._thread is None:
            self.step()
        else:
            self._thread.join(timeout_s)
        if self._file is not None:
            self._file.close()

    def _run(self) -> None:
        self.step()
        while True:
            wait = RETRY_S if self._failing else max(0.0, self._next_checkpoint_ns() / NS)
            try:
                first: _Post | None = self._posts.get(timeout=wait)
            except queue.Empty:
                first = None
            self.step(first)
            if self._stopping and (self._failing or self._posts.empty()):
                return

    def _next_checkpoint_ns(self) -> int:
        return self._checkpoint_ns + CHECKPOINT_NS - self._clocks.monotonic_ns()

    def step(self, first: _Post | None = None) -> None:
        """Make lines of all that was posted, write and sync them, and tell those who wait."""
        if first is not None:
            self._early.append(first)
        try:
            journal, file = self._ready()
        except StorageError as error:
            self._refused(error)
            return
        checkpoint = False
        while self._early:
            checkpoint |= self._take(journal, self._early.popleft())
        while not self._posts.empty():
            checkpoint |= self._take(journal, self._posts.get())
        if (checkpoint and not self._failing) or self._next_checkpoint_ns() <= 0:
            self._unsynced += journal.checkpoint(self._segment)
            self._checkpoint_ns = self._clocks.monotonic_ns()
        self._flush(journal, file)

    def _ready(self) -> tuple[Journal, GrowingFile]:
        if self._journal is None or self._file is None:
            self._journal, self._file, lines = self._prepare()
            self._unsynced += lines
        return self._journal, self._file

    def _refused(self, error: StorageError) -> None:
        if not self._failing:
            self._failing = True
            self._failed(error)

    def _take(self, journal: Journal, post: _Post) -> bool:
        if post.entry is not None:
            self._unsynced += journal.line(post.entry, post.details)
        elif post.checkpoint and not self._stopping:
            self._segment = post.segment
        if post.synced is not None:
            self._waiting.append(post.synced)
        return post.checkpoint

    def _flush(self, journal: Journal, file: GrowingFile) -> None:
        if not self._unsynced:
            return
        try:
            file.write_at(self._offset, self._unsynced)
            file.sync()
        except StorageError as error:
            self._refused(error)
            return
        self._offset += len(self._unsynced)
        self._unsynced = bytearray()
        self._durable = (journal.number, journal.newest)
        if self._failing:
            self._failing = False
            self._failed(None)
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()
