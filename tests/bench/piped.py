"""FFmpeg's fragmented MP4 piped into age, on the same looped file.

Without syncs age writes to the file itself. With syncs it writes into a pipe, and a reader here writes what comes to
the file and syncs it (fdatasync) five times for each second of media: whenever as many bytes have come as a fifth of a
second has on average, because sealed bytes do not show where a fragment ends. Of the reader only its syncs count (CPU
of its thread inside fdatasync): its writes to the file stand for those that age now makes into the pipe, and its
Python is nobody's cost.
"""

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

SYNCS_A_SECOND = 5
PIPE = 1 << 16
LOOK_S = 0.02
FRAGMENTED = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": str(1_000_000 // SYNCS_A_SECOND),
    "flush_packets": "1",
}
"""Options of FFmpeg's MP4 muxer: a fragment for each 0.2 s, written out at once."""


@dataclass(slots=True)
class Program:
    """What one program used.

    Attributes:
        cpu_s: User and system time.
        peak_bytes: Most memory resident (VmHWM, looked at until it ends: a child's ru_maxrss begins with its
            parent's).
    """

    cpu_s: float = 0.0
    peak_bytes: int = 0


@dataclass(slots=True)
class Piped:
    """What both did.

    Attributes:
        frames: Pictures, as ffmpeg counts them.
        sync_cpu_s: CPU inside the reader's syncs; `syncs` is their number, `reader_cpu_s` all CPU of the reader.
    """

    ffmpeg: Program = field(default_factory=Program)
    age: Program = field(default_factory=Program)
    frames: int = 0
    sealed_bytes: int = 0
    sync_cpu_s: float = 0.0
    syncs: int = 0
    reader_cpu_s: float = 0.0

    @property
    def cpu_s(self) -> float:
        """What counts."""
        return self.ffmpeg.cpu_s + self.age.cpu_s + self.sync_cpu_s

    @property
    def peak_bytes(self) -> int:
        """Both programs' most memory; the reader's is not counted."""
        return self.ffmpeg.peak_bytes + self.age.peak_bytes


def new_recipients(folder: Path, number: int) -> list[str]:
    """Keys for age; gives back their public halves."""
    recipients = []
    for index in range(number):
        file = folder / f"age-{index}.key"
        subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
        done = subprocess.run(["age-keygen", "-y", file], check=True, capture_output=True, text=True)
        recipients.append(done.stdout.strip())
    return recipients


def _ffmpeg(clip: Path, seconds: float, output: list[str], *, live: bool) -> "subprocess.Popen[bytes]":
    quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-progress", "pipe:2", "-stats_period", "3600"]
    pace = ["-re"] if live else []
    looped = ["-stream_loop", "-1", "-i", str(clip), "-t", f"{seconds:g}", "-c", "copy"]
    return subprocess.Popen(["ffmpeg", *quiet, *pace, *looped, *output], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def seal(
    clip: Path,
    seconds: float,
    target: Path,
    recipients: list[str],
    *,
    sync_after: float = 0.0,
    live: bool = False,
) -> Piped:
    """Run both until the stream ends.

    Args:
        clip: What to loop, for `seconds`.
        target: The sealed file.
        recipients: Public keys for age.
        sync_after: Sync whenever that many bytes came; 0 for no syncs.
        live: At the stream's own pace (`-re`), else as fast as it goes.

    Raises:
        RuntimeError: One of them failed.
    """
    done = Piped()
    muxing = [word for name, value in FRAGMENTED.items() for word in (f"-{name}", value)]
    ffmpeg = _ffmpeg(clip, seconds, [*muxing, "-f", "mp4", "pipe:1"], live=live)
    to = [word for recipient in recipients for word in ("-r", recipient)]
    age = subprocess.Popen(
        ["age", *to] if sync_after else ["age", *to, "-o", str(target)],
        stdin=ffmpeg.stdout,
        stdout=subprocess.PIPE if sync_after else subprocess.DEVNULL,
    )
    assert ffmpeg.stdout is not None
    ffmpeg.stdout.close()
    watching = _watch([(ffmpeg.pid, done.ffmpeg), (age.pid, done.age)])
    if age.stdout is not None:
        _read_and_sync(age.stdout.fileno(), target, sync_after, done)
        age.stdout.close()
    done.frames = _ended(ffmpeg, done.ffmpeg)
    _ended(age, done.age)
    watching.set()
    done.sealed_bytes = target.stat().st_size
    return done


def demux(clip: Path, seconds: float, *, live: bool = False) -> Piped:
    """Let ffmpeg read the stream and drop it: its source's own cost."""
    done = Piped()
    ffmpeg = _ffmpeg(clip, seconds, ["-f", "null", "-"], live=live)
    watching = _watch([(ffmpeg.pid, done.ffmpeg)])
    done.frames = _ended(ffmpeg, done.ffmpeg)
    watching.set()
    return done


def _read_and_sync(source: int, target: Path, sync_after: float, done: Piped) -> None:
    began = time.thread_time()
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        unsynced = 0.0
        while chunk := os.read(source, PIPE):
            os.write(handle, chunk)
            unsynced += len(chunk)
            if unsynced >= sync_after:
                unsynced -= sync_after
                before = time.thread_time()
                os.fdatasync(handle)
                done.sync_cpu_s += time.thread_time() - before
                done.syncs += 1
    finally:
        os.close(handle)
    done.reader_cpu_s = time.thread_time() - began


def resident_peak(pid: int | str) -> int:
    """The most memory that a process has had resident, in bytes; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _watch(programs: list[tuple[int, Program]]) -> threading.Event:
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            for pid, program in programs:
                program.peak_bytes = max(program.peak_bytes, resident_peak(pid))

    threading.Thread(target=look, daemon=True).start()
    return ended


def _ended(process: "subprocess.Popen[bytes]", program: Program) -> int:
    """Wait for a program; the number of pictures that it reports, if it does."""
    said = process.stderr.read().decode() if process.stderr is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"expected {process.args!r} to succeed, it ended with {process.returncode}: {said}")
    program.cpu_s = usage.ru_utime + usage.ru_stime
    frames = re.findall(r"frame=\s*(\d+)", said)
    return int(frames[-1]) if frames else 0
