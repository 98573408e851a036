"""A shift change on the cluster, in the middle of which the station's node is killed, and later comes back.

It comes back only after the station has found another node: the others have to serve without it.
"""

import threading
import time
from pathlib import Path

from agent.dock import mosquitto
from tests.cluster.conftest import DEVICES
from tests.support import fleet
from tests.support.cluster import Cluster
from tests.support.fleet import StationProcess

EVENTS = 16
WITHIN_S = 30.0
KILLED_AFTER_S = 12.0
FOUND_S = 20.0


def test_node_killed_in_a_shift_change_takes_no_event_with_it(tmp_path: Path, cluster: Cluster) -> None:
    station = StationProcess(tmp_path / "station", cluster.client(mosquitto.STATION))
    victim = next(node for node in cluster.nodes if f"localhost:{node.port}, MQTT 3.1.1" in station.said)
    done: list[str] = []

    def strike() -> None:
        time.sleep(KILLED_AFTER_S)
        before = station.said.count("connected to")
        victim.kill()
        station.until(lambda: station.said.count("connected to") > before, FOUND_S)
        done.append("found another node")
        victim.start()
        victim.await_ready()
        done.append("back")

    striking = threading.Thread(target=strike)
    striking.start()
    places = [f"localhost:{node.port}" for node in cluster.nodes]
    options = ("--devices", str(DEVICES), "--events", str(EVENTS), "--within", str(WITHIN_S))
    code, measured = fleet.simulate(fleet.save_authority(tmp_path, cluster.authority), places, *options)
    striking.join()
    fleet.print_measured("a node killed in a shift change", measured)
    print(station.said, flush=True)
    assert done == ["found another node", "back"]
    assert code == 0, measured
    assert (measured["lost"], measured["never_docked"], measured["never_attested"]) == (0, 0, 0)
    names = [f"simulated-{number}" for number in range(1, DEVICES + 1)]
    assert fleet.missing(station.stored(), names, EVENTS) == []
    assert station.alarms() == []
    assert measured["connections_lost"] > measured["connections_cut"], "the killed node had no devices"
    station.end()
