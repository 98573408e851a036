import io
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.errors import EvidenceError
from agent.media.mp4 import MAX_TICKS, Mp4Writer, index_bytes
from agent.media.packet import Kind, StreamParameters
from tests.support.containers import open_input, stream_of
from tests.support.packets import AUDIO, VIDEO

Sample = tuple[int, bytes, bool]


def written(
    samples: dict[Kind, list[Sample]],
    *,
    parameters: tuple[StreamParameters, ...] = (VIDEO, AUDIO),
    texts: list[tuple[int, str]] | None = None,
    reserve: int = 1 << 16,
    created_ns: int | None = None,
) -> tuple[bytes, bool]:
    """A file with these samples, whose last ones last for 1000 ticks, and whether its index is in front."""
    file = io.BytesIO()
    writer = Mp4Writer(file, parameters, reserve=reserve)
    adders = {one.kind: writer.adder(one.kind) for one in parameters}
    timescales = {one.kind: one.timescale for one in parameters}
    merged = [
        (ticks / timescales[kind], kind, ticks, data, key) for kind, own in samples.items() for ticks, data, key in own
    ]
    for _, kind, ticks, data, key in sorted(merged, key=lambda sample: sample[0]):
        adders[kind](ticks, data, key)
    for at, text in texts or []:
        writer.add_text(at, text)
    ends = {kind: own[-1][0] + 1000 for kind, own in samples.items() if own}
    in_front = writer.finish(ends, text_end_ms=100_000, created_ns=created_ns)
    return file.getvalue(), in_front


def read(media: bytes, kind: Kind) -> list[Sample]:
    with open_input(media) as container:
        return [
            (packet.pts, bytes(packet), packet.is_keyframe)
            for packet in container.demux(stream_of(container, kind))
            if packet.size and packet.pts is not None
        ]


def video_samples(times: list[int], *, start: int = 0) -> list[Sample]:
    """Pictures that FFmpeg's parser takes for what they are: an IDR slice, then others."""
    idr, other = b"\0\0\0\4\x65\x88\x84\x00", b"\0\0\0\4\x41\x9a\x02\x00"
    return [(start + at, idr if index == 0 else other, index == 0) for index, at in enumerate(times)]


def audio_samples(times: list[int], *, start: int = 0) -> list[Sample]:
    return [(start + at, bytes([index % 251]) * 9, True) for index, at in enumerate(times)]


def boxes(data: bytes) -> dict[str, tuple[int, int]]:
    """Offset and length of the boxes at the top level."""
    found, at = {}, 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        found[name.decode()] = (at, size)
        at += size
    assert at == len(data)
    return found


@settings(max_examples=60, deadline=None)
@given(
    video=st.lists(st.integers(0, 90_000), min_size=2, max_size=40),
    audio=st.lists(st.integers(0, 90_000), min_size=2, max_size=40),
    starts=st.tuples(st.integers(0, 500_000), st.integers(0, 500_000)),
)
def test_every_sample_comes_back_with_its_bytes_and_its_exact_time(
    video: list[int], audio: list[int], starts: tuple[int, int]
) -> None:
    # FFmpeg moves packets of equal time apart, so that those are left out here.
    pictures = video_samples([sum(video[:n]) + n for n in range(len(video))], start=starts[0] // 5 * 5)
    sounds = audio_samples([sum(audio[:n]) + n for n in range(len(audio))], start=starts[1] // 8 * 8)
    media, in_front = written({Kind.VIDEO: pictures, Kind.AUDIO: sounds})
    assert in_front
    assert read(media, Kind.VIDEO) == pictures
    assert read(media, Kind.AUDIO) == sounds


def test_index_stands_before_the_data_and_what_is_left_of_its_room_is_free() -> None:
    media, in_front = written({Kind.VIDEO: video_samples([0, 1000])}, parameters=(VIDEO,), reserve=5000)
    found = boxes(media)
    assert in_front
    assert found["moov"][0] < found["free"][0] < found["mdat"][0]


def test_index_that_does_not_fit_stands_after_the_data() -> None:
    samples = video_samples([1000 * n for n in range(50)])
    media, in_front = written({Kind.VIDEO: samples}, parameters=(VIDEO,), reserve=500)
    found = boxes(media)
    assert not in_front
    assert found["free"][0] < found["mdat"][0] < found["moov"][0]
    assert read(media, Kind.VIDEO) == samples


@pytest.mark.parametrize("short", range(9))
def test_room_that_the_index_fills_to_a_few_bytes_is_no_broken_box(short: int) -> None:
    samples = video_samples([1000 * n for n in range(5)])
    media, _ = written({Kind.VIDEO: samples}, parameters=(VIDEO,), reserve=1 << 16)
    exact = boxes(media)["moov"][1]
    media, in_front = written({Kind.VIDEO: samples}, parameters=(VIDEO,), reserve=exact + short)
    boxes(media)
    assert in_front is (short in (0, 8))
    assert read(media, Kind.VIDEO) == samples


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 2000), jitter=st.booleans(), texts=st.integers(0, 60))
def test_estimated_room_is_enough(samples: int, jitter: bool, texts: int) -> None:
    times = [1000 * n + (n % 7 if jitter else 0) for n in range(samples)]
    seconds = times[-1] / VIDEO.timescale
    media, in_front = written(
        {Kind.VIDEO: video_samples(times)},
        parameters=(VIDEO,),
        texts=[(1000 * n, f"cue {n}") for n in range(min(texts, round(seconds)))],
        reserve=index_bytes(samples, seconds, [VIDEO]),
    )
    assert in_front
    assert len(read(media, Kind.VIDEO)) == samples


