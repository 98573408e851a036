import errno
from dataclasses import replace

import pytest

from agent.clock import NS
from agent.encoding.strict_json import sha256_hex
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal.entries import PacketsLost, SlowSync
from agent.journal.format import parse_line, split_lines
from agent.media.packet import Kind, Packet, Stream
from agent.recorder.writing.task import FirstStored, RecordingClosed, Settings, StorageFailed, StorageRecovered
from tests.support.packets import AUDIO, VIDEO, scene
from tests.support.rig import Rig, of, plain
from tests.support.storage import failing


def by_kind(packets: list[Packet], kind: Kind) -> list[Packet]:
    return [packet for packet in packets if packet.kind is kind]


def entries(rig: Rig) -> list[object]:
    rig.journal.step()
    lines, rest = split_lines(rig.storage.read(layout.journal(1), limit=1 << 24))
    assert rest == b""
    return [parse_line(line).entry for line in lines]


def assert_exactly(rig: Rig, expected: list[Packet], recording: str = "r1") -> None:
    """What was recorded is what is expected, each track in order, byte for byte and tick for tick."""
    for kind in Kind:
        assert of(rig.recorded(recording), kind) == plain(by_kind(expected, kind))


def test_recording_holds_the_pre_event_group_and_ends_at_the_stop_exactly() -> None:
    rig = Rig()
    packets = scene(30)
    rig.declare(packets)
    rig.play([p for p in packets if p.time_ns < 12 * NS])
    rig.start(12)
    rig.play([p for p in packets if 12 * NS <= p.time_ns < 20 * NS])
    rig.stop(20)
    rig.play([p for p in packets if p.time_ns >= 20 * NS])
    assert RecordingClosed("r1") in rig.events
    expected = [p for p in packets if 7 * NS <= p.time_ns < 20 * NS]
    assert_exactly(rig, expected)
    manifest = rig.manifest(1)
    assert (manifest.ended, manifest.final) == ("stopped", True)
    assert rig.opening(1).pre_event is not None
    assert manifest.stop is not None
    assert manifest.stop.mono_us == 20_000_000


def test_nothing_but_the_last_fragment_waits_for_its_sync() -> None:
    rig = Rig()
    packets = scene(20)
    rig.declare(packets)
    rig.start(0)
    file = layout.segment("r1", 1)
    durable_at: list[tuple[int, bytes]] = []
    for packet in packets:
        rig.play([packet])
        if packet.time_ns >= NS and packet.time_ns % NS < NS // 20:
            durable_at.append((packet.time_ns, rig.storage.files[file].durable))
    for cut_ns, durable in durable_at:
        rig.storage.files[file].data[:] = durable
        newest = of(rig.recorded(), Kind.VIDEO)[-1][1] / VIDEO.timescale
        assert cut_ns / NS - newest <= 0.25


def test_what_came_before_a_start_is_durable_without_waiting_for_more() -> None:
    rig = Rig()
    packets = [p for p in scene(12.1) if p.time_ns < 12.1 * NS]
    rig.declare(packets)
    rig.play(packets)
    job = rig.start(12.1)
    assert_exactly(rig, [p for p in packets if p.time_ns >= 7 * NS])
    fragments = rig.storage.syncs
    later = [p for p in scene(12.25) if p.time_ns >= 12.1 * NS]
    rig.play(later)
    assert (job.caught_up, rig.storage.syncs) == (True, fragments)


def test_segments_roll_at_idr_pictures_and_lose_nothing() -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = scene(20, gop_s=2)
    rig.declare(packets)
    rig.start(0)
    rig.play(packets)
    rig.stop(20)
    rig.settle()
    assert len(rig.segments()) == 5
    for segment in rig.segments():
        first = next(s for s in rig.opened(segment) if s.kind is Kind.VIDEO)
        assert first.key
    assert_exactly(rig, packets)
    previous = ""
    for segment in rig.segments():
        assert rig.manifest(segment).previous == previous
        previous = sha256_hex(rig.storage.read(layout.manifest("r1", segment)))


def test_dead_microphone_never_holds_back_a_picture() -> None:
    rig = Rig()
    packets = [p for p in scene(10) if p.kind is Kind.VIDEO or p.time_ns < 3 * NS]
    rig.declare(packets)
    rig.start(0)
    rig.play(packets)
    durable = of(rig.recorded(), Kind.VIDEO)
    assert len(durable) >= len(by_kind(packets, Kind.VIDEO)) - 7
    rig.stop(10)
    rig.settle()
    assert_exactly(rig, packets)


def test_dead_camera_never_holds_back_sound() -> None:
    rig = Rig()
    packets = [p for p in scene(10) if p.kind is Kind.AUDIO or p.time_ns < 3 * NS]
    rig.declare(packets)
    rig.start(0)
    rig.play(packets)
    rig.stop(10)
    rig.settle()
    assert_exactly(rig, packets)


