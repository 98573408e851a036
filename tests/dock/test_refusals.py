"""Who is kept out of the network session, and how: real TLS, a real broker, one attack a test."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.brokers import mosquitto
from agent.clock import SystemClocks
from agent.dock.config import BrokerSection, DockConfig, DockSection
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import SUBSCRIBE_S, Connection, tls_context
from agent.dock.service import DockService
from agent.errors import ConfigError
from agent.trust.tls import CertificateAuthority
from tests.support.broker import AGENCY, Broker, free_port, validity
from tests.support.connections import connection, turned

CLOCKS = SystemClocks()
CAM = Topics(AGENCY, "cam-1")
OTHER = Topics(AGENCY, "cam-2")


def refused(section: BrokerSection, *, seconds: float = 3) -> str:
    """Why a connection is not made; fails if one is."""
    one = connection(section)
    assert turned(one, until=lambda: bool(one.problem), seconds=seconds), "expected a refusal"
    assert not one.connected
    problem = one.problem
    for _ in range(20):
        one.turn(0.02, lambda: None)
        assert not one.connected
    one.end()
    return problem


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made.start()
    made.stop()


def test_device_of_the_agency_is_let_in(broker: Broker) -> None:
    one = connection(broker.client("cam-1"), [CAM.ack])
    assert turned(one, until=lambda: one.connected)
    one.end()


def test_self_signed_broker_is_refused(tmp_path: Path) -> None:
    (tmp_path / "false").mkdir()
    (tmp_path / "true").mkdir()
    false, true = Broker(tmp_path / "false"), Broker(tmp_path / "true")
    false.start()
    section = msgspec.structs.replace(true.client("cam-1"), port=false.port)
    assert "certificate verify failed" in refused(section)
    false.stop()


def test_broker_under_another_name_is_refused(tmp_path: Path) -> None:
    broker = Broker(tmp_path, hosts=["elsewhere.example"]).start()
    assert "Hostname mismatch" in refused(broker.client("cam-1"))
    broker.stop()


def test_broker_with_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    expired = broker.authority.broker(["localhost"], validity(days_from=-3, days_until=-2))
    (broker.folder / "tls.crt").write_bytes(expired.certificate)
    (broker.folder / "tls.key").write_bytes(expired.key)
    broker.start()
    assert "expired" in refused(broker.client("cam-1"))
    broker.stop()


def test_clients_certificate_makes_no_broker(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    stolen = broker.authority.client("localhost")
    (broker.folder / "tls.crt").write_bytes(stolen.certificate)
    (broker.folder / "tls.key").write_bytes(stolen.key)
    broker.start()
    assert "certificate" in refused(broker.client("cam-1"))
    broker.stop()


def test_device_with_an_expired_certificate_is_refused(broker: Broker) -> None:
    expired = broker.authority.client("cam-1", validity(days_from=-3, days_until=-2))
    assert refused(broker.client("cam-1", issued=expired))


def test_device_of_another_agencys_authority_is_refused(broker: Broker) -> None:
    foreign = CertificateAuthority("other", validity()).client("cam-1")
    assert refused(broker.client("cam-1", issued=foreign))


def test_revoked_device_is_refused_and_others_are_not(broker: Broker) -> None:
    stolen, other = broker.client("cam-1"), broker.client("cam-2")
    one = connection(stolen)
    assert turned(one, until=lambda: one.connected)
    one.end()
    broker.revoke("cam-1")
    assert refused(stolen)
    two = connection(other)
    assert turned(two, until=lambda: two.connected)
    two.end()


def test_client_without_a_certificate_is_refused(broker: Broker) -> None:
    context = ssl.create_default_context(cafile=broker.client("cam-1").ca)
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,  # TLS 1.3: the broker asks only afterwards
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        wrapped.recv(4)


def test_plaintext_broker_is_refused(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    plain = free_port()
    (broker.folder / "mosquitto.conf").write_text(f"listener {plain} 127.0.0.1\nallow_anonymous true\nuser root\n")
    broker.port = plain
    broker.start()
    assert refused(broker.client("cam-1"), seconds=10)
    broker.stop()


def test_tls_below_1_2_is_never_spoken(broker: Broker) -> None:
    context = tls_context(broker.client("cam-1"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_dock_with_another_devices_certificate_does_not_start(broker: Broker, tmp_path: Path) -> None:
    section = DockSection(agency=AGENCY, device="cam-1", run="run", evidence="e", state="s")
    with pytest.raises(ConfigError, match="cam-2"):
        DockService(DockConfig(dock=section, broker=broker.client("cam-2")), tmp_path / "dock.toml")


# -- access lists -----------------------------------------------------------------------------------------------------


@pytest.fixture
def everybody(broker: Broker) -> Iterator[tuple[Connection, Connection, Connection, Connection]]:
    """Station, publisher, cam-1 and cam-2, each reading all that it can think of."""
    everything = ["#", "bwc/#", f"bwc/v1/{AGENCY}/+/status", f"bwc/v1/{AGENCY}/+/inbox/dock"]
    everything += [f"bwc/v1/{AGENCY}/policy", f"bwc/v1/{AGENCY}/+/inbox/policy", f"bwc/v1/{AGENCY}/+/event"]
    names = (mosquitto.STATION, mosquitto.PUBLISHER, "cam-1", "cam-2")
    station, publisher, one, two = (connection(broker.client(name), everything) for name in names)
    each = (station, publisher, one, two)
    assert turned(*each, until=lambda: all(c.connected for c in each))
    yield each
    for c in each:
        c.end()


def topics_of(c: Connection) -> set[str]:
    return {message.topic for message in c.received}


def settle(*each: Connection) -> None:
    """Until the broker has dealt with all that was said, and what comes of that has come."""
    assert turned(*each, until=lambda: not any(c._numbers_in_flight for c in each))
    for _ in range(5):
        for one in each:
            one.turn(0.02, lambda: None)


def say(c: Connection, topic: str) -> None:
    c.publish(Publication(topic, b"x"))


def test_device_cannot_write_as_another_device(
    everybody: tuple[Connection, Connection, Connection, Connection],
) -> None:
    station, _, one, _ = everybody
    for topic in (OTHER.status, OTHER.state, OTHER.event):
        say(one, topic)
    say(one, CAM.status)
    assert turned(*everybody, until=lambda: CAM.status in topics_of(station))
    settle(*everybody)
    assert topics_of(station) == {CAM.status}


def test_device_cannot_read_another_devices_messages(
    everybody: tuple[Connection, Connection, Connection, Connection],
) -> None:
    station, publisher, one, two = everybody
    say(two, OTHER.status)
    say(two, OTHER.event)
    say(station, OTHER.dock)
    say(publisher, OTHER.policy)
    assert turned(*everybody, until=lambda: {OTHER.dock, OTHER.policy} <= topics_of(two))
    settle(*everybody)
    assert topics_of(one) == set()
    assert OTHER.status in topics_of(station)


def test_device_cannot_write_inboxes_or_policy(
    everybody: tuple[Connection, Connection, Connection, Connection],
) -> None:
    _, _, one, two = everybody
    for topic in (CAM.ack, CAM.dock, CAM.policy, OTHER.ack, OTHER.dock, OTHER.policy, CAM.agency_policy):
        say(one, topic)
    settle(*everybody)
    assert topics_of(one) == topics_of(two) == set()


def test_only_the_publisher_writes_policy_and_all_devices_read_it(
    everybody: tuple[Connection, Connection, Connection, Connection],
) -> None:
    station, publisher, one, two = everybody
    say(station, CAM.agency_policy)
    say(station, CAM.policy)
    settle(*everybody)
    assert topics_of(one) == set()
    say(publisher, CAM.agency_policy)
    assert turned(*everybody, until=lambda: all(CAM.agency_policy in topics_of(c) for c in (one, two)))


def test_client_id_of_another_device_is_not_taken(broker: Broker) -> None:
    """The certificate's name is the client id, whatever a client claims: nobody can throw another one out."""
    victim = connection(broker.client("cam-1"), [CAM.dock])
    assert turned(victim, until=lambda: victim.connected)
    attacker = connection(broker.client("cam-2"), [CAM.dock])
    attacker.name = "cam-1"
    assert turned(attacker, victim, until=lambda: attacker.connected or bool(attacker.problem))
    say(attacker, CAM.status)
    settle(victim, attacker)
    assert victim.connected
    assert victim.problem == ""
    log = broker.log.read_text()
    assert log.count("as cam-1 ") == 1
    victim.end()
    attacker.end()


