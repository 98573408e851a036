"""What FFmpeg makes of our fragmented MP4, and how to cut packets into fragments without a recorder."""

import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from agent.clock import NS
from agent.media.fmp4 import TRACK_IDS, Run, fragment, init_segment
from agent.media.packet import Kind, Packet, StreamParameters

FRAGMENT_NS = NS // 5


def parameters_of(packets: Iterable[Packet], kind: Kind) -> StreamParameters | None:
    return next((packet.stream.parameters for packet in packets if packet.kind is kind), None)


def of_kind(packets: Iterable[Packet], kind: Kind) -> list[Packet]:
    return [packet for packet in packets if packet.kind is kind]


def fragments(packets: Sequence[Packet], *, multiple_of: int = 1) -> list[bytes]:
    """One for each 0.2 s in which there are packets, base times as the packets' own ticks."""
    made = []
    for number, (_, group) in enumerate(groupby(packets, lambda packet: packet.time_ns // FRAGMENT_NS), 1):
        held = list(group)
        runs = [Run(TRACK_IDS[kind], run[0].ticks, run) for kind in Kind if (run := of_kind(held, kind))]
        made.append(fragment(number, runs, multiple_of=multiple_of))
    return made


def segment(packets: Sequence[Packet], *, multiple_of: int = 1) -> bytes:
    """A whole plain segment."""
    init = init_segment(parameters_of(packets, Kind.VIDEO), parameters_of(packets, Kind.AUDIO), multiple_of=multiple_of)
    return init + b"".join(fragments(packets, multiple_of=multiple_of))


def open_input(media: bytes | Path) -> InputContainer:
    return av.open(io.BytesIO(media) if isinstance(media, bytes) else str(media), "r")


def stream_of(container: InputContainer, kind: Kind) -> VideoStream | AudioStream:
    return container.streams.video[0] if kind is Kind.VIDEO else container.streams.audio[0]


def ffmpeg_packets(media: bytes | Path, kind: Kind) -> list[tuple[int, bytes, bool]]:
    """Time, bytes and key flag of a track's packets, as FFmpeg's demuxer reads them."""
    with open_input(media) as container:
        found = []
        for packet in container.demux(stream_of(container, kind)):
            if packet.size:
                assert packet.pts is not None
                found.append((packet.pts, bytes(packet), packet.is_keyframe))
        return found


def decoded_times(media: bytes | Path, kind: Kind) -> list[Fraction]:
    """Presentation times in seconds of all pictures or sound frames that FFmpeg decodes; any error is raised."""
    with open_input(media) as container:
        stream = stream_of(container, kind)
        stream.codec_context.options = {"err_detect": "explode"}
        times = []
        for frame in container.decode(stream):
            assert isinstance(frame, VideoFrame | AudioFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            times.append(frame.pts * frame.time_base)
        return times
