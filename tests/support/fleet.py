"""A station, a dock service and a simulated fleet, each as the command that it is, in a process of its own."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.dock.config import BrokerSection
from agent.keys import files
from agent.trust.tls import CertificateAuthority
from tests.support.broker import AGENCY
from tests.support.device import agency, trust
from tests.support.running import ROOT


def broker_table(broker: BrokerSection) -> str:
    """The `[broker]` table of a configuration."""
    fields = {name: getattr(broker, name) for name in broker.__struct_fields__}
    return "[broker]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


class Process:
    """A command of ours that runs until it is told to end."""

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent", *map(str, arguments)], stdout=stream, stderr=stream, cwd=ROOT
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, reached: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not reached():
            assert self._process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.05)

    def peak_mb(self) -> float:
        """The most memory that was ever resident (VmHWM)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None, status
        return int(found[1]) * 1024 / 1e6

    def cpu_s(self) -> float:
        """Processor time so far, user's and system's (proc(5), fields 14 and 15)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(20) == 0, self.said


class StationProcess(Process):
    """`bwc-agent station`; its database is `store`."""

    def __init__(self, folder: Path, broker: BrokerSection) -> None:
        folder.mkdir(exist_ok=True)
        self.store = folder / "station.sqlite"
        made = agency()
        config = folder / "station.toml"
        config.write_text(
            f'[station]\nname = "station-1"\nagency = "{AGENCY}"\ntrust = "{made.trust}"\nroot = "{trust().root_kid}"\n'
            f'key = "file:{made.station}"\ndatabase = "{self.store}"\n\n' + broker_table(broker)
        )
        super().__init__(folder / "log", "station", "--config", config)
        self.until(self._serves)

    def _serves(self) -> bool:
        return "connected to" in self.said

    def stored(self) -> list[tuple[str, int, str]]:
        """Device, line and id of all events that are kept."""
        database = sqlite3.connect(f"{self.store.as_uri()}?mode=ro", uri=True)
        try:
            return database.execute("SELECT device, line, id FROM events ORDER BY device, line").fetchall()
        finally:
            database.close()

    def alarms(self) -> list[tuple[str, str]]:
        database = sqlite3.connect(f"{self.store.as_uri()}?mode=ro", uri=True)
        try:
            return database.execute("SELECT device, kind FROM alarms").fetchall()
        finally:
            database.close()


def missing(stored: Sequence[tuple[str, int, str]], names: Sequence[str], events: int) -> list[str]:
    """What a station lacks, or has twice, of devices with the lines 1 to `events`; empty if all is there once."""
    lines: dict[str, list[int]] = {name: [] for name in names}
    for device, line, _ in stored:
        lines.setdefault(device, []).append(line)
    expected = list(range(1, events + 1))
    return [f"{name}: {found} for 1 to {events}" for name, found in lines.items() if found != expected]


def save_authority(folder: Path, authority: CertificateAuthority) -> Path:
    """The CA's key, as `fleet simulate` reads it."""
    path = folder / "broker-ca.pem"
    if not path.exists():
        files.save_signing_key(path, authority.key, None, os.urandom)
    return path


def simulate(authority: Path, places: Sequence[str], *options: str) -> tuple[int, dict[str, Any]]:
    """`bwc-agent fleet simulate`: its exit code and what it measured. Its progress is passed on."""
    brokers = [word for place in places for word in ("--broker", f"mqtts://{place}")]
    office = ["--root", str(agency().root), "--trust", str(agency().trust)]
    argv = ["fleet", "simulate", "--authority", str(authority), "--agency", AGENCY, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "agent", *argv, *office, *brokers, *options],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def print_measured(title: str, measured: dict[str, Any]) -> None:
    """For whoever reads the suite's output."""
    print(f"\n{title}: {measured['devices']} devices, {measured['events']} events, {measured['seconds']} s", flush=True)
    for name, value in measured.items():
        if isinstance(value, dict):
            print(f"  {name:16}" + "".join(f"{key} {figure:>9,}  " for key, figure in value.items()))
        else:
            print(f"  {name:16}{value:,}")
