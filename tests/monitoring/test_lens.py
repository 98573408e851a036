from collections.abc import Iterable
from itertools import pairwise

import av
import pytest
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.errors import SourceError
from agent.monitoring.lens import COVERED_AFTER_NS, FROZEN_AFTER_NS, LensWatch, View, sampled
from tests.support.clips import CLIPS, clip
from tests.support.views import HEIGHT, WIDTH, Luma, Sensor, at, black, gradient, lit_by, street

Change = tuple[float, View, float]


def changes(pictures: Iterable[Luma], *, every_s: float = 0.5, watch: LensWatch | None = None) -> list[Change]:
    """When the view changed, to what, and since when that was, in seconds; the first state is left out."""
    watch = watch or LensWatch()
    made: list[Change] = []
    before = None
    for number, luma in enumerate(pictures):
        state = watch.feed(luma, WIDTH, HEIGHT, at(number * every_s))
        if before is not None and state != before:
            made.append((number * every_s, state.view, state.since_ns / NS))
        before = state
    return made


def seen(sensor: Sensor, scene: Luma, count: int) -> list[Luma]:
    return [sensor.sees(scene) for _ in range(count)]


STREET = street()


@pytest.mark.parametrize(("every_s", "within_s"), [(0.25, 1.5), (0.5, 1.5), (1.0, 2.0), (1.5, 3.0)])
@pytest.mark.parametrize(
    "cover",
    [
        pytest.param(black(), id="full range black"),
        pytest.param(black(16), id="video range black"),
        pytest.param(gradient(8, 13), id="light from one side"),
        pytest.param(Sensor(1.5).sees(black(12)), id="noise of a covered sensor"),
    ],
)
def test_a_covered_lens_is_found_in_three_seconds(cover: Luma, every_s: float, within_s: float) -> None:
    bright = round(6 / every_s)

    ((found_s, view, since_s),) = changes([STREET, street(moved=5)] * (bright // 2) + [cover] * 8, every_s=every_s)

    assert view is View.COVERED
    covered_s = bright // 2 * 2 * every_s
    assert since_s == pytest.approx(covered_s)
    # The lens was covered after the last bright picture.
    assert found_s - (covered_s - every_s) <= within_s


def test_a_lens_that_is_covered_from_the_start_is_found() -> None:
    ((found_s, view, since_s),) = changes([black(16)] * 5)

    assert (view, since_s) == (View.COVERED, 0.0)
    assert found_s == COVERED_AFTER_NS / NS


def test_a_covered_sensor_with_its_gain_turned_up_is_found() -> None:
    sensor = Sensor(2.4)

    assert [view for _, view, _ in changes(seen(sensor, STREET, 6) + seen(sensor, black(24), 6))] == [View.COVERED]


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(black(20), id="nothing but noise"),
        pytest.param(street(light=0.12), id="shapes"),
        pytest.param(lit_by([(75, 30)]), id="one lamp"),
        pytest.param(lit_by([(10, 5), (140, 75)]), id="lamps at the edges"),
        pytest.param(gradient(10, 36), id="glow of the sky"),
    ],
)
def test_a_night_scene_is_not_taken_for_a_covered_lens(scene: Luma) -> None:
    assert changes(seen(Sensor(4.5), scene, 20)) == []


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(street(light=0.12), id="shapes"),
        pytest.param(lit_by([(75, 30)]), id="one lamp"),
        pytest.param(gradient(10, 36), id="glow of the sky"),
        pytest.param(gradient(10, 22), id="faint glow"),
        pytest.param(bytes([10, 34]) * (WIDTH * HEIGHT // 2), id="fine texture"),
    ],
)
def test_a_night_scene_without_noise_is_not_taken_for_a_covered_lens(scene: Luma) -> None:
    assert changes(seen(Sensor(0.6), scene, 20)) == []


def test_noise_that_just_fits_between_the_shades_is_not_taken_for_a_covered_lens() -> None:
    assert changes(seen(Sensor(2.85), black(24), 20)) == []


def test_a_dark_room_with_a_flickering_light_is_not_taken_for_a_covered_lens() -> None:
    assert changes([black(8), black(20)] * 10) == []


def test_one_dark_picture_is_not_taken_for_a_covered_lens() -> None:
    pictures = [STREET, street(moved=5), black(), street(moved=9)] * 5

    assert changes(pictures) == []


def test_a_covered_lens_that_lets_some_light_through_stays_covered() -> None:
    sensor = Sensor(1.0)
    pictures = seen(sensor, STREET, 4) + seen(sensor, black(10), 6) + seen(sensor, gradient(38, 46), 6)

    assert [view for _, view, _ in changes(pictures)] == [View.COVERED]
    assert changes(seen(sensor, gradient(38, 46), 6)) == [], "the same light does not begin it"


def test_one_bright_picture_does_not_uncover_a_lens() -> None:
    pictures = [black()] * 6 + [STREET] + [black()] * 6

    assert [view for _, view, _ in changes(pictures)] == [View.COVERED]


def test_a_lens_is_uncovered_since_the_first_picture_that_shows_something() -> None:
    sensor = Sensor(2)

    _, (found_s, view, since_s) = changes([black()] * 6 + seen(sensor, STREET, 4))

    assert (view, since_s, found_s) == (View.CLEAR, 3.0, 3.5)


def test_a_frozen_picture_is_found() -> None:
    sensor = Sensor(2)
    still = sensor.sees(STREET)

    ((found_s, view, since_s),) = changes(seen(sensor, STREET, 6) + [still] * 12)

    assert (view, since_s) == (View.FROZEN, 3.0)
    assert found_s - since_s == FROZEN_AFTER_NS / NS


