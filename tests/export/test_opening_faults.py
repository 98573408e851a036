import errno
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.clock import NS
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.export.opened import OpenedSegment
from agent.export.recording import open_recording
from agent.media.packet import Kind, Packet
from agent.recorder.writing.task import Settings
from agent.seal.recipients import HpkeRecipientKey
from tests.support.containers import decoded_times
from tests.support.films import CLIPS, camera, found, only_place, open_rig, packets_of, record, shown, texts
from tests.support.packets import scene
from tests.support.rig import KEY, Rig, of
from tests.support.storage import failing


def both_kinds(path: Path, packets: list[Packet], zero: Fraction = Fraction(0)) -> None:
    for kind in Kind:
        assert found(path, kind) == shown(packets, kind, zero)


# -- segments that join -----------------------------------------------------------------------------------------------


def test_what_two_segments_hold_is_in_the_film_once(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=60 * NS))
    packets = packets_of(camera(CLIPS[1]), 25)
    rig.declare(packets)
    rig.start(0)
    rig.play([p for p in packets if p.time_ns < 11 * NS])
    rig.storage.files[layout.segment("r1", 1)].dead = True
    rig.play([p for p in packets if p.time_ns >= 11 * NS])
    rig.stop(25)
    rig.settle()
    assert rig.opening(2).overlap
    repeated = len(rig.recorded()) - len(packets)
    assert repeated > 10
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    both_kinds(out, packets)
    assert opened.files[0].repeated == repeated
    assert opened.files[0].gaps == ()
    assert "contradict" not in " ".join(opened.missing)


def test_repeated_packets_whose_bytes_are_others_are_named(tmp_path: Path) -> None:
    """Two segments, both signed, that say different things about one moment."""
    rig = Rig()
    packets = scene(12, gop_s=4)
    rig.declare(packets)
    rig.start(0)
    rig.play([p for p in packets if p.time_ns < 6 * NS])
    rig.storage.files[layout.segment("r1", 1)].dead = True
    rig.play([p for p in packets if 6 * NS <= p.time_ns < 6.2 * NS])
    # What is still in memory changes: a fault that no recorder should have, and that nobody may overlook.
    ring = rig.feed._ring._packets
    for at, packet in enumerate(ring):
        if 4 * NS <= packet.time_ns < 5 * NS and packet.kind is Kind.VIDEO:
            ring[at] = replace(packet, data=b"\xee" * len(packet.data))
    rig.play([p for p in packets if p.time_ns >= 6.2 * NS])
    rig.stop(12)
    rig.settle()
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    for kind in Kind:
        assert [sample[:2] for sample in found(out, kind)] == [sample[:2] for sample in shown(packets, kind)]
    assert "30 packets contradict" in " ".join(opened.missing)


def test_source_opened_again_within_a_segment_goes_on_at_its_time(tmp_path: Path) -> None:
    rig = Rig()
    before = packets_of(camera(CLIPS[0]), 4)
    epoch_ns = 6 * NS + 123_456_789
    after = later(packets_of(camera(CLIPS[0]), 3), epoch_ns, generation=2)
    record(rig, before + after, 0, 10)
    assert rig.segments() == [1]
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    assert_near(out, before + after)
    assert {gap.kind for gap in opened.files[0].gaps} == set(Kind)


