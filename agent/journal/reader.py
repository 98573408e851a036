"""The one reader of journals: bytes become bounded lines, lines become entries with their place, chain and signature.

The recorder at start, the dock, `verify`, the ledger and `open` all read journals, and must agree on what a journal is.
They agree because these rules are written down once, here:

1. *Lines.* A line ends with a line feed and is at most `MAX_LINE` bytes long (`raw_lines`). Longer ones and the bytes
   after the last line feed are not lines; the reader skips them in constant memory.
2. *Origin.* A boot's file is this device's if its first line is the boot entry of that very boot, whose
   certificate names that boot and the line before (`boot_line_problem`), and is signed by the identity key
   (`certified_boot`).
3. *The chain.* A line follows another if its number is one higher and it names that line's hash (`Chain`).
4. *Signatures.* A checkpoint covers all lines before it if the boot's key signed it over number and hash of the line
   before and over its own times (`Mismatch`).

What a line is trusted for differs by reader, on purpose, and each states its rule:

| reader | chain broken | line without a signature |
| --- | --- | --- |
| `agent.journal.attested`, for the recorder | nothing behind it is attested | what restricts (`journal.line_trust`) |
| `agent.verify.journals` | a finding; repeated lines do not count | a finding, if it needs a signature |
| `agent.audit.journal_lines` | reported; reading continues with the next line | reported, left out if it needs one |
| `agent.export.journal_events` | not checked: `open` is preceded by `verify` | not checked |
| `agent.dock.journal` | not checked: the station compares hashes | forwarded, marked if it needs a signature |
"""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.clock import utc_text
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import (
    CHECKPOINT_TYPE,
    MAX_LINE,
    CheckpointPayload,
    Line,
    checkpoint_payload,
    parse_line,
    split_lines,
)
from agent.keys import jws
from agent.keys.jwk import public_key
from agent.storage.interface import Storage
from agent.trust.records import BOOT_TYP

_LINK = re.compile(
    rb',"mono_us":\d{1,16},"n":(\d{1,16}),"prev":"([0-9a-f]{64})"(?:,"sealed":"[^"\\]*")?'
    rb',"utc":"[^"\\]*","within_ms":(?:\d{1,16}|null)\}$'
)
"""Number and predecessor of a line in canonical JSON, whose last brace closes the object that these names are in."""
_CHECKPOINT = b'"kind":"checkpoint"'
_WINDOW = 1 << 18
NO_FILE = frozenset(
    {
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
    }
)
"""Errors that say that something else lies in the place of a file or folder of the recorder's; any other may pass."""


# -- 1. lines ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """A line, without the line feed that ends it."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line of `size` bytes with its line feed: longer than any line of a journal."""

    size: int


@dataclass(frozen=True, slots=True)
class Torn:
    """The last `size` bytes, which no line feed ends."""

    size: int


def raw_lines(stream: BinaryIO, most: int | None = None) -> Iterator[Whole | TooLong | Torn]:
    """The lines of a file, from where the stream stands; memory is bounded, however long they are.

    Args:
        stream: The file.
        most: No line is begun, and none that is too long is read on, after so many bytes; None for the whole file.

    Raises:
        StorageError: The stream can't be read on.
    """
    too_long = done = 0
    while (most is None or done < most) and (raw := read_line(stream)):
        done += len(raw)
        if raw.endswith(b"\n"):
            yield TooLong(too_long + len(raw)) if too_long else Whole(raw[:-1])
            too_long = 0
        elif len(raw) > MAX_LINE:
            too_long += len(raw)
        else:
            yield Torn(too_long + len(raw))
            return
    if too_long:
        yield Torn(too_long)


def read_line(stream: BinaryIO) -> bytes:
    """A line with its line feed; a piece without one of a line that is too long, or of the file's end.

    Raises:
        StorageError: The stream can't be read on.
    """
    try:
        return stream.readline(MAX_LINE + 1)
    except OSError as error:
        raise StorageError(error.errno, f"reading failed: {error.strerror}") from error


