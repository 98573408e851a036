"""The journal of one earlier boot as the recorder reads it: its attested lines, and the unattested ones behind them.

The rules, in order (lines, chain and signatures are those of `agent.journal.reader`):
1. A file is this device's if its first line is the certified boot line of that very boot.
2. *Attested* are the lines from the first one to the last checkpoint that the boot's key signed over them, as long as
   the chain is unbroken up to it. Behind damage nothing is attested.
3. All other lines are unattested. The first `TAIL` bytes of them are read; `agent.journal.line_trust` says what they
   are trusted for.

A file is read as far as it is attested, and at most `TAIL` bytes further, whatever its size. Checking every signature
of a long shift would take seconds. It is enough to find the last good one: a checkpoint that the boot has not signed is
one that it never wrote, so it has signed nothing that follows. Among checkpoints in an unbroken chain all good ones
come first, and a binary search finds where they end.
"""

import contextlib
import errno
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.journal.format import Line, parse_line
from agent.journal.reader import (
    Chain,
    Link,
    TooLong,
    Torn,
    Whole,
    certified_boot,
    covers,
    is_checkpoint,
    link_of,
    raw_lines,
    read_line,
)
from agent.storage.interface import Storage

TAIL = 1 << 20
"""Bytes of unattested lines that are looked at: what a recorder writes between two checkpoints, many times over."""
_STRIDE = TAIL
_NO_FILE = {errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of opening something that is no file, or a file whose first block can't be read even when tried again."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class BootJournal:
    """The journal of one boot of this device.

    Attributes:
        boot: Its number.
        first: Its first line.
        key: The boot's signing key, as certified.
        boot_id: The kernel's boot id, as certified.
        attested_bytes: So many bytes of the file are attested; 0 if not even the first line is.
        last: The last attested line, a checkpoint; None if there is none.
        chained: Number of the last line that the chain from the first one reaches, as far as was read.
        size: Bytes of the file.
    """

    storage: Storage
    boot: int
    first: Line
    key: PublicKey
    boot_id: str
    attested_bytes: int
    last: Line | None
    chained: int
    size: int

    def attested(self) -> Iterator[Line]:
        """The attested lines in order; of checkpoints only the last one before another line, and the last of all.

        Raises:
            StorageError: Storage can't be read on.
        """
        checkpoint = b""
        for raw in self._raw(0, self.attested_bytes):
            if is_checkpoint(raw):
                checkpoint = raw
                continue
            yield from _parsed(checkpoint)
            yield from _parsed(raw)
            checkpoint = b""
        if self.last is not None:
            yield self.last

    def unattested(self) -> Iterator[Line]:
        """The lines that follow, up to `TAIL` bytes, whether they are chained or not.

        Raises:
            StorageError: Storage can't be read on.
        """
        for raw in self._raw(self.attested_bytes, min(self.size, self.attested_bytes + TAIL)):
            yield from _parsed(raw)

    def no_lines(self) -> Iterator[Whole | TooLong]:
        """Lines among those bytes that are no journal lines, and those that are too long to be any.

        Raises:
            StorageError: Storage can't be read on.
        """
        for item in self._ended(self.attested_bytes, min(self.size, self.attested_bytes + TAIL)):
            if isinstance(item, TooLong) or not any(_parsed(item.raw)):
                yield item

    def _raw(self, start: int, end: int) -> Iterator[bytes]:
        """Whole lines between two places in the file, without their line feeds."""
        return (item.raw for item in self._ended(start, end) if isinstance(item, Whole))

    def _ended(self, start: int, end: int) -> Iterator[Whole | TooLong]:
        """Whatever ends with a line feed between two places in the file."""
        if start >= end:
            return
        with self.storage.open(layout.journal(self.boot)) as stream:
            stream.seek(start)
            place = start
            for item in raw_lines(stream, end - start):
                place += len(item.raw) + 1 if isinstance(item, Whole) else item.size
                if not isinstance(item, Torn) and place <= end:
                    yield item


def read_boot(storage: Storage, boot: int, identity: PublicKey | None) -> BootJournal | None:
    """A boot's journal; None if the file is not this device's journal of that boot.

    Args:
        storage: The evidence folder.
        boot: The boot's number.
        identity: The device's identity key; None to leave the certificate unchecked.

    Raises:
        StorageError: Storage can't be read.
    """
    raw = _first_line(storage, boot)
    if raw is None:
        return None
    try:
        first = parse_line(raw.rstrip(b"\n"))
        certified = certified_boot(first, boot, identity)
    except EvidenceError:
        return None
    path = layout.journal(boot)
    size = storage.size(path) or 0
    with storage.open(path) as stream, storage.open(path) as second:
        scan = _Scan(stream, second, boot, certified.key)
        found = scan.last_good(first, len(raw))
    attested, last = found if found is not None else (0, None)
    return BootJournal(storage, boot, first, certified.key, certified.boot_id, attested, last, scan.chained, size)


def is_ours(storage: Storage, boot: int, identity: PublicKey) -> bool:
    """True if a journal begins with the boot line of that very boot, certified by the device's identity key.

    Raises:
        StorageError: Storage can't be read.
    """
    raw = _first_line(storage, boot)
    if raw is None:
        return False
    try:
        certified_boot(parse_line(raw.rstrip(b"\n")), boot, identity)
    except EvidenceError:
        return False
    return True


def _first_line(storage: Storage, boot: int) -> bytes | None:
    """The first line; None if there is no file that can be read for good.

    Retry EIO, which a card that comes loose gives: skipping a valid journal would reuse its line numbers.
    """
    for left in reversed(range(_TRIES)):
        try:
            with storage.open(layout.journal(boot)) as stream:
                raw = read_line(stream)
                return raw if raw.endswith(b"\n") else None
        except StorageError as error:
            if error.errno == errno.EIO and left:
                continue
            if error.errno in _NO_FILE:
                return None
            raise
    raise AssertionError


def _parsed(raw: bytes) -> Iterator[Line]:
    """The line, if this version knows its kind; another version may know other kinds."""
    with contextlib.suppress(EvidenceError):
        yield parse_line(raw)


class _Scan:
    """Finds the last checkpoint that a boot has signed over an unbroken chain.

    Args:
        stream: The journal's file.
        second: The same, for looking things up in it.

    Attributes:
        chained: Number of the last line that the chain reaches.
    """

    def __init__(self, stream: BinaryIO, second: BinaryIO, boot: int, key: PublicKey) -> None:
        self._stream = stream
        self._second = second
        self._boot = boot
        self._key = key
        self._places = array("Q")
        self.chained = 0
        self._good = 0
        self._length = 0
        self._last: Line | None = None

    def last_good(self, first: Line, offset: int) -> tuple[int, Line] | None:
        """Where it ends in the file, and the line itself; None if there is none.

        Args:
            first: The file's first line.
            offset: Bytes of it.
        """
        self._stream.seek(offset)
        chain = Chain(first.hash, first.n)
        proven = 0
        while (raw := read_line(self._stream)).endswith(b"\n"):
            body = raw[:-1]
            link = link_of(body)
            if link is None or chain.link(*link) is not Link.FOLLOWS:
                break
            if is_checkpoint(body):
                self._places.append(offset)
            chain.take(link[0], sha256_hex(body))
            offset += len(raw)
            if offset - proven > _STRIDE:
                if len(self._places) == self._good or not self._is_good(len(self._places) - 1):
                    break
                self._good, proven = len(self._places), offset
        self.chained = chain.number
        low, high = self._good, len(self._places)
        while low < high:
            middle = (low + high) // 2
            if self._is_good(middle):
                low = middle + 1
            else:
                high = middle
        if not low or not self._is_good(low - 1) or self._last is None:
            return None
        return self._places[low - 1] + self._length, self._last

    def _is_good(self, index: int) -> bool:
        """True if that checkpoint is signed by the boot, over the line before it and its own times."""
        self._second.seek(self._places[index])
        raw = read_line(self._second)
        try:
            line = parse_line(raw.rstrip(b"\n"))
        except EvidenceError:
            return False
        self._length, self._last = len(raw), line
        return covers(line, self._boot, self._key)
