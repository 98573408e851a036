"""Fragmented MP4, as the recorder writes it: an initialisation segment, then fragments that wait for nothing.

Layout (ISO/IEC 14496-12; clauses in brackets): `ftyp` [4.3] and `moov` [8.2.1] with `mvex` [8.8.1] and no samples;
then per fragment `moof` [8.8.4] and `mdat` [8.1.1], each followed by `free` [8.1.2] where a length must be a multiple.
Track 1 is video, track 2 is audio, also where it is alone. Each track's timescale is its stream's own, and each
fragment states its decode time itself (`tfdt`, 64 bits), so nothing is rounded and no gap is ever closed.

The decoder configuration (`avcC`, AudioSpecificConfig, `dOps`) is the stream's extradata, byte for byte. Hence the
initialisation segment is written here and not by a muxer: PyAV's `add_mux_stream` takes no extradata, its
`add_stream` writes a profile of its own, and neither lets the caller fix timescale and track number.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from agent.errors import SourceError
from agent.media.packet import Kind, Packet, StreamParameters

VIDEO_TRACK = 1
AUDIO_TRACK = 2
TRACK_IDS = {Kind.VIDEO: VIDEO_TRACK, Kind.AUDIO: AUDIO_TRACK}

SYNC_SAMPLE = 0x0200_0000
"""Sample flags [8.8.3.1]: depends on no other sample, is a sync sample."""
NON_SYNC_SAMPLE = 0x0101_0000
"""Sample flags [8.8.3.1]: depends on others, is not a sync sample."""

MAX_EXTRADATA = 65_535
"""Bytes; real parameter sets have some dozens. An `avcC` refers to each parameter set with 16 bits."""

MAX_FRAGMENT_DATA = 16 << 20
"""Bytes of samples in a fragment, 670 Mbit/s where it holds 0.2 s; a reader needs that much memory."""

OPUS_RATE = 48_000
"""Hz; Opus in ISOBMFF counts time at 48 kHz whatever was sampled (Encapsulation of Opus in ISOBMFF, 4.3.2)."""

_BOX_HEADER = 8
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
LANGUAGE_UNDETERMINED = 0x55C4
_AVCC_VERSION = 1
_AVCC_FIXED = 7
_U16 = 0xFFFF
_U32 = 0xFFFF_FFFF

MFHD = struct.Struct(">I4sII")
"""`mfhd` [8.8.5]: length, type, version and flags, sequence number."""
TRAF = struct.Struct(">I4s I4sII I4sIQ I4sIIi")
"""`traf` [8.8.6] up to the table of samples: its own header, then `tfhd` [8.8.7] with flags and track number, `tfdt`
[8.8.12] with version and decode time, `trun` [8.8.8] with flags, number of samples and where in the fragment the first
sample's data is."""
ENTRY_SIZE = 12
"""Bytes of a sample in the `trun`: duration, size, flags, 32 bits each."""

_BOX = struct.Struct(">I4s")
_TFHD_SIZE, _TFDT_SIZE, _TRUN_FIXED = 16, 20, 20
_DEFAULT_BASE_IS_MOOF = 0x02_0000
_TFDT_VERSION_1 = 0x0100_0000
_TRUN_OFFSET_DURATION_SIZE_FLAGS = 0x0000_0701


@dataclass(frozen=True, slots=True)
class Run:
    """What one fragment holds of one track, in order of time.

    Attributes:
        track_id: `VIDEO_TRACK` or `AUDIO_TRACK`.
        base_decode_time: Of the first packet, in the track's timescale, counted from the segment's own zero.
        packets: At least one, unless the track has nothing in this fragment; ticks never go back.
    """

    track_id: int
    base_decode_time: int
    packets: Sequence[Packet]


