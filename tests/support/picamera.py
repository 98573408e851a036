"""picamera2 as far as its manual describes what we use, driven by a test: the same calls, order and traps.

What a camera's thread does there, the test does here by `picture`: an exception in an output ends that thread for good.
"""

import threading
from collections.abc import Callable
from typing import Any

from agent.capture.config import Picamera2Config
from agent.capture.picamera2_library import EncoderKind, Library

SPS = bytes.fromhex("6742c01fda0350f684000003000400000300f23c60ca80")
PPS = bytes.fromhex("68ce3c80")[:3]
IDR = b"\x65\x88\x84"
OTHER = b"\x41\x9a\x02"


def annex_b(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


class Output:
    """`picamera2.outputs.Output`."""

    def __init__(self, pts: Any = None) -> None:
        self.recording = False
        self.ptsoutput = pts

    def outputframe(
        self, frame: Any, keyframe: bool = True, timestamp: int | None = None, packet: Any = None, audio: bool = False
    ) -> None:
        raise NotImplementedError


class Encoder:
    """An encoder: knows its output, and the sensor's time of its first picture."""

    def __init__(self, settings: Picamera2Config, name: str) -> None:
        self.settings = settings
        self.name = name
        self.output: Any = None
        self.firsttimestamp: int | None = None
        self.rates: list[int] = []


class Array(bytearray):
    """As much of a numpy array as we use of those that `capture_arrays` gives: memory with strides."""

    strides: tuple[int, int]


def array(data: bytes, stride: int) -> Array:
    made = Array(data)
    made.strides = (stride, 1)
    return made


class Camera:
    """`Picamera2`: one camera, opened."""

    def __init__(self, bench: "CameraBench", number: int) -> None:
        if bench.taken:
            raise RuntimeError("Camera __init__ sequence did not complete.") from OSError(16, "in use")
        bench.taken = True
        self.bench = bench
        self.number = number
        self.asked: dict[str, Any] = {}
        self.encoder: Encoder | None = None
        self.calls: list[str] = []

    def create_video_configuration(self, **asked: Any) -> dict[str, Any]:
        return asked

    def configure(self, asked: dict[str, Any]) -> None:
        self.asked = asked

    def camera_configuration(self) -> dict[str, Any]:
        given = {name: {**self.asked[name], "stride": self.asked[name]["size"][0]} for name in ("main", "lores")}
        for name, changes in self.bench.adjusts.items():
            given[name].update(changes)
        return {**given, "transform": self.asked.get("transform")}

    def start_encoder(self, encoder: Encoder, output: Any) -> None:
        assert isinstance(output, Output)
        encoder.output = output
        self.encoder = encoder

    def start(self) -> None:
        self.calls.append("start")
        self.bench.started(self)

    def capture_arrays(self, names: list[str], *, wait: float) -> tuple[list[Any], dict[str, Any]]:
        assert names == ["lores"]
        assert wait > 0
        return self.bench.small(self)

    def stop_preview(self) -> None:
        self._step("stop_preview")

    def stop_encoder(self, encoder: Encoder) -> None:
        assert encoder is self.encoder
        self._step("stop_encoder")

    def close(self) -> None:
        self._step("close")
        self.bench.taken = False

    def _step(self, name: str) -> None:
        self.calls.append(name)
        self.bench.step(name)

    def picture(self, sensor_us: int, *units: bytes) -> None:
        """A picture comes out of the encoder, on the camera's thread."""
        encoder = self.encoder
        assert encoder is not None
        if encoder.firsttimestamp is None:
            encoder.firsttimestamp = sensor_us
        encoder.output.outputframe(annex_b(*units), True, sensor_us - encoder.firsttimestamp)


class CameraBench:
    """The library and its one camera.

    Attributes:
        started: Called when a camera was started; by default it gives an IDR picture.
        step: Called at each step of taking it down; may raise or wait.
        small: Gives the small pictures.
        adjusts: What the camera gives other than what was asked for.
    """

    def __init__(self, sensor_us: Callable[[], int]) -> None:
        self.taken = False
        self.cameras: list[Camera] = []
        self.encoders: list[Encoder] = []
        self.adjusts: dict[str, dict[str, Any]] = {}
        self.started: Callable[[Camera], None] = lambda camera: camera.picture(sensor_us(), SPS, PPS, IDR)
        self.step: Callable[[str], None] = lambda _name: None
        self.looked = threading.Semaphore(0)
        self.small: Callable[[Camera], tuple[list[Any], dict[str, Any]]] = self._nothing_small

    def _nothing_small(self, camera: Camera) -> tuple[list[Any], dict[str, Any]]:
        width, height = camera.asked["lores"]["size"]
        return [array(bytes(width * height * 3 // 2), width)], {"SensorTimestamp": 0}

    def library(self) -> Library:
        def encoder(name: str) -> EncoderKind:
            def make(settings: Picamera2Config) -> Encoder:
                self.encoders.append(Encoder(settings, name))
                return self.encoders[-1]

            return EncoderKind(make, lambda _encoder, _settings: None, set_rate)

        def set_rate(encoder: Encoder, rate: int) -> None:
            self.step("set_bit_rate")
            encoder.rates.append(rate)

        return Library(
            self._camera, {name: encoder(name) for name in ("hardware", "libav")}, Output, lambda: "rotated by 180"
        )

    def _camera(self, number: int) -> Camera:
        self.cameras.append(Camera(self, number))
        return self.cameras[-1]
