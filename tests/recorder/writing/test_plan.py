from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.evidence.segment import FRAGMENT_NS
from agent.media.packet import Kind, Packet, Stream
from agent.recorder.writing.plan import STALE_NS, Plan, PlanInput, Step, plan
from tests.support.packets import AUDIO, VIDEO, audio, video, video_stream

OPEN = PlanInput(
    video=VIDEO,
    audio=AUDIO,
    first_ns=0,
    segment_ns=60 * NS,
    first_new=0,
    end_ns=None,
    last=False,
    now_ns=0,
)
OTHER_VIDEO = replace(VIDEO, extradata=b"other")
OTHER_AUDIO = replace(AUDIO, extradata=b"other")


def pictures(count: int, *, start_s: float = 0.0, key: bool = False) -> list[Packet]:
    return [video(start_s + n / 30, key=key and not n) for n in range(count)]


def lasts(packet: Packet) -> int:
    return packet.duration * NS // packet.stream.parameters.timescale


def end_ns(packets: Iterable[Packet]) -> int:
    return max(packet.time_ns + lasts(packet) for packet in packets)


def test_nothing_to_write_is_waited_for() -> None:
    assert plan([], 0, OPEN) == Plan(Step.WAIT)
    assert plan([], 0, OPEN._replace(last=True)) == Plan(Step.WAIT)


def test_fragment_that_is_not_full_waits_and_says_for_how_long() -> None:
    packets = pictures(3)
    decision = plan(packets, 0, OPEN)
    assert decision.step is Step.WAIT
    assert decision.stale_ns == STALE_NS
    # A packet that makes the fragment full comes no sooner than that: whoever sleeps till then misses nothing.
    assert decision.until_ns <= packets[-1].time_ns + FRAGMENT_NS
    for count in range(4, 9):
        more = pictures(count)
        if more[-1].time_ns < decision.until_ns:
            assert plan(more, 0, OPEN).step is Step.WAIT


def test_fragment_is_written_as_soon_as_no_further_packet_fits() -> None:
    counts = [plan(pictures(count), 0, OPEN) for count in range(1, 8)]
    steps = [decision.step for decision in counts]
    assert steps == [Step.WAIT] * 4 + [Step.WRITE] * 3 or steps == [Step.WAIT] * 5 + [Step.WRITE] * 2
    first = next(decision for decision in counts if decision.step is Step.WRITE)
    assert end_ns(pictures(first.count)) <= FRAGMENT_NS


def test_stale_fragment_is_written_as_it_is() -> None:
    packets = pictures(2)
    assert plan(packets, 0, OPEN._replace(now_ns=STALE_NS - 1)).step is Step.WAIT
    decision = plan(packets, 0, OPEN._replace(now_ns=STALE_NS))
    assert (decision.step, decision.count) == (Step.WRITE, 2)


def test_last_fragment_need_not_be_full() -> None:
    decision = plan(pictures(1), 0, OPEN._replace(last=True))
    assert (decision.step, decision.count) == (Step.WRITE, 1)


def test_packet_that_lasts_longer_than_a_fragment_makes_one_by_itself() -> None:
    long = replace(video(0.0), duration=VIDEO.timescale * 2)
    assert plan([long], 0, OPEN) == Plan(Step.WRITE, 1)
    assert plan([long, video(2.0)], 0, OPEN) == Plan(Step.WRITE, 1)


def test_gap_of_the_source_is_never_inside_a_fragment() -> None:
    assert plan([video(0.0), video(5.0)], 0, OPEN) == Plan(Step.WRITE, 1)


def test_segment_rolls_at_the_first_idr_picture_after_its_length_and_not_before() -> None:
    late = OPEN._replace(segment_ns=2 * NS)
    assert plan([video(2.0)], 0, late._replace(now_ns=2 * NS)).step is Step.WAIT
    assert plan([video(1.99, key=True)], 0, late).step is Step.WAIT
    assert plan([video(2.0, key=True)], 0, late) == Plan(Step.ROLL, 1)
    assert plan([video(1.9), video(1.95), video(2.0, key=True)], 0, late) == Plan(Step.WRITE, 2)


def test_sound_rolls_no_segment_that_has_pictures() -> None:
    late = OPEN._replace(segment_ns=2 * NS, now_ns=2 * NS)
    assert plan([audio(2.5)], 0, late).step is Step.WAIT
    assert plan([audio(2.5)], 0, late._replace(video=None)) == Plan(Step.ROLL, 1)


