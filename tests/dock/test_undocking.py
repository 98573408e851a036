"""Recorder, dock service and station as they run, each a process: how soon a session ends once the camera is taken."""

import time
from pathlib import Path

import pytest

from agent.journal import entries
from tests.support.broker import Broker
from tests.support.docking import DEVICE, Docked
from tests.support.outside import dock_outside, station_outside
from tests.support.running import Running, provision

_ESTABLISHED = "01"


def sessions(broker: Broker) -> int:
    """How many TCP connections end at the broker's port, as the kernel sees it."""
    port = f":{broker.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(port) and line.split()[3] == _ESTABLISHED for line in lines)


def test_session_ends_within_a_second_of_the_contact_and_the_recording_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench").mkdir()
    bench = Docked(tmp_path / "bench")
    bench.broker.start()
    config = provision(tmp_path / "pilot")
    with Running(config) as recorder:
        bench.run = recorder.run_directory
        evidence = bench.folder / "evidence"
        evidence.rename(bench.folder / "unused")
        evidence.symlink_to(recorder.evidence)
        station_outside(bench, {})
        dock = dock_outside(bench, {})
        try:
            recording = recorder.record(0.2)
            recorder.ask("press", name="dock_contact", hold_s=0.1, times=1)  # a switch stays there
            recorder.until(lambda status: status["docked"] and bench.row_known() and bench.row().state == "docked")
            assert sessions(bench.broker) == 2  # the station's, and the dock's
            recorder.ask("press", name="dock_contact", hold_s=0.1, times=1)
            until = time.monotonic() + 20
            while sessions(bench.broker) == 2:
                assert time.monotonic() < until
                time.sleep(0.005)
            ended_us = time.monotonic_ns() // 1000
            recorder.until(lambda _status: bench.row().state == "undocked")
            assert dock.process.poll() is None
            opened = [e for e in recorder.entries() if isinstance(e, entries.DockContact) and not e.closed]
            took_ms = (ended_us - opened[-1].at_us) / 1000
            with capsys.disabled():
                print(f"\nthe session ended {took_ms:.0f} ms after the contact had opened")
            assert 0 < took_ms < 1000
            status = recorder.status()
            assert (status["mode"], status["recording"], status["docked"]) == ("recording", recording, False)
            assert status["device"] == DEVICE
            assert recorder.terminate() == 0
        finally:
            bench.end()
