import importlib.util
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent.capture import picamera2
from agent.capture.config import Picamera2Config
from agent.capture.picamera2 import OpenPicamera2, Picamera2Source
from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Packet
from tests.support.picamera import IDR, OTHER, PPS, SPS, Camera, CameraBench, array

PATIENCE_S = 20.0
NOW_NS = 1000 * NS
AGE_NS = 40_000_000
SENSOR_US = (NOW_NS - AGE_NS) // 1000
SETTINGS = Picamera2Config(width=640, height=480)


class Rig:
    """A source on a bench, with a clock that stands still."""

    def __init__(self, settings: Picamera2Config = SETTINGS, *, suspended_ns: int = 0, stall_ns: int = 60 * NS) -> None:
        self.bench = CameraBench(lambda: SENSOR_US + suspended_ns // 1000)
        self.seen: list[tuple[bytes, int, int, int, int]] = []
        self.source = Picamera2Source(
            settings,
            lambda: NOW_NS,
            lambda luma, *more: self.seen.append((bytes(luma), *more)),
            library=self.bench.library,
            boottime_ahead=lambda: suspended_ns,
            stall_ns=stall_ns,
        )

    def open(self, generation: int = 1) -> OpenPicamera2:
        return self.source.open(generation)

    @property
    def camera(self) -> Camera:
        return self.bench.cameras[-1]


@pytest.mark.parametrize("suspended_ns", [0, 3600 * NS])
def test_packets_carry_the_sensors_time_on_the_recorders_clock(suspended_ns: int) -> None:
    rig = Rig(suspended_ns=suspended_ns)
    opened = rig.open(7)
    (stream,) = opened.streams
    assert (stream.generation, stream.epoch_ns) == (7, NOW_NS - AGE_NS)
    for number in range(1, 5):
        rig.camera.picture(SENSOR_US + suspended_ns // 1000 + number * 33_367, OTHER)
    packets = iter(opened)
    got = [next(packets) for _ in range(5)]
    assert [packet.ticks for packet in got] == [0, 33_367, 66_734, 100_101, 133_468]
    assert [packet.time_ns for packet in got] == [NOW_NS - AGE_NS + packet.ticks * 1000 for packet in got]
    assert [packet.key for packet in got] == [True, False, False, False, False]
    opened.close()


def test_stream_begins_at_the_first_whole_idr_picture_and_counts_from_the_encoders_first() -> None:
    rig = Rig()

    def start(camera: Camera) -> None:
        camera.picture(SENSOR_US, OTHER)
        camera.picture(SENSOR_US + 10, IDR)
        camera.picture(SENSOR_US + 20, SPS, PPS, IDR)

    rig.bench.started = start
    opened = rig.open()
    first = next(iter(opened))
    assert (first.ticks, first.time_ns) == (20, NOW_NS - AGE_NS + 20_000)
    opened.close()


def test_what_is_configured_is_asked_for() -> None:
    rig = Rig(
        Picamera2Config(
            number=1, encoder="libav", width=1920, height=1080, fps=25, rotation=180, low_width=160, low_height=120
        )
    )
    opened = rig.open()
    asked = rig.camera.asked
    assert rig.camera.number == 1
    assert asked["main"]["size"] == (1920, 1080)
    assert asked["lores"]["size"] == (160, 120)
    assert asked["controls"]["FrameDurationLimits"] == (40_000, 40_000)
    assert asked["transform"] == "rotated by 180"
    assert [encoder.name for encoder in rig.bench.encoders] == ["libav"]
    opened.close()


def test_size_that_the_camera_gives_is_the_one_that_is_recorded() -> None:
    rig = Rig()
    rig.bench.adjusts["main"] = {"size": (624, 468)}
    opened = rig.open()
    assert (opened.streams[0].parameters.width, opened.streams[0].parameters.height) == (624, 468)
    opened.close()


def test_camera_whose_small_pictures_show_no_covered_lens_is_refused_and_let_go() -> None:
    rig = Rig()
    rig.bench.adjusts["lores"] = {"format": "YUYV"}
    with pytest.raises(SourceError, match="covered lens"):
        rig.open()
    rig.bench.adjusts.clear()
    rig.open().close()


def iterated(opened: OpenPicamera2) -> tuple[threading.Thread, list[Packet | str]]:
    """Iterate in a thread of its own; the packets, and how it ended."""
    got: list[Packet | str] = []

    def run() -> None:
        try:
            got.extend(opened)
            got.append("ended")
        except SourceError as error:
            got.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, got


def test_bit_rate_is_the_encoders_and_a_refusal_is_reported_not_raised() -> None:
    rig = Rig()
    opened = rig.open()
    assert opened.set_bit_rate(500_000)
    assert opened.set_bit_rate(0)
    assert rig.bench.encoders[-1].rates == [500_000, SETTINGS.bit_rate]
    rig.bench.step = refuse("set_bit_rate")
    assert not opened.set_bit_rate(250_000)
    opened.close()
    assert not opened.set_bit_rate(250_000)


def test_closing_wakes_who_waits_for_a_picture() -> None:
    opened = Rig().open()
    thread, got = iterated(opened)
    opened.close()
    thread.join(PATIENCE_S)
    assert got[-1] == "ended"


def test_camera_that_stalls_is_reported_as_stalled() -> None:
    opened = Rig(stall_ns=NS // 1000).open()
    thread, got = iterated(opened)
    thread.join(PATIENCE_S)
    assert "no picture" in str(got[-1])
    opened.close()


def refuse(name: str) -> Callable[[str], None]:
    def step(given: str) -> None:
        if given == name:
            raise RuntimeError("no such device")

    return step


@pytest.mark.parametrize("fails", ["stop_preview", "stop_encoder", "none"])
def test_camera_is_taken_down_in_order_though_a_step_fails_and_can_be_reopened(fails: str) -> None:
    rig = Rig()
    for generation in range(1, 11):
        opened = rig.open(generation)
        assert opened.streams[0].generation == generation
        rig.bench.step = refuse(fails)
        opened.close()
        opened.close()
        # Its event loop first: `stop` would wait for one that has died.
        assert rig.camera.calls == ["start", "stop_preview", "stop_encoder", "close"]


def test_close_that_fails_once_is_tried_again() -> None:
    rig = Rig()
    opened = rig.open()
    left = ["close"]

    def step(name: str) -> None:
        if name in left:
            left.remove(name)
            raise OSError(5, "Input/output error")

    rig.bench.step = step
    opened.close()
    rig.open(2).close()


def test_camera_whose_library_hangs_in_close_is_not_opened_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera2, "RELEASE_S", 0.01)
    rig = Rig()
    opened = rig.open()
    hanging, go = threading.Event(), threading.Event()

    def step(_name: str) -> None:
        hanging.set()
        go.wait(PATIENCE_S)

    rig.bench.step = step
    closing = threading.Thread(target=opened.close, daemon=True)
    closing.start()
    assert hanging.wait(PATIENCE_S)
    with pytest.raises(SourceError, match="still being closed"):
        rig.open(2)
    assert len(rig.bench.cameras) == 1
    go.set()
    closing.join(PATIENCE_S)
    rig.open(3).close()


@pytest.mark.parametrize("error", [RuntimeError("Failed to acquire"), IndexError(3), OSError(19, "No such device")])
def test_whatever_the_library_raises_while_opening_is_a_source_error_and_the_camera_is_let_go(error: Exception) -> None:
    rig = Rig()
    well = rig.bench.started

    def start(_camera: Camera) -> None:
        raise error

    rig.bench.started = start
    with pytest.raises(SourceError, match=r"picamera2:0 can't be opened"):
        rig.open()
    assert not rig.bench.taken
    rig.bench.started = well
    rig.open(2).close()


def test_camera_in_use_elsewhere_is_reported_with_its_reason() -> None:
    rig = Rig()
    rig.bench.taken = True
    with pytest.raises(SourceError, match="in use"):
        rig.open()


@pytest.mark.parametrize("sensor_us", [0, SENSOR_US + 86_400_000_000])
def test_sensor_on_an_unknown_clock_is_refused(sensor_us: int) -> None:
    rig = Rig()
    rig.bench.started = lambda camera: camera.picture(sensor_us, SPS, PPS, IDR)
    with pytest.raises(SourceError, match="timestamps"):
        rig.open()
    assert not rig.bench.taken


def test_small_pictures_are_looked_at_with_their_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera2, "LOOK_EVERY_S", 0.001)
    suspended_ns = 60 * NS
    rig = Rig(suspended_ns=suspended_ns)
    asked = threading.Semaphore(0)

    def small(_camera: Camera) -> tuple[list[Any], dict[str, Any]]:
        asked.release()
        return [array(b"luma", 384)], {"SensorTimestamp": NOW_NS - AGE_NS + suspended_ns}

    rig.bench.small = small
    opened = rig.open()
    for _ in range(3):
        assert asked.acquire(timeout=PATIENCE_S)
    opened.close()
    assert rig.seen[0] == (b"luma", 320, 240, NOW_NS - AGE_NS, 384)


def test_small_pictures_that_stay_away_end_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera2, "LOOK_EVERY_S", 0.001)
    rig = Rig()

    def small(_camera: Camera) -> tuple[list[Any], dict[str, Any]]:
        raise TimeoutError

    rig.bench.small = small
    opened = rig.open()
    thread, got = iterated(opened)
    thread.join(PATIENCE_S)
    assert "low-resolution" in str(got[-1])
    opened.close()


@pytest.mark.skipif(importlib.util.find_spec("picamera2") is not None, reason="picamera2 is here")
def test_missing_library_is_a_source_error_that_says_how_to_get_it() -> None:
    source = Picamera2Source(SETTINGS, lambda: NOW_NS, lambda *_: None)
    with pytest.raises(SourceError, match=r"python3-picamera2.*\[pi\]"):
        source.open(1)
