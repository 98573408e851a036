"""Reads what `fmp4` wrote: a stream of bytes in, stream parameters and samples out, one fragment at a time.

Rules, in order:
1. At most one fragment is in memory; every box has an upper limit, which is checked before its bytes are read.
2. The stream may end anywhere. All samples of whole fragments are returned, none of a cut one; `Ending` says where.
3. The initialisation segment is searched for what decoding needs, other boxes in it are skipped. Fragments must have
   exactly the layout of `fmp4.fragment`.
4. Anything else is an `EvidenceError`; the bytes cause no other exception.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from agent.errors import EvidenceError, SourceError
from agent.media import fmp4
from agent.media.packet import Kind, StreamParameters

MAX_INIT_BOX = 1 << 20
"""Bytes of `ftyp` or `moov`; the writer's have less than 140 KB even with the largest extradata."""
MAX_MOOF = 1 << 20
"""Bytes of a `moof`: some 87,000 samples."""
MAX_FREE = 1 << 21
"""Bytes of padding; frames of the sealed message are at most 1 MiB long."""

_BOX_HEADER = 8
_BRAND = 4
_FULL = 4  # version and flags of a full box, ISO/IEC 14496-12, 4.2
_SAMPLE_ENTRY = {b"avc1": 78, b"mp4a": 28, b"Opus": 28}  # bytes of fields before the boxes in it
_MAX_NESTED = 64  # boxes in one box of the initialisation segment


_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded picture or sound frame of a fragment.

    Attributes:
        ticks: Decode time in the track's timescale, counted from the segment's own zero.
        duration: In ticks; up to the next sample of its fragment, or nominal for the last.
        key: True for a sync sample.
    """

    kind: Kind
    ticks: int
    duration: int
    key: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream of fragments ended.

    Attributes:
        complete: True if the last byte was the last of a box after a whole fragment or initialisation segment.
        fragments, samples: Numbers of whole ones, all returned.
        read_bytes: Length of the stream.
        cut_bytes: How many of them belong to an initialisation segment, fragment or padding that is cut.
        where: A description of what the stream ended in.
    """

    complete: bool
    fragments: int
    samples: int
    read_bytes: int
    cut_bytes: int
    where: str


