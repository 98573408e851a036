"""A shift change on the cluster, in the middle of which the station's node is killed, and later comes back.

It comes back only after the station has found another node: the others have to serve without it.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from tests.cluster.conftest import DEVICES
from tests.support import fleet
from tests.support.cluster import Cluster, Node
from tests.support.fleet import StationProcess

EVENTS = 16
WITHIN_S = 30.0
KILLED_AFTER_S = 20.0
FOUND_S = 60.0


@pytest.fixture
def station(tmp_path: Path, cluster: Cluster) -> Iterator[StationProcess]:
    made = StationProcess(tmp_path / "station", cluster.client(mosquitto.STATION))
    yield made
    made.end()


def strike(victim: Node, station: StationProcess) -> float:
    """Kill a node in the middle, and bring it back once the station has found another one; how long that took."""
    time.sleep(KILLED_AFTER_S)
    before = station.said.count("connected to")
    victim.kill()
    killed = time.monotonic()
    try:
        station.until(lambda: station.said.count("connected to") > before, FOUND_S)
        return time.monotonic() - killed
    finally:
        victim.start()
        victim.await_ready()


def test_node_killed_in_a_shift_change_takes_no_event_with_it(
    tmp_path: Path, cluster: Cluster, station: StationProcess
) -> None:
    cluster.control("delete_user", "sold")
    victim = next(node for node in cluster.nodes if f"localhost:{node.port}, MQTT 3.1.1" in station.said)
    places = [f"localhost:{node.port}" for node in cluster.nodes]
    options = ("--devices", str(DEVICES), "--events", str(EVENTS), "--within", str(WITHIN_S))
    with ThreadPoolExecutor(1) as pool:
        striking = pool.submit(strike, victim, station)
        code, measured = fleet.simulate(fleet.save_authority(tmp_path, cluster.authority), places, *options)
        found_s = striking.result()
    fleet.print_measured("a node killed in a shift change", measured)
    print(f"the station found another node {found_s:.1f} s after its own was killed", flush=True)
    assert code == 0, measured
    assert '"sold"' not in cluster.control("list_users"), "a node that came back let in who was shut out"
    assert (measured["lost"], measured["never_docked"], measured["never_attested"]) == (0, 0, 0)
    names = [f"simulated-{number}" for number in range(1, DEVICES + 1)]
    assert fleet.missing(station.stored(), names, EVENTS) == []
    assert station.alarms() == []
    assert measured["connections_lost"] > measured["connections_cut"], "the killed node had no devices"
