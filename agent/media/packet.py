"""Packets and streams of encoded pictures and sound, as all sources deliver them.

A packet carries its time twice: `ticks`, exact, in its stream's own time base, for the container; and `time_ns`, on
the recorder's monotonic clock, for every decision (ring, start, stop). The two differ by the stream's `epoch_ns`.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.clock import NS


class Kind(StrEnum):
    """Pictures or sound."""

    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """How to decode a stream. Two streams that compare equal can be joined without a new initialisation segment.

    Attributes:
        kind: Pictures or sound.
        codec: `h264`, `aac` or `opus`.
        timescale: Ticks a second of the packets' `ticks`.
        extradata: For H.264 the `avcC` record's bytes (ISO/IEC 14496-15, 5.3.3.1) made from the stream's own SPS and
            PPS; for AAC the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1); for Opus the `dOps` body.
        width, height: Picture size in pixels; 0 for sound.
        sample_rate, channels: Of sound, in Hz; 0 for pictures.
    """

    kind: Kind
    codec: str
    timescale: int
    extradata: bytes
    width: int = 0
    height: int = 0
    sample_rate: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """One uninterrupted run of packets from one opening of a source.

    A source that is reopened makes a new `Stream` with a higher `generation`: packets of two generations are never put
    into one segment.

    Attributes:
        generation: Counts openings, from 1, over video and audio separately.
        epoch_ns: Monotonic nanoseconds of tick 0.
    """

    parameters: StreamParameters
    generation: int
    epoch_ns: int

    def time_ns(self, ticks: int) -> int:
        """Monotonic nanoseconds of `ticks`, rounded down."""
        return self.epoch_ns + ticks * NS // self.parameters.timescale


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded access unit (H.264, length-prefixed as in ISO/IEC 14496-15) or one encoded sound frame.

    Decode time equals presentation time: streams with B frames are refused at the source.

    Attributes:
        stream: What it belongs to.
        data: Its bytes, never changed after.
        ticks: Its time in the stream's time base, counted from the stream's epoch; may jump forward, never back.
        duration: Nominal length in ticks, at least 1.
        key: True for an IDR picture; always true for sound.
        time_ns: Monotonic nanoseconds, `stream.time_ns(ticks)`, stored, so that it is computed once.
    """

    stream: Stream
    data: bytes
    ticks: int
    duration: int
    key: bool
    time_ns: int

    @property
    def kind(self) -> Kind:
        """Pictures or sound."""
        return self.stream.parameters.kind
