"""A Debian machine with systemd as PID 1, booted by systemd-nspawn from a tree that stays as it was."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hardware.support.debian import CommandError, need, run

PATIENCE_S = 30.0
LOOK_S = 0.05
BURST_S = 0.15
REBOOT = 133
"""The exit code by which systemd-nspawn asks to be started again."""
_CLEAN = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "SYSTEMD_COLORS=0")
_MEMORY_1 = Path("/sys/fs/cgroup/memory")


def until(good: Callable[[], bool], why: str, patience_s: float = PATIENCE_S) -> float:
    """Look until something is so; the seconds that it took."""
    began = time.monotonic()
    while not good():
        assert time.monotonic() - began < patience_s, f"not within {patience_s:.0f} s: {why}"
        time.sleep(LOOK_S)
    return time.monotonic() - began


def crowding() -> float:
    """How many times longer work takes now than it would alone on this machine: 1.0 when it is quiet."""
    wall, own = time.monotonic(), time.thread_time()
    while time.thread_time() - own < BURST_S:
        pass
    return max(1.0, (time.monotonic() - wall) / BURST_S)


class Machine:
    """One machine: a tree of its own, laid over `base`, that outlives its boots.

    It has a network of its own, with nothing in it but loopback, and control groups of version 2.
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self.root = folder / "root"
        self._log = folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.group = _MEMORY_1 / f"bwc-{os.getpid()}" if (_MEMORY_1 / "cgroup.procs").exists() else None
        for name in ("root", "upper", "work"):
            (folder / name).mkdir()
        options = f"lowerdir={base},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", options, self.root)
        if self.group is not None:
            self.group.mkdir(exist_ok=True)

    def close(self) -> None:
        """Cut its power and remove it."""
        self.cut()
        run("umount", "--lazy", self.root)
        if self.group is not None:
            until(lambda: not self._members(), "a process of the machine is left")
            for group in (*(path for path in self.group.iterdir() if path.is_dir()), self.group):
                group.rmdir()

    def _members(self) -> str:
        assert self.group is not None
        return (self.group / "cgroup.procs").read_text()

    # -- power --------------------------------------------------------------------------------------------------------

    def boot(self) -> float:
        """Power on; seconds until its manager takes commands."""
        argv = ["systemd-nspawn", "-q", "-D", str(self.root), "--boot", "--private-network", "--register=no"]
        argv += ["--keep-unit", "--console=pipe", "--machine=bwc"]
        # As on hardware: memory may be locked, and devices are kept off by programs of the kernel's (DevicePolicy).
        argv += ["--capability=CAP_IPC_LOCK,CAP_BPF", "--system-call-filter=bpf"]
        group = self.group

        def join() -> None:
            if group is not None:
                (group / "cgroup.procs").write_text("0")

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                preexec_fn=join,  # noqa: PLW1509 - only a file is written
            )
        return self.answers()

    def answers(self) -> float:
        """Wait until its manager takes commands; the seconds that it took."""
        return until(lambda: self.up and not self.try_("systemctl", "show", "-P", "Version")[0], "the machine boots")

    @property
    def up(self) -> bool:
        """The machine has power."""
        return self._process is not None and self._process.poll() is None and self.leader is not None

    @property
    def leader(self) -> int | None:
        """Its PID 1, as this machine counts."""
        assert self._process is not None
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def off(self) -> float:
        """Wait until it has powered itself off; the seconds that it took."""
        return self._ends(0)

    def reboots(self) -> None:
        """Wait until it has switched itself off to be switched on again, and do so."""
        self._ends(REBOOT)
        self.boot()

    def _ends(self, code: int) -> float:
        assert self._process is not None
        process = self._process
        took = until(lambda: process.poll() is not None, "the machine goes off")
        assert process.returncode == code
        return took

    def cut(self) -> None:
        """Take the power away: everything ends at once, nothing is told."""
        if self._process is not None and self._process.poll() is None:
            leader = self.leader
            if leader is not None:
                os.kill(leader, signal.SIGKILL)
            self._process.kill()
            self._process.wait(PATIENCE_S)

    # -- in it --------------------------------------------------------------------------------------------------------

    def try_(self, *argv: str, timeout_s: float = 120.0) -> tuple[int, str]:
        """Run a program in it; exit code, and what it said."""
        leader = self.leader
        if leader is None:
            return 255, "it has no power"
        enter = ("nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
        done = subprocess.run(
            [*enter, *_CLEAN, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def run(self, *argv: str, timeout_s: float = 120.0) -> str:
        """Run a program in it that has to succeed; what it said.

        Raises:
            CommandError: It ended otherwise than with 0.
        """
        code, said = self.try_(*argv, timeout_s=timeout_s)
        if code:
            raise CommandError(f"{' '.join(argv)}: exit code {code}:\n{said[-4000:]}")
        return said

    def json(self, *argv: str) -> Any:
        """What a program in it says in JSON, whatever its exit code."""
        return json.loads(self.try_(*argv)[1])

    def show(self, unit: str, name: str) -> str:
        """A property of a unit; of the manager itself, where that is empty."""
        return self.run("systemctl", "show", "-P", name, *([unit] if unit else [])).strip()

    def pid(self, unit: str) -> int:
        """A unit's main process, as this machine counts; 0 if it has none."""
        inner = self.show(unit, "MainPID")
        own = Path(f"/proc/{self.leader}/ns/pid").readlink()
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                counts = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()
                if counts[-1] == inner and (status.parent / "ns" / "pid").readlink() == own:
                    return int(counts[1])
            except (OSError, StopIteration):
                continue  # it has ended meanwhile
        return 0

    def path(self, place: str) -> Path:
        """A file of the running machine, its memory file systems included."""
        return Path(f"/proc/{self.leader}/root/{place.lstrip('/')}")

    def drop_in(self, unit: str, text: str, name: str = "test") -> None:
        """Change a unit until the next boot."""
        folder = self.path(f"/run/systemd/system/{unit}.d")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.conf").write_text(text)
        self.run("systemctl", "daemon-reload")

    def lift(self, unit: str, name: str = "test") -> None:
        """Take such a change back."""
        self.path(f"/run/systemd/system/{unit}.d/{name}.conf").unlink()
        self.run("systemctl", "daemon-reload")


@contextmanager
def machine(base: Path) -> Iterator[Machine]:
    """A machine on the tree `base`, off."""
    need(systemd_nspawn="systemd-container", nsenter="util-linux")
    folder = Path(tempfile.mkdtemp(prefix="bwc-machine-"))
    made = Machine(base, folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
