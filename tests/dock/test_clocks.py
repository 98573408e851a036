"""Clocks that are years off, at each of the three ends of a session: real programs, real TLS, certificates that expire.

Nobody takes what the own clock calls invalid, whoever is wrong; it is said with the date and its source, the recorder
journals a contact without a station, and once the clock is right all is told, with the clock that it was written by.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS
from agent.journal import entries
from tests.support.docking import Docked
from tests.support.faults import complete, spoofed
from tests.support.outside import dock_outside, station_outside
from tests.support.wrong_clock import WrongClock


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Docked]:
    made = Docked(tmp_path)
    yield made
    made.end()


def arrived(bench: Docked) -> bool:
    return bench.device.recorder.status().docked and bench.stored() == bench.told() != []


@pytest.mark.parametrize(("years", "why"), [(-30, "not yet valid"), (30, "has expired")])
def test_dock_whose_clock_is_off_by_years_says_so_and_docks_once_it_is_right(
    bench: Docked, years: int, why: str
) -> None:
    clock = WrongClock(bench.folder)
    clock.set(years)
    bench.broker.start()
    bench.start_station()
    dock_outside(bench, clock.environment)
    bench.contact(closed=True)
    bench.until(lambda: any(why in line and "by the clock of this machine it is" in line for line in bench.said))
    assert spoofed(bench)
    assert bench.stored() == []
    clock.set(0)
    bench.until(lambda: arrived(bench))
    assert {"tampered", "docked"} <= bench.kinds()
    assert bench.alarms() == []


@pytest.mark.parametrize(("years", "why"), [(-30, "not yet valid"), (30, "has expired")])
def test_station_whose_clock_is_off_by_years_says_so_and_attests_once_it_is_right(
    bench: Docked, years: int, why: str
) -> None:
    clock = WrongClock(bench.folder)
    clock.set(years)
    bench.broker.start()
    station_outside(bench, clock.environment)
    bench.contact(closed=True)
    bench.until(lambda: any(why in line for line in bench.station_said))
    bench.until(lambda: bench.dock.connection.connected)
    assert spoofed(bench)
    assert bench.dock.session.cursor.line == 0
    clock.set(0)
    bench.until(lambda: arrived(bench))
    bench.until(lambda: bench.dock.session.unacknowledged == 0)


def test_broker_whose_clock_is_off_by_years_refuses_everybody_until_it_is_right(bench: Docked) -> None:
    # Back, not ahead: Mosquitto 2.0.21 under libfaketime died of SIGSEGV in half of the runs after January 2038.
    clock = WrongClock(bench.folder)
    clock.set(-30)
    bench.broker.environment = clock.environment
    bench.broker.start()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: any("bad certificate" in line for line in bench.said))
    assert spoofed(bench)
    clock.set(0)
    bench.until(lambda: arrived(bench) and complete(bench))


@pytest.mark.parametrize("years", [-30, 30])
def test_events_of_a_recorder_whose_clock_is_off_by_years_say_by_which_clock(bench: Docked, years: int) -> None:
    """Nobody vouches for it: the year is wrong, the station is told so, and the order and all else is right."""
    bench.device.clocks.utc_offset_ns += years * 365 * 86_400 * NS
    bench.device.clocks.source, bench.device.clocks.uncertainty_s = "unsynchronised", None
    bench.device.boot()
    bench.broker.start()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: arrived(bench))
    boots = [place for place, event in enumerate(events(bench)) if event["type"] == "bwc.v1.boot"]
    of_now = [event["data"] for event in events(bench)[boots[-1] :]]
    # A journal's time does not go back: where the clock did, the last time is held, and said to be.
    expected = "held" if years < 0 else "unsynchronised"
    assert {(data["clock"], data["within_ms"]) for data in of_now} == {(expected, None)}
    bench.device.clocks.utc_offset_ns -= years * 365 * 86_400 * NS
    bench.device.clocks.source, bench.device.clocks.uncertainty_s = "ntp", 0.01
    bench.device.recorder.watch_clock()
    bench.until(lambda: "clock_changed" in bench.kinds() and complete(bench))
    changed = next(event for event in events(bench) if event["type"] == "bwc.v1.clock_changed")
    assert abs(changed["data"]["entry"]["step_ms"] + years * 365 * 86_400_000) < 60_000
    assert bench.alarms() == []


def events(bench: Docked) -> list[dict[str, Any]]:
    assert bench.store is not None
    rows = bench.store._database.execute("SELECT event FROM events ORDER BY line").fetchall()
    return [json.loads(text) for (text,) in rows]


def test_word_of_a_station_is_refused_while_a_vouched_for_clock_is_years_off_and_taken_after(bench: Docked) -> None:
    """A recorder that trusts a wrong clock (a time server that lies) permits nothing, and says why."""
    years = 30
    bench.device.clocks.utc_offset_ns += years * 365 * 86_400 * NS
    bench.broker.start()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: bool(bench.device.entries(entries.Refused)))
    refused = bench.device.entries(entries.Refused)[0]
    assert isinstance(refused, entries.Refused)
    assert "valid from" in refused.why
    assert spoofed(bench)
    bench.device.clocks.utc_offset_ns -= years * 365 * 86_400 * NS
    bench.device.recorder.watch_clock()
    bench.device.clocks.advance(21)  # a newer nonce
    bench.later(2)
    bench.until(lambda: arrived(bench))
