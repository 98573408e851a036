"""The fleet as a custodian sees it, from a station's database.

It shows what devices sent, which is escaped before it reaches a terminal (`agent.output`).
"""

from typing import Any

import msgspec

from agent.clock import NS, parse_utc, utc_text
from agent.dock.messages import Event, Status
from agent.output import escaped
from agent.station.store import DeviceRow, Store

_DAY_NS = 86_400 * NS
_HASH = 64
"""Characters of a SHA-256, which are left out of a line for people."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One device. What its status does not say is null."""

    device: str
    state: str
    last_seen: str
    battery_pct: int | None
    free_bytes: int | None
    time_left_s: int | None
    pending_segments: int | None
    refused: int | None
    tampered: int | None
    declared_only: int | None
    pauses: int | None
    mutes: int | None
    policy: str | None
    policy_version: int | None
    policy_unsafe: bool | None
    mode: str | None
    events: int
    alarms: int


def rows(store: Store) -> list[Row]:
    """All devices, by name.

    Raises:
        StorageError: The database fails.
    """
    return [_row(row) for row in store.devices()]


def _status(text: str) -> Status | None:
    """A stored status; None if there is none, or only an earlier version could read it."""
    try:
        return msgspec.json.decode(text, type=Status) if text else None
    except msgspec.MsgspecError:
        return None


def _row(row: DeviceRow) -> Row:
    reported: dict[str, Any] = {}
    status = _status(row.status)
    if status is not None:
        reported = {
            "battery_pct": status.battery_pct,
            "free_bytes": status.storage.free_bytes,
            "time_left_s": status.storage.time_left_s,
            "pending_segments": status.evidence.pending_segments,
            "refused": status.since_dock.refused,
            "tampered": status.since_dock.tampered,
            "declared_only": status.since_dock.declared_only,
            "pauses": status.since_dock.pauses,
            "mutes": status.since_dock.mutes,
            "policy": status.policy.name,
            "policy_version": status.policy.version,
            "policy_unsafe": status.policy.unsafe,
            "mode": status.mode,
        }
    nothing = dict.fromkeys(name for name in Row.__struct_fields__ if name not in reported)
    known = {
        "device": row.device,
        "state": row.state or "unknown",
        "last_seen": row.last_seen,
        "events": row.events,
        "alarms": row.alarms,
    }
    return msgspec.convert({**nothing, **reported, **known}, Row)


def ago(text: str, now_ns: int) -> str:
    """A UTC time at a glance: today's as its time, else how many days ago; a dash for none."""
    try:
        then_ns = parse_utc(text)
    except ValueError:
        return "-"
    if text[:10] == utc_text(now_ns)[:10]:
        return text[11:19]
    return f"{max(1, (now_ns - then_ns) // _DAY_NS)} d ago"


def event_line(device: str, text: str) -> str:
    """A stored event as one line: time, device, kind, and the entry's public fields."""
    try:
        event = msgspec.json.decode(text, type=Event)
    except msgspec.MsgspecError as error:  # stored by an earlier version
        return escaped(f"{device}: an event that this version can't read ({error}); --json has it as it was sent")
    entry = event.data.entry
    fields = [
        f"{name}={_field_text(value)}"
        for name, value in entry.items()
        if name not in {"kind", "at_us"}
        and not (value in (None, "") or isinstance(value, dict) or (isinstance(value, str) and len(value) == _HASH))
    ]
    kind = event.type.rpartition(".")[2]
    return escaped(f"{event.time[:19].replace('T', ' ')}  {device}  {kind:<17} {' '.join(fields)}".rstrip())


def _field_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8")
