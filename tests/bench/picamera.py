"""picamera2's `CircularOutput2` with `PyavOutput`, imported without libcamera, fed as its own encoder would feed it.

`LibavH264Encoder` hands over each picture as bytes and as an `av.Packet` in Annex B form, with microseconds, and sound
as a packet alone; so does `feed`. The source's share (demuxing, the conversion to Annex B, the bytes) is on its own
line. What is written is plain, and without CircularOutput2's own way to close (which drops the buffer's seconds): it
is stopped, so that all packets are in the file.
"""

import os
import sys
import types
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.bitstream import BitStreamFilterContext

from tests.bench.piped import FRAGMENTED, SYNCS_A_SECOND

VERSION = "0.3.38"
FOLDER = Path(sys.prefix) / "bench-peers"
MICROSECONDS = 1_000_000
BUFFER_MS = 5000


class Fed(NamedTuple):
    """The arguments of `Output.outputframe`."""

    data: bytes | None
    key: bool
    time_us: int
    packet: Any
    audio: bool


class Feed:
    """A clip, looped, as packets for picamera2's outputs."""

    def __init__(self, clip: Path) -> None:
        self._container = av.open(str(clip))
        self.video = self._container.streams.video[0]
        self.audio = self._container.streams.audio[0] if self._container.streams.audio else None

    def __iter__(self) -> Iterator[Fed]:
        offset = Fraction(0)
        streams = [self.video, self.audio] if self.audio is not None else [self.video]
        while True:
            to_annex_b = BitStreamFilterContext("h264_mp4toannexb", self.video)
            end = Fraction(0)
            for read in self._container.demux(*streams):
                if read.pts is None or not read.size:
                    continue
                base = read.time_base
                at = read.pts * base
                end = max(end, at + (read.duration or 1) * base)
                time_us = int((offset + at) * MICROSECONDS)
                if read.stream is self.audio:
                    if time_us >= 0:
                        yield Fed(None, True, time_us, read, True)
                    continue
                key = read.is_keyframe
                for packet in to_annex_b.filter(read):
                    packet.stream = self.video
                    yield Fed(bytes(packet), key, time_us, packet, False)
            offset += end
            self._container.seek(0)

    def close(self) -> None:
        self._container.close()


def outputs() -> tuple[Any, Any]:
    """`CircularOutput2` and `PyavOutput`, without the packages' `__init__`, which need a camera.

    Raises:
        ImportError: They are not installed (`make bench-tools`).
    """
    for name, folder in (("picamera2", "picamera2"), ("picamera2.outputs", "picamera2/outputs")):
        package = types.ModuleType(name)
        package.__path__ = [str(FOLDER / folder)]
        sys.modules[name] = package
    from picamera2.outputs.circularoutput2 import CircularOutput2
    from picamera2.outputs.pyavoutput import PyavOutput

    return CircularOutput2, PyavOutput


class Ran(NamedTuple):
    """What a run took in; `syncs` were made."""

    frames: int
    packets: int
    media_bytes: int
    syncs: int


def drain(feed: Feed, seconds: float) -> Ran:
    """Take packets and drop them: the source's own cost."""
    frames = packets = size = 0
    for fed in feed:
        if fed.time_us >= seconds * MICROSECONDS:
            break
        packets += 1
        frames += not fed.audio
        size += fed.packet.size
    return Ran(frames, packets, size, 0)


def record(feed: Feed, seconds: float, target: Path, *, sync: bool) -> Ran:
    """Record into a fragmented MP4, synced after each fifth of a second of media if asked."""
    circular_output, pyav_output = outputs()
    circular = circular_output(buffer_duration_ms=BUFFER_MS)
    circular._add_stream(  # how an encoder tells it its streams
        feed.video, "h264", rate=feed.video.average_rate, width=feed.video.width, height=feed.video.height
    )
    if feed.audio is not None:
        circular._add_stream(feed.audio, "aac", rate=feed.audio.rate)
    circular.start()
    circular.open_output(pyav_output(str(target), format="mp4", options=dict(FRAGMENTED)))
    handle = -1
    frames = packets = size = syncs = 0
    slot_us = MICROSECONDS // SYNCS_A_SECOND
    slot_end_us = slot_us
    for fed in feed:
        if fed.time_us >= seconds * MICROSECONDS:
            break
        if fed.time_us >= slot_end_us:
            slot_end_us += slot_us
            if handle < 0 and target.exists():  # PyAV makes it with the first packet that leaves the buffer
                handle = os.open(target, os.O_RDONLY)
            if sync and handle >= 0:
                os.fdatasync(handle)
                syncs += 1
        circular.outputframe(*fed)
        packets += 1
        frames += not fed.audio
        size += fed.packet.size
    circular.stop()
    if handle >= 0:
        os.close(handle)
    return Ran(frames, packets, size, syncs)
