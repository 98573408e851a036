"""A real recorder in a process of its own, on a provisioned device in a folder of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from agent.config.template import write_config
from agent.errors import ControlError
from agent.evidence import layout
from agent.gpio.config import BENCH_CONTROLS
from agent.journal.entries import AnyEntry
from agent.journal.format import parse_line, split_lines
from agent.provisioning.first_bundle import sign_first_bundle
from agent.recorder.ipc.local_socket import ask
from tests.support.clocks import FakeClocks
from tests.support.device import agency

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0
LOOK_S = 0.02


def provision(folder: Path, *, camera: str = "pattern:160x120@30") -> Path:
    """A provisioned device in `folder`; its configuration file. Its root, keys and trust are those of `agency()`."""
    shutil.copytree(agency().device_key.parent.parent, folder)
    file = write_config(folder / "device", camera=camera, controls=BENCH_CONTROLS, pre_event_s=1.0)
    sign_first_bundle(folder, "city", "us-mo-kcpd", FakeClocks(), None)
    return file


def change(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One of our own commands, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )


@dataclass
class Running:
    """A recorder's process.

    Attributes:
        config: Its configuration, whose run directory is replaced by a short one: a socket's path is short.
        prefix: A command to start it with, such as `unshare -n`.
        agent: How to call `bwc-agent`.
        environment: More variables.
        stderr: Where its standard error goes instead of `log`.
    """

    config: Path
    prefix: Sequence[str] = ()
    agent: Sequence[str] = (sys.executable, "-m", "agent")
    environment: Mapping[str, str] = field(default_factory=dict)
    stderr: Path | None = None

    def __post_init__(self) -> None:
        self.run_directory = Path(tempfile.mkdtemp(prefix="bwc-run-"))
        change(self.config, 'directory = "run"', f'directory = "{self.run_directory}"')
        self.evidence = self.config.parent / "evidence"
        self.log = self.config.parent.parent / "recorder.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; returns once it answers, has read its storage and sees its camera."""
        with self.log.open("ab") as log, (self.stderr or self.log).open("ab") as error:
            self.process = subprocess.Popen(
                [*self.prefix, *self.agent, "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=error,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.until(lambda status: status["boot"] > 0 and bool(status["tracks"]))
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        return ask(self.run_directory, {"ask": what, **more})

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def until(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until its status is as wanted."""
        status: dict[str, Any] = {}

        def is_good() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the recorder ended: {self.said()[-2000:]}"
            try:
                status.update(self.status())
            except ControlError:
                return False
            return good(status)

        wait_for(is_good, lambda: f"{status}\n{self.said()[-2000:]}")
        return status

    def record(self, seconds: float = 0.0) -> str:
        """Start a recording, and let it run for a while."""
        recording = str(self.ask("start")["recording"])
        self.until(lambda status: status["recording_s"] >= seconds)
        return recording

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> int:
        """SIGTERM, as the service manager sends it; the exit code."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def entries(self, boot: int = 1) -> list[AnyEntry]:
        """What is in the journal, unfinished lines left out."""
        lines, _ = split_lines((self.evidence / layout.journal(boot)).read_bytes())
        return [parse_line(line).entry for line in lines]

    def handles(self) -> list[str]:
        """What its file descriptors lead to."""
        found = []
        for handle in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(str(handle.readlink()))
            except OSError:
                continue  # closed meanwhile
        return found

    def verify(self) -> tuple[int, dict[str, Any]]:
        """What `bwc-agent verify` says of its evidence."""
        trust = str(self.config.parent / "trust.jws")
        done = command("verify", str(self.evidence), "--trust", trust, "--json")
        assert done.returncode < 2 and done.stdout, done.stderr  # noqa: PT018
        return done.returncode, json.loads(done.stdout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.run_directory, ignore_errors=True)


def wait_for(good: Callable[[], bool], why: Callable[[], str] = lambda: "") -> None:
    """Look until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not good():
        assert time.monotonic() < until, f"it did not become so within {PATIENCE_S:.0f} s: {why()}"
        time.sleep(LOOK_S)


class ServiceManager:
    """Listens at a notification socket as systemd does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(PATIENCE_S)
        self.told: list[str] = []

    def fill(self) -> None:
        """Let nothing more come in."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            sender.connect(str(self.path))
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.send(b"full")

    def until(self, word: str) -> list[str]:
        """All that was told, up to a word."""
        while word not in self.told:
            self.told += self._socket.recv(4096).decode().split("\n")
        return self.told

    def close(self) -> None:
        self._socket.close()
