import ctypes
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS, SystemClocks, WallReading, parse_utc, utc_text


class Kernel:
    """adjtimex(2) that answers with a state, a status and a maximum error; -1 is a refusal."""

    def __init__(self, state: int, *, status: int = 0, maxerror: int = 0) -> None:
        self._state, self._status, self._maxerror = state, status, maxerror

    def adjtimex(self, pointer: object) -> int:
        timex = pointer._obj  # type: ignore[attr-defined]
        timex.status, timex.maxerror = self._status, self._maxerror
        return self._state


def reading(kernel: Kernel) -> WallReading:
    clocks = SystemClocks()
    clocks._libc = kernel  # type: ignore[assignment]
    return clocks.wall()


def test_clock_that_the_kernel_disciplines_is_trusted_within_the_kernels_bound() -> None:
    wall = reading(Kernel(0, maxerror=12_000))
    assert (wall.source, wall.uncertainty_s, wall.trusted) == ("ntp", 0.012, True)


@pytest.mark.parametrize(
    "kernel", [Kernel(5), Kernel(0, status=0x40), Kernel(-1), Kernel(5, status=0x40, maxerror=16_000_000)]
)
def test_clock_that_nobody_disciplines_is_never_said_to_be_trusted(kernel: Kernel) -> None:
    wall = reading(kernel)
    assert (wall.source, wall.uncertainty_s, wall.trusted) == ("unsynchronised", None, False)


def test_kernels_structure_is_laid_out_as_adjtimex_writes_it() -> None:
    real = ctypes.CDLL(None, use_errno=True)
    clocks = SystemClocks()
    assert clocks.wall().source in {"ntp", "unsynchronised"}
    assert real.adjtimex is not None
    before = time.time_ns()
    assert before <= clocks.wall().utc_ns <= before + 60 * NS


def test_monotonic_clock_never_goes_back() -> None:
    clocks = SystemClocks()
    times = [clocks.monotonic_ns() for _ in range(1000)]
    assert times == sorted(times)


def test_time_is_written_as_rfc_3339_with_microseconds() -> None:
    assert utc_text(1_795_390_800 * NS + 123_456_789) == "2026-11-22T23:40:00.123456Z"
    assert utc_text(0) == "1970-01-01T00:00:00.000000Z"


@given(st.integers(0, 253_402_300_799 * 1_000_000))
def test_every_time_of_this_form_is_read_back_to_the_microsecond(us: int) -> None:
    assert parse_utc(utc_text(us * 1000)) == us * 1000


@given(st.integers(0, 253_402_300_799 * NS), st.integers(0, 253_402_300_799 * NS))
def test_texts_sort_as_the_times_do(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert utc_text(earlier) <= utc_text(later)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22",
        "2026-11-22T23:40:00Z",
        "2026-11-22T23:40:00.123456+01:00",
        "2026-13-22T23:40:00.123456Z",
        "2026-11-22T23:40:60.123456Z",
        "2026-11-22T23:40:00.1234567Z",
        "2026-11-22T23:40:00.1Z",
        "2026-1-2T23:40:00.123456Z",
        " 2026-11-22T23:40:00.123456Z",
    ],
)
def test_other_spellings_of_a_time_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time data|expected a time|unconverted|day is|second must"):
        parse_utc(text)


def test_parsed_time_is_utc_whatever_the_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_zone: Callable[[], None] = time.tzset
    monkeypatch.setenv("TZ", "America/New_York")
    set_zone()
    try:
        expected = datetime(2026, 11, 22, 23, 40, tzinfo=UTC).timestamp()
        assert parse_utc("2026-11-22T23:40:00.000000Z") == int(expected) * NS
        assert utc_text(int(expected) * NS) == "2026-11-22T23:40:00.000000Z"
    finally:
        monkeypatch.undo()
        set_zone()
