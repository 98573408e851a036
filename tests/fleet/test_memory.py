"""What the dock service of one device takes, as the process that it is, after a long shift."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import entries
from tests.support.broker import AGENCY
from tests.support.docking import DEVICE, Docked
from tests.support.fleet import Process, broker_table

MOST_MB = 60
EVENTS = 5000
"""Far more than a shift has: what is read must not stay in memory."""


@pytest.fixture
def docked(tmp_path: Path) -> Iterator[Docked]:
    bench = Docked(tmp_path)
    bench.broker.start()
    bench.start_station()
    yield bench
    bench.end()


def cursor(docked: Docked) -> int:
    file = docked.folder / "dock-state" / "cursor.json"
    return int(json.loads(file.read_text())["line"]) if file.exists() else 0


def test_dock_service_of_a_device_takes_at_most_60_mb(docked: Docked) -> None:
    for number in range(EVENTS):
        docked.device.recorder.journal.post(entries.Tampered(f"test-{number}", 0))
        if number % 100 == 0:
            docked.device.settle()
    docked.device.settle()
    docked.contact(closed=True)
    config = docked.folder / "dock.toml"
    config.write_text(
        f'[dock]\nagency = "{AGENCY}"\ndevice = "{DEVICE}"\nrun = "run"\nevidence = "evidence"\n'
        f'state = "dock-state"\n\n{broker_table(docked.client)}'
    )
    docked.in_process = False
    service = Process(docked.folder / "dock-log", "dock", "--config", config)
    try:
        docked.until(lambda: docked.device.recorder.status().docked, 60)
        docked.until(lambda: len(docked.stored()) >= EVENTS and cursor(docked) >= EVENTS, 120)
        peak = service.peak_mb()
        print(
            f"\ndock service: {peak:.1f} MB at its peak, {len(docked.stored())} events, {service.cpu_s():.1f} s of CPU"
        )
        service.until(lambda: "connected to" in service.said)
    finally:
        service.end()
    assert peak <= MOST_MB
