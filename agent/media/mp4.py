"""Writes a progressive MP4 that plays everywhere, in one pass, with the exact times of its samples.

The rules, in order:
1. Each track keeps its stream's timescale, and each sample its time: the time from one sample to the next is the
   duration of the first (`stts`), so that nothing is rounded and no gap is closed. A track that does not begin at 0
   begins with an empty edit.
2. The movie's timescale is the least common multiple of the tracks', so that edits are exact too.
3. The index (`moov`) is before the data (`faststart`) if it fits into the room that was reserved for it, otherwise
   after it. The rest of that room is a `free` box.
4. In memory are the index, a few bytes a sample, and the data of half a second.

Not written by PyAV's muxer, because that shifts times if a text track is sparse or a sound track starts late, and its
memory can't be bounded. Source: ISO/IEC 14496-12 (clauses in brackets), 3GPP TS 26.245 for text.
"""

import math
import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from agent.clock import NS
from agent.errors import EvidenceError
from agent.media.fmp4 import (
    LANGUAGE_UNDETERMINED,
    MATRIX,
    TRACK_IDS,
    box,
    free_box,
    full_box,
    handler,
    media_information,
    sample_entry,
)
from agent.media.packet import Kind, StreamParameters

TEXT_TRACK = 3
TEXT_TIMESCALE = 1000
MAX_TICKS = 0x7FFF_FFFF
"""Between two samples of a track. [8.6.1.2] has 32 bits; players read them as signed."""

BYTES_A_SAMPLE = 12
"""Index bytes a sample, at most: `stsz` 4, `stts` 8; a file of IDR pictures only takes 4 more in `stss`."""
BYTES_A_CHUNK = 20
"""Index bytes a chunk, at most: `co64` 8, `stsc` 12."""
CHUNKS_A_SECOND = 2
"""Of each track."""

_PENDING_BYTES = 1 << 20
_BOX_HEADER = 8
_LARGE_HEADER = 16
_U32 = 0xFFFF_FFFF
_EPOCH_1904_S = 2_082_844_800
_ENABLED_IN_MOVIE = 3
_TEXT_GROUP = 2
_FONT = b"Sans-Serif"


def index_bytes(samples: int, seconds: float, tracks: Sequence[StreamParameters]) -> int:
    """Bytes that the index takes at most, text cues of one second each included."""
    fixed = 4096 + sum(len(parameters.extradata) for parameters in tracks)
    cues = round(seconds) * 2 * (BYTES_A_SAMPLE + BYTES_A_CHUNK)
    chunks = round(seconds * CHUNKS_A_SECOND) * len(tracks) * BYTES_A_CHUNK
    return fixed + samples * BYTES_A_SAMPLE + cues + chunks


