"""Encoded silence: sound frames that any decoder plays as silence, for time without sound from a microphone.

They are made from the specifications, not by an encoder, so that they depend only on the stream's parameters, need no
library, and have no priming.
"""

from dataclasses import dataclass
from fractions import Fraction

from agent.errors import SourceError
from agent.media.h264 import BitReader
from agent.media.packet import StreamParameters

_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_ESCAPED_RATE = 15
_AAC_LC, _SBR, _PS = 2, 5, 29
_AAC_SAMPLES = 1024

_SINGLE, _PAIR, _LOW, _END = 0, 1, 3, 7
_ELEMENTS: dict[int, tuple[int, ...]] = {
    1: (_SINGLE,),
    2: (_PAIR,),
    3: (_SINGLE, _PAIR),
    4: (_SINGLE, _PAIR, _SINGLE),
    5: (_SINGLE, _PAIR, _PAIR),
    6: (_SINGLE, _PAIR, _PAIR, _LOW),
    7: (_SINGLE, _PAIR, _PAIR, _PAIR, _LOW),
}
"""Syntactic elements of a frame by channel configuration (ISO/IEC 14496-3, table 1.19)."""

_OPUS_SAMPLES = 960
_OPUS_CELT_FULLBAND_20_MS = 31 << 3
_OPUS_STEREO = 4
_DOPS_FAMILY = 10
_MAX_OPUS_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class Silence:
    """One frame of silence.

    Attributes:
        data: Its bytes.
        ticks: How long it sounds, in the stream's time base; a fraction where that is not whole.
    """

    data: bytes
    ticks: Fraction


def silence(parameters: StreamParameters) -> Silence | None:
    """A silent frame for a stream; None for unsupported forms of AAC and Opus.

    Supported are AAC-LC, also where it carries SBR or PS, with frames of 1024 samples and 1 to 8 channels in a standard
    configuration, and Opus in mono and stereo.
    """
    if parameters.codec == "aac":
        return _aac(parameters)
    if parameters.codec == "opus":
        return _opus(parameters)
    return None


def _aac(parameters: StreamParameters) -> Silence | None:
    config = BitReader(parameters.extradata)
    try:
        kind, rate, channels = _object_type(config), _rate(config), config.take(4)
        if kind in (_SBR, _PS):
            _rate(config)
            kind = _object_type(config)
        plain = not config.take(3)  # GASpecificConfig (4.4.1): 1024 samples, no core coder, no extension
    except SourceError:
        return None
    if kind != _AAC_LC or not plain or not rate or channels not in _ELEMENTS:
        return None
    return Silence(_aac_frame(channels), Fraction(_AAC_SAMPLES * parameters.timescale, rate))


def _object_type(config: BitReader) -> int:
    """`GetAudioObjectType` (ISO/IEC 14496-3, 1.6.2.1); types above 30 are not supported."""
    return config.take(5)


def _rate(config: BitReader) -> int:
    index = config.take(4)
    if index == _ESCAPED_RATE:
        return config.take(24)
    return _RATES[index] if index < len(_RATES) else 0


def _aac_frame(channels: int) -> bytes:
    """A `raw_data_block` (ISO/IEC 14496-3, 4.4.2.1) in which no scale factor band of any channel holds anything."""
    ics_info = "0" + "00" + "0" + "000000" + "0"  # reserved, long window, sine shape, max_sfb 0, no prediction
    no_tools = "0" + "0" + "0"  # no pulses, no TNS, no gain control
    gain = "00000000"
    bits = ""
    tags = dict.fromkeys((_SINGLE, _PAIR, _LOW), 0)
    for element in _ELEMENTS[channels]:
        bits += f"{element:03b}{tags[element]:04b}"
        tags[element] += 1
        if element == _PAIR:
            common_window, no_mid_side = "1", "00"
            bits += common_window + ics_info + no_mid_side + 2 * (gain + no_tools)
        else:
            bits += gain + ics_info + no_tools
    bits += f"{_END:03b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _opus(parameters: StreamParameters) -> Silence | None:
    """A CELT frame of 20 ms (RFC 6716, 3.1) whose silence flag (4.3, table 56) is set: all ones in the range coder."""
    channels, family = parameters.channels, parameters.extradata[_DOPS_FAMILY : _DOPS_FAMILY + 1]
    if family != b"\0" or channels > _MAX_OPUS_CHANNELS:
        return None
    toc = _OPUS_CELT_FULLBAND_20_MS | (_OPUS_STEREO if channels == _MAX_OPUS_CHANNELS else 0)
    return Silence(bytes([toc, 0xFF, 0xFE]), Fraction(_OPUS_SAMPLES * parameters.timescale, 48_000))