def is_checkpoint(raw: bytes) -> bool:
    """False of a line that is certainly no checkpoint, without reading it; most of a recording's lines are some."""
    return _CHECKPOINT in raw


# -- 2. whose file it is ----------------------------------------------------------------------------------------------


def boot_line_problem(first: Line, boot: int, certified_boot: object, certified_prev: object) -> str:
    """Why a line, with what its certificate names, is not the first one of that boot's file; empty if it is."""
    entry = first.entry
    if not isinstance(entry, entries.Boot):
        return f"expected the boot line of boot {boot}"
    if entry.boot != boot:
        return f"expected boot {boot}, the line says boot {entry.boot}"
    if certified_boot != boot:
        return f"expected the certificate of boot {boot}, got that of boot {certified_boot}"
    if certified_prev != (first.prev if first.n > 1 else None):
        return "expected a certificate that names the line before, it names another"
    return ""


@dataclass(frozen=True, slots=True)
class CertifiedBoot:
    """What a boot's certificate says: its signing key, and the kernel's boot id (empty if unknown)."""

    key: PublicKey
    boot_id: str


def certified_boot(first: Line, boot: int, identity: PublicKey | None) -> CertifiedBoot:
    """Rule 2.

    Args:
        first: The first line of a file.
        boot: The boot whose file it should be.
        identity: The device's identity key; None to leave the certificate's signature to somebody else's check.

    Raises:
        EvidenceError: It is not the first line of that boot, or not of this device.
    """
    token = first.entry.certificate if isinstance(first.entry, entries.Boot) else ""
    payload: dict[str, Any] = {}
    if token:
        payload = jws.unverified_payload(token, BOOT_TYP) if identity is None else jws.verify(token, BOOT_TYP, identity)
    if problem := boot_line_problem(first, boot, payload.get("boot"), payload.get("prev")):
        raise EvidenceError(problem)
    try:
        return CertifiedBoot(public_key(payload.get("jwk")), str(payload.get("boot_id", "")))
    except KeyFileError as error:
        raise EvidenceError(f"expected a boot certificate with a key: {error}") from error


# -- 3. the chain -----------------------------------------------------------------------------------------------------


class Link(Enum):
    """How a line stands to the one before."""

    FOLLOWS = "follows"
    UNCHECKED = "what it follows is missing or can't be read, which was reported there"
    ALTERED = "its number follows, the hash that it names is another"
    GAP = "lines are missing before it"
    MOVED = "its number was there already: repeated or moved"


class Chain:
    """Where the chain stands.

    Attributes:
        number: Number of the last line; 0 before the first.
        head: Hash of that line, of the device certificate before the first one; None where nobody can tell it.
        unread: Lines since then that could not be read.
    """

    __slots__ = ("head", "number", "unread")

    def __init__(self, head: str | None, number: int = 0) -> None:
        self.head = head
        self.number = number
        self.unread = 0

    def link(self, n: int, prev: str) -> Link:
        """How a line with this number that names this hash stands to the last one."""
        expected = self.number + 1
        if n == expected and prev == self.head:
            return Link.FOLLOWS
        if n < expected:
            return Link.MOVED
        if self.head is None or (self.unread and n == expected + self.unread):
            return Link.UNCHECKED
        return Link.ALTERED if n == expected else Link.GAP

    def take(self, n: int, digest: str) -> None:
        """The chain stands at this line."""
        self.number, self.head, self.unread = n, digest, 0

    def lose(self) -> None:
        """A file is missing or can't be read on: nobody can tell what the next line follows."""
        self.head, self.unread = None, 0


def link_of(raw: bytes) -> tuple[int, str] | None:
    """Number and predecessor of a line, without decoding it, as `parse_line` reads them; None if it is certainly none.

    Ten times faster than `parse_line`. A line that is in the chain by this was written by who signs behind it.
    """
    found = _LINK.search(raw)
    return None if found is None else (int(found[1]), found[2].decode("ascii"))


