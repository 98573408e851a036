"""A file as camera: any MP4 with H.264, AAC or both, packet by packet, without re-encoding.

What its packets' times are, in order:
1. `ticks` is the packet's presentation time in the file's own time base, as the file's edit list places it. In step
   between video and audio, which share one epoch. A file whose first packet lies outside of its first second is moved
   by whole seconds, which every time base holds exactly.
2. The epoch is such that the first packet is due at the moment of opening. Packets come in the order of their times,
   whatever the file's interleaving.
3. Sound that the edit list hides (an encoder's priming) is not delivered; a file that hides pictures is refused,
   because those after them need them. So is one with B frames: decode and presentation time must be equal.
4. Looping repeats the whole with a period from the first packet's start to the end of the longer stream, an exact
   fraction; each round's offset is rounded down to whole ticks in each time base from that fraction, so that the longer
   stream continues without a seam, the other by less than a tick, and no error adds up.
"""

import heapq
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from agent.capture.base import Pacer, Pacing, unpaced
from agent.clock import NS
from agent.errors import SourceError
from agent.media.fmp4 import check_parameters
from agent.media.packet import Kind, Packet, Stream, StreamParameters

EXPECTED = "expected an MP4 file with H.264 without B frames, AAC, or both"

_LOOKED_AT_ON_OPENING = 32  # packets of each track; B frames show in the first few
_CODECS = {Kind.VIDEO: "h264", Kind.AUDIO: "aac"}


class ReplaySource:
    """Plays a file as if it came from a camera.

    Args:
        path: An MP4 file. Never taken for a URL.
        pacing: How to wait for a packet's time.
        loop: Start again at the end of the file, endlessly.
    """

    def __init__(self, path: Path, pacing: Pacing, *, loop: bool = True) -> None:
        self._path = path.absolute()
        self._pacing = pacing
        self._loop = loop
        self.name = f"replay:{path}"

    def open(self, generation: int) -> "OpenReplay":
        """Open the file at its beginning.

        Raises:
            SourceError: It is missing, not whole, or not what `EXPECTED` says.
        """
        _check_whole(self._path)
        tracks = _tracks(self._path)
        start = min(Fraction(track.first_ticks, track.parameters.timescale) for track in tracks)
        shift_s = -(start.numerator // start.denominator)
        pacer = self._pacing()
        epoch_ns = pacer.now_ns() - int((start + shift_s) * NS)
        streams = tuple(Stream(track.parameters, generation, epoch_ns) for track in tracks)
        return OpenReplay(self._path, streams, pacer, start, shift_s, loop=self._loop)


def check_replayable(path: Path) -> None:
    """Refuse a film that can't stand in for a camera, by all its packets and not only the first ones.

    Raises:
        SourceError: It is not what `EXPECTED` says; the text names what to do.
    """
    source = ReplaySource(path, unpaced(lambda: 0), loop=False)
    for _ in source.open(1):
        pass


class OpenReplay:
    """One opening of a `ReplaySource`."""

    def __init__(
        self, path: Path, streams: tuple[Stream, ...], pacer: Pacer, start: Fraction, shift_s: int, *, loop: bool
    ) -> None:
        self.streams = streams
        self._path = path
        self._pacer = pacer
        self._start = start
        self._shift_s = shift_s
        self._loop = loop

    def __iter__(self) -> Iterator[Packet]:
        """The packets in the order of their times; see the module for what these are.

        Raises:
            SourceError: The file changed, is damaged, or turns out to have B frames.
        """
        with ExitStack() as stack:
            # Each track has a demuxer of its own, so that the order does not depend on how the file interleaves them.
            tracks = [
                _PlayedTrack(stack.enter_context(closing(_open(self._path))), stream, self._path)
                for stream in self.streams
            ]
            offset_s = Fraction(self._shift_s)
            period = Fraction(0)
            while True:
                for packet in heapq.merge(*(track.round(offset_s) for track in tracks), key=_time_ns):
                    if not self._pacer.wait_until(packet.time_ns):
                        return
                    yield packet
                if not self._loop:
                    return
                if not period:
                    period = max(track.end for track in tracks) - self._start
                offset_s += period
                for track in tracks:
                    track.rewind()

    def close(self) -> None:
        """Make the iteration end before its next packet."""
        self._pacer.close()


class _PlayedTrack:
    """One track of the file, for any number of rounds."""

    def __init__(self, container: InputContainer, stream: Stream, path: Path) -> None:
        if _parameters(container, stream.parameters.kind, path) != stream.parameters:
            raise SourceError(f"{path} changed after it was opened: its {stream.parameters.kind} parameters are others")
        self._container = container
        self._stream = stream
        self._path = path
        self._end_ticks = 0

    @property
    def end(self) -> Fraction:
        """When the last packet that was played ends, in seconds of the file's own time."""
        return Fraction(self._end_ticks, self._stream.parameters.timescale)

    def round(self, offset_s: Fraction) -> Iterator[Packet]:
        """All its packets, `offset_s` later than the file says."""
        stream, kind = self._stream, self._stream.parameters.kind
        offset = offset_s * stream.parameters.timescale
        offset_ticks = offset.numerator // offset.denominator
        last = None
        for packet in _demux(self._container, kind, self._path):
            ticks, duration = packet.pts, packet.duration or 1
            if last is not None and ticks < last:
                raise SourceError(f"{EXPECTED}; the {kind} times of {self._path} go back from {last} to {ticks}")
            last = ticks
            self._end_ticks = ticks + duration
            ticks += offset_ticks
            key = kind is Kind.AUDIO or packet.is_keyframe
            yield Packet(stream, bytes(packet), ticks, duration, key, stream.time_ns(ticks))

    def rewind(self) -> None:
        """Go back to the file's beginning."""
        try:
            self._container.seek(0)
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._path} can't be played again from its beginning: {error}") from error


