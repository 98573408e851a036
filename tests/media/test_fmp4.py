import io
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import Source, parse_spec
from agent.clock import NS
from agent.errors import SourceError
from agent.media.fmp4 import (
    AUDIO_TRACK,
    MAX_FRAGMENT_DATA,
    VIDEO_TRACK,
    Run,
    fragment,
    free_box,
    init_segment,
    padding,
)
from agent.media.fmp4_reader import Reader
from agent.media.packet import Kind, Packet, StreamParameters
from tests.support.clips import ACTION, CLIPS, FILM, STREET, clip
from tests.support.containers import decoded_times, ffmpeg_packets, of_kind, parameters_of, segment
from tests.support.packets import AUDIO, VIDEO, audio, video
from tests.support.sources import jitters, microphone_dies, silent_between, sound_starts_late, virtual_pacing

OPUS_HEAD = bytes.fromhex("0002013800001f40000000")  # dOps: 2 channels, 312 samples of pre-skip


def source(name: str) -> Source:
    return parse_spec(f"replay-once:{clip(name)}", virtual_pacing())


def packets(made_by: Source) -> list[Packet]:
    return list(made_by.open(1))


def top_level(data: bytes) -> list[tuple[bytes, int]]:
    boxes = []
    offset = 0
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        boxes.append((kind, size))
        offset += size
    assert offset == len(data)
    return boxes


@pytest.mark.parametrize("name", CLIPS)
def test_init_segment_has_the_streams_own_parameter_sets(name: str) -> None:
    with av.open(str(clip(name))) as original:
        expected = [original.streams.video[0], original.streams.audio[0]]
        extradata = [stream.codec_context.extradata for stream in expected]
        bases = [stream.time_base for stream in expected]
        profiles = [stream.profile for stream in expected]
    played = packets(source(name))
    with av.open(io.BytesIO(segment(played))) as ours:
        got = [ours.streams.video[0], ours.streams.audio[0]]
        assert [stream.codec_context.extradata for stream in got] == extradata
        assert [stream.time_base for stream in got] == bases
        assert [stream.profile for stream in got] == profiles
        assert [stream.id for stream in got] == [VIDEO_TRACK, AUDIO_TRACK]
        picture = ours.streams.video[0]
        parameters = parameters_of(played, Kind.VIDEO)
        assert parameters is not None
        assert (picture.width, picture.height) == (parameters.width, parameters.height)


@pytest.mark.parametrize("name", CLIPS)
def test_ffmpeg_reads_every_packet_with_the_sources_bytes_and_times(name: str) -> None:
    played = packets(source(name))
    data = segment(played, multiple_of=4096)
    for kind in Kind:
        expected = [(packet.ticks, packet.data, packet.key) for packet in of_kind(played, kind)]
        assert ffmpeg_packets(data, kind) == expected


@pytest.mark.parametrize("name", CLIPS)
def test_ffmpeg_decodes_all_pictures_at_the_sources_times(name: str) -> None:
    assert decoded_times(segment(packets(source(name))), Kind.VIDEO) == decoded_times(clip(name), Kind.VIDEO)


@pytest.mark.parametrize("name", CLIPS)
def test_sound_of_a_fragmented_clip_decodes_at_the_sources_times(name: str) -> None:
    assert decoded_times(segment(packets(source(name))), Kind.AUDIO) == decoded_times(clip(name), Kind.AUDIO)


def variants(name: str) -> list[Source]:
    return [
        silent_between(source(name), 2.03, 4.03),
        jitters(source(name), [0, 311, -207, 95]),
        sound_starts_late(source(name), 1.5),
        microphone_dies(source(name), 3),
        microphone_dies(source(name), 1, until_s=4),
    ]


