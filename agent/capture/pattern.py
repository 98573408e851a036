"""A live-encoded scene with a running clock and a tone, for demos and tests without a file.

FFmpeg's `testsrc2` draws moving colours, the time and the frame's number; its `sine` sounds a tone with a beep every
second. Both are made and encoded when they are due, by libx264 (no B frames, one IDR picture a group) and FFmpeg's AAC.

Picture n has tick 1000 n at 1000 x frame rate ticks a second, sound frame n has tick 1024 n at 48 kHz; both begin at
tick 0. The AAC encoder's first packet holds its priming only (1024 samples before time 0): it is not delivered, so that
each packet's time is that of the sound in it; a decoder fades in over the first frame, as at every cut of a recording.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from agent.capture.base import Pacer, Pacing
from agent.errors import SourceError
from agent.media import h264
from agent.media.fmp4 import check_parameters
from agent.media.packet import Kind, Packet, Stream, StreamParameters

TICKS_A_PICTURE = 1000
SAMPLE_RATE = 48_000
SAMPLES_A_FRAME = 1024


@dataclass(frozen=True, slots=True)
class PatternSettings:
    """What the scene looks and sounds like.

    The default costs about a twentieth of a core of a 2020s workstation.

    Attributes:
        width, height: Pixels, even.
        fps: Pictures a second.
        bit_rate: Of the pictures, bit/s.
        gop: Pictures from one IDR picture to the next.
        picture, sound: What there is; at least one of them.
        sound_bit_rate: Bit/s.
    """

    width: int = 848
    height: int = 480
    fps: int = 30
    bit_rate: int = 2_000_000
    gop: int = 30
    picture: bool = True
    sound: bool = True
    sound_bit_rate: int = 64_000


class PatternSource:
    """Encodes the scene from its second 0 at each opening."""

    def __init__(self, settings: PatternSettings, pacing: Pacing, *, name: str = "pattern") -> None:
        self._settings = settings
        self._pacing = pacing
        self.name = name

    def open(self, generation: int) -> "OpenPattern":
        """Start drawing and encoding.

        Raises:
            SourceError: An encoder refuses the settings, or PyAV was built without it.
        """
        settings = self._settings
        encoders: list[_Encoder] = []
        try:
            if settings.picture:
                encoders.append(_PictureEncoder(settings))
            if settings.sound:
                encoders.append(_SoundEncoder(settings))
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(
                f"expected PyAV with libx264, aac, testsrc2 and sine to take {settings}; it says: {error}"
            ) from error
        if not encoders:
            raise SourceError("expected a pattern with a picture, sound, or both, got neither")
        for encoder in encoders:
            check_parameters(encoder.parameters)
        pacer = self._pacing()
        epoch_ns = pacer.now_ns()
        return OpenPattern([(encoder, Stream(encoder.parameters, generation, epoch_ns)) for encoder in encoders], pacer)


class OpenPattern:
    """One opening of a `PatternSource`; it never ends by itself."""

    def __init__(self, tracks: "list[tuple[_Encoder, Stream]]", pacer: Pacer) -> None:
        self.streams = tuple(stream for _, stream in tracks)
        self._tracks = tracks
        self._pacer = pacer

    def __iter__(self) -> Iterator[Packet]:
        """The packets in the order of their times, encoded when they are due.

        Raises:
            SourceError: An encoder failed.
        """
        due = [(stream.time_ns(0), index, 0) for index, stream in enumerate(self.streams)]
        while self._pacer.wait_until(due[0][0]):
            time_ns, index, number = due[0]
            encoder, stream = self._tracks[index]
            try:
                data, key = encoder.encode(number)
            except av.FFmpegError as error:
                raise SourceError(f"the pattern's {stream.parameters.kind} encoder failed: {error}") from error
            ticks = number * encoder.duration
            following = stream.time_ns(ticks + encoder.duration)
            heapq.heapreplace(due, (following, index, number + 1))
            yield Packet(stream, data, ticks, encoder.duration, key, time_ns)

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Encode pictures at this rate from the next one on, 0 for that of the settings; False if there are none."""
        encoders = [encoder for encoder, _ in self._tracks if isinstance(encoder, _PictureEncoder)]
        for encoder in encoders:
            encoder.wanted_bit_rate = bits_per_second
        return bool(encoders)

    def close(self) -> None:
        """Make the iteration end before its next packet."""
        self._pacer.close()


