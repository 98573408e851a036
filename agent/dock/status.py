"""The status of a device: the recorder's snapshot, what is on the card, and the newest signed checkpoint."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from agent.clock import NS
from agent.dock import journal
from agent.dock.messages import (
    Checkpoint,
    Clock,
    Confirmed,
    Evidence,
    Policy,
    SelfTest,
    SinceDock,
    Status,
    Storage,
    Topics,
)
from agent.encoding.strict_json import strict_json
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.storage.disk import DiskStorage

EVIDENCE_NS = 60 * NS
"""The card's folders are counted this often."""
MAX_SNAPSHOT = 1 << 16
_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")


def read_snapshot(path: Path) -> dict[str, Any]:
    """The recorder's snapshot.

    Raises:
        OSError: It can't be read.
        EvidenceError: It is no regular file, or no JSON object.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EvidenceError(f"expected a regular file at {path}")
        return strict_json(os.read(handle, MAX_SNAPSHOT))
    finally:
        os.close(handle)


class StatusBuilder:
    """Makes the statuses of one device.

    Args:
        topics: Of the device.
        storage: The evidence folder; names and sizes are read, and the journal.
        reader: Of its journal.
    """

    def __init__(self, topics: Topics, storage: DiskStorage, reader: journal.JournalReader) -> None:
        self._topics = topics
        self._storage = storage
        self._reader = reader
        self._evidence: tuple[int, Evidence] | None = None
        self._certificates = (0, "", "")
        self._confirmed: dict[int, str | None] = {}

    def forget_confirmed(self) -> None:
        """Read the hashes of confirmed lines again: the card may be another one."""
        self._confirmed.clear()

    def build(self, snapshot: dict[str, Any], session: str, lines_to_confirm: list[int], now_ns: int) -> Status:
        """The status of a snapshot.

        Raises:
            EvidenceError: The snapshot is not that of a recorder of this version.
        """
        if self._evidence is None or now_ns - self._evidence[0] >= EVIDENCE_NS:
            self._evidence = (now_ns, count_evidence(self._storage))
        try:
            test = snapshot["self_test"]
            status = Status(
                agency=self._topics.agency,
                device=self._topics.device,
                session=session,
                version=snapshot["version"],
                mode=snapshot["mode"],
                contact=snapshot["dock_contact"],
                docked=snapshot["docked"],
                nonce=snapshot["dock_nonce"],
                policy=Policy(
                    name=snapshot["policy"],
                    version=snapshot["policy_version"],
                    digest=snapshot["policy_digest"],
                    unsafe=snapshot["policy_unsafe"],
                ),
                clock=Clock(source=snapshot["clock"], within_ms=snapshot["clock_within_ms"]),
                storage=Storage(
                    free_bytes=snapshot["storage_free_bytes"],
                    time_left_s=snapshot["time_left_s"],
                    failing=snapshot["storage_failing"],
                ),
                evidence=self._evidence[1],
                since_dock=SinceDock(refused=0, tampered=0),
                self_test=None if test is None else SelfTest(passed=test["passed"], failed=test["failed"]),
                checkpoint=self._checkpoint(snapshot),
                confirms=self._confirms(lines_to_confirm),
                battery_pct=battery_pct(snapshot),
                temperature_c=cpu_temperature_c() if (celsius := _measured(snapshot, "celsius")) is None else celsius,
                uptime_s=int(snapshot["uptime_s"]),
                boots=snapshot["boot"],
            )
            return msgspec.convert(msgspec.to_builtins(status), Status)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            raise EvidenceError(f"expected a recorder's snapshot of this version: {error}") from error

    def _confirms(self, lines: list[int]) -> list[Confirmed]:
        with contextlib.suppress(StorageError):
            self._confirmed = {
                line: self._confirmed[line] if line in self._confirmed else self._reader.line_hash(line)
                for line in lines
            }
        return [Confirmed(line=line, hash=digest) for line, digest in self._confirmed.items()]

    def _checkpoint(self, snapshot: dict[str, Any]) -> Checkpoint | None:
        boot = snapshot.get("boot", 0)
        if boot != self._certificates[0]:
            with contextlib.suppress(StorageError):
                own = journal.device_certificate(self._storage)
                of_boot = self._reader.boot_certificate(boot)
                if own and of_boot:
                    self._certificates = (boot, own, of_boot)
        if boot != self._certificates[0] or not snapshot.get("checkpoint"):
            return None
        return Checkpoint(
            line=snapshot["checkpoint_line"],
            jws=snapshot["checkpoint"],
            device_certificate=self._certificates[1],
            boot_certificate=self._certificates[2],
        )


def count_evidence(storage: DiskStorage) -> Evidence:
    """Recordings, segments and bytes on the card, by names and sizes alone.

    No receipts are kept on a device yet, so that every segment is pending.
    """
    recordings = segments = size = 0
    with contextlib.suppress(StorageError):
        for recording in storage.names(layout.RECORDINGS):
            recordings += 1
            for name in storage.names(layout.recording(recording)):
                part = layout.segment_part(name)
                if part is not None and part[1] == "seg":
                    segments += 1
                    size += storage.size(f"{layout.recording(recording)}/{name}") or 0
    return Evidence(recordings=recordings, segments=segments, bytes=size, pending_segments=segments)


def battery_pct(snapshot: dict[str, Any]) -> int | None:
    """The battery's charge in per cent; None where nothing measures it."""
    percent = _measured(snapshot, "battery_percent")
    return None if percent is None else min(100, max(0, round(percent)))


def _measured(snapshot: dict[str, Any], name: str) -> float | None:
    """A measurement of battery or board, from the snapshot's `power`; None where there is none."""
    power = snapshot.get("power")
    value = power.get(name) if isinstance(power, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def cpu_temperature_c() -> float | None:
    """The kernel's measurement (Documentation/driver-api/thermal/sysfs-api.rst, millidegrees); None without one."""
    try:
        return int(_THERMAL.read_text("ascii")) / 1000
    except (OSError, ValueError):
        return None
