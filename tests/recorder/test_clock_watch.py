from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS, WallReading
from agent.journal.entries import ClockChanged
from agent.journal.format import HELD
from agent.recorder.clock_watch import MAX_DELAY_NS, PAUSE_NS, STEP_NS, ClockWatch
from tests.support.clocks import FakeClocks
from tests.support.device import Device


def looks(watch: ClockWatch, clocks: FakeClocks, seconds: float) -> list[ClockChanged]:
    """What is told while time passes, looked at ten times a second."""
    told = []
    for _ in range(round(seconds * 10)):
        clocks.advance(0.1)
        change = watch.look()
        if change is not None:
            told.append(change)
    return told


def test_clock_that_is_left_alone_is_never_reported() -> None:
    clocks = FakeClocks()
    assert looks(ClockWatch(clocks), clocks, 3600) == []


def test_clock_set_forward_is_reported_once_with_its_step() -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    clocks.utc_offset_ns += 3600 * NS
    assert looks(watch, clocks, 60) == [ClockChanged(3_600_000, "ntp", 11)]


def test_clock_set_back_is_reported_once_with_its_step() -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    clocks.utc_offset_ns -= 86_400 * NS
    assert looks(watch, clocks, 60) == [ClockChanged(-86_400_000, "ntp", 11)]


def test_small_steps_are_reported_when_their_sum_is_a_large_one() -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    told = []
    for _ in range(20):
        clocks.utc_offset_ns += 200_000_000
        told += looks(watch, clocks, 2)
    assert sum(change.step_ms for change in told) >= 3_500
    assert all(change.step_ms > STEP_NS // 1_000_000 for change in told)


def test_clock_that_becomes_trusted_is_reported_with_the_step_that_made_it_so() -> None:
    clocks = FakeClocks()
    clocks.source, clocks.uncertainty_s = "unsynchronised", None
    watch = ClockWatch(clocks)
    assert looks(watch, clocks, 5) == []
    clocks.source, clocks.uncertainty_s = "ntp", 0.02
    clocks.utc_offset_ns += 90 * NS
    assert looks(watch, clocks, 5) == [ClockChanged(90_000, "ntp", 21)]


def test_clock_that_ceases_to_be_trusted_is_reported_though_it_was_not_set() -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    clocks.source, clocks.uncertainty_s = "unsynchronised", None
    assert looks(watch, clocks, 5) == [ClockChanged(0, "unsynchronised", None)]


def test_bound_that_grows_is_no_change() -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    clocks.uncertainty_s = 3.0
    assert looks(watch, clocks, 5) == []


def test_clock_that_is_set_over_and_over_fills_no_journal_and_the_sum_is_still_reported() -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    told = []
    for number in range(600):
        clocks.utc_offset_ns += 7 * NS if number % 2 else 5 * NS
        told += looks(watch, clocks, 0.1)
    told += looks(watch, clocks, 3)
    assert len(told) <= 62 * NS // PAUSE_NS
    assert sum(change.step_ms for change in told) == 3_600_000


class HeldUp(FakeClocks):
    """Between two readings the process is held up: it was stopped, or the machine was busy."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: Iterator[float] = iter(())

    def wall(self) -> WallReading:
        wall = super().wall()
        self.advance(next(self.pauses, 0.0))
        return wall


def test_process_that_is_held_up_between_two_readings_takes_that_for_no_step() -> None:
    clocks = HeldUp()
    watch = ClockWatch(clocks)
    clocks.pauses = iter([5.0, MAX_DELAY_NS / NS + 0.01, 0.0])
    assert looks(watch, clocks, 10) == []


@given(st.lists(st.integers(-(10**7), 10**7), max_size=30))
def test_steps_that_were_reported_are_what_was_set_but_for_less_than_the_threshold(steps_ms: list[int]) -> None:
    clocks = FakeClocks()
    watch = ClockWatch(clocks)
    told = []
    for step_ms in steps_ms:
        clocks.utc_offset_ns += step_ms * 1_000_000
        told += looks(watch, clocks, 0.3)
    told += looks(watch, clocks, 3)
    rest_ms = sum(steps_ms) - sum(change.step_ms for change in told)
    assert abs(rest_ms) <= STEP_NS // 1_000_000


# -- in the recorder --------------------------------------------------------------------------------------------------


def changes(device: Device) -> list[ClockChanged]:
    return [entry for entry in device.entries() if isinstance(entry, ClockChanged)]


def test_clock_set_while_recording_is_in_the_journal_and_changes_no_recording() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    for step_s in (3600, -7200):
        device.clocks.utc_offset_ns += step_s * NS
        device.recorder.watch_clock()
        device.run(2)
    assert [change.step_ms for change in changes(device)] == [3_600_000, -7_200_000]
    assert device.recording == running
    times = [line.wall.utc_ns for line in device.lines()]
    assert times == sorted(times)
    assert device.lines()[-1].wall.source == HELD


def test_clock_that_the_dock_synchronises_is_in_the_journal() -> None:
    device = Device()
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    device.boot()
    device.run(1)
    device.clocks.source, device.clocks.uncertainty_s = "ntp", 0.01
    device.recorder.watch_clock()
    device.run(1)
    boots = device.entries(ClockChanged, boot=2)
    assert boots == [ClockChanged(0, "ntp", 11)]
