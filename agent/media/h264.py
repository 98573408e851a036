"""Converts H.264 byte streams to the form of MP4: NAL units of Annex B, `avcC` records, length-prefixed access units.

For encoders that give Annex B (ISO/IEC 14496-10, Annex B): libx264, and the V4L2 encoders of cameras.
"""

import struct
from collections.abc import Sequence

from agent.errors import SourceError

SPS = 7
PPS = 8

_START_CODE = b"\x00\x00\x01"
_HIGH_PROFILES = frozenset({100, 110, 122, 144})  # those whose avcC states the sample format, 14496-15, 5.3.3.1.2
_MIN_SPS = 4
_MAX_SPS, _MAX_PPS, _MAX_PARAMETER_SET = 31, 255, 0xFFFF


def nal_units(annex_b: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, without start codes and padding zeros.

    Raises:
        SourceError: It does not begin with a start code.
    """
    before, *units = annex_b.split(_START_CODE)
    if before.strip(b"\0") or not units:
        raise SourceError(
            f"expected H.264 in Annex B form, which begins with 000001 or 00000001, got {annex_b[:4].hex()}"
        )
    # A NAL unit never ends with a zero byte (7.4.1); zeros belong to the next start code or are padding.
    return [unit for unit in (unit.rstrip(b"\0") for unit in units) if unit]


def nal_type(unit: bytes) -> int:
    """`nal_unit_type` (ISO/IEC 14496-10, 7.3.1)."""
    return unit[0] & 0x1F


def length_prefixed(units: Sequence[bytes]) -> bytes:
    """An access unit as in MP4: each NAL unit after its length in four bytes (ISO/IEC 14496-15, 5.3.2)."""
    return b"".join(part for unit in units for part in (len(unit).to_bytes(4, "big"), unit))


def avcc_record(units: Sequence[bytes]) -> bytes:
    """The `avcC` record (ISO/IEC 14496-15, 5.3.3.1) of the SPS and PPS among `units`, for lengths in four bytes.

    Raises:
        SourceError: There is no SPS or no PPS, or they are malformed.
    """
    sps = [unit for unit in units if nal_type(unit) == SPS]
    pps = [unit for unit in units if nal_type(unit) == PPS]
    if not 1 <= len(sps) <= _MAX_SPS or not 1 <= len(pps) <= _MAX_PPS:
        raise SourceError(f"expected H.264 parameter sets, at least one SPS and one PPS; got {len(sps)} and {len(pps)}")
    if any(len(unit) < _MIN_SPS for unit in sps) or any(len(unit) > _MAX_PARAMETER_SET for unit in (*sps, *pps)):
        raise SourceError("expected H.264 parameter sets of 4 to 65535 bytes")
    profile, compatibility, level = sps[0][1:4]
    reserved_and_length_size = 0xFC | 3
    reserved_and_count = 0xE0 | len(sps)
    return b"".join(
        [
            bytes([1, profile, compatibility, level, reserved_and_length_size, reserved_and_count]),
            *(struct.pack(">H", len(unit)) + unit for unit in sps),
            bytes([len(pps)]),
            *(struct.pack(">H", len(unit)) + unit for unit in pps),
            _sample_format(sps[0]) if profile in _HIGH_PROFILES else b"",
        ]
    )


def _sample_format(sps: bytes) -> bytes:
    """The record's last four bytes for high profiles: chroma format and bit depths of the SPS, no SPS extensions."""
    bits = BitReader(sps[_MIN_SPS:].replace(b"\x00\x00\x03", b"\x00\x00"))  # without emulation prevention, 7.4.1
    bits.unsigned()  # seq_parameter_set_id
    chroma_format = bits.unsigned()
    if chroma_format == 3:  # noqa: PLR2004 - 4:4:4 (7.3.2.1.1)
        bits.take(1)  # separate_colour_plane_flag
    luma, chroma = bits.unsigned(), bits.unsigned()
    return bytes([0xFC | chroma_format & 3, 0xF8 | luma & 7, 0xF8 | chroma & 7, 0])


class BitReader:
    """Reads bits from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def take(self, count: int) -> int:
        """The next `count` bits as a number.

        Raises:
            SourceError: Fewer are left.
        """
        bits = self._text[self._at : self._at + count]
        if len(bits) != count or not count:
            raise SourceError("a decoder configuration ends early")
        self._at += count
        return int(bits, 2)

    def unsigned(self) -> int:
        """The next Exp-Golomb code, `ue(v)` (ISO/IEC 14496-10, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)
