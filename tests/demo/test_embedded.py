"""The broker of the demonstration: it speaks no MQTT 5, and lets nobody in without a good certificate."""

import socket
import ssl
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from agent.clock import NS, SystemClocks
from agent.demo.docking import _answers_anybody
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import Connection, tls_context
from agent.domain.layout import TWO_BUTTONS
from agent.keys import files
from agent.policy.bundle import sign_bundle
from agent.policy.packs import shipped
from agent.station.publisher import Published, check_bundle, publish
from agent.trust.tls import CertificateAuthority
from tests.support import connections
from tests.support.broker import AGENCY, Embedded, validity
from tests.support.connections import connection
from tests.support.device import agency, trust
from tests.support.docking import Docked

CAM = Topics(AGENCY, "cam-1")


turned = partial(connections.turned, seconds=10)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path)
    made.start()
    yield made
    made.stop()


def refused(one: Connection) -> bool:
    """True if a connection is not made in either version."""
    versions: set[str] = set()

    def seen() -> bool:
        if one.problem:
            versions.add(one.version)
        return one.connected or len(versions) > 1

    turned(one, until=seen, seconds=3)
    connected = one.connected
    one.end()
    return not connected


def test_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1(broker: Embedded) -> None:
    one = connection(broker.client("cam-1"), [CAM.ack])
    assert one.version == "5"
    assert turned(one, until=lambda: bool(one.problem))
    assert "Unsupported protocol version" in one.problem
    assert one.version == "3.1.1"
    assert turned(one, until=lambda: one.connected)
    other = connection(broker.client(mosquitto.STATION), [CAM.event])
    assert turned(one, other, until=lambda: other.connected)
    one.publish(Publication(CAM.event, b"what happened"))
    assert turned(one, other, until=lambda: bool(other.received) and one.acknowledged == 1)
    assert (other.received[0].topic, other.received[0].payload) == (CAM.event, b"what happened")
    one.end()
    other.end()


@pytest.fixture
def docked(tmp_path: Path) -> Iterator[Docked]:
    bench = Docked(tmp_path, broker=Embedded(tmp_path))
    bench.broker.start()
    yield bench
    bench.end()


def test_device_docks_over_mqtt_3_1_1(docked: Docked) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.until(lambda: docked.row_known() and docked.row().state == "docked" and docked.stored() == docked.told())
    assert docked.dock.connection.version == "3.1.1"
    docked.contact(closed=False)
    docked.until(lambda: docked.row().state == "undocked")


def answered(line: socket.socket) -> bytes:
    """What comes back to a CONNECT of MQTT 3.1.1; nothing if the line is dead."""
    try:
        line.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04none")
        return line.recv(64)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_client_without_a_certificate_is_refused(broker: Embedded) -> None:
    context = ssl.create_default_context(cafile=broker.client("cam-1").ca)
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as line,  # TLS 1.3: the broker asks only afterwards
    ):
        assert answered(line) == b""


class Open(Embedded):
    """What it would be if it demanded no certificate: the control."""

    def program(self) -> list[str]:
        code = (
            "import asyncio, ssl, sys, pathlib, agent.demo.embedded as e; made = e.tls_context\n"
            "def tls(folder):\n c = made(folder); c.verify_mode = ssl.CERT_OPTIONAL; return c\n"
            "e.tls_context = tls; asyncio.run(e.serve(pathlib.Path(sys.argv[1]), int(sys.argv[2])))"
        )
        command = super().program()
        return [command[0], "-c", code, *command[3:]]


@pytest.mark.parametrize(("kind", "answers"), [(Embedded, False), (Open, True)])
def test_demonstrations_claim_that_nobody_is_answered_without_a_certificate_can_fail(
    tmp_path: Path, kind: type[Embedded], answers: bool
) -> None:
    made = kind(tmp_path)
    made.start()
    assert _answers_anybody(made.port, made.folder / "ca.crt") is answers
    made.stop()


def test_plaintext_is_refused(broker: Embedded) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as line:
        assert not answered(line).startswith(b"\x20")


def test_client_with_its_certificate_is_answered(broker: Embedded) -> None:
    """The control of the two above: the same bytes, with a certificate."""
    section = broker.client("none")
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=5) as raw,
        tls_context(section).wrap_socket(raw, server_hostname="localhost") as line,
    ):
        assert answered(line).startswith(b"\x20\x02")


def test_client_of_another_authority_is_refused(broker: Embedded) -> None:
    foreign = CertificateAuthority(AGENCY, validity()).client("cam-1")
    assert refused(connection(broker.client("cam-1", issued=foreign)))


def test_revoked_device_is_refused_and_others_are_not(broker: Embedded) -> None:
    stolen, other = broker.client("cam-1"), broker.client("cam-2")
    broker.revoke("cam-1")
    assert refused(connection(stolen))
    two = connection(other)
    assert turned(two, until=lambda: two.connected)
    two.end()


def test_name_that_is_not_the_certificates_is_refused(broker: Embedded) -> None:
    one = connection(broker.client("cam-1"))
    one.name = mosquitto.STATION
    assert refused(one)


def test_publisher_is_told_that_this_broker_does_not_say_who_reads(broker: Embedded) -> None:
    signer = files.load_signer(f"file:{agency().policy}")
    now = time.time_ns()
    token = sign_bundle(
        signer,
        agency=AGENCY,
        version=3,
        not_before_ns=now - NS,
        expires_ns=now + 86_400 * NS,
        pack=("us-il", shipped("us-il").text),
        gestures=TWO_BUTTONS,
    )
    bundle = check_bundle(token, trust(), time.time_ns())
    client = broker.client(mosquitto.PUBLISHER)
    assert publish(bundle, client, device="cam-1", clocks=SystemClocks()) is Published.UNKNOWN
