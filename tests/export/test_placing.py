from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS, utc_text
from agent.errors import EvidenceError
from agent.evidence.manifest import FORMAT, Moment, Opening, Track
from agent.export.placing import UNKNOWN_NS, BootClock, Reading, Timeline, reading
from agent.media.packet import Kind, StreamParameters

UTC = 1_795_000_000 * NS
TIMESCALES = [1000, 12_800, 25_000, 30_000, 44_100, 48_000, 90_000, 1_000_000, 1_000_000_000]


@dataclass(frozen=True)
class Epoch:
    """A stream whose tick 0 is at this monotonic time."""

    parameters: StreamParameters
    at_ns: int

    def base_ticks(self, first_ns: int) -> int:
        """As the recorder counts them: the first tick at or after a time."""
        return -((self.at_ns - first_ns) * self.parameters.timescale // NS)


def stream(kind: Kind, timescale: int, at_ns: int) -> Epoch:
    return Epoch(StreamParameters(kind, "h264" if kind is Kind.VIDEO else "aac", timescale, b"\1"), at_ns)


def opening(
    first_ns: int, streams: list[Epoch], *, boot: int = 1, segment: int = 1, clock: str = "ntp", within: int | None = 10
) -> Opening:
    """The statement about a segment whose first packet is of that monotonic time."""
    tracks = [
        Track(s.parameters.kind, s.parameters.codec, s.parameters.timescale, s.base_ticks(first_ns), "", 0, 0, 0, 0)
        for s in streams
    ]
    start = Moment(utc_text(UTC + first_ns), clock, within, first_ns // 1000)
    return Opening(
        FORMAT,
        "city",
        "cam",
        boot,
        "",
        "r1",
        segment,
        "",
        "",
        4096,
        tracks,
        start,
        "",
        "",
        pre_event=None,
        overlap=False,
    )


def clocks(**boots: BootClock) -> dict[int, BootClock]:
    return {int(name.removeprefix("boot")): clock for name, clock in boots.items()}


def known(mono_s: float, utc_s: float, *, within: int | None = 10) -> Reading:
    return Reading(round(mono_s * 1_000_000), UTC + round(utc_s * NS), "ntp" if within is not None else "none", within)


@settings(max_examples=150, deadline=None)
@given(
    video=st.sampled_from(TIMESCALES),
    audio=st.sampled_from(TIMESCALES),
    epoch_ns=st.integers(-10 * NS, 10**6 * NS),
    steps=st.lists(st.integers(1, 100 * NS), min_size=1, max_size=12),
)
def test_segments_of_one_stream_share_its_tick_0_and_so_do_tracks_of_one_source(
    video: int, audio: int, epoch_ns: int, steps: list[int]
) -> None:
    streams = [stream(Kind.VIDEO, video, epoch_ns), stream(Kind.AUDIO, audio, epoch_ns)]
    line = Timeline(clocks(boot1=BootClock("", [])))
    first_ns = max(0, epoch_ns)
    taken = set()
    for step in steps:
        first_ns += step
        placement = line.place(opening(first_ns, streams), None)
        taken |= set(placement.epochs_ns.values())
        assert placement.start_ns == first_ns // 1000 * 1000
    (at_ns,) = taken
    assert abs(at_ns - epoch_ns) <= NS // max(video, audio) + NS // min(video, audio) + 1000


@settings(max_examples=100, deadline=None)
@given(
    timescale=st.sampled_from(TIMESCALES),
    epoch_ns=st.integers(0, 10**6 * NS),
    apart_ns=st.integers(2 * NS // 1000 + 4000, 100 * NS),
)
def test_source_that_was_opened_again_is_placed_to_a_tick(timescale: int, epoch_ns: int, apart_ns: int) -> None:
    line = Timeline(clocks(boot1=BootClock("", [])))
    line.place(opening(epoch_ns + NS, [stream(Kind.VIDEO, timescale, epoch_ns)]), None)
    other_ns = epoch_ns + apart_ns
    placement = line.place(opening(other_ns + 2 * NS, [stream(Kind.VIDEO, timescale, other_ns)]), None)
    assert abs(placement.epochs_ns[Kind.VIDEO] - other_ns) <= NS // timescale + 1000


def test_same_kernel_goes_on_on_the_same_clock() -> None:
    line = Timeline(clocks(boot1=BootClock("k", []), boot2=BootClock("k", [])))
    own = [stream(Kind.VIDEO, 30_000, 0)]
    line.place(opening(5 * NS, own), None)
    placement = line.place(opening(50 * NS, own, boot=2), 10 * NS)
    assert placement.start_ns == 50 * NS
    assert placement.downtime is not None
    assert (placement.downtime.ns, placement.downtime.basis, placement.downtime.within_ms) == (
        40 * NS,
        "same_kernel",
        0,
    )


def test_other_kernel_is_placed_by_trusted_clocks_within_the_sum_of_their_errors() -> None:
    line = Timeline(
        clocks(
            boot1=BootClock("k", [known(5, 5, within=None), known(8, 8, within=30)]),
            boot2=BootClock("l", [known(2, 32, within=12), known(4, 34)]),
        )
    )
    own = [stream(Kind.VIDEO, 30_000, 0)]
    line.place(opening(5 * NS, own), None)
    placement = line.place(opening(2 * NS, own, boot=2), 10 * NS)
    assert placement.start_ns == 32 * NS
    assert placement.downtime is not None
    assert (placement.downtime.ns, placement.downtime.basis, placement.downtime.within_ms) == (
        22 * NS,
        "trusted_clock",
        42,
    )


@pytest.mark.parametrize("untrusted", [1, 2])
def test_dark_time_is_unknown_if_either_clock_is_not_trusted(untrusted: int) -> None:
    first = known(5, 5, within=None if untrusted == 1 else 10)
    second = known(2, 32, within=None if untrusted == 2 else 10)
    line = Timeline(clocks(boot1=BootClock("", [first]), boot2=BootClock("", [second])))
    own = [stream(Kind.VIDEO, 30_000, 0)]
    line.place(opening(5 * NS, own), None)
    placement = line.place(opening(2 * NS, own, boot=2), 10 * NS)
    assert placement.start_ns == 10 * NS + UNKNOWN_NS
    assert placement.downtime is not None
    assert (placement.downtime.basis, placement.downtime.within_ms) == ("unknown", None)


def test_boot_never_lies_before_the_end_of_what_was_recorded() -> None:
    line = Timeline(clocks(boot1=BootClock("", [known(5, 5)]), boot2=BootClock("", [known(2, 3)])))
    own = [stream(Kind.VIDEO, 30_000, 0)]
    line.place(opening(5 * NS, own), None)
    placement = line.place(opening(2 * NS, own, boot=2), 10 * NS)
    assert placement.start_ns == 10 * NS
    assert placement.downtime is not None
    assert placement.downtime.ns == 0


def test_later_segments_of_a_boot_stay_with_it() -> None:
    line = Timeline(clocks(boot1=BootClock("", [known(5, 5)]), boot2=BootClock("", [known(2, 32)])))
    own = [stream(Kind.VIDEO, 30_000, 0)]
    line.place(opening(5 * NS, own), None)
    line.place(opening(2 * NS, own, boot=2), 10 * NS)
    placement = line.place(opening(7 * NS, own, boot=2), 37 * NS)
    assert placement.start_ns == 37 * NS
    assert placement.downtime is None
    assert line.line_ns(2, 7_000_000) == 37 * NS
    assert line.line_ns(1, 7_000_000) == 7 * NS
    assert line.line_ns(3, 7_000_000) is None


def test_wall_clock_is_the_newest_reading_of_the_boot_that_ran() -> None:
    line = Timeline(
        clocks(
            boot1=BootClock("", [known(5, 5, within=None), known(8, 3008)]),
            boot2=BootClock("", [known(2, 3032)]),
        )
    )
    own = [stream(Kind.VIDEO, 30_000, 0)]
    assert line.wall(0) is None
    line.place(opening(5 * NS, own), None)
    line.place(opening(2 * NS, own, boot=2), 10 * NS)
    for at_s, utc_s, trusted in [
        (4, 4, False),
        (7.5, 7.5, False),
        (8, 3008, True),
        (31, 3031, True),
        (32.5, 3032.5, True),
    ]:
        wall = line.wall(round(at_s * NS))
        assert wall is not None
        assert (wall.utc_ns - UTC, wall.trusted) == (round(utc_s * NS), trusted)


def test_time_that_is_no_time_is_refused() -> None:
    start = opening(0, [stream(Kind.VIDEO, 1000, 0)]).start
    with pytest.raises(EvidenceError, match="expected a time such as"):
        reading(msgspec.structs.replace(start, utc="yesterday"))
