"""Decodes sound for measurements only: recorded packets are never changed."""

import struct
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.filter import Graph

from agent.errors import SourceError
from agent.media.packet import Packet, StreamParameters

VOICE_RATE = 16_000
"""Hz, one channel of signed 16-bit samples: what voice detectors take."""
BYTES_A_SAMPLE = 2

_CODECS = ("aac", "opus")
_DOPS_FIXED = struct.Struct(">BBHIhB")
_OPUS_HEAD_FIXED = struct.Struct("<8sBBHIhB")


def _open_decoder(parameters: StreamParameters) -> AudioCodecContext:
    if parameters.codec not in _CODECS:
        raise SourceError(f"expected sound in AAC or Opus to measure it, got {parameters.codec!r}")
    extradata = _opus_head(parameters.extradata) if parameters.codec == "opus" else parameters.extradata
    try:
        decoder = AudioCodecContext.create(parameters.codec, "r")
        assert isinstance(decoder, AudioCodecContext)
        decoder.extradata = extradata
        decoder.thread_count = 1
        decoder.open()
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(f"expected {parameters.codec} sound that FFmpeg decodes; it says: {error}") from error
    return decoder


def _opus_head(dops: bytes) -> bytes:
    """`OpusHead` (RFC 7845, 5.1) with the content of a `dOps` body (Encapsulation of Opus in ISOBMFF, 4.3.2).

    The pre-skip is left at 0: a measurement begins in the middle of the stream, where there is no priming to hide.
    """
    try:
        _, channels, _, rate, gain, family = _DOPS_FIXED.unpack_from(dops)
    except struct.error as error:
        raise SourceError(f"expected a dOps record of at least {_DOPS_FIXED.size} bytes, got {len(dops)}") from error
    return _OPUS_HEAD_FIXED.pack(b"OpusHead", 1, channels, 0, rate, gain, family) + dops[_DOPS_FIXED.size :]


class SoundDecoder:
    """Decodes consecutive packets.

    Args:
        parameters: Of the packets' stream.

    Raises:
        SourceError: It is neither AAC nor Opus, or FFmpeg does not take its configuration.
    """

    def __init__(self, parameters: StreamParameters) -> None:
        self._decoder = _open_decoder(parameters)

    def reset(self) -> None:
        """Forget the earlier packets: the next one does not follow them."""
        self._decoder.flush_buffers()

    def frames(self, packet: Packet) -> list[AudioFrame]:
        """The frames of a packet, as the codec delivers them.

        Raises:
            SourceError: FFmpeg can't decode it.
        """
        try:
            return self._decoder.decode(av.Packet(packet.data))
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(f"expected a whole packet of sound, FFmpeg can't decode this one: {error}") from error


class VoiceBandDecoder:
    """Decodes consecutive packets to `VOICE_RATE`; arguments and errors as of `SoundDecoder`."""

    def __init__(self, parameters: StreamParameters) -> None:
        self._decoder = SoundDecoder(parameters)
        self._graph: Graph | None = None
        self._form: tuple[str, int, str] | None = None

    def samples(self, packet: Packet) -> bytes:
        """Samples in the machine's byte order. A few milliseconds of the packet come only with the next one.

        Raises:
            SourceError: FFmpeg can't decode it, or its form is not that of the packets before.
        """
        return b"".join(self._resampled(frame) for frame in self._decoder.frames(packet))

    def _resampled(self, frame: AudioFrame) -> bytes:
        form = (frame.format.name, frame.sample_rate, frame.layout.name)
        try:
            if self._graph is None:
                self._graph, self._form = _resampler(*form), form
            elif form != self._form:
                raise SourceError(f"expected sound of one form throughout a stream, got {self._form} and then {form}")
            frame.pts = None  # the filters count samples; times are the meter's
            self._graph.push(frame)
            made = bytearray()
            while True:
                try:
                    resampled = self._graph.pull()
                except (BlockingIOError, EOFError):
                    return bytes(made)
                assert isinstance(resampled, AudioFrame)
                made += bytes(resampled.planes[0])[: resampled.samples * BYTES_A_SAMPLE]
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(f"expected sound that FFmpeg resamples, it says: {error}") from error


def _resampler(sample_format: str, sample_rate: int, layout: str) -> Graph:
    """Filters to `VOICE_RATE`; not PyAV's `AudioResampler`, which starts a thread for each core and never uses them."""
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_abuffer(
            format=sample_format, sample_rate=sample_rate, layout=layout, time_base=Fraction(1, sample_rate)
        ),
        graph.add("aformat", sample_fmts="s16", channel_layouts="mono", sample_rates=str(VOICE_RATE)),
        graph.add("abuffersink"),
    ).configure()
    return graph
