"""A camera by picamera2: H.264 pictures with the sensor's own times, and small pictures for the lens.

The rules, in order:
1. The library's threads only enqueue (`intake`). Everything else happens on the recorder's threads.
2. `open` returns with the first IDR picture, or fails: it waits `FIRST_NS` for it, and `RELEASE_S` for an earlier
   opening to release the camera.
3. A camera that delivers no picture for `STALL_NS` has stalled, one whose library raises has failed: the iteration ends
   with `SourceError`, and the recorder closes and reopens it.
4. Closing stops the library in an order that works with a dead camera thread: first its event loop, then the encoder,
   then the camera. Each step may raise; the next one follows all the same. Closing that hangs blocks only its thread.
5. The configuration is read back: libcamera adjusts sizes and formats silently. Pictures are recorded as they are; a
   low-resolution stream without a plane of brightness is an error, because a covered lens could not be detected.
6. Small pictures are taken on a thread of their own, twice a second, so that a covered lens is detected even while IDR
   pictures are far apart.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agent import output
from agent.capture.access_unit import PictureStream, begins
from agent.capture.config import Picamera2Config
from agent.capture.intake import Encoded, Intake, enqueue_only
from agent.capture.picamera2_library import EncoderKind, Library, load
from agent.capture.sensor_clock import behind_ns
from agent.clock import NS, Monotonic, boottime_ahead_ns
from agent.errors import SourceError
from agent.media.packet import Packet, Stream

STALL_NS = NS // 2
"""A camera that delivers no picture for longer has stalled. The supervisor, which watches every source, would need
twice as long, and a camera must be back within 2 s."""
STALL_PICTURES = 5
"""At low frame rates, a camera has stalled only after the time of this many pictures."""
FIRST_NS = 3 * NS
RELEASE_S = 3.0
LOOK_EVERY_S = 0.5
LOOK_WITHIN_S = 2.0
"""How long to wait for a small picture while large ones arrive."""
_BRIGHTNESS_FIRST = frozenset({"YUV420", "YVU420", "NV12", "NV21"})
"""Formats whose first rows are brightness in 8 bits."""


Look = Callable[[memoryview, int, int, int, int], None]
"""Takes a small picture: its brightness, width, height, monotonic time in nanoseconds, bytes a row. Must not wait."""


class Picamera2Source:
    """A camera of picamera2.

    Args:
        settings: The configured settings.
        monotonic: The recorder's clock: CLOCK_MONOTONIC.
        look: Takes the small pictures.
        library: Loads the library; called at each opening, so that a device without a camera still starts.
        boottime_ahead: How far CLOCK_BOOTTIME is ahead of `monotonic`, in nanoseconds.
        stall_ns: See `STALL_NS`.
    """

    def __init__(
        self,
        settings: Picamera2Config,
        monotonic: Monotonic,
        look: Look,
        *,
        library: Callable[[], Library] = load,
        boottime_ahead: Callable[[], int] = boottime_ahead_ns,
        stall_ns: int = STALL_NS,
    ) -> None:
        self.name = f"picamera2:{settings.number}"
        self._settings = settings
        self._monotonic = monotonic
        self._look = look
        self._library = library
        self._boottime_ahead = boottime_ahead
        self._stall_ns = max(stall_ns, STALL_PICTURES * NS // settings.fps)
        self._camera_free = threading.Semaphore()

    def open(self, generation: int) -> "OpenPicamera2":
        """Open the camera and wait for its first IDR picture.

        Raises:
            SourceError: picamera2, the camera or the encoder is missing or delivers nothing, or an earlier opening has
                not released the camera.
        """
        library = self._library()
        if not self._camera_free.acquire(timeout=RELEASE_S):
            raise SourceError(f"{self.name} is still being closed: its library hangs")
        running = _Running(self._settings, Intake(self._monotonic), self._look, self._camera_free.release)
        try:
            running.start(library)
            first = running.first_picture()
            stream = self._stream(running, first, generation)
        except SourceError:
            running.close()
            raise
        except Exception as error:
            running.close()
            raise SourceError(f"{self.name} can't be opened: {type(error).__name__}: {_describe(error)}") from error
        running.look_on()
        return OpenPicamera2(running, stream, first, self._stall_ns)

    def _stream(self, running: "_Running", first: Encoded, generation: int) -> PictureStream:
        sensor_ns = running.first_sensor_us * 1000
        taken_ns = sensor_ns + first.timestamp_us * 1000
        running.behind_ns = behind_ns(taken_ns, first.arrived_ns, self._boottime_ahead())
        width, height = running.size
        return PictureStream(first, (width, height), self._settings.fps, generation, sensor_ns - running.behind_ns)


class OpenPicamera2:
    """One opening of a `Picamera2Source`."""

    def __init__(self, running: "_Running", stream: PictureStream, first: Encoded, stall_ns: int) -> None:
        self.streams: tuple[Stream, ...] = (stream.stream,)
        self._running = running
        self._stream = stream
        self._first = first
        self._stall_ns = stall_ns

    def __iter__(self) -> Iterator[Packet]:
        """The pictures in their order.

        Raises:
            SourceError: The camera stalled or failed.
        """
        picture: Encoded | None = self._first
        while picture is not None:
            packet = self._stream.packet(picture)
            if packet is not None:
                yield packet
            picture = self._running.intake.take(self._stall_ns)

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Encode at about this rate from now on, 0 for the configured one; False if the encoder refuses."""
        return self._running.set_bit_rate(bits_per_second)

    def close(self) -> None:
        """End the iteration, and take the camera down. It may hang where the library does."""
        self._running.close()


