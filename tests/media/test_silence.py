from fractions import Fraction

import av
import pytest
from av.audio.codeccontext import AudioCodecContext

from agent.media.packet import Kind, StreamParameters
from agent.media.silence import silence

RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


def aac(rate: int, channels: int, *, kind: int = 2, tail: int = 0) -> StreamParameters:
    """Parameters with the AudioSpecificConfig that such a stream has; `tail` are the bits of GASpecificConfig."""
    config = kind << 11 | RATES.index(rate) << 7 | channels << 3 | tail
    return StreamParameters(Kind.AUDIO, "aac", rate, config.to_bytes(2, "big"), sample_rate=rate, channels=channels)


def opus(channels: int, *, family: int = 0) -> StreamParameters:
    body = bytes([0, channels]) + (312).to_bytes(2, "big") + (48_000).to_bytes(4, "big") + bytes([0, 0, family])
    return StreamParameters(Kind.AUDIO, "opus", 48_000, body, sample_rate=48_000, channels=channels)


def decoded(decoder: str, extradata: bytes, data: bytes, packets: int = 4) -> tuple[int, bool]:
    """How many samples a decoder makes of the same packet again and again, and whether any is to be heard.

    It refuses what is not exactly right.
    """
    context = AudioCodecContext.create(decoder, "r")
    assert isinstance(context, AudioCodecContext)
    context.extradata = extradata
    context.options = {"err_detect": "explode"}
    packed = av.AudioResampler(format="s16")
    samples, heard = 0, False
    for _ in range(packets):
        for planar in context.decode(av.Packet(data)):
            for frame in packed.resample(planar):
                samples += frame.samples
                heard = heard or any(bytes(frame.planes[0])[: 2 * frame.samples * frame.layout.nb_channels])
    return samples, heard


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000, 8_000])
@pytest.mark.parametrize("channels", range(1, 8))
def test_any_aac_decoder_hears_nothing_in_a_silent_frame(rate: int, channels: int) -> None:
    parameters = aac(rate, channels)
    silent = silence(parameters)
    assert silent is not None
    assert silent.ticks == 1024
    assert decoded("aac", parameters.extradata, silent.data) == (4 * 1024, False)


@pytest.mark.parametrize("decoder", ["opus", "libopus"])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_opus_decoder_hears_nothing_in_a_silent_frame(decoder: str, channels: int) -> None:
    parameters = opus(channels)
    silent = silence(parameters)
    assert silent is not None
    assert silent.ticks == 960
    head = b"OpusHead\1" + bytes([channels]) + (312).to_bytes(2, "little") + (48_000).to_bytes(4, "little") + bytes(3)
    assert decoded(decoder, head, silent.data) == (4 * 960 - 312, False)


def test_length_counts_in_the_streams_own_ticks() -> None:
    parameters = StreamParameters(Kind.AUDIO, "aac", 90_000, aac(44_100, 2).extradata, sample_rate=44_100, channels=2)
    silent = silence(parameters)
    assert silent is not None
    assert silent.ticks == Fraction(1024 * 90_000, 44_100)


def test_frame_of_he_aac_counts_at_the_core_rate() -> None:
    """AOT 5 at 24 kHz core, 48 kHz extension, then AOT 2: a frame lasts 1024 samples of the core."""
    bits = f"{5:05b}{6:04b}{2:04b}{3:04b}{2:05b}000"
    config = int(bits + "0" * (-len(bits) % 8), 2).to_bytes(4, "big")
    parameters = StreamParameters(Kind.AUDIO, "aac", 48_000, config, sample_rate=48_000, channels=2)
    silent = silence(parameters)
    assert silent is not None
    assert silent.ticks == 2048


@pytest.mark.parametrize(
    "parameters",
    [
        aac(48_000, 0),
        aac(48_000, 8),
        aac(48_000, 2, tail=4),
        aac(48_000, 2, kind=1),
        StreamParameters(Kind.AUDIO, "aac", 48_000, b"\x11", sample_rate=48_000, channels=2),
        opus(6, family=1),
        opus(2, family=1),
        StreamParameters(Kind.AUDIO, "opus", 48_000, b"\0\2", sample_rate=48_000, channels=2),
        StreamParameters(Kind.VIDEO, "h264", 90_000, b"\1", width=16, height=16),
    ],
)
def test_no_frame_is_made_up_for_a_form_that_is_not_known(parameters: StreamParameters) -> None:
    assert silence(parameters) is None