class Reader:
    """Reads one segment. Read `tracks`, then iterate once, then read `ending`.

    Args:
        chunks: The segment's bytes in chunks of any size. Exceptions of the iterator pass through.
    """

    def __init__(self, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        self._window = _Window(iter(chunks))
        self._tracks: dict[int, StreamParameters] | None = None
        self._fragments = 0
        self._samples = 0
        self._ending: Ending | None = None

    @property
    def tracks(self) -> tuple[StreamParameters, ...]:
        """Video, audio or both, in this order; empty if the stream ends before its initialisation segment does.

        Raises:
            EvidenceError: The stream does not begin with an initialisation segment.
        """
        return tuple(self._read_tracks().values())

    @property
    def ending(self) -> Ending:
        """How the stream ended.

        Raises:
            RuntimeError: The samples were not yet read to their end.
        """
        if self._ending is None:
            raise RuntimeError("expected the samples to be read to their end before `ending` is read")
        return self._ending

    def __iter__(self) -> Iterator[Sample]:
        """The samples of all whole fragments, in the order of the file: in each fragment one track after the other.

        Raises:
            EvidenceError: Something is not as `fmp4` writes it.
        """
        for samples in self.fragments():
            yield from samples

    def fragments(self) -> Iterator[list[Sample]]:
        """The same, the samples of a fragment at a time.

        Raises:
            EvidenceError: Something is not as `fmp4` writes it.
        """
        tracks = self._read_tracks()
        while self._ending is None:
            header = self._header("between fragments")
            if header is None:
                return
            kind, size = header
            if kind == b"free":
                self._skip_free(size)
            elif kind == b"moof":
                samples = self._fragment(size, tracks)
                if samples:
                    yield samples
            else:
                raise EvidenceError(f"expected a moof or free box after byte {self._window.offset}, got {_name(kind)}")

    def _read_tracks(self) -> dict[int, StreamParameters]:
        if self._tracks is None:
            self._tracks = {}  # also after an error: the initialisation segment is not read twice
            for expected in (b"ftyp", b"moov"):
                header = self._header("the initialisation segment")
                if header is None:
                    return self._tracks
                kind, size = header
                if kind != expected:
                    raise EvidenceError(
                        f"expected {_name(expected)} at byte {self._window.offset} of the segment, got {_name(kind)}"
                    )
                _limit(kind, size, MAX_INIT_BOX)
                if not self._window.wait(size):
                    self._end("the initialisation segment")
                    return self._tracks
                if kind == b"moov":
                    self._tracks = _parse(_movie, self._window.view(_BOX_HEADER, size))
                self._window.drop(size)
        return self._tracks

    def _header(self, where: str) -> tuple[bytes, int] | None:
        """Type and length of the box that begins here; None if the stream ends before its header does."""
        if not self._window.wait(_BOX_HEADER):
            self._end(where)
            return None
        size, kind = _parse(_box_header, self._window.view(0, _BOX_HEADER))
        return kind, size

    def _skip_free(self, size: int) -> None:
        _limit(b"free", size, MAX_FREE)
        if self._window.wait(size):
            self._window.drop(size)
        else:
            self._end("padding")

    def _fragment(self, moof_size: int, tracks: dict[int, StreamParameters]) -> list[Sample]:
        """The samples of the fragment that begins here; none if the stream ends before it does."""
        _limit(b"moof", moof_size, MAX_MOOF)
        if not self._window.wait(moof_size + _BOX_HEADER):
            self._end("a fragment")
            return []
        mdat_size, kind = _parse(_box_header, self._window.view(moof_size, moof_size + _BOX_HEADER))
        if kind != b"mdat":
            raise EvidenceError(f"expected mdat after the moof at byte {self._window.offset}, got {_name(kind)}")
        _limit(kind, mdat_size, fmp4.MAX_FRAGMENT_DATA + _BOX_HEADER)
        whole = moof_size + mdat_size
        runs = _parse(_movie_fragment, self._window.view(_BOX_HEADER, moof_size))
        _check_runs(runs, tracks, moof_size + _BOX_HEADER, whole)
        if not self._window.wait(whole):
            self._end("a fragment")
            return []
        samples = _samples(runs, tracks, bytes(self._window.view(0, whole)))
        self._window.drop(whole)
        self._fragments += 1
        self._samples += len(samples)
        return samples

    def _end(self, where: str) -> None:
        cut = self._window.held
        # A segment without its moov can't be decoded, even if all its boxes are whole.
        complete = not cut and bool(self._tracks)
        self._ending = Ending(
            complete, self._fragments, self._samples, self._window.offset + cut, cut, "whole" if complete else where
        )


class _Window:
    """The bytes that were received and not yet parsed, and their position in the stream."""

    def __init__(self, chunks: Iterator[bytes | bytearray | memoryview]) -> None:
        self._chunks = chunks
        self._held = bytearray()
        self.offset = 0

    @property
    def held(self) -> int:
        """How many bytes are not yet read."""
        return len(self._held)

    def wait(self, size: int) -> bool:
        """Take chunks until `size` bytes are held; False if the stream ends before."""
        while len(self._held) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._held += chunk
        return True

    def view(self, start: int, end: int) -> bytes:
        """A copy of some bytes that are held."""
        return bytes(memoryview(self._held)[start:end])

    def drop(self, size: int) -> None:
        """Discard the first `size` bytes."""
        del self._held[:size]
        self.offset += size


@dataclass(frozen=True, slots=True)
class _RunTable:
    """A `traf` as read: where its samples are and how long each is, in bytes and in ticks."""

    track_id: int
    decode_time: int
    data_offset: int
    durations: tuple[int, ...]
    sizes: tuple[int, ...]
    flags: tuple[int, ...]


def _parse(parser: Callable[[bytes], _Result], data: bytes) -> _Result:
    """Apply `parser` to `data`.

    Raises:
        EvidenceError: The data ends early, or a value is out of range.
    """
    try:
        return parser(data)
    except (struct.error, IndexError, SourceError) as error:
        raise EvidenceError(f"a box of the segment is malformed: {error}") from error


def _limit(kind: bytes, size: int, limit: int) -> None:
    if size > limit:
        raise EvidenceError(f"expected at most {limit} bytes in a {_name(kind)} box, it states {size}")


def _name(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))


