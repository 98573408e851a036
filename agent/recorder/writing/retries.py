"""A storage that refuses: when it is asked again, since when it refuses, and what is given up instead."""

import errno
from collections.abc import Callable

from agent.clock import Clocks
from agent.errors import StorageError
from agent.recorder.writing.job import JournalSink, Notify, Settings, StorageFailed, StorageRecovered, WriterFault

MOST_TRIES = 6
"""So often storage is asked for what no new packet needs, while it takes all else; then that is given up, and said."""
MOST_DOUBLINGS = 6
"""Of the time between two attempts that each begin a new file in vain: 32 s at the most."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What is wrong with storage as a whole, and never with one file."""


class Retries:
    """When the writer asks storage again; for its thread alone, but `failing` may be asked from any.

    Args:
        clocks: Both clocks.
        ledger: The journal: where storage refuses that too, nothing is given up.
        notify: Told of outages, and of what is given up.
        settings: How long to wait.

    Attributes:
        due_ns: Nothing is tried before the monotonic clock shows that.
    """

    def __init__(self, clocks: Clocks, ledger: JournalSink, notify: Notify, settings: Settings) -> None:
        self._clocks = clocks
        self._ledger = ledger
        self._notify = notify
        self._settings = settings
        self._tries = 0
        self._in_vain = 0
        self._failed_ns: int | None = None
        self.due_ns = 0

    @property
    def failing(self) -> bool:
        """True while storage refuses."""
        return self._failed_ns is not None

    def put_off(self) -> None:
        """Wait as usual before the next attempt."""
        self.due_ns = self._clocks.monotonic_ns() + self._settings.retry_ns

    def refused(self, error: StorageError, *, in_vain: bool) -> None:
        """Storage refused: try again later; much later where each attempt begins another file `in_vain`."""
        now = self._clocks.monotonic_ns()
        self.due_ns = now + self._settings.retry_ns
        if in_vain:
            # Where files can be made and not written, each attempt leaves one: further and further apart.
            self.due_ns = now + (self._settings.retry_ns << self._in_vain)
            self._in_vain = min(self._in_vain + 1, MOST_DOUBLINGS)
        if self._failed_ns is None:
            self._failed_ns = now
            self._notify(StorageFailed(error))

    def wrote(self) -> None:
        """A segment's bytes are durable: the next file, if one must be begun, is not begun in vain so far."""
        self._in_vain = 0
        self.takes()

    def takes(self) -> None:
        """Storage took something: an outage, if there was one, is over."""
        if self._failed_ns is not None:
            outage = self._clocks.monotonic_ns() - self._failed_ns
            self._failed_ns = None
            self._notify(StorageRecovered(outage))

    def retry_limited(self, what: str, work: Callable[[], object]) -> None:
        """Do what bears on the past alone: a bad block in an old file must not keep new ones from being written."""
        try:
            work()
        except StorageError as error:
            if self._ledger.failing or error.errno in NO_ROOM:
                raise  # it is storage as a whole
            self._tries += 1
            if self._tries < MOST_TRIES:
                raise
            problem: Exception | None = error
        except Exception as error:  # noqa: BLE001 - as in `Writer.step`
            problem = error
        else:
            problem = None
        self._tries = 0
        if problem is not None:
            self._notify(WriterFault(f"{what} was given up: {type(problem).__name__}: {problem}"))
