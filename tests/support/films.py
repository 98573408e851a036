"""Recordings of clips through a real writer, opened again, and what a player finds in the file."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from agent.capture import Source
from agent.capture.base import unpaced
from agent.capture.replay import ReplaySource
from agent.clock import NS
from agent.export.opened import Opened
from agent.export.recorded import Place, recordings
from agent.export.recording import open_recording
from agent.media.packet import Kind, Packet
from agent.storage.interface import Storage
from agent.verify.tree import find
from tests.support.clips import ACTION, STREET, clip
from tests.support.containers import open_input, stream_of
from tests.support.rig import KEY, Rig

CLIPS = (ACTION, STREET)

Found = tuple[Fraction, bytes, bool]
"""A packet in a file, or of a source: seconds, bytes, key picture."""


def camera(name: str) -> ReplaySource:
    """A clip as a camera that is never late and never ends."""
    return ReplaySource(clip(name), unpaced(lambda: 0))


def packets_of(source: Source, until_s: float) -> list[Packet]:
    """All packets before a moment."""
    opening = source.open(1)
    taken = []
    for packet in opening:
        if packet.time_ns >= until_s * NS:
            break
        taken.append(packet)
    opening.close()
    return taken


def record(rig: Rig, packets: Sequence[Packet], start_s: float, stop_s: float) -> None:
    """A recording that is started and stopped while the packets come in."""
    rig.declare(packets)
    rig.play([p for p in packets if p.time_ns < start_s * NS])
    rig.start(start_s)
    rig.play([p for p in packets if start_s * NS <= p.time_ns < stop_s * NS])
    rig.stop(stop_s)
    rig.play([p for p in packets if p.time_ns >= stop_s * NS])
    rig.settle()


def only_place(storage: Storage | Path) -> Place:
    (place,) = recordings(find(storage))
    return place


def open_rig(
    rig: Rig,
    out: Path,
    *,
    verified: bool = True,
    apart: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Opened:
    return open_recording(only_place(rig.storage), KEY, out, verified=verified, apart=apart, progress=progress)


def found(path: Path, kind: Kind) -> list[Found]:
    """What a player finds of a track."""
    with open_input(path) as container:
        stream = stream_of(container, kind)
        base = stream.time_base
        assert base is not None
        return [
            (packet.pts * base, bytes(packet), packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        ]


def shown(packets: Sequence[Packet], kind: Kind, zero: Fraction = Fraction(0)) -> list[Found]:
    """What should be found of a track in a file that begins at `zero` of the source's own time."""
    return [(Fraction(p.ticks, p.stream.parameters.timescale) - zero, p.data, p.key) for p in packets if p.kind is kind]


def zero_of(path: Path, packets: Sequence[Packet]) -> Fraction:
    """The source's time of a file's beginning, by its first picture."""
    first_s, data, _ = found(path, Kind.VIDEO)[0]
    picture = next(p for p in packets if p.kind is Kind.VIDEO and p.data == data)
    return Fraction(picture.ticks, picture.stream.parameters.timescale) - first_s


def texts(path: Path) -> list[tuple[int, int, str]]:
    """Beginning and length in milliseconds, and text, of all cues."""
    with open_input(path) as container:
        return [
            (packet.pts, packet.duration or 0, bytes(packet)[2:].decode())
            for packet in container.demux(container.streams.subtitles[0])
            if packet.size and packet.pts is not None
        ]
