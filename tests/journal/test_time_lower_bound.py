from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS, WallReading
from agent.journal.time_lower_bound import TimeLowerBound

T0 = 1_795_000_000 * NS


def vouched(utc_ns: int, uncertainty_s: float = 0.01) -> WallReading:
    return WallReading(utc_ns, "ntp", uncertainty_s)


def test_nothing_is_denied_before_a_clock_was_vouched_for() -> None:
    sure = TimeLowerBound()
    sure.learn(WallReading(T0 + 10**18, "unsynchronised", None), 0)
    assert sure.at(10**15) == 0
    assert not sure.contradicts(vouched(1), 10**15)


def test_time_that_has_passed_since_counts() -> None:
    sure = TimeLowerBound()
    sure.learn(vouched(T0), 0)
    assert sure.contradicts(vouched(T0 + 3000 * NS), 3600 * NS)
    assert not sure.contradicts(vouched(T0 + 3600 * NS), 3600 * NS)
    assert not sure.contradicts(vouched(T0 + 3600 * NS - 2 * NS), 3600 * NS)  # slewed, and a crystal that runs fast


@given(
    st.lists(
        st.tuples(st.integers(0, 10**13), st.integers(-(10**14), 10**14), st.none() | st.floats(0, 500)), max_size=12
    )
)
def test_it_never_goes_back_whatever_a_clock_shows(steps: list[tuple[int, int, float | None]]) -> None:
    sure = TimeLowerBound()
    mono = before = 0
    for elapsed, offset, uncertainty_s in steps:
        mono += elapsed
        sure.learn(WallReading(T0 + mono + offset, "x", uncertainty_s), mono)
        assert sure.at(mono) >= before
        before = sure.at(mono)