def test_sound_that_starts_late_keeps_its_place() -> None:
    rig = Rig()
    packets = [p for p in scene(10) if p.kind is Kind.VIDEO or p.time_ns >= 4 * NS]
    rig.declare(scene(0.1))
    rig.start(0)
    rig.play(packets)
    rig.stop(10)
    rig.settle()
    assert_exactly(rig, packets)


def test_silent_pre_event_buffer_holds_no_sound_from_before_the_start() -> None:
    rig = Rig(silent=True)
    packets = scene(20)
    rig.declare(packets)
    rig.play([p for p in packets if p.time_ns < 12 * NS])
    rig.start(12)
    rig.play([p for p in packets if p.time_ns >= 12 * NS])
    rig.stop(20)
    rig.settle()
    kept = [p for p in packets if p.time_ns >= (12 if p.kind is Kind.AUDIO else 7) * NS]
    assert_exactly(rig, kept)
    pre_event = rig.opening(1).pre_event
    assert pre_event is not None
    assert pre_event.silent


def test_changed_parameters_start_a_new_segment_at_an_idr_picture() -> None:
    rig = Rig()
    before = scene(5)
    other = Stream(replace(VIDEO, width=1280, height=720), 2, 0)
    after = [replace(p, stream=other) if p.kind is Kind.VIDEO else p for p in scene(5, start_s=5)]
    rig.declare(before)
    rig.start(0)
    rig.play(before + after)
    rig.stop(10)
    rig.settle()
    assert len(rig.segments()) == 2
    assert rig.opening(2).tracks[0].width == 1280
    assert_exactly(rig, before + after)


def test_microphone_that_comes_back_changed_begins_a_segment_at_the_head_of_the_group() -> None:
    rig = Rig()
    before = scene(5.5, gop_s=2)
    other = Stream(replace(AUDIO, channels=1, extradata=bytes.fromhex("1188")), 2, 0)
    after = [
        replace(p, stream=other) if p.kind is Kind.AUDIO else p for p in scene(6, gop_s=2) if p.time_ns >= 5.5 * NS
    ]
    rig.declare(before)
    rig.start(0)
    rig.play(before + after)
    rig.stop(6)
    rig.settle()
    assert len(rig.segments()) == 2
    assert rig.opening(2).overlap
    first = rig.opened(2)[0]
    assert first.key
    assert first.ticks == 4 * VIDEO.timescale
    seen = set(of(rig.recorded(), Kind.VIDEO))
    assert seen == set(plain(by_kind(before + after, Kind.VIDEO)))
    assert of(rig.opened(2), Kind.AUDIO) == plain(by_kind(after, Kind.AUDIO))


def test_source_reopened_with_equal_parameters_continues_in_the_segment() -> None:
    rig = Rig()
    before = scene(3)
    epoch = 5 * NS
    after = [replace(p, stream=Stream(p.stream.parameters, 2, epoch), time_ns=p.time_ns + epoch) for p in scene(3)]
    rig.declare(before)
    rig.start(0)
    rig.play(before + after)
    rig.stop(8)
    rig.settle()
    assert len(rig.segments()) == 1
    expected = before + [replace(p, ticks=p.ticks + 5 * p.stream.parameters.timescale) for p in after]
    assert_exactly(rig, expected)
    gaps = rig.manifest(1).gaps
    assert {gap.kind for gap in gaps} == {Kind.VIDEO, Kind.AUDIO}
    assert gaps[0].from_ticks == 3 * VIDEO.timescale
    assert gaps[0].to_ticks == 5 * VIDEO.timescale


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("operation", ["write", "sync"])
def test_storage_that_refuses_for_ten_seconds_costs_no_packet(code: int, operation: str) -> None:
    rig = Rig()
    packets = scene(40)
    rig.declare(packets)
    rig.start(0)
    rig.play([p for p in packets if p.time_ns < 10 * NS])
    rig.storage.fault = failing({operation, "create", "publish"}, code, only="recordings")
    rig.play([p for p in packets if 10 * NS <= p.time_ns < 20 * NS])
    assert rig.writer.failing
    rig.storage.fault = failing(set(), 0)
    rig.play([p for p in packets if p.time_ns >= 20 * NS])
    rig.stop(40)
    rig.settle()
    assert any(isinstance(event, StorageFailed) for event in rig.events)
    takes = next(event for event in rig.events if isinstance(event, StorageRecovered))
    assert 9 * NS <= takes.outage_ns <= 11 * NS
    for kind in Kind:
        seen: dict[int, tuple[Kind, int, bool, bytes]] = {}
        for sample in of(rig.recorded(), kind):
            assert seen.setdefault(sample[1], sample) == sample
        assert [seen[ticks] for ticks in sorted(seen)] == plain(by_kind(packets, kind))


def test_storage_that_vanished_and_came_back_gets_a_new_segment() -> None:
    rig = Rig()
    packets = scene(30, gop_s=2)
    rig.declare(packets)
    rig.start(0)
    rig.play([p for p in packets if p.time_ns < 11 * NS])
    rig.storage.files[layout.segment("r1", 1)].dead = True
    rig.play([p for p in packets if p.time_ns >= 11 * NS])
    rig.stop(30)
    rig.settle()
    assert rig.segments() == [1, 2]
    assert rig.manifest(1).ended == "fault"
    assert rig.opening(2).overlap
    assert rig.opened(2)[0].key
    assert {sample[1] for sample in of(rig.recorded(), Kind.VIDEO)} == {p.ticks for p in by_kind(packets, Kind.VIDEO)}