def _box_header(data: bytes) -> tuple[int, bytes]:
    size, kind = struct.unpack_from(">I4s", data)
    if size < _BOX_HEADER:
        # 0 (up to the end) and 1 (64-bit length) exist in ISO/IEC 14496-12, 4.2, but are never written.
        raise EvidenceError(f"expected a box of at least {_BOX_HEADER} bytes, {_name(kind)} states {size}")
    return size, kind


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and contents of the boxes that `data` is made of."""
    boxes = []
    offset = 0
    while offset < len(data):
        size, kind = _box_header(data[offset : offset + _BOX_HEADER])
        if offset + size > len(data):
            raise EvidenceError(f"a {_name(kind)} box of {size} bytes is longer than the box that it is in")
        boxes.append((kind, data[offset + _BOX_HEADER : offset + size]))
        if len(boxes) > _MAX_NESTED:
            raise EvidenceError(f"expected at most {_MAX_NESTED} boxes in one box of an initialisation segment")
        offset += size
    return boxes


def _only(data: bytes, *path: bytes) -> bytes:
    """The contents of the box that `path` leads to; each of its boxes must be there once."""
    for kind in path:
        found = [contents for name, contents in _boxes(data) if name == kind]
        if len(found) != 1:
            raise EvidenceError(f"expected one {_name(kind)} box, found {len(found)}")
        data = found[0]
    return data


def _movie(moov: bytes) -> dict[int, StreamParameters]:
    """The tracks of a `moov`, by number."""
    tracks: dict[int, StreamParameters] = {}
    for kind, contents in _boxes(moov):
        if kind == b"trak":
            track_id, parameters = _track(contents)
            if fmp4.TRACK_IDS[parameters.kind] != track_id or track_id in tracks:
                raise EvidenceError(
                    f"expected video in track {fmp4.VIDEO_TRACK} and audio in track {fmp4.AUDIO_TRACK}, each at most "
                    f"once; found {parameters.kind} in track {track_id}"
                )
            tracks[track_id] = parameters
    if not tracks:
        raise EvidenceError("expected at least one track in the initialisation segment, found none")
    return dict(sorted(tracks.items()))


def _track(trak: bytes) -> tuple[int, StreamParameters]:
    (track_id,) = struct.unpack_from(">I", _version_0(_only(trak, b"tkhd")), 8)
    mdia = _only(trak, b"mdia")
    (timescale,) = struct.unpack_from(">I", _version_0(_only(mdia, b"mdhd")), 8)
    stsd = _only(mdia, b"minf", b"stbl", b"stsd")
    entries = _boxes(stsd[_FULL + 4 :])
    if len(entries) != 1 or entries[0][0] not in _SAMPLE_ENTRY:
        raise EvidenceError(
            f"expected one avc1, mp4a or Opus sample entry in a track, found {[_name(kind) for kind, _ in entries]}"
        )
    kind, entry = entries[0]
    extensions = entry[_SAMPLE_ENTRY[kind] :]
    if kind == b"avc1":
        width, height = struct.unpack_from(">HH", entry, 24)
        parameters = StreamParameters(Kind.VIDEO, "h264", timescale, _only(extensions, b"avcC"), width, height)
    else:
        channels, rate = struct.unpack_from(">H6xI", entry, 16)
        sound = {"sample_rate": rate >> 16, "channels": channels}
        if kind == b"Opus":
            parameters = StreamParameters(Kind.AUDIO, "opus", timescale, _only(extensions, b"dOps"), **sound)
        else:
            config = _audio_specific_config(_only(extensions, b"esds"))
            parameters = StreamParameters(Kind.AUDIO, "aac", timescale, config, **sound)
    fmp4.check_parameters(parameters)
    return track_id, parameters


def _version_0(full_box: bytes) -> bytes:
    """The fields of a full box of version 0: the only one whose layout is known here."""
    if not full_box or full_box[0] != 0:
        raise EvidenceError(f"expected a header box of version 0, got {full_box[:1].hex() or 'nothing'}")
    return full_box[_FULL:]


def _audio_specific_config(esds: bytes) -> bytes:
    """The decoder's configuration in an ES_Descriptor (ISO/IEC 14496-1, 7.2.6.5) without its optional fields."""
    es_descriptor = _descriptor(esds[_FULL:], 0x03)
    decoder_config = _descriptor(es_descriptor[3:], 0x04)
    return _descriptor(decoder_config[13:], 0x05)


