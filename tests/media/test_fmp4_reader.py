import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import parse_spec
from agent.errors import EvidenceError
from agent.media.fmp4 import AUDIO_TRACK, SYNC_SAMPLE, VIDEO_TRACK, Run, fragment, free_box, init_segment
from agent.media.fmp4_reader import MAX_FREE, MAX_INIT_BOX, MAX_MOOF, Reader, Sample
from agent.media.packet import Kind, Packet
from tests.support.clips import CLIPS, clip
from tests.support.containers import fragments, of_kind, segment
from tests.support.packets import AUDIO, VIDEO, audio, scene, video
from tests.support.sources import virtual_pacing

INIT = init_segment(VIDEO, AUDIO)
SCENE = scene(0.6)
WHOLE = segment(SCENE, multiple_of=512)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes) -> list[Sample]:
    return list(Reader([data]))


def as_samples(packets: list[Packet]) -> dict[Kind, list[tuple[int, bytes, bool]]]:
    return {kind: [(p.ticks, p.data, p.key) for p in of_kind(packets, kind)] for kind in Kind}


def by_kind(samples: list[Sample]) -> dict[Kind, list[tuple[int, bytes, bool]]]:
    return {kind: [(s.ticks, s.data, s.key) for s in samples if s.kind is kind] for kind in Kind}


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips_come_back_byte_for_byte_and_tick_for_tick(name: str) -> None:
    packets = list(parse_spec(f"replay-once:{clip(name)}", virtual_pacing()).open(1))
    data = segment(packets, multiple_of=8192)
    reader = Reader(pieces(data, 8192))
    assert by_kind(list(reader)) == as_samples(packets)
    assert reader.ending.complete
    assert (reader.ending.samples, reader.ending.read_bytes) == (len(packets), len(data))


@given(st.integers(1, 3000))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_give_the_same_samples(size: int) -> None:
    assert list(Reader(pieces(WHOLE, size))) == read(WHOLE)


def test_durations_are_those_to_the_next_sample_and_nominal_at_the_end() -> None:
    run = [video(0, key=True), video(0.05), replace(video(0.2), duration=777)]
    samples = read(INIT + fragment(1, [Run(VIDEO_TRACK, 0, run)]))
    assert [sample.duration for sample in samples] == [1500, 4500, 777]


@given(st.integers(0, len(WHOLE)))
@settings(max_examples=200, deadline=None)
def test_stream_cut_anywhere_gives_all_whole_fragments(cut: int) -> None:
    init_end = len(init_segment(VIDEO, AUDIO, multiple_of=512))
    ends = []
    at = init_end
    for made, padded in zip(fragments(SCENE), fragments(SCENE, multiple_of=512), strict=True):
        ends.append(at + len(made))
        at += len(padded)
    reader = Reader([WHOLE[:cut]])
    samples = list(reader)
    assert reader.ending.fragments == sum(end <= cut for end in ends)
    assert by_kind(samples) == {
        kind: expected[: len(by_kind(samples)[kind])] for kind, expected in as_samples(SCENE).items()
    }
    assert reader.ending.read_bytes == cut
    assert 0 <= reader.ending.cut_bytes <= cut
    assert reader.tracks in ((VIDEO, AUDIO), ())
    if not reader.tracks:
        assert not reader.ending.complete
        assert reader.ending.where == "the initialisation segment"
    if cut == len(WHOLE):
        assert reader.ending.complete


def test_cut_says_what_it_ended_in() -> None:
    def where(data: bytes) -> str:
        reader = Reader([data])
        list(reader)
        return reader.ending.where

    one = fragment(1, [Run(VIDEO_TRACK, 0, [video(0, key=True)])])
    assert where(INIT + one) == "whole"
    assert where(INIT + one[:-1]) == "a fragment"
    assert where(INIT + one + one[:3]) == "between fragments"
    assert where(INIT + one + free_box(100)[:-1]) == "padding"
    assert where(INIT[:-1]) == "the initialisation segment"
    assert where(b"") == "the initialisation segment"


