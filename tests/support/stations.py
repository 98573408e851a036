"""A real station and its database, turned by hand; only the broker is a stand-in that hands messages over."""

import collections
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from agent.dock.config import BrokerSection
from agent.dock.messages import Publication
from agent.dock.mqtt import Limits, Received
from agent.keys import files
from agent.station import service
from agent.station.quota import Quota
from agent.station.service import Station
from agent.station.store import Store
from tests.support.clean_up import after_test
from tests.support.clocks import FakeClocks
from tests.support.device import agency, trust

FULL: dict[str, Any] = {
    "v": 1,
    "agency": "city",
    "device": "cam-1",
    "session": "0123456789abcdef",
    "version": "1",
    "mode": "standby",
    "contact": True,
    "docked": False,
    "nonce": "A" * 22,
    "policy": {"name": "x", "version": 1, "digest": "0" * 64},
    "clock": {"source": "ntp", "within_ms": 1},
    "storage": {"free_bytes": 1, "time_left_s": 1, "failing": False},
    "evidence": {"recordings": 0, "segments": 0, "bytes": 0, "pending_segments": 0},
    "since_dock": {"refused": 0, "tampered": 0},
    "self_test": None,
    "checkpoint": None,
    "confirms": [],
    "battery_pct": None,
    "temperature_c": None,
    "uptime_s": 0,
    "boots": 1,
}


def status(**more: Any) -> bytes:
    return json.dumps(FULL | more).encode()


def event(
    number: int = 1, device: str = "cam-1", kind: str = "tampered", *, digest: str = "", line: int = 1, **entry: Any
) -> bytes:
    """An event as a device says it: nothing ties its id to anything."""
    digest = digest or f"{number:064x}"
    data = {"line": line, "hash": digest, "clock": "ntp", "within_ms": 1, "mono_us": 1, "entry": {"kind": kind} | entry}
    told = {
        "specversion": "1.0",
        "id": digest,
        "source": f"/bwc/city/{device}",
        "type": f"bwc.v1.{kind}",
        "time": "2026-01-01T00:00:00.000000Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:bwc:v1:event",
        "data": data,
    }
    return json.dumps(told).encode()


class StandIn:
    """Of `agent.dock.mqtt.Connection`, connected all the time."""

    def __init__(self, *_positional: object, **_named: object) -> None:
        self.received: collections.deque[Received] = collections.deque()
        self.connected = True
        self.began = "x"
        self.problem = ""
        self.version = "5"
        self.place = ("h", 1)
        self.published: list[Publication] = []

    def turn(self, _wait: float, _will: Callable[[], object]) -> None:
        return

    def publish(self, publication: Publication) -> int:
        self.published.append(publication)
        return 1

    def end(self, farewell: Sequence[Publication] = ()) -> None:
        self.published += farewell


class Rig:
    """Args:
    folder: Where the database lies.
    quota: The station's.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, quota: Quota | None = None) -> None:
        monkeypatch.setattr(service, "Connection", StandIn)
        self.path = folder / "station.sqlite"
        self.store = Store(self.path)
        after_test(self.store.close)
        self.clocks = FakeClocks()
        self.said: list[str] = []
        self.station = Station(
            name="station-1",
            agency="city",
            trust=trust(),
            signer=files.load_signer(f"file:{agency().station}"),
            store=self.store,
            broker=BrokerSection(host="localhost", ca="x", certificate="x", key="x"),
            clocks=self.clocks,
            quota=quota or Quota(),
            log=self.said.append,
        )
        self.connection = cast("StandIn", self.station.connection)

    def hand(
        self, kind: str, payload: bytes, device: str = "cam-1", *, retained: bool = False, content_type: str = ""
    ) -> None:
        """A message that comes in the next turn."""
        limits: Limits = service.LIMITS
        topic = f"bwc/v1/city/{device}/{kind}"
        if len(payload) > limits.message:
            self.connection.received.append(Received(topic, b"", retained, len(payload)))
        else:
            self.connection.received.append(Received(topic, payload, retained, content_type=content_type))

    def send(
        self, kind: str, payload: bytes, device: str = "cam-1", *, retained: bool = False, content_type: str = ""
    ) -> None:
        self.hand(kind, payload, device, retained=retained, content_type=content_type)
        self.station.turn(0)

    def acknowledged(self, device: str = "cam-1") -> list[str]:
        """Ids that were acknowledged to this device."""
        topic = f"bwc/v1/city/{device}/inbox/ack"
        return [
            digest
            for said in self.connection.published
            if said.topic == topic
            for digest in json.loads(said.payload)["ids"]
        ]

    def stored(self, device: str = "cam-1") -> list[str]:
        return [digest for digest, _, _ in self.store.events(device)]

    def alarms(self, device: str = "cam-1") -> list[str]:
        return [kind for kind, _ in self.store.alarms(device)]

    def bytes(self) -> int:
        """Of the database and what belongs to it, with nothing left in its write-ahead log."""
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*"))
