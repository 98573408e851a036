"""The stream that everything is measured on: a clip of a worn camera's form, or the one that is asked for."""

from dataclasses import dataclass
from pathlib import Path

from agent.capture import OpenSource, paced, parse_spec, unpaced
from agent.clock import NS, Monotonic
from agent.media.packet import Kind
from tests.bench.path import Counts
from tests.support import clips

CLIP = clips.ACTION


@dataclass(frozen=True, slots=True)
class Described:
    """What a stream is, for the table.

    Attributes:
        bytes_a_second: Encoded bytes of pictures and sound.
        frame_rate: Pictures a second.
    """

    text: str
    bytes_a_second: float
    frame_rate: float


def opened(clip: Path) -> OpenSource:
    """The clip, looped, as fast as it is taken, its first packet at time 0."""
    return parse_spec(f"replay:{clip}", unpaced(lambda: 0)).open(1)


def opened_live(clip: Path, monotonic: Monotonic) -> OpenSource:
    """The clip, looped, at its own pace."""
    return parse_spec(f"replay:{clip}", paced(monotonic)).open(1)


def drained(source: OpenSource, media_ns: int) -> Counts:
    """Take a source's packets and drop them: its own cost."""
    counts = Counts()
    began_ns = source.streams[0].epoch_ns
    for packet in source:
        if packet.time_ns - began_ns >= media_ns:
            break
        counts.add(packet)
    source.close()
    return counts


def describe(clip: Path, seconds: float) -> Described:
    """The stream's facts over its first `seconds`."""
    source = opened(clip)
    counts = drained(source, round(seconds * NS))
    parts = []
    for stream in source.streams:
        p = stream.parameters
        if p.kind is Kind.VIDEO:
            parts.append(f"H.264 {p.width}x{p.height}, {counts.frames / seconds:.2f} pictures a second")
        else:
            parts.append(f"{p.codec.upper()} {p.sample_rate} Hz, {p.channels} channels")
    rate = counts.media_bytes / seconds
    text = f"{', '.join(parts)}, {rate * 8 / 1e6:.2f} Mbit/s together"
    return Described(text, rate, counts.frames / seconds)


def choose(asked: Path | None) -> tuple[Path, str]:
    """The clip to use, and what to call it."""
    return (clips.clip(CLIP), f"the tests' clip {CLIP!r}") if asked is None else (asked.resolve(), asked.name)