class _Running:
    """A running camera of the library with its encoder."""

    def __init__(self, settings: Picamera2Config, intake: Intake, look: Look, closed: Callable[[], None]) -> None:
        self.intake = intake
        self.size = (settings.width, settings.height)
        self.behind_ns = 0
        self._settings = settings
        self._look = look
        self._closed = closed
        self._closing = threading.Lock()
        self._ended = threading.Event()
        self._camera: Any = None
        self._encoder: Any = None
        self._kind: EncoderKind | None = None
        self._low: Mapping[str, Any] = {}

    def start(self, library: Library) -> None:
        """Have the library open, configure and start the camera. Raises whatever the library does."""
        settings = self._settings
        camera = self._camera = library.camera(settings.number)
        frame_us = round(1_000_000 / settings.fps)
        more = {"transform": library.rotated()} if settings.rotation else {}
        asked = camera.create_video_configuration(
            main={"size": (settings.width, settings.height), "format": "YUV420"},
            lores={"size": (settings.low_width, settings.low_height), "format": "YUV420"},
            controls={"FrameDurationLimits": (frame_us, frame_us)},
            encode="main",
            **more,
        )
        camera.configure(asked)
        given = camera.camera_configuration()
        self.size = given["main"]["size"]
        if tuple(self.size) != (settings.width, settings.height):
            output.warn(
                f"bwc-agent: picture: asked for {settings.width}x{settings.height}, got {self.size[0]}x{self.size[1]}"
            )
        self._low = given["lores"]
        if self._low["format"] not in _BRIGHTNESS_FIRST:
            raise SourceError(
                f"expected low-resolution pictures as one of {', '.join(sorted(_BRIGHTNESS_FIRST))}, the camera gives "
                f"{self._low['format']}: a covered lens could not be detected"
            )
        if settings.rotation and given.get("transform") != more["transform"]:
            output.warn(f"bwc-agent: rotation: asked for 180 degrees, the camera gives {given.get('transform')}")
        self._kind = library.encoders[settings.encoder]
        encoder = self._kind.make(settings)
        camera.start_encoder(encoder, enqueue_only(library.output, self.intake))
        self._encoder = encoder
        self._kind.started(encoder, settings)
        camera.start()

    def first_picture(self) -> Encoded:
        """The picture that a stream can begin with.

        Raises:
            SourceError: None comes in time.
        """
        for _ in range(2 * self._settings.key_frame_interval + 30):
            picture = self.intake.take(FIRST_NS)
            if picture is None:
                raise SourceError("closed while it was opened")
            if begins(picture):
                return picture
        raise SourceError("expected an IDR picture with its parameter sets, the encoder gives none")

    @property
    def first_sensor_us(self) -> int:
        """The sensor's timestamp of the encoder's time 0, in microseconds."""
        return int(self._encoder.firsttimestamp)

    def look_on(self) -> None:
        """Begin to take small pictures."""
        threading.Thread(target=self._look_on, name="low-resolution", daemon=True).start()

    def _look_on(self) -> None:
        width, height = self._low["size"]
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                (picture,), metadata = self._camera.capture_arrays(["lores"], wait=LOOK_WITHIN_S)
                if self._ended.is_set():
                    return
                at_ns = int(metadata["SensorTimestamp"]) - self.behind_ns
                self._look(memoryview(picture), width, height, at_ns, picture.strides[0])
            except Exception as error:  # noqa: BLE001 - whatever the library raises
                self.intake.fail(f"no low-resolution picture: {type(error).__name__}: {_describe(error)}")
                return

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Have the encoder take another rate; 0 for the configured one."""
        encoder, kind, rate = self._encoder, self._kind, bits_per_second or self._settings.bit_rate
        if encoder is None or kind is None:
            return False
        return _attempt("change the bit rate", lambda: kind.set_bit_rate(encoder, rate))

    def close(self) -> None:
        """Stop everything, once; later calls return at once."""
        if not self._closing.acquire(blocking=False):
            return
        self._ended.set()
        self.intake.close()
        camera, encoder = self._camera, self._encoder
        if camera is not None:
            # Its own `stop` asks the event loop to stop the camera, and blocks forever if that is dead or hangs.
            _attempt("stop its event loop", camera.stop_preview)
            if encoder is not None:
                _attempt("stop the encoder", lambda: camera.stop_encoder(encoder))
            if not _attempt("close the camera", camera.close):
                _attempt("close the camera again", camera.close)
        self._camera = self._encoder = None
        self._closed()


def _attempt(what: str, step: Callable[[], object]) -> bool:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the next step follows all the same
        output.warn(f"bwc-agent: could not {what}: {type(error).__name__}: {_describe(error)}")
        return False
    return True


def _describe(error: Exception) -> str:
    """An error with its cause: picamera2 hides the reason behind a general text."""
    cause = error.__cause__
    return f"{error}: {cause}" if cause is not None else str(error)
