import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.core.recording.events import Event, SourceFailed, SourceRecovered
from agent.errors import SourceError
from agent.journal import entries
from agent.media.packet import Kind, Packet, Stream
from agent.media.ring import Ring
from agent.recorder.feed import Feed
from agent.recorder.supervisor import BACKOFF_NS, SILENCE_NS, STEADY_NS, Supervisor
from tests.support.clocks import FakeClocks
from tests.support.device import Device
from tests.support.packets import AUDIO, VIDEO, audio, video
from tests.support.rig import Rig, of, plain

PATIENCE_S = 60.0
FRAME_S = 1 / 30


class Opening:
    """One opening of a camera: the test says packet by packet what comes of it, and how it ends."""

    def __init__(self, generation: int, epoch_ns: int, kinds: tuple[Kind, ...]) -> None:
        parameters = {Kind.VIDEO: VIDEO, Kind.AUDIO: AUDIO}
        self.streams = tuple(Stream(parameters[kind], generation, epoch_ns) for kind in kinds)
        self.closed = threading.Event()
        self.on_close: Callable[[], None] = lambda: None
        self.thread = threading.current_thread()
        self._script: list[Packet | BaseException | None] = []
        self._changed = threading.Condition()
        self._idle = False

    def __iter__(self) -> Iterator[Packet]:
        try:
            while True:
                item = self._next()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            with self._changed:
                self._idle = True
                self._changed.notify_all()

    def _next(self) -> Packet | BaseException | None:
        with self._changed:
            self._idle = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._script)
            self._idle = False
            return self._script.pop(0)

    def close(self) -> None:
        self.closed.set()
        self.on_close()

    def settle(self) -> None:
        """Until all that was given is handled, or nobody asks any more."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._idle, PATIENCE_S)

    def give(self, item: Packet | BaseException | None) -> None:
        with self._changed:
            self._script.append(item)
            self._idle = False
            self._changed.notify_all()
        self.settle()

    def ended(self) -> None:
        """Until its thread has."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


class Adjusting(Opening):
    """An opening whose encoder takes bit rates."""

    def __init__(self, generation: int, epoch_ns: int, kinds: tuple[Kind, ...]) -> None:
        super().__init__(generation, epoch_ns, kinds)
        self.rates: list[int] = []

    def set_bit_rate(self, bits_per_second: int) -> bool:
        self.rates.append(bits_per_second)
        return True


OPENED: list[Opening] = []


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for opening in OPENED:
        if opening.thread.is_alive():
            opening.give(None)
        opening.ended()
    OPENED.clear()


class Camera:
    """A source of openings that the test drives; `refuse` keeps it from opening."""

    name = "camera"

    def __init__(self, now_ns: Callable[[], int], kinds: tuple[Kind, ...]) -> None:
        self.refuse: BaseException | None = None
        self.openings: list[Opening] = []
        self.tries: list[int] = []
        self.kind: type[Opening] = Opening
        self._now_ns = now_ns
        self._kinds = kinds
        self._asked = threading.Semaphore(0)

    def open(self, generation: int) -> Opening:
        self.tries.append(self._now_ns())
        self.thread = threading.current_thread()
        if self.refuse is None:
            self.openings.append(self.kind(generation, self._now_ns(), self._kinds))
            OPENED.append(self.openings[-1])
        self._asked.release()
        if self.refuse is not None:
            raise self.refuse
        return self.openings[-1]

    def asked(self) -> None:
        """Until it was opened, and is read from, or has refused."""
        assert self._asked.acquire(timeout=PATIENCE_S)
        if self.refuse is None:
            self.openings[-1].settle()
        else:
            self.thread.join(PATIENCE_S)


