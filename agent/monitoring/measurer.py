"""The thread that measures beside the recording, and can neither delay nor end it.

Sources only put packets into a short queue. What does not fit is dropped and counted: a gap in the measurement, not in
the recording.
"""

import threading
from collections.abc import Callable

from agent.clock import Monotonic
from agent.errors import SourceError
from agent.media.packet import Kind, Packet
from agent.monitoring.lens import sampled
from agent.monitoring.measurements import Fact, Measurements

CAPACITY = 512
"""Packets of sound and key pictures: 5 to 10 s."""
TICK_S = 0.5
"""How often the thread evaluates. It is not woken for each of some 50 packets a second."""

_Task = Callable[[Measurements], list[Fact]]


class Measurer:
    """Runs `Measurements` on a thread of its own. All methods may be called from any thread, and none raises.

    Args:
        report: Takes each fact, on the measuring thread.
        monotonic: The recorder's clock; answers a window without sound.
        decode_pictures: False if the camera's low-resolution stream comes through `look`.
        capacity: Packets and pictures that may wait.
    """

    def __init__(
        self,
        report: Callable[[Fact], None],
        monotonic: Monotonic,
        *,
        decode_pictures: bool = True,
        capacity: int = CAPACITY,
    ) -> None:
        self._report = report
        self._monotonic = monotonic
        self._decode_pictures = decode_pictures
        self._capacity = capacity
        self._measurements = Measurements()
        self._bell = threading.Condition()
        self._tasks: list[_Task] = []
        self._urgent = False
        self._dropped = 0
        self._failed = 0
        self._failure = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="measurer", daemon=True)

    @property
    def dropped(self) -> int:
        """How many packets and pictures were not evaluated because measuring fell behind."""
        with self._bell:
            return self._dropped

    @property
    def undecodable(self) -> int:
        """How many evaluations of sound and pictures failed because these could not be decoded."""
        return self._measurements.undecodable

    @property
    def failed(self) -> int:
        """How many internal errors there were; after each an open window was answered, and measuring restarted."""
        with self._bell:
            return self._failed

    @property
    def failure(self) -> str:
        """The newest internal error; empty for none."""
        with self._bell:
            return self._failure

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def close(self, timeout_s: float = 0.0) -> bool:
        """End after the present evaluation, without what is queued; True if the thread has ended in time."""
        with self._bell:
            self._closed.set()
            self._bell.notify()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def put(self, packet: Packet) -> None:
        """Enqueue a packet that the recorder keeps too. Pictures that depend on others are skipped."""
        if packet.kind is Kind.AUDIO or (self._decode_pictures and packet.key):
            self._wait_in_line(lambda measurements: measurements.take(packet))

    def look(self, luma: bytes | memoryview, width: int, height: int, at_ns: int, *, stride: int = 0) -> None:
        """Enqueue a picture of the low-resolution stream; arguments as of `lens.sampled`. `luma` may be reused."""
        try:
            picture = sampled(luma, width, height, stride=stride)
        except SourceError as error:
            self._note(error)
            return
        self._wait_in_line(lambda measurements: measurements.look(picture, at_ns))

    def listen(self, from_ns: int, to_ns: int) -> None:
        """Measure speech from then to then; one `WindowMeasured` will answer. Never dropped."""
        self._ask(lambda measurements: measurements.listen(from_ns, to_ns))

    def forget(self) -> None:
        """Drop all sound that is buffered for measuring: a mute was granted. Never dropped."""
        self._ask(lambda measurements: measurements.forget())

    def _ask(self, task: _Task) -> None:
        with self._bell:
            self._tasks.append(task)
            self._wake()

    def _wait_in_line(self, task: _Task) -> None:
        with self._bell:
            waiting = len(self._tasks)
            if waiting >= self._capacity:
                self._dropped += 1
                return
            self._tasks.append(task)
            if 2 * waiting >= self._capacity:
                self._wake()

    def _wake(self) -> None:
        self._urgent = True
        self._bell.notify()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._bell:
                self._bell.wait_for(lambda: self._urgent or self._closed.is_set(), TICK_S)
                self._urgent = False
                tasks, self._tasks = self._tasks, []
            for task in tasks:
                if self._closed.is_set():
                    return
                self._do(task)
            self._do(lambda measurements: measurements.tick(self._monotonic()))

    def _do(self, task: _Task) -> None:
        try:
            facts = task(self._measurements)
        except Exception as error:  # noqa: BLE001 - the recorder continues, and the error is counted
            self._note(error)
            facts = self._measurements.give_up()
            self._measurements = Measurements()
        for fact in facts:
            try:
                self._report(fact)
            except Exception as error:  # noqa: BLE001 - an error in `report` must not end the thread
                self._note(error)

    def _note(self, error: Exception) -> None:
        with self._bell:
            self._failed += 1
            self._failure = f"{type(error).__name__}: {error}"