def test_asking_for_the_ending_before_it_came_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="read to their end"):
        _ = Reader([WHOLE]).ending


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_evidence_error(data: bytes) -> None:
    for prefix in (b"", INIT):
        with suppress(EvidenceError):
            read(prefix + data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_altered_bytes_raise_nothing_but_evidence_error(at: int, value: int) -> None:
    altered = bytearray(WHOLE)
    altered[at] = value
    with suppress(EvidenceError):
        read(bytes(altered))


@given(st.lists(st.tuples(st.integers(0, len(INIT) + 200), st.binary(min_size=1, max_size=8)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_altered_headers_raise_nothing_but_evidence_error(changes: list[tuple[int, bytes]]) -> None:
    altered = bytearray(INIT + fragment(1, [Run(VIDEO_TRACK, 0, [video(0, key=True)])]))
    for at, new in changes:
        altered[at : at + len(new)] = new
    with suppress(EvidenceError):
        read(bytes(altered))


def test_errors_of_the_chunks_pass_through() -> None:
    def failing() -> Iterator[bytes]:
        yield WHOLE[:3000]
        raise EvidenceError("the frame's tag does not match")

    with pytest.raises(EvidenceError, match="tag does not match"):
        list(Reader(failing()))


def box(kind: bytes, size: int) -> bytes:
    return struct.pack(">I4s", size, kind)


ONE = fragment(1, [Run(VIDEO_TRACK, 0, [video(0, key=True)]), Run(AUDIO_TRACK, 0, [audio(0), audio(0.1)])])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (box(b"ftyp", MAX_INIT_BOX + 1), "at most"),
        (INIT[:32] + box(b"moov", MAX_INIT_BOX + 1), "at most"),
        (INIT + box(b"moof", MAX_MOOF + 1), "at most"),
        (INIT + box(b"free", MAX_FREE + 1), "at most"),
        (INIT + ONE[: ONE.index(b"mdat") - 4] + box(b"mdat", 1 << 31), "at most"),
        (INIT + box(b"free", 0), "at least 8"),
        (INIT + box(b"free", 1) + bytes(100), "at least 8"),
        (INIT + box(b"mdat", 100), "moof or free"),
        (INIT + INIT, "moof or free"),
        (ONE, "expected 'ftyp'"),
        (INIT.replace(b"moov", b"moow"), "expected 'moov'"),
        (INIT.replace(b"avc1\x00", b"avc9\x00"), "sample entry"),
        (INIT.replace(b"avcC", b"avcX"), "one 'avcC' box, found 0"),
        (INIT.replace(b"trak", b"skip"), "at least one track"),
        (INIT + ONE.replace(b"mfhd", b"mfhx"), "expected an mfhd"),
        (INIT + ONE.replace(b"tfdt\x01", b"tfdt\x00"), "form that this recorder writes"),
        (init_segment(VIDEO, None) + ONE, "runs of the tracks"),
        (INIT + fragment(1, [Run(VIDEO_TRACK, 0, [video(0)])] * 2), "each once"),
        (INIT + fragment(1, [Run(3, 0, [video(0)])]), "runs of the tracks"),
        (
            INIT + ONE.replace(SYNC_SAMPLE.to_bytes(4, "big") + box(b"traf", 88)[:4], b"\x02\x00\x00\x01\0\0\0X"),
            "flags",
        ),
    ],
)
def test_what_the_recorder_never_writes_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(EvidenceError, match=text):
        read(data)


def test_sample_sizes_that_reach_out_of_the_data_are_refused() -> None:
    altered = bytearray(INIT + ONE)
    table = len(INIT) + ONE.index(b"trun") + 16
    struct.pack_into(">I", altered, table + 4, 5000)
    with pytest.raises(EvidenceError, match="expected the data of track 2"):
        read(bytes(altered))


def test_memory_stays_that_of_one_fragment() -> None:
    second = scene(1, gop_s=1)
    parts = fragments(second)

    def long_stream() -> Iterator[bytes]:
        yield INIT
        for _ in range(200):
            yield from parts

    reader = Reader(long_stream())
    next(iter(reader))
    tracemalloc.start()
    try:
        count = sum(1 for _ in reader)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count > 10_000
    assert peak < 20 * max(map(len, parts))
