from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.media.packet import Kind, Packet
from agent.media.ring import Ring
from tests.support.packets import audio, scene, video

BIG = 1 << 30


def fill(ring: Ring, packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if ring.append(packet)]


def content(ring: Ring) -> list[Packet]:
    return ring.read(0, BIG)


def test_standby_keeps_at_least_the_pre_event_length_from_an_idr_picture() -> None:
    ring = Ring(5 * NS, BIG)
    fill(ring, scene(20, gop_s=2))
    kept = content(ring)
    newest = kept[-1].time_ns
    assert kept[0].kind is Kind.VIDEO
    assert kept[0].key
    assert 5 * NS <= newest - kept[0].time_ns <= 7 * NS


def test_longer_pre_event_is_kept_from_then_on_and_a_shorter_one_again() -> None:
    ring = Ring(2 * NS, BIG, late_ns=NS)
    packets = scene(30, gop_s=1)
    fill(ring, [packet for packet in packets if packet.time_ns < 10 * NS])
    ring.set_pre_event(8 * NS)
    fill(ring, [packet for packet in packets if 10 * NS <= packet.time_ns < 20 * NS])
    assert content(ring)[-1].time_ns - content(ring)[0].time_ns >= 9 * NS
    assert ring.start(19 * NS).pre_event.kept_ns >= 8 * NS
    ring = Ring(8 * NS, BIG)
    ring.set_pre_event(2 * NS)
    fill(ring, packets)
    assert content(ring)[-1].time_ns - content(ring)[0].time_ns < 4 * NS