def test_tracks_are_interleaved_at_half_seconds() -> None:
    pictures = video_samples([1000 * n for n in range(300)])
    sounds = audio_samples([1024 * n for n in range(460)])
    media, _ = written({Kind.VIDEO: pictures, Kind.AUDIO: sounds})
    with open_input(media) as container:
        positions = {kind: [] for kind in Kind}  # type: dict[Kind, list[tuple[float, int]]]
        for kind in Kind:
            stream = stream_of(container, kind)
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None and packet.time_base is not None:
                    assert packet.pos is not None
                    positions[kind].append((float(packet.pts * packet.time_base), packet.pos))
            container.seek(0)
    everything = sorted((pos, at) for own in positions.values() for at, pos in own)
    assert max(abs(after[1] - before[1]) for before, after in pairwise(everything)) < 1.1


def test_texts_are_there_at_their_times() -> None:
    cues = [(0, "first · one"), (400, ""), (1500, "two\nlines")]
    media, _ = written({Kind.VIDEO: video_samples([0, 1000])}, parameters=(VIDEO,), texts=cues)
    with open_input(media) as container:
        (stream,) = container.streams.subtitles
        assert stream.codec_context.name == "mov_text"
        found = [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux(stream) if packet.size]
    assert found == [
        (at, lasts, len(text.encode()).to_bytes(2, "big") + text.encode())
        for (at, text), lasts in zip(cues, (400, 1100, 98_500), strict=True)
    ]


def test_track_without_samples_is_left_out() -> None:
    media, _ = written({Kind.VIDEO: video_samples([0, 1000]), Kind.AUDIO: []})
    with open_input(media) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_long_recordings_need_64_bits_and_get_them() -> None:
    a_day = 24 * 3600
    sounds = [(48_000 * second, b"sound", True) for second in range(0, a_day, 3600)]
    pictures = [(30_000 * at, data, key) for at, data, key in video_samples(list(range(0, a_day, 1800)))]
    media, _ = written({Kind.VIDEO: pictures, Kind.AUDIO: sounds})
    assert read(media, Kind.VIDEO) == pictures
    assert read(media, Kind.AUDIO) == sounds
    with open_input(media) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(a_day - 1800 + 1 / 30, abs=0.01)


def test_time_of_recording_is_stated_where_it_is_known() -> None:
    media, _ = written({Kind.VIDEO: video_samples([0, 1000])}, parameters=(VIDEO,), created_ns=1_795_000_000 * NS)
    with open_input(media) as container:
        assert container.metadata["creation_time"] == "2026-11-18T11:06:40.000000Z"
    media, _ = written({Kind.VIDEO: video_samples([0, 1000])}, parameters=(VIDEO,))
    with open_input(media) as container:
        assert "creation_time" not in container.metadata


@pytest.mark.parametrize("step", [-1, MAX_TICKS + 1])
def test_times_that_the_format_cannot_hold_are_refused(step: int) -> None:
    writer = Mp4Writer(io.BytesIO(), [VIDEO], reserve=1000)
    add = writer.adder(Kind.VIDEO)
    add(5000, b"a", True)
    with pytest.raises(EvidenceError, match="ticks from one sample to the next"):
        add(5000 + step, b"b", False)


def test_file_is_written_piece_by_piece() -> None:
    """What is held back is half a second or a megabyte, whichever is less."""
    file = io.BytesIO()
    add = Mp4Writer(file, [VIDEO], reserve=1000).adder(Kind.VIDEO)
    for number in range(1000):
        add(number * 1000, b"x" * 10_000, number == 0)
        assert (number + 1) * 10_000 - len(file.getvalue()) <= 16 * 10_000


class Sparse(io.FileIO):
    """A file in which large writes leave holes: more than 4 GiB in no time."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if len(data) < 1 << 19:
            return super().write(data)
        self.seek(len(data), io.SEEK_CUR)
        return len(data)


def test_file_of_more_than_4_gib_is_found_to_its_last_sample(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    with Sparse(path, "wb") as file:
        writer = Mp4Writer(file, [VIDEO], reserve=1 << 17)
        add = writer.adder(Kind.VIDEO)
        large = bytes(1 << 20)
        for number in range(4200):
            add(number * 1000, large, True)
        add(4_200_000, b"\0\0\0\4\x65\x88\x84\x00", True)
        assert writer.finish({Kind.VIDEO: 4_201_000}, text_end_ms=0, created_ns=None)
    assert path.stat().st_size > 1 << 32
    with open_input(path) as container:
        stream = stream_of(container, Kind.VIDEO)
        container.seek(4_200_000, stream=stream)
        last = next(packet for packet in container.demux(stream) if packet.pts == 4_200_000)
        assert bytes(last) == b"\0\0\0\4\x65\x88\x84\x00"