def check_parameters(parameters: StreamParameters) -> None:
    """Check that a stream can be written exactly by this module; sources call this when they are opened.

    Raises:
        SourceError: The codec, the extradata, the timescale, the picture's size or the sound's form does not fit.
    """
    if not 1 <= parameters.timescale <= _U32:
        raise SourceError(f"expected a timescale from 1 to {_U32} ticks a second, got {parameters.timescale}")
    extradata = parameters.extradata
    if not 1 <= len(extradata) <= MAX_EXTRADATA:
        raise SourceError(
            f"expected 1 to {MAX_EXTRADATA} bytes of decoder configuration (extradata) for {parameters.codec}, "
            f"got {len(extradata)}; the source must state its parameter sets before the first packet"
        )
    if parameters.kind is Kind.VIDEO:
        if parameters.codec != "h264":
            raise SourceError(f"expected video in h264, got {parameters.codec}")
        if len(extradata) < _AVCC_FIXED or extradata[0] != _AVCC_VERSION:
            raise SourceError(
                f"expected an avcC record (ISO/IEC 14496-15, 5.3.3.1), got bytes that start with "
                f"{extradata[:4].hex()}; a stream in Annex B form must be converted by its source"
            )
        if not (1 <= parameters.width <= _U16 and 1 <= parameters.height <= _U16):
            raise SourceError(f"expected a picture of 1 to {_U16} pixels, got {parameters.width}x{parameters.height}")
        return
    if parameters.codec not in {"aac", "opus"}:
        raise SourceError(f"expected audio in aac or opus, got {parameters.codec}")
    if parameters.codec == "opus" and parameters.sample_rate != OPUS_RATE:
        raise SourceError(f"expected opus to be stated at {OPUS_RATE} Hz, got {parameters.sample_rate}")
    if not 1 <= parameters.sample_rate <= _U16:
        raise SourceError(
            f"expected a sample rate from 1 to {_U16} Hz (ISO/IEC 14496-12, 12.2.3), got {parameters.sample_rate}; "
            "let the source resample"
        )
    if not 1 <= parameters.channels <= _U16:
        raise SourceError(f"expected at least one audio channel, got {parameters.channels}")


def init_segment(video: StreamParameters | None, audio: StreamParameters | None, *, multiple_of: int = 1) -> bytes:
    """The `ftyp` and `moov` that come before a segment's fragments, padded with `free` to a multiple of bytes.

    The result depends on its arguments only: no times of creation, no names of tools.

    Raises:
        SourceError: There is no stream, one is in the other's place, or `check_parameters` refuses one.
    """
    tracks = [parameters for parameters in (video, audio) if parameters is not None]
    if not tracks:
        raise SourceError("expected at least one stream, video or audio, got none")
    if (video is not None and video.kind is not Kind.VIDEO) or (audio is not None and audio.kind is not Kind.AUDIO):
        raise SourceError("expected video parameters first and audio parameters second, got them exchanged")
    for parameters in tracks:
        check_parameters(parameters)
    # iso6: tfdt; iso5: default-base-is-moof; avc1 and mp41: the codecs' own file formats.
    ftyp = box(b"ftyp", b"iso6" + bytes(4) + b"iso6iso5avc1mp41")
    traks = b"".join(_trak(parameters) for parameters in tracks)
    trexs = b"".join(_trex(parameters) for parameters in tracks)
    head = ftyp + box(b"moov", _mvhd() + traks + box(b"mvex", trexs))
    return head + padding(len(head), multiple_of)


def fragment(sequence: int, runs: Sequence[Run], *, multiple_of: int = 1) -> bytes:
    """One `moof` and `mdat`, padded with `free` so that the whole length is a multiple of `multiple_of` bytes.

    A sample's duration is the difference to the next packet's ticks in its run, so a gap inside a fragment is exact;
    the last one's is its nominal duration, and the next fragment's decode time states what follows.

    Args:
        sequence: The fragment's number in its segment, from 1 (`mfhd`).
        runs: At most one a track; runs without packets are left out.
        multiple_of: 1 for no padding.

    Raises:
        SourceError: Ticks go back inside a run, a base time is negative, a time or size leaves the format's range, or
            there are more than `MAX_FRAGMENT_DATA` bytes of samples.
        ValueError: There is no packet at all.
    """
    runs = [run for run in runs if run.packets]
    if not runs:
        raise ValueError("expected at least one packet for a fragment, got none")
    counts = [len(run.packets) for run in runs]
    moof_size = _BOX_HEADER + MFHD.size + TRAF.size * len(runs) + ENTRY_SIZE * sum(counts)
    offset = moof_size + _BOX_HEADER
    parts = [_BOX.pack(moof_size, b"moof"), MFHD.pack(MFHD.size, b"mfhd", 0, sequence & _U32)]
    payload: list[bytes] = []
    try:
        for run, count in zip(runs, counts, strict=True):
            packets = run.packets
            data = [packet.data for packet in packets]
            entries = [0] * (3 * count)
            entries[0::3] = _durations(packets)
            entries[1::3] = sizes = [len(item) for item in data]
            entries[2::3] = [SYNC_SAMPLE if packet.key else NON_SYNC_SAMPLE for packet in packets]
            parts.append(traf_header(run.track_id, run.base_decode_time, count, offset))
            parts.append(_entries(3 * count).pack(*entries))
            payload += data
            offset += sum(sizes)
        parts.append(_BOX.pack(offset - moof_size, b"mdat"))
    except struct.error as error:
        raise SourceError(
            "a fragment's times and sizes must fit ISO/IEC 14496-12: a base time not below 0, ticks that never go back "
            f"and differ by less than 2^32 inside a run; {error}"
        ) from error
    if offset - moof_size > MAX_FRAGMENT_DATA + _BOX_HEADER:
        raise SourceError(
            f"expected at most {MAX_FRAGMENT_DATA} bytes of samples in a fragment, got {offset - moof_size}"
        )
    if multiple_of > 1:
        payload.append(padding(offset, multiple_of))
    return b"".join(parts + payload)


