"""When the writer tries storage again after a failure, and what it gives up after repeated failures."""

import errno
from collections.abc import Callable

from agent.errors import StorageError
from agent.recorder.writing.task import StorageFailed, StorageRecovered, WriterContext, WriterFault

MAX_TRIES = 6
"""Attempts at work that no new packet needs, while storage takes everything else; after these it is given up."""
MAX_DOUBLINGS = 6
"""Of the time between two attempts that each create another file: 32 s at most."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of storage as a whole, never of one file."""


class StorageRetries:
    """Back-off of the writer; for its thread alone, but `failing` may be read from any.

    Attributes:
        next_attempt_ns: Nothing is tried before this monotonic time.
    """

    def __init__(self, context: WriterContext) -> None:
        self._clocks = context.clocks
        self._journal = context.journal
        self._notify = context.notify
        self._settings = context.settings
        self._tries = 0
        self._doublings = 0
        self._failed_ns: int | None = None
        self.next_attempt_ns = 0

    @property
    def failing(self) -> bool:
        """True while storage refuses."""
        return self._failed_ns is not None

    def postpone(self) -> None:
        """Wait the usual time before the next attempt."""
        self.next_attempt_ns = self._clocks.monotonic_ns() + self._settings.retry_ns

    def failed(self, error: StorageError, *, file_abandoned: bool) -> None:
        """Storage refused. Where each attempt abandons a file, the attempts move further and further apart."""
        now = self._clocks.monotonic_ns()
        self.next_attempt_ns = now + self._settings.retry_ns
        if file_abandoned:
            self.next_attempt_ns = now + (self._settings.retry_ns << self._doublings)
            self._doublings = min(self._doublings + 1, MAX_DOUBLINGS)
        if self._failed_ns is None:
            self._failed_ns = now
            self._notify(StorageFailed(error))

    def segment_written(self) -> None:
        """A segment's bytes are durable: an outage is over, and so is the longer back-off."""
        self._doublings = 0
        if self._failed_ns is not None:
            outage = self._clocks.monotonic_ns() - self._failed_ns
            self._failed_ns = None
            self._notify(StorageRecovered(outage))

    def retry_limited(self, what: str, work: Callable[[], object]) -> None:
        """Do work that concerns the past alone; after `MAX_TRIES` failures of this alone, report it and continue.

        A bad block in an old file must not keep new ones from being written.

        Raises:
            StorageError: It is to be tried again.
        """
        try:
            work()
        except StorageError as error:
            if self._journal.failing or error.errno in NO_ROOM:
                raise  # storage as a whole refuses
            self._tries += 1
            if self._tries < MAX_TRIES:
                raise
            problem: Exception | None = error
        except Exception as error:  # noqa: BLE001 - as in `Writer.step`
            problem = error
        else:
            problem = None
        self._tries = 0
        if problem is not None:
            self._notify(WriterFault(f"{what} was given up: {type(problem).__name__}: {problem}"))
