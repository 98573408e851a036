"""The recorder's status: what `ctl status` prints, and what the dock service may read as a snapshot file."""

import os
from pathlib import Path

import msgspec

from agent.recorder.sync_times import SyncLatency

NAME = "status.json"


class TrackStatus(msgspec.Struct, frozen=True):
    """A track as it comes in: milliseconds since its newest packet, null before the first."""

    codec: str
    age_ms: int | None


class Status(msgspec.Struct, frozen=True):
    """A snapshot of the recorder.

    Attributes:
        mode: `standby`, `recording`, `post_roll`, `privacy`, `muted` or `fault`.
        recording: Its id; empty in standby.
        recording_s: Seconds since it was started in this boot.
        boot: Number of this boot; 0 while storage could not be read.
        boot_tag: Names this boot in the ids of its recordings.
        policy: Name of the policy in force.
        source_delivering: False while the camera is down; `openings` counts how often it was opened.
        memory_bytes: Encoded data in the ring; `backlog_ms` is how much of it waits for storage.
        storage_free_bytes: Null while storage can't be asked.
        time_left_s: How long recording can go on at the present bit rate; null if unknown.
        storage_failing: Storage refuses; recording goes on in memory.
        slowest_sync_ms: Of this boot.
        sync_ms: What is usual among the newest syncs of segments.
        journal_line: Number of the newest journal line.
        clock: Source of the wall clock; `clock_within_ms` bounds its error, null if nobody can.
        faulty_lines: Input lines that are not trusted.
        requests, refused: Requests of this boot, and how many were refused.
        missing: What procedure would have made the newest refused one allowed, such as `speak`.
        locked_memory: Nothing of this process can reach swap.
    """

    version: str
    agency: str
    device: str
    mode: str
    recording: str
    recording_s: float
    boot: int
    boot_tag: str
    uptime_s: float
    policy: str
    tracks: dict[str, TrackStatus]
    source: str
    source_delivering: bool
    openings: int
    memory_bytes: int
    backlog_ms: int
    storage_free_bytes: int | None
    time_left_s: int | None
    storage_failing: bool
    slowest_sync_ms: int
    sync_ms: SyncLatency
    journal_line: int
    clock: str
    clock_within_ms: int | None
    faulty_lines: list[str]
    requests: int
    refused: int
    missing: list[str]
    locked_memory: bool


def write_snapshot(directory: Path, status: Status) -> None:
    """Replace the snapshot file, whole at every moment. It lies in memory and needs no sync.

    Mode 0640: the dock service reads it, as a member of the run directory's group.

    Raises:
        OSError: The run directory does not take it.
    """
    temporary = directory / f".{NAME}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.fchmod(handle, 0o640)  # the recorder's umask would keep the group out
        os.write(handle, msgspec.json.encode(status))
    finally:
        os.close(handle)
    temporary.replace(directory / NAME)
