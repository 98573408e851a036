"""Our highest number is found with a bounded number of looks, whatever else bears numbers."""

from hypothesis import given
from hypothesis import strategies as st

from agent.evidence.numbering import MOST_LOOKS, highest


class Looks:
    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def __call__(self, number: int) -> bool:
        self.count += 1
        return 0 < number <= self.last


@given(last=st.integers(0, 5000), planted=st.sets(st.integers(1, 99_999_999), max_size=300), known=st.integers(0, 6000))
def test_highest_own_number_is_found_among_planted_files(last: int, planted: set[int], known: int) -> None:
    looks = Looks(last)
    found = planted | set(range(1, last + 1))
    assert highest(found, looks, known=known) == last
    assert looks.count <= MOST_LOOKS + 64


@given(last=st.integers(1, 5000), listed=st.sets(st.integers(1, 5000), max_size=50))
def test_highest_own_number_is_found_in_an_incomplete_listing(last: int, listed: set[int]) -> None:
    looks = Looks(last)
    assert highest(listed, looks) == last
    assert looks.count <= MOST_LOOKS + 64


def test_flood_of_planted_files_does_not_hide_the_highest_own_number() -> None:
    looks = Looks(700)
    assert highest(range(1, 20_000), looks) == 700
    assert looks.count < 100
