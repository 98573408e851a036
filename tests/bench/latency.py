"""How soon a start is durable, and how fast a backlog is caught up; on the real clock, with syncs."""

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.capture import parse_spec, unpaced
from agent.clock import NS, SystemClocks
from agent.evidence.segment import FRAGMENT_NS
from agent.media.packet import Packet, Stream
from agent.recorder.writing.task import Settings
from agent.seal.recipients import HpkeRecipientKey
from tests.bench.path import MediaClocks, Recording
from tests.bench.stream import opened

CAMERA = "pattern:1280x720@30,4M,gop=30"
LIVE_S = 1.0


@dataclass(frozen=True, slots=True)
class Durable:
    """When what came before a start was on storage.

    Attributes:
        first_ms: From the start to the first sync.
        drained_ms: To the sync after which only the fragment under way (at most 0.2 s) was not on storage.
        all_ms: To the sync after which all that came before the start was.
        kept_s: Media from before the start; `bytes` of it.
    """

    first_ms: float
    drained_ms: float
    all_ms: float
    kept_s: float
    bytes: int


def encode(seconds: float) -> list[Packet]:
    """That much of a scene of 4 Mbit/s."""
    source = parse_spec(CAMERA, unpaced(lambda: 0)).open(1)
    packets = []
    for packet in source:
        if packet.time_ns >= seconds * NS:
            break
        packets.append(packet)
    source.close()
    return packets


def _shifted(packets: Sequence[Packet], by_ns: int) -> list[Packet]:
    """The same packets at other times."""
    moved: dict[Stream, Stream] = {}
    for packet in packets:
        if packet.stream not in moved:
            moved[packet.stream] = replace(packet.stream, epoch_ns=packet.stream.epoch_ns + by_ns)
    return [replace(p, stream=moved[p.stream], time_ns=p.time_ns + by_ns) for p in packets]


def start_to_durable(
    root: Path, keys: Sequence[HpkeRecipientKey], packets: Sequence[Packet], pre_event_s: float, *, phase_s: float
) -> Durable:
    """Start a recording while a camera delivers.

    Args:
        root: The evidence folder.
        keys: Whom it is sealed to.
        packets: At least `pre_event_s`, two groups of pictures, the phase and a second of them.
        pre_event_s: Length of the ring.
        phase_s: Where between two fragments' beginnings the start is asked for.
    """
    clocks = SystemClocks()
    start_ns = packets[-1].time_ns - round((LIVE_S + phase_s) * NS)
    ahead = [packet for packet in packets if packet.time_ns < start_ns]
    recording = Recording(root, keys, clocks, pre_event_ns=round(pre_event_s * NS))
    shifted = _shifted(packets, clocks.monotonic_ns() + NS // 10 - ahead[-1].time_ns)
    recording.feed.declare(*{packet.stream for packet in shifted})
    for packet in shifted[: len(ahead)]:
        recording.feed.put(packet)
    live = threading.Thread(target=_play, args=(recording, shifted[len(ahead) :], clocks), daemon=True)
    time.sleep(max(0, shifted[len(ahead) - 1].time_ns - clocks.monotonic_ns()) / NS)
    live.start()
    at_ns = clocks.monotonic_ns()
    job = recording.start(at_ns)
    first = job.cursor.written
    before = [packet for packet in shifted[first : len(ahead)] if packet.time_ns < at_ns]
    under_way = sum(packet.time_ns >= at_ns - FRAGMENT_NS for packet in before)
    recording.feed.wait_written(job.cursor, first + len(before) - under_way)
    drained_ns = clocks.monotonic_ns()
    recording.feed.wait_written(job.cursor, first + len(before))
    all_ns = clocks.monotonic_ns()
    live.join()
    recording.stop(clocks.monotonic_ns())
    return Durable(
        recording.first_stored_ns / 1e6,
        (drained_ns - at_ns) / 1e6,
        (all_ns - at_ns) / 1e6,
        (at_ns - before[0].time_ns) / NS,
        sum(len(packet.data) for packet in before),
    )


def _play(recording: Recording, packets: Sequence[Packet], clocks: SystemClocks) -> None:
    for packet in packets:
        time.sleep(max(0, packet.time_ns - clocks.monotonic_ns()) / NS)
        recording.feed.put(packet)


def catch_up(root: Path, keys: Sequence[HpkeRecipientKey], clip: Path, media_s: float) -> float:
    """Let storage stall for `media_s` of media, then take again; times real time at which it catches up."""
    clocks = MediaClocks()
    recording = Recording(root, keys, clocks, settings=Settings(slow_sync_ns=sys.maxsize))
    source = opened(clip)
    recording.feed.declare(*source.streams)
    recording.storage.gate.clear()
    job = recording.start(0)
    count = 0
    for packet in source:
        if packet.time_ns >= media_s * NS:
            break
        recording.feed.put(packet)
        count += 1
    source.close()
    clocks.now_ns = round((media_s + 2) * NS)
    began = time.monotonic()
    recording.storage.gate.set()
    recording.feed.wait_written(job.cursor, count)
    took = time.monotonic() - began
    recording.stop(round(media_s * NS))
    return media_s / took
