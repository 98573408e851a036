"""What the writer works on and with: a recording to be written, settings, dependencies, and the events it reports."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.clock import NS, Clocks
from agent.errors import StorageError
from agent.evidence.details import Details
from agent.evidence.manifest import PreEventLength, Span
from agent.evidence.segment import Identity
from agent.journal.entries import Entry
from agent.journal.format import OpenSegment
from agent.media.packet import Kind
from agent.media.ring import Cursor
from agent.recorder.feed import Feed
from agent.seal.writer import RandomBytes
from agent.storage.interface import Storage


class JournalSink(Protocol):
    """The part of the journal writer that the segment writer uses."""

    @property
    def head(self) -> str:
        """Hash of the newest journal line."""

    @property
    def failing(self) -> bool:
        """True while storage refuses journal lines."""

    def post(self, entry: Entry, details: Details | None = None) -> None:
        """Journal an entry."""

    def attest(self, segment: OpenSegment | None) -> None:
        """Sign a checkpoint over the open segment's synced bytes; None once it is closed."""


@dataclass(slots=True)
class Settings:
    """Settings of the writer. They may be changed while it runs; each value counts from its next use on.

    Attributes:
        segment_ns: Length of a segment.
        slow_sync_ns: A sync that takes longer is journalled.
        retry_ns: Between two attempts while storage refuses.
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
    """Storage refuses; recording continues in memory."""

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
    """Nothing can be stored in a recording's folder, although storage takes everything else."""

    recording: str


@dataclass(frozen=True, slots=True)
class FirstStored:
    """The first packets of a recording are durable, `took_ns` after the start was requested."""

    recording: str
    took_ns: int


@dataclass(frozen=True, slots=True)
class WriterFault:
    """An error that storage did not cause; a new segment begins."""

    problem: str


WriterEvent = StorageFailed | StorageRecovered | RecordingClosed | RecordingBlocked | FirstStored | WriterFault
Notify = Callable[[WriterEvent], None]
"""Takes the writer's events; called in the writer's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterContext:
    """What the writer and its parts depend on.

    Attributes:
        feed: Where packets come from.
        storage: Where segments go.
        journal: Takes entries and attestations.
        identity: Returns a recording's signer and recipients; called for each segment.
        certify: Puts copies of device and boot certificate beside a recording.
        random_bytes: Source of data keys.
        frame_length: The frame length of a sealed message for a bit rate in bits a second.
        notify: Takes the writer's events.
    """

    feed: Feed
    storage: Storage
    journal: JournalSink
    identity: Callable[[str], Identity]
    certify: Callable[[str], None]
    clocks: Clocks
    random_bytes: RandomBytes
    frame_length: Callable[[int], int]
    notify: Notify
    settings: Settings = field(default_factory=Settings)


@dataclass(slots=True)
class RecordingTask:
    """One recording to be written.

    Attributes:
        cursor: Its place in the ring.
        at_ns: When its start was requested.
        pre_event: How much was kept from before the start; None if the recording continues one of an earlier boot.
        segment: Number of its last segment so far; `previous` is the hash of that segment's manifest, or of its opening
            statement while it is `interrupted` and not closed.
        closed_by: Gives the hash of the manifest that has closed the interrupted segment; empty while none has.
        end_ns: Packets from this time on do not belong to it; None while it runs. `end_details` say who permitted it.
        position: Number of the next packet to be sealed.
        ended_kinds: Kinds of which a packet after the end was seen.
        lost: Packets since the last manifest of which no fragment could be made. `reported_lost`: how many of those
            that fell out of memory (`Cursor.reported_lost`) stand in manifests.
        stored: True once its first packets are durable.
        caught_up: True once everything that was in memory was sealed.
        spans: Pauses and mutes.
        successor: The recording as which it continues from its next segment on; empty for none. `moves` counts these
            changes, and `blocked` is the recording that could not be stored.
        roll: A new segment is to begin at the next IDR picture, because it is sealed to other recipients.
    """

    recording: str
    cursor: Cursor
    at_ns: int
    pre_event: PreEventLength | None
    segment: int = 0
    previous: str = ""
    interrupted: bool = False
    closed_by: Callable[[], str] = str
    end_ns: int | None = None
    end_details: Details | None = None
    position: int = 0
    ended_kinds: set[Kind] = field(default_factory=set)
    lost: int = 0
    reported_lost: int = 0
    stored: bool = False
    caught_up: bool = False
    spans: list[Span] = field(default_factory=list)
    roll: bool = False
    successor: str = ""
    blocked: str = ""
    moves: int = 0

    def continue_as_successor(self) -> None:
        """Continue as its successor, from segment 1 on."""
        self.recording, self.successor = self.successor, ""
        self.segment, self.previous, self.interrupted, self.closed_by = 0, "", False, str
        self.moves += 1
        if self.stored:
            self.pre_event = PreEventLength(0, 0, 0, 0, "", silent=False)

    @property
    def unreported_lost(self) -> int:
        """Packets that were lost and stand in no manifest yet."""
        return self.lost + self.cursor.reported_lost - self.reported_lost

    def report_lost(self, packets: int) -> None:
        """Note that a manifest states this many lost packets."""
        self.reported_lost += packets - self.lost
        self.lost = 0
