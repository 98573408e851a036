"""Keeps lgpio's edge thread awake when lines are released.

lgpio (seen in 0.2.2.0) has one thread for the edges of all lines of a process. It keeps them in a list with the newest
in front, and drops those that were released. When it drops the one in front, it takes the list for empty and sleeps,
whatever else is on it, until a line is added or a chip is closed: all buttons are silently dead. So it is woken here.
The kernel keeps 16 edges a line meanwhile; they come late, but with their own times.
"""

import threading
from collections.abc import Callable


class EdgeListeners:
    """The lines of this process that wait for edges.

    Args:
        wake: Wakes lgpio's thread once it sleeps. It then drops at most one more line, and sleeps again if it did.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._lines: list[object] = []

    def add(self, line: object) -> None:
        """A line waits for edges from now on; to be called once it does."""
        with self._lock:
            self._lines = [each for each in self._lines if each is not line] + [line]

    def drop(self, *lines: object) -> None:
        """Lines, or their chip, were released; to be called once they are. Lines that never waited are ignored."""
        gone = {id(line) for line in lines}
        with self._lock:
            newest_first = self._lines[::-1]
            self._lines = [each for each in self._lines if id(each) not in gone]
            left = len(self._lines)
        in_front = next((place for place, each in enumerate(newest_first) if id(each) not in gone), 0)
        for _ in range(in_front if left else 0):
            self._wake()