def test_a_frozen_picture_with_a_speck_that_changes_is_found() -> None:
    sensor = Sensor(2)
    still = sensor.sees(STREET)
    speck = slice(46 * WIDTH + 40, 46 * WIDTH + 60)
    specked = [still[: speck.start] + bytes([200 + number]) * 20 + still[speck.stop :] for number in range(12)]
    samples = [sampled(luma, WIDTH, HEIGHT).data for luma in specked]
    assert len(set(samples)) == len(specked)

    assert [view for _, view, _ in changes(seen(sensor, STREET, 4) + specked)] == [View.FROZEN]


@pytest.mark.parametrize("noise", [0.25, 0.5, 2.0])
def test_a_static_scene_of_a_real_sensor_is_not_taken_for_a_frozen_picture(noise: float) -> None:
    assert changes(seen(Sensor(noise), STREET, 20)) == []


def test_a_picture_that_slowly_drifts_is_not_taken_for_a_frozen_one() -> None:
    """Each is like the one before, in all but 6 of 1000 samples; all are held against the first of them."""
    turned = [n * 7919 % 1000 for n in range(WIDTH * HEIGHT)]
    pictures = [bytes(101 if place < 6 * number else 100 for place in turned) for number in range(40)]

    assert changes(pictures) == []


def test_a_picture_that_moves_again_is_clear_at_once() -> None:
    sensor = Sensor(2)

    _, (found_s, view, since_s) = changes([STREET] * 12 + seen(sensor, STREET, 3))

    assert (view, since_s, found_s) == (View.CLEAR, 6.0, 6.0)


def test_a_picture_frozen_black_is_a_covered_lens() -> None:
    assert [view for _, view, _ in changes([black()] * 20)] == [View.COVERED]


def test_darkness_on_both_sides_of_a_gap_is_not_added_up() -> None:
    watch = LensWatch()
    watch.feed(black(), WIDTH, HEIGHT, at(0))

    assert watch.feed(black(), WIDTH, HEIGHT, at(60)).view is View.CLEAR
    assert watch.feed(black(), WIDTH, HEIGHT, at(61)).since_ns == at(60)


def test_a_camera_that_changes_its_size_or_its_time_is_judged_anew() -> None:
    watch = LensWatch()
    watch.feed(black(), WIDTH, HEIGHT, at(10))

    assert watch.feed(black(), WIDTH // 2, HEIGHT, at(11)).view is View.CLEAR
    assert watch.feed(black(), WIDTH // 2, HEIGHT, at(5)).view is View.CLEAR
    assert watch.feed(black(), WIDTH // 2, HEIGHT, at(6)).view is View.COVERED


@pytest.mark.parametrize("name", CLIPS)
def test_real_and_animated_clips_are_neither_covered_nor_frozen(name: str) -> None:
    """Every picture is decoded and two a second are looked at, as on a device."""
    watch = LensWatch()
    views = set()
    due_s = 0.0
    with av.open(str(clip(name)), "r") as source:
        for frame in source.decode(source.streams.video[0]):
            assert isinstance(frame, VideoFrame)
            assert frame.time is not None
            if frame.time >= due_s:
                due_s += 0.5
                plane = frame.planes[0]
                state = watch.feed(memoryview(plane), frame.width, frame.height, at(frame.time), stride=plane.line_size)
                views.add(state.view)

    assert views == {View.CLEAR}


def test_samples_are_spread_over_the_whole_picture_and_padding_is_left_out() -> None:
    columns, stride = 160, 192
    rows = [bytes(range(columns)) + b"\xff" * (stride - columns) for _ in range(90)]

    picture = sampled(b"".join(rows) + b"chroma", columns, 90, stride=stride)

    assert len(picture.data) == picture.columns * picture.rows
    first = picture.data[: picture.columns]
    assert picture.data == first * picture.rows
    assert first[0] < 3
    assert 157 <= first[-1] < 160
    steps = {right - left for left, right in pairwise(first)}
    assert len(steps) == 1


def test_a_picture_of_two_dimensions_is_read_in_place() -> None:
    flat = bytes(range(240)) * 30

    assert sampled(memoryview(flat).cast("B", shape=[30, 240]), 240, 30) == sampled(flat, 240, 30)


@pytest.mark.parametrize(
    ("length", "width", "height", "stride"),
    [(100, 320, 180, 0), (320 * 180 - 1, 320, 180, 0), (10_000, 8, 8, 0), (10_000, 64, 36, 32), (0, 0, 0, 0)],
)
def test_a_picture_shorter_than_it_says_is_refused(length: int, width: int, height: int, stride: int) -> None:
    with pytest.raises(SourceError, match="expected the brightness"):
        sampled(bytes(length), width, height, stride=stride)


def test_a_picture_in_pieces_is_refused() -> None:
    with pytest.raises(SourceError, match="one piece"):
        sampled(memoryview(bytes(20_000))[::2], 100, 100)


@given(
    size=st.tuples(st.integers(16, 700), st.integers(12, 400)),
    levels=st.lists(st.integers(0, 255), min_size=1, max_size=30),
    times=st.lists(st.integers(-(10**9), 30 * 10**9), min_size=1, max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_no_picture_of_any_size_at_any_time_raises(size: tuple[int, int], levels: list[int], times: list[int]) -> None:
    width, height = size
    watch, pattern = LensWatch(), bytes(levels)
    now, taken = 0, set()
    for turn, step in enumerate(times):
        now += step
        taken.add(now)
        luma = (pattern[turn % len(pattern) :] + pattern) * (width * height // len(pattern) + 2)
        assert watch.feed(luma, width, height, now).since_ns in taken
