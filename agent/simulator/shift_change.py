"""A shift change with many devices and the real protocol, for sizing brokers and stations.

Each simulated device has a certificate of its own from the agency's CA, the session, messages and connection of the
dock service, and a simulated recorder; TLS, access lists and client ids are those of a fleet. It docks at a random
moment, reports, and stays until the last has docked; one in five loses its connection right after it has sent its
events, before they can have been acknowledged; in the end all leave in order. `agent.simulator.report` defines what is
measured.

The only difference from a dock service is that many devices share a thread: one has its turn when a message came for
it, and once a second otherwise. Attempts to connect block their thread, as they block a dock service.
"""

import contextlib
import heapq
import random
import select
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.clock import NS, Clocks
from agent.dock.config import BrokerSection
from agent.dock.messages import Ack, Publication, Topics, decode
from agent.dock.mqtt import Connection
from agent.dock.session import Cursor, Session
from agent.errors import ConfigError, EvidenceError
from agent.process.descriptors import raise_limit
from agent.simulator.recorder import AgencyKeys, SimulatedRecorder
from agent.simulator.report import Results
from agent.trust import tls
from agent.trust.tls import CertificateAuthority

DROPPING = 0.2
"""This share of the devices loses its connection once, in the middle."""
PATIENCE_S = 120.0
"""Events that are not acknowledged so long after the last docking count as lost."""
SILENCE_S = 30.0
"""If no device was answered so long after the first docking, there is no station of this agency."""
THREADS = 8
WATCH_S = 0.5
DESCRIPTORS = 3
"""Of each connection: its socket, and the pair with which paho wakes itself."""
_TURN_NS = NS
_SOON_NS = NS // 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated.

    Attributes:
        agency: The devices' agency.
        authority: Makes their certificates for TLS.
        keys: Certify them; None: they show no checkpoint and are never attested.
        brokers: Hosts and ports: one broker, or all nodes of one cluster.
        devices, events: How many, and how many events each has.
        within_s: They dock at random moments within so many seconds; 0: all at once.
        leave_s: They leave at random moments within so many seconds after the last has docked.
        first: Number of the first device's name.
    """

    agency: str
    authority: CertificateAuthority
    keys: AgencyKeys | None
    brokers: Sequence[tuple[str, int]]
    devices: int
    events: int
    within_s: float
    leave_s: float = 5.0
    first: int = 1

    @property
    def names(self) -> list[str]:
        """Names of the devices, which are their client ids too."""
        return [f"simulated-{number}" for number in range(self.first, self.first + self.devices)]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress: devices that have docked so far, are connected now, and have left."""

    devices: int
    docked: int
    connected: int
    left: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Shared:
    """Shared by all devices."""

    clocks: Clocks
    random_bytes: Callable[[int], bytes]
    dice: random.Random
    measured: Results
    all_docked: threading.Event = field(default_factory=threading.Event)


class _Id(msgspec.Struct):
    """The part of a sent event that is parsed."""

    id: str


