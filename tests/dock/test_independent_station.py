"""The AsyncAPI document says enough to write a station: one that was written from it docks a real dock service."""

import ast
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.brokers import mosquitto
from agent.journal import entries
from agent.trust.attestation import LIFE_NS, RENEW_NS
from tests.dock import independent_station
from tests.dock.independent_station import IndependentStation
from tests.support.broker import AGENCY
from tests.support.commands import bwc_agent
from tests.support.device import agency, trust
from tests.support.docking import DEVICE, WAIT_S, Docked
from tests.support.faults import happen

SPECIFICATION = Path(__file__).with_name("asyncapi-3.0.0.schema.json")
"""JSON Schema of AsyncAPI 3.0.0 by the AsyncAPI Initiative (Apache-2.0), unchanged from the npm package @asyncapi/specs
6.11.1: schemas/3.0.0-without-$id.json."""


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    printed = bwc_agent("dock", "--print-schema")
    assert printed.code == 0
    found: dict[str, Any] = json.loads(printed.out)
    return found


@pytest.fixture
def station(docked: Docked, documents: dict[str, Any]) -> Iterator[Callable[[], IndependentStation]]:
    """Makes a station; another one when the one before is gone."""
    client = docked.broker.client(mosquitto.STATION)
    key = load_pem_private_key(agency().station.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made: list[IndependentStation] = []

    def make(signing_key: ec.EllipticCurvePrivateKey = key) -> IndependentStation:
        one = IndependentStation(
            documents,
            agency=AGENCY,
            host=client.host,
            port=client.port,
            certificates=(client.ca, client.certificate, client.key),
            key=signing_key,
            root=trust().root,
            storage=docked.folder / "events.jsonl",
        )
        made.append(one)
        until(docked, one, lambda: one.subscribed)
        return one

    yield make
    for one in made:
        one.close()


def until(docked: Docked, station: IndependentStation, reached: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, (station.refused, docked.said, docked.broker.log.read_text()[-2000:])
        docked.turn()
        station.turn(WAIT_S)


def ids(station: IndependentStation) -> list[str]:
    return [event["id"] for event in station.stored()]


def test_independent_station_imports_nothing_of_this_package() -> None:
    tree = ast.parse(Path(independent_station.__file__).read_text("utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {module.partition(".")[0] for module in modules} & {"agent", "tests"} == set()


def test_document_is_asyncapi_3(documents: dict[str, Any]) -> None:
    validator = jsonschema.Draft7Validator(json.loads(SPECIFICATION.read_text("utf-8")))
    assert [error.message for error in validator.iter_errors(documents["asyncapi"])] == []
    broken = json.loads(json.dumps(documents["asyncapi"]))
    broken["operations"]["send_event"]["bindings"]["mqtt"]["qos"] = 3
    assert list(validator.iter_errors(broken))


def test_examples_are_valid_messages(documents: dict[str, Any]) -> None:
    shown = 0
    for name, message in documents["asyncapi"]["components"]["messages"].items():
        for example in message.get("examples", []):
            jsonschema.Draft202012Validator(documents[name]).validate(example["payload"])
            shown += 1
    assert shown == 3


def test_it_attests_a_docking_and_has_every_event_once_and_in_order(
    docked: Docked, station: Callable[[], IndependentStation]
) -> None:
    own = station()
    docked.device.run(6)
    docked.device.press("record", times=2)
    docked.contact(closed=True)
    until(docked, own, lambda: docked.device.recorder.status().docked)
    until(docked, own, lambda: own.state(DEVICE) == "docked" and not docked.dock.session.unacknowledged)
    assert ids(own) == docked.told() != []
    assert {"recording_started", "dock_contact", "docked"} <= {event["data"]["entry"]["kind"] for event in own.stored()}
    assert own.lines == sorted(own.lines)
    assert own.content_types == {
        "state": {"application/json"},
        "status": {"application/json"},
        "event": {"application/cloudevents+json"},
    }
    assert not docked.device.entries(entries.Refused)
    docked.contact(closed=False)
    until(docked, own, lambda: own.state(DEVICE) == "undocked")
    assert own.refused == {}
    assert own.alarms == []


def test_device_stays_docked_as_long_as_it_attests_each_new_nonce(
    docked: Docked, station: Callable[[], IndependentStation]
) -> None:
    own = station()
    docked.contact(closed=True)
    until(docked, own, lambda: docked.device.recorder.status().docked)
    end_ns = docked.device.clocks.now_ns + LIFE_NS + RENEW_NS
    while docked.device.clocks.now_ns < end_ns:
        docked.turn()
        own.turn(WAIT_S)
        assert docked.device.recorder.status().docked
    assert not docked.device.entries(entries.Refused)


def test_events_go_on_where_they_were_after_a_station_died(
    docked: Docked, station: Callable[[], IndependentStation]
) -> None:
    own = station()
    docked.contact(closed=True)
    happen(docked, 1, 30)
    until(docked, own, lambda: len(ids(own)) >= 5)
    own.kill()
    happen(docked, 31, 60)
    later = station()
    until(docked, later, lambda: set(ids(later)) == set(docked.told()) and not docked.dock.session.unacknowledged)
    assert sorted(ids(later)) == sorted(docked.told()), "each once"
    until(docked, later, lambda: bool(later.confirmed(DEVICE)))
    assert later.alarms == []


def test_attestation_by_a_key_that_is_no_stations_docks_nothing(
    docked: Docked, station: Callable[..., IndependentStation]
) -> None:
    own = station(ec.generate_private_key(ec.SECP256R1()))
    docked.contact(closed=True)
    until(docked, own, lambda: bool(docked.device.entries(entries.Refused)))
    assert not docked.device.recorder.status().docked
    until(docked, own, lambda: "bwc.v1.refused" in {event["type"] for event in own.stored()})
    assert own.state(DEVICE) != "docked"
