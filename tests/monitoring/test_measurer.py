import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from agent.media.packet import Packet
from agent.monitoring.lens import LensState, View
from agent.monitoring.measurements import Fact, Measurements, WindowMeasured
from agent.monitoring.measurer import Measurer
from agent.monitoring.speech import NOTHING
from tests.support import sounds, views
from tests.support.clocks import FakeClocks
from tests.support.views import HEIGHT, WIDTH, at

WAIT_S = 20.0


@contextmanager
def measuring(
    report: Callable[[Fact], None], clocks: FakeClocks, *, decode_pictures: bool = True, capacity: int = 5000
) -> Iterator[Measurer]:
    measurer = Measurer(report, clocks.monotonic_ns, decode_pictures=decode_pictures, capacity=capacity)
    measurer.start()
    try:
        yield measurer
    finally:
        assert measurer.close(WAIT_S)


@pytest.fixture(scope="module")
def said() -> list[Packet]:
    """Seven seconds of speech."""
    return sounds.encoded(sounds.speech())


def test_a_spoken_reason_is_reported_beside_the_recording(said: list[Packet]) -> None:
    facts: queue.Queue[Fact] = queue.Queue()
    with measuring(facts.put, FakeClocks()) as measurer:
        measurer.listen(at(0.5), at(6))
        for packet in said:
            measurer.put(packet)
        fact = facts.get(timeout=WAIT_S)

    assert isinstance(fact, WindowMeasured)
    assert fact.speech.heard
    assert (measurer.dropped, measurer.undecodable, measurer.failed) == (0, 0, 0)


def test_a_window_without_a_microphone_is_answered_by_the_recorders_clock() -> None:
    facts: queue.Queue[Fact] = queue.Queue()
    clocks = FakeClocks()
    with measuring(facts.put, clocks) as measurer:
        measurer.listen(at(0), at(10))
        clocks.advance(11.5)

        assert facts.get(timeout=WAIT_S) == WindowMeasured(at(0), at(10), NOTHING)


def test_a_covered_low_resolution_stream_is_reported_though_its_memory_is_reused() -> None:
    facts: queue.Queue[Fact] = queue.Queue()
    memory = bytearray(views.street())
    with measuring(facts.put, FakeClocks(), decode_pictures=False) as measurer:
        for number in range(8):
            memory[:] = views.street(moved=3 * number) if number < 4 else views.black()
            measurer.look(memoryview(memory), WIDTH, HEIGHT, at(0.5 * number))
            memory[:] = views.black()

        assert facts.get(timeout=WAIT_S) == LensState(View.COVERED, at(2))


def test_a_measurer_that_falls_behind_drops_and_counts_and_delays_nobody(said: list[Packet]) -> None:
    busy, go_on = threading.Event(), threading.Event()
    facts: queue.Queue[Fact] = queue.Queue()

    def report(fact: Fact) -> None:
        facts.put(fact)
        busy.set()
        assert go_on.wait(WAIT_S)

    with measuring(report, FakeClocks(at(20)), capacity=10) as measurer:
        measurer.listen(at(0), at(1))  # over already: answered by the clock, which the receiver holds up
        assert busy.wait(WAIT_S)
        for packet in said[:35]:
            measurer.put(packet)
        assert measurer.dropped == 25
        measurer.listen(at(100), at(101))
        measurer.listen(at(200), at(201))
        go_on.set()
        # Questions are not dropped, however much waits.
        answered = [facts.get(timeout=WAIT_S) for _ in range(2)]

    assert [fact.from_ns for fact in answered if isinstance(fact, WindowMeasured)] == [at(0), at(100)]


def test_pictures_that_depend_on_others_do_not_wait_in_line() -> None:
    packets = views.encoded([views.street()] * 20, gop=10)
    measurer = Measurer(lambda _: None, FakeClocks().monotonic_ns, capacity=2)
    for packet in packets:
        measurer.put(packet)

    assert [packet.key for packet in packets].count(True) == 2
    assert measurer.dropped == 0
    assert measurer.close()


def test_key_pictures_are_left_alone_where_the_camera_gives_small_ones() -> None:
    measurer = Measurer(lambda _: None, FakeClocks().monotonic_ns, decode_pictures=False, capacity=0)
    measurer.put(views.encoded([views.street()])[0])

    assert measurer.dropped == 0


def test_a_picture_shorter_than_it_says_is_counted_and_nothing_is_raised() -> None:
    measurer = Measurer(lambda _: None, FakeClocks().monotonic_ns)
    measurer.look(bytes(100), 320, 180, 0)

    assert measurer.failed == 1
    assert "expected the brightness" in measurer.failure


def test_a_receiver_that_fails_ends_no_measuring() -> None:
    facts: queue.Queue[Fact] = queue.Queue()

    def report(fact: Fact) -> None:
        facts.put(fact)
        raise OSError("the recorder's queue is gone")

    with measuring(report, FakeClocks(at(60))) as measurer:
        measurer.listen(at(0), at(1))
        facts.get(timeout=WAIT_S)
        measurer.listen(at(2), at(3))
        facts.get(timeout=WAIT_S)

    assert measurer.failed == 2
    assert measurer.failure == "OSError: the recorder's queue is gone"


def test_a_measurement_that_fails_answers_what_is_open_and_restarts(
    said: list[Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: queue.Queue[Fact] = queue.Queue()
    take = Measurements.take

    def fails_once(_measurements: Measurements, _packet: Packet) -> list[Fact]:
        monkeypatch.setattr(Measurements, "take", take)
        raise MemoryError("no room")

    monkeypatch.setattr(Measurements, "take", fails_once)
    with measuring(facts.put, FakeClocks()) as measurer:
        measurer.listen(at(0), at(6))
        measurer.put(said[0])
        assert facts.get(timeout=WAIT_S) == WindowMeasured(at(0), at(6), NOTHING)
        measurer.listen(at(0.5), at(6))
        for packet in said:
            measurer.put(packet)
        again = facts.get(timeout=WAIT_S)

    assert isinstance(again, WindowMeasured)
    assert again.speech.heard
    assert (measurer.failed, measurer.failure) == (1, "MemoryError: no room")


def test_what_waits_at_the_end_is_not_looked_at() -> None:
    busy, go_on = threading.Event(), threading.Event()
    facts: queue.Queue[Fact] = queue.Queue()

    def report(fact: Fact) -> None:
        facts.put(fact)
        busy.set()
        assert go_on.wait(WAIT_S)

    measurer = Measurer(report, FakeClocks(at(20)).monotonic_ns)
    for number in range(4):
        measurer.listen(at(number), at(number + 1))
    measurer.start()
    assert busy.wait(WAIT_S)
    assert not measurer.close()
    go_on.set()

    assert measurer.close(WAIT_S)
    assert facts.qsize() == 1


def test_nothing_is_measured_after_the_end(said: list[Packet]) -> None:
    facts: queue.Queue[Fact] = queue.Queue()
    with measuring(facts.put, FakeClocks()) as measurer:
        pass
    measurer.listen(at(0), at(1))
    for packet in said:
        measurer.put(packet)

    assert facts.empty()
    assert measurer.close(WAIT_S), "any number of times"
