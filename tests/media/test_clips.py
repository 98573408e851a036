"""The clips have the forms that the tests of all clips are to cover."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from agent.capture.replay import ReplaySource
from agent.errors import SourceError
from agent.media.packet import Kind
from tests.support.clips import ACTION, B_FRAMES, CHANGED, CLIPS, FILM, LATE_SOUND, STREET, clip
from tests.support.containers import of_kind
from tests.support.sources import virtual_pacing

SPS = 7


def packets_of(path: Path) -> list[tuple[int, int, bool, bytes]]:
    """Decode time, presentation time, key flag and bytes of each picture."""
    with av.open(str(path)) as container:
        return [
            (packet.dts, packet.pts, packet.is_keyframe, bytes(packet))
            for packet in container.demux(container.streams.video[0])
            if packet.size and packet.pts is not None and packet.dts is not None
        ]


def test_action_has_a_broadcast_rate_and_many_key_pictures() -> None:
    with av.open(str(clip(ACTION))) as container:
        assert container.streams.video[0].average_rate == Fraction(30_000, 1001)
        assert container.streams.audio[0].layout.name == "stereo"
    assert [number for number, (_, _, key, _) in enumerate(packets_of(clip(ACTION))) if key] == list(range(0, 315, 10))


def test_street_has_5_seconds_between_key_pictures_and_a_silent_microphone() -> None:
    with av.open(str(clip(STREET))) as container:
        assert container.streams.video[0].average_rate == Fraction(25, 2)
        base = container.streams.video[0].time_base
        assert base is not None
        assert not any(any(bytes(plane)) for frame in container.decode(audio=0) for plane in frame.planes)
    keys = [pts * base for _, pts, key, _ in packets_of(clip(STREET)) if key]
    assert {after - before for before, after in pairwise(keys)} == {Fraction(24, 5)}


def test_film_has_one_key_picture_and_surround_sound() -> None:
    with av.open(str(clip(FILM))) as container:
        assert container.streams.audio[0].layout.name == "5.1"
    assert sum(key for _, _, key, _ in packets_of(clip(FILM))) == 1


def test_late_sound_comes_late_and_is_played_so() -> None:
    played = list(ReplaySource(clip(LATE_SOUND), virtual_pacing(), loop=False).open(1))
    first = {kind: of_kind(played, kind)[0] for kind in Kind}
    assert first[Kind.AUDIO].time_ns - first[Kind.VIDEO].time_ns == 1_500_000_000


def test_changed_clip_sends_other_parameter_sets_in_its_stream() -> None:
    sent = []
    for number, (_, _, _, data) in enumerate(packets_of(clip(CHANGED))):
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            unit = data[at + 4 : at + 4 + size]
            if unit[0] & 31 == SPS:
                sent.append((number, unit))
            at += 4 + size
    assert [number for number, _ in sent] == [0, 25, 50, 75, 100, 125]
    (before, after) = dict.fromkeys(unit for _, unit in sent)
    assert before != after
    with av.open(str(clip(CHANGED))) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(640, 272)] * 75 + [(320, 136)] * 75


def test_real_film_with_b_frames_has_them_and_is_refused_as_a_camera() -> None:
    assert any(dts != pts for dts, pts, _, _ in packets_of(clip(B_FRAMES)))
    with pytest.raises(SourceError, match="without B frames"):
        list(ReplaySource(clip(B_FRAMES), virtual_pacing(), loop=False).open(1))


@pytest.mark.parametrize("name", CLIPS)
def test_clips_are_whole(name: str) -> None:
    assert len(list(ReplaySource(clip(name), virtual_pacing(), loop=False).open(1))) > 100
