"""Makes small pictures of encoded ones, for cameras without a low-resolution stream, such as a replayed file."""

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Packet, StreamParameters
from agent.monitoring.lens import Samples, sampled

EVERY_NS = NS // 2

_PLANAR = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray"})
"""Formats whose first plane is brightness in 8 bits."""
# Without the loop filter and exact rounding: these pictures are only measured, and no others are predicted from them.
_OPTIONS = {"skip_loop_filter": "all", "flags2": "+fast"}


class PictureSampler:
    """Decodes IDR pictures only, at most one every `EVERY_NS`, of one stream after the other.

    They come no oftener than the encoder makes IDR pictures: one a second is enough to find a covered lens in time.
    Not for more than one thread.
    """

    def __init__(self) -> None:
        self.undecodable = 0
        """IDR pictures that could not be decoded."""
        self._parameters: StreamParameters | None = None
        self._decoder: VideoCodecContext | None = None
        self._due_ns: int | None = None

    def feed(self, packet: Packet) -> Samples | None:
        """Take the next packet of video; its brightness if it was decoded. It never raises."""
        if not packet.key or (self._due_ns is not None and self._due_ns - EVERY_NS <= packet.time_ns < self._due_ns):
            return None
        self._due_ns = packet.time_ns + EVERY_NS
        try:
            if self._decoder is None or packet.stream.parameters != self._parameters:
                self._decoder = _open_decoder(packet.stream.parameters)
                self._parameters = packet.stream.parameters
            return _brightness(_decoded(self._decoder, packet))
        except SourceError:
            self.undecodable += 1
            return None


def _decoded(decoder: VideoCodecContext, packet: Packet) -> VideoFrame:
    try:
        # Each picture alone, and out at once: the decoder is drained behind it, and then emptied.
        frames = [*decoder.decode(av.Packet(packet.data)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(f"expected a whole IDR picture, FFmpeg can't decode this one: {error}") from error
    finally:
        decoder.flush_buffers()
    if len(frames) != 1:
        raise SourceError(f"expected one picture in a packet, got {len(frames)}")
    return frames[0]


def _brightness(frame: VideoFrame) -> Samples:
    if frame.format.name not in _PLANAR:
        frame = frame.reformat(format="yuv420p")
    plane = frame.planes[0]
    return sampled(memoryview(plane).cast("B"), frame.width, frame.height, stride=plane.line_size)


def _open_decoder(parameters: StreamParameters) -> VideoCodecContext:
    if parameters.codec != "h264":
        raise SourceError(f"expected pictures in H.264 to measure them, got {parameters.codec!r}")
    try:
        decoder = VideoCodecContext.create("h264", "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = parameters.extradata
        decoder.thread_count = 1
        decoder.options = _OPTIONS
        decoder.open()
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(f"expected H.264 parameter sets that FFmpeg takes; it says: {error}") from error
    return decoder
