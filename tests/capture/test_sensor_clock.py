import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.sensor_clock import behind_ns
from agent.clock import NS, boottime_ahead_ns
from agent.errors import SourceError

MS = NS // 1000


@given(arrived=st.integers(NS, 10**6 * NS), age=st.integers(0, NS), suspended=st.integers(0, 10**5 * NS))
def test_picture_is_placed_at_its_age_whichever_clock_its_sensor_keeps(arrived: int, age: int, suspended: int) -> None:
    monotonic = arrived - age
    assert arrived - (monotonic - behind_ns(monotonic, arrived, suspended)) == age
    boottime = monotonic + suspended
    off = behind_ns(boottime, arrived, suspended)
    # Where the machine slept for less than a picture is old, the two can't be told apart: the younger one is taken.
    assert arrived - (boottime - off) <= age


def test_the_two_clocks_are_told_apart_after_a_sleep() -> None:
    assert behind_ns(1000 * NS, 1000 * NS + 40 * MS, 3600 * NS) == 0
    assert behind_ns(4600 * NS, 1000 * NS + 40 * MS, 3600 * NS) == 3600 * NS


@pytest.mark.parametrize("sensor_ns", [0, 900 * NS, 1100 * NS, 1_795_000_000 * NS])
def test_timestamps_of_no_clock_of_this_machine_are_refused(sensor_ns: int) -> None:
    with pytest.raises(SourceError, match="CLOCK_BOOTTIME"):
        behind_ns(sensor_ns, 1000 * NS, 30 * NS)


def test_boottime_is_never_behind() -> None:
    assert boottime_ahead_ns() >= 0
