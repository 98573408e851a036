"""Many devices at once, with the real protocol, for sizing a broker: dock, report, lose the connection, leave.

Each simulated device has a certificate of its own from the agency's CA, so that TLS, access lists and client ids are
those of a fleet. What it says is made up and marked as simulated; a station keeps its events, and acknowledges them as
any other's. A loss is an event that no station acknowledged by the end.
"""

import random
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.clock import NS, Clocks, utc_text
from agent.dock.config import BrokerSection
from agent.dock.journal import Read
from agent.dock.messages import Ack, Clock, Evidence, Policy, SinceDock, Status, Storage, Topics, decode
from agent.dock.mqtt import Connection
from agent.dock.session import Cursor, Session
from agent.errors import EvidenceError
from agent.keys import tls
from agent.keys.tls import Authority
from agent.strict_json import sha256_hex

TURN_S = 0.002
_LEAVE_NS = 120 * NS
DROPPING = 0.2
"""So many of the devices lose their connection once, in the middle."""


@dataclass(slots=True)
class Measured:
    """What was measured, in milliseconds, and what was lost."""

    connect_ms: list[float] = field(default_factory=list)
    acknowledged_ms: list[float] = field(default_factory=list)
    events: int = 0
    lost: int = 0
    connections_lost: int = 0
    never_docked: int = 0

    def percentiles(self, values: list[float]) -> dict[str, float]:
        """The 50th, 95th and 99th percentile and the most; empty if nothing was measured."""
        ordered = sorted(values)
        if not ordered:
            return {}
        at = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99)}
        return {name: round(value, 1) for name, value in (at | {"max": ordered[-1]}).items()}

    def report(self) -> dict[str, object]:
        """All of it, as it is printed."""
        return {
            "events": self.events,
            "lost": self.lost,
            "never_docked": self.never_docked,
            "connections_lost": self.connections_lost,
            "connect_ms": self.percentiles(self.connect_ms),
            "event_to_acknowledgement_ms": self.percentiles(self.acknowledged_ms),
        }


class _Device:
    """One simulated device: the real session and connection, without a recorder."""

    def __init__(
        self, broker: BrokerSection, topics: Topics, *, events: int, dock_ns: int, drops: bool, clocks: Clocks
    ) -> None:
        self._topics = topics
        self._clocks = clocks
        self._session = Session(self._topics, Cursor())
        self._connection = Connection(broker, (self._topics.ack,), clocks.monotonic_ns, lambda low, _high: low)
        self._dock_ns = dock_ns
        self._left = events
        self._events = events
        self._said_ns: int | None = None
        self._up = False
        self._drops = drops
        self._begun_ns = 0
        self.done = False
        self.connections_lost = 0
        self.docked = False

    def turn(self, random_bytes: Callable[[int], bytes], measured: Measured) -> None:
        """Do what is due."""
        now = self._clocks.monotonic_ns()
        if self.done or now < self._dock_ns:
            return
        self._begun_ns = self._begun_ns or now
        name = random_bytes(8).hex()
        self._connection.turn(0, lambda: self._session.will(name))
        if self._connection.connected and not self._up:
            if not self.docked:
                self.docked = True
                measured.connect_ms.append((now - self._begun_ns) / 1e6)
                self._session.take([self._line(number) for number in range(1, min(self._events, 64) + 1)])
            self._session.connected(name, now)
        elif self._up and not self._connection.connected:
            self.connections_lost += 1
        self._up = self._connection.connected
        self._receive(now, measured)
        if self._up:
            for publication in self._session.say(self._status(name), now):
                self._connection.publish(publication)
            self._said_ns = self._said_ns or now
            if self._drops:
                self._drops = False
                self._connection.cut()
                return
            if self._session.unacknowledged == 0:
                self._connection.end(self._session.farewell())
                self.done = True

    def _receive(self, now: int, measured: Measured) -> None:
        while self._connection.received:
            message = self._connection.received.popleft()
            try:
                before = self._session.unacknowledged
                self._session.acknowledged(decode(message.payload, Ack), now)
            except EvidenceError:
                continue
            if self._said_ns is not None and before > self._session.unacknowledged:
                measured.acknowledged_ms.append((now - self._said_ns) / 1e6)

    @property
    def lost(self) -> int:
        """Events that no station acknowledged."""
        return self._session.unacknowledged if self.docked else self._events

    def _line(self, number: int) -> Read:
        entry = {"kind": "recording_ended", "recording": f"simulated-{number}", "request": number, "at_us": 0}
        time = utc_text(self._clocks.wall().utc_ns)
        fields = {"n": number, "utc": time, "clock": "simulated", "within_ms": None, "mono_us": 0, "entry": entry}
        named = {**fields, "device": self._topics.device}
        return Read(number, sha256_hex(msgspec.json.encode(named)), fields)

    def _status(self, session: str) -> Status:
        return Status(
            agency=self._topics.agency,
            device=self._topics.device,
            session=session,
            version="simulated",
            mode="standby",
            contact=True,
            docked=False,
            nonce="A" * 22,
            policy=Policy(name="simulated", version=0, digest="0" * 64),
            clock=Clock(source="simulated", within_ms=None),
            storage=Storage(free_bytes=None, time_left_s=None, failing=False),
            evidence=Evidence(recordings=0, segments=0, bytes=0, pending_segments=0),
            since_dock=SinceDock(refused=0, tampered=0),
            self_test=None,
            checkpoint=None,
            confirms=[],
            battery_pct=None,
            temperature_c=None,
            uptime_s=0,
            boots=0,
        )


