"""What the writer does next with the packets it has read: a pure decision, so that each case can be tested alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from agent.clock import NS
from agent.evidence.segment import FRAGMENT_NS
from agent.media.packet import Kind, Packet, Stream, StreamParameters

STALE_NS = FRAGMENT_NS + FRAGMENT_NS // 4
"""A fragment that is not full by then is stored as it is: the source has stopped."""


class Step(Enum):
    """The writer's next step."""

    WAIT = "wait for more packets"
    WRITE = "write the first `count` packets as one fragment"
    SKIP = "skip the first `count` packets: they do not belong here"
    ROLL = "end this segment; the first packet begins the next one"
    REOPEN = "end this segment; the next one begins again at the head of the first packet's group"


@dataclass(frozen=True, slots=True)
class Plan:
    """A step with its details.

    Attributes:
        count: How many packets it concerns.
        until_ns: There is nothing to do before a packet of this time: while waiting, this fragment is not full; after
            everything was written, the next one is not nearly full.
        stale_ns: While waiting, the monotonic time at which the fragment is to be stored as it is.
    """

    step: Step
    count: int = 0
    until_ns: int = 0
    stale_ns: int = 0


class PlanInput(NamedTuple):
    """What the decision depends on besides the packets.

    Attributes:
        video: Parameters of the open segment's pictures; None if it has none.
        audio: Of its sound.
        first_ns: The segment's time 0.
        segment_ns: Its length.
        first_new: Number of the first packet that no earlier segment holds.
        end_ns: End of the recording; None while it runs.
        last: A fragment need not be full, because nothing more comes or may be waited for.
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


def plan(packets: Sequence[Packet], number: int, state: PlanInput) -> Plan:
    """The next step for `packets`; `number` is that of the first one in the ring.

    A fragment lasts at most `FRAGMENT_NS`; a longer packet is a fragment by itself.
    """
    if not packets:
        return Plan(Step.WAIT)
    first_ns = packets[0].time_ns
    # Packets of the segment's own streams from before this time fit: most need no further check.
    fits_ns = state.first_ns + state.segment_ns
    if state.end_ns is not None:
        fits_ns = min(fits_ns, state.end_ns)
    video, audio = state.video, state.audio
    pictures: Stream | None = None
    sound: Stream | None = None
    lasts, shortest = 0, FRAGMENT_NS
    for count, packet in enumerate(packets):
        stream = packet.stream
        parameters = stream.parameters
        if stream is not pictures and stream is not sound:
            before = pictures if parameters.kind is Kind.VIDEO else sound
            if before is not None and before != stream:
                return Plan(Step.WRITE, count)  # the source was reopened: its ticks have another epoch
            if parameters.kind is Kind.VIDEO:
                pictures = stream
            else:
                sound = stream
        if packet.time_ns >= fits_ns or (parameters is not video and parameters is not audio):
            step = _misfit(packet, number + count, state)
            if step is not None:
                return Plan(Step.WRITE, count) if count else Plan(step, 1)
        lasts = packet.duration * NS // parameters.timescale
        if count and packet.time_ns + lasts - first_ns > FRAGMENT_NS:
            return Plan(Step.WRITE, count)
        shortest = min(shortest, lasts)
    full = packets[-1].time_ns + 2 * lasts - first_ns > FRAGMENT_NS
    stale = state.now_ns - first_ns >= STALE_NS
    if full or stale or state.last:
        return Plan(Step.WRITE, len(packets), until_ns=packets[-1].time_ns + FRAGMENT_NS - shortest)
    return Plan(Step.WAIT, until_ns=first_ns + FRAGMENT_NS - 2 * shortest, stale_ns=first_ns + STALE_NS)


def _misfit(packet: Packet, number: int, state: PlanInput) -> Step | None:
    """What to do about a packet that can't go into the open segment; None if it can."""
    if state.end_ns is not None and packet.time_ns >= state.end_ns:
        return Step.SKIP
    parameters = packet.stream.parameters
    video = parameters.kind is Kind.VIDEO
    long_enough = packet.time_ns - state.first_ns >= state.segment_ns
    if parameters == (state.video if video else state.audio):
        may_begin = packet.key if video else state.video is None
        return Step.ROLL if long_enough and may_begin else None
    if number < state.first_new:
        return Step.SKIP  # an earlier segment holds it
    if video:
        return Step.ROLL if packet.key else Step.SKIP
    return Step.REOPEN if state.video is not None else Step.ROLL