class Bench:
    """A supervisor, its camera and its feed, on a clock that the test drives."""

    def __init__(self, *, kinds: tuple[Kind, ...] = (Kind.VIDEO, Kind.AUDIO), feed: Feed | None = None) -> None:
        self.clocks = FakeClocks(monotonic_ns=100 * NS)
        self.camera = Camera(self.clocks.monotonic_ns, kinds)
        self.told: list[Event] = []
        self.feed = feed or Feed(Ring(600 * NS, 64 << 20))
        self.supervisor = Supervisor(self.camera, self.feed, self.clocks.monotonic_ns, self.told.append)

    def watch(self) -> None:
        """A look, and what it sets off."""
        before = self.supervisor.generation
        self.supervisor.watch()
        if self.supervisor.generation > before:
            self.camera.asked()

    def open(self) -> Opening:
        """Until it is open."""
        count = len(self.camera.openings)
        for _ in range(200):
            self.watch()
            if len(self.camera.openings) > count:
                return self.camera.openings[-1]
            self.clocks.advance(0.05)
        raise AssertionError("it was not opened again")

    def picture(self, opening: Opening, *, key: bool = False, at_s: float = 0.0) -> Packet:
        """A picture of now."""
        stream = opening.streams[0]
        now_s = (self.clocks.now_ns - stream.epoch_ns) / NS
        packet = video(now_s + at_s, key=key, stream=stream)
        opening.give(packet)
        return packet

    def sound(self, opening: Opening) -> Packet:
        stream = opening.streams[-1]
        packet = audio((self.clocks.now_ns - stream.epoch_ns) / NS, stream=stream)
        opening.give(packet)
        return packet

    def deliver(self, opening: Opening, seconds: float, *, sound: bool = True, pictures: bool = True) -> list[Packet]:
        """A healthy camera for some time, looked after all the while."""
        given = []
        for number in range(round(seconds / FRAME_S)):
            self.clocks.advance(FRAME_S)
            if pictures:
                given.append(self.picture(opening, key=number % 30 == 0))
            if sound:
                given.append(self.sound(opening))
            self.watch()
        return given

    def end(self, opening: Opening, how: BaseException | None) -> None:
        """The opening ends, and its thread with it."""
        opening.give(how)
        opening.ended()

    def failures(self) -> list[SourceFailed]:
        return [event for event in self.told if isinstance(event, SourceFailed)]

    def gaps(self) -> list[SourceRecovered]:
        return [event for event in self.told if isinstance(event, SourceRecovered)]


ENDS: list[BaseException | None] = [
    None,
    SourceError("expected the camera's next frame, its cable was pulled"),
    SourceError(""),
    ValueError("odd"),
    OSError(19, "No such device"),
    KeyError("frame"),
    AssertionError(),
    MemoryError(),
    RuntimeError("generator raised StopIteration"),
]


@pytest.mark.parametrize("how", ENDS, ids=repr)
def test_source_that_ends_or_raises_whatever_it_likes_is_reopened_and_the_gap_is_reported_once(
    how: BaseException | None,
) -> None:
    bench = Bench()
    first = bench.open()
    last = bench.deliver(first, 3)[-2:]
    bench.end(first, how)
    second = bench.open()
    assert first.closed.wait(PATIENCE_S)
    bench.deliver(second, 3)
    assert len(bench.failures()) == 1
    assert bench.failures()[0].problem
    assert bench.failures()[0].track == "both"
    by_kind = {gap.track: gap for gap in bench.gaps()}
    assert len(bench.gaps()) == len(by_kind) == 2
    for packet in last:
        gap = by_kind[packet.kind]
        lasts_ns = packet.duration * NS // packet.stream.parameters.timescale
        assert abs(gap.from_ns - (packet.time_ns + lasts_ns)) <= 1_000
        assert gap.from_ns < gap.at_ns <= gap.from_ns + NS


def test_healthy_source_is_opened_once_and_nothing_is_reported() -> None:
    bench = Bench()
    given = bench.deliver(bench.open(), 10)
    assert bench.told == []
    assert bench.supervisor.delivering
    assert bench.supervisor.generation == 1
    assert bench.feed.read(0, 1 << 20)[1] == given


def test_source_that_hangs_in_the_middle_is_abandoned_and_its_packets_are_ignored() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 2)
    bench.clocks.advance(SILENCE_NS / NS + 0.01)
    bench.watch()
    assert [event.track for event in bench.failures()][:1] == ["video"]
    assert not bench.supervisor.delivering
    second = bench.open()
    taken = bench.feed.packets
    bench.picture(first)  # the library wakes up after all
    first.ended()
    assert bench.feed.packets == taken
    bench.deliver(second, 1)
    assert bench.feed.packets > taken
    assert {packet.stream.generation for packet in bench.feed.read(0, 1 << 20)[1][-20:]} == {2}
    assert len([gap for gap in bench.gaps() if gap.track == Kind.VIDEO]) == 1


@pytest.mark.parametrize("by_s", [-5.0, 5.0, 3600.0, -3600.0])
def test_source_whose_time_jumps_is_reopened_and_the_packet_is_not_taken(by_s: float) -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 3)
    taken = bench.feed.packets
    bench.clocks.advance(FRAME_S)
    bench.picture(first, at_s=by_s)
    first.ended()
    bench.watch()
    assert bench.feed.packets == taken
    assert "jump" in bench.failures()[0].problem or "back" in bench.failures()[0].problem
    bench.deliver(bench.open(), 2)
    assert len(bench.gaps()) == 2


def test_time_that_stands_still_or_goes_back_by_a_tick_is_a_failure() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 1)
    bench.picture(first)
    first.ended()
    bench.watch()
    assert "went back" in bench.failures()[0].problem


