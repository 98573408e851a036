"""A cable with two ends, and everything that happens to cables: real TCP, real TLS, a network namespace at each end."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.journal import entries
from tests.support.docking import Docked
from tests.support.faults import complete, happen
from tests.support.networks import Networks

KEEP_ALIVE_S = 1


@pytest.fixture
def cabled(tmp_path: Path) -> Iterator[Docked]:
    """Docked, with all that happened so far told, and a recording running."""
    networks = Networks()
    bench = Docked(tmp_path, networks=networks)
    bench.client = msgspec.structs.replace(bench.client, keepalive_s=KEEP_ALIVE_S)
    bench.dock = bench.make_dock()
    bench.device.run(2)
    bench.device.press("record", times=2)
    bench.start_broker()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: bench.device.recorder.status().docked and bench.row_known() and bench.row().state == "docked")
    bench.until(lambda: complete(bench))
    yield bench
    bench.end()


def given_up_s(bench: Docked) -> float:
    """How long it took the dock to notice that there is nobody any more."""
    begun = time.monotonic()
    while bench.dock.connection.connected:
        assert time.monotonic() - begun < 20
        bench.turn()
    return time.monotonic() - begun


def cut(bench: Docked, direction: str) -> None:
    networks = bench.networks
    assert networks is not None
    match direction:
        case "from the dock":
            networks.drop_from("dock")
        case "to the dock":
            networks.drop_from("station")
        case "both ways":
            networks.drop_from("dock", "station")
        case _:
            networks.unplug()


def undisturbed(bench: Docked, recording: str) -> bool:
    """It is the same recording, and nothing of it was lost or refused."""
    status = bench.device.recorder.status()
    lost = bench.device.entries(entries.PacketsLost) + bench.device.entries(entries.Refused)
    return (status.recording, status.mode, status.storage_failing, lost) == (recording, "recording", False, [])


@pytest.mark.parametrize("direction", ["from the dock", "to the dock", "both ways", "unplugged"])
def test_network_that_is_cut_loses_nothing_and_is_noticed(cabled: Docked, direction: str) -> None:
    recording, before = cabled.device.recording, len(cabled.stored())
    cut(cabled, direction)
    happen(cabled, 1, 20)
    assert given_up_s(cabled) <= 3 * KEEP_ALIVE_S + 1
    assert any("Keep alive timeout" in line for line in cabled.said)
    assert not complete(cabled)
    assert cabled.networks is not None
    cabled.networks.plug()
    cabled.until(lambda: cabled.dock.connection.connected)
    cabled.later(10)  # what the station had acknowledged into the cut is told again
    cabled.until(lambda: complete(cabled))
    assert len(cabled.stored()) == before + 20
    assert undisturbed(cabled, recording)
    assert cabled.alarms() == []


def test_network_that_is_cut_for_a_moment_only_delays(cabled: Docked) -> None:
    cut(cabled, "both ways")
    happen(cabled, 1, 20)
    cabled.turn()
    cabled.turn()
    assert cabled.networks is not None
    cabled.networks.plug()
    cabled.until(lambda: complete(cabled))
    assert cabled.dock.connection.connected
    assert [line for line in cabled.said if "lost" in line] == []


def test_broker_that_vanished_without_a_word_is_noticed_by_keep_alive_alone(cabled: Docked) -> None:
    """Half open: the dock has nothing to send, nobody answers, and no packet says that the broker's machine is dead."""
    recording = cabled.device.recording
    cut(cabled, "both ways")
    cabled.broker.kill()
    assert given_up_s(cabled) <= 3 * KEEP_ALIVE_S + 1
    assert any("Keep alive timeout" in line for line in cabled.said)
    cabled.start_broker()
    happen(cabled, 1, 20)
    assert cabled.networks is not None
    cabled.networks.plug()
    cabled.until(lambda: cabled.dock.connection.connected)
    cabled.until(lambda: cabled.station is not None and cabled.station.connection.connected)
    cabled.later(10)
    cabled.until(lambda: complete(cabled))
    assert undisturbed(cabled, recording)


def test_dock_that_vanished_without_a_word_is_said_to_be_lost(cabled: Docked) -> None:
    """Half open, the other way round: nothing of the dock's end comes any more, not even that it is gone."""
    cut(cabled, "both ways")
    cabled.dock.connection.cut()
    old, cabled.dock = cabled.dock, cabled.make_dock()
    cabled.dock.connection._next_ns = 1 << 62  # it stays away
    cabled.until(lambda: cabled.row().state == "lost", 15)  # Mosquitto looks every 5 s
    assert cabled.networks is not None
    cabled.networks.plug()
    cabled.dock.connection._next_ns = None
    cabled.until(lambda: cabled.row().state == "docked")
    assert old is not cabled.dock


def test_undocking_on_a_cut_network_ends_the_session_within_a_second(cabled: Docked) -> None:
    """Nobody takes the farewell; the session ends all the same."""
    cut(cabled, "both ways")
    cabled.contact(closed=False)
    begun = time.monotonic()
    cabled.turn()
    while cabled.dock.connection.connected:
        cabled.turn()
    assert time.monotonic() - begun < 1