def test_memory_bound_in_a_long_outage_is_counted_journalled_and_survived() -> None:
    rig = Rig(max_bytes=40_000, pre_event_s=1)
    packets = scene(60)
    rig.declare(packets)
    rig.start(0)
    rig.play([p for p in packets if p.time_ns < 10 * NS])
    rig.storage.fault = failing({"write"}, errno.ENOSPC, only="recordings")
    rig.play([p for p in packets if 10 * NS <= p.time_ns < 40 * NS])
    rig.storage.fault = failing(set(), 0)
    rig.play([p for p in packets if p.time_ns >= 40 * NS])
    rig.stop(60)
    rig.settle()
    lost = sum(entry.packets for entry in entries(rig) if isinstance(entry, PacketsLost))
    recorded = of(rig.recorded())
    assert lost > 500
    assert len(recorded) + lost == len(packets)
    assert sum(rig.manifest(segment).lost_packets for segment in rig.segments()) == lost
    assert rig.manifest(1).gaps


def test_room_that_is_reserved_for_the_journal_is_not_used() -> None:
    rig = Rig()
    packets = scene(10)
    rig.declare(packets)
    rig.storage.free = 1 << 20
    rig.start(0)
    rig.play(packets)
    refused = next(event for event in rig.events if isinstance(event, StorageFailed))
    assert refused.error.errno == errno.ENOSPC
    rig.storage.free = 1 << 30
    rig.stop(10)
    rig.settle()
    assert_exactly(rig, packets)


def test_slow_sync_is_journalled() -> None:
    rig = Rig()
    packets = scene(3)
    rig.declare(packets)
    rig.start(0)

    def slow(operation: str, _path: str) -> None:
        if operation == "sync":
            rig.clocks.advance(0.2)

    rig.storage.fault = slow
    rig.play(packets)
    assert any(isinstance(entry, SlowSync) and entry.took_ms == 200 for entry in entries(rig))


def test_first_durable_packet_is_reported_with_its_delay() -> None:
    rig = Rig()
    packets = scene(6)
    rig.declare(packets)
    rig.play(packets)
    rig.start(6)
    assert rig.events[0] == FirstStored("r1", 0)


def test_pre_event_backlog_is_stored_with_few_syncs() -> None:
    rig = Rig()
    packets = scene(8)
    rig.declare(packets)
    rig.play(packets)
    before = rig.storage.syncs
    rig.start(8)
    assert rig.storage.syncs - before <= 12


def test_two_recordings_in_a_row_each_get_their_pre_event_seconds() -> None:
    rig = Rig()
    packets = scene(20)
    rig.declare(packets)
    rig.play([p for p in packets if p.time_ns < 8 * NS])
    rig.start(8, "r1")
    rig.play([p for p in packets if 8 * NS <= p.time_ns < 12 * NS])
    rig.stop(12, "r1")
    rig.start(13, "r2")
    rig.play([p for p in packets if 12 * NS <= p.time_ns < 18 * NS])
    rig.stop(18, "r2")
    rig.settle()
    assert_exactly(rig, [p for p in packets if 3 * NS <= p.time_ns < 12 * NS], "r1")
    assert of(rig.recorded("r2"), Kind.VIDEO) == plain(
        [p for p in by_kind(packets, Kind.VIDEO) if 8 * NS <= p.time_ns < 18 * NS]
    )


def test_error_in_a_packet_does_not_end_the_recording() -> None:
    rig = Rig()
    packets = scene(10)
    bad = replace(packets[200], ticks=-(10**12))
    rig.declare(packets)
    rig.start(0)
    rig.play([*packets[:200], bad, *packets[200:]])
    rig.stop(10)
    rig.settle()
    assert RecordingClosed("r1") in rig.events
    missing = set(plain(packets)) - set(of(rig.recorded()))
    assert len(missing) <= 20
    assert sum(e.packets for e in entries(rig) if isinstance(e, PacketsLost)) == len(missing) + 1


def test_shutdown_stores_what_is_in_memory_and_says_interrupted() -> None:
    rig = Rig()
    packets = scene(5)
    rig.declare(packets)
    rig.start(0)
    rig.play(packets)
    rig.writer.close()
    assert rig.manifest(1).ended == "interrupted"
    assert not rig.manifest(1).final
    assert_exactly(rig, packets)


def test_no_error_of_storage_leaves_the_writer() -> None:
    rig = Rig()

    def always(_operation: str, _path: str) -> None:
        raise StorageError(errno.EIO, "gone")

    packets = scene(5)
    rig.declare(packets)
    rig.start(0)
    rig.storage.fault = always
    rig.play(packets)
    rig.writer.close()
    assert not rig.writer.busy
