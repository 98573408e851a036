"""The first block of commands of docs/guide/first-steps.md, typed as it stands, does what it says."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cli import EXIT_BAD
from tests.docs.markdown import ROOT, fenced

PAGE = ROOT / "docs" / "guide" / "first-steps.md"
PATIENCE_S = 60.0
CONFIG = "pilot/device/config.toml"
PREPARES = "make .venv/.ready"
"""How the line begins that makes the environment that these tests run in."""
Status = dict[str, Any]


class Terminal:
    """A shell's work with one job in the background.

    Args:
        folder: Where it works.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        bin_folder = Path(sys.executable).parent
        self._environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
        self._job: subprocess.Popen[bytes] | None = None

    def type(self, line: str) -> int:
        """Type a line; its exit code, 0 for a job that is started."""
        command = line.partition("#")[0].strip()
        if command == "kill %1":
            assert self._job is not None
            self._job.send_signal(signal.SIGTERM)
            return self._job.wait(PATIENCE_S)
        if command.endswith("&"):
            words = command.removesuffix("&").split()
            self._job = subprocess.Popen(words, cwd=self._folder, env=self._environment)
            return 0
        return subprocess.run(command.split(), cwd=self._folder, env=self._environment, check=False).returncode

    def status(self) -> Status:
        """The recorder's status; empty while it does not answer."""
        command = ["bwc-agent", "ctl", "status", "--json", "--config", CONFIG]
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        found: Status = json.loads(done.stdout) if done.stdout else {}
        return found

    def until(self, what: str, holds: Callable[[Status], bool]) -> None:
        """Ask for the status until something holds.

        Raises:
            AssertionError: It did not in time.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not holds(status := self.status()):
            assert time.monotonic() < deadline, (what, status)

    def close(self) -> None:
        """End the job if it still runs."""
        if self._job is not None and self._job.poll() is None:
            self._job.kill()
            self._job.wait()


def test_the_first_steps_work_as_they_are_written() -> None:
    lines = fenced(PAGE.read_text("utf-8"))[0].splitlines()
    prepares, init, doctor, run, start, stop, declare, again, status, end, verify, opened, ledger = filter(None, lines)
    assert prepares.startswith(PREPARES)
    folder = Path(tempfile.mkdtemp(prefix="bwc-"))  # a short path, as the recorder's socket needs
    terminal = Terminal(folder)
    try:
        assert terminal.type(init) == 0
        assert terminal.type(doctor) in {
            0,
            EXIT_BAD,
        }  # the latter where nobody synchronises the clock, as the page says
        assert terminal.type(run) == 0
        terminal.until("it stands by", lambda status: status.get("mode") == "standby")
        assert terminal.type(start) == 0
        terminal.until("it records", lambda status: status.get("mode") == "recording")
        assert terminal.type(stop) == EXIT_BAD
        refused = terminal.status()
        assert (refused["refused"], refused["mode"]) == (1, "recording")
        assert terminal.type(declare) == 0
        assert terminal.type(again) == 0
        terminal.until("it stands by again", lambda status: status.get("mode") == "standby")
        assert terminal.type(status) == 0
        assert terminal.type(end) == 0
        for line in (verify, opened, ledger):
            assert terminal.type(line) == 0, line
        assert (folder / "stop.mp4").stat().st_size > 0
    finally:
        terminal.close()
        shutil.rmtree(folder)
