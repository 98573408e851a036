"""The recorder's status: what `ctl status` prints, and what the dock service may read as a snapshot file."""

import os
from pathlib import Path

import msgspec

from agent.power.status import PowerStatus

NAME = "status.json"


class SyncLatency(msgspec.Struct, frozen=True):
    """Durations of the newest syncs of segments, in milliseconds (`agent.recorder.writing.segments.SyncTimes`).

    Attributes:
        count: How many there were; all else is 0 if none.
        p50, p95, p99: Percentiles.
        max: The longest.
    """

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class TrackStatus(msgspec.Struct, frozen=True):
    """A track: its codec, and milliseconds since its newest packet, null before the first."""

    codec: str
    age_ms: int | None


class SelfTestStatus(msgspec.Struct, frozen=True):
    """Names of the checks that passed and of those that failed."""

    passed: list[str]
    failed: list[str]


class ConfigurationStatus(msgspec.Struct, frozen=True):
    """The configuration in force.

    Attributes:
        origin: `file`; or `last_good` or `built_in`, because the file can't be used.
        digest: SHA-256 of its text; empty for the built-in one.
        problem: Why it is not the file; empty if it is.
        pending: Keys of the file that a restart will put in force.
    """

    origin: str = "file"
    digest: str = ""
    problem: str = ""
    pending: list[str] = []


class DeviceStateStatus(msgspec.Struct, frozen=True):
    """The device state and how well it is kept.

    Attributes:
        protection: The row of SECURITY.md's table that this build is in: `one_card`, `separate_card` or `clock_ram`.
        found: Its condition at this boot: `good`, `missing`, `altered`, `unreadable` or `rolled_back`.
        events: How card and state differed at this boot, such as `card_rolled_back`.
        anchor: The memory that detects a roll-back of the state; `none` for none.
        anchor_problem: What is wrong with the anchor; empty if nothing.
        problem: Why the state can't be saved now; empty if it can.
        counter: Of the newest save; `saves` is their number in this boot, `slowest_save_ms` the longest of them.
    """

    protection: str = ""
    found: str = ""
    events: list[str] = msgspec.field(default_factory=list)
    anchor: str = "none"
    anchor_problem: str = ""
    problem: str = ""
    counter: int = 0
    saves: int = 0
    slowest_save_ms: int = 0


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
        storage_free_bytes: Null while storage does not answer.
        time_left_s: How long recording can continue at the present bit rate; null if unknown.
        storage_failing: Storage refuses; recording continues in memory.
        slowest_sync_ms: Of this boot.
        sync_ms: Percentiles of the newest syncs of segments.
        journal_line: Number of the newest journal line.
        clock: Source of the wall clock; `clock_within_ms` bounds its error, null if unsynchronised.
        faulty_lines: Input lines that are not trusted.
        requests, refused: Requests of this boot, and how many were refused.
        declared_only, pauses, mutes: Grants of this boot on the wearer's declaration alone; pauses and mutes.
        missing: The procedure that would have made the newest refused one allowed, such as `speak`.
        locked_memory: No memory of this process can reach swap.
        policy_unsafe: Every request is permitted: the development policy of a bench is in force.
        policy_digest, policy_version: SHA-256 of the policy in force and the bundle's version; 0 for the built-in pack.
        dock_contact: The contact of the dock is closed; `docked`: and a station attests it; `station` is its name.
        dock_nonce: The nonce that a station has to sign to attest this device.
        durable_line: Number of the newest journal line on storage.
        checkpoint: The newest signed checkpoint on storage, a JWS; `checkpoint_line` is the line up to which it signs.
        tampered: Tamper events of this boot.
        self_test: Result of the test at the start of the shift; null before it.
        power: Battery, charger and board.
        configuration: The configuration in force.
        device_state: The device state and how well it is kept.
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
    declared_only: int
    pauses: int
    mutes: int
    missing: list[str]
    locked_memory: bool
    policy_digest: str
    policy_version: int
    policy_unsafe: bool
    dock_contact: bool
    docked: bool
    station: str
    dock_nonce: str
    durable_line: int
    checkpoint: str
    checkpoint_line: int
    tampered: int
    self_test: SelfTestStatus | None
    power: PowerStatus = PowerStatus()
    configuration: ConfigurationStatus = ConfigurationStatus()
    device_state: DeviceStateStatus = DeviceStateStatus()


def write_snapshot(directory: Path, status: Status) -> None:
    """Replace the snapshot file atomically. It is on a memory file system and needs no sync.

    Mode 0640: the dock service reads it, as a member of the run directory's group. What an earlier attempt left is
    removed first: it could be a link that leads elsewhere, or a pipe that blocks the recorder's housekeeping.

    Raises:
        OSError: The run directory refuses.
    """
    temporary = directory / f".{NAME}"
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.fchmod(handle, 0o640)  # the recorder's umask would keep the group out
        os.write(handle, msgspec.json.encode(status))
    finally:
        os.close(handle)
    temporary.replace(directory / NAME)
