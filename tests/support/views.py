"""Pictures made by hand, as brightness, and encoded as a camera's packets."""

import random
from collections.abc import Iterable, Sequence
from fractions import Fraction

from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from agent.clock import NS
from agent.media import h264
from agent.media.packet import Kind, Packet, Stream, StreamParameters

WIDTH, HEIGHT = 160, 90
FPS = 30
TICKS = 1000

Luma = bytes


def _clipped(value: float) -> int:
    return max(0, min(255, round(value)))


class Sensor:
    """Sees a scene with its own noise, a new one for each picture."""

    def __init__(self, noise: float, *, seed: int = 1) -> None:
        self._noise = noise
        self._random = random.Random(seed)
        # Drawing a number for each pixel is slow; slices of a long run of noise differ as much.
        self._run = [self._random.gauss(0, noise) for _ in range(3 * WIDTH * HEIGHT)]

    def sees(self, scene: Luma) -> Luma:
        start = self._random.randrange(len(self._run) - len(scene))
        return bytes(
            _clipped(value + grain) for value, grain in zip(scene, self._run[start : start + len(scene)], strict=True)
        )


def black(level: int = 0) -> Luma:
    return bytes([level]) * (WIDTH * HEIGHT)


def street(*, light: float = 1.0, moved: int = 0) -> Luma:
    """Blocks and stripes of many shades; `light` dims it, `moved` shifts it by pixels."""
    rows = []
    for y in range(HEIGHT):
        shades = (40 + 37 * ((x // 23 + y // 17) % 5) + (x * 7 + y * 3) % 19 for x in range(moved, moved + WIDTH))
        rows.append(bytes(_clipped(light * shade) for shade in shades))
    return b"".join(rows)


def lit_by(lamps: Sequence[tuple[int, int]], *, sky: int = 18) -> Luma:
    """A dark scene with lamps of 12 x 12 pixels."""
    rows = [bytearray([sky]) * WIDTH for _ in range(HEIGHT)]
    for left, top in lamps:
        for row in rows[top : top + 12]:
            row[left : left + 12] = bytes([140]) * 12
    return b"".join(rows)


def gradient(dark: int, bright: int) -> Luma:
    """Brighter from left to right."""
    return bytes(dark + (bright - dark) * x // (WIDTH - 1) for x in range(WIDTH)) * HEIGHT


def encoded(pictures: Iterable[Luma], *, gop: int = FPS, quantiser: int | None = 23, bit_rate: int = 0) -> list[Packet]:
    """H.264 packets, 30 pictures a second, no B frames; with one quantiser, or of a bit rate where that is None."""
    encoder = VideoCodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, FPS), Fraction(FPS), gop
    encoder.thread_count = 1
    encoder.flags |= Flags.global_header
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}
    if quantiser is None:
        encoder.bit_rate = bit_rate
        encoder.options |= {"maxrate": str(bit_rate), "bufsize": str(bit_rate)}
    else:
        encoder.options |= {"qp": str(quantiser)}
    encoder.open()
    avcc = h264.avcc_record(h264.nal_units(encoder.extradata or b""))
    stream = Stream(StreamParameters(Kind.VIDEO, "h264", FPS * TICKS, avcc, WIDTH, HEIGHT), 1, 0)
    packets = []
    for number, luma in enumerate(pictures):
        (packet,) = encoder.encode(_frame(luma, number))
        data, ticks = h264.length_prefixed(h264.nal_units(bytes(packet))), number * TICKS
        packets.append(Packet(stream, data, ticks, TICKS, bool(packet.is_keyframe), stream.time_ns(ticks)))
    return packets


def _frame(luma: Luma, number: int) -> VideoFrame:
    frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane, row, filled in zip(frame.planes, (WIDTH, WIDTH // 2, WIDTH // 2), (luma, None, None), strict=True):
        rows = plane.height
        data = filled if filled is not None else bytes([128]) * (row * rows)
        padding = bytes(plane.line_size - row)
        plane.update(b"".join(data[n * row : (n + 1) * row] + padding for n in range(rows)))
    frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, FPS), PictureType.NONE
    return frame


def at(seconds: float) -> int:
    return round(seconds * NS)