def _descriptor(data: bytes, tag: int) -> bytes:
    """The contents of the descriptor that `data` begins with; its length has at most four bytes of seven bits."""
    if data[0] != tag:
        raise EvidenceError(f"expected a descriptor with tag {tag} in esds, got {data[0]}")
    size = 0
    for index in range(1, 5):
        size = size << 7 | data[index] & 0x7F
        if not data[index] & 0x80:
            contents = data[index + 1 : index + 1 + size]
            if len(contents) != size:
                raise EvidenceError(f"a descriptor in esds states {size} bytes, {len(contents)} are there")
            return contents
    raise EvidenceError("expected at most four bytes for a descriptor's length in esds")


def _movie_fragment(moof: bytes) -> list[_RunTable]:
    """The runs of a `moof`, whose layout must be that of `fmp4.fragment`."""
    size, kind, flags, _sequence = fmp4.MFHD.unpack_from(moof)
    if (size, kind, flags) != (fmp4.MFHD.size, b"mfhd", 0):
        raise EvidenceError(f"expected an mfhd box first in a moof, got {_name(kind)} of {size} bytes")
    runs = []
    offset = fmp4.MFHD.size
    while offset < len(moof):
        fields = fmp4.TRAF.unpack_from(moof, offset)
        track_id, decode_time, count, data_offset = fields[5], fields[9], fields[13], fields[14]
        start = offset + fmp4.TRAF.size
        if moof[offset:start] != fmp4.traf_header(track_id, decode_time, count, data_offset):
            raise EvidenceError("expected a traf with tfhd, tfdt and trun in the form that this recorder writes")
        table = struct.unpack_from(f">{3 * count}I", moof, start)
        runs.append(_RunTable(track_id, decode_time, data_offset, table[0::3], table[1::3], table[2::3]))
        offset = start + fmp4.ENTRY_SIZE * count
    return runs


def _check_runs(runs: list[_RunTable], tracks: dict[int, StreamParameters], start: int, end: int) -> None:
    """The runs must be of known tracks, each once, and share the `mdat` between them without gap or overlap."""
    numbers = [run.track_id for run in runs]
    if not numbers or len(set(numbers)) != len(numbers) or not set(numbers) <= tracks.keys():
        raise EvidenceError(f"expected a fragment with runs of the tracks {sorted(tracks)}, each once; got {numbers}")
    for run in runs:
        if run.data_offset != start:
            raise EvidenceError(
                f"expected the data of track {run.track_id} at byte {start}, trun says {run.data_offset}"
            )
        start += sum(run.sizes)
    if start != end:
        raise EvidenceError(f"expected samples of {end - runs[0].data_offset} bytes for the mdat, trun states {start}")


def _samples(runs: list[_RunTable], tracks: dict[int, StreamParameters], data: bytes) -> list[Sample]:
    samples = []
    for run in runs:
        kind = tracks[run.track_id].kind
        ends = accumulate(run.sizes, initial=run.data_offset)
        times = accumulate(run.durations, initial=run.decode_time)
        for start, size, ticks, duration, flags in zip(ends, run.sizes, times, run.durations, run.flags, strict=False):
            if flags not in (fmp4.SYNC_SAMPLE, fmp4.NON_SYNC_SAMPLE):
                raise EvidenceError(f"expected the flags of a sync or non-sync sample, got {flags:#010x}")
            samples.append(Sample(kind, ticks, duration, flags == fmp4.SYNC_SAMPLE, data[start : start + size]))
    return samples
