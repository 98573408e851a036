"""Simulated devices, one Mosquitto with the example configuration, one station, all on this machine.

Latencies are printed: they are this machine's. Asserted is that nothing is lost, by the devices' word and by what lies
in the station's database.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from agent.process.descriptors import raise_limit
from tests.support import fleet
from tests.support.broker import Broker
from tests.support.fleet import StationProcess

DEVICES = int(os.environ.get("BWC_FLEET_DEVICES", "1500"))
WITHIN_S = float(os.environ.get("BWC_FLEET_WITHIN_S", "300"))
EVENTS = 8
NAMES = [f"simulated-{number}" for number in range(1, DEVICES + 1)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    raise_limit(DEVICES)  # the broker inherits it
    made = Broker(tmp_path).start()
    yield made
    made.stop()


@pytest.fixture
def station(tmp_path: Path, broker: Broker) -> Iterator[StationProcess]:
    made = StationProcess(tmp_path / "station", broker.client(mosquitto.STATION))
    yield made
    made.end()


@pytest.mark.parametrize("within_s", [0.0, WITHIN_S], ids=["as fast as they can", "shift change"])
def test_fleet_docks_and_nothing_is_lost(
    tmp_path: Path, broker: Broker, station: StationProcess, within_s: float
) -> None:
    authority = fleet.save_authority(tmp_path, broker.authority)
    options = ("--devices", str(DEVICES), "--events", str(EVENTS), "--within", str(within_s))
    code, measured = fleet.simulate(authority, [f"localhost:{broker.port}"], *options)
    fleet.print_measured(f"docking within {within_s:.0f} s", measured)
    print(f"  station: {station.cpu_s():.1f} s of processor, {station.peak_mb():.0f} MB at its peak")
    print(f"  broker: {broker.cpu_s():.1f} s of processor, {broker.peak_mb():.0f} MB at its peak", flush=True)
    assert code == 0, measured
    assert (measured["lost"], measured["never_docked"], measured["never_attested"]) == (0, 0, 0)
    assert measured["connections_lost"] > 0
    assert fleet.missing(station.stored(), NAMES, EVENTS) == []
    assert station.alarms() == []