class _Table:
    """The index of one track: size, time and offset of each sample.

    Attributes:
        timescale: Ticks a second.
        first: Ticks of the first sample; None while there is none.
        last: Ticks of the newest one.
    """

    def __init__(self, timescale: int) -> None:
        self.timescale = timescale
        self.first: int | None = None
        self.last = 0
        self.pending: list[bytes] = []
        self.pending_since = 0
        self._sizes = array("I")
        self._newest_delta: int | None = None
        self._counts = array("I")
        self._deltas = array("I")
        self._syncs = array("I")
        self._offsets = array("Q")
        self._chunk_runs = array("I")
        self._samples_a_chunk = 0

    def add(self, ticks: int, data: bytes, key: bool) -> None:  # noqa: FBT001 - called for every sample: kept short
        """Add a sample at `ticks`, not before the previous one."""
        delta = ticks - self.last
        if delta == self._newest_delta:
            self._counts[-1] += 1
        elif self.first is None:
            self.first = ticks
        else:
            self._delta(delta)
        if not self.pending:
            self.pending_since = ticks
        self.last = ticks
        self.pending.append(data)
        self._sizes.append(len(data))
        if key:
            self._syncs.append(len(self._sizes))

    def _delta(self, delta: int) -> None:
        if not 0 <= delta <= MAX_TICKS:
            raise EvidenceError(f"expected 0 to {MAX_TICKS} ticks from one sample to the next, got {delta}")
        if self._newest_delta == delta:
            self._counts[-1] += 1
        else:
            self._newest_delta = delta
            self._deltas.append(delta)
            self._counts.append(1)

    def take_chunk(self, offset: int) -> list[bytes]:
        """The samples since the last chunk, to be written at `offset`."""
        pending, self.pending = self.pending, []
        self._offsets.append(offset)
        if len(pending) != self._samples_a_chunk:
            self._samples_a_chunk = len(pending)
            self._chunk_runs.extend((len(self._offsets), len(pending), 1))
        return pending

    def close(self, end: int) -> None:
        """End the newest sample at `end`."""
        self._delta(end - self.last)

    def box(self, entry: bytes) -> bytes:
        """`stbl` [8.5.1]."""
        large = bool(self._offsets) and self._offsets[-1] > _U32
        offsets = self._offsets if large else array("I", self._offsets)
        parts = [
            full_box(b"stsd", 0, struct.pack(">I", 1), entry),
            full_box(b"stts", 0, struct.pack(">I", len(self._deltas)), _pairs(self._counts, self._deltas)),
            full_box(b"stsc", 0, struct.pack(">I", len(self._chunk_runs) // 3), _big_endian(self._chunk_runs)),
            full_box(b"stsz", 0, struct.pack(">II", 0, len(self._sizes)), _big_endian(self._sizes)),
            full_box(b"co64" if large else b"stco", 0, struct.pack(">I", len(offsets)), _big_endian(offsets)),
        ]
        if len(self._syncs) < len(self._sizes):
            parts.insert(2, full_box(b"stss", 0, struct.pack(">I", len(self._syncs)), _big_endian(self._syncs)))
        return box(b"stbl", *parts)


def _pairs(counts: "array[int]", deltas: "array[int]") -> bytes:
    both = array("I", bytes(8 * len(counts)))
    both[0::2], both[1::2] = counts, deltas
    return _big_endian(both)


def _big_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


class Mp4Writer:
    """Writes one file with at most one video, one audio and one text track.

    Args:
        file: Empty, writable and seekable; the caller's to sync and close.
        tracks: The streams, in the order of their tracks. A track without samples is left out.
        reserve: Bytes for the index before the data, see `index_bytes`.
    """

    def __init__(self, file: BinaryIO, tracks: Sequence[StreamParameters], *, reserve: int) -> None:
        self._file = file
        self._parameters = {parameters.kind: parameters for parameters in tracks}
        self._tables = {kind: _Table(parameters.timescale) for kind, parameters in self._parameters.items()}
        self._text = _Table(TEXT_TIMESCALE)
        # isom, iso2, mp41: any reader of ISO files; avc1: with H.264 in it.
        file.write(box(b"ftyp", b"isom" + struct.pack(">I", 0x200) + b"isomiso2avc1mp41"))
        self._index_at = file.tell()
        self._room = max(reserve, _BOX_HEADER)
        self._data_at = self._index_at + self._room + _LARGE_HEADER
        self._position = self._data_at
        self._pending_bytes = 0
        file.seek(self._data_at)

    def adder(self, kind: Kind) -> Callable[[int, bytes, bool], None]:
        """A function that adds a sample to a track: its ticks, its bytes, and whether it is a sync sample.

        It raises `EvidenceError` if the sample is before the previous one or more than `MAX_TICKS` after it, and
        `OSError` as the file does.
        """
        table = self._tables[kind]
        chunk_ticks = table.timescale // CHUNKS_A_SECOND

        def add(ticks: int, data: bytes, key: bool) -> None:  # noqa: FBT001 - called for every sample: kept short
            table.add(ticks, data, key)
            self._pending_bytes += len(data)
            if ticks - table.pending_since >= chunk_ticks or self._pending_bytes > _PENDING_BYTES:
                self.flush()

        return add

    def add_text(self, milliseconds: int, text: str) -> None:
        """Show a text from then on, until the next; empty for none."""
        data = text.encode("utf-8")
        self._text.add(milliseconds, struct.pack(">H", len(data)) + data, True)  # noqa: FBT003

    def flush(self) -> None:
        """Write the buffered samples."""
        for table in (*self._tables.values(), self._text):
            if table.pending:
                data = b"".join(table.take_chunk(self._position))
                self._file.write(data)
                self._position += len(data)
        self._pending_bytes = 0

    def finish(self, ends: Mapping[Kind, int], *, text_end_ms: int, created_ns: int | None) -> bool:
        """Write the index; nothing can be added after it.

        Args:
            ends: When the last sample of each track ends, in the track's ticks.
            text_end_ms: When the last text ends.
            created_ns: When this was recorded, nanoseconds since 1970; None if unknown.

        Returns:
            True if the index is before the data.

        Raises:
            EvidenceError: A track's last sample lasts for more than `MAX_TICKS`.
            OSError: The file's own.
        """
        self.flush()
        index = self._index(ends, text_end_ms, _seconds_since_1904(created_ns))
        left = self._room - len(index)
        in_front = left == 0 or left >= _BOX_HEADER
        if not in_front:
            self._file.write(index)
            index, left = b"", self._room
        self._file.seek(self._index_at)
        self._file.write(index)
        if left:
            # Only the header: unwritten bytes read as zeros, and take no room on most file systems.
            self._file.write(struct.pack(">I4s", left, b"free"))
        self._file.seek(self._data_at - _LARGE_HEADER)
        size = self._position - self._data_at
        if size + _BOX_HEADER <= _U32:
            self._file.write(free_box(_BOX_HEADER) + struct.pack(">I4s", size + _BOX_HEADER, b"mdat"))
        else:
            self._file.write(struct.pack(">I4sQ", 1, b"mdat", size + _LARGE_HEADER))
        return in_front

    def _index(self, ends: Mapping[Kind, int], text_end_ms: int, created: int) -> bytes:
        tables = {kind: table for kind, table in self._tables.items() if table.first is not None}
        movie = _Movie(_movie_timescale([table.timescale for table in tables.values()]), created)
        for kind, table in tables.items():
            table.close(ends[kind])
            movie.add(_media(self._parameters[kind]), table, ends[kind])
        if self._text.first is not None:
            self._text.close(text_end_ms)
            movie.add(_text_media(self._parameters.get(Kind.VIDEO)), self._text, text_end_ms)
        return movie.box()


def _movie_timescale(timescales: Sequence[int]) -> int:
    exact = math.lcm(*timescales)
    return exact if 0 < exact <= _U32 else max(timescales)


def _seconds_since_1904(utc_ns: int | None) -> int:
    """[8.2.2]: seconds since 1904-01-01 UTC; 0 if unknown."""
    return 0 if utc_ns is None else utc_ns // NS + _EPOCH_1904_S


def _timed(kind: bytes, created: int, fields: tuple[int, ...], duration: int, rest: bytes) -> bytes:
    """A header box with times, in version 0 if they fit into 32 bits, otherwise in version 1."""
    flags = _ENABLED_IN_MOVIE if kind == b"tkhd" else 0
    version = int(max(created, duration) > _U32)
    times = struct.pack(">QQ" if version else ">II", created, created)
    middle = struct.pack(f">{len(fields)}I", *fields)
    lasts = struct.pack(">Q" if version else ">I", duration)
    return full_box(kind, flags, times, middle, lasts, rest, version=version)


def _edits(empty: int, lasts: int) -> bytes:
    """`edts` [8.6.5] of a track that begins late: an empty edit, then all of the media."""
    if not empty:
        return b""
    version = int(max(empty, lasts) > _U32)
    form = ">Qqhh" if version else ">Iihh"
    edits = struct.pack(form, empty, -1, 1, 0) + struct.pack(form, lasts, 0, 1, 0)
    return box(b"edts", full_box(b"elst", 0, struct.pack(">I", 2), edits, version=version))


class _Media(NamedTuple):
    """The description of a track without its samples.

    Attributes:
        look: What ends `tkhd` [8.3.2], from its reserved field before `layer` on.
        hdlr, header: Boxes of `mdia` and `minf`.
        entry: The sample entry.
    """

    track_id: int
    look: bytes
    hdlr: bytes
    header: bytes
    entry: bytes


class _Movie:
    """`moov` [8.2.1], track by track.

    Args:
        timescale: The movie's.
        created: Seconds since 1904.
    """

    def __init__(self, timescale: int, created: int) -> None:
        self._timescale = timescale
        self._created = created
        self._duration = 0
        self._traks: list[bytes] = []

    def add(self, media: _Media, table: _Table, end: int) -> None:
        """A track [8.3.1] whose last sample ends at `end`, in its own ticks."""
        lasts = end - (table.first or 0)
        empty = (table.first or 0) * self._timescale // table.timescale
        shown = -(-lasts * self._timescale // table.timescale)
        tkhd = _timed(b"tkhd", self._created, (media.track_id, 0), empty + shown, media.look)
        mdhd = _timed(b"mdhd", self._created, (table.timescale,), lasts, struct.pack(">HH", LANGUAGE_UNDETERMINED, 0))
        minf = media_information(media.header, table.box(media.entry))
        self._traks.append(box(b"trak", tkhd, _edits(empty, shown), box(b"mdia", mdhd, media.hdlr, minf)))
        self._duration = max(self._duration, empty + shown)

    def box(self) -> bytes:
        """The whole box."""
        rate_and_volume = struct.pack(">IH10x", 0x10000, 0x100)
        rest = rate_and_volume + MATRIX + bytes(24) + struct.pack(">I", TEXT_TRACK + 1)
        return box(b"moov", _timed(b"mvhd", self._created, (self._timescale,), self._duration, rest), *self._traks)


def _media(parameters: StreamParameters) -> _Media:
    size = struct.pack(">II", parameters.width << 16, parameters.height << 16)
    if parameters.kind is Kind.AUDIO:
        look = struct.pack(">8xHHHxx", 0, 0, 0x100) + MATRIX + size
        hdlr, header = handler(b"soun", b"SoundHandler"), full_box(b"smhd", 0, bytes(4))
    else:
        look = struct.pack(">8xHHHxx", 0, 0, 0) + MATRIX + size
        hdlr, header = handler(b"vide", b"VideoHandler"), full_box(b"vmhd", 1, bytes(8))
    return _Media(TRACK_IDS[parameters.kind], look, hdlr, header, sample_entry(parameters))


def _text_media(video: StreamParameters | None) -> _Media:
    """Timed text as subtitles, in the lower quarter of the picture."""
    width, picture = (video.width, video.height) if video else (640, 480)
    height = max(1, picture // 4)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, (picture - height) << 16, 0x40000000)
    look = struct.pack(">8xHHHxx", 0, _TEXT_GROUP, 0) + matrix + struct.pack(">II", width << 16, height << 16)
    hdlr, header = handler(b"sbtl", b"SubtitleHandler"), full_box(b"nmhd", 0)
    return _Media(TEXT_TRACK, look, hdlr, header, _text_entry(width, height))


def _text_entry(width: int, height: int) -> bytes:
    """`tx3g` (3GPP TS 26.245, 5.16): white on half transparent black, centred, at the bottom."""
    centred, bottom = 1, -1
    background, white = bytes([0, 0, 0, 128]), bytes([255, 255, 255, 255])
    size = min(255, max(8, height // 6))
    style = struct.pack(">HHHBB", 0, 0, 1, 0, size) + white
    font = box(b"ftab", struct.pack(">HHB", 1, 1, len(_FONT)), _FONT)
    area = struct.pack(">4h", 0, 0, height, width)
    return box(b"tx3g", struct.pack(">6xHIbb", 1, 0, centred, bottom), background, area, style, font)