def test_source_whose_clock_is_a_little_off_is_taken_as_it_is() -> None:
    bench = Bench()
    first = bench.open()
    for number in range(30):
        bench.clocks.advance(FRAME_S)
        bench.picture(first, key=not number, at_s=1.5)
    assert bench.failures() == []


def test_changed_parameters_are_declared_and_restart_nothing() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 1)
    other = Stream(replace(VIDEO, width=1280, height=720), 1, bench.clocks.now_ns)
    bench.clocks.advance(FRAME_S)
    first.give(video(0.0, key=True, stream=other))
    assert bench.feed.streams.video == other
    assert bench.told == []
    assert bench.supervisor.generation == 1


def test_silent_camera_is_reopened_though_sound_continues() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 2)
    bench.deliver(first, 0.9, pictures=False)
    assert bench.told == []
    for _ in range(10):
        bench.clocks.advance(FRAME_S)
        bench.watch()
    assert [event.track for event in bench.failures()] == ["video"]
    assert len(bench.camera.openings) == 2


def test_dead_microphone_never_restarts_the_camera() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 2)
    bench.deliver(first, 60, sound=False)
    assert [event.track for event in bench.failures()] == ["audio"]
    assert bench.supervisor.generation == 1
    assert not first.closed.is_set()
    bench.deliver(first, 1)
    assert [gap.track for gap in bench.gaps()] == ["audio"]
    assert bench.gaps()[0].at_ns - bench.gaps()[0].from_ns > 59 * NS


def test_microphone_alone_is_supervised_too() -> None:
    bench = Bench(kinds=(Kind.AUDIO,))
    first = bench.open()
    bench.deliver(first, 1, pictures=False)
    bench.clocks.advance(1.1)
    bench.watch()
    assert [event.track for event in bench.failures()] == ["audio"]
    assert bench.open() is not first


def test_camera_that_cannot_be_opened_is_reported_once_and_tried_at_least_once_a_second_for_ever() -> None:
    bench = Bench()
    bench.camera.refuse = SourceError("expected a camera, it was unplugged")
    for _ in range(20 * 60):
        bench.watch()
        bench.clocks.advance(0.05)
    tries = bench.camera.tries
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses[0] < NS // 2
    assert max(pauses) <= BACKOFF_NS[-1] + NS // 5
    assert pauses == sorted(pauses)
    assert len(bench.failures()) == 1
    assert not bench.supervisor.delivering
    bench.camera.refuse = None
    bench.deliver(bench.open(), 1)
    assert bench.supervisor.delivering


@pytest.mark.parametrize("error", [RuntimeError("odd"), OSError(16, "busy"), ImportError("libcamera"), KeyError(1)])
def test_camera_library_that_raises_anything_while_opening_ends_nothing(error: BaseException) -> None:
    bench = Bench()
    bench.camera.refuse = error
    for _ in range(100):
        bench.watch()
        bench.clocks.advance(0.1)
    assert len(bench.failures()) == 1
    assert type(error).__name__ in bench.failures()[0].problem
    bench.camera.refuse = None
    bench.deliver(bench.open(), 1)
    assert bench.supervisor.delivering


def test_camera_that_opens_and_delivers_nothing_is_reported_once_however_long_it_lasts() -> None:
    bench = Bench()
    for _ in range(20 * 120):
        bench.watch()
        bench.clocks.advance(0.05)
    assert bench.supervisor.generation > 30
    assert len(bench.failures()) == 2  # pictures and sound
    assert {event.track for event in bench.failures()} == {"video", "audio"}
    began = bench.camera.tries[0]
    bench.deliver(bench.open(), 3)
    assert sorted(gap.track for gap in bench.gaps()) == ["audio", "video"]
    assert all(gap.from_ns == began for gap in bench.gaps())


def test_camera_that_fails_after_each_picture_is_tried_at_growing_intervals() -> None:
    bench = Bench()
    for _ in range(20):
        opening = bench.open()
        bench.deliver(opening, FRAME_S)
        bench.end(opening, SourceError("loose"))
    tries = bench.camera.tries
    assert tries[-1] - tries[-2] >= BACKOFF_NS[-1]
    opening = bench.open()
    bench.deliver(opening, STEADY_NS / NS + 1)
    bench.end(opening, SourceError("loose"))
    before = bench.clocks.now_ns
    bench.open()
    assert bench.clocks.now_ns - before < NS // 4


def test_camera_that_cannot_be_closed_is_reopened_all_the_same() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 1)

    def odd() -> None:
        raise RuntimeError("can't be closed")

    first.on_close = odd
    bench.end(first, None)
    second = bench.open()
    bench.deliver(second, 1)
    second.on_close = odd
    bench.supervisor.close()
    assert second.closed.wait(PATIENCE_S)


