"""What libcamera's virtual camera lacks for picamera2, and a hand on it: scenes, faults, and a log of what it gave.

Imported before picamera2, inside of the tree. picamera2, libcamera and our own source are unmodified and know nothing
of it. Supplied here:
1. `kms`, which only a preview on a screen uses.
2. Raw modes: the virtual camera has none.
3. Memory: there is no dma heap; buffers lie in memfds.
4. A frame clock: the virtual camera completes a request as soon as it is queued, and stamps it then. Requests are
   queued by a "sensor", one each frame period. Never by sleeping in `queue_request`: picamera2 does not recycle
   requests that complete before `start` has returned.
5. Scenes: brightness painted into each buffer before picamera2 sees it, by the picture's own SensorTimestamp.
6. Faults, on command (see `_obey`), written as lines into a named pipe.

The log has a line for each thing that happened, with the monotonic time in nanoseconds.
"""

import collections
import mmap
import os
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["BWC_VIRTUAL_CAMERA"])
PERIOD_S = 1 / 30
FLASH_EVERY_NS, FLASH_NS = 1_004_567_000, 200_000_000  # as in `sound_card`
WHITE, COVERED, GREY = 235, 18, 110


class _AnyName(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


_kms = types.ModuleType("kms")
vars(_kms)["PixelFormats"] = _AnyName("PixelFormats", (), {})
sys.modules["kms"] = _kms
os.environ["LIBCAMERA_PIPELINES_MATCH_LIST"] = "virtual"

import libcamera  # noqa: E402
import picamera2.picamera2 as library  # noqa: E402
from picamera2.allocators.allocator import Allocator  # noqa: E402
from picamera2.encoders.encoder import Encoder  # noqa: E402

_log = os.open(FOLDER / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(*words: object) -> None:
    os.write(_log, (" ".join(map(str, (time.monotonic_ns(), *words))) + "\n").encode())


class State:
    scene = "bars"
    stalled = False
    raising = ""
    gone_until = 0.0


class MemfdAllocator(Allocator):  # type: ignore[misc]  # the tree's library, unknown here
    """NV12 and YUV420 in memfds: luminance and chroma on one descriptor."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: dict[Any, mmap.mmap] = {}
        self.luma: dict[Any, int] = {}
        self.descriptors: list[int] = []
        self.frame_buffers: dict[Any, list[Any]] = {}
        self.sync = self.Sync

    def allocate(self, configuration: Any, _use_case: Any) -> None:
        self.close()
        for stream in configuration:
            made = []
            for number in range(stream.buffer_count):
                descriptor = os.memfd_create(f"picture-{number}")
                os.ftruncate(descriptor, stream.frame_size)
                self.descriptors.append(descriptor)
                luma = stream.stride * stream.size.height
                planes = []
                for offset, length in ((0, luma), (luma, stream.frame_size - luma)):
                    plane = libcamera.FrameBuffer.Plane()
                    plane.fd, plane.offset, plane.length = descriptor, offset, length
                    planes.append(plane)
                buffer = libcamera.FrameBuffer(planes)
                made.append(buffer)
                self.maps[buffer] = mmap.mmap(descriptor, stream.frame_size)
                self.luma[buffer] = luma
            self.frame_buffers[stream.stream] = made

    def buffers(self, stream: Any) -> Any:
        return self.frame_buffers[stream]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.maps, self.luma, self.descriptors, self.frame_buffers = {}, {}, [], {}

    class Sync:
        def __init__(self, allocator: Any, buffer: Any, _write: Any) -> None:
            self.memory = allocator.maps[buffer]

        def __enter__(self) -> Any:
            return self.memory

        def __exit__(self, *_: object) -> None:
            pass

        def get_buffer(self) -> Any:
            return self.memory


def _raw_modes(self: Any) -> list[dict[str, Any]]:
    formats = self.camera.generate_configuration([libcamera.StreamRole.VideoRecording]).at(0).formats
    return [
        {"format": str(pixels), "size": (size.width, size.height)}
        for pixels in formats.pixel_formats
        for size in formats.sizes(pixels)
    ]


class PaintedRequest(library.CompletedRequest):  # type: ignore[misc]
    """A completed request with the scene painted in."""

    def __init__(self, request: Any, camera: Any) -> None:
        super().__init__(request, camera)
        taken_ns = request.metadata[libcamera.controls.SensorTimestamp]
        value = None
        if State.scene == "covered":
            value = COVERED
        elif State.scene == "frozen":
            value = GREY
        elif State.scene == "flashes" and taken_ns % FLASH_EVERY_NS < FLASH_NS:
            value = WHITE
        if State.scene == "noise":
            for buffer in request.buffers.values():
                luma = camera.allocator.luma[buffer]
                camera.allocator.maps[buffer][:luma] = os.urandom(luma)
        if value is not None:
            for buffer in request.buffers.values():
                camera.allocator.maps[buffer][: camera.allocator.luma[buffer]] = (
                    bytes([value]) * (camera.allocator.luma[buffer])
                )


_queue, _stop = libcamera.Camera.queue_request, libcamera.Camera.stop
_lock = threading.Lock()
_pending: collections.deque[tuple[Any, Any]] = collections.deque()


def _sensor() -> None:
    due = time.monotonic()
    while True:
        due = max(due + PERIOD_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        with _lock:
            if _pending and not State.stalled and time.monotonic() >= State.gone_until:
                _queue(*_pending.popleft())


def _queue_later(self: Any, request: Any) -> None:
    with _lock:
        _pending.append((self, request))


def _stop_now(self: Any) -> Any:
    with _lock:
        _pending.clear()
        State.stalled = False
        stopped = _stop(self)
    if State.raising == "stop":
        State.raising = ""
        raise RuntimeError("stop: no such device")
    return stopped


_open, _close = library.Picamera2.__init__, library.Picamera2.close
_process, _outputframe, _timestamp = library.Picamera2.process_requests, Encoder.outputframe, Encoder._timestamp
_cameras = library.Picamera2.global_camera_info
_opened: list[Any] = []


def _opened_now(self: Any, *args: Any, **more: Any) -> None:
    _open(self, *args, **more)
    _opened.append(self)
    note("opened")


def _closed_now(self: Any) -> None:
    was_open = self.is_open
    _close(self)
    if was_open:
        note("closed")


def _processed(self: Any, display: Any) -> Any:
    if State.raising == "process":
        State.raising = ""
        raise RuntimeError("the camera's thread dies")
    return _process(self, display)


def _present() -> Any:
    return [] if time.monotonic() < State.gone_until else _cameras()


def _given_out(self: Any, frame: Any, keyframe: Any, timestamp: Any, **more: Any) -> None:
    note("encoded", self.firsttimestamp + timestamp, len(frame))
    _outputframe(self, frame, keyframe, timestamp, **more)


def _stamped(self: Any, request: Any) -> Any:
    if State.raising == "encode":
        State.raising = ""
        raise OSError(5, "Input/output error")
    note("sensor", request.request.metadata[libcamera.controls.SensorTimestamp])
    return _timestamp(self, request)


def _obey(line: str) -> None:
    """One command."""
    note("told", line)
    match line.split():
        case ["scene", name]:
            State.scene = name
        case ["stall"]:
            State.stalled = True
        case ["raise", where]:
            State.raising = where
        case ["unplug", seconds]:
            State.gone_until = time.monotonic() + float(seconds)
        case ["close"]:
            threading.Thread(target=_opened[-1].close, daemon=True).start()
        case _:
            note("unknown", line)


def _listen() -> None:
    while True:
        with (FOLDER / "control").open() as pipe:
            for line in pipe:
                _obey(line.strip())


library.Picamera2._get_raw_modes = _raw_modes
library.DmaAllocator = MemfdAllocator
library.CompletedRequest = PaintedRequest
libcamera.Camera.queue_request, libcamera.Camera.stop = _queue_later, _stop_now
library.Picamera2.__init__, library.Picamera2.close = _opened_now, _closed_now
library.Picamera2.process_requests = _processed
library.Picamera2.global_camera_info = staticmethod(_present)
Encoder.outputframe, Encoder._timestamp = _given_out, _stamped
for work in (_sensor, _listen):
    threading.Thread(target=work, daemon=True).start()
