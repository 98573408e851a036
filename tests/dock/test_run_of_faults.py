"""One long docking on which everything fails that can, one after the other, in an order that a seed chooses.

Broker and station are at one end of a cable, the dock at the other; the dock's cursor and the station's database lie on
small disks that really fill up. BWC_DOCK_FAULTS says how many faults, BWC_DOCK_SEED in which order; a recording runs
from the first to the last.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.clock import NS, SystemClocks, WallReading
from agent.dock import mqtt
from agent.journal import entries
from agent.station.store import Store
from tests.support.docking import Docked
from tests.support.faults import complete, happen, hear_nothing
from tests.support.networks import Networks
from tests.support.outside import dock_outside, station_outside
from tests.support.permissions import fill, small_disk

FAULTS = int(os.environ.get("BWC_DOCK_FAULTS", "7"))
SEED = int(os.environ.get("BWC_DOCK_SEED", "20261123"))
EVENTS = 20
YEAR_S = 365 * 86_400

KINDS = (
    "broker killed",
    "broker killed, station away",
    "station killed before it stored",
    "station killed after it stored",
    "dock killed",
    "line cut",
    "nothing comes from the dock",
    "nothing comes to the dock",
    "nothing goes either way",
    "cable pulled",
    "broker gone, half open",
    "dock's disk full",
    "station's disk full",
    "recorder's clock off by years",
    "station's clock off by years",
)


class Skewed:
    """A clock that says that it can be trusted, and is wrong."""

    def __init__(self) -> None:
        self.skew_s = 0

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall(self) -> WallReading:
        return WallReading(SystemClocks().wall().utc_ns + self.skew_s * NS, "ntp", 0.1)


class Run:
    """A docking, and the faults that happen to it."""

    def __init__(self, bench: Docked, networks: Networks, dice: random.Random) -> None:
        self.bench = bench
        self.networks = networks
        self.dice = dice
        self.clock = Skewed()
        self.sent = 0

    def events(self, count: int = EVENTS // 2) -> None:
        happen(self.bench, self.sent, count)
        self.sent += count

    def turns(self, most: int = 5) -> None:
        for _ in range(self.dice.randrange(1, most)):
            self.bench.turn()

    def silence(self) -> None:
        """For a moment, or until it is noticed."""
        until = time.monotonic() + self.dice.choice([0.2, 0.5, 3.0])
        while time.monotonic() < until and self.bench.dock.connection.connected:
            self.bench.turn()

    def fault(self, kind: str) -> None:
        bench, networks = self.bench, self.networks
        self.events()
        self.turns()
        match kind:
            case "broker killed":
                bench.broker.kill()
                self.events()
                self.turns()
                bench.start_broker()
            case "broker killed, station away":
                bench.kill_station()
                self.events()
                self.turns(12)
                bench.broker.kill()
                self.turns()
                bench.start_broker()
                bench.start_station()
            case "station killed before it stored":
                self.events()
                with bench.at("dock"):
                    bench.dock.turn()  # it is on its way, and was not read
                bench.kill_station()
                self.turns()
                bench.start_station()
            case "station killed after it stored":
                assert bench.station is not None
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(bench.station, "_send", lambda _answers: None)
                    self.events()
                    self.turns(8)
                bench.kill_station()
                self.turns()
                bench.start_station()
            case "dock killed":
                bench.dock.connection.cut()
                self.events()
                bench.dock = bench.make_dock()
            case "line cut":
                bench.dock.connection.cut()
                self.events()
            case (
                "nothing comes from the dock" | "nothing comes to the dock" | "nothing goes either way" | "cable pulled"
            ):
                match kind:
                    case "nothing comes from the dock":
                        networks.drop_from("dock")
                    case "nothing comes to the dock":
                        networks.drop_from("station")
                    case "nothing goes either way":
                        networks.drop_from("dock", "station")
                    case _:
                        networks.unplug()
                self.events()
                self.silence()
                networks.plug()
            case "broker gone, half open":
                networks.drop_from("dock", "station")
                bench.broker.kill()
                self.events()
                self.silence()
                bench.start_broker()
                networks.plug()
            case "dock's disk full":
                filler = fill(bench.folder / "dock-state")
                self.events()
                self.turns(8)
                if self.dice.random() < 0.5:  # and it is killed before there is room again
                    bench.dock.connection.cut()
                    bench.dock = bench.make_dock()
                self.turns()
                filler.unlink()
            case "station's disk full":
                filler = fill(bench.database.parent)
                self.events(EVENTS)
                self.turns(10)
                filler.unlink()
            case "recorder's clock off by years":
                clocks, years = bench.device.clocks, self.dice.choice([-40, -3, 3, 40])
                clocks.utc_offset_ns += years * YEAR_S * NS
                bench.device.recorder.watch_clock()
                self.events()
                self.turns(8)
                clocks.utc_offset_ns -= years * YEAR_S * NS
                bench.device.recorder.watch_clock()
            case "station's clock off by years":
                self.clock.skew_s = self.dice.choice([-40, 40]) * YEAR_S
                self.events()
                self.turns(8)
                self.clock.skew_s = 0
            case other:
                raise AssertionError(other)
        if self.dice.random() < 0.3:
            bench.later(10)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(mqtt, "CONNECT_S", 1.0)
    networks = Networks()
    with small_disk(tmp_path / "dock-state", "64k"), small_disk(tmp_path / "station", "16m") as database:
        bench = Docked(tmp_path, networks=networks)
        bench.client = msgspec.structs.replace(bench.client, keepalive_s=1)
        bench.dock = bench.make_dock()
        bench.database = database / "station.sqlite"
        made = Run(bench, networks, random.Random(SEED))
        bench.station_clocks = made.clock
        bench.start_broker()
        bench.start_station()
        try:
            yield made
        finally:
            networks.plug()
            bench.end()


@pytest.mark.timeout(900)
def test_thousand_events_and_more_through_faults_of_every_kind_arrive_once_each(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = run.bench
    came = Counter[str]()
    real = Store.put_event

    def counted(store: Store, device: str, event_id: str, line: int, **more: str) -> None:
        real(store, device, event_id, line, **more)
        came[event_id] += 1

    monkeypatch.setattr(Store, "put_event", counted)
    bench.device.run(2)
    bench.device.press("record", times=2)
    recording = bench.device.recording
    bench.contact(closed=True)
    every = run.dice.sample(KINDS, len(KINDS))
    kinds = [every[number % len(KINDS)] for number in range(FAULTS)]
    run.dice.shuffle(kinds)
    begun = time.monotonic()
    for kind in kinds:
        run.fault(kind)
        run.turns()
    hear_nothing(bench)
    bench.until(lambda: complete(bench), 60)
    took = time.monotonic() - begun
    told, stored = bench.told(), bench.stored()
    counted_kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))
    with capsys.disabled():
        print(
            f"\n{run.sent} events, and {len(told) - run.sent} that the recorder told by itself, through {len(kinds)} "
            f"faults in {took:.0f} s (seed {SEED}): {len(stored)} stored, {len(set(told) - set(stored))} lost, "
            f"{len(stored) - len(set(stored))} twice; {sum(came.values())} came.\n{counted_kinds}"
        )
    assert len(told) >= run.sent >= EVENTS * len(kinds)
    assert stored == told
    assert len(set(stored)) == len(stored)
    assert sum(came.values()) > len(stored)  # else nothing was ever said again, and the faults were none
    status = bench.device.recorder.status()
    assert (status.recording, status.mode, status.storage_failing) == (recording, "recording", False)
    assert not bench.device.entries(entries.PacketsLost)
    assert not [kind for kind in bench.alarms() if kind.startswith("history")]
    bench.until(lambda: bench.device.recorder.status().docked, 60)


@pytest.mark.timeout(900)
def test_programs_that_are_killed_at_any_moment_lose_nothing_that_they_acknowledged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9, to the station and to the dock service, each a real process in the middle of its work."""
    dice, kills, sent = random.Random(SEED), max(1, FAULTS // 8), 0
    bench = Docked(tmp_path)
    try:
        bench.broker.start()
        bench.contact(closed=True)
        station, dock = station_outside(bench, {}), dock_outside(bench, {})
        for number in range(kills):
            happen(bench, number, EVENTS)
            sent += EVENTS
            until = time.monotonic() + dice.uniform(0.3, 1.2)
            while time.monotonic() < until:
                bench.turn()
            if number % 2 == 0:
                dock.kill()
                dock = dock_outside(bench, {})
            else:
                station.kill()
                assert bench.store is not None
                bench.store.close()
                station = station_outside(bench, {})
        bench.until(lambda: bench.stored() == bench.told() != [] and bench.device.recorder.status().docked, 60)
        with capsys.disabled():
            print(f"\n{sent} events through {kills} kill -9: {len(bench.stored())} stored, none twice")
        assert len(bench.stored()) == len(set(bench.stored())) > sent
        assert bench.alarms() == []
    finally:
        bench.end()
