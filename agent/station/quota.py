"""How much one device may say: bounds that no honest one comes near, so that a hostile one costs the others nothing.

The rules, in order:
1. By the minute: messages and their bytes, of every kind, counted before anything of them is read.
2. By the day (UTC) and in all: bytes of what is kept for good, which are events and checkpoints.
3. What is beyond a bound is neither kept nor acknowledged, and an alarm says which bound it is. Nothing is lost by
   that: the device says it again, and it is taken when there is room.

An event that is kept already is acknowledged again without counting for rule 2.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from agent.clock import NS
from agent.station.store import Usage

WINDOW_NS = 60 * NS
MAX_DEVICES = 10_000
"""Devices whose minute is remembered; of more, those whose minute is over are forgotten."""


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bounds of one device.

    Attributes:
        messages_a_minute: A device that has a whole shift to tell says some thousand.
        bytes_a_minute: Of messages.
        bytes_a_day: Kept for good; a shift is about 1 MB.
        bytes_stored: Kept for good in all. Beyond it a custodian has to decide: raise it, or look into this device.
    """

    messages_a_minute: Annotated[int, msgspec.Meta(ge=100, le=1_000_000)] = 12_000
    bytes_a_minute: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 32)] = 16 << 20
    bytes_a_day: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 40)] = 64 << 20
    bytes_stored: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 50)] = 4 << 30


class QuotaExceeded(StrEnum):
    """The bound that a device is beyond, in words."""

    MESSAGES = "messages a minute"
    BYTES = "bytes a minute"
    DAY = "bytes a day"
    STORED = "bytes in all"

    def sentence(self, quota: Quota) -> str:
        """What an alarm says. The same bound has the same sentence."""
        bound = {
            QuotaExceeded.MESSAGES: quota.messages_a_minute,
            QuotaExceeded.BYTES: quota.bytes_a_minute,
            QuotaExceeded.DAY: quota.bytes_a_day,
            QuotaExceeded.STORED: quota.bytes_stored,
        }[self]
        return f"it says more than {bound} {self}: what is beyond is not acknowledged, and stays with the device"


@dataclass(slots=True)
class _Minute:
    began_ns: int
    messages: int = 0
    bytes: int = 0
    over: bool = False


class RateLimiter:
    """Rule 1, by a monotonic clock.

    Args:
        quota: The bounds.
    """

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._minutes: dict[str, _Minute] = {}

    def over(self, device: str, size: int, now_ns: int) -> tuple[QuotaExceeded | None, bool]:
        """Count a message. The bound that the device is beyond, and whether it is so for the first time this minute."""
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
        first = over is not None and not minute.over
        minute.over |= over is not None
        return over, first


def exceeded_quota(quota: Quota, usage: Usage, size: int, day: str) -> QuotaExceeded | None:
    """Rule 2: the bound that a device would be beyond with `size` bytes more on this day; None if there is room."""
    if usage.stored + size > quota.bytes_stored:
        return QuotaExceeded.STORED
    if (usage.of_day if usage.day == day else 0) + size > quota.bytes_a_day:
        return QuotaExceeded.DAY
    return None
