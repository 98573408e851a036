import threading

import pytest

from agent.clock import NS
from agent.media.packet import Kind, Packet
from agent.media.ring import Ring
from agent.recorder.feed import Feed
from agent.recorder.writing.writer import Wait
from tests.support.packets import audio, scene, video
from tests.support.rig import Rig

PATIENCE_S = 20.0
NEVER_NS = 1 << 62


class Bell(threading.Condition):
    """Tells when somebody begins to wait, before the lock is given back."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock)
        self.waited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.set()
        return super().wait(timeout)


class Sleeper:
    """A feed, and a thread that waits at it as the writer does."""

    def __init__(self) -> None:
        self.feed = Feed(Ring(5 * NS, 1 << 20))
        self.bell = self.feed._wake = Bell(self.feed._lock)
        self._woken = threading.Event()

    def sleep(self, until_ns: int) -> None:
        def wait() -> None:
            self.feed.wait(None, until_ns)
            self._woken.set()

        threading.Thread(target=wait, daemon=True).start()
        assert self.bell.waited.wait(PATIENCE_S)

    @property
    def called(self) -> bool:
        """True if nothing more is needed for the thread to wake."""
        with self.feed._lock:
            return self.feed._woken or self._woken.is_set()

    def wakes(self) -> bool:
        return self._woken.wait(PATIENCE_S)


def test_only_a_packet_of_the_time_waited_for_wakes_the_writer() -> None:
    sleeper = Sleeper()
    sleeper.sleep(until_ns=NS)
    sleeper.feed.put(video(0.5, key=True))
    assert not sleeper.called
    sleeper.feed.put(audio(1.0))
    assert sleeper.wakes()


def test_wake_up_wakes_the_writer_whatever_it_waits_for() -> None:
    sleeper = Sleeper()
    sleeper.sleep(until_ns=NEVER_NS)
    sleeper.feed.wake_writer()
    assert sleeper.wakes()


def test_start_wakes_the_writer_whatever_it_waits_for() -> None:
    sleeper = Sleeper()
    sleeper.sleep(until_ns=NEVER_NS)
    sleeper.feed.start(0)
    assert sleeper.wakes()


def test_packet_that_came_in_while_the_writer_worked_is_looked_at_at_once() -> None:
    sleeper = Sleeper()
    sleeper.feed.put(video(0.5, key=True))
    sleeper.feed.wait(None, NEVER_NS)
    assert not sleeper.bell.waited.is_set()


class SleepyWriter:
    """Works only when it would be woken, and counts how often."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.rest = Wait(None, NEVER_NS)
        self.slept_ns = 0
        self.steps = 0

    def step(self) -> None:
        self.rest = self.rig.writer.step()
        self.slept_ns = self.rig.clocks.now_ns
        self.steps += 1

    def let_time_pass(self, until_ns: int) -> None:
        while self.rest.seconds is not None and self.slept_ns + round(self.rest.seconds * NS) <= until_ns:
            self.rig.clocks.now_ns = self.slept_ns + round(self.rest.seconds * NS)
            self.step()
        self.rig.clocks.now_ns = until_ns

    def take(self, packet: Packet) -> None:
        self.let_time_pass(packet.time_ns)
        self.rig.feed.put(packet)
        if packet.time_ns >= self.rest.until_ns:
            self.step()


def newest_durable_ns(rig: Rig) -> int:
    rates = {Kind.VIDEO: 30_000, Kind.AUDIO: 48_000}
    return max(sample.ticks * NS // rates[sample.kind] for sample in rig.recorded())


@pytest.mark.parametrize("fps", [2, 12, 25, 30, 60])
@pytest.mark.parametrize("sound", [True, False])
def test_writer_that_sleeps_as_long_as_it_may_stays_a_fragment_behind_and_is_not_woken_by_each_packet(
    fps: int, sound: bool
) -> None:
    rig = Rig()
    packets = [p for p in scene(6, fps=fps) if sound or p.kind is Kind.VIDEO]
    longest_s = 1024 / 48_000 if sound else 1 / fps
    rig.declare(packets)
    rig.start(0)
    writer = SleepyWriter(rig)
    writer.step()
    for packet in packets:
        writer.take(packet)
        if packet.time_ns > NS and packet.time_ns % NS < NS // 10:
            assert packet.time_ns - newest_durable_ns(rig) <= (0.25 + 2 * longest_s) * NS
    fragments = 6 * 5
    assert writer.steps <= 2 * fragments + 5


def test_source_that_falls_silent_has_its_last_packets_stored_within_a_quarter_of_a_second() -> None:
    rig = Rig()
    packets = scene(3.37)
    rig.declare(packets)
    rig.start(0)
    writer = SleepyWriter(rig)
    writer.step()
    for packet in packets:
        writer.take(packet)
    writer.let_time_pass(packets[-1].time_ns + NS // 4)
    assert newest_durable_ns(rig) == packets[-1].time_ns


def test_writer_that_is_closed_ends_as_soon_as_all_is_stored() -> None:
    rig = Rig()
    packets = scene(2)
    rig.declare(packets)
    rig.play(packets, step=False)
    rig.start(2)
    rig.writer.start()
    rig.writer.close(PATIENCE_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "writer"]
    assert rig.manifest(1).ended == "interrupted"


def test_writer_without_a_recording_is_not_woken_by_packets() -> None:
    rig = Rig()
    writer = SleepyWriter(rig)
    writer.step()
    for packet in scene(3):
        writer.take(packet)
    assert writer.steps == 1


def test_sound_that_comes_later_than_pictures_lies_before_them_in_the_ring() -> None:
    ring = Ring(5 * NS, 1 << 20)
    feed = Feed(ring, interleave_ns=NS // 5)
    packets = sorted(scene(2.0), key=lambda p: p.time_ns + (NS // 12 if p.kind is Kind.AUDIO else 0))
    for packet in packets:
        feed.put(packet)
    feed.flush()
    times = [packet.time_ns for packet in ring.read(0, 1000)]
    assert len(times) == len(packets)
    assert times[8:] == sorted(times[8:])


def test_what_waits_for_its_order_when_a_mute_begins_was_taken_before_and_what_comes_then_never_waits() -> None:
    ring = Ring(5 * NS, 1 << 20)
    feed = Feed(ring, interleave_ns=NS // 5)
    feed.put(video(0.0, key=True))
    feed.put(audio(0.0))
    feed.put(audio(0.02))
    assert [packet.kind for packet in ring.read(0, 10)].count(Kind.AUDIO) == 1
    feed.suppress(frozenset({Kind.AUDIO}))
    assert [packet.kind for packet in ring.read(0, 10)].count(Kind.AUDIO) == 2
    assert not feed.accepts(Kind.AUDIO)
    assert not feed.put(audio(0.04))
    feed.suppress(frozenset())
    for picture in (video(0.1), video(0.4), video(0.5)):
        feed.put(picture)
    feed.flush()
    assert [packet.kind for packet in ring.read(0, 10)].count(Kind.AUDIO) == 2