def test_start_that_is_recognised_late_keeps_the_length_from_the_moment_it_means() -> None:
    ring = Ring(5 * NS, BIG, late_ns=2 * NS)
    fill(ring, scene(20.4, gop_s=1))
    pre_event = ring.start(19 * NS + NS // 2).pre_event
    assert (pre_event.kept_ns, pre_event.short) == (5 * NS + NS // 2, "")


def test_start_keeps_the_group_that_holds_the_first_pre_event_second() -> None:
    ring = Ring(5 * NS, BIG)
    fill(ring, scene(12, gop_s=1))
    cursor = ring.start(12 * NS)
    head = ring.read(cursor.written, 1)[0]
    assert head.time_ns == 7 * NS
    assert cursor.pre_event.kept_ns == 5 * NS
    assert cursor.pre_event.short == ""


def test_true_length_exceeds_the_configured_one_by_the_rest_of_a_long_group() -> None:
    ring = Ring(5 * NS, BIG)
    fill(ring, scene(13, gop_s=4))
    pre_event = ring.start(12 * NS + NS // 2).pre_event
    assert pre_event.kept_ns == 8 * NS + NS // 2
    assert pre_event.excess_ns == 3 * NS + NS // 2


def test_short_pre_event_says_that_the_camera_had_just_booted() -> None:
    ring = Ring(5 * NS, BIG)
    fill(ring, scene(2))
    pre_event = ring.start(2 * NS).pre_event
    assert (pre_event.kept_ns, pre_event.short) == (2 * NS, "just_booted")


def test_short_pre_event_says_that_memory_was_the_bound() -> None:
    ring = Ring(5 * NS, 9_000)
    fill(ring, scene(20))
    pre_event = ring.start(20 * NS).pre_event
    assert pre_event.short == "memory_bound"
    assert pre_event.kept_ns < 5 * NS


def test_short_pre_event_says_that_the_source_had_a_gap() -> None:
    ring = Ring(5 * NS, BIG)
    fill(ring, scene(8) + scene(2, start_s=10))
    pre_event = ring.start(12 * NS).pre_event
    assert pre_event.short == "source_gap"
    assert abs(pre_event.gap_ns - 2 * NS) < NS // 10


def test_start_in_an_empty_ring_begins_with_the_next_packet() -> None:
    ring = Ring(5 * NS, BIG)
    cursor = ring.start(3 * NS)
    assert cursor.pre_event.kept_ns == 0
    ring.append(video(3.0, key=True))
    assert [packet.time_ns for packet in ring.read(cursor.written, 9)] == [3 * NS]


def test_cursor_keeps_unwritten_groups_beyond_the_pre_event_length() -> None:
    ring = Ring(1 * NS, BIG)
    fill(ring, scene(2))
    cursor = ring.start(2 * NS)
    fill(ring, scene(20, start_s=2))
    first = ring.read(cursor.written, 1)[0]
    assert first.time_ns <= 1 * NS
    ring.mark_written(cursor, ring.end)
    assert content(ring)[0].time_ns >= 20 * NS
    assert ring.take_lost(cursor) == []


def test_group_of_the_first_unwritten_packet_stays_for_a_new_segment() -> None:
    ring = Ring(0, BIG)
    cursor = ring.start(0)
    fill(ring, scene(3, gop_s=2))
    middle = next(n for n, p in enumerate(content(ring)) if p.time_ns > 2.5 * NS)
    ring.mark_written(cursor, middle)
    start = ring.group_start(middle)
    assert ring.read(start, 1)[0].time_ns == 2 * NS


def test_unwritten_packets_that_fall_out_are_counted_never_silent() -> None:
    ring = Ring(0, 20_000)
    cursor = ring.start(0)
    admitted = fill(ring, scene(20))
    lost = ring.take_lost(cursor)
    left = ring.read(cursor.written, BIG)
    assert sum(gone.packets for gone in lost) + len(left) == len(admitted)
    assert sum(gone.bytes for gone in lost) + sum(len(p.data) for p in left) == sum(len(p.data) for p in admitted)
    assert left[0].key


def test_group_larger_than_the_ring_is_given_up_to_the_next_idr_picture() -> None:
    ring = Ring(10 * NS, 1_000)
    ring.append(video(0, key=True, size=600))
    ring.append(video(0.1, size=600))
    assert not ring.append(video(0.2, size=10))
    assert ring.append(video(0.3, key=True, size=10))
    assert ring.append(video(0.4, size=10))
    assert [packet.key for packet in content(ring)] == [True, False]


def test_dead_camera_does_not_stop_the_trimming_of_sound() -> None:
    ring = Ring(2 * NS, BIG)
    fill(ring, scene(3))
    fill(ring, [audio(3 + n * 0.02) for n in range(1000)])
    kept = content(ring)
    assert kept[-1].time_ns - kept[0].time_ns <= 2.1 * NS


def test_camera_that_only_stalled_continues_in_its_group() -> None:
    ring = Ring(30 * NS, BIG)
    ring.append(video(0, key=True))
    fill(ring, [audio(n * 0.02) for n in range(200)])
    assert ring.append(video(4.0))
    cursor = ring.start(int(40 * NS))
    assert ring.read(cursor.written, 1)[0].key
    assert ring.read(cursor.written, 1)[0].time_ns == 0


def test_picture_whose_group_head_is_gone_is_not_kept() -> None:
    ring = Ring(1 * NS, BIG)
    ring.append(video(0, key=True))
    fill(ring, [audio(n * 0.02) for n in range(500)])
    assert not ring.append(video(10.0))
    assert ring.append(video(10.1, key=True))


def test_silent_buffer_lets_no_sound_in_and_counts_it() -> None:
    ring = Ring(5 * NS, BIG)
    ring.set_gate(Kind.AUDIO, open_=False)
    fill(ring, scene(10))
    assert all(packet.kind is Kind.VIDEO for packet in content(ring))
    assert ring.suppressed(Kind.AUDIO) > 400


def test_suppressed_picture_resumes_at_an_idr_picture() -> None:
    ring = Ring(60 * NS, BIG)
    ring.append(video(0, key=True))
    ring.set_gate(Kind.VIDEO, open_=False)
    assert not ring.append(video(1, key=True))
    ring.set_gate(Kind.VIDEO, open_=True)
    assert not ring.append(video(1.5))
    assert ring.append(video(2, key=True))
    assert ring.append(video(2.5))


packets_strategy = st.lists(
    st.tuples(st.sampled_from(["key", "delta", "sound"]), st.integers(1, 400), st.integers(0, 900)),
    max_size=120,
)


@given(
    steps=packets_strategy,
    pre_event_ms=st.integers(0, 3000),
    max_bytes=st.integers(200, 5000),
    start_at=st.integers(0, 120),
    writes=st.lists(st.integers(0, 40), max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_ring_never_exceeds_its_bounds_and_never_loses_a_packet_within_them(
    steps: list[tuple[str, int, int]], pre_event_ms: int, max_bytes: int, start_at: int, writes: list[int]
) -> None:
    ring = Ring(pre_event_ms * 1_000_000, max_bytes)
    now_ms = 0
    cursor = None
    admitted: list[Packet] = []
    written: list[Packet] = []
    lost = 0
    refused = 0
    plan = iter(writes)
    for number, (what, size, step_ms) in enumerate(steps):
        now_ms += step_ms
        at = now_ms / 1000
        packet = audio(at, size=size) if what == "sound" else video(at, key=what == "key", size=size)
        if number == start_at:
            cursor = ring.start(now_ms * 1_000_000)
            admitted = ring.read(cursor.written, BIG)
        before = ring.bytes
        taken = ring.append(packet)
        assert ring.bytes <= max_bytes
        assert ring.bytes == sum(len(p.data) for p in content(ring))
        if cursor is not None:
            admitted += [packet] * taken
            refused += not taken
            gone = ring.take_lost(cursor)
            lost += sum(entry.packets for entry in gone)
            assert not gone or before + size > max_bytes or not taken
            batch = ring.read(cursor.written, next(plan, 0))
            written += batch
            ring.mark_written(cursor, cursor.written + len(batch))
    if cursor is not None:
        left = ring.read(cursor.written, BIG)
        assert len(written) + len(left) + lost == len(admitted) + refused
        survivors = written + left
        positions = [admitted.index(p) for p in survivors]
        assert positions == sorted(positions)
        if lost == 0:
            assert survivors == admitted
