"""What the writer works on and with: its settings, a recording to be written, the journal it needs, what it tells."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.clock import NS
from agent.errors import StorageError
from agent.evidence.details import Details
from agent.evidence.manifest import PreEventLength, Span
from agent.journal.entries import Entry
from agent.journal.format import OpenSegment
from agent.media.packet import Kind
from agent.media.ring import Cursor


class JournalSink(Protocol):
    """What the writer needs of the journal's keeper."""

    @property
    def head(self) -> str:
        """Hash of the newest journal line."""

    @property
    def failing(self) -> bool:
        """True while storage refuses journal lines."""

    def post(self, entry: Entry, details: Details | None = None) -> None:
        """Journal an entry."""

    def attest(self, segment: OpenSegment | None) -> None:
        """Attest the open segment's synced bytes."""


@dataclass(slots=True)
class Settings:
    """How the writer works. May be changed while it does; each value counts from its next use on.

    Attributes:
        segment_ns: Length of a segment.
        slow_sync_ns: A sync that takes longer is journalled.
        retry_ns: Between two attempts at a storage that refuses.
        attest_ns: Between two attestations of the open segment.
        reserve_bytes: Left free for the journal.
    """

    segment_ns: int = 60 * NS
    slow_sync_ns: int = 150_000_000
    retry_ns: int = NS // 2
    attest_ns: int = NS
    reserve_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """Storage does not take what it is given; recording goes on in memory."""

    error: StorageError


@dataclass(frozen=True, slots=True)
class StorageRecovered:
    """Storage takes bytes again after `outage_ns`."""

    outage_ns: int


@dataclass(frozen=True, slots=True)
class RecordingClosed:
    """All of a recording is on storage, its final manifest included."""

    recording: str


@dataclass(frozen=True, slots=True)
class RecordingBlocked:
    """Nothing can be stored in a recording's folder, although storage takes all else."""

    recording: str


@dataclass(frozen=True, slots=True)
class FirstStored:
    """The first packets of a recording are durable, `took_ns` after the start was asked for."""

    recording: str
    took_ns: int


@dataclass(frozen=True, slots=True)
class WriterFault:
    """Something went wrong that is not storage's doing; a new segment begins."""

    problem: str


WriterEvent = StorageFailed | StorageRecovered | RecordingClosed | RecordingBlocked | FirstStored | WriterFault
Notify = Callable[[WriterEvent], None]
"""Told what happens, in the writer's thread."""


@dataclass(slots=True)
class Job:
    """One recording to be written.

    Attributes:
        cursor: Its place in the ring.
        at_ns: When its start was asked for.
        pre_event: What was kept from before; None if it goes on from an earlier boot.
        segment: Number of its last segment so far; `previous` is the hash of that one's manifest, or of its opening
            statement if it was `interrupted` and not closed yet. `repaired` gives the hash of the manifest by which it
            was closed meanwhile; empty if it was not.
        end_ns: Packets from then on are not part of it; None while it runs. `end_details` say who permitted that.
        position: Number of the next packet to be sealed.
        over: Kinds of which a packet after the end was seen.
        lost: Packets since the last manifest of which no fragment could be made. `stated_lost`: what fell out of memory
            and stands in manifests, of all that `Cursor.taken_lost` counts.
        stored: True once its first packets are durable.
        caught_up: True once all that was in memory was sealed.
        spans: What was or is withheld.
        successor: The recording as which it goes on from its next segment on; empty for none. `moves` counts those so
            far, and `blocked` is the one that could not be stored.
        roll: A new segment is to begin at the next IDR picture, because it goes to other recipients.
    """

    recording: str
    cursor: Cursor
    at_ns: int
    pre_event: PreEventLength | None
    segment: int = 0
    previous: str = ""
    interrupted: bool = False
    repaired: Callable[[], str] = str
    end_ns: int | None = None
    end_details: Details | None = None
    position: int = 0
    over: set[Kind] = field(default_factory=set)
    lost: int = 0
    stated_lost: int = 0
    stored: bool = False
    caught_up: bool = False
    spans: list[Span] = field(default_factory=list)
    roll: bool = False
    successor: str = ""
    blocked: str = ""
    moves: int = 0

    def move(self) -> None:
        """Go on as its successor, from segment 1 on."""
        self.recording, self.successor = self.successor, ""
        self.segment, self.previous, self.interrupted, self.repaired = 0, "", False, str
        self.moves += 1
        if self.stored:
            self.pre_event = PreEventLength(0, 0, 0, 0, "", silent=False)

    @property
    def unstated(self) -> int:
        """Packets that were lost and stand in no manifest yet."""
        return self.lost + self.cursor.taken_lost - self.stated_lost

    def state_lost(self, packets: int) -> None:
        """So many of them stand in a manifest now."""
        self.stated_lost += packets - self.lost
        self.lost = 0