class _Device:
    """One simulated device."""

    def __init__(
        self,
        recorder: SimulatedRecorder,
        topics: Topics,
        broker: BrokerSection,
        *,
        dock_ns: int,
        stay_ns: int,
        drops: bool,
        attested: bool,
        world: _Shared,
    ) -> None:
        self._recorder = recorder
        self._topics = topics
        self._clocks = world.clocks
        self._random_bytes = world.random_bytes
        self._measured = world.measured
        self._all_docked = world.all_docked
        self._session = Session(topics, Cursor())
        self._session.add_lines(recorder.lines)
        self.connection = Connection(
            broker,
            (topics.ack, topics.dock, topics.policy, topics.agency_policy),
            world.clocks.monotonic_ns,
            world.dice.uniform,
        )
        self._contact_ns = self.due_ns = dock_ns
        self._stay_ns = stay_ns
        self._leave_ns: int | None = None
        self._drops = drops
        self._wants_attestation = attested
        self._name = ""
        self._attempt_ns = 0
        self._waited = False
        self._up = False
        self._sent_ns: dict[int, int] = {}
        self._events: dict[str, int] = {}
        self.attempts = 0
        self.attempted = False
        self.cut = False
        self.connections_lost = 0
        self.docked = False
        self.attested = False
        self.done = False
        self.lost = len(recorder.lines)

    def begin(self, now: int) -> None:
        """The shift change begins now."""
        self.due_ns += now
        self._contact_ns += now

    def turn(self) -> None:
        """Do what is due, and set when the next turn is."""
        before = self._attempt_ns
        self.connection.turn(0, lambda: self._session.will(self._new_attempt()))
        self.attempted = self._attempt_ns != before
        now = self._clocks.monotonic_ns()
        self._notice_connection(now)
        self._measure_pubacks(now)
        self._receive(now)
        if self._up:
            self._publish_due(now)
        self.due_ns = now + (_TURN_NS if self._up else _SOON_NS)

    def _new_attempt(self) -> str:
        """Count and name an attempt to connect."""
        self._name = self._random_bytes(8).hex()
        self._attempt_ns = self._clocks.monotonic_ns()
        self.attempts += 1
        if not self._waited:
            self._waited = True
            self._measured.late.append((self._attempt_ns - self._contact_ns) / 1e6)
        return self._name

    def _notice_connection(self, now: int) -> None:
        """Notice a new or lost connection."""
        connected = self.connection.connected
        if connected and not self._up:
            self.docked = True
            self._measured.connect.append((now - self._attempt_ns) / 1e6)
            self._session.connected(self._name, now)
        elif self._up and not connected:
            self.connections_lost += 1
        if self._up != connected:
            self._sent_ns.clear()
            self.connection.taken.clear()
        self._up = connected

    def _measure_pubacks(self, now: int) -> None:
        """Measure the PUBACKs that have come since."""
        for number in self.connection.taken:
            sent_ns = self._sent_ns.pop(number, None)
            if sent_ns is not None:
                self._measured.publish.append((now - sent_ns) / 1e6)
        self.connection.taken.clear()

    def _receive(self, now: int) -> None:
        while self.connection.received:
            message = self.connection.received.popleft()
            if message.topic == self._topics.dock:
                self._receive_attestation(now, message.payload)
                continue
            try:
                ack = decode(message.payload, Ack)
            except EvidenceError:
                continue
            self._session.acknowledge(ack, now)
            for event in ack.ids:
                said_ns = self._events.get(event, 0)
                if said_ns > 0:
                    self._measured.acknowledge.append((now - said_ns) / 1e6)
                    self._events[event] = 0  # a repeated acknowledgement is not measured
            if self.lost and not self._session.unacknowledged:
                self._measured.reported.append((now - self._contact_ns) / 1e6)
            self.lost = self._session.unacknowledged

    def _receive_attestation(self, now: int, payload: bytes) -> None:
        believed = self._recorder.attested(payload.decode("ascii", "replace"))
        if believed and not self.attested:
            self.attested = True
            self._measured.attest.append((now - self._contact_ns) / 1e6)

    def _publish_due(self, now: int) -> None:
        asked = list(self._session.lines_to_confirm)
        for publication in self._session.publications_due(self._recorder.status(self._name, asked), now):
            self._publish(publication)
        if self._drops:
            self._drops = False
            self.connection.cut()
            self.cut = True
        elif not self.lost and self._may_leave(now) and (self.attested or not self._wants_attestation):
            self.connection.end(self._session.farewell())
            self._up = False
            self.done = True

    def _may_leave(self, now: int) -> bool:
        if self._leave_ns is None and self._all_docked.is_set():
            self._leave_ns = now + self._stay_ns
        return self._leave_ns is not None and now >= self._leave_ns

    def _publish(self, publication: Publication) -> None:
        now = self._clocks.monotonic_ns()
        if publication.topic == self._topics.event:
            self._events.setdefault(msgspec.json.decode(publication.payload, type=_Id).id, now)
        number = self.connection.publish(publication)
        if number is not None:
            self._sent_ns[number] = now

    @property
    def connected(self) -> bool:
        """As of its last turn."""
        return self._up


def simulate(
    plan: Plan,
    *,
    clocks: Clocks,
    random_bytes: Callable[[int], bytes],
    dice: random.Random,
    threads: int = THREADS,
    watch: Callable[[Progress], None] = lambda _progress: None,
    patience_s: float = PATIENCE_S,
    silence_s: float = SILENCE_S,
) -> Results:
    """Simulate a shift change until all have left, or `patience_s` has passed.

    Args:
        plan: What to simulate.
        clocks: Both clocks.
        random_bytes: For keys, nonces and names of connections.
        dice: Decides when each docks, and who loses a connection.
        threads: How many share the devices.
        watch: Called twice a second.
        patience_s: Events that are not acknowledged so long after the last docking count as lost.
        silence_s: So long after the first docking, some device must have been answered.

    Raises:
        ConfigError: The machine allows too few open files, or no station answers.
    """
    raise_limit(DESCRIPTORS * plan.devices)
    measured = Results(devices=plan.devices, events=plan.devices * plan.events)
    with tempfile.TemporaryDirectory(prefix="bwc-fleet-") as folder:
        world = _Shared(clocks, random_bytes, dice, measured)
        fleet = _fleet(plan, Path(folder), world)
        begun = clocks.monotonic_ns()
        silent_until = begun + min(device.due_ns for device in fleet) + round(silence_s * NS)
        for device in fleet:  # made before, so that generating keys does not distort the measurement
            device.begin(begun)
        end = begun + round((plan.within_s + plan.leave_s + patience_s) * NS)
        stopped = threading.Event()
        with ThreadPoolExecutor(threads) as pool:
            working = [pool.submit(_work, fleet[part::threads], end, clocks, stopped) for part in range(threads)]
            try:
                while wait(working, WATCH_S).not_done:
                    progress = _progress(fleet, measured, (clocks.monotonic_ns() - begun) / NS)
                    watch(progress)
                    if progress.docked == progress.devices:
                        world.all_docked.set()
                    if clocks.monotonic_ns() >= silent_until and not (
                        len(measured.acknowledge) or len(measured.attest)
                    ):
                        raise ConfigError(_nobody_answered(plan, progress, silence_s))
            finally:
                stopped.set()
            for work in working:
                work.result()
        measured.seconds = (clocks.monotonic_ns() - begun) / NS
    measured.lost = sum(device.lost for device in fleet)
    measured.connections_lost = sum(device.connections_lost for device in fleet)
    measured.connections_cut = sum(device.cut for device in fleet)
    measured.never_docked = sum(not device.docked for device in fleet)
    measured.never_attested = sum(not device.attested for device in fleet) if plan.keys else 0
    measured.attempts_failed = sum(device.attempts for device in fleet) - len(measured.connect)
    return measured


