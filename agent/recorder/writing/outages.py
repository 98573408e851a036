"""Storage faults, as the core knows them: one outage at a time, whichever part of the recorder is refused."""

import errno
import threading
from collections.abc import Callable

from agent.clock import Clocks
from agent.core.recording import events
from agent.errors import StorageError


class Outages:
    """Makes one outage of what the journal's and the segments' writer are told by storage; from any thread.

    Args:
        clocks: Both clocks.
        put: Told when storage begins to refuse, and when all takes again.
    """

    def __init__(self, clocks: Clocks, put: Callable[[events.Event], None]) -> None:
        self._clocks = clocks
        self._put = put
        self._lock = threading.Lock()
        self._refusing: set[str] = set()
        self._refused_ns = 0

    def said(self, part: str, error: StorageError | None) -> None:
        """One outage: from the first refusal, of the journal or of segments, until both are taken again."""
        now = self._clocks.monotonic_ns()
        with self._lock:
            before = bool(self._refusing)
            if error is not None:
                self._refusing.add(part)
            else:
                self._refusing.discard(part)
            if error is not None and not before:
                self._refused_ns = now
                self._put(events.StorageFailed(now, _name(error)))
            elif before and not self._refusing:
                self._put(events.StorageRecovered(now, now - self._refused_ns))


def _name(error: StorageError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")
