"""The media type of each message over MQTT 5, seen by a client that is not ours; none over MQTT 3.1.1."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.brokers import mosquitto
from agent.dock.config import BrokerSection
from agent.dock.messages import Publication, Topics
from tests.support.broker import AGENCY, Broker
from tests.support.connections import connection, turned
from tests.support.docking import DEVICE
from tests.support.stations import Rig, event, status

TOPICS = Topics(AGENCY, DEVICE)


class Listener:
    """A paho client that keeps the newest content type of each topic."""

    def __init__(self, section: BrokerSection, topics: list[str]) -> None:
        self.content_types: dict[str, str | None] = {}
        self.ready = False
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        context = ssl.create_default_context(cafile=section.ca)
        context.load_cert_chain(section.certificate, section.key)
        self.client.tls_set_context(context)
        self.client.on_connect = lambda client, *_rest: client.subscribe([(topic, 1) for topic in topics])
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._message
        self.client.connect(section.host, section.port)

    def _subscribed(self, *_arguments: object) -> None:
        self.ready = True

    def _message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.content_types[message.topic] = getattr(message.properties, "ContentType", None)

    def turn(self) -> None:
        assert self.client.loop(0.02) == paho.MQTT_ERR_SUCCESS


@contextmanager
def listening(section: BrokerSection, *topics: str) -> Iterator[Listener]:
    listener = Listener(section, list(topics))
    end = time.monotonic() + 10
    while not listener.ready:
        assert time.monotonic() < end
        listener.turn()
    try:
        yield listener
    finally:
        listener.client.disconnect()


def test_publication_carries_the_media_type_of_its_topic(tmp_path: Path) -> None:
    broker = Broker(tmp_path).start()
    device = connection(broker.client(DEVICE), (TOPICS.ack, TOPICS.dock, TOPICS.policy, TOPICS.agency_policy))
    expected = {
        TOPICS.state: "application/json",
        TOPICS.status: "application/json",
        TOPICS.event: "application/cloudevents+json",
    }
    with listening(broker.client(mosquitto.STATION), *expected) as listener:
        assert turned(device, until=lambda: device.connected)
        for topic in expected:
            device.publish(Publication(topic, b"{}", retain=topic != TOPICS.event))
        end = time.monotonic() + 10
        while listener.content_types != expected:
            assert time.monotonic() < end, listener.content_types
            device.turn(0.02, lambda: None)
            listener.turn()
    station, publisher = connection(broker.client(mosquitto.STATION)), connection(broker.client(mosquitto.PUBLISHER))
    assert turned(station, publisher, until=lambda: station.connected and publisher.connected)
    station.publish(Publication(TOPICS.ack, b"{}"))
    station.publish(Publication(TOPICS.dock, b"a.b.c"))
    publisher.publish(Publication(TOPICS.policy, b"a.b.c"))
    publisher.publish(Publication(TOPICS.agency_policy, b"a.b.c", retain=True))
    assert turned(device, station, publisher, until=lambda: len(device.received) == 4)
    assert {message.topic: message.content_type for message in device.received} == {
        TOPICS.ack: "application/json",
        TOPICS.dock: "application/jose",
        TOPICS.policy: "application/jose",
        TOPICS.agency_policy: "application/jose",
    }
    for one in (device, station, publisher):
        one.end()
    broker.stop()


def test_will_carries_its_media_type(tmp_path: Path) -> None:
    broker = Broker(tmp_path).start()
    device = connection(broker.client(DEVICE))
    with listening(broker.client(mosquitto.STATION), TOPICS.state) as listener:
        end = time.monotonic() + 10
        while not device.connected:
            assert time.monotonic() < end
            device.turn(0.02, lambda: Publication(TOPICS.state, b'{"state":"lost"}', retain=True))
        device.cut()
        while TOPICS.state not in listener.content_types:
            assert time.monotonic() < end
            listener.turn()
        assert listener.content_types == {TOPICS.state: "application/json"}
    broker.stop()


def test_mqtt_3_1_1_has_no_media_type_and_its_messages_go_through(tmp_path: Path) -> None:
    broker = Broker(tmp_path).start()
    device = connection(broker.client(DEVICE))
    device._protocol = device._attempted = paho.MQTTv311
    with listening(broker.client(mosquitto.STATION), TOPICS.event) as listener:
        end = time.monotonic() + 10
        while not device.connected:
            assert time.monotonic() < end
            device.turn(0.02, lambda: Publication(TOPICS.state, b"{}", retain=True))
        assert device.version == "3.1.1"
        device.publish(Publication(TOPICS.event, b"{}"))
        while TOPICS.event not in listener.content_types:
            assert time.monotonic() < end
            device.turn(0.02, lambda: None)
            listener.turn()
        assert listener.content_types == {TOPICS.event: None}
    device.end()
    broker.stop()


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "content_type", ["", "application/cloudevents+json", "application/cloudevents+json; charset=utf-8"]
)
def test_event_in_structured_mode_is_kept_with_or_without_a_media_type(station: Rig, content_type: str) -> None:
    station.send("event", event(1), content_type=content_type)
    assert station.acknowledged() == station.stored() != []
    assert station.alarms() == []


@pytest.mark.parametrize("content_type", ["application/json", "application/cloudevents+avro", "text/plain", "x" * 500])
def test_event_of_another_media_type_is_refused(station: Rig, content_type: str) -> None:
    """Such as one in binary mode, whose attributes would be user properties."""
    station.send("event", event(1), content_type=content_type)
    assert station.acknowledged() == station.stored() == []
    assert station.alarms() == ["malformed"]
    assert "expected the content type application/cloudevents+json" in station.said[-1]


def test_status_of_another_media_type_is_refused(station: Rig) -> None:
    station.send("status", status(), content_type="application/cbor")
    assert station.alarms() == ["malformed"]


@pytest.mark.parametrize(
    ("change", "found"), [(b"", "none"), (b'"specversion":"0.3",', "'0.3'"), (b'"specversion":1,', "1")]
)
def test_event_without_the_version_of_the_specification_is_refused(station: Rig, change: bytes, found: str) -> None:
    told = event(1)
    assert told.startswith(b'{"specversion": "1.0", ')
    station.send("event", told.replace(b'"specversion": "1.0", ', change))
    assert station.acknowledged() == station.stored() == []
    assert station.alarms() == ["malformed"]
    assert f"expected a CloudEvents event with specversion '1.0', got {found}" in station.said[-1]
