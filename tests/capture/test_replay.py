from collections.abc import Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.frame import PictureType
from av.video.stream import VideoStream

from agent.capture.pattern import PatternSettings, PatternSource
from agent.capture.replay import ReplaySource, check_replayable
from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Kind, Packet
from tests.support.clips import CLIPS, FILM, STREET, clip
from tests.support.containers import decoded_times, ffmpeg_packets, of_kind, segment
from tests.support.sources import VirtualPacer, virtual_pacing


def played(path: Path, count: int | None = None, *, loop: bool = False, start_ns: int = 0) -> list[Packet]:
    return list(islice(ReplaySource(path, virtual_pacing(start_ns), loop=loop).open(1), count))


def encode(path: Path, *, options: dict[str, str], codec: str = "libx264", sound: str | None = None) -> Path:
    """A file of 1 s with 10 pictures, and sound if asked, as FFmpeg writes it."""
    scene, tone = Graph(), Graph()
    scene.link_nodes(scene.add("testsrc2", size="160x120", rate="10"), scene.add("buffersink")).configure()
    tone.link_nodes(tone.add("sine", samples_per_frame="1024"), tone.add("abuffersink")).configure()
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=10, options=options, width=160, height=120, pix_fmt="yuv420p")
        assert isinstance(pictures, VideoStream)
        sounds = container.add_stream(sound, rate=44_100, layout="mono") if sound else None
        for _ in range(10):
            frame = scene.vpull()
            frame.pict_type = PictureType.NONE
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        if isinstance(sounds, AudioStream):
            for _ in range(43):
                samples = tone.pull()
                assert isinstance(samples, AudioFrame)
                container.mux(sounds.encode(samples))
            container.mux(sounds.encode(None))
    return path


@pytest.mark.parametrize("name", CLIPS)
def test_packets_are_the_files_own_bytes_times_and_keys(name: str) -> None:
    packets = played(clip(name))
    for kind in Kind:
        expected = ffmpeg_packets(clip(name), kind)
        assert [(packet.ticks, packet.data, packet.key) for packet in of_kind(packets, kind)] == expected


@pytest.mark.parametrize("name", CLIPS)
def test_packets_come_in_the_order_of_their_times_and_when_due(name: str) -> None:
    pacer = VirtualPacer(5 * NS)
    packets = []
    for packet in ReplaySource(clip(name), lambda: pacer, loop=False).open(4):
        assert pacer.now_ns() == packet.time_ns == packet.stream.time_ns(packet.ticks)
        packets.append(packet)
    assert packets[0].time_ns == 5 * NS
    assert all(before.time_ns <= after.time_ns for before, after in pairwise(packets))
    assert {packet.stream.generation for packet in packets} == {4}


def steps(packets: Sequence[Packet]) -> list[int]:
    return [after.ticks - before.ticks for before, after in pairwise(packets)]


@pytest.mark.parametrize("name", CLIPS)
def test_looping_continues_without_a_step_in_time_and_without_drift(name: str) -> None:
    once = played(clip(name))
    rounds = 4
    packets = played(clip(name), rounds * len(once), loop=True)
    ends = {
        kind: Fraction(track[-1].ticks + track[-1].duration, track[0].stream.parameters.timescale)
        for kind in Kind
        if (track := of_kind(once, kind))
    }
    period = max(ends.values())
    longer = max(ends, key=lambda kind: ends[kind])
    for kind in Kind:
        track, first = of_kind(packets, kind), of_kind(once, kind)
        timescale = track[0].stream.parameters.timescale
        for number, packet in enumerate(track):
            round_number, index = divmod(number, len(first))
            exact = Fraction(first[index].ticks, timescale) + round_number * period
            assert 0 <= exact - Fraction(packet.ticks, timescale) < Fraction(1, timescale)
            assert packet.data == first[index].data
        assert min(steps(track)) > 0
        if kind is longer:
            assert set(steps(track)) == set(steps(first))


def test_looped_clip_decodes_across_the_seam() -> None:
    packets = played(clip(FILM), 500, loop=True)
    pictures = of_kind(packets, Kind.VIDEO)
    expected = [Fraction(packet.ticks, packet.stream.parameters.timescale) for packet in pictures]
    assert decoded_times(segment(packets), Kind.VIDEO) == expected


def test_file_ends_quietly_when_it_is_not_looped() -> None:
    assert len(played(clip(STREET), loop=False)) == 377 + 1414


def test_each_opening_begins_at_the_files_beginning() -> None:
    source = ReplaySource(clip(STREET), virtual_pacing())
    first, second = source.open(1), source.open(2)
    assert [packet.data for packet in islice(first, 20)] == [packet.data for packet in islice(second, 20)]
    assert [stream.generation for stream in second.streams] == [2, 2]