def test_pictures_with_other_parameters_begin_a_segment_at_their_idr_picture() -> None:
    other = Stream(OTHER_VIDEO, 2, 0)
    assert plan([video(1.0, stream=other)], 0, OPEN) == Plan(Step.SKIP, 1)
    assert plan([video(1.0, stream=other, key=True)], 0, OPEN) == Plan(Step.ROLL, 1)
    assert plan([video(0.9), video(1.0, stream=other, key=True)], 0, OPEN) == Plan(Step.WRITE, 1)


def test_sound_with_other_parameters_begins_a_segment_at_the_head_of_the_group() -> None:
    other = Stream(OTHER_AUDIO, 2, 0)
    assert plan([audio(1.0, stream=other)], 5, OPEN) == Plan(Step.REOPEN, 1)
    assert plan([audio(1.0, stream=other)], 5, OPEN._replace(video=None)) == Plan(Step.ROLL, 1)


def test_packets_that_an_earlier_segment_holds_are_skipped_if_they_do_not_fit() -> None:
    other = Stream(OTHER_AUDIO, 2, 0)
    assert plan([audio(1.0, stream=other)], 4, OPEN._replace(first_new=5)) == Plan(Step.SKIP, 1)
    assert plan([audio(1.0, stream=other)], 5, OPEN._replace(first_new=5)) == Plan(Step.REOPEN, 1)


def test_first_sound_of_a_segment_without_any_begins_a_segment() -> None:
    assert plan([audio(1.0)], 0, OPEN._replace(audio=None)) == Plan(Step.REOPEN, 1)


def test_nothing_from_the_end_of_the_recording_on_is_written() -> None:
    ended = OPEN._replace(end_ns=NS)
    assert plan([video(1.0)], 0, ended) == Plan(Step.SKIP, 1)
    assert plan([video(0.95), video(1.0)], 0, ended) == Plan(Step.WRITE, 1)
    assert plan([video(1.0, key=True)], 0, ended._replace(segment_ns=0)) == Plan(Step.SKIP, 1)


def test_two_openings_of_a_source_are_never_in_one_fragment() -> None:
    """Their ticks count from different moments; in one fragment they could not be told apart."""
    again = video_stream(2, epoch_ns=NS // 10)
    packets = [video(0.0), video(1 / 30), video(0.0, stream=again, key=True)]
    decision = plan(packets, 0, OPEN)
    assert (decision.step, decision.count) == (Step.WRITE, 2)
    assert plan(packets[2:], 2, OPEN).step is Step.WAIT


times = st.integers(0, 400).map(lambda n: n / 100)
streams = st.sampled_from([video_stream(), video_stream(2), Stream(OTHER_VIDEO, 3, 0)])
any_packets = st.lists(
    st.one_of(
        st.builds(lambda at, key, stream: video(at, key=key, stream=stream), times, st.booleans(), streams),
        st.builds(audio, times),
    ),
    max_size=24,
).map(lambda packets: sorted(packets, key=lambda packet: packet.time_ns))
frames = st.builds(
    PlanInput,
    video=st.sampled_from([VIDEO, None]),
    audio=st.sampled_from([AUDIO, None]),
    first_ns=st.just(0),
    segment_ns=st.sampled_from([NS, 60 * NS]),
    first_new=st.integers(0, 10),
    end_ns=st.sampled_from([None, NS, 3 * NS]),
    last=st.booleans(),
    now_ns=st.integers(0, 5 * NS),
)


@settings(max_examples=300, deadline=None)
@given(any_packets, st.integers(0, 8), frames)
def test_every_step_is_one_that_the_writer_can_take(packets: list[Packet], number: int, frame: PlanInput) -> None:
    decision = plan(packets, number, frame)
    taken = packets[: decision.count]
    match decision.step:
        case Step.WAIT:
            assert not decision.count
            assert not frame.last or not packets
            if packets:  # so long may be slept, and no longer: a fragment is stored in time even if nothing more comes
                assert decision.stale_ns == packets[0].time_ns + STALE_NS
                assert decision.until_ns <= packets[0].time_ns + FRAGMENT_NS
        case Step.WRITE:
            assert 1 <= decision.count <= len(packets)
            assert decision.count == 1 or end_ns(taken) - taken[0].time_ns <= FRAGMENT_NS
            assert frame.end_ns is None or all(packet.time_ns < frame.end_ns for packet in taken)
            for kind, expected in ((Kind.VIDEO, frame.video), (Kind.AUDIO, frame.audio)):
                assert {p.stream.parameters for p in taken if p.kind is kind} <= {expected}
                assert len({p.stream for p in taken if p.kind is kind}) <= 1
        case _:
            assert decision.count == 1
