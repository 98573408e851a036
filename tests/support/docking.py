"""A device, its dock service, a broker and a station, all turned by hand: real files, real TLS, real Mosquitto."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from agent.brokers import mosquitto
from agent.clock import NS, Clocks, SystemClocks
from agent.core.recording.events import DockContact
from agent.decisions.interface import Policy
from agent.dock.config import BrokerSection, DockConfig, DockSection
from agent.dock.service import DockService
from agent.keys import files
from agent.keys.signer import Signer
from agent.recorder.ipc import inbox
from agent.recorder.ipc.status import write_snapshot
from agent.station.fleet import Row, rows
from agent.station.service import Station
from agent.station.store import Store
from agent.storage.disk import DiskStorage
from tests.support.broker import AGENCY, Broker
from tests.support.clocks import FakeClocks
from tests.support.device import Device, GrantsAll, agency, trust
from tests.support.networks import STATION_ADDRESS, End, Networks

DEVICE = "cam-1"
WAIT_S = 0.02


class Docked:
    """Everything in one thread, but for the broker.

    Args:
        folder: Where all of it lies.
        client: How the dock reaches the broker.
        broker: Instead of one of its own.
        policy: What the recorder decides by.
        networks: Broker and station are at one end of this cable, the dock at the other.
    """

    def __init__(
        self,
        folder: Path,
        *,
        client: BrokerSection | None = None,
        broker: Broker | None = None,
        policy: Policy | None = None,
        networks: Networks | None = None,
    ) -> None:
        self.folder = folder
        self.networks = networks
        self.host = STATION_ADDRESS if networks else "localhost"
        if broker is None:
            broker = Broker(folder, hosts=[self.host], address=self.host) if networks else Broker(folder)
        self.broker = broker
        self.client = client or self.broker.client(DEVICE, host=self.host)
        self.run = folder / "run"
        self.run.mkdir()
        self.inbox = inbox.make_folder(self.run)
        clocks = FakeClocks()
        clocks.utc_offset_ns = time.time_ns()
        self.device = Device(clocks=clocks, storage=DiskStorage(folder / "evidence"), policy=policy or GrantsAll())
        self.said: list[str] = []
        self.in_process = True
        """The dock service has its turns here; else a test runs one in a process of its own."""
        self.skew_ns = 0
        self.station_said: list[str] = []
        self.dock = self.make_dock()
        self.database = folder / "station.sqlite"
        self.station_clocks: Clocks = SystemClocks()
        self.station_signer: Signer = files.load_signer(f"file:{agency().station}")
        self.trust = trust()
        self.store: Store | None = None
        self.station: Station | None = None

    def make_dock(self) -> DockService:
        section = DockSection(
            agency=AGENCY,
            device=DEVICE,
            run=str(self.run),
            evidence=str(self.folder / "evidence"),
            state=str(self.folder / "dock-state"),
        )
        config = DockConfig(dock=section, broker=self.client)
        return DockService(
            config,
            self.folder / "dock.toml",
            monotonic=lambda: time.monotonic_ns() + self.skew_ns,
            log=self.said.append,
        )

    def later(self, seconds: float) -> None:
        """The dock service finds that so much time has passed."""
        self.skew_ns += round(seconds * NS)

    def start_station(self) -> None:
        self.store = Store(self.database)
        self.station = Station(
            name="station-1",
            agency=AGENCY,
            trust=self.trust,
            signer=self.station_signer,
            store=self.store,
            broker=self.broker.client(mosquitto.STATION, host=self.host),
            clocks=self.station_clocks,
            log=self.station_said.append,
        )

    def at(self, end: End) -> AbstractContextManager[None]:
        """What is opened within is at that end of the cable, if there is one."""
        return self.networks.at(end) if self.networks else nullcontext()

    def start_broker(self) -> None:
        with self.at("station"):
            self.broker.start()

    def kill_station(self) -> None:
        """As a power cut: what was not committed is gone, nobody is told."""
        assert self.station is not None
        assert self.store is not None
        client = self.station.connection._client
        line = None if client is None else client.socket()
        if line is not None:
            line.close()
        self.store.close()
        self.station = self.store = None

    def close_station(self) -> None:
        """In order."""
        assert self.station is not None
        assert self.store is not None
        self.station.connection.end()
        self.store.close()
        self.station = self.store = None

    def contact(self, *, closed: bool) -> None:
        self.device.recorder.control.handle(DockContact(self.device.clocks.now_ns, closed=closed))
        self.device.settle()

    def turn(self) -> None:
        """Everything gets its turn once, and some recorder time passes."""
        self.device.clocks.advance(0.25)
        self.device.settle()
        write_snapshot(self.run, self.device.recorder.status())
        for message in inbox.take(self.inbox):
            self.device.recorder.deliveries.deliver(message)
        if self.in_process:
            with self.at("dock"):
                self.dock.turn(WAIT_S)
        if self.station is not None:
            with self.at("station"):
                self.station.turn(WAIT_S)

    def until(self, reached: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, (self.said, self.station_said, self.broker.log.read_text()[-2000:])
            self.turn()

    def row_known(self) -> bool:
        assert self.store is not None
        return any(row.device == DEVICE for row in rows(self.store))

    def row(self) -> Row:
        """The device as a custodian sees it."""
        assert self.store is not None
        return next(row for row in rows(self.store) if row.device == DEVICE)

    def kinds(self) -> set[str]:
        assert self.store is not None
        return {kind.removeprefix("bwc.v1.") for _, _, kind in self.store.events(DEVICE)}

    def alarms(self) -> list[str]:
        assert self.store is not None
        return [kind for kind, _ in self.store.alarms(DEVICE)]

    def stored(self) -> list[str]:
        assert self.store is not None
        return [event_id for event_id, _, _ in self.store.events(DEVICE)]

    def told(self) -> list[str]:
        """Hashes of all journal lines that a station should know of."""
        from agent.dock.journal import JournalReader

        reader = JournalReader(DiskStorage(self.folder / "evidence"))
        return [line.hash for line in reader.lines(1 << 50, 1 << 20) if line.reported]

    def end(self) -> None:
        self.dock.connection.end()
        if self.station is not None:
            self.station.connection.end()
        if self.store is not None:
            self.store.close()
        self.broker.kill()
        if self.networks is not None:
            self.networks.close()