def test_closing_ends_the_iteration() -> None:
    opening = ReplaySource(clip(STREET), virtual_pacing()).open(1)
    packets = []
    for packet in opening:
        packets.append(packet)
        if len(packets) == 5:
            opening.close()
    assert len(packets) == 5
    opening.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own fragmented MP4 of the pattern."""
    path = tmp_path_factory.mktemp("clips") / "small.mp4"
    settings = PatternSettings(width=160, height=120, fps=10, gop=5)
    path.write_bytes(segment(list(islice(PatternSource(settings, virtual_pacing()).open(1), 140))))
    return path


def test_our_own_fragmented_files_replay_and_loop(small: Path) -> None:
    once = played(small)
    assert len(once) == 140
    twice = played(small, 280, loop=True)
    assert [packet.data for packet in twice] == [packet.data for packet in once] * 2
    for kind in Kind:
        assert min(steps(of_kind(twice, kind))) > 0


def test_sound_alone_is_a_source(tmp_path: Path) -> None:
    sounds = of_kind(played(clip(STREET)), Kind.AUDIO)
    path = tmp_path / "sound.mp4"
    path.write_bytes(segment(sounds))
    again = played(path)
    assert [(packet.ticks, packet.data) for packet in again] == [(packet.ticks, packet.data) for packet in sounds]


def test_late_sound_stays_late(small: Path, tmp_path: Path) -> None:
    late = [packet for packet in played(small) if packet.kind is Kind.VIDEO or packet.time_ns >= NS]
    path = tmp_path / "late.mp4"
    path.write_bytes(segment(late))
    again = played(path)
    assert [(packet.ticks, packet.time_ns) for packet in again] == [(packet.ticks, packet.time_ns) for packet in late]


def test_file_that_begins_late_is_moved_by_whole_seconds_and_starts_at_once(small: Path, tmp_path: Path) -> None:
    tail = [packet for packet in played(small) if packet.time_ns >= 2 * NS]
    key = next(number for number, packet in enumerate(tail) if packet.key and packet.kind is Kind.VIDEO)
    path = tmp_path / "tail.mp4"
    path.write_bytes(segment(tail[key:]))
    again = played(path, start_ns=50 * NS)
    for before, after in zip(tail[key:], again, strict=True):
        assert after.ticks == before.ticks - 2 * before.stream.parameters.timescale
    assert again[0].time_ns == 50 * NS


def test_priming_that_the_edit_list_hides_is_not_delivered(tmp_path: Path) -> None:
    path = encode(tmp_path / "primed.mp4", options={"tune": "zerolatency"}, sound="aac")
    hidden, *heard = ffmpeg_packets(path, Kind.AUDIO)
    assert hidden[0] == -1024
    sounds = of_kind(played(path), Kind.AUDIO)
    assert [(packet.ticks, packet.data) for packet in sounds] == [(time, data) for time, data, _ in heard]
    assert sounds[0].ticks == 0
    looped = of_kind(played(path, 3 * 53, loop=True), Kind.AUDIO)
    assert min(steps(looped)) == 1024


def test_b_frames_are_refused_on_opening_with_the_command_that_removes_them(tmp_path: Path) -> None:
    path = encode(tmp_path / "b.mp4", options={"bf": "2", "b-adapt": "0"})
    with pytest.raises(SourceError, match=r"B frames.*ffmpeg -i b\.mp4 -c:v libx264 -bf 0"):
        ReplaySource(path, virtual_pacing()).open(1)


def test_film_is_checked_to_its_end_before_it_is_used(tmp_path: Path) -> None:
    check_replayable(clip(STREET))
    path = encode(tmp_path / "b.mp4", options={"bf": "2", "b-adapt": "0"})
    with pytest.raises(SourceError, match="B frames"):
        check_replayable(path)


def test_other_video_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "mpeg4.mp4", options={}, codec="mpeg4")
    with pytest.raises(SourceError, match=r"video of .* is mpeg4"):
        ReplaySource(path, virtual_pacing()).open(1)


def test_other_sound_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "mp3.mp4", options={"tune": "zerolatency"}, sound="libmp3lame")
    with pytest.raises(SourceError, match=r"audio of .* is mp3"):
        ReplaySource(path, virtual_pacing()).open(1)


@pytest.mark.parametrize("container", ["mkv", "ts"])
def test_other_containers_are_refused(tmp_path: Path, container: str) -> None:
    path = encode(tmp_path / f"x.{container}", options={"tune": "zerolatency"})
    with pytest.raises(SourceError, match="expected an MP4 file"):
        ReplaySource(path, virtual_pacing()).open(1)


@pytest.mark.parametrize("content", [b"", b"f", b"garbage of some length, longer than a box's header", bytes(100)])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="expected an MP4 file"):
        ReplaySource(path, virtual_pacing()).open(1)


def test_missing_file_folder_and_url_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.mp4", tmp_path, Path("http://127.0.0.1/x.mp4"), Path("concat:a|b")):
        with pytest.raises(SourceError, match="missing or not a regular file"):
            ReplaySource(path, virtual_pacing()).open(1)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    data = clip(STREET).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError, match="cut"):
        ReplaySource(path, virtual_pacing()).open(1)


def test_mp4_without_tracks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"\0\0\0\x18ftypiso6\0\0\0\0iso6mp41")
    with pytest.raises(SourceError, match="expected an MP4 file"):
        ReplaySource(path, virtual_pacing()).open(1)


def test_file_that_vanishes_is_a_source_error(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "vanishing.mp4"
    path.write_bytes(small.read_bytes())
    opening = ReplaySource(path, virtual_pacing()).open(1)
    path.unlink()
    with pytest.raises(SourceError, match="can't be opened"):
        list(opening)


def test_file_that_was_replaced_by_another_stream_is_a_source_error(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "replaced.mp4"
    path.write_bytes(clip(STREET).read_bytes())
    opening = ReplaySource(path, virtual_pacing()).open(1)
    path.write_bytes(small.read_bytes())
    with pytest.raises(SourceError, match="changed"):
        list(opening)
