"""How long syncs take: the newest ones, and what is usual among them."""

from collections import deque

import msgspec

NEWEST = 1500
"""Syncs that count: some five minutes of a recording, which is stored five times a second."""


class SyncLatency(msgspec.Struct, frozen=True):
    """Of the newest syncs of segments, at most `NEWEST` of them, in milliseconds.

    Attributes:
        count: So many there were; all else is 0 if none.
        p50, p95, p99: No longer than that took so many percent of them (nearest rank).
        max: The longest.
    """

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class SyncTimes:
    """Remembers the newest ones. One thread notes, any may ask.

    Args:
        newest: So many are remembered.
    """

    def __init__(self, newest: int = NEWEST) -> None:
        self._times: deque[int] = deque(maxlen=newest)

    def note(self, took_ns: int) -> None:
        """A sync took so many nanoseconds."""
        self._times.append(took_ns)

    def latency(self) -> SyncLatency:
        """What is usual among those that are remembered."""
        times = sorted(self._times)  # copied at once: it may grow meanwhile
        if not times:
            return SyncLatency()
        p50, p95, p99 = (_ms(times[max(0, -(-len(times) * part // 100) - 1)]) for part in (50, 95, 99))
        return SyncLatency(len(times), p50, p95, p99, _ms(times[-1]))


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)
