"""What is used of picamera2: its import, its encoders, and how their bit rate is changed.

All but two things are documented in picamera2's manual. These two have no documented way:
1. x264 changes its bit rate while it runs only if it was opened with a decoder buffer (`maxrate`, `bufsize`; measured:
   without them the rate stays). They are set on the codec context of `LibavH264Encoder`, which is opened with the
   first picture.
2. The V4L2 encoder's rate is a control of its device, which `H264Encoder` keeps open as `vd`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.capture.config import Picamera2Config
from agent.errors import SourceError


@dataclass(frozen=True, slots=True)
class EncoderKind:
    """One of the encoders.

    Attributes:
        make: Makes one; it may raise anything.
        started: Called when it was started, before the camera is.
        set_bit_rate: Has it encode at another rate, in bits a second, while it runs; it may raise anything.
    """

    make: Callable[[Picamera2Config], Any]
    started: Callable[[Any, Picamera2Config], None]
    set_bit_rate: Callable[[Any, int], None]


@dataclass(frozen=True, slots=True)
class Library:
    """picamera2.

    Attributes:
        camera: `Picamera2`; called with the camera's number.
        encoders: By their name in the configuration.
        output: The class that outputs are made of.
        rotated: `libcamera.Transform` of 180 degrees.
    """

    camera: Callable[[int], Any]
    encoders: Mapping[str, EncoderKind]
    output: Any
    rotated: Callable[[], Any]


def load() -> Library:
    """picamera2, imported.

    Raises:
        SourceError: It is not installed, or can't be imported.
    """
    try:
        import libcamera
        from picamera2 import Picamera2
        from picamera2.outputs import Output
    except Exception as error:  # an import that looks for hardware may raise anything
        raise SourceError(
            "expected picamera2: on Raspberry Pi OS `apt install python3-picamera2` and a venv made with "
            f"--system-site-packages, elsewhere the extra bwc-agent[pi]; {type(error).__name__}: {error}"
        ) from error
    encoders = {
        "hardware": EncoderKind(_hardware, lambda _encoder, _settings: None, _set_hardware_rate),
        "libav": EncoderKind(_libav, _bound_libav, _set_libav_rate),
    }
    return Library(Picamera2, encoders, Output, lambda: libcamera.Transform(hflip=1, vflip=1))


def _hardware(settings: Picamera2Config) -> Any:
    """The V4L2 encoder, by its own name: `picamera2.encoders.H264Encoder` is x264 where there is none."""
    from picamera2.encoders.h264_encoder import H264Encoder

    return H264Encoder(
        bitrate=settings.bit_rate, repeat=True, iperiod=settings.key_frame_interval, framerate=settings.fps
    )


def _set_hardware_rate(encoder: Any, bits_per_second: int) -> None:
    import fcntl

    from videodev2 import V4L2_CID_MPEG_VIDEO_BITRATE, VIDIOC_S_CTRL, v4l2_control

    control = v4l2_control()
    control.id, control.value = V4L2_CID_MPEG_VIDEO_BITRATE, bits_per_second
    fcntl.ioctl(encoder.vd, VIDIOC_S_CTRL, control)


def _libav(settings: Picamera2Config) -> Any:
    from picamera2.encoders.libav_h264_encoder import LibavH264Encoder

    encoder = LibavH264Encoder(
        bitrate=settings.bit_rate, repeat=True, iperiod=settings.key_frame_interval, framerate=settings.fps
    )
    encoder.threads = settings.threads
    return encoder


def _bound_libav(encoder: Any, settings: Picamera2Config) -> None:
    options = encoder._stream.codec_context.options  # noqa: SLF001 - see the module
    options["maxrate"] = options["bufsize"] = str(settings.bit_rate)


def _set_libav_rate(encoder: Any, bits_per_second: int) -> None:
    encoder._stream.codec_context.bit_rate = bits_per_second  # noqa: SLF001 - see the module
