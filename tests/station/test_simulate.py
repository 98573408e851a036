import os
import random
import threading
from pathlib import Path

from agent.clock import SystemClocks
from agent.dock import mosquitto
from agent.keys import files
from agent.station.fleet import rows
from agent.station.service import Station
from agent.station.simulate import Plan, Progress, simulate
from agent.station.simulated import Office
from agent.station.store import Store
from tests.support.broker import AGENCY, Broker
from tests.support.device import agency, trust


def test_fleet_that_docks_together_and_loses_connections_loses_no_event(tmp_path: Path) -> None:
    broker = Broker(tmp_path).start()
    ending = threading.Event()
    ready = threading.Event()

    def serve() -> None:
        store = Store(tmp_path / "station.sqlite")
        station = Station(
            name="station-1",
            agency=AGENCY,
            trust=trust(),
            signer=files.load_signer(f"file:{agency().station}"),
            store=store,
            broker=broker.client(mosquitto.STATION),
            clocks=SystemClocks(),
            say=lambda _line: None,
        )
        while not station.connection.connected:
            station.turn()
        ready.set()
        station.run(ending)
        store.close()

    worker = threading.Thread(target=serve, daemon=True)
    worker.start()
    assert ready.wait(10)
    plan = Plan(
        agency=AGENCY,
        authority=broker.authority,
        office=Office(files.load_signer(f"file:{agency().root}"), trust()),
        brokers=[("localhost", broker.port)],
        devices=20,
        events=5,
        within_s=0.5,
        leave_s=0.5,
    )
    seen: list[Progress] = []
    measured = simulate(plan, clocks=SystemClocks(), random_bytes=os.urandom, dice=random.Random(1), watch=seen.append)
    print(measured.report())
    ending.set()
    worker.join(10)
    broker.stop()
    assert (measured.lost, measured.never_docked, measured.events) == (0, 0, 100)
    assert measured.connections_lost > 0
    store = Store(tmp_path / "station.sqlite", read_only=True)
    found = rows(store)
    store.close()
    assert len(found) == 20
    assert {row.events for row in found} == {5}
