"""The faults that other tests rely on do what their names say."""

import threading
from dataclasses import replace
from itertools import islice

import pytest

from agent.capture import Source
from agent.capture.pattern import PatternSettings, PatternSource
from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Kind, Packet
from tests.support import packets as made
from tests.support import sources as faults
from tests.support.containers import of_kind

SCENE = made.scene(3)


def healthy(times: int = 1) -> faults.ListSource:
    return faults.ListSource([SCENE] * times)


def seconds(packets: list[Packet], kind: Kind) -> list[float]:
    return [packet.time_ns / NS for packet in of_kind(packets, kind)]


def played(source: Source) -> list[Packet]:
    return list(source.open(1))


def test_list_source_stamps_generations_and_ends_with_an_error() -> None:
    source = healthy(2)
    assert list(source.open(1)) == SCENE
    second = source.open(2)
    assert {packet.stream for packet in second} == set(second.streams)
    assert [(stream.parameters.kind, stream.generation) for stream in second.streams] == [("video", 2), ("audio", 2)]
    with pytest.raises(SourceError, match="unplugged"):
        source.open(3)


def test_one_kind_stops_and_the_other_continues() -> None:
    dead = played(faults.microphone_dies(healthy(), 1))
    assert max(seconds(dead, Kind.AUDIO)) < 1
    assert seconds(dead, Kind.VIDEO) == seconds(SCENE, Kind.VIDEO)
    late = played(faults.sound_starts_late(healthy(), 1))
    assert 1 <= min(seconds(late, Kind.AUDIO)) < 1.03
    blind = played(faults.pictures_stop(healthy(), 1, until_s=2))
    assert not [at for at in seconds(blind, Kind.VIDEO) if 1 <= at < 2]
    assert len(of_kind(blind, Kind.AUDIO)) == len(of_kind(SCENE, Kind.AUDIO))


def test_everything_stops() -> None:
    gap = played(faults.silent_between(healthy(), 1, 2))
    assert not [packet for packet in gap if NS <= packet.time_ns < 2 * NS]
    assert gap[-1] == SCENE[-1]
    assert played(faults.ends(healthy(), 1))[-1].time_ns < NS
    broken = iter(faults.raises(healthy(), 1).open(1))
    with pytest.raises(SourceError, match="cable"):
        list(broken)


@pytest.mark.timeout(20)
def test_stalled_source_ends_only_when_it_is_closed() -> None:
    opening = faults.stalls(healthy(), 1).open(1)
    came: list[Packet] = []
    stalled = threading.Event()

    def consume() -> None:
        for packet in opening:
            came.append(packet)
            if packet == last:
                stalled.set()

    last = [packet for packet in SCENE if packet.time_ns < NS][-1]
    consumer = threading.Thread(target=consume)
    consumer.start()
    assert stalled.wait(10)
    opening.close()
    consumer.join(10)
    assert not consumer.is_alive()
    assert came[-1] == last


@pytest.mark.parametrize("by_s", [5.0, -0.5])
def test_time_jumps(by_s: float) -> None:
    jumped = played(faults.jumps(healthy(), 1, by_s))
    for before, after in zip(SCENE, jumped, strict=True):
        moved = round(by_s * before.stream.parameters.timescale) if before.time_ns >= NS else 0
        assert after.ticks == before.ticks + moved
        assert after.time_ns == after.stream.time_ns(after.ticks)


def test_pictures_jitter() -> None:
    late = of_kind(played(faults.jitters(healthy(), [0, 7])), Kind.VIDEO)
    on_time = of_kind(SCENE, Kind.VIDEO)
    assert [after.ticks - before.ticks for before, after in zip(on_time, late, strict=True)] == [0, 7] * 45


def test_parameters_change_in_the_middle() -> None:
    other = PatternSource(PatternSettings(160, 120, 10, sound=False), faults.virtual_pacing())
    changed = list(islice(faults.changes_parameters(healthy(), 1, other).open(1), 200))
    pictures = of_kind(changed, Kind.VIDEO)
    first = next(packet for packet in pictures if packet.stream.parameters != made.VIDEO)
    assert first.key
    assert first.time_ns == NS
    assert first.stream == replace(first.stream, generation=1, epoch_ns=NS)
    assert [packet.time_ns for packet in pictures] == sorted(packet.time_ns for packet in pictures)


def test_source_is_healthy_after_its_faulty_openings() -> None:
    source = faults.microphone_dies(healthy(2), 0)
    assert not of_kind(list(source.open(1)), Kind.AUDIO)
    assert of_kind(list(source.open(2)), Kind.AUDIO)
