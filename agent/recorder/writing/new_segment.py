"""How a segment begins: whom it is sealed to, which streams it holds, and its place on storage."""

import errno
from collections.abc import Callable

from agent.clock import NS, Clocks
from agent.errors import StorageError
from agent.evidence import layout
from agent.evidence.manifest import moment_at
from agent.evidence.segment import FRAGMENT_NS, Identity, Place, SegmentBuilder, Streams
from agent.media.packet import Kind, Packet
from agent.recorder.feed import Feed
from agent.recorder.writing.job import Job, JournalSink
from agent.seal.writer import RandomBytes
from agent.storage.interface import GrowingFile, Storage

MOST_SEGMENTS = 999_999
"""As many as a file name has room for."""


class SegmentMaker:
    """Begins segments.

    Args:
        feed: Where packets come from: what its sources have declared counts for streams of which there is none yet.
        storage: Where segments go.
        ledger: The journal, whose newest line a segment names.
        identity: Whose evidence a recording is; asked anew for each segment.
        certify: Puts copies of device and boot certificate beside a recording.
        clocks: Both clocks.
        random_bytes: Source of data keys.
        frame_length: The frame length of a sealed message for a bit rate in bits a second.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        storage: Storage,
        ledger: JournalSink,
        identity: Callable[[str], Identity],
        certify: Callable[[str], None],
        clocks: Clocks,
        random_bytes: RandomBytes,
        frame_length: Callable[[int], int],
    ) -> None:
        self._feed = feed
        self._storage = storage
        self._ledger = ledger
        self._identity = identity
        self._certify = certify
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._frame_length = frame_length
        self._begun: tuple[object, SegmentBuilder] | None = None

    def make(self, job: Job, packets: list[Packet], *, overlap: bool) -> tuple[SegmentBuilder, GrowingFile]:
        """The next segment of a recording, with its place on storage; its number is the job's from now on.

        Args:
            job: The recording.
            packets: The first packets that it is to hold, one at least.
            overlap: Older segments hold some of them already.

        Raises:
            StorageError: Storage refuses; to be asked again with the same packets.
        """
        job.roll = False  # before it is asked whom to seal to, so that nothing that is said meanwhile is passed over
        identity = self._identity(job.recording)
        builder = self._begin(job, packets, identity, overlap=overlap)
        number = builder.place.segment
        self._certify(job.recording)
        try:
            self._check_closable(job.recording, number)
            self._storage.publish(layout.opening(job.recording, number), builder.opening)
            file = self._storage.create(layout.segment(job.recording, number))
        except StorageError as error:
            if error.errno == errno.EEXIST:
                self._pass_over_taken(job, number)
            raise
        self._begun = None
        job.segment = number
        return builder, file

    def forget(self) -> None:
        """The recording has ended: a segment that could not be begun is begun no more."""
        self._begun = None

    def _pass_over_taken(self, job: Job, number: int) -> None:
        """Something else lies in a segment's place: it stays, and the next number is taken that nothing bears.

        All at once, for somebody may have laid files there in great number, and each attempt takes its time.
        """
        parts = map(layout.segment_part, self._storage.names(layout.recording(job.recording)))
        listed = {part[0] for part in parts if part is not None}
        while number + 1 in listed:
            number += 1
        step = 1  # beyond what is listed, where there are more names than that
        while self._is_taken(job.recording, number + step):
            number += step
            step *= 2
        if number >= MOST_SEGMENTS:
            raise StorageError(errno.EMLINK, f"expected a free segment number up to {MOST_SEGMENTS}: all are taken")
        job.segment = number

    def _check_closable(self, recording: str, number: int) -> None:
        """A segment in whose manifest's place something lies already could never be closed."""
        if self._storage.size(layout.manifest(recording, number)) is not None:
            raise StorageError(errno.EEXIST, f"expected no manifest of segment {number} yet: it could not be closed")

    def _is_taken(self, recording: str, number: int) -> bool:
        places = (layout.opening, layout.segment, layout.manifest)
        return any(self._storage.size(place(recording, number)) is not None for place in places)

    def _begin(self, job: Job, packets: list[Packet], identity: Identity, *, overlap: bool) -> SegmentBuilder:
        """A new segment, or the one whose opening statement storage may already hold from an attempt that failed."""
        place = Place(job.recording, job.segment + 1, job.previous, job.interrupted)
        streams = self._streams_of(job, packets)
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
            journal_head=self._ledger.head,
            frame_length=self._frame_length(_bit_rate(packets)),
            random_bytes=self._random_bytes,
            pre_event=job.pre_event if place.segment == 1 else None,
            overlap=overlap,
        )
        self._begun = (what, builder)
        return builder

    def _streams_of(self, job: Job, packets: list[Packet]) -> Streams:
        """The streams of a new segment: of its first picture, and of its first sound that no older segment holds.

        Where the packets at hand have none of a kind, what the sources have declared counts.
        """
        declared = self._feed.streams
        pictures = (p.stream for p in packets if p.stream.parameters.kind is Kind.VIDEO)
        new = packets[max(0, job.cursor.written - job.position) :]
        sounds = (p.stream for p in new if p.stream.parameters.kind is Kind.AUDIO)
        return Streams(next(pictures, declared.video), next(sounds, declared.audio))


def _bit_rate(packets: list[Packet]) -> int:
    """Bits a second of the packets at hand; a guess when there are few."""
    span = max(packet.time_ns for packet in packets) - min(packet.time_ns for packet in packets)
    return sum(len(packet.data) for packet in packets) * 8 * NS // max(span, FRAGMENT_NS)