@pytest.mark.parametrize("which", range(5), ids=["gap", "jitter", "late-sound", "dead-microphone", "microphone-back"])
def test_troubled_streams_keep_each_packets_own_time(which: int) -> None:
    played = packets(variants(ACTION)[which])
    data = segment(played)
    reader = Reader([data])
    samples = list(reader)
    for kind in Kind:
        expected = [(packet.ticks, packet.data, packet.key) for packet in of_kind(played, kind)]
        assert ffmpeg_packets(data, kind) == expected
        assert [(s.ticks, s.data, s.key) for s in samples if s.kind is kind] == expected


@pytest.mark.parametrize("which", [0, 2, 3], ids=["gap", "late-sound", "dead-microphone"])
def test_troubled_streams_decode_with_every_picture_in_its_place(which: int) -> None:
    played = packets(variants(STREET)[which])
    pictures = of_kind(played, Kind.VIDEO)
    times = decoded_times(segment(played), Kind.VIDEO)
    assert times == sorted(set(times))
    assert set(times) <= {at(packet) for packet in pictures}
    # What comes after lost pictures refers to them until the next key picture: a decoder may show it or not.
    lost = any(after.ticks - before.ticks > 2 * before.duration for before, after in pairwise(pictures))
    resumed = min(at(packet) for packet in pictures if packet.key and packet.time_ns >= 4.03 * NS)
    sure = [at(packet) for packet in pictures if not lost or not 2.03 <= at(packet) < resumed]
    assert set(sure) <= set(times)
    assert lost is (which == 0)


def at(packet: Packet) -> Fraction:
    return Fraction(packet.ticks, packet.stream.parameters.timescale)


def test_gap_inside_a_fragment_is_exact() -> None:
    run = [video(0, key=True), video(0.1), video(2.1), video(2.1333)]
    data = init_segment(VIDEO, None) + fragment(1, [Run(VIDEO_TRACK, 0, run)])
    assert [time for time, _, _ in ffmpeg_packets(data, Kind.VIDEO)] == [packet.ticks for packet in run]
    assert [sample.duration for sample in Reader([data])] == [3000, 60000, 999, 1000]


def test_times_beyond_32_bits_are_kept() -> None:
    far = 1 << 40
    data = init_segment(VIDEO, AUDIO)
    data += fragment(1, [Run(VIDEO_TRACK, far, [video(0, key=True)]), Run(AUDIO_TRACK, far * 2, [audio(0)])])
    assert [sample.ticks for sample in Reader([data])] == [far, far * 2]
    assert ffmpeg_packets(data, Kind.AUDIO)[0][0] == far * 2


def test_sound_alone_is_still_track_2() -> None:
    played = of_kind(packets(source(STREET)), Kind.AUDIO)
    data = segment(played)
    with av.open(io.BytesIO(data)) as container:
        assert [(stream.type, stream.id) for stream in container.streams] == [("audio", AUDIO_TRACK)]
    assert ffmpeg_packets(data, Kind.AUDIO) == [(packet.ticks, packet.data, True) for packet in played]


def test_opus_configuration_is_kept() -> None:
    opus = StreamParameters(Kind.AUDIO, "opus", 48_000, OPUS_HEAD, sample_rate=48_000, channels=2)
    data = init_segment(None, opus)
    assert Reader([data]).tracks == (opus,)
    with av.open(io.BytesIO(data)) as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name in {"opus", "libopus"}
        # FFmpeg keeps dOps as OpusHead (RFC 7845, 5.1): the same fields, little-endian, version 1.
        assert stream.codec_context.extradata == b"OpusHead" + struct.pack("<BBHIHB", 1, 2, 312, 8000, 0, 0)


def test_same_parameters_give_the_same_bytes() -> None:
    assert init_segment(VIDEO, AUDIO) == init_segment(replace(VIDEO), replace(AUDIO))


