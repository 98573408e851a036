import json
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.brokers import mosquitto
from agent.clock import SystemClocks
from agent.dock.messages import Event, decode
from agent.dock.mqtt import Received
from agent.errors import ConfigError
from agent.keys import files
from agent.process.descriptors import raise_limit
from agent.simulator.recorder import AgencyKeys
from agent.simulator.report import Results, percentiles
from agent.simulator.shift_change import Plan, Progress, simulate
from agent.station.fleet import rows
from agent.station.service import Station
from agent.station.store import Store
from tests.support.broker import AGENCY, Broker
from tests.support.commands import Ran, bwc_agent
from tests.support.device import agency, trust
from tests.support.fleet import missing, save_authority

EVENTS = 5
DEVICES = 20


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path).start()
    yield made
    made.stop()


@contextmanager
def serving(broker: Broker, store_file: Path, kind: type[Station] = Station) -> Iterator[None]:
    """A station in a thread."""
    ending, ready = threading.Event(), threading.Event()

    def serve() -> None:
        store = Store(store_file)
        station = kind(
            name="station-1",
            agency=AGENCY,
            trust=trust(),
            signer=files.load_signer(f"file:{agency().station}"),
            store=store,
            broker=broker.client(mosquitto.STATION),
            clocks=SystemClocks(),
            log=lambda _line: None,
        )
        while not station.connection.connected:
            station.turn()
        ready.set()
        station.run(ending)
        store.close()

    worker = threading.Thread(target=serve, daemon=True)
    worker.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        ending.set()
        worker.join(10)


def plan(broker: Broker) -> Plan:
    return Plan(
        agency=AGENCY,
        authority=broker.authority,
        keys=AgencyKeys(files.load_signer(f"file:{agency().root}"), trust()),
        brokers=[("localhost", broker.port)],
        devices=DEVICES,
        events=EVENTS,
        within_s=0.5,
        leave_s=0.5,
    )


def simulated(
    broker: Broker, *, patience_s: float = 30, watch: Callable[[Progress], None] = lambda _progress: None
) -> Results:
    return simulate(
        plan(broker),
        clocks=SystemClocks(),
        random_bytes=os.urandom,
        dice=random.Random(1),
        watch=watch,
        patience_s=patience_s,
    )


def stored(store_file: Path) -> list[tuple[str, int, str]]:
    database = sqlite3.connect(store_file)
    try:
        return database.execute("SELECT device, line, id FROM events ORDER BY device, line").fetchall()
    finally:
        database.close()


def test_fleet_that_docks_together_and_loses_connections_loses_no_event(tmp_path: Path, broker: Broker) -> None:
    seen: list[Progress] = []
    with serving(broker, tmp_path / "station.sqlite"):
        measured = simulated(broker, watch=seen.append)
    assert not measured.failed
    assert (measured.lost, measured.never_docked, measured.never_attested, measured.events) == (0, 0, 0, 100)
    assert measured.connections_lost == measured.connections_cut > 0
    assert len(measured.late) == len(measured.reported) == len(measured.attest) == DEVICES
    assert len(measured.acknowledge) == measured.events
    assert len(measured.connect) == DEVICES + measured.connections_lost
    assert seen[-1].devices == DEVICES
    assert missing(stored(tmp_path / "station.sqlite"), plan(broker).names, EVENTS) == []
    store = Store(tmp_path / "station.sqlite", read_only=True)
    found = rows(store)
    store.close()
    assert {(row.state, row.events, row.alarms) for row in found} == {("undocked", EVENTS, 0)}
    assert len(found) == DEVICES


class _Forgetful(Station):
    """Takes the same event for none, each time."""

    def _handle(self, message: Received, answers: Any) -> None:
        if b'"recording":"simulated-3"' in message.payload and "/simulated-7/" in message.topic:
            return
        super()._handle(message, answers)


class _Lying(Station):
    """Acknowledges an event that it has not kept."""

    def _event(self, device: str, message: Received, received: str, answers: Any) -> None:
        if b'"recording":"simulated-3"' in message.payload and device == "simulated-7":
            answers.ids[device].append(decode(message.payload, Event).id)
            return
        super()._event(device, message, received, answers)


def test_station_that_forgets_one_event_is_noticed_by_the_devices(tmp_path: Path, broker: Broker) -> None:
    with serving(broker, tmp_path / "station.sqlite", _Forgetful):
        measured = simulated(broker, patience_s=8)
    assert measured.lost == 1
    assert measured.failed