def traf_header(track_id: int, decode_time: int, count: int, data_offset: int) -> bytes:
    """What comes before the table of `count` samples in a `traf`.

    Raises:
        struct.error: A number does not fit.
    """
    trun_size = _TRUN_FIXED + ENTRY_SIZE * count
    return TRAF.pack(
        *(_BOX_HEADER + _TFHD_SIZE + _TFDT_SIZE + trun_size, b"traf"),
        *(_TFHD_SIZE, b"tfhd", _DEFAULT_BASE_IS_MOOF, track_id),
        *(_TFDT_SIZE, b"tfdt", _TFDT_VERSION_1, decode_time),
        *(trun_size, b"trun", _TRUN_OFFSET_DURATION_SIZE_FLAGS, count, data_offset),
    )


def free_box(length: int) -> bytes:
    """A `free` box of `length` bytes in all, filled with zeros.

    Raises:
        ValueError: `length` is below the 8 bytes of a box's header.
    """
    if not _BOX_HEADER <= length <= _U32:
        raise ValueError(f"expected a length from {_BOX_HEADER} to {_U32} bytes for a free box, got {length}")
    return _BOX.pack(length, b"free") + bytes(length - _BOX_HEADER)


def padding(length: int, multiple_of: int) -> bytes:
    """The `free` box that brings `length` bytes to a multiple of `multiple_of`; empty where it is one already."""
    missing = -length % multiple_of
    if not missing:
        return b""
    while missing < _BOX_HEADER:
        missing += multiple_of
    return free_box(missing)


def _durations(packets: Sequence[Packet]) -> list[int]:
    durations = [after.ticks - before.ticks for before, after in pairwise(packets)]
    durations.append(packets[-1].duration)
    return durations


@lru_cache(maxsize=256)
def _entries(numbers: int) -> struct.Struct:
    """The packer of a `trun`'s table [8.8.8]: duration, size and flags of each sample."""
    return struct.Struct(f">{numbers}I")


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box around its contents [4.2]."""
    body = b"".join(contents)
    return _BOX.pack(_BOX_HEADER + len(body), kind) + body


def full_box(kind: bytes, flags: int, *contents: bytes, version: int = 0) -> bytes:
    """A box with version and flags [4.2]."""
    return box(kind, bytes([version]), flags.to_bytes(3, "big"), *contents)


def media_information(header: bytes, sample_table: bytes) -> bytes:
    """`minf` [8.4.4]: a media's own header box, then where its data is (in this file), then its table of samples."""
    self_contained = 1
    dinf = box(b"dinf", full_box(b"dref", 0, struct.pack(">I", 1), full_box(b"url ", self_contained)))
    return box(b"minf", header, dinf, sample_table)


def handler(kind: bytes, name: bytes) -> bytes:
    """`hdlr` [8.4.3]: what kind of media a track holds, and a name for people."""
    return full_box(b"hdlr", 0, struct.pack(">I4s12x", 0, kind), name + b"\0")


