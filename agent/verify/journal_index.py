"""Index of what the journals state about boots, recordings and segments, to be compared with the files.

Its size grows slowly with the evidence: 48 bytes for each attestation (one a second while recording), 8 for each line,
and about a kilobyte for each segment.
"""

import struct
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.journal.entries import SegmentClosed, SegmentOpened, SegmentRecovered
from agent.journal.grants import Grants
from agent.trust.certificates import BootCertificate


class Attestation(NamedTuple):
    """Journal line `line` attests that the first `size` bytes of a segment were synced and had this hash."""

    size: int
    line: int
    sha256: bytes


class Attestations:
    """The attestations of one segment, in order, packed to save memory.

    Attributes:
        widest: The largest distance between two consecutive ones, or before the first, in bytes.
        last: Bytes that the last one attests; 0 if there is none.
    """

    _ONE = struct.Struct(">QQ32s")

    def __init__(self) -> None:
        self._packed = bytearray()
        self.widest = 0
        self.last = 0

    def add(self, attestation: Attestation) -> bool:
        """Add the next one. Returns False, without adding it, if it attests less than the one before."""
        if not self.last <= attestation.size < 1 << 63:
            return False
        self.widest = max(self.widest, attestation.size - self.last)
        self.last = attestation.size
        self._packed += self._ONE.pack(*attestation)
        return True

    def __iter__(self) -> Iterator[Attestation]:
        return (Attestation(*fields) for fields in self._ONE.iter_unpack(bytes(self._packed)))

    def __len__(self) -> int:
        return len(self._packed) // self._ONE.size


@dataclass(slots=True)
class SegmentIndex:
    """What the journal states about a segment.

    Attributes:
        opened, closed: The entries; None if the journal has none.
        opened_boot, closed_boot: The boots whose journals hold them.
    """

    opened: SegmentOpened | None = None
    opened_boot: int = 0
    closed: SegmentClosed | SegmentRecovered | None = None
    closed_boot: int = 0
    attestations: Attestations = field(default_factory=Attestations)


@dataclass(slots=True)
class RecordingIndex:
    """What the journal states about a recording.

    Attributes:
        boots: Boots in which it was started or resumed, in order.
        last_line: The last line that names it.
        ended_line: The line that ends it; 0 if there is none.
        ended_boot: The boot of that line.
        continued_by: The recording that continues it; empty if none.
    """

    boots: list[int] = field(default_factory=list)
    last_line: int = 0
    ended_line: int = 0
    ended_boot: int = 0
    continued_by: str = ""
    segments: dict[int, SegmentIndex] = field(default_factory=dict)

    def segment(self, number: int) -> SegmentIndex:
        """The index of a segment, created if it is new."""
        return self.segments.setdefault(number, SegmentIndex())


@dataclass(slots=True)
class BootIndex:
    """What the journal of one boot states.

    Attributes:
        certificate: None if there is none that the device issued.
        lines, checkpoints: Counts.
        first, last: Numbers of its first and its last line.
        unsigned: Lines after its last checkpoint.
        unsafe_line: The first line that shows the unsafe policy in force; 0 for none.
        shut_down: A signed line shows an orderly shutdown, so its journal is complete.
        grants: Requests that the policy granted, by attested lines.
        running: The recording that is running, by all lines.
        first_utc, last_utc: Times of its first and its last line.
        downtime: The downtime before it, in words; empty for the first boot.
        clocks: Number of lines by time source.
        untrusted: Number of lines without a bound on the error of their time.
        worst_within_s: The largest bound of the others, in seconds.
    """

    boot: int
    certificate: BootCertificate | None = None
    lines: int = 0
    checkpoints: int = 0
    first: int = 0
    last: int = 0
    unsigned: int = 0
    shut_down: bool = False
    unsafe_line: int = 0
    grants: Grants = field(default_factory=Grants)
    running: str = ""
    first_utc: str = ""
    last_utc: str = ""
    downtime: str = ""
    clocks: Counter[str] = field(default_factory=Counter)
    untrusted: int = 0
    worst_within_s: float = 0.0


class JournalIndex:
    """What all journals of a device state.

    Attributes:
        boots: By number.
        recordings: By id.
        policies: Signed policies that were in force, by SHA-256: version, and the first line that names it.
    """

    def __init__(self) -> None:
        self.policies: dict[str, tuple[int, int]] = {}
        self.boots: dict[int, BootIndex] = {}
        self.recordings: dict[str, RecordingIndex] = {}
        self._heads = array("Q")
        self._sorted = True

    def recording(self, recording: str, line: int) -> RecordingIndex:
        """The index of a recording that line number `line` names, created if it is new."""
        index = self.recordings.setdefault(recording, RecordingIndex())
        index.last_line = max(index.last_line, line)
        return index

    def note_line(self, digest: str) -> None:
        """Record the hash of a line."""
        self._heads.append(_beginning(digest))
        self._sorted = False

    def has_line(self, digest: str) -> bool:
        """True if a line has this hash. Compares the first 64 bits, which can't be chosen."""
        if not self._sorted:
            self._heads = array("Q", sorted(self._heads))
            self._sorted = True
        try:
            wanted = _beginning(digest)
        except ValueError:
            return False
        at = bisect_left(self._heads, wanted)
        return at < len(self._heads) and self._heads[at] == wanted


def _beginning(digest: str) -> int:
    return int(digest[:16], 16)