def test_station_that_acknowledges_what_it_does_not_keep_is_noticed_in_its_database(
    tmp_path: Path, broker: Broker
) -> None:
    with serving(broker, tmp_path / "station.sqlite", _Lying):
        measured = simulated(broker)
    assert measured.lost == 0
    found = missing(stored(tmp_path / "station.sqlite"), plan(broker).names, EVENTS)
    assert found == ["simulated-7: [1, 2, 4, 5] for 1 to 5"]


def command(folder: Path, broker: Broker, *more: str) -> Ran:
    options = ["--agency", AGENCY, "--devices", "3", "--events", "2", "--within", "0", *more]
    where = ["--broker", f"mqtts://localhost:{broker.port}"]
    return bwc_agent("fleet", "simulate", "--authority", save_authority(folder, broker.authority), *where, *options)


def test_command_prints_a_table_or_json(tmp_path: Path, broker: Broker) -> None:
    office = ("--root", str(agency().root), "--trust", str(agency().trust))
    with serving(broker, tmp_path / "station.sqlite"):
        plain, as_json = command(tmp_path, broker, *office), command(tmp_path, broker, "--json")
    assert plain.code == as_json.code == 0
    assert "lost 0" in " ".join(plain.out.split())
    assert "attest" in plain.out
    measured = json.loads(as_json.out)
    assert (measured["devices"], measured["events"], measured["lost"]) == (3, 6, 0)
    assert measured["connect_ms"]["count"] >= 3
    assert measured["attest_ms"] == {}


def test_command_ends_with_1_when_an_event_was_lost(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simulate.__kwdefaults__ is not None
    monkeypatch.setitem(simulate.__kwdefaults__, "patience_s", 1.0)
    ran = command(tmp_path, broker, "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["lost"] == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--broker", "mqtt://localhost:1883"), "without TLS are not supported"),
        (("--broker", "mqtts://localhost:x"), "mqtts://host:port"),
        (("--root", "root.pem"), "together"),
    ],
)
def test_command_refuses_what_it_cannot_simulate(
    tmp_path: Path, broker: Broker, options: tuple[str, ...], said: str
) -> None:
    assert said in command(tmp_path, broker, *options).refusal


def test_devices_without_a_station_lose_all(broker: Broker) -> None:
    measured = simulated(broker, patience_s=1)
    assert (measured.lost, measured.never_docked) == (100, 0)
    assert measured.acknowledge.tolist() == []


def test_devices_without_a_broker_never_dock(broker: Broker) -> None:
    broker.stop()
    measured = simulated(broker, patience_s=1)
    assert (measured.lost, measured.never_docked) == (100, DEVICES)
    assert measured.attempts_failed >= DEVICES


class _Quick(SystemClocks):
    """Ten seconds pass in one."""

    def __init__(self) -> None:
        super().__init__()
        self._begun_ns = super().monotonic_ns()

    def monotonic_ns(self) -> int:
        now = super().monotonic_ns()
        return now + (now - self._begun_ns) * 9


@pytest.mark.parametrize(("up", "let_in"), [(True, DEVICES), (False, 0)])
def test_fleet_that_no_station_answers_ends_and_says_why(broker: Broker, *, up: bool, let_in: int) -> None:
    if not up:
        broker.stop()
    expected = rf"no station of agency '{AGENCY}' answered within 30 s: localhost:{broker.port} has let in {let_in} of"
    with pytest.raises(ConfigError, match=expected):
        simulate(plan(broker), clocks=_Quick(), random_bytes=os.urandom, dice=random.Random(1))


def test_percentiles_are_nearest_rank() -> None:
    assert percentiles([]) == {}
    assert percentiles([float(n) for n in range(1, 101)]) == {"count": 100, "p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert percentiles([3.0]) == {"count": 1, "p50": 3, "p95": 3, "p99": 3, "max": 3}


def test_more_descriptors_than_the_machine_allows_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _which: (1024, 4096))
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.setrlimit", lambda _which, limits: changed.append(limits))
    raise_limit(900)
    assert changed == []
    raise_limit(3000)
    assert changed == [(3064, 4096)]
    with pytest.raises(ConfigError, match="LimitNOFILE"):
        raise_limit(5000)
