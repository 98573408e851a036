"""A log of what was written to a block device, and what a power cut may leave of it.

The format is that of Linux' dm-log-writes, which QEMU's `blklogwrites` writes too (block/blklogwrites.c): a header in
one sector, then entries, each a sector that says where, how much and how, followed by what was written; little-endian.

A drive may keep what it has not flushed in any order, in part, or not at all; what came before a flush that it has
acknowledged stays. So a cut leaves: all that was logged before the last flush, and of what came after it whatever
chance leaves, a write that was torn at a sector included. Who writes through (FUA) is kept too.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAGIC = 0x6A736677736872
VERSION = 1
FLUSH, FUA, DISCARD = 1, 2, 4
_HEADER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")


class LogError(Exception):
    """It is not such a log, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that the drive has taken.

    Attributes:
        sector: Where on the device, in sectors.
        sectors: How many.
        flags: `FLUSH`, `FUA`, `DISCARD`, or several of them.
        start: Where in the log its data begins.
        end: Where in the log it ends: a log of that size or more holds all of it.
    """

    sector: int
    sectors: int
    flags: int
    start: int
    end: int

    @property
    def writes(self) -> bool:
        """True if it changes what is on the device."""
        return self.sectors > 0 and not self.flags & DISCARD


@dataclass(frozen=True, slots=True)
class Piece:
    """What is on the device after a cut: `length` bytes at `offset`, as they stand at `start` in the log."""

    offset: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Log:
    """A log that was read.

    Attributes:
        sector_size: In bytes.
        entries: In the order in which they were logged.
    """

    sector_size: int
    entries: Sequence[Entry]

    def up_to(self, size: int) -> int:
        """How many entries lie wholly within the first `size` bytes of the log."""
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle].end <= size:
                low = middle + 1
            else:
                high = middle
        return low

    def left_by_a_cut(self, count: int, chance: random.Random, *, lying_flushes: int = 0) -> Iterator[Piece]:
        """What is left on the device when power goes after `count` entries.

        Args:
            count: So many entries were taken.
            chance: What is kept of the unflushed ones.
            lying_flushes: The drive says of so many of its newest flushes only that they were done.
        """
        entries = self.entries[:count]
        durable = _flushed(entries, lying_flushes)
        for number, entry in enumerate(entries):
            if not entry.writes:
                continue
            sectors = entry.sectors
            if number >= durable and (lying_flushes or not entry.flags & FUA):
                sectors = _kept(entry.sectors, chance)
            if sectors:
                yield Piece(entry.sector * self.sector_size, entry.start, sectors * self.sector_size)


def _flushed(entries: Sequence[Entry], lying: int) -> int:
    """How many of the first entries the last flush that can be believed has made durable."""
    for number in range(len(entries) - 1, -1, -1):
        if entries[number].flags & FLUSH:
            if not lying:
                return number
            lying -= 1
    return 0


def _kept(sectors: int, chance: random.Random) -> int:
    """All of a write, nothing of it, or, one time in eight, its beginning."""
    what = chance.randrange(8)
    if what == 0:
        return chance.randrange(sectors)
    return sectors if what % 2 else 0


def read(data: bytes | bytearray | memoryview) -> Log:
    """Read a log to its end.

    Raises:
        LogError: The header is not one, or an entry is cut.
    """
    if len(data) < _HEADER.size:
        raise LogError(f"expected a log of at least {_HEADER.size} bytes, got {len(data)}")
    magic, version, _count, sector_size = _HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise LogError(f"expected magic {MAGIC:#x} and version {VERSION}, got {magic:#x} and {version}")
    if sector_size < _ENTRY.size or sector_size & (sector_size - 1):
        raise LogError(f"expected a sector size that is a power of two and at least {_ENTRY.size}, got {sector_size}")
    if len(data) < sector_size:
        raise LogError(f"expected a header of one sector, {sector_size} bytes, got {len(data)}")
    entries = []
    # The header's count is brought up to date now and then only: the log's own end says how many there are.
    at = sector_size
    while at < len(data):
        if at + sector_size > len(data):
            raise LogError(f"expected an entry of one sector at byte {at}, the log ends at {len(data)}")
        sector, sectors, flags, _length = _ENTRY.unpack_from(data, at)
        start = at + sector_size
        end = start if flags & DISCARD else start + sectors * sector_size
        if end > len(data):
            raise LogError(f"expected {end - start} bytes of data at byte {start}, the log ends at {len(data)}")
        entries.append(Entry(sector, sectors, flags, start, end))
        at = end
    return Log(sector_size, entries)
