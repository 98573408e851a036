import threading
import time

import pytest

from agent.capture.base import ClockPacer, paced, unpaced
from agent.clock import NS


class SteppedClock:
    """Shows one hour more at each look."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 3600 * NS
        return self.now_ns


def test_moment_that_has_passed_is_not_waited_for() -> None:
    clock = SteppedClock()
    pacer = paced(clock)()
    assert pacer.wait_until(0)
    assert clock.now_ns == 3600 * NS


@pytest.mark.timeout(20)
def test_closing_ends_a_wait_of_hours_from_another_thread() -> None:
    looked = threading.Event()

    def clock() -> int:
        looked.set()
        return 0

    pacer = ClockPacer(clock)
    results = []
    waiter = threading.Thread(target=lambda: results.append(pacer.wait_until(10**18)))
    waiter.start()
    assert looked.wait(10)
    pacer.close()
    waiter.join(10)
    assert results == [False]
    assert not pacer.wait_until(0)


def test_real_wait_is_not_shorter_than_asked() -> None:
    pacer = paced(time.monotonic_ns)()
    due = pacer.now_ns() + 2_000_000
    assert pacer.wait_until(due)
    assert time.monotonic_ns() >= due


def test_unpaced_time_stands_still_and_nothing_is_waited_for() -> None:
    clock = SteppedClock()
    pacer = unpaced(clock)()
    assert pacer.wait_until(10**18)
    assert pacer.now_ns() == pacer.now_ns() == 3600 * NS
    pacer.close()
    assert not pacer.wait_until(0)


def test_each_opening_has_a_pacer_of_its_own() -> None:
    pacing = unpaced(SteppedClock())
    first, second = pacing(), pacing()
    first.close()
    assert second.wait_until(0)