def test_closed_supervisor_opens_nothing_more() -> None:
    bench = Bench()
    first = bench.open()
    bench.deliver(first, 1)
    bench.supervisor.close()
    assert first.closed.wait(PATIENCE_S)
    taken = bench.feed.packets
    bench.picture(first)
    first.ended()
    for _ in range(100):
        bench.clocks.advance(0.1)
        bench.watch()
    assert bench.supervisor.generation == 1
    assert bench.feed.packets == taken


# -- what it means for the recording ----------------------------------------------------------------------------------


def test_source_that_is_reopened_at_once_loses_no_packet_of_either_opening() -> None:
    """Two openings within one fragment's length: their times count from different moments."""
    rig = Rig()
    bench = Bench(feed=rig.feed)
    rig.clocks.now_ns = bench.clocks.now_ns
    first = bench.open()
    rig.start(bench.clocks.now_ns / NS)
    given = bench.deliver(first, 1.57)
    bench.end(first, SourceError("loose"))
    second = bench.open()
    given += bench.deliver(second, 2)
    rig.clocks.now_ns = bench.clocks.now_ns
    rig.writer.step()
    rig.stop(bench.clocks.now_ns / NS)
    rig.settle(3)
    assert [event for event in rig.events if type(event).__name__ == "WriterFault"] == []
    for kind in Kind:
        mine = [packet for packet in given if packet.kind is kind]
        assert [item[3] for item in of(rig.recorded(), kind)] == [item[3] for item in plain(mine)]


def test_recorder_whose_camera_never_opens_stays_up_and_shows_it() -> None:
    device = Device()
    camera = Camera(device.clocks.monotonic_ns, (Kind.VIDEO,))
    camera.refuse = SourceError("expected a camera, there is none")
    supervisor = Supervisor(camera, device.recorder.feed, device.clocks.monotonic_ns, device.recorder.control.put)
    device.recorder.supervisors.append(supervisor)
    for _ in range(100):
        before = supervisor.generation
        supervisor.watch()
        if supervisor.generation > before:
            camera.asked()
        device.clocks.advance(0.1)
        device.settle()
    assert device.signals.lights is Background.FAULT
    assert device.signals.shown.count(Signal.FAULT) == 1
    failed = device.entries(entries.SourceFailed)
    assert len(failed) == 1
    status = device.recorder.status()
    assert (status.mode, status.source_delivering) == ("fault", False)
    device.press("record", times=2)
    assert device.recording  # a start is never refused
    assert device.entries(entries.RecordingStarted)


def test_bit_rate_is_asked_of_the_open_source_and_of_those_to_come() -> None:
    bench = Bench()
    bench.camera.kind = Adjusting
    assert not bench.supervisor.set_bit_rate(2_000_000)  # nothing is open yet
    first = bench.open()
    assert isinstance(first, Adjusting)
    assert bench.supervisor.set_bit_rate(1_000_000)
    assert first.rates == [2_000_000, 1_000_000]
    first.give(SourceError("unplugged"))
    second = bench.open()
    assert isinstance(second, Adjusting)
    assert second.rates == [1_000_000]
    assert bench.supervisor.set_bit_rate(0)
    second.give(SourceError("unplugged"))
    third = bench.open()
    assert isinstance(third, Adjusting)
    assert third.rates == []


def test_source_that_takes_no_bit_rate_continues_as_it_is() -> None:
    bench = Bench()
    opening = bench.open()
    assert not bench.supervisor.set_bit_rate(1_000_000)
    assert bench.deliver(opening, 1)


@pytest.mark.parametrize(("track", "kind"), [("video", Kind.VIDEO), ("audio", Kind.AUDIO)])
def test_source_that_was_never_there_is_named_by_what_it_is_for_and_its_coming_is_a_gap(track: str, kind: Kind) -> None:
    bench = Bench(kinds=(kind,))
    bench.supervisor = Supervisor(bench.camera, bench.feed, bench.clocks.monotonic_ns, bench.told.append, track=track)
    bench.camera.refuse = SourceError("no such device")
    for _ in range(40):
        bench.watch()
        bench.clocks.advance(0.1)
    assert [event.track for event in bench.failures()] == [track]
    failed_ns = bench.failures()[0].at_ns
    bench.camera.refuse = None
    opening = bench.open()
    packet = bench.picture(opening, key=True) if kind is Kind.VIDEO else bench.sound(opening)
    assert [(gap.track, gap.from_ns, gap.at_ns) for gap in bench.gaps()] == [(track, failed_ns, packet.time_ns)]