def simulate(
    *,
    authority: Authority,
    agency: str,
    host: str,
    port: int,
    devices: int,
    events: int,
    within_s: float,
    clocks: Clocks,
    random_bytes: Callable[[int], bytes],
    dice: random.Random,
    threads: int = 2,
    first: int = 1,
) -> Measured:
    """Let `devices` devices dock at random moments within `within_s`, each with `events` events; until all have left.

    Returns:
        What was measured. Devices that no station answers within two minutes after the last docked count as lost.
    """
    measured = Measured(events=devices * events)
    with tempfile.TemporaryDirectory(prefix="bwc-fleet-") as folder:
        begin = clocks.monotonic_ns()
        fleet = []
        sections = []
        for number in range(first, first + devices):
            place = Path(folder) / f"simulated-{number}"
            authority.client(place.name).save(place, authority)
            sections.append((place.name, _section(place, host, port)))
        begin = clocks.monotonic_ns()
        for name, section in sections:
            dock_ns = begin + round(dice.uniform(0, within_s) * NS)
            topics = Topics(agency, name)
            drops = dice.random() < DROPPING
            fleet.append(_Device(section, topics, events=events, dock_ns=dock_ns, drops=drops, clocks=clocks))
        end = begin + round(within_s * NS) + _LEAVE_NS
        shares = [fleet[part::threads] for part in range(threads)]
        workers = [
            threading.Thread(target=_work, args=(share, end, clocks, random_bytes, measured), daemon=True)
            for share in shares
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    measured.lost = sum(device.lost for device in fleet)
    measured.never_docked = sum(not device.docked for device in fleet)
    measured.connections_lost = sum(device.connections_lost for device in fleet)
    return measured


def _work(
    share: list[_Device], end: int, clocks: Clocks, random_bytes: Callable[[int], bytes], measured: Measured
) -> None:
    idle = threading.Event()
    while clocks.monotonic_ns() < end and not all(device.done for device in share):
        for device in share:
            device.turn(random_bytes, measured)
        idle.wait(TURN_S)


def _section(folder: Path, host: str, port: int) -> BrokerSection:
    return BrokerSection(
        host=host,
        port=port,
        ca=str(folder / tls.CA_CERTIFICATE),
        certificate=str(folder / tls.CERTIFICATE),
        key=str(folder / tls.KEY),
        jitter_s=0,
        ceiling_s=5.0,
        keepalive_s=60,
    )
