"""MQTT connections of their own in a test, turned by hand."""

import time
from collections.abc import Callable, Sequence

from agent.clock import SystemClocks
from agent.dock.config import BrokerSection
from agent.dock.mqtt import Connection


def connection(section: BrokerSection, topics: Sequence[str] = ()) -> Connection:
    """A connection that tries as soon as it may."""
    return Connection(section, topics, SystemClocks().monotonic_ns, lambda low, _high: low)


def turned(*connections: Connection, until: Callable[[], bool], seconds: float = 5) -> bool:
    """True if it came about in time; False if not."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        for one in connections:
            one.turn(0.02, lambda: None)
    return True
