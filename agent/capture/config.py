"""The tables `[source.picamera2]` and `[source.microphone]` of the configuration."""

from typing import Annotated, Literal

import msgspec

from agent.errors import ConfigError

Side = Annotated[int, msgspec.Meta(ge=64, le=4096)]
SmallSide = Annotated[int, msgspec.Meta(ge=64, le=1024)]


class Picamera2Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A camera by picamera2.

    Attributes:
        number: Which camera, in the order of `rpicam-hello --list-cameras`.
        encoder: `hardware` is the V4L2 encoder of a Zero 2 W, Pi 3 and Pi 4; a Pi 5 has none: `libav` is x264 there.
        width, height: Of what is recorded, in pixels, even.
        fps: Pictures a second.
        bit_rate: Of the pictures, bit/s.
        key_frame_interval: Pictures from one IDR picture to the next.
        rotation: 180 for a camera that is mounted upside down; sensors can't turn by less.
        low_width, low_height: Of the small pictures by which a covered or frozen lens is found.
        threads: Of the `libav` encoder. Each above the first holds one picture back.
    """

    number: Annotated[int, msgspec.Meta(ge=0, le=15)] = 0
    encoder: Literal["hardware", "libav"] = "hardware"
    width: Side = 1280
    height: Side = 720
    fps: Annotated[int, msgspec.Meta(ge=1, le=120)] = 30
    bit_rate: Annotated[int, msgspec.Meta(ge=50_000, le=25_000_000)] = 4_000_000
    key_frame_interval: Annotated[int, msgspec.Meta(ge=1, le=300)] = 30
    rotation: Literal[0, 180] = 0
    low_width: SmallSide = 320
    low_height: SmallSide = 240
    threads: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2

    def __post_init__(self) -> None:
        for name in ("width", "height", "low_width", "low_height"):
            if getattr(self, name) % 2:
                raise ConfigError(f"expected an even {name} for [source.picamera2], got {getattr(self, name)}")
        if self.low_width > self.width or self.low_height > self.height:
            raise ConfigError(
                "expected low_width and low_height of [source.picamera2] to be no larger than the picture"
            )


class MicrophoneConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A microphone of its own, beside a camera that gives pictures only.

    Attributes:
        device: FORMAT:NAME of an input of libav, such as `alsa:hw:1,0` (`arecord -l` lists cards and devices),
            `alsa:plughw:1,0` where the card knows no 48 kHz, or `lavfi:sine=frequency=440,arealtime` on a bench.
        sample_rate: Requested and recorded, in Hz.
        channels: Requested; one is recorded.
        bit_rate: Of the recorded sound (AAC), bit/s.
    """

    device: Annotated[str, msgspec.Meta(min_length=3, max_length=512, pattern=r"^[a-z0-9_]+:[^\x00-\x1f]+$")]
    sample_rate: Literal[16000, 32000, 44100, 48000] = 48000
    channels: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    bit_rate: Annotated[int, msgspec.Meta(ge=16_000, le=320_000)] = 64_000

    @property
    def form(self) -> str:
        """The input's format, such as `alsa`."""
        return self.device.partition(":")[0]

    @property
    def name(self) -> str:
        """Its name within the format, such as `hw:1,0`."""
        return self.device.partition(":")[2]