@dataclass(frozen=True, slots=True)
class _Track:
    parameters: StreamParameters
    first_ticks: int


def _time_ns(packet: Packet) -> int:
    return packet.time_ns


def _check_whole(path: Path) -> None:
    """Walk the boxes of the file's top level (ISO/IEC 14496-12, 4.2): a cut file would just seem to be shorter."""
    if not path.is_file():
        raise SourceError(f"{EXPECTED}; {path} is missing or not a regular file")
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            position = 0
            while position < length:
                file.seek(position)
                header = file.read(16)
                size, kind = struct.unpack_from(">I4s", header)
                if position == 0 and kind != b"ftyp":
                    raise SourceError(f"{EXPECTED}; {path} does not begin as one")
                if size == 1:
                    (size,) = struct.unpack_from(">Q", header, 8)
                elif size == 0:  # up to the end of the file
                    size = length - position
                if size < 8 or position + size > length:  # noqa: PLR2004 - a box's header
                    raise SourceError(
                        f"{EXPECTED}; {path} is cut or damaged: its box {kind.decode('latin-1')!r} at byte {position} "
                        f"states {size} bytes, {length - position} are there"
                    )
                position += size
    except OSError as error:
        raise SourceError(f"{EXPECTED}; {path} can't be read: {error.strerror}") from error
    except struct.error as error:
        raise SourceError(f"{EXPECTED}; {path} is cut in the header of a box") from error
    if not length:
        raise SourceError(f"{EXPECTED}; {path} is empty")


def _open(path: Path) -> InputContainer:
    try:
        return av.open(str(path), format="mp4")
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{EXPECTED}; {path} can't be opened as one: {error}") from error


def _tracks(path: Path) -> list[_Track]:
    """The first video and the first audio track with their first packet's time."""
    tracks = []
    with closing(_open(path)) as container:
        for kind in Kind:
            if any(stream.type == kind for stream in container.streams):
                parameters = _parameters(container, kind, path)
                first = [packet.pts for packet in islice(_demux(container, kind, path), _LOOKED_AT_ON_OPENING)]
                if first:
                    tracks.append(_Track(parameters, first[0]))
                container.seek(0)
    if not tracks:
        raise SourceError(f"{EXPECTED}; {path} has no packets of either")
    return tracks


def _parameters(container: InputContainer, kind: Kind, path: Path) -> StreamParameters:
    stream = _stream(container, kind)
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    if codec != _CODECS[kind]:
        raise SourceError(f"{EXPECTED}; the {kind} of {path} is {codec}")
    if stream.time_base is None or stream.time_base.numerator != 1:
        raise SourceError(f"{EXPECTED}; the {kind} of {path} has no whole number of ticks a second")
    parameters = StreamParameters(
        kind=kind,
        codec=codec,
        timescale=stream.time_base.denominator,
        extradata=stream.codec_context.extradata or b"",
        width=stream.width if isinstance(stream, VideoStream) else 0,
        height=stream.height if isinstance(stream, VideoStream) else 0,
        sample_rate=stream.sample_rate if isinstance(stream, AudioStream) else 0,
        channels=stream.channels if isinstance(stream, AudioStream) else 0,
    )
    check_parameters(parameters)
    return parameters


def _stream(container: InputContainer, kind: Kind) -> VideoStream | AudioStream:
    return container.streams.video[0] if kind is Kind.VIDEO else container.streams.audio[0]


def _demux(container: InputContainer, kind: Kind, path: Path) -> Iterator[Any]:
    """The packets of one track that are shown or heard, checked."""
    wanted = _stream(container, kind)
    for stream in container.streams:
        stream.discard = Discard.default if stream is wanted else Discard.all
    try:
        for packet in container.demux(wanted):
            if not packet.size:  # the demuxer's end mark
                continue
            if packet.is_corrupt:
                raise SourceError(f"{EXPECTED}; {path} is cut or damaged in its {kind}")
            if packet.pts is None or packet.pts != packet.dts:
                raise SourceError(
                    f"{EXPECTED}; {path} has B frames, which no camera delivers: decode time {packet.dts} and "
                    f"presentation time {packet.pts} of a picture differ. Encode it again without them: "
                    f"ffmpeg -i {path.name} -c:v libx264 -bf 0 -c:a copy camera.mp4"
                )
            if packet.is_discard:
                if kind is Kind.AUDIO:
                    continue
                raise SourceError(
                    f"{EXPECTED}; the edit list of {path} hides pictures that those after them need: remux it with "
                    "its edit list applied at an IDR picture"
                )
            yield packet
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{EXPECTED}; {path} can't be read on: {error}") from error
