from queue import Empty
from typing import Any

import pytest

from agent.capture.intake import CAPACITY, Encoded, Intake, enqueue_only
from agent.clock import NS
from agent.errors import SourceError
from tests.support.picamera import Output

SOON_NS = NS // 1000
NOW_NS = 5 * NS
PICTURE = Encoded(b"x", 0, NOW_NS)


def intake(capacity: int = CAPACITY) -> Intake:
    return Intake(lambda: NOW_NS, capacity=capacity)


class Unreadable:
    """A buffer that was unmapped under its reader."""

    def __bytes__(self) -> bytes:
        raise ValueError("mmap closed or invalid")


def test_picture_is_copied_as_the_library_reuses_its_buffers() -> None:
    queue = intake()
    buffer = bytearray(b"first")
    queue.put(buffer, 0)
    buffer[:] = b"other"
    picture = queue.take(SOON_NS)
    assert picture is not None
    assert (picture.data, picture.timestamp_us, picture.arrived_ns) == (b"first", 0, NOW_NS)


@pytest.mark.parametrize(
    ("frame", "timestamp", "said"),
    [(Unreadable(), 1, "mmap closed"), (b"x", None, "timestamp"), (None, 1, "TypeError"), (b"x", "odd", "ValueError")],
)
def test_nothing_that_a_library_hands_over_raises_in_its_thread(frame: Any, timestamp: Any, said: str) -> None:
    queue = intake()
    queue.put(b"good", 0)
    queue.put(frame, timestamp)
    queue.put(b"after", 2)
    good = queue.take(SOON_NS)
    assert good is not None
    assert good.data == b"good"
    with pytest.raises(SourceError, match=said):
        queue.take(SOON_NS)


def test_clock_that_fails_does_not_raise_in_the_librarys_thread() -> None:
    def broken() -> int:
        raise OSError(22, "clock")

    queue = Intake(broken)
    queue.put(b"x", 0)
    with pytest.raises(SourceError, match="clock"):
        queue.take(SOON_NS)


def test_full_queue_neither_blocks_nor_grows_and_is_reported_after_what_it_holds() -> None:
    queue = intake(capacity=3)
    for number in range(100):
        queue.put(b"x", number)
    assert [getattr(queue.take(SOON_NS), "timestamp_us", None) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceError, match="keep up"):
        queue.take(SOON_NS)


def test_silence_is_a_failure() -> None:
    with pytest.raises(SourceError, match="no picture"):
        intake().take(SOON_NS)


def test_machine_that_stood_still_is_no_silent_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = intake()
    waits: list[float] = []

    class Frozen:
        """A wait that is over at once, because the machine slept through it; the camera goes on after it."""

        def get(self, *, timeout: float) -> Any:
            waits.append(timeout)
            if len(waits) == 1:
                raise Empty
            return PICTURE

    monkeypatch.setattr(queue, "_queue", Frozen())
    assert queue.take(NS // 2) is PICTURE
    assert waits == [0.1, 0.1]


def test_closed_queue_ends_and_takes_nothing_more() -> None:
    queue = intake()
    queue.put(b"x", 0)
    queue.close()
    queue.put(b"y", 1)
    queue.fail("late")
    assert queue.take(NS) is None
    assert queue.take(NS) is None


def test_output_is_of_the_librarys_class_and_leaves_sound_alone() -> None:
    queue = intake()
    output = enqueue_only(Output, queue)
    assert isinstance(output, Output)
    output.outputframe(None, True, 7, object(), True)
    output.outputframe(b"picture", keyframe=False, timestamp=8)
    picture = queue.take(SOON_NS)
    assert picture is not None
    assert picture.timestamp_us == 8
    with pytest.raises(SourceError):
        queue.take(SOON_NS)
