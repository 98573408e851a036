"""Sources that misbehave on purpose, sources from a list, and time without waiting. All by the real interface.

A wrapped source fails at a moment counted in seconds from its first stream's epoch, so that a test can state it in
media time, whatever the pacing.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from agent.capture import OpenSource, Source
from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Kind, Packet, Stream


class VirtualPacer:
    """A pacer whose clock moves only when somebody waits: hours pass in milliseconds."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self.closed = False

    def now_ns(self) -> int:
        return self._now_ns

    def wait_until(self, ns: int) -> bool:
        if not self.closed:
            self._now_ns = max(self._now_ns, ns)
        return not self.closed

    def close(self) -> None:
        self.closed = True


def virtual_pacing(start_ns: int = 0) -> Callable[[], VirtualPacer]:
    """Each opening begins at `start_ns`."""
    return lambda: VirtualPacer(start_ns)


@dataclass
class OpenList:
    """Packets that are there already."""

    streams: tuple[Stream, ...]
    packets: Iterable[Packet]
    closed: bool = False

    def __iter__(self) -> Iterator[Packet]:
        for packet in self.packets:
            if self.closed:
                return
            yield packet

    def close(self) -> None:
        self.closed = True


@dataclass
class ListSource:
    """Gives one list of packets at each opening, stamped with its generation; then can't be opened any more.

    Attributes:
        openings: Packets of the first, second, ... opening.
        opened: How often it was opened.
    """

    openings: Sequence[Sequence[Packet]]
    name: str = "list"
    opened: int = 0

    def open(self, generation: int) -> OpenList:
        if self.opened == len(self.openings):
            raise SourceError("expected a camera, it was unplugged")
        packets = self.openings[self.opened]
        self.opened += 1
        streams: dict[Stream, Stream] = {}
        for packet in packets:
            streams.setdefault(packet.stream, replace(packet.stream, generation=generation))
        stamped = [replace(packet, stream=streams[packet.stream]) for packet in packets]
        ordered = sorted(streams.values(), key=lambda stream: stream.parameters.kind is Kind.AUDIO)
        return OpenList(tuple(ordered), stamped)


Change = Callable[["_OpenChanged", Iterator[Packet]], Iterator[Packet]]


class _OpenChanged:
    """An opening whose packets pass through `change`."""

    def __init__(self, inner: OpenSource, change: Change) -> None:
        self.inner = inner
        self.streams = inner.streams
        self.closed = threading.Event()
        self._change = change

    def seconds(self, packet: Packet) -> float:
        """Time of a packet since the epoch of the first stream."""
        return (packet.time_ns - self.streams[0].epoch_ns) / NS

    def __iter__(self) -> Iterator[Packet]:
        for packet in self._change(self, iter(self.inner)):
            if self.closed.is_set():
                return
            yield packet

    def close(self) -> None:
        self.closed.set()
        self.inner.close()


@dataclass
class Changed:
    """A source whose packets pass through `change` in its first `openings` openings, and are untouched later."""

    inner: Source
    change: Change
    what: str
    openings: int = 1
    opened: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return f"{self.inner.name} ({self.what})"

    def open(self, generation: int) -> OpenSource:
        self.opened += 1
        opening = self.inner.open(generation)
        return opening if self.opened > self.openings else _OpenChanged(opening, self.change)


def microphone_dies(inner: Source, at_s: float, *, until_s: float = float("inf"), openings: int = 1) -> Changed:
    """No sound from `at_s` on, or up to `until_s`; pictures go on."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if packet.kind is Kind.VIDEO or not at_s <= opening.seconds(packet) < until_s:
                yield packet

    return Changed(inner, change, f"microphone dies at {at_s} s", openings)


def sound_starts_late(inner: Source, at_s: float, *, openings: int = 1) -> Changed:
    """No sound before `at_s`."""
    return microphone_dies(inner, float("-inf"), until_s=at_s, openings=openings)


def pictures_stop(inner: Source, at_s: float, *, until_s: float = float("inf"), openings: int = 1) -> Changed:
    """No picture from `at_s` on, or up to `until_s`; sound goes on."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if packet.kind is Kind.AUDIO or not at_s <= opening.seconds(packet) < until_s:
                yield packet

    return Changed(inner, change, f"pictures stop at {at_s} s", openings)


def silent_between(inner: Source, from_s: float, until_s: float, *, openings: int = 1) -> Changed:
    """Neither picture nor sound between two moments: a gap, after which it goes on by itself."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if not from_s <= opening.seconds(packet) < until_s:
                yield packet

    return Changed(inner, change, f"gap from {from_s} to {until_s} s", openings)


def stalls(inner: Source, at_s: float, *, openings: int = 1) -> Changed:
    """Delivers nothing more from `at_s` on, says nothing about it, and ends only when it is closed."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if opening.seconds(packet) >= at_s:
                opening.closed.wait()
                return
            yield packet

    return Changed(inner, change, f"stalls at {at_s} s", openings)


def raises(inner: Source, at_s: float, *, error: Exception | None = None, openings: int = 1) -> Changed:
    """Fails at `at_s`, with SourceError or what is given."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if opening.seconds(packet) >= at_s:
                raise error or SourceError("expected the camera's next frame, its cable was pulled")
            yield packet

    return Changed(inner, change, f"fails at {at_s} s", openings)


def ends(inner: Source, at_s: float, *, openings: int = 1) -> Changed:
    """Ends quietly at `at_s`."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if opening.seconds(packet) >= at_s:
                return
            yield packet

    return Changed(inner, change, f"ends at {at_s} s", openings)


def jumps(inner: Source, at_s: float, by_s: float, *, openings: int = 1) -> Changed:
    """All times from `at_s` on are off by `by_s`, rounded to ticks; negative: time goes back, as no source may."""

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if opening.seconds(packet) < at_s:
                yield packet
                continue
            ticks = packet.ticks + round(by_s * packet.stream.parameters.timescale)
            yield replace(packet, ticks=ticks, time_ns=packet.stream.time_ns(ticks))

    return Changed(inner, change, f"jumps by {by_s} s at {at_s} s", openings)


def jitters(inner: Source, ticks: Sequence[int]) -> Changed:
    """Pictures are late by one of `ticks` each, in turn."""

    def change(_opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        number = 0
        for packet in packets:
            if packet.kind is Kind.AUDIO:
                yield packet
                continue
            late = packet.ticks + ticks[number % len(ticks)]
            number += 1
            yield replace(packet, ticks=late, time_ns=packet.stream.time_ns(late))

    return Changed(inner, change, "jitters")


def changes_parameters(inner: Source, at_s: float, other: Source, *, openings: int = 1) -> Changed:
    """From `at_s` on it gives the packets of `other`, from its beginning: other parameter sets, the same generation.

    What a camera does whose mode is changed behind the recorder's back. `streams` states what it began with.
    """

    def change(opening: _OpenChanged, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if opening.seconds(packet) >= at_s:
                break
            yield packet
        epoch_ns = opening.streams[0].epoch_ns + round(at_s * NS)
        second = other.open(opening.streams[0].generation)
        moved = {stream: replace(stream, epoch_ns=epoch_ns) for stream in second.streams}
        try:
            for packet in second:
                stream = moved[packet.stream]
                yield replace(packet, stream=stream, time_ns=stream.time_ns(packet.ticks))
        finally:
            second.close()

    return Changed(inner, change, f"changes parameters at {at_s} s", openings)
