"""The fleet as a custodian sees it: rows of a station's database."""

from typing import Any

import msgspec

from agent.dock.messages import Status
from agent.station.store import DeviceRow, Store


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One device. What a status did not say is null."""

    device: str
    state: str
    last_seen: str
    battery_pct: int | None
    free_bytes: int | None
    time_left_s: int | None
    pending_segments: int | None
    refused: int | None
    tampered: int | None
    policy: str | None
    policy_version: int | None
    mode: str | None
    events: int
    alarms: int


def rows(store: Store) -> list[Row]:
    """All devices, by name.

    Raises:
        StorageError: The database refuses.
    """
    return [_row(row) for row in store.devices()]


def _row(row: DeviceRow) -> Row:
    told: dict[str, Any] = {}
    if row.status:
        status = msgspec.json.decode(row.status, type=Status)
        told = {
            "battery_pct": status.battery_pct,
            "free_bytes": status.storage.free_bytes,
            "time_left_s": status.storage.time_left_s,
            "pending_segments": status.evidence.pending_segments,
            "refused": status.since_dock.refused,
            "tampered": status.since_dock.tampered,
            "policy": status.policy.name,
            "policy_version": status.policy.version,
            "mode": status.mode,
        }
    nothing = dict.fromkeys(name for name in Row.__struct_fields__ if name not in told)
    known = {
        "device": row.device,
        "state": row.state or "unknown",
        "last_seen": row.last_seen,
        "events": row.events,
        "alarms": row.alarms,
    }
    return msgspec.convert({**nothing, **told, **known}, Row)
