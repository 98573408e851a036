"""What is let into memory: the silent pre-event buffer, and what is withheld."""

import errno
import threading

from agent.clock import NS
from agent.core.recording.events import Cause, StartRequested
from agent.journal import entries
from agent.media.packet import Kind, Packet
from agent.media.ring import Ring
from agent.recorder.feed import Feed
from tests.support.device import Device
from tests.support.packets import audio, scene, video
from tests.support.storage import MemoryStorage, failing

BOTH = frozenset({Kind.VIDEO, Kind.AUDIO})


def feed(*, silent: bool = False) -> Feed:
    return Feed(Ring(30 * NS, 64 << 20), silent_pre_event=silent)


def held(of: Feed, kind: Kind) -> list[Packet]:
    return [packet for packet in of.read(0, 1 << 20)[1] if packet.kind is kind]


def play(into: Feed, from_s: float, to_s: float) -> None:
    for packet in scene(to_s):
        if from_s * NS <= packet.time_ns < to_s * NS:
            into.put(packet)


def times(packets: list[Packet]) -> tuple[float, float]:
    return packets[0].time_ns / NS, packets[-1].time_ns / NS


def test_silent_buffer_holds_pictures_and_no_sound() -> None:
    silent = feed(silent=True)
    play(silent, 0, 5)
    assert held(silent, Kind.VIDEO)
    assert not held(silent, Kind.AUDIO)
    assert silent.newest_ns(Kind.AUDIO) is not None  # the microphone is seen to live all the same


def test_sound_is_accepted_from_the_start_on() -> None:
    silent = feed(silent=True)
    play(silent, 0, 5)
    silent.start(5 * NS)
    play(silent, 5, 6)
    first, last = times(held(silent, Kind.AUDIO))
    assert first >= 5
    assert last > 5.9


def test_sound_after_the_end_of_a_recording_enters_no_silent_buffer_also_while_storage_has_not_taken_it_all() -> None:
    silent = feed(silent=True)
    cursor = silent.start(0)
    play(silent, 0, 3)
    silent.end_at(2 * NS)
    play(silent, 3, 10)  # the writer has not finished: its cursor still holds the ring
    assert held(silent, Kind.AUDIO)[-1].time_ns < 3 * NS
    silent.remove_cursor(cursor)
    play(silent, 10, 12)
    assert held(silent, Kind.AUDIO)[-1].time_ns < 3 * NS
    silent.start(12 * NS)
    play(silent, 12, 13)
    assert held(silent, Kind.AUDIO)[-1].time_ns > 12.9 * NS


def test_sound_from_before_the_end_that_comes_after_it_was_decided_is_kept() -> None:
    silent = feed(silent=True)
    silent.start(0)
    play(silent, 0, 2)
    silent.end_at(round(2.5 * NS))
    play(silent, 2, 4)
    _, last = times(held(silent, Kind.AUDIO))
    assert 2.45 < last < 2.5


def test_recording_that_follows_at_once_has_its_sound() -> None:
    silent = feed(silent=True)
    first = silent.start(0)
    play(silent, 0, 2)
    silent.end_at(2 * NS)
    silent.start(round(2.1 * NS))
    silent.remove_cursor(first)
    play(silent, 2, 4)
    assert held(silent, Kind.AUDIO)[-1].time_ns > 3.9 * NS


def test_end_of_a_recording_changes_nothing_where_the_buffer_has_sound() -> None:
    loud = feed()
    loud.start(0)
    loud.end_at(NS)
    play(loud, 0, 3)
    assert held(loud, Kind.AUDIO)[-1].time_ns > 2.9 * NS


def test_nothing_that_is_suppressed_enters_memory_and_pictures_come_back_with_an_idr_picture() -> None:
    gate = feed()
    gate.start(0)
    play(gate, 0, 2)
    gate.suppress(BOTH)
    play(gate, 2, 4.5)
    assert times(held(gate, Kind.VIDEO))[1] < 2
    assert times(held(gate, Kind.AUDIO))[1] < 2
    gate.suppress(frozenset())
    play(gate, 4.5, 7)
    back = [packet for packet in held(gate, Kind.VIDEO) if packet.time_ns > 3 * NS]
    assert back[0].key
    assert back[0].time_ns == 5 * NS
    assert min(p.time_ns for p in held(gate, Kind.AUDIO) if p.time_ns > 3 * NS) < 4.6 * NS


def test_mute_lets_pictures_through_and_another_suppression_replaces_it() -> None:
    gate = feed()
    gate.start(0)
    gate.suppress(frozenset({Kind.AUDIO}))
    play(gate, 0, 1)
    assert held(gate, Kind.VIDEO)
    assert not held(gate, Kind.AUDIO)
    gate.suppress(frozenset({Kind.VIDEO}))
    play(gate, 1, 2)
    assert held(gate, Kind.AUDIO)
    assert times(held(gate, Kind.VIDEO))[1] < 1


def test_end_of_a_suppression_opens_no_silent_buffer() -> None:
    silent = feed(silent=True)
    silent.start(0)
    silent.suppress(BOTH)
    silent.end_at(0)
    play(silent, 0, 1)
    silent.suppress(frozenset())
    play(silent, 1, 2)
    assert not held(silent, Kind.AUDIO)


def test_start_while_sound_is_suppressed_opens_no_microphone() -> None:
    gate = feed(silent=True)
    gate.suppress(frozenset({Kind.AUDIO}))
    gate.start(0)
    play(gate, 0, 1)
    assert not held(gate, Kind.AUDIO)


def test_packets_of_several_threads_are_all_counted_and_none_is_lost() -> None:
    shared = feed()
    shared.put(video(0.0, key=True))
    threads = [threading.Thread(target=lambda: [shared.put(audio(n / 1000)) for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.packets == 2001
    assert len(shared.read(0, 1 << 20)[1]) == 2001


def test_silent_device_keeps_no_sound_of_standby_while_storage_refuses_the_last_recording() -> None:
    device = Device(pre_event_audio=False)
    device.run(6)
    device.press("record", times=2)
    device.run(3)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"sync", "write"}, errno.EIO, only=".seg")
    device.press("record", hold_s=3.2)
    ended = device.entries(entries.RecordingEnded)[0]
    assert isinstance(ended, entries.RecordingEnded)
    device.run(10)
    assert not device.recording
    assert device.recorder.writer.busy
    device.recorder.control.handle(StartRequested(device.clocks.now_ns, Cause.BUTTON))
    restarted_ns = device.clocks.now_ns
    storage.fault = failing(set(), 0)
    device.run(2)
    _, packets = device.recorder.feed.read(0, 1 << 20)
    sound = [packet.time_ns for packet in packets if packet.kind is Kind.AUDIO]
    assert not [at for at in sound if ended.at_us * 1000 + NS // 2 < at < restarted_ns]
    assert [at for at in sound if at > restarted_ns]
