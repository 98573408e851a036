"""How a segment begins: its recipients, its streams, its number, and its files on storage."""

import errno

from agent.clock import NS
from agent.errors import StorageError
from agent.evidence import layout
from agent.evidence.manifest import moment_at
from agent.evidence.segment import FRAGMENT_NS, Identity, Place, SegmentBuilder, Streams
from agent.media.packet import Kind, Packet
from agent.recorder.writing.task import RecordingTask, WriterContext
from agent.storage.interface import GrowingFile

MAX_SEGMENTS = 999_999
"""The largest number that fits a file name."""


class SegmentFactory:
    """Begins segments."""

    def __init__(self, context: WriterContext) -> None:
        self._feed = context.feed
        self._storage = context.storage
        self._journal = context.journal
        self._identity = context.identity
        self._certify = context.certify
        self._clocks = context.clocks
        self._random_bytes = context.random_bytes
        self._frame_length = context.frame_length
        self._begun: tuple[object, SegmentBuilder] | None = None

    def make(self, task: RecordingTask, packets: list[Packet], *, overlap: bool) -> tuple[SegmentBuilder, GrowingFile]:
        """The next segment of a recording, with its files created; `task.segment` becomes its number.

        Args:
            task: The recording.
            packets: The first packets that it is to hold, at least one.
            overlap: Older segments hold some of them already.

        Raises:
            StorageError: Storage refuses; to be tried again with the same packets.
        """
        task.roll = False  # before the recipients are read: a change after that asks for another segment
        identity = self._identity(task.recording)
        builder = self._begin(task, packets, identity, overlap=overlap)
        number = builder.place.segment
        self._certify(task.recording)
        try:
            self._check_closable(task.recording, number)
            self._storage.publish(layout.opening(task.recording, number), builder.opening)
            file = self._storage.create(layout.segment(task.recording, number))
        except StorageError as error:
            if error.errno == errno.EEXIST:
                self._skip_taken(task, number)
            raise
        self._begun = None
        task.segment = number
        return builder, file

    def forget(self) -> None:
        """The recording has ended: a segment that could not be begun is dropped."""
        self._begun = None

    def _skip_taken(self, task: RecordingTask, number: int) -> None:
        """A segment's file name is taken: what is there stays, and the next free number is used.

        It is found by a search, because an attacker may have planted many files, and each failed attempt takes time.
        """
        parts = map(layout.segment_part, self._storage.names(layout.recording(task.recording)))
        listed = {part[0] for part in parts if part is not None}
        while number + 1 in listed:
            number += 1
        step = 1  # beyond what is listed, where there are more names than that
        while self._is_taken(task.recording, number + step):
            number += step
            step *= 2
        if number >= MAX_SEGMENTS:
            raise StorageError(errno.EMLINK, f"expected a free segment number up to {MAX_SEGMENTS}: all are taken")
        task.segment = number

    def _check_closable(self, recording: str, number: int) -> None:
        """Refuse a number whose manifest exists already: the segment could never be closed."""
        if self._storage.size(layout.manifest(recording, number)) is not None:
            raise StorageError(errno.EEXIST, f"expected no manifest of segment {number} yet: it could not be closed")

    def _is_taken(self, recording: str, number: int) -> bool:
        places = (layout.opening, layout.segment, layout.manifest)
        return any(self._storage.size(place(recording, number)) is not None for place in places)

    def _begin(
        self, task: RecordingTask, packets: list[Packet], identity: Identity, *, overlap: bool
    ) -> SegmentBuilder:
        """A new segment, or the one whose opening statement storage may already hold from an attempt that failed."""
        place = Place(task.recording, task.segment + 1, task.previous, task.interrupted)
        streams = self._streams_of(task, packets)
        first_ns = min(packet.time_ns for packet in packets[:8])
        what = (place, first_ns, streams.parameters, identity.recipient_set, identity.policy)
        if self._begun is not None and self._begun[0] == what:
            return self._begun[1]
        now = self._clocks.monotonic_ns()
        builder = SegmentBuilder(
            identity,
            place,
            streams,
            first_ns=first_ns,
            start=moment_at(self._clocks.wall(), now, first_ns),
            journal_head=self._journal.head,
            frame_length=self._frame_length(_bit_rate(packets)),
            random_bytes=self._random_bytes,
            pre_event=task.pre_event if place.segment == 1 else None,
            overlap=overlap,
        )
        self._begun = (what, builder)
        return builder

    def _streams_of(self, task: RecordingTask, packets: list[Packet]) -> Streams:
        """The streams of a new segment: of its first picture, and of its first sound that no older segment holds.

        Where the packets at hand have none of a kind, what the sources have declared counts.
        """
        declared = self._feed.streams
        pictures = (p.stream for p in packets if p.stream.parameters.kind is Kind.VIDEO)
        new = packets[max(0, task.cursor.written - task.position) :]
        sounds = (p.stream for p in new if p.stream.parameters.kind is Kind.AUDIO)
        return Streams(next(pictures, declared.video), next(sounds, declared.audio))


def _bit_rate(packets: list[Packet]) -> int:
    """Bits a second of the packets at hand; a guess when there are few."""
    span = max(packet.time_ns for packet in packets) - min(packet.time_ns for packet in packets)
    return sum(len(packet.data) for packet in packets) * 8 * NS // max(span, FRAGMENT_NS)