class _PictureEncoder:
    """testsrc2 and libx264."""

    duration = TICKS_A_PICTURE

    def __init__(self, settings: PatternSettings) -> None:
        timescale = settings.fps * TICKS_A_PICTURE
        self._time_base = Fraction(1, timescale)
        self._bit_rate = settings.bit_rate
        self.wanted_bit_rate = 0
        self._scene = _graph(
            ("testsrc2", {"size": f"{settings.width}x{settings.height}", "rate": str(settings.fps)}), ("buffersink", {})
        )
        encoder = VideoCodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = settings.width, settings.height, "yuv420p"
        encoder.time_base, encoder.framerate = self._time_base, Fraction(settings.fps)
        encoder.bit_rate, encoder.gop_size = settings.bit_rate, settings.gop
        encoder.thread_count = 1  # more would cut each picture into slices
        encoder.flags |= Flags.global_header
        encoder.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "maxrate": str(settings.bit_rate),
            "bufsize": str(settings.bit_rate),
            "sc_threshold": "0",  # IDR pictures where the settings say, nowhere else
        }
        encoder.open()
        self._encoder = encoder
        # libx264 gives Annex B. Its own avcC (annexb=0) ends with four bytes that Baseline and Main must not have.
        avcc = h264.avcc_record(h264.nal_units(encoder.extradata or b""))
        self.parameters = StreamParameters(Kind.VIDEO, "h264", timescale, avcc, settings.width, settings.height)

    def encode(self, number: int) -> tuple[bytes, bool]:
        """Draw and encode the next picture, `number`: its access unit, and whether it is an IDR picture."""
        wanted = self.wanted_bit_rate or self._bit_rate
        if wanted != self._encoder.bit_rate:
            self._encoder.bit_rate = wanted  # libx264 takes it over with the next picture
        frame = self._scene.vpull()
        frame.pict_type = PictureType.NONE  # testsrc2 says I for every picture, and libx264 would obey
        frame.pts, frame.time_base = number * TICKS_A_PICTURE, self._time_base
        (packet,) = self._encoder.encode(frame)  # zerolatency: one in, one out
        return h264.length_prefixed(h264.nal_units(bytes(packet))), bool(packet.is_keyframe)


class _SoundEncoder:
    """Sine and AAC."""

    duration = SAMPLES_A_FRAME

    def __init__(self, settings: PatternSettings) -> None:
        self._scene = _graph(
            ("sine", {"beep_factor": "4", "sample_rate": str(SAMPLE_RATE), "samples_per_frame": str(SAMPLES_A_FRAME)}),
            ("aformat", {"sample_fmts": "fltp", "channel_layouts": "mono"}),
            ("abuffersink", {}),
        )
        encoder = AudioCodecContext.create("aac", "w")
        encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE, "mono", "fltp"
        encoder.time_base, encoder.bit_rate = Fraction(1, SAMPLE_RATE), settings.sound_bit_rate
        encoder.flags |= Flags.global_header
        encoder.open()
        self._encoder = encoder
        self.parameters = StreamParameters(
            Kind.AUDIO, "aac", SAMPLE_RATE, encoder.extradata or b"", sample_rate=SAMPLE_RATE, channels=1
        )

    def encode(self, number: int) -> tuple[bytes, bool]:
        """Make sound until the encoder gives the frame `number`."""
        while True:
            frame = self._scene.pull()
            assert isinstance(frame, AudioFrame)
            for packet in self._encoder.encode(frame):
                if packet.pts is not None and packet.pts >= 0:
                    assert packet.pts == number * SAMPLES_A_FRAME
                    return bytes(packet), True


_Encoder = _PictureEncoder | _SoundEncoder


def _graph(*filters: tuple[str, dict[str, str]]) -> Graph:
    """A chain of filters; the last is the one that frames are pulled from."""
    graph = Graph()
    graph.link_nodes(*(graph.add(name, **options) for name, options in filters)).configure()
    return graph
