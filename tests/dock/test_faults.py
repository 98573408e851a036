"""Nothing is lost and nothing is there twice, whoever is killed in the middle."""

import random
import signal
from pathlib import Path

import msgspec
import pytest

from agent.clock import NS
from tests.support.docking import Docked
from tests.support.faults import complete, happen, hear_nothing
from tests.support.permissions import fill, small_disk


def test_broker_that_took_events_for_an_absent_station_and_was_killed_loses_none(docked: Docked) -> None:
    docked.contact(closed=True)
    happen(docked, 1, 100)
    docked.until(lambda: docked.dock.connection.acknowledged >= 60)
    docked.broker.kill()
    docked.turn()
    docked.broker.start()
    docked.start_station()
    docked.until(lambda: complete(docked))
    assert len(docked.stored()) > 100


def test_station_killed_before_it_stored_is_told_again(docked: Docked, monkeypatch: pytest.MonkeyPatch) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    assert docked.station is not None
    with monkeypatch.context() as patch:
        patch.setattr(docked.station, "_send", lambda _answers: None)
        patch.setattr(docked.store, "put_event", lambda *_args, **_more: None)
        happen(docked, 1, 5)
        for _ in range(5):
            docked.turn()
    docked.kill_station()
    docked.start_station()
    assert docked.dock.session.unacknowledged > 0
    hear_nothing(docked)
    docked.until(lambda: complete(docked))


def test_station_killed_after_it_stored_has_nothing_twice(docked: Docked, monkeypatch: pytest.MonkeyPatch) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: complete(docked) and docked.row().state == "docked")
    before = len(docked.stored())
    with monkeypatch.context() as patch:
        patch.setattr(docked.station, "_send", lambda _answers: None)
        happen(docked, 1, 5)
        docked.until(lambda: len(docked.stored()) == before + 5)
    assert docked.dock.session.unacknowledged == 5
    docked.kill_station()
    docked.start_station()
    hear_nothing(docked)
    docked.until(lambda: complete(docked))
    assert len(docked.stored()) == before + 5


def test_full_disk_at_the_station_acknowledges_nothing(docked: Docked, tmp_path: Path) -> None:
    with small_disk(tmp_path / "station", "1m") as place:
        docked.database = place / "station.sqlite"
        docked.start_station()
        docked.contact(closed=True)
        docked.until(lambda: docked.device.recorder.status().docked)
        docked.until(lambda: complete(docked))
        filler = fill(place)
        before = len(docked.stored())
        happen(docked, 1, 100)
        docked.until(lambda: any("none is acknowledged" in line for line in docked.station_said))
        assert docked.dock.session.unacknowledged > 0
        assert len(docked.stored()) < before + 100
        filler.unlink()
        hear_nothing(docked)
        docked.until(lambda: complete(docked))
        assert len(docked.stored()) == before + 100
        docked.close_station()


def test_full_disk_at_the_dock_tells_again_after_a_restart(docked: Docked, tmp_path: Path) -> None:
    with small_disk(tmp_path / "dock-state", "64k") as place:
        filler = fill(place)
        docked.start_station()
        docked.contact(closed=True)
        docked.until(lambda: docked.device.recorder.status().docked)
        docked.until(lambda: complete(docked))
        assert any("can't be stored" in line for line in docked.said)
        docked.dock.connection.end()
        docked.dock = docked.make_dock()
        assert docked.dock.session.cursor.line == 0
        before = docked.stored()
        docked.until(lambda: docked.dock.session.cursor.line > 0 and complete(docked))
        assert docked.stored() == before
        filler.unlink()
        happen(docked, 1, 1)
        docked.until(lambda: complete(docked))
        line = docked.dock.session.cursor.line
        docked.dock = docked.make_dock()
        assert docked.dock.session.cursor.line == line


def test_cursor_survives_a_restart_of_the_dock_and_nothing_is_told_again(docked: Docked) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: complete(docked) and docked.device.recorder.status().docked)
    docked.until(lambda: complete(docked))
    line = docked.dock.session.cursor.line
    docked.dock.connection.end()
    docked.dock = docked.make_dock()
    assert docked.dock.session.cursor.line == line > 0
    docked.turn()
    docked.until(lambda: docked.dock.connection.connected and complete(docked))


def test_damaged_cursor_tells_all_again(docked: Docked) -> None:
    (docked.folder / "dock-state").mkdir()
    (docked.folder / "dock-state" / "cursor.json").write_bytes(b"\x00rubbish")
    docked.dock = docked.make_dock()
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: complete(docked))


@pytest.mark.timeout(300)
def test_a_thousand_events_through_fifty_faults_arrive_once_each(docked: Docked) -> None:
    dice = random.Random(4)
    docked.start_station()
    docked.contact(closed=True)
    sent = faults = 0
    while sent < 1000 or faults < 50:
        happen(docked, faults, 20)
        sent += 20
        for _ in range(dice.randrange(1, 5)):
            docked.turn()
        match dice.choice(["broker", "station", "dock", "line"]):
            case "broker":
                docked.broker.kill()
                docked.turn()
                docked.broker.start()
            case "station":
                docked.kill_station()
                docked.turn()
                docked.start_station()
            case "dock":  # killed: nothing is said, nothing more is kept
                docked.dock.connection.cut()
                docked.dock = docked.make_dock()
            case "line":
                docked.dock.connection.cut()
        faults += 1
    hear_nothing(docked)
    docked.until(lambda: complete(docked), 60)
    assert len(docked.stored()) == len(set(docked.stored())) >= 1000
    assert docked.alarms() == []
    assert not docked.device.recorder.status().storage_failing


def test_connection_half_open_is_given_up_and_what_was_said_into_it_is_said_again(docked: Docked) -> None:
    """The broker is there, and says nothing any more: as when a switch loses its table."""
    docked.client = msgspec.structs.replace(docked.client, keepalive_s=1)
    docked.dock = docked.make_dock()
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: complete(docked) and docked.row().state == "docked")
    assert docked.broker.process is not None
    docked.broker.process.send_signal(signal.SIGSTOP)
    happen(docked, 1, 5)
    try:
        docked.until(lambda: not docked.dock.connection.connected, 10)  # two keep-alives of 1 s
    finally:
        docked.broker.process.send_signal(signal.SIGCONT)
    assert docked.dock.session.unacknowledged == 5
    hear_nothing(docked)
    docked.until(lambda: complete(docked))


@pytest.mark.parametrize("years", [-30, 30])
def test_recorder_whose_clock_is_off_by_years_docks_and_loses_nothing(docked: Docked, years: int) -> None:
    docked.device.clocks.utc_offset_ns += years * 365 * 86_400 * NS
    docked.device.clocks.uncertainty_s = None
    docked.device.boot()
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.until(lambda: complete(docked))
    assert docked.alarms() == []
