from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import NS
from agent.media.interleaver import Interleaver
from agent.media.packet import Kind, Packet
from tests.support.packets import audio, scene, video

WAIT_NS = 150 * NS // 1000


def arriving(seconds: float, late_s: float) -> list[Packet]:
    """Packets of a healthy camera as they come in, sound so much later than pictures."""
    return sorted(scene(seconds), key=lambda p: p.time_ns + (late_s * NS if p.kind is Kind.AUDIO else 0))


def times(packets: list[Packet]) -> list[int]:
    return [packet.time_ns for packet in packets]


@given(late_ms=st.integers(-140, 140))
def test_late_sound_or_late_pictures_come_out_in_the_order_of_their_times_and_whole(late_ms: int) -> None:
    interleaver = Interleaver(WAIT_NS)
    came = arriving(3.0, late_ms / 1000)
    out = [packet for given_ in came for packet in interleaver.put(given_)]
    out += interleaver.flush()
    # Until both have come, nobody knows that there will be another.
    both_ns = max(next(packet.time_ns for packet in came if packet.kind is kind) for kind in Kind) + 2 * WAIT_NS
    later = [packet for packet in out if packet.time_ns >= both_ns]
    assert sorted(times(later)) == times(later)
    assert sorted(map(id, out)) == sorted(map(id, came))


def test_dead_microphone_holds_no_picture_up() -> None:
    interleaver = Interleaver(WAIT_NS)
    for packet in scene(1.0):
        interleaver.put(packet)
    pictures = [video(1.0 + n / 30) for n in range(30)]
    waited = [picture for picture in pictures if interleaver.put(picture)[-1:] != [picture]]
    assert len(waited) <= 5


def test_one_source_alone_waits_for_nothing() -> None:
    interleaver = Interleaver(WAIT_NS)
    for number in range(30):
        picture = video(number / 30)
        assert interleaver.put(picture) == [picture]


def test_what_comes_too_late_goes_at_once_and_keeps_its_own_order() -> None:
    interleaver = Interleaver(WAIT_NS)
    out = [packet for given_ in arriving(3.0, 0.5) for packet in interleaver.put(given_)]
    for kind in Kind:
        own = [packet.time_ns for packet in out if packet.kind is kind]
        assert all(before < after for before, after in pairwise(own))
    late = audio(0.1)
    assert interleaver.put(late)[0] is late
