"""What RabbitMQ lets whom do, with the example configuration: as near to Mosquitto's access list as it comes."""

import socket
import ssl
from collections.abc import Sequence
from functools import partial

import pytest

from agent.brokers import mosquitto
from agent.dock.config import BrokerSection
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import Connection
from agent.trust.tls import CertificateAuthority
from tests.support import connections
from tests.support.broker import AGENCY, validity
from tests.support.cluster import Cluster
from tests.support.connections import connection

CAM, OTHER = Topics(AGENCY, "cam-1"), Topics(AGENCY, "cam-2")
EVERYTHING = (f"bwc/v1/{AGENCY}/+/state", f"bwc/v1/{AGENCY}/+/status", f"bwc/v1/{AGENCY}/+/event")


turned = partial(connections.turned, seconds=20)


def own(topics: Topics) -> tuple[str, ...]:
    return (topics.ack, topics.dock, topics.policy, topics.agency_policy)


def up(*connections: Connection) -> None:
    assert turned(*connections, until=lambda: all(one.connected for one in connections)), [
        one.problem for one in connections
    ]


def settle(*connections: Connection) -> None:
    """Time enough for what was said to come."""
    turned(*connections, until=lambda: False, seconds=1.5)


def topics_of(one: Connection) -> set[str]:
    return {message.topic for message in one.received}


def refused(section: BrokerSection, topics: Sequence[str] = ()) -> str:
    """Why nobody is let in; all three ways are tried: version 5, version 3.1.1, and 5 again."""
    one = connection(section, topics)
    problems: list[str] = []
    for _ in range(3):
        assert turned(one, until=lambda: bool(one.problem), seconds=15)
        assert not one.connected
        problems.append(one.problem)
        one.problem = ""
        one._next_ns = 0
    one.end()
    return " ".join(problems)


def test_broker_without_version_5_is_spoken_to_in_3_1_1(cluster: Cluster) -> None:
    one = connection(cluster.client("cam-1"), own(CAM))
    assert one.version == "5"
    up(one)
    assert one.version == "3.1.1"
    one.cut()
    assert turned(one, until=lambda: not one.connected)
    up(one)
    assert one.version == "3.1.1"
    one.end()


def test_messages_go_from_any_node_to_any_node(cluster: Cluster) -> None:
    station = connection(cluster.client(mosquitto.STATION, first=1), EVERYTHING)
    one = connection(cluster.client("cam-1", first=2), own(CAM))
    two = connection(cluster.client("cam-2", first=3), own(OTHER))
    up(station, one, two)
    one.publish(Publication(CAM.event, b"1"))
    two.publish(Publication(OTHER.status, b"2", retain=True))
    assert turned(station, one, two, until=lambda: topics_of(station) == {CAM.event, OTHER.status})
    station.publish(Publication(CAM.ack, b"3"))
    assert turned(station, one, two, until=lambda: topics_of(one) == {CAM.ack})
    assert topics_of(two) == set()
    for each in (station, one, two):
        each.end()


@pytest.mark.parametrize("topic", [OTHER.status, OTHER.state, OTHER.event, CAM.ack, OTHER.dock, CAM.agency_policy])
def test_device_cannot_write_as_anybody_else(cluster: Cluster, topic: str) -> None:
    station = connection(cluster.client(mosquitto.STATION), EVERYTHING)
    one, two = connection(cluster.client("cam-1"), own(CAM)), connection(cluster.client("cam-2"), own(OTHER))
    up(station, one, two)
    one.publish(Publication(topic, b"x"))
    settle(station, one, two)
    assert topics_of(station) == topics_of(two) == topics_of(one) == set()
    for each in (station, one, two):
        each.end()


@pytest.mark.parametrize("topic", ["#", "bwc/#", OTHER.status, OTHER.dock, f"bwc/v1/{AGENCY}/+/inbox/ack", "+/v1/#"])
def test_device_cannot_read_what_is_not_its_own(cluster: Cluster, topic: str) -> None:
    spy = connection(cluster.client("cam-1"), [topic])
    assert not turned(spy, until=lambda: spy.connected, seconds=3)
    assert spy._version_accepted, "it was not let in at all"
    spy.end()


def test_only_the_publisher_writes_policy_and_all_devices_read_it(cluster: Cluster) -> None:
    station = connection(cluster.client(mosquitto.STATION), EVERYTHING)
    one, two = connection(cluster.client("cam-1"), own(CAM)), connection(cluster.client("cam-2"), own(OTHER))
    up(station, one, two)
    station.publish(Publication(CAM.agency_policy, b"x"))
    settle(station, one, two)
    assert topics_of(one) == set()
    publisher = connection(cluster.client(mosquitto.PUBLISHER))
    up(one, two, publisher)
    publisher.publish(Publication(CAM.agency_policy, b"x"))
    assert turned(one, two, publisher, until=lambda: all(CAM.agency_policy in topics_of(each) for each in (one, two)))
    for each in (station, one, two, publisher):
        each.end()


