"""Sound made by hand and encoded as a microphone's packets: signals, noise, and the committed sample of speech."""

import io
import math
import random
import shutil
import struct
import subprocess
from array import array
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.context import Flags

from agent.media.packet import Kind, Packet, Stream, StreamParameters

RATE = 16_000
SPEECH = Path(__file__).parents[1] / "media" / "data" / "speech.mp4"

Samples = Sequence[float]


def silence(seconds: float) -> Samples:
    return [0.0] * round(seconds * RATE)


def constant(value: float, seconds: float) -> Samples:
    return [value] * round(seconds * RATE)


def tone(hertz: float, seconds: float, *, loud: float = 0.3) -> Samples:
    return [loud * math.sin(2 * math.pi * hertz * n / RATE) for n in range(round(seconds * RATE))]


def beeps(hertz: float, seconds: float) -> Samples:
    """A fifth of a second of each second."""
    return [value if n % RATE < RATE / 5 else 0.0 for n, value in enumerate(tone(hertz, seconds))]


def siren(low: float, high: float, period_s: float, seconds: float, *, loud: float = 0.3) -> Samples:
    """A horn's tone, with its odd harmonics, up and down between two pitches: 4 s is a wail, 0.3 s a yelp."""
    phase, made = 0.0, []
    for n in range(round(seconds * RATE)):
        turn = n / RATE / period_s % 1
        phase += 2 * math.pi * (low + (high - low) * (1 - abs(2 * turn - 1))) / RATE
        made.append(loud * sum(math.sin(k * phase) / k for k in (1, 3, 5)))
    return made


def hi_lo(seconds: float) -> Samples:
    """Two pitches in turn, half a second each."""
    return [
        0.3 * math.sin(2 * math.pi * (435 if n // (RATE // 2) % 2 else 580) * n / RATE)
        for n in range(round(seconds * RATE))
    ]


def noise(seconds: float, *, loud: float = 0.1, seed: int = 1) -> Samples:
    """White; `loud` is its root mean square."""
    generator = random.Random(seed)
    return [generator.gauss(0, loud) for _ in range(round(seconds * RATE))]


def rumble(seconds: float) -> Samples:
    """Noise of low frequencies, as of wind and engines, swelling twice a second."""
    level, made = 0.0, []
    for n, value in enumerate(noise(seconds, loud=0.3)):
        level += 0.05 * (value - level)
        made.append(8 * level * (0.6 + 0.4 * math.sin(4 * math.pi * n / RATE)))
    return made


def clicks(seconds: float) -> Samples:
    """Bursts of 2.5 ms, four a second."""
    return [value if n % (RATE // 4) < RATE // 400 else 0.0 for n, value in enumerate(noise(seconds, loud=0.5))]


def mixed(one: Samples, other: Samples) -> Samples:
    return [max(-1.0, min(1.0, a + b)) for a, b in zip(one, other, strict=False)]


def sixteen_bit(samples: Samples) -> Samples:
    """As an analogue-to-digital converter gives them."""
    return [round(value * 32_767) / 32_767 for value in samples]


def samples_of(media: bytes | Path) -> Samples:
    """What a file sounds like, one channel at `RATE`."""
    resampler = AudioResampler("flt", "mono", RATE)
    made = array("f")
    with av.open(io.BytesIO(media) if isinstance(media, bytes) else str(media), "r") as source:
        for frame in [*source.decode(audio=0), None]:
            assert frame is None or isinstance(frame, AudioFrame)
            for part in resampler.resample(frame):
                made.frombytes(bytes(part.planes[0])[: part.samples * 4])
    return made.tolist()


def speech() -> Samples:
    """The committed sample: seven seconds, two sentences."""
    return samples_of(SPEECH)


def spoken(text: str, voice: str) -> Samples:
    """Said by espeak-ng; skips the test where it is not installed."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng to say something (Debian's package espeak-ng)")
    said = subprocess.run(["espeak-ng", "-v", voice, "--stdout", text], check=True, capture_output=True)
    return samples_of(said.stdout)


def encoded(
    samples: Samples, *, codec: str = "aac", bit_rate: int = 32_000, start_s: float = 0.0, generation: int = 1
) -> list[Packet]:
    """Packets of one stream, the first at `start_s`."""
    encoder = AudioCodecContext.create({"aac": "aac", "opus": "libopus"}[codec], "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = RATE, "mono", {"aac": "fltp", "opus": "flt"}[codec]
    encoder.time_base, encoder.bit_rate = Fraction(1, RATE), bit_rate
    encoder.flags |= Flags.global_header
    encoder.open()
    size = encoder.frame_size
    packets = []
    for n in range(len(samples) // size):
        frame = AudioFrame(format=encoder.format.name, layout="mono", samples=size, align=True)
        frame.planes[0].update(array("f", samples[n * size : (n + 1) * size]).tobytes())
        frame.sample_rate, frame.pts, frame.time_base = RATE, n * size, Fraction(1, RATE)
        packets += encoder.encode(frame)
    extradata = encoder.extradata or b""
    timescale = RATE
    if codec == "opus":
        extradata, timescale = _dops(extradata), 48_000
    parameters = StreamParameters(Kind.AUDIO, codec, timescale, extradata, sample_rate=RATE, channels=1)
    stream = Stream(parameters, generation, round(start_s * 1_000_000_000))
    duration = size * timescale // RATE
    # The priming that the encoder puts before the first sample is not delivered, as in every source.
    delivered = [bytes(packet) for packet in packets if packet.pts is not None and packet.pts >= 0]
    return [
        Packet(stream, data, n * duration, duration, key=True, time_ns=stream.time_ns(n * duration))
        for n, data in enumerate(delivered)
    ]


def _dops(opus_head: bytes) -> bytes:
    channels, pre_skip, rate, gain, family = struct.unpack_from("<xBHIhB", opus_head, 8)
    return struct.pack(">BBHIhB", 0, channels, pre_skip, rate, gain, family)
