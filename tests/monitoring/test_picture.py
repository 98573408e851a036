from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.replay import ReplaySource
from agent.clock import NS
from agent.media.packet import Kind, Packet
from agent.monitoring.lens import COLUMNS, ROWS, LensWatch, View, sampled
from agent.monitoring.picture import EVERY_NS, PictureSampler
from tests.support import views
from tests.support.clips import CLIPS, clip
from tests.support.containers import of_kind
from tests.support.sources import virtual_pacing
from tests.support.views import FPS, HEIGHT, WIDTH

SECOND = FPS


def pictures_of(path: Path) -> list[Packet]:
    return of_kind(ReplaySource(path, virtual_pacing(), loop=False).open(1), Kind.VIDEO)


def changes(packets: list[Packet]) -> list[tuple[float, View]]:
    """When the view changed, in seconds, and to what."""
    sampler, watch = PictureSampler(), LensWatch()
    made, before = [], None
    for packet in packets:
        if (picture := sampler.feed(packet)) is not None:
            state = watch.look(picture, packet.time_ns)
            if before is not None and state != before:
                made.append((packet.time_ns / NS, state.view))
            before = state
    return made


def moving(count: int, *, light: float = 1.0) -> list[views.Luma]:
    scenes = [views.street(light=light, moved=3 * n) for n in range(13)]  # no divisor of what is sampled
    return [scenes[n % len(scenes)] for n in range(count)]


def test_a_decoded_picture_is_the_one_that_was_encoded() -> None:
    luma = views.street()
    (packet,) = views.encoded([luma], quantiser=1)

    picture = PictureSampler().feed(packet)

    assert picture is not None
    wanted = sampled(luma, WIDTH, HEIGHT)
    assert (picture.columns, picture.rows) == (wanted.columns, wanted.rows)
    off = [abs(one - other) for one, other in zip(picture.data, wanted.data, strict=True)]
    assert sum(off) / len(off) < 1


@pytest.mark.parametrize("name", CLIPS)
def test_key_pictures_of_real_clips_are_decoded_at_most_twice_a_second(name: str) -> None:
    packets = pictures_of(clip(name))
    sampler = PictureSampler()
    decoded = []
    for packet in packets:
        if (picture := sampler.feed(packet)) is not None:
            assert packet.key
            assert len(picture.data) == picture.columns * picture.rows <= COLUMNS * ROWS
            decoded.append(packet.time_ns)

    assert decoded[0] == packets[0].time_ns
    assert all(later - earlier >= EVERY_NS for earlier, later in pairwise(decoded))
    keys = [packet.time_ns for packet in packets if packet.key]
    assert len(decoded) >= len(keys) / 2
    assert sampler.undecodable == 0


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips_are_neither_covered_nor_frozen(name: str) -> None:
    assert changes(pictures_of(clip(name))) == []


@pytest.mark.parametrize("gop", [SECOND // 2, SECOND, 3 * SECOND // 2])
@pytest.mark.parametrize("offset", [1, 7, 13])
def test_a_lens_covered_at_any_moment_of_a_replayed_picture_is_found_in_three_seconds(gop: int, offset: int) -> None:
    covered_at = 4 * SECOND + offset

    ((found_s, view),) = changes(views.encoded([*moving(covered_at), *[views.black(16)] * 4 * SECOND], gop=gop))

    assert view is View.COVERED
    assert found_s - covered_at / FPS <= 3.0


def test_a_lens_covered_in_a_stream_that_follows_a_bit_rate_is_found() -> None:
    packets = views.encoded([*moving(4 * SECOND), *[views.black(16)] * 4 * SECOND], quantiser=None, bit_rate=300_000)

    assert [view for _, view in changes(packets)] == [View.COVERED]


def test_a_picture_frozen_before_an_encoder_with_one_quantiser_is_found() -> None:
    packets = views.encoded([*moving(3 * SECOND), *[views.street(moved=50)] * 8 * SECOND])

    ((found_s, view),) = changes(packets)

    assert view is View.FROZEN
    assert found_s <= 3 + 6


def test_a_dim_moving_picture_is_neither_covered_nor_frozen() -> None:
    assert changes(views.encoded(moving(8 * SECOND, light=0.15))) == []


def test_a_camera_that_is_reopened_with_other_parameters_is_decoded_on() -> None:
    sampler = PictureSampler()
    first, second = views.encoded(moving(1)), views.encoded(moving(1), quantiser=None, bit_rate=200_000)
    stream = replace(second[0].stream, generation=2, epoch_ns=NS)

    assert sampler.feed(first[0]) is not None
    assert sampler.feed(replace(second[0], stream=stream, time_ns=NS)) is not None
    assert sampler.undecodable == 0


def test_pictures_of_an_unknown_kind_are_counted() -> None:
    (packet,) = views.encoded(moving(1))
    stream = replace(packet.stream, parameters=replace(packet.stream.parameters, codec="hevc"))
    sampler = PictureSampler()

    assert sampler.feed(replace(packet, stream=stream)) is None
    assert sampler.undecodable == 1


@given(data=st.binary(max_size=300), cut=st.integers(0, 2000))
@settings(max_examples=40, deadline=None)
def test_damaged_key_pictures_are_skipped_and_the_next_is_decoded(data: bytes, cut: int) -> None:
    sampler = PictureSampler()
    for number, damaged in enumerate([data, WHOLE.data[:cut], WHOLE.data[:cut] + data]):
        sampler.feed(replace(WHOLE, data=damaged, time_ns=number * NS))

    assert sampler.feed(replace(WHOLE, time_ns=10 * NS)) is not None


(WHOLE,) = views.encoded([views.street()])
