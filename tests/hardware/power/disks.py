"""Disks whose every write is logged, and the disks that a power cut leaves of them.

qemu-storage-daemon's `blklogwrites` logs what the file system above it writes and flushes; it is exported by FUSE,
and a loop device over it is mounted. A cut is then computed from the log (`tests.support.blklog`).
"""

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hardware.support.debian import CommandError, run
from tests.support.blklog import Log, read

PATIENCE_S = 20.0
BLOCK = 4096
_SHARED_MEMORY = Path("/dev/shm")
_ENOUGH = 3 << 30


def scratch() -> Path:
    """A new folder for disks: in memory where there is room, so that no other disk's pace is measured."""
    facts = os.statvfs(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None
    roomy = facts is not None and facts.f_bavail * facts.f_frsize >= _ENOUGH
    return Path(tempfile.mkdtemp(prefix="bwc-power-", dir=_SHARED_MEMORY if roomy else None))


def make_ext4(path: Path, megabytes: int) -> Path:
    """A fresh ext4 as a card has it: blocks of 4 KiB, a journal, metadata checksums."""
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    run("mke2fs", "-q", "-t", "ext4", "-T", "default", "-b", str(BLOCK), path)
    return path


def copy(source: Path, target: Path) -> Path:
    """A copy of a disk that takes no more room than what is on it."""
    run("cp", "--sparse=always", "--reflink=auto", source, target)
    return target


@contextmanager
def loop_mounted(disk: Path, folder: Path, options: str) -> Iterator[Path]:
    """A disk mounted by a loop device of its own, while this lasts.

    Raises:
        CommandError: It can't be mounted.
    """
    folder.mkdir(exist_ok=True)
    device = run("losetup", "--find", "--show", disk).strip()
    try:
        run("mount", "-t", "ext4", "-o", options, device, folder)
        try:
            _check_still_ours(device, disk)
            yield folder
            _check_still_ours(device, disk)
        finally:
            _unmount(folder)
    finally:
        run("losetup", "--detach", device)


class TakenAwayError(CommandError):
    """Another program on this machine has detached a loop device that was not its own."""


def _check_still_ours(device: str, disk: Path) -> None:
    """See that a loop device still leads to our disk: their numbers are shared by all who run on this machine."""
    backing = Path("/sys/block") / Path(device).name / "loop" / "backing_file"
    leads_to = backing.read_text().strip() if backing.is_file() else "nothing"
    if leads_to != str(disk):
        raise TakenAwayError(f"expected {device} to lead to {disk}, it leads to {leads_to}")


def _unmount(folder: Path) -> None:
    for _ in range(50):
        with contextlib.suppress(CommandError):
            run("umount", folder)
            return
        time.sleep(0.1)  # a process that was killed lets go of its files a moment later
    run("umount", "--lazy", folder)


def check_file_system(disk: Path) -> None:
    """See that a disk which was mounted once has no fault left.

    Raises:
        CommandError: e2fsck names one.
    """
    run("e2fsck", "-f", "-n", disk)


@dataclass(frozen=True, slots=True)
class LoggedDisk:
    """A disk that is mounted at `mount`; `log` holds whatever was written to it, `base` what it was before."""

    base: Path
    log: Path
    mount: Path

    @property
    def size(self) -> int:
        """How much was logged so far, in bytes."""
        return self.log.stat().st_size


@contextmanager
def logged(base: Path, folder: Path, options: str) -> Iterator[LoggedDisk]:
    """A copy of `base` mounted with every write logged, while this lasts; `base` stays as it is.

    Args:
        base: A disk.
        folder: A new folder for the disk, its log, and its mount point.
        options: Mount options.

    Raises:
        CommandError: It can't be mounted.
    """
    folder.mkdir()
    disk = copy(base, folder / "disk.img")
    log, export = folder / "log.img", folder / "export.img"
    log.touch()
    export.touch()
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            # What the log says counts; whether this machine's own disk has flushed it does not.
            *("--blockdev", f"driver=file,filename={disk},node-name=disk,cache.no-flush=on"),
            *("--blockdev", f"driver=file,filename={log},node-name=log,cache.no-flush=on"),
            *("--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512"),
            *("--export", f"type=fuse,id=export,node-name=logged,mountpoint={export},writable=on"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_for_export(daemon, export)
        with loop_mounted(export, folder / "mnt", options) as mount:
            yield LoggedDisk(base, log, mount)
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)


def _wait_for_export(daemon: "subprocess.Popen[bytes]", export: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not export.stat().st_size:
        if daemon.poll() is not None or time.monotonic() > until:
            raise CommandError(f"expected qemu-storage-daemon to export a disk at {export}; it did not")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Cut:
    """One loss of power.

    Attributes:
        position: The log's size when it happened.
        seed: What the drive kept of what it had not flushed.
        lying_flushes: So many of its newest flushes the drive had only said were done.
    """

    position: int
    seed: int
    lying_flushes: int = 0


def after(base: Path, log_file: Path, log: Log, cut: Cut, target: Path) -> Path:
    """The disk that a cut leaves, at `target`."""
    copy(base, target)
    with target.open("r+b") as disk, log_file.open("rb") as source:
        chance = random.Random(cut.seed)
        for piece in log.left_by_a_cut(log.up_to(cut.position), chance, lying_flushes=cut.lying_flushes):
            data = os.pread(source.fileno(), piece.length, piece.start)
            os.pwrite(disk.fileno(), data, piece.offset)
    return target


def read_log(path: Path) -> Log:
    """The log of a disk that is not mounted any more."""
    return read(path.read_bytes())


def positions(log: Log, low: int, high: int) -> Sequence[int]:
    """The sizes between `low` and `high` at which an entry had just been logged."""
    return [entry.end for entry in log.entries if low <= entry.end <= high]