def test_observer_reads_what_devices_say_and_its_publication_ends_its_connection(cluster: Cluster) -> None:
    station = connection(cluster.client(mosquitto.STATION), EVERYTHING)
    observer = connection(cluster.client(mosquitto.OBSERVER), EVERYTHING)
    one = connection(cluster.client("cam-1"), own(CAM))
    up(station, observer, one)
    one.publish(Publication(CAM.status, b"1"))
    assert turned(station, observer, one, until=lambda: topics_of(observer) == topics_of(station) == {CAM.status})
    observer.publish(Publication(CAM.ack, b"x"))
    assert turned(observer, until=lambda: not observer.connected)
    settle(station, one)
    assert topics_of(one) == set()
    for each in (station, observer, one):
        each.end()


@pytest.mark.parametrize(
    "topic", ["#", CAM.ack, CAM.dock, CAM.policy, CAM.agency_policy, f"bwc/v1/{AGENCY}/+/inbox/ack"]
)
def test_observer_cannot_read_what_is_not_for_it(cluster: Cluster, topic: str) -> None:
    spy = connection(cluster.client(mosquitto.OBSERVER), [topic])
    assert not turned(spy, until=lambda: spy.connected, seconds=3)
    assert spy._version_accepted, "it was not let in at all"
    spy.end()


def test_certificate_of_a_device_that_nobody_entered_is_refused(cluster: Cluster) -> None:
    assert "refused" in refused(cluster.client("unknown"))


def test_stolen_device_is_thrown_out_and_stays_out(cluster: Cluster) -> None:
    section = cluster.client("stolen", first=2)
    thief = connection(section, own(Topics(AGENCY, "stolen")))
    up(thief)
    cluster.control("delete_user", "stolen")
    assert turned(thief, until=lambda: not thief.connected)
    thief.end()
    assert "refused" in refused(section)


def test_device_of_another_agencys_authority_is_refused(cluster: Cluster) -> None:
    assert refused(cluster.client("cam-1", issued=CertificateAuthority("other", validity()).client("cam-1")))


def test_device_with_an_expired_certificate_is_refused(cluster: Cluster) -> None:
    expired = cluster.authority.client("cam-1", validity(days_from=-3, days_until=-2))
    assert refused(cluster.client("cam-1", issued=expired))


def test_client_without_a_certificate_is_refused(cluster: Cluster) -> None:
    context = ssl.create_default_context(cafile=cluster.client("cam-1").ca)
    with (
        socket.create_connection(("127.0.0.1", cluster.nodes[0].port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        wrapped.recv(4)


# -- what is not as with Mosquitto ------------------------------------------------------------------------------------


def test_another_client_id_ends_a_connection_and_gets_nothing_of_it(cluster: Cluster) -> None:
    """The stated limit: RabbitMQ 3.10 does not bind the client id to the certificate."""
    station = connection(cluster.client(mosquitto.STATION), EVERYTHING)
    victim = connection(cluster.client("cam-1"), own(CAM))
    up(station, victim)
    attacker = connection(cluster.client("cam-2"), own(CAM))
    attacker.name = "cam-1"
    turned(attacker, victim, station, until=lambda: attacker.connected, seconds=6)
    assert not attacker.connected
    attacker.publish(Publication(CAM.status, b"false"))
    settle(attacker, station)
    assert topics_of(station) == set()
    attacker.end()
    settle(station, victim)
    up(station, victim)
    station.publish(Publication(CAM.ack, b"1"))
    assert turned(station, victim, until=lambda: topics_of(victim) == {CAM.ack})
    for each in (station, victim):
        each.end()


def test_retained_messages_are_one_nodes_own_so_a_policy_is_published_on_each(cluster: Cluster) -> None:
    first = connection(cluster.alone(cluster.client(mosquitto.PUBLISHER, first=1)))
    up(first)
    first.publish(Publication(CAM.agency_policy, b"bundle", retain=True))
    assert turned(first, until=lambda: first.acknowledged == 1)
    first.end()
    near = connection(cluster.alone(cluster.client("cam-1", first=1)), own(CAM))
    far = connection(cluster.alone(cluster.client("cam-2", first=2)), own(OTHER))
    up(near, far)
    assert turned(near, far, until=lambda: topics_of(near) == {CAM.agency_policy})
    settle(near, far)
    assert topics_of(far) == set()
    near.end()
    far.end()
    second = connection(cluster.alone(cluster.client(mosquitto.PUBLISHER, first=2)))
    up(second)
    second.publish(Publication(CAM.agency_policy, b"bundle", retain=True))
    assert turned(second, until=lambda: second.acknowledged == 1)
    second.end()
    far = connection(cluster.alone(cluster.client("cam-2", first=2)), own(OTHER))
    up(far)
    assert turned(far, until=lambda: topics_of(far) == {CAM.agency_policy})
    far.end()
