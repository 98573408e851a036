"""The queue for encoded pictures from a camera library's threads: it copies, never blocks and never raises.

An exception in picamera2's `Output.outputframe` ends the camera's thread, and every later call into the library hangs.
So pictures are only copied and enqueued there; errors are detected and raised where they are taken out.
"""

from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from agent.clock import NS, Monotonic
from agent.errors import SourceError

CAPACITY = 240
"""Pictures that may wait: some seconds of them, as many as come in while the process stalls."""

SLICES = 5


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded picture as the library delivered it.

    Attributes:
        data: An access unit in Annex B form.
        timestamp_us: Microseconds from the encoder's first picture, by the sensor's clock.
        arrived_ns: The monotonic time of its arrival.
    """

    data: bytes
    timestamp_us: int
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class _Failed:
    problem: str


class Intake:
    """The queue between a camera library's threads and the one that takes pictures out.

    Its methods may be called from any thread; only `take` waits and raises.

    Args:
        monotonic: The recorder's clock.
        capacity: Pictures that may wait.
    """

    def __init__(self, monotonic: Monotonic, *, capacity: int = CAPACITY) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._queue: SimpleQueue[Encoded | _Failed | None] = SimpleQueue()
        self._broken = Event()
        self._closed = Event()

    def put(self, frame: Any, timestamp_us: int | None) -> None:
        """Copy a picture and enqueue it. Never raises, never blocks."""
        if self._broken.is_set() or self._closed.is_set():
            return
        try:
            if self._queue.qsize() >= self._capacity:
                self.fail(f"{self._capacity} pictures wait: the recorder does not keep up with the camera")
                return
            arrived_ns = self._monotonic()
            if timestamp_us is None:
                self.fail("expected a timestamp with each picture, the encoder gave none")
                return
            self._queue.put(Encoded(bytes(frame), int(timestamp_us), arrived_ns))
        except Exception as error:  # noqa: BLE001 - see the module: an exception here would end the camera's thread
            self.fail(f"{type(error).__name__}: {error}")

    def fail(self, problem: str) -> None:
        """Report that the camera failed; raised by `take` after the pictures that came before."""
        if not self._broken.is_set():
            self._broken.set()
            self._queue.put(_Failed(problem))

    def close(self) -> None:
        """End it: `take` returns None from now on."""
        self._closed.set()
        self._queue.put(None)

    def take(self, within_ns: int) -> Encoded | None:
        """The next picture; None once it was closed.

        Raises:
            SourceError: Nothing arrived `within_ns`, or the camera failed.
        """
        if self._closed.is_set():
            return None
        item = self._next(within_ns)
        if isinstance(item, _Failed):
            raise SourceError(item.problem)
        return None if self._closed.is_set() else item

    def _next(self, within_ns: int) -> Encoded | _Failed | None:
        # In slices: if the whole machine stalled, only one of them has passed, and the camera is not blamed.
        for _ in range(SLICES):
            with suppress(Empty):
                return self._queue.get(timeout=within_ns / NS / SLICES)
        raise SourceError(f"no picture for {within_ns / NS:.2f} s")


def enqueue_only(base: Any, intake: Intake) -> Any:
    """An output for picamera2's encoders that does nothing but `intake.put`.

    Args:
        base: `picamera2.outputs.Output`, which an encoder insists on; picamera2 need not be there to import this.
        intake: Takes the pictures. Sound from an encoder is ignored: it is captured elsewhere.
    """

    class EnqueueOnly(base):  # type: ignore[misc]  # untyped, and absent where picamera2 is
        def outputframe(
            self,
            frame: Any,
            keyframe: bool = True,  # noqa: ARG002, FBT001, FBT002 - the library's interface
            timestamp: int | None = None,
            packet: Any = None,  # noqa: ARG002
            audio: bool = False,  # noqa: FBT001, FBT002
        ) -> None:
            if not audio:
                intake.put(frame, timestamp)

    return EnqueueOnly()
