"""Dock service and station as programs of their own, in the place of those that a test turns by hand."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from agent.station.store import Store
from tests.support.broker import AGENCY
from tests.support.device import agency, trust
from tests.support.docking import DEVICE, Docked


class Outside:
    """A service of ours in a process of its own, in the place of one that is turned by hand."""

    def __init__(self, command: str, config: Path, environment: Mapping[str, str], said: list[str]) -> None:
        self.log = config.with_suffix(".log")
        self._said = said
        self.connection = self  # it is ended as one
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", command, "--config", str(config)],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    def turn(self, wait_s: float = 0.02) -> None:
        time.sleep(wait_s)  # it turns by itself
        assert self.process.poll() is None, self.log.read_text()
        self._said[:] = self.log.read_text().splitlines()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def broker_section(bench: Docked, name: str) -> str:
    section = bench.broker.client(name)
    fields = {name: getattr(section, name) for name in section.__struct_fields__}
    return "[broker]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


def dock_outside(bench: Docked, environment: Mapping[str, str]) -> Outside:
    config = bench.folder / "dock.toml"
    section = {
        "agency": AGENCY,
        "device": DEVICE,
        "run": str(bench.run),
        "evidence": str(bench.folder / "evidence"),
        "state": str(bench.folder / "dock-state"),
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in section.items())
    config.write_text("[dock]\n" + lines + broker_section(bench, DEVICE))
    outside = Outside("dock", config, environment, bench.said)
    bench.dock = outside  # type: ignore[assignment]
    return outside


def station_outside(bench: Docked, environment: Mapping[str, str]) -> Outside:
    config = bench.folder / "station.toml"
    section = {
        "name": "station-1",
        "agency": AGENCY,
        "trust": str(agency().trust),
        "root": trust().root_kid,
        "key": f"file:{agency().station}",
        "database": str(bench.database),
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in section.items())
    config.write_text("[station]\n" + lines + broker_section(bench, "station:1"))
    outside = Outside("station", config, environment, bench.station_said)
    bench.station = outside  # type: ignore[assignment]
    bench.until(bench.database.exists)
    if bench.store is not None:
        bench.store.close()
    bench.store = Store(bench.database)
    return outside