def test_will_of_one_device_is_not_spoken_for_another(broker: Broker) -> None:
    """Else whoever pulls its own cable could say that others are lost."""
    station = connection(broker.client(mosquitto.STATION), [Topics(AGENCY, "+").state])
    assert turned(station, until=lambda: station.connected)
    for name in ("cam-1", "cam-2"):
        one = connection(broker.client(name))
        end = time.monotonic() + 5
        while not one.connected:
            assert time.monotonic() < end
            one.turn(0.02, partial(Publication, OTHER.state, name.encode(), retain=True))
        one.cut()
        one._disconnect(in_order=False)
    assert turned(station, until=lambda: bool(station.received))
    settle(station)
    assert [message.payload for message in station.received] == [b"cam-2"]
    station.end()


def test_foreign_device_name_with_a_colon_cannot_be_provisioned() -> None:
    from agent.trust.records import Name

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(mosquitto.STATION, Name)


def test_broker_that_never_answers_version_5_is_tried_with_the_older_one(broker: Broker) -> None:
    """Such brokers exist: they wait for the rest of a message that they read in the older form."""
    section = broker.client("cam-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(broker.folder / "tls.crt", broker.folder / "tls.key")
    now = [0]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        one = Connection(msgspec.structs.replace(section, port=port), [CAM.ack], lambda: now[0], lambda low, _high: low)
        answered: list[bytes] = []

        def silent() -> None:
            line, _ = listening.accept()
            with context.wrap_socket(line, server_side=True) as wrapped:
                answered.append(wrapped.recv(9))
                gone.wait(10)

        gone = threading.Event()
        worker = threading.Thread(target=silent)
        worker.start()
        assert turned(one, until=lambda: bool(answered))
        assert (one.version, answered[0][-1]) == ("5", 5)
        now[0] += round((SUBSCRIBE_S + 1) * 10**9)
        assert turned(one, until=lambda: bool(one.problem))
        assert (one.version, one.problem) == ("3.1.1", "the broker did not answer in time")
        gone.set()
        worker.join()
        one.end()


def test_older_protocol_is_spoken_where_the_broker_has_no_newer(broker: Broker) -> None:
    one = connection(broker.client("cam-1"), [CAM.ack])
    one._protocol = MQTTProtocolVersion.MQTTv311
    assert one.version == "3.1.1"
    assert turned(one, until=lambda: one.connected)
    one.end()
