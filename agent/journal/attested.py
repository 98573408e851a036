"""The journal of one earlier boot, split into what is attested and what merely stands there.

The rules, in order:
1. A file is this device's if its first line is the `boot` entry of that very boot, whose certificate the identity key
   signed for that boot and for the line before. No other line of a file is a boot entry, whatever it says.
2. *Attested* are the lines from the first one to the last checkpoint that the boot's key signed over them, as long as
   the chain is unbroken up to it. Behind damage nothing is attested.
3. All other lines are unattested. The first `TAIL` bytes of them are looked at; see `agent.journal.belief` for what
   they are believed for.

A file is read as far as it is attested, and at most `TAIL` bytes further, whatever its size. Checking every signature
of a long shift would take seconds. It is enough to find the last good one: a checkpoint that the boot has not signed is
one that it never wrote, so it has signed nothing that follows. Among checkpoints in an unbroken chain all good ones
come first, and a binary search finds where they end.
"""

import contextlib
import errno
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import utc_text
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import CHECKPOINT_TYPE, MAX_LINE, Line, checkpoint_payload, parse_line
from agent.keys import jws
from agent.keys.jwk import public_key
from agent.storage.interface import Storage
from agent.trust.certificates import BOOT_TYP

TAIL = 1 << 20
"""Bytes of unattested lines that are looked at: what a recorder writes between two checkpoints, many times over."""
_STRIDE = TAIL
_LINK = re.compile(
    rb',"mono_us":\d{1,16},"n":(\d{1,16}),"prev":"([0-9a-f]{64})"(?:,"sealed":"[^"\\]*")?'
    rb',"utc":"[^"\\]*","within_ms":(?:\d{1,16}|null)\}$'
)
"""Number and predecessor of a line in canonical JSON, whose last brace closes the object that these names are in."""
_CHECKPOINT = b'"kind":"checkpoint"'
_NO_FILE = {errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EIO}
"""What opening something else than a file says, and a file whose first block can't be read for good."""
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
            if _CHECKPOINT in raw:
                checkpoint = raw
                continue
            yield from _parsed(checkpoint)
            yield from _parsed(raw)
            checkpoint = b""
        if self.last is not None:
            yield self.last

    def unattested(self) -> Iterator[Line]:
        """What follows, as far as it is looked at and has the form of a line; whether it is chained or not.

        Raises:
            StorageError: Storage can't be read on.
        """
        for raw in self._raw(self.attested_bytes, min(self.size, self.attested_bytes + TAIL)):
            yield from _parsed(raw)

    def no_lines(self) -> Iterator[bytes]:
        """Whole lines among those, without their line feeds, that do not have the form of one.

        Raises:
            StorageError: Storage can't be read on.
        """
        for raw in self._raw(self.attested_bytes, min(self.size, self.attested_bytes + TAIL)):
            if not any(_parsed(raw)):
                yield raw

    def _raw(self, start: int, end: int) -> Iterator[bytes]:
        """Whole lines between two places in the file, without their line feeds."""
        if start >= end:
            return
        with self.storage.open(layout.journal(self.boot)) as stream:
            stream.seek(start)
            place = start
            while place < end:
                raw = _line(stream)
                if not raw:
                    return
                place += len(raw)
                if raw.endswith(b"\n") and place <= end:
                    yield raw[:-1]


def read_boot(storage: Storage, boot: int, identity: PublicKey | None) -> BootJournal | None:
    """A boot's journal; None if the file is not this device's journal of that boot.

    Args:
        storage: The evidence folder.
        boot: The boot's number.
        identity: The device's identity key; None to believe the certificate unchecked.

    Raises:
        StorageError: Storage can't be read.
    """
    raw = _first_line(storage, boot)
    if raw is None:
        return None
    try:
        first = parse_line(raw.rstrip(b"\n"))
        certificate = _certificate(first, boot, identity)
        key = public_key(certificate.get("jwk"))
    except (EvidenceError, KeyFileError):
        return None
    path = layout.journal(boot)
    size = storage.size(path) or 0
    with storage.open(path) as stream, storage.open(path) as second:
        scan = _Scan(stream, second, boot, key)
        found = scan.last_good(first, len(raw))
    attested, last = found if found is not None else (0, None)
    boot_id = str(certificate.get("boot_id", ""))
    return BootJournal(storage, boot, first, key, boot_id, attested, last, scan.chained, size)