def test_source_opened_again_before_a_segment_goes_on_at_its_time(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    before = packets_of(camera(CLIPS[0]), 4)
    after = later(packets_of(camera(CLIPS[0]), 14), 6 * NS + 123_456_789, generation=2)
    record(rig, before + after, 0, 18)
    assert len(rig.segments()) > 3
    out = tmp_path / "out.mp4"
    open_rig(rig, out)
    assert_near(out, [p for p in before + after if p.time_ns < 18 * NS])
    decoded_times(out, Kind.VIDEO)


def later(packets: list[Packet], epoch_ns: int, *, generation: int) -> list[Packet]:
    """The same, from another opening of the source."""
    streams = {p.stream: replace(p.stream, epoch_ns=epoch_ns, generation=generation) for p in packets}
    moved = [replace(p, stream=streams[p.stream]) for p in packets]
    return [replace(p, time_ns=p.stream.time_ns(p.ticks)) for p in moved]


def assert_near(path: Path, packets: list[Packet]) -> None:
    """All packets in their order, none off by more than a tick of its stream; inserted silence is passed over."""
    for kind in Kind:
        expected = [(Fraction(p.time_ns, NS), p.data, p.stream.parameters.timescale) for p in packets if p.kind is kind]
        datas = {data for _, data, _ in expected}
        got = [(at, data) for at, data, _ in found(path, kind) if data in datas]
        assert [data for _, data in got] == [data for _, data, _ in expected]
        for (at, _), (wanted, _, timescale) in zip(got, expected, strict=True):
            assert abs(at - wanted) <= Fraction(2, timescale)


def test_changed_parameters_begin_another_file(tmp_path: Path) -> None:
    rig = Rig()
    heroes = packets_of(camera(CLIPS[0]), 12)
    cars = later([p for p in packets_of(camera(CLIPS[1]), 7) if p.kind is Kind.VIDEO], 5 * NS, generation=2)
    sound = [p for p in heroes if p.kind is Kind.AUDIO]
    before = [p for p in heroes if p.kind is Kind.VIDEO and p.time_ns < 5 * NS]
    record(rig, sorted(before + cars + sound, key=lambda packet: packet.time_ns), 0, 11)
    opened = open_rig(rig, tmp_path / "out.mp4")
    first, second = tmp_path / "out-1.mp4", tmp_path / "out-2.mp4"
    assert [file.path for file in opened.files] == [first, second]
    assert not (tmp_path / "out.mp4").exists()
    assert found(first, Kind.VIDEO) == shown(before, Kind.VIDEO)
    assert [data for _, data, _ in found(second, Kind.VIDEO)] == [p.data for p in cars if p.time_ns < 11 * NS]
    heard = [data for path in (first, second) for _, data, _ in found(path, Kind.AUDIO)]
    assert heard == [p.data for p in sound if p.time_ns < 11 * NS]
    for path in (first, second):
        decoded_times(path, Kind.VIDEO)
        decoded_times(path, Kind.AUDIO)
    assert any("begins another file" in note and "stream parameters" in note for note in opened.notes)


def test_segments_kept_apart_are_a_file_each(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = packets_of(camera(CLIPS[0]), 12)
    record(rig, packets, 0, 10)
    opened = open_rig(rig, tmp_path / "out.mp4", apart=True)
    assert [file.path.name for file in opened.files] == [f"out-{n:04d}.mp4" for n in rig.segments()]
    for number, file in zip(rig.segments(), opened.files, strict=True):
        for kind in Kind:
            assert [data for _, data, _ in found(file.path, kind)] == [s[3] for s in of(rig.opened(number), kind)]
        decoded_times(file.path, Kind.VIDEO)


# -- segments that are cut, missing or altered ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.2])
def test_cut_segment_opens_up_to_its_last_whole_fragment(share: float, tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(camera(CLIPS[0]), 10)
    rig.declare(packets)
    rig.start(0)
    rig.play(packets)
    file = rig.storage.files[layout.segment("r1", 1)]
    del file.data[round(len(file.data) * share) :]
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    whole = rig.opened(1)
    for kind in Kind:
        assert [data for _, data, _ in found(out, kind)] == [s[3] for s in of(whole, kind)]
    assert not opened.complete
    said = " ".join(opened.missing)
    assert f"{len(of(whole, Kind.VIDEO)):,} pictures" in said
    assert "no manifest" in said
    (segment,) = opened.segments
    assert segment.opened_bytes + segment.torn_bytes == segment.sealed_bytes == len(file.data)
    assert f"{segment.torn_bytes:,} bytes after its last whole frame are torn" in said
    decoded_times(out, Kind.VIDEO)


def test_segment_cut_within_its_header_is_named_and_the_others_open(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = scene(12)
    record(rig, packets, 0, 11)
    del rig.storage.files[layout.segment("r1", 2)].data[200:]
    opened = open_rig(rig, tmp_path / "out.mp4", verified=False)
    assert "segment 2 could not be opened" in " ".join(opened.missing)
    assert opened.files[0].segments == (1, 3, 4)
    assert {gap.cause for gap in opened.files[0].gaps} == {"segment 2 could not be opened"}
    second = [p for p in packets if 3 * NS <= p.time_ns < 6 * NS]
    seen = {data for kind in Kind for _, data, _ in found(tmp_path / "out.mp4", kind)}
    assert found(tmp_path / "out.mp4", Kind.VIDEO)[-1][0] == Fraction(329, 30)
    assert len(seen) > 100
    assert second


def test_missing_segment_is_named_and_its_time_is_kept(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = packets_of(camera(CLIPS[0]), 13)
    record(rig, packets, 0, 12)
    for name in [layout.opening("r1", 2), layout.segment("r1", 2), layout.manifest("r1", 2)]:
        del rig.storage.files[name]
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out, verified=False)
    assert "nothing is there of segment 2" in opened.missing
    assert {gap.cause for gap in opened.files[0].gaps} == {"segment 2 missing"}
    assert found(out, Kind.VIDEO)[-1] == shown([p for p in packets if p.time_ns < 12 * NS], Kind.VIDEO)[-1]
    assert all(text.startswith("NOT VERIFIED") for _, _, text in texts(out))


def test_altered_segment_gives_what_comes_before_and_is_named(tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(camera(CLIPS[0]), 11)
    record(rig, packets, 0, 10)
    data = rig.storage.files[layout.segment("r1", 1)].data
    data[len(data) // 2] ^= 1
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out, verified=False)
    pictures = found(out, Kind.VIDEO)
    assert 100 < len(pictures) < 200
    assert pictures == shown(packets, Kind.VIDEO)[: len(pictures)]
    assert "not to its end" in " ".join(opened.missing)
    assert "does not fit its authentication tag" in " ".join(opened.missing)


def test_exchanged_sealed_file_is_not_opened_in_its_place(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    record(rig, scene(10), 0, 9)
    files = rig.storage.files
    first, second = layout.segment("r1", 1), layout.segment("r1", 2)
    files[first].data, files[second].data = files[second].data, files[first].data
    opened = open_rig(rig, tmp_path / "out.mp4", verified=False)
    said = " ".join(opened.missing)
    assert said.count("signs the header of another sealed file") == 2
    assert opened.files[0].segments == (3,)


def test_nothing_that_opens_leaves_no_file(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, scene(3), 0, 2)
    del rig.storage.files[layout.opening("r1", 1)]
    with pytest.raises(EvidenceError, match=r"nothing of this recording could be opened.*no opening statement"):
        open_rig(rig, tmp_path / "out.mp4", verified=False)
    assert list(tmp_path.iterdir()) == []


# -- keys and files ---------------------------------------------------------------------------------------------------


def test_key_of_somebody_else_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, scene(3), 0, 2)
    other = HpkeRecipientKey.generate()
    with pytest.raises(EvidenceError, match=f"{other.recipient.kid}, is none of those.*{KEY.recipient.kid}"):
        open_recording(only_place(rig.storage), other, tmp_path / "out.mp4", verified=True)
    assert list(tmp_path.iterdir()) == []


def test_part_that_is_sealed_to_others_is_named_and_its_time_is_kept(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = packets_of(camera(CLIPS[0]), 13)
    rig.declare(packets)
    rig.start(0)
    rig.play([p for p in packets if p.time_ns < 6 * NS])
    rig.identity = replace(rig.identity, recipients=[HpkeRecipientKey.generate().recipient])
    rig.play([p for p in packets if p.time_ns >= 6 * NS])
    rig.stop(12)
    rig.settle()
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    assert "it is sealed to others than the holder of this key" in " ".join(opened.missing)
    assert opened.files[0].seconds == pytest.approx(12, abs=0.001)
    assert {gap.cause for gap in opened.files[0].gaps} == {"segments 3 to 5 could not be opened"}
    pictures = found(out, Kind.VIDEO)
    assert pictures == shown(packets, Kind.VIDEO)[: len(pictures)]
    assert not opened.complete


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_existing_file_is_never_overwritten(make: Callable[[Path], object], tmp_path: Path) -> None:
    rig = Rig()
    record(rig, scene(3), 0, 2)
    out = tmp_path / "out.mp4"
    make(out)
    with pytest.raises(StorageError, match="is there already"):
        open_rig(rig, out)
    assert list(tmp_path.iterdir()) == [out]


def test_file_that_appears_meanwhile_is_not_overwritten_either(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, scene(3), 0, 2)
    out = tmp_path / "out.mp4"

    def put(_done: int, _of: int) -> None:
        out.write_bytes(b"mine")

    with pytest.raises(StorageError, match="is there already"):
        open_rig(rig, out, progress=put)
    assert out.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [out]


def test_interruption_leaves_no_plain_file(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, scene(30), 0, 29)

    def interrupt(done: int, of: int) -> None:
        if done > of // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_rig(rig, tmp_path / "out.mp4", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_evidence_that_can_not_be_read_on_is_told_as_such(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    record(rig, scene(10), 0, 9)
    place = only_place(rig.storage)
    rig.storage.fault = failing({"read"}, errno.EIO, only="0002.seg")
    with pytest.raises(StorageError):
        open_recording(place, KEY, tmp_path / "out.mp4", verified=True)
    assert list(tmp_path.iterdir()) == []


def test_file_is_readable_for_its_owner_only(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, scene(3), 0, 2)
    open_rig(rig, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_mode & 0o777 == 0o600


# -- what fell out of memory ------------------------------------------------------------------------------------------


def test_packets_that_fell_out_of_memory_are_a_gap_with_its_reason(tmp_path: Path) -> None:
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
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    gap = next(gap for gap in opened.files[0].gaps if gap.kind is Kind.VIDEO)
    assert gap.cause == "memory bound"
    assert gap.to_s - gap.from_s > 15
    assert "fell out of memory" in " ".join(opened.missing)
    assert found(out, Kind.VIDEO)[-1] == shown(packets, Kind.VIDEO)[-1]
    assert not opened.complete


def test_summary_counts_what_each_segment_gave(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = scene(10)
    record(rig, packets, 0, 9)
    opened = open_rig(rig, tmp_path / "out.mp4")
    counted: dict[Kind, int] = dict.fromkeys(Kind, 0)
    for segment in opened.segments:
        assert isinstance(segment, OpenedSegment)
        assert segment.complete
        for kind, count in segment.packets.items():
            counted[kind] += count
    assert counted == {k: sum(p.kind is k and p.time_ns < 9 * NS for p in packets) for k in Kind}
    assert counted == opened.files[0].packets
