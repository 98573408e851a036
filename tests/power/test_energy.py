"""What follows from battery and board: savings before anything stops, and a critical battery only when it is one."""

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS
from agent.power.energy import (
    CRITICAL_NS,
    CRITICAL_READINGS,
    STEADY_NS,
    Critical,
    Energy,
    Limits,
    Low,
    Outcome,
    Save,
    Saving,
    Strain,
)
from agent.power.readings import Battery, Readings

EVERY_NS = 5 * NS


def battery(percent: float, *, charging: bool | None = False) -> Readings:
    return Readings(Battery(percent, charging=charging))


def run(energy: Energy, *readings: Readings, from_ns: int = 0) -> list[Outcome]:
    """Readings five seconds apart."""
    return [each for number, one in enumerate(readings) for each in energy.take(one, from_ns + number * EVERY_NS)]


def test_critical_battery_is_told_once_after_enough_readings() -> None:
    told = run(Energy(Limits()), *[battery(3)] * 25)
    assert [each for each in told if isinstance(each, Critical)] == [Critical(3)]
    assert not [each for each in run(Energy(Limits()), *[battery(3)] * 4) if isinstance(each, Critical)]


def test_gauge_that_calls_a_cell_empty_whose_voltage_is_not_ends_no_recording() -> None:
    def critical(volts: float | None) -> bool:
        one = Readings(Battery(1, volts, charging=False))
        return any(isinstance(each, Critical) for each in run(Energy(Limits()), *[one] * 25))

    assert not critical(3.95)
    assert critical(3.4)
    assert critical(None)
    assert critical(7.0)  # of two cells: nothing is known of how full that is


def test_single_wrong_reading_ends_no_recording() -> None:
    good, wrong = battery(60), battery(0)
    assert not [each for each in run(Energy(Limits()), *[good, wrong] * 50) if isinstance(each, Critical)]


def test_many_readings_in_no_time_are_not_critical_yet() -> None:
    energy = Energy(Limits())
    told = [each for number in range(100) for each in energy.take(battery(1), number)]
    assert not [each for each in told if isinstance(each, Critical)]


def test_battery_that_is_charged_or_on_the_dock_is_not_critical() -> None:
    assert not [e for e in run(Energy(Limits()), *[battery(1, charging=True)] * 25) if isinstance(e, Critical)]
    docked = Readings(Battery(1, charging=False), external=True)
    assert not [each for each in run(Energy(Limits()), *[docked] * 25) if isinstance(each, Critical)]


def test_battery_of_which_nobody_knows_whether_it_is_charged_is_taken_as_emptying() -> None:
    told = run(Energy(Limits()), *[battery(1, charging=None)] * 25)
    assert Critical(1) in told


def test_nothing_follows_from_what_is_not_known() -> None:
    assert run(Energy(Limits()), *[Readings(missing={"battery": "gone"})] * 50) == []


def test_gauge_that_fails_in_between_starts_the_count_anew() -> None:
    energy = Energy(Limits())
    told = run(energy, *([battery(2)] * 3 + [Readings()]) * 10)
    assert not [each for each in told if isinstance(each, Critical)]


def test_bit_rate_falls_before_anything_stops() -> None:
    energy = Energy(Limits(low_percent=20, critical_percent=4))
    told = run(energy, *[battery(percent) for percent in range(100, 2, -1) for _ in range(25)])
    kinds = [each for each in told if isinstance(each, Save | Critical)]
    assert kinds == [
        Save(Saving.SAVING, "battery at 20 %"),
        Save(Saving.LEAST, "battery at 12 %"),
        Critical(4),
    ]


def test_wearer_is_warned_once_at_each_step_down() -> None:
    told = run(Energy(Limits()), *[battery(percent) for percent in (30, 20, 20, 15, 10, 9, 5, 5)])
    assert [each.percent for each in told if isinstance(each, Low)] == [20, 10, 5]


def test_recorder_that_begins_with_little_left_warns_once() -> None:
    assert [each for each in run(Energy(Limits()), battery(7), battery(7)) if isinstance(each, Low)] == [Low(7)]


def test_heat_and_undervoltage_lower_the_bit_rate_and_are_told_both_ways() -> None:
    energy = Energy(Limits(hot_celsius=75))
    assert run(energy, Readings(celsius=74.9)) == []
    assert run(energy, Readings(celsius=75)) == [
        Strain("temperature", "75 °C"),
        Save(Saving.SAVING, "75 °C"),
    ]
    assert run(energy, Readings(celsius=80)) == [Save(Saving.LEAST, "80 °C")]
    energy = Energy(Limits())
    assert run(energy, Readings(undervoltage=True)) == [
        Strain("undervoltage", "the supply is below what the board needs"),
        Save(Saving.SAVING, "undervoltage"),
    ]


def test_bit_rate_rises_only_once_it_was_better_for_long_and_by_a_margin() -> None:
    energy = Energy(Limits(hot_celsius=75))
    run(energy, Readings(celsius=76))
    # Just below the limit is not better by enough, for however long.
    assert run(energy, *[Readings(celsius=74)] * 100, from_ns=NS) == []
    told = run(energy, *[Readings(celsius=60)] * 30, from_ns=1000 * NS)
    assert [each for each in told if isinstance(each, Save)] == [Save(Saving.NONE, "enough")]
    # A relapse in between begins the wait anew.
    energy = Energy(Limits(hot_celsius=75))
    run(energy, Readings(celsius=76))
    steady = STEADY_NS // EVERY_NS
    assert not [
        each
        for each in run(energy, *([Readings(celsius=60)] * steady + [Readings(celsius=76)]) * 5, from_ns=NS)
        if isinstance(each, Save)
    ]


@given(
    st.lists(
        st.builds(
            Readings,
            st.none() | st.builds(Battery, st.floats(0, 100), charging=st.none() | st.booleans()),
            st.none() | st.booleans(),
            st.none() | st.floats(-40, 120),
            st.none() | st.booleans(),
            st.none() | st.booleans(),
        ),
        max_size=60,
    )
)
def test_critical_is_never_told_without_its_run_of_readings(readings: list[Readings]) -> None:
    energy = Energy(Limits())
    for number, one in enumerate(readings):
        told = energy.take(one, number * EVERY_NS)
        if any(isinstance(each, Critical) for each in told):
            needed = max(CRITICAL_READINGS, CRITICAL_NS // EVERY_NS + 1)
            run_up = readings[number + 1 - needed : number + 1]
            assert len(run_up) == needed
            assert all(r.battery is not None and r.battery.percent <= 4 and not r.charging for r in run_up)