def _nobody_answered(plan: Plan, progress: Progress, silence_s: float) -> str:
    where = ", ".join(f"{host}:{port}" for host, port in plan.brokers)
    remedy = (
        "does it run beside this broker, and is --agency its agency?"
        if progress.docked
        else "does the broker run, and is --agency the agency of its certificates?"
    )
    return (
        f"no station of agency {plan.agency!r} answered within {silence_s:.0f} s: {where} has let in "
        f"{progress.docked} of {progress.devices} devices; {remedy}"
    )


def _progress(fleet: Sequence[_Device], measured: Results, seconds: float) -> Progress:
    docked, connected, left = (sum(getattr(one, name) for one in fleet) for name in ("docked", "connected", "done"))
    measured.most_connected = max(measured.most_connected, connected)
    return Progress(len(fleet), docked, connected, left, seconds)


def _fleet(plan: Plan, folder: Path, world: _Shared) -> list[_Device]:
    fleet = []
    for name in plan.names:
        place, topics = folder / name, Topics(plan.agency, name)
        plan.authority.client(name).save(place, plan.authority)
        recorder = SimulatedRecorder(
            topics, plan.keys, events=plan.events, clocks=world.clocks, random_bytes=world.random_bytes
        )
        dock_ns = round(world.dice.uniform(0, plan.within_s) * NS)
        stay_ns = round(world.dice.uniform(0, plan.leave_s) * NS)
        device = _Device(
            recorder,
            topics,
            _section(place, plan.brokers),
            dock_ns=dock_ns,
            stay_ns=stay_ns,
            drops=world.dice.random() < DROPPING,
            attested=plan.keys is not None,
            world=world,
        )
        fleet.append(device)
    return fleet


def _work(share: Sequence[_Device], end: int, clocks: Clocks, stopped: threading.Event) -> None:
    """Give each device of a share its turns."""
    by_descriptor: dict[int, _Device] = {}
    due = [(device.due_ns, number) for number, device in enumerate(share)]
    heapq.heapify(due)
    with select.epoll() as ready:
        while due and clocks.monotonic_ns() < end and not stopped.is_set():
            wait_ns = max(0, due[0][0] - clocks.monotonic_ns())
            for descriptor, _ in ready.poll(min(wait_ns / NS, 0.5)):
                _turn(by_descriptor[descriptor], ready, by_descriptor)
            now = clocks.monotonic_ns()
            while due and due[0][0] <= now:
                number = heapq.heappop(due)[1]
                device = share[number]
                if device.done:
                    continue
                _turn(device, ready, by_descriptor)
                if not device.done:
                    heapq.heappush(due, (device.due_ns, number))
                if device.attempted:
                    break  # it took long: first serve what came for the others meanwhile


def _turn(device: _Device, ready: select.epoll, by_descriptor: dict[int, _Device]) -> None:
    if device.done:
        return
    device.turn()
    descriptor = device.connection.fileno()
    if device.attempted and descriptor >= 0:
        by_descriptor[descriptor] = device
        with contextlib.suppress(FileExistsError):
            ready.register(descriptor, select.EPOLLIN)


def _section(folder: Path, brokers: Sequence[tuple[str, int]]) -> BrokerSection:
    (host, port), *others = brokers
    return BrokerSection(
        host=host,
        port=port,
        others=[f"[{name}]:{number}" if ":" in name else f"{name}:{number}" for name, number in others],
        ca=str(folder / tls.CA_CERTIFICATE),
        certificate=str(folder / tls.CERTIFICATE),
        key=str(folder / tls.KEY),
        jitter_s=0,  # the moments of docking are random already
    )
