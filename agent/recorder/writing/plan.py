"""What the writer does next with the packets at hand: a pure decision, so that every case can be tested by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from agent.clock import NS
from agent.evidence.segment import FRAGMENT_NS
from agent.media.packet import Kind, Packet, Stream, StreamParameters

STALE_NS = FRAGMENT_NS + FRAGMENT_NS // 4
"""A fragment that is not full by then is stored as it is: the source has fallen silent."""


class Step(Enum):
    """What to do."""

    WAIT = "wait for more packets"
    WRITE = "write the first `count` packets as one fragment"
    SKIP = "pass over the first `count` packets: they do not belong here"
    ROLL = "end this segment; the first packet begins the next one"
    REOPEN = "end this segment; the next one begins again at the head of the first packet's group"


@dataclass(frozen=True, slots=True)
class Plan:
    """A step.

    Attributes:
        count: How many packets it is about.
        until_ns: There is nothing to do before a packet of that time: while waiting, for this fragment to become full;
            after writing all there was, for the next one to become almost so.
        stale_ns: While waiting: when the clock shows that, the fragment is to be stored as it is.
    """

    step: Step
    count: int = 0
    until_ns: int = 0
    stale_ns: int = 0


class Frame(NamedTuple):
    """What the decision depends on besides the packets.

    Attributes:
        video: Parameters of the open segment's pictures; None if it has none.
        audio: Of its sound.
        first_ns: The segment's time 0.
        segment_ns: Its length.
        first_new: Number of the first packet that no earlier segment holds.
        end_ns: End of the recording; None while it runs.
        last: True if nothing more will come, or must not be waited for: a fragment need not be full.
        now_ns: The monotonic clock.
    """

    video: StreamParameters | None
    audio: StreamParameters | None
    first_ns: int
    segment_ns: int
    first_new: int
    end_ns: int | None
    last: bool
    now_ns: int


def plan(packets: Sequence[Packet], number: int, frame: Frame) -> Plan:
    """The next step for `packets`, the first of which has this number in the ring.

    A fragment lasts at most `FRAGMENT_NS`; a packet that lasts longer makes one by itself.
    """
    if not packets:
        return Plan(Step.WAIT)
    first_ns = packets[0].time_ns
    # Before this time, packets of the segment's own streams fit: most need no closer look.
    fits_ns = frame.first_ns + frame.segment_ns
    if frame.end_ns is not None:
        fits_ns = min(fits_ns, frame.end_ns)
    video, audio = frame.video, frame.audio
    pictures: Stream | None = None
    sound: Stream | None = None
    lasts, shortest = 0, FRAGMENT_NS
    for count, packet in enumerate(packets):
        stream = packet.stream
        parameters = stream.parameters
        if stream is not pictures and stream is not sound:
            before = pictures if parameters.kind is Kind.VIDEO else sound
            if before is not None and before != stream:
                return Plan(Step.WRITE, count)  # the source was opened again: these ticks count from another moment
            if parameters.kind is Kind.VIDEO:
                pictures = stream
            else:
                sound = stream
        if packet.time_ns >= fits_ns or (parameters is not video and parameters is not audio):
            step = _misfit(packet, number + count, frame)
            if step is not None:
                return Plan(Step.WRITE, count) if count else Plan(step, 1)
        lasts = packet.duration * NS // parameters.timescale
        if count and packet.time_ns + lasts - first_ns > FRAGMENT_NS:
            return Plan(Step.WRITE, count)
        shortest = min(shortest, lasts)
    full = packets[-1].time_ns + 2 * lasts - first_ns > FRAGMENT_NS
    stale = frame.now_ns - first_ns >= STALE_NS
    if full or stale or frame.last:
        return Plan(Step.WRITE, len(packets), until_ns=packets[-1].time_ns + FRAGMENT_NS - shortest)
    return Plan(Step.WAIT, until_ns=first_ns + FRAGMENT_NS - 2 * shortest, stale_ns=first_ns + STALE_NS)


def _misfit(packet: Packet, number: int, frame: Frame) -> Step | None:
    """What to do about a packet that can't go into the open segment; None if it can."""
    if frame.end_ns is not None and packet.time_ns >= frame.end_ns:
        return Step.SKIP
    parameters = packet.stream.parameters
    video = parameters.kind is Kind.VIDEO
    long_enough = packet.time_ns - frame.first_ns >= frame.segment_ns
    if parameters == (frame.video if video else frame.audio):
        may_begin = packet.key if video else frame.video is None
        return Step.ROLL if long_enough and may_begin else None
    if number < frame.first_new:
        return Step.SKIP  # an earlier segment holds it
    if video:
        return Step.ROLL if packet.key else Step.SKIP
    return Step.REOPEN if frame.video is not None else Step.ROLL