def is_ours(storage: Storage, boot: int, identity: PublicKey) -> bool:
    """True if a journal begins with the boot line of that very boot, certified by the device's identity key.

    Raises:
        StorageError: Storage can't be read.
    """
    raw = _first_line(storage, boot)
    try:
        return raw is not None and bool(_certificate(parse_line(raw.rstrip(b"\n")), boot, identity))
    except EvidenceError:
        return False


def _certificate(first: Line, boot: int, identity: PublicKey | None) -> dict[str, Any]:
    """Rule 1.

    Raises:
        EvidenceError: It is not the first line of that boot.
    """
    entry = first.entry
    if not isinstance(entry, entries.Boot) or entry.boot != boot:
        raise EvidenceError(f"expected the boot line of boot {boot}")
    token = entry.certificate
    payload = jws.unverified_payload(token, BOOT_TYP) if identity is None else jws.verify(token, BOOT_TYP, identity)
    if payload.get("boot") != boot or payload.get("prev") != (first.prev if first.n > 1 else None):
        raise EvidenceError(f"expected a certificate for boot {boot} after the line that precedes it")
    return payload


def _first_line(storage: Storage, boot: int) -> bytes | None:
    """The first line; None if there is no file that can be read for good.

    A card that goes away while it is read says nothing about whose the journal is, so an error that may pass is tried
    again: to skip a valid journal would be to use its line numbers twice.
    """
    for left in reversed(range(_TRIES)):
        try:
            with storage.open(layout.journal(boot)) as stream:
                raw = _line(stream)
                return raw if raw.endswith(b"\n") else None
        except StorageError as error:
            if error.errno == errno.EIO and left:
                continue
            if error.errno in _NO_FILE:
                return None
            raise
    raise AssertionError


def _parsed(raw: bytes) -> Iterator[Line]:
    """The line, if it has the form of one that this version knows; another version may know other kinds."""
    with contextlib.suppress(EvidenceError):
        yield parse_line(raw)


def _line(stream: BinaryIO) -> bytes:
    try:
        return stream.readline(MAX_LINE + 1)
    except OSError as error:
        raise StorageError(error.errno, f"reading failed: {error.strerror}") from error


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
        head, number = first.hash.encode("ascii"), first.n
        proven = 0
        self.chained = number
        while (raw := _line(self._stream)).endswith(b"\n"):
            body = raw[:-1]
            link = _LINK.search(body)
            if link is None or link[2] != head or int(link[1]) != number + 1:
                break
            if _CHECKPOINT in body:
                self._places.append(offset)
            head, number = sha256_hex(body).encode("ascii"), number + 1
            self.chained = number
            offset += len(raw)
            if offset - proven > _STRIDE:
                if len(self._places) == self._good or not self._is_good(len(self._places) - 1):
                    break
                self._good, proven = len(self._places), offset
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
        raw = _line(self._second)
        try:
            line = parse_line(raw.rstrip(b"\n"))
            if not isinstance(line.entry, entries.Checkpoint):
                return False
            payload = checkpoint_payload(jws.verify(line.entry.jws, CHECKPOINT_TYPE, self._key))
        except EvidenceError:
            return False
        self._length, self._last = len(raw), line
        times = (payload.utc, payload.clock, payload.within_ms, payload.mono_us)
        return (payload.boot, payload.n, payload.head) == (self._boot, line.n - 1, line.prev) and times == (
            utc_text(line.wall.utc_ns),
            line.wall.source,
            line.within_ms,
            line.mono_us,
        )
