"""A whole device, recorder and all, docks at the cluster."""

from pathlib import Path

from agent.dock.config import BrokerSection
from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.docking import Docked


class _Guest(Broker):
    """The cluster where one broker is expected; it goes on when its guest leaves."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.process = None
        self.log = cluster.nodes[0].log

    def client(self, name: str, **_more: object) -> BrokerSection:
        return self._cluster.client(name)

    def stop(self) -> None:
        pass


def test_device_docks_is_attested_reports_and_leaves(tmp_path: Path, cluster: Cluster) -> None:
    docked = Docked(tmp_path, broker=_Guest(cluster))
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked, 40)
    docked.until(lambda: docked.stored() == docked.told() and docked.row().state == "docked")
    assert docked.dock.connection.version == "3.1.1"
    assert docked.row().alarms == 0
    docked.contact(closed=False)
    docked.turn()
    docked.turn()
    assert not docked.dock.connection.connected
    docked.until(lambda: docked.row().state == "undocked")
    docked.end()