def sample_entry(parameters: StreamParameters) -> bytes:
    """How to decode a stream, as it stands in `stsd` [8.5.2]."""
    return _audio_entry(parameters) if parameters.kind is Kind.AUDIO else _video_entry(parameters)


def _mvhd() -> bytes:
    """[8.2.2]: no times, timescale 1000 (used by nothing here), rate 1, volume 1, room for tracks 1 and 2."""
    return full_box(
        b"mvhd", 0, struct.pack(">4IIH10x", 0, 0, 1000, 0, 0x10000, 0x100), MATRIX, bytes(24), struct.pack(">I", 3)
    )


def _trak(parameters: StreamParameters) -> bytes:
    """[8.3.1]: one track without samples of its own; the fragments bring them."""
    audio = parameters.kind is Kind.AUDIO
    enabled_in_movie = 3
    tkhd = full_box(
        b"tkhd",
        enabled_in_movie,
        struct.pack(">5I8xHHHxx", 0, 0, TRACK_IDS[parameters.kind], 0, 0, 0, 0, 0x100 if audio else 0),
        MATRIX,
        struct.pack(">II", parameters.width << 16, parameters.height << 16),
    )
    mdhd = full_box(b"mdhd", 0, struct.pack(">4IHH", 0, 0, parameters.timescale, 0, LANGUAGE_UNDETERMINED, 0))
    hdlr = handler(b"soun", b"SoundHandler") if audio else handler(b"vide", b"VideoHandler")
    media_header = full_box(b"smhd", 0, bytes(4)) if audio else full_box(b"vmhd", 1, bytes(8))
    stbl = box(
        b"stbl",
        full_box(b"stsd", 0, struct.pack(">I", 1), sample_entry(parameters)),
        full_box(b"stts", 0, bytes(4)),
        full_box(b"stsc", 0, bytes(4)),
        full_box(b"stsz", 0, bytes(8)),
        full_box(b"stco", 0, bytes(4)),
    )
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, media_information(media_header, stbl)))


def _video_entry(parameters: StreamParameters) -> bytes:
    """`avc1` (ISO/IEC 14496-15, 5.4.2.1): parameter sets are in the `avcC` record."""
    dots_per_inch = 72 << 16
    fields = struct.pack(
        ">6xH16xHHIIIH32xHh", 1, parameters.width, parameters.height, dots_per_inch, dots_per_inch, 0, 1, 24, -1
    )
    return box(b"avc1", fields, box(b"avcC", parameters.extradata))


def _audio_entry(parameters: StreamParameters) -> bytes:
    """`mp4a` (ISO/IEC 14496-14, 5.6.1) or `Opus` (Encapsulation of Opus in ISOBMFF, 4.3.1)."""
    bits_a_sample = 16
    fields = struct.pack(">6xH8xHH4xI", 1, parameters.channels, bits_a_sample, parameters.sample_rate << 16)
    if parameters.codec == "opus":
        return box(b"Opus", fields, box(b"dOps", parameters.extradata))
    return box(b"mp4a", fields, full_box(b"esds", 0, _es_descriptor(parameters.extradata)))


def _es_descriptor(audio_specific_config: bytes) -> bytes:
    """ES_Descriptor (ISO/IEC 14496-1, 7.2.6.5) of an AAC stream; buffer size and bit rates 0: not stated."""
    mpeg4_audio, audio_stream, predefined_mp4 = 0x40, 0x15, b"\x02"
    config = _descriptor(
        0x04, struct.pack(">BB3xII", mpeg4_audio, audio_stream, 0, 0), _descriptor(0x05, audio_specific_config)
    )
    return _descriptor(0x03, bytes(3), config, _descriptor(0x06, predefined_mp4))


def _descriptor(tag: int, *contents: bytes) -> bytes:
    """A descriptor with its length in four bytes of seven bits (ISO/IEC 14496-1, 8.3.3)."""
    body = b"".join(contents)
    size = len(body)
    return bytes([tag, 0x80 | size >> 21, 0x80 | size >> 14 & 0x7F, 0x80 | size >> 7 & 0x7F, size & 0x7F]) + body


def _trex(parameters: StreamParameters) -> bytes:
    """[8.8.3]: no defaults; every `trun` states duration, size and flags itself."""
    return full_box(b"trex", 0, struct.pack(">5I", TRACK_IDS[parameters.kind], 1, 0, 0, 0))
