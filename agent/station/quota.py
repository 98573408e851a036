"""Quotas of one device: bounds that no honest one comes near, so that a hostile one costs the others nothing.

The rules, in order:
1. By the minute: messages and their bytes, of every kind, counted before they are parsed.
2. By the day (UTC) and in all: bytes that are stored permanently, which are events and checkpoints.
3. What exceeds a quota is neither stored nor acknowledged, and an alarm names the quota. Nothing is lost: the device
   sends it again, and it is stored when there is room.

An event that is stored already is acknowledged again without counting for rule 2.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from agent.clock import NS
from agent.station.store import Usage

WINDOW_NS = 60 * NS
MAX_DEVICES = 10_000
"""Devices that are counted; beyond that, those whose minute is over are dropped."""


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bounds of one device.

    Attributes:
        messages_a_minute: A device that reports a whole shift sends some thousand.
        bytes_a_minute: Of messages.
        bytes_a_day: Stored permanently; a shift is about 1 MB.
        bytes_stored: Stored permanently in all. Beyond it a custodian decides: raise it, or examine the device.
    """

    messages_a_minute: Annotated[int, msgspec.Meta(ge=100, le=1_000_000)] = 12_000
    bytes_a_minute: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 32)] = 16 << 20
    bytes_a_day: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 40)] = 64 << 20
    bytes_stored: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 50)] = 4 << 30


class QuotaExceeded(StrEnum):
    """The quota that a device exceeded, in words."""

    MESSAGES = "messages a minute"
    BYTES = "bytes a minute"
    DAY = "bytes a day"
    STORED = "bytes in all"

    def sentence(self, quota: Quota) -> str:
        """The alarm's text: the same for the same quota."""
        bound = {
            QuotaExceeded.MESSAGES: quota.messages_a_minute,
            QuotaExceeded.BYTES: quota.bytes_a_minute,
            QuotaExceeded.DAY: quota.bytes_a_day,
            QuotaExceeded.STORED: quota.bytes_stored,
        }[self]
        return f"it sends more than {bound} {self}: what exceeds that is not acknowledged, and stays with the device"


@dataclass(slots=True)
class _Minute:
    began_ns: int
    messages: int = 0
    bytes: int = 0
    exceeded: bool = False


class RateLimiter:
    """Counts messages by rule 1, by a monotonic clock."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._minutes: dict[str, _Minute] = {}

    def count(self, device: str, size: int, now_ns: int) -> tuple[QuotaExceeded | None, bool]:
        """Count a message.

        Returns:
            The quota that the device exceeds now, and whether that is the first time this minute.
        """
        minute = self._minutes.get(device)
        if minute is None or now_ns - minute.began_ns >= WINDOW_NS:
            if len(self._minutes) >= MAX_DEVICES:
                self._minutes = {
                    name: each for name, each in self._minutes.items() if now_ns - each.began_ns < WINDOW_NS
                }
            minute = self._minutes[device] = _Minute(now_ns)
        minute.messages += 1
        minute.bytes += size
        over = None
        if minute.messages > self._quota.messages_a_minute:
            over = QuotaExceeded.MESSAGES
        elif minute.bytes > self._quota.bytes_a_minute:
            over = QuotaExceeded.BYTES
        first = over is not None and not minute.exceeded
        minute.exceeded |= over is not None
        return over, first


def exceeded_quota(quota: Quota, usage: Usage, size: int, day: str) -> QuotaExceeded | None:
    """Rule 2: the quota that `size` more bytes on this day would exceed; None if there is room."""
    if usage.stored + size > quota.bytes_stored:
        return QuotaExceeded.STORED
    if (usage.of_day if usage.day == day else 0) + size > quota.bytes_a_day:
        return QuotaExceeded.DAY
    return None