# -- 4. signatures ----------------------------------------------------------------------------------------------------


class Mismatch(Enum):
    """Why a checkpoint that the boot's key has signed does not cover the lines before it."""

    OTHER_BOOT = "it is another boot's or another device's: it was moved here"
    OTHER_LINES = "it signs another line than the one before it: lines were altered and chained anew"
    OTHER_TIMES = "it signs other times than its line has: the line was altered"


def checkpoint_mismatch(
    line: Line, payload: CheckpointPayload, boot: int, device: str | None = None
) -> Mismatch | None:
    """Rule 4, of a payload whose signature was verified; None if it covers the lines before it.

    Args:
        line: The checkpoint's line.
        payload: What it signs.
        boot: The boot whose file it stands in.
        device: The device; None where the boot's key was certified for one device already.
    """
    if payload.boot != boot or (device is not None and payload.device != device):
        return Mismatch.OTHER_BOOT
    if (payload.n, payload.head) != (line.n - 1, line.prev):
        return Mismatch.OTHER_LINES
    signed = (payload.utc, payload.clock, payload.within_ms, payload.mono_us)
    if signed != (utc_text(line.wall.utc_ns), line.wall.source, line.within_ms, line.mono_us):
        return Mismatch.OTHER_TIMES
    return None


def verified_checkpoint(entry: entries.Checkpoint, key: PublicKey) -> CheckpointPayload:
    """What a checkpoint signs.

    Raises:
        EvidenceError: It is not signed by this key.
    """
    return checkpoint_payload(jws.verify(entry.jws, CHECKPOINT_TYPE, key))


def claimed_checkpoint(entry: entries.Checkpoint) -> CheckpointPayload | None:
    """What a checkpoint claims to sign, its signature left to others; None if it has another form."""
    try:
        return checkpoint_payload(jws.unverified_payload(entry.jws, CHECKPOINT_TYPE))
    except EvidenceError:
        return None


def covers(line: Line, boot: int, key: PublicKey | None) -> bool:
    """True if this line is a checkpoint by which the boot's key signs all lines before it, up to any broken link."""
    if key is None or not isinstance(line.entry, entries.Checkpoint):
        return False
    try:
        return checkpoint_mismatch(line, verified_checkpoint(line.entry, key), boot) is None
    except EvidenceError:
        return False


# -- looking a line up ------------------------------------------------------------------------------------------------


def line_hash(storage: Storage, boot: int, number: int) -> str:
    """The hash of a journal's line; empty if there is no such line.

    Lines are numbered one by one, so that its place is found by halving: a journal of 10 GB costs some 20 reads.
    Unsigned lines that somebody appended can hide a line from the search, or show another one of the same number.

    Raises:
        StorageError: Storage can't be read.
    """
    path = layout.journal(boot)
    try:
        size = storage.size(path)
        if size is None:
            return ""
        with storage.open(path) as stream:
            return _search(stream, size, number)
    except StorageError as error:
        if error.errno in NO_FILE:
            return ""
        raise


def _search(stream: BinaryIO, size: int, number: int) -> str:
    low, high = 0, size
    while high - low > _WINDOW:
        middle = (low + high) // 2
        stream.seek(middle)
        first = next(_lines(stream.read(2 * MAX_LINE), whole=False), None)
        if first is not None and first.n <= number:
            low = middle
        else:
            high = middle
    stream.seek(low)
    lines = _lines(stream.read(high - low + 2 * MAX_LINE), whole=low == 0)
    return next((line.hash for line in lines if line.n == number), "")


def _lines(data: bytes, *, whole: bool) -> Iterator[Line]:
    """The lines in a piece of a journal; `whole` if it begins where a line does."""
    for raw in split_lines(data)[0][0 if whole else 1 :]:
        try:
            yield parse_line(raw)
        except EvidenceError:
            continue
