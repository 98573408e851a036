"""A camera library that hangs, flaps or races: it may cost pictures, never the thread that looks after it."""

import threading
from collections.abc import Iterator
from dataclasses import replace

from agent.clock import NS
from agent.core.recording.events import Event, SourceFailed, SourceRecovered
from agent.errors import SourceError
from agent.media.packet import Kind, Packet, Stream
from agent.media.ring import Ring
from agent.recorder.feed import Feed
from agent.recorder.supervisor import HANGING_NS, MAX_HANGING, Supervisor
from tests.support.clocks import FakeClocks
from tests.support.packets import video, video_stream

PATIENCE_S = 10.0


class Opened:
    """An opened source, driven by the test: it waits for packets, and may hang when it is closed."""

    def __init__(self, *, hangs_on_close: bool = False) -> None:
        self.streams: tuple[Stream, ...] = (video_stream(),)
        self._packets: list[Packet] = []
        self._more = threading.Semaphore(0)
        self.taken = threading.Semaphore(0)
        self._hangs = hangs_on_close
        self.release = threading.Event()

    def give(self, packet: Packet) -> None:
        self._packets.append(packet)
        self._more.release()
        assert self.taken.acquire(timeout=PATIENCE_S)

    def break_(self) -> None:
        self._more.release()

    def __iter__(self) -> Iterator[Packet]:
        while True:
            self._more.acquire()
            if not self._packets:
                raise SourceError("the cable is loose")
            yield self._packets.pop(0)
            self.taken.release()

    def close(self) -> None:
        if self._hangs:
            self.release.wait(PATIENCE_S)


class Camera:
    """A source whose openings are the test's; `hang` keeps `open` from returning."""

    name = "camera"

    def __init__(self, *, hang: bool = False, hangs_on_close: bool = False) -> None:
        self.hang = hang
        self._hangs_on_close = hangs_on_close
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)
        self.openings: list[Opened] = []

    def open(self, generation: int) -> Opened:
        assert generation > 0
        self.asked.release()
        if self.hang:
            self.go.wait(PATIENCE_S)
        opened = Opened(hangs_on_close=self._hangs_on_close)
        self.openings.append(opened)
        return opened


class Watched:
    """A supervisor with its surroundings."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.clocks = FakeClocks()
        self.told: list[Event] = []
        self.feed = Feed(Ring(5 * NS, 1 << 20))
        self.supervisor = Supervisor(camera, self.feed, self.clocks.monotonic_ns, self.told.append, live=False)

    def failures(self) -> list[str]:
        return [event.problem for event in self.told if isinstance(event, SourceFailed)]

    def until_open(self, number: int) -> Opened:
        """Watch until the source was opened that often, and is being read."""
        self.supervisor.watch()
        assert self.camera.asked.acquire(timeout=PATIENCE_S)
        for thread in threading.enumerate():
            if thread.name == f"source-{number}":
                while len(self.camera.openings) < number:
                    thread.join(0.001)
        return self.camera.openings[number - 1]


def in_time(work: threading.Thread) -> bool:
    work.start()
    work.join(PATIENCE_S / 4)
    return not work.is_alive()


def test_camera_library_that_hangs_while_opening_delays_nobody_and_is_reported() -> None:
    watched = Watched(Camera(hang=True))
    assert in_time(threading.Thread(target=watched.supervisor.watch, daemon=True))
    watched.clocks.now_ns = HANGING_NS + 1
    watched.supervisor.watch()
    assert len(watched.failures()) == 1
    assert "hang" in watched.failures()[0]
    watched.camera.go.set()


def test_camera_library_that_always_hangs_is_not_given_ever_more_threads() -> None:
    watched = Watched(Camera(hang=True))
    for _ in range(100):
        watched.supervisor.watch()
        watched.clocks.now_ns += HANGING_NS // 2
    assert watched.supervisor.generation <= MAX_HANGING
    watched.camera.go.set()


def test_camera_library_that_hangs_while_closing_does_not_keep_what_is_in_memory_from_storage() -> None:
    watched = Watched(Camera(hangs_on_close=True))
    opened = watched.until_open(1)
    opened.give(video(0.0, key=True))
    assert in_time(threading.Thread(target=watched.supervisor.close, daemon=True))
    opened.release.set()
    opened.break_()


def test_track_that_appears_while_silence_is_looked_for_ends_no_thread() -> None:
    watched = Watched(Camera())
    opened = watched.until_open(1)
    opened.give(video(0.0, key=True))
    run = watched.supervisor._run
    assert run is not None
    sound = replace(run.tracks[Kind.VIDEO])

    def appears(_event: Event) -> None:
        run.tracks.setdefault(Kind.AUDIO, sound)

    watched.supervisor._put = appears
    watched.clocks.now_ns = 5 * NS
    watched.supervisor.watch()
    opened.break_()


def test_loose_camera_cable_does_not_flood_the_journal() -> None:
    watched = Watched(Camera())
    for number in range(1, 30):
        opened = watched.until_open(number)
        opened.give(video(number, key=True))
        opened.break_()
        for thread in threading.enumerate():
            if thread.name == f"source-{number}":
                thread.join(PATIENCE_S)
        watched.supervisor.watch()  # notices
        while watched.clocks.now_ns < watched.supervisor._next_ns:
            watched.clocks.now_ns += NS // 10
    told = [event for event in watched.told if isinstance(event, SourceFailed | SourceRecovered)]
    seconds = watched.clocks.now_ns / NS
    assert len(told) <= 2 * seconds + 10, f"{len(told)} lines in {seconds:.0f} s"
