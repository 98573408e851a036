"""The real recorder's process: how soon it stands by, and what it costs as a whole with the clip as its camera."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.demo.stage import run_tool
from agent.recorder.ipc.local_socket import ask
from tests.bench.path import thread_cpu_s
from tests.bench.piped import resident_peak

PRE_EVENT_S = 5.0
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Lived:
    """A recorder's life: seconds from its spawn to READY=1, CPU seconds, bytes.

    Attributes:
        standby_cpu_s: CPU during `live_s` of standby; `recording_cpu_s` during as much of recording.
        peak_bytes: Most memory resident; `ring_bytes` of packets were in memory at the end.
    """

    ready_s: float
    live_s: float
    standby_cpu_s: float
    recording_cpu_s: float
    peak_bytes: int
    ring_bytes: int


def provision(folder: Path, clip: Path) -> Path:
    """A device with the clip as its camera; the path of its configuration.

    Raises:
        RuntimeError: `bwc-agent init` failed.
    """
    code, said = run_tool("init", str(folder), "--camera", f"replay:{clip}")
    if code:
        raise RuntimeError(f"expected `bwc-agent init` to succeed, it said: {said}")
    config = folder / "device" / "config.toml"
    text, changed = re.subn(r"pre_event_s = \S+", f"pre_event_s = {PRE_EVENT_S}", config.read_text())
    if changed != 1:
        raise RuntimeError(f"expected one pre_event_s in {config}")
    config.write_text(text)
    return config


@contextmanager
def running(config: Path, run: Path) -> Iterator[tuple[int, float]]:
    """A recorder's process id, and how many seconds it took to say READY=1."""
    text = re.sub(r'(?<=\n)directory = "[^"]*"', f'directory = "{run}"', config.read_text())
    config.write_text(text)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, (run / "log").open("ab") as log:
        address = run / "notify"
        notices.bind(str(address))
        ready = threading.Event()
        threading.Thread(target=_listen, args=(notices, ready), daemon=True).start()
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(config)],
            env=dict(os.environ, NOTIFY_SOCKET=str(address)),
            stdout=log,
            stderr=log,
        )
        try:
            if not ready.wait(PATIENCE_S):
                raise RuntimeError(f"expected READY=1 within {PATIENCE_S} s; it said: {(run / 'log').read_text()}")
            yield process.pid, time.monotonic() - began
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def _listen(notices: socket.socket, ready: threading.Event) -> None:
    """Take what the recorder tells systemd, to its end: a sender whose socket is full would wait."""
    try:
        while notice := notices.recv(4096):
            if b"READY=1" in notice:
                ready.set()
    except OSError:  # the measurement is over and the socket closed
        return


def _cpu_s(pid: int) -> float:
    """CPU time of all threads so far."""
    return sum(thread_cpu_s(pid, thread.name) for thread in Path(f"/proc/{pid}/task").iterdir())


def live(config: Path, live_s: float) -> Lived:
    """Start it, let it stand by, record, and end it; without `live_s` only start and end it."""
    with tempfile.TemporaryDirectory(prefix="bwc-") as run, running(config, Path(run)) as (pid, ready_s):
        if not live_s:
            return Lived(ready_s, 0.0, 0.0, 0.0, resident_peak(pid), 0)
        time.sleep(PRE_EVENT_S)
        began = _cpu_s(pid)
        time.sleep(live_s)
        standby = _cpu_s(pid) - began
        ask(Path(run), {"ask": "start"})
        time.sleep(1.0)
        began = _cpu_s(pid)
        time.sleep(live_s)
        recording = _cpu_s(pid) - began
        status = ask(Path(run), {"ask": "status"})
        return Lived(ready_s, live_s, standby, recording, resident_peak(pid), int(status["memory_bytes"]))
