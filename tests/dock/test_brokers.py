"""Several brokers of one cluster: how they are named, and whose turn it is."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.clock import SystemClocks
from agent.dock.config import BrokerSection, DockConfig, load
from agent.dock.mqtt import Connection, Limits
from agent.errors import ConfigError
from tests.support.broker import Broker, free_port

CONFIG = """\
[dock]
agency = "city"
device = "cam-1"
run = "run"
evidence = "evidence"
state = "state"

[broker]
host = "broker-1.example"
others = {others}
ca = "ca.crt"
certificate = "tls.crt"
key = "tls.key"
"""


def read(folder: Path, others: str) -> BrokerSection:
    (folder / "dock.toml").write_text(CONFIG.format(others=others))
    return load(folder / "dock.toml", DockConfig).broker


def test_other_brokers_have_ports_of_their_own_or_the_first_ones(tmp_path: Path) -> None:
    section = read(tmp_path, '["broker-2.example", "broker-3.example:9000", "[2001:db8::1]:9001", "[2001:db8::2]"]')
    assert section.addresses == [
        ("broker-1.example", 8883),
        ("broker-2.example", 8883),
        ("broker-3.example", 9000),
        ("2001:db8::1", 9001),
        ("2001:db8::2", 8883),
    ]


@pytest.mark.parametrize("other", ["", "mqtt://a", "a b", "a:0", "a:65536", "a:", "2001:db8::1", "a/b"])
def test_malformed_broker_is_refused_with_its_place(tmp_path: Path, other: str) -> None:
    with pytest.raises(ConfigError, match="broker"):
        read(tmp_path, f'["{other}"]')


def connection(section: BrokerSection, uniform: Callable[[float, float], float]) -> Connection:
    return Connection(section, (), SystemClocks().monotonic_ns, uniform)


def test_first_broker_is_a_matter_of_chance_and_stays_within_the_list(tmp_path: Path) -> None:
    section = Broker(tmp_path).client("cam-1")
    places = [f"localhost:{free_port()}" for _ in range(2)]
    section = msgspec.structs.replace(section, port=free_port(), others=places)
    for part, expected in ((0.0, 0), (0.34, 1), (0.99, 2), (1.0, 2)):
        one = connection(section, lambda low, high, part=part: low + part * (high - low) if high > 2 else 0)  # type: ignore[misc]
        one.turn(0, lambda: None)
        assert one.place == section.addresses[(expected + 1) % 3], "the first refused at once: the next one's turn"
        assert str(section.addresses[expected][1]) in one.problem


def test_next_broker_is_tried_when_the_one_before_is_gone(tmp_path: Path) -> None:
    broker = Broker(tmp_path).start()
    section = broker.client("cam-1")
    section = msgspec.structs.replace(section, port=free_port(), others=[f"localhost:{broker.port}"], ceiling_s=0.1)
    one = connection(section, lambda low, _high: low)
    end = time.monotonic() + 20
    while not one.connected and time.monotonic() < end:
        one.turn(0.05, lambda: None)
    assert one.connected, one.problem
    assert one.place == ("localhost", broker.port)
    one.end()
    broker.stop()


def test_more_publications_than_may_wait_are_said_not_to_be_taken(tmp_path: Path) -> None:
    from agent.dock.messages import Publication

    broker = Broker(tmp_path).start()
    clocks = SystemClocks()
    one = Connection(broker.client("cam-1"), (), clocks.monotonic_ns, lambda low, _high: low, Limits(2, 4, 8))
    while not one.connected:
        one.turn(0.05, lambda: None)
    numbers = [one.publish(Publication("bwc/v1/city/cam-1/event", b"x")) for _ in range(6)]
    assert [number is None for number in numbers] == [False] * 4 + [True] * 2
    while one.acknowledged < 4:
        one.turn(0.05, lambda: None)
    assert list(one.taken) == numbers[:4]
    one.end()
    assert one.publish(Publication("bwc/v1/city/cam-1/event", b"x")) is None
    broker.stop()


def test_turn_takes_no_more_bytes_than_its_bound_and_of_a_large_message_its_size(tmp_path: Path) -> None:
    """What is not taken stays with the broker, and comes in the turns after."""
    from agent.dock.messages import Publication, Topics
    from tests.support.connections import connection as connected
    from tests.support.connections import turned

    broker = Broker(tmp_path).start()
    clocks = SystemClocks()
    topics = Topics("city", "cam-1")
    limits = Limits(at_once=256, bytes_at_once=200_000, message=60_000)
    reader = Connection(broker.client("station:1"), [topics.event], clocks.monotonic_ns, lambda low, _high: low, limits)
    device = connected(broker.client("cam-1"))
    try:
        assert turned(reader, device, until=lambda: reader.connected and device.connected)
        sizes = [50_000] * 30 + [60_001, 900_000, 60_000]
        for size in sizes:
            device.publish(Publication(topics.event, b"x" * size))
        assert turned(device, until=lambda: device.acknowledged == len(sizes), seconds=20)
        came: list[tuple[int, int]] = []
        end = time.monotonic() + 20
        while len(came) < len(sizes):
            assert time.monotonic() < end
            reader.turn(0.05, lambda: None)
            assert sum(len(message.payload) for message in reader.received) <= 200_000 + 50_000 + 60_000
            came += [(message.size, len(message.payload)) for message in reader.received]
            reader.received.clear()
        assert came == [(size, size if size <= 60_000 else 0) for size in sizes]
    finally:
        reader.end()
        device.end()
        broker.kill()