@pytest.mark.parametrize(
    ("video_parameters", "audio_parameters"),
    [
        (None, None),
        (AUDIO, None),
        (None, VIDEO),
        (replace(VIDEO, codec="hevc"), None),
        (replace(VIDEO, extradata=b""), None),
        (replace(VIDEO, extradata=bytes.fromhex("0000000167640028")), None),
        (replace(VIDEO, extradata=b"\x01" * 70_000), None),
        (replace(VIDEO, timescale=0), None),
        (replace(VIDEO, timescale=1 << 32), None),
        (replace(VIDEO, width=0), None),
        (replace(VIDEO, height=65_536), None),
        (VIDEO, replace(AUDIO, codec="mp3")),
        (VIDEO, replace(AUDIO, sample_rate=96_000)),
        (VIDEO, replace(AUDIO, channels=0)),
        (VIDEO, replace(AUDIO, codec="opus", sample_rate=44_100)),
    ],
)
def test_parameters_that_mp4_cannot_state_are_refused(
    video_parameters: StreamParameters | None, audio_parameters: StreamParameters | None
) -> None:
    with pytest.raises(SourceError, match="expected"):
        init_segment(video_parameters, audio_parameters)


@pytest.mark.parametrize(
    "run",
    [
        Run(VIDEO_TRACK, 0, [video(1.0, key=True), video(0.5)]),
        Run(VIDEO_TRACK, -1, [video(0, key=True)]),
        Run(VIDEO_TRACK, 1 << 64, [video(0, key=True)]),
        Run(VIDEO_TRACK, 0, [video(0, key=True), video(200_000)]),
    ],
    ids=["time-goes-back", "negative", "beyond-64-bits", "gap-beyond-32-bits"],
)
def test_times_that_mp4_cannot_state_are_refused(run: Run) -> None:
    with pytest.raises(SourceError, match="must fit"):
        fragment(1, [run])


def test_fragment_larger_than_a_reader_takes_is_refused() -> None:
    with pytest.raises(SourceError, match="at most"):
        fragment(1, [Run(VIDEO_TRACK, 0, [video(0, key=True, size=MAX_FRAGMENT_DATA + 1)])])


def test_fragment_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one packet"):
        fragment(1, [Run(VIDEO_TRACK, 0, [])])


def test_track_without_packets_is_left_out() -> None:
    pictures = Run(VIDEO_TRACK, 0, [video(0, key=True)])
    assert fragment(1, [pictures, Run(AUDIO_TRACK, 0, [])]) == fragment(1, [pictures])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000))
def test_padded_fragments_have_a_multiple_of_the_asked_length(size: int, multiple: int) -> None:
    made = fragment(7, [Run(VIDEO_TRACK, 5, [video(0, key=True, size=size)])], multiple_of=multiple)
    plain = fragment(7, [Run(VIDEO_TRACK, 5, [video(0, key=True, size=size)])])
    assert len(made) % multiple == 0
    assert made.startswith(plain)
    assert len(made) - len(plain) < multiple + 8
    boxes = top_level(made)
    assert [kind for kind, _ in boxes] in ([b"moof", b"mdat"], [b"moof", b"mdat", b"free"])
    assert not made[len(plain) + 8 :].strip(b"\0")


@pytest.mark.parametrize(
    ("length", "multiple", "missing"), [(16, 8, 0), (15, 8, 9), (8193, 8192, 8191), (8185, 8192, 8199)]
)
def test_padding_is_empty_or_a_whole_box(length: int, multiple: int, missing: int) -> None:
    assert len(padding(length, multiple)) == missing


def test_padded_init_segment_fills_whole_frames() -> None:
    data = init_segment(VIDEO, AUDIO, multiple_of=4096)
    assert len(data) == 4096
    assert [kind for kind, _ in top_level(data)] == [b"ftyp", b"moov", b"free"]


@pytest.mark.parametrize("length", [0, 7, 1 << 32])
def test_free_box_without_room_for_its_header_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="free box"):
        free_box(length)


def test_parameters_come_back_from_real_clips() -> None:
    played = packets(source(FILM))
    given_parameters = (parameters_of(played, Kind.VIDEO), parameters_of(played, Kind.AUDIO))
    assert Reader([segment(played)]).tracks == given_parameters
