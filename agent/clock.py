"""The injected clocks: a monotonic clock for durations, and a wall clock that states its source and error bound.

Only this module calls `time` directly, so that tests can drive every timer.
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

NS = 1_000_000_000
"""Nanoseconds in a second."""
MS = 1_000_000
"""Nanoseconds in a millisecond."""
US = 1_000
"""Nanoseconds in a microsecond."""
_EPOCH = datetime.fromtimestamp(0, UTC)

Monotonic = Callable[[], int]
"""Returns nanoseconds of a clock that never goes back and is never stepped (CLOCK_MONOTONIC)."""


@dataclass(frozen=True, slots=True)
class WallReading:
    """A reading of the wall clock together with its provenance.

    Attributes:
        utc_ns: Nanoseconds since 1970-01-01T00:00:00Z.
        source: `ntp` (the kernel says it is disciplined), `unsynchronised`, or the name of another configured
            source such as `rtc`.
        uncertainty_s: Bound on its error in seconds; None if unknown.
    """

    utc_ns: int
    source: str
    uncertainty_s: float | None

    @property
    def trusted(self) -> bool:
        """True if its error is bounded."""
        return self.uncertainty_s is not None


WallClock = Callable[[], WallReading]


def boottime_ahead_ns() -> int:
    """Nanoseconds by which CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC: how long this boot was suspended."""
    monotonic = time.monotonic_ns()
    return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - monotonic)


class Clocks(Protocol):
    """The two clocks of the recorder."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""

    def wall(self) -> WallReading:
        """The wall clock with its source and error bound."""


class _Timex(ctypes.Structure):
    """The leading fields of `struct timex` (adjtimex(2)); `rest` is padding that the kernel writes into."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class SystemClocks:
    """The machine's clocks; the kernel states the wall clock's synchronisation and error (adjtimex(2), read only)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wall(self) -> WallReading:
        """`ntp` with the kernel's maximum error while it is disciplined, else `unsynchronised` without a bound."""
        timex = _Timex()
        state = self._libc.adjtimex(ctypes.byref(timex))
        now = time.time_ns()
        if state < 0 or state == _TIME_ERROR or timex.status & _STA_UNSYNC:
            return WallReading(now, "unsynchronised", None)
        return WallReading(now, "ntp", timex.maxerror / 1e6)


def utc_text(utc_ns: int) -> str:
    """RFC 3339 text in UTC with microseconds, such as `2026-11-22T23:40:00.123456Z`."""
    seconds, rest = divmod(utc_ns, NS)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest // 1000:06d}Z"


def utc_text_or_empty(utc_ns: int) -> str:
    """As `utc_text`; empty for a time out of range, which a hostile statement may contain."""
    try:
        return utc_text(utc_ns)
    except (ValueError, OverflowError, OSError):
        return ""


def parse_utc(text: str) -> int:
    """Nanoseconds since 1970 for a text in the form of `utc_text`.

    Raises:
        ValueError: The text does not have that form.
    """
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    utc_ns = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    if utc_text(utc_ns) != text:
        raise ValueError(f"expected a time such as 2026-11-22T23:40:00.123456Z, got {text!r}")
    return utc_ns
