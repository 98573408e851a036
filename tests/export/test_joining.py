from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.evidence.manifest import Track
from agent.export.joining import MOST_HELD_NS, Filling, Gap, Join, JoinedTrack, TimeLine
from agent.export.placing import Placement
from agent.media.fmp4_reader import Sample
from agent.media.mp4 import MAX_TICKS
from agent.media.packet import Kind, StreamParameters
from agent.media.silence import silence
from tests.support.packets import AUDIO, VIDEO

FRAME = 1024
NO_SILENCE = bytes.fromhex("1180")
"""An AudioSpecificConfig that leaves the channels to the frames."""

Row = tuple[int, bytes, bool]


@dataclass
class Sheet:
    """Everything that a file would get."""

    rows: dict[Kind, list[Row]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    gaps: list[Gap] = field(default_factory=list)

    def adder(self, kind: Kind) -> Callable[[int, bytes, bool], None]:
        return lambda ticks, data, key: self.rows[kind].append((ticks, data, key))

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)


def joined(
    parameters: StreamParameters, front_ns: int = 0, filling: Filling | None = None
) -> tuple[JoinedTrack, Sheet]:
    sheet = Sheet()
    track = JoinedTrack(parameters, sheet, lambda: front_ns, filling or Filling())
    track.begin_segment(0, overlaps=False, remember_from=None)
    return track, sheet


def picture(ticks: int, data: bytes = b"p", duration: int = 1000) -> Sample:
    return Sample(Kind.VIDEO, ticks, duration, key=True, data=data)


def sound(ticks: int, data: bytes = b"s") -> Sample:
    return Sample(Kind.AUDIO, ticks, FRAME, key=True, data=data)


def track_of(parameters: StreamParameters, base_ticks: int = 0) -> Track:
    return Track(parameters.kind, parameters.codec, parameters.timescale, base_ticks, "", 0, 0, 0, 0)


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(st.integers(0, 500_000), min_size=1, max_size=60), cuts=st.sets(st.integers(1, 59)))
def test_samples_keep_their_times_wherever_segments_are_cut(steps: list[int], cuts: set[int]) -> None:
    times = [sum(steps[:count]) for count in range(len(steps))]
    track, sheet = joined(VIDEO)
    base = 0
    for index, at in enumerate(times):
        if index in cuts:
            base = at
            track.begin_segment(base, overlaps=False, remember_from=None)
        assert track.add(picture(at - base, bytes([index])))
    assert sheet.rows[Kind.VIDEO] == [(at, bytes([index]), True) for index, at in enumerate(times)]


@settings(max_examples=80, deadline=None)
@given(gaps=st.lists(st.integers(0, 20 * FRAME), min_size=2, max_size=40), tail=st.integers(0, 3 * NS))
def test_sound_never_pauses_and_no_frame_of_it_is_moved(gaps: list[int], tail: int) -> None:
    times = [sum(gaps[: count + 1]) + count * FRAME for count in range(len(gaps))]
    track, sheet = joined(AUDIO)
    for at in times:
        assert track.add(sound(at))
    end = track.finish(track.end_ns + tail)
    own = [row for row in sheet.rows[Kind.AUDIO] if row[1] == b"s"]
    assert own == [(at, b"s", True) for at in times]
    steps = [after - before for (before, _, _), (after, _, _) in pairwise(sheet.rows[Kind.AUDIO])]
    assert all(FRAME <= step < 2 * FRAME for step in steps)
    assert FRAME <= end - sheet.rows[Kind.AUDIO][-1][0] < 2 * FRAME + NS
    assert sheet.rows[Kind.AUDIO][0][0] < FRAME
    assert track.silent_frames == len(sheet.rows[Kind.AUDIO]) - len(times)
    assert sum(gap.silent_frames for gap in sheet.gaps) == track.silent_frames


def test_gap_within_a_fragment_is_filled_too() -> None:
    """Within a fragment a sample's stated duration reaches to the next one, whatever sounds."""
    track, sheet = joined(AUDIO)
    track.add(replace(sound(0), duration=5 * FRAME))
    track.add(sound(5 * FRAME))
    assert [row[0] for row in sheet.rows[Kind.AUDIO]] == [n * FRAME for n in range(6)]
    assert track.silent_frames == 4


def test_silence_of_a_rate_that_is_not_the_timescales_stays_within_a_tick() -> None:
    parameters = replace(AUDIO, timescale=90_000, extradata=bytes.fromhex("1210"), sample_rate=44_100)
    silent = silence(parameters)
    assert silent is not None
    track, sheet = joined(parameters)
    track.add(Sample(Kind.AUDIO, 0, 2089, key=True, data=b"s"))
    track.add(Sample(Kind.AUDIO, 900_000, 2089, key=True, data=b"s"))
    for index, (at, _, _) in enumerate(sheet.rows[Kind.AUDIO][1:-1]):
        assert 0 <= 2089 + index * silent.ticks - at < 1


def test_sound_for_which_no_silence_is_known_is_held_at_its_exact_time() -> None:
    parameters = replace(AUDIO, extradata=NO_SILENCE)
    track, sheet = joined(parameters)
    track.add(sound(0))
    track.add(sound(48_000))
    assert [row[0] for row in sheet.rows[Kind.AUDIO]] == [0, 48_000]
    assert [(gap.silent_frames, gap.to_ns) for gap in sheet.gaps] == [(0, NS)]


@settings(max_examples=80, deadline=None)
@given(count=st.integers(2, 60), again=st.data(), jitter=st.sampled_from([-1, 0, 1]))
def test_what_a_segment_repeats_is_dropped_once_its_bytes_are_seen_to_be_equal(
    count: int, again: st.DataObject, jitter: int
) -> None:
    start = again.draw(st.integers(0, count - 1))
    track, sheet = joined(VIDEO)
    track.begin_segment(0, overlaps=False, remember_from=max(0, start * 1000 - 5))
    for index in range(count):
        track.add(picture(index * 1000, bytes([index])))
    track.begin_segment(start * 1000 + jitter, overlaps=True, remember_from=None)
    for index in range(start, count + 5):
        track.add(picture((index - start) * 1000, bytes([index])))
    assert [data for _, data, _ in sheet.rows[Kind.VIDEO]] == [bytes([index]) for index in range(count + 5)]
    assert track.repeated == count - start
    assert track.contradictions == 0


def test_repeated_sample_with_other_bytes_is_left_out_and_counted() -> None:
    track, sheet = joined(VIDEO)
    track.begin_segment(0, overlaps=False, remember_from=0)
    track.add(picture(0, b"a"))
    track.add(picture(1000, b"b"))
    track.begin_segment(0, overlaps=True, remember_from=None)
    track.add(picture(0, b"a"))
    track.add(picture(1000, b"x"))
    track.add(picture(2000, b"c"))
    assert [data for _, data, _ in sheet.rows[Kind.VIDEO]] == [b"a", b"b", b"c"]
    assert (track.repeated, track.contradictions) == (1, 1)


def test_time_that_goes_back_moves_what_follows_and_is_counted() -> None:
    track, sheet = joined(VIDEO)
    for ticks in (0, 1000, 500, 1500):
        track.add(picture(ticks))
    assert [row[0] for row in sheet.rows[Kind.VIDEO]] == [0, 1000, 2000, 3000]
    assert track.moved_back == 1


def test_gap_that_no_file_can_hold_is_refused() -> None:
    track, _ = joined(replace(VIDEO, timescale=1_000_000))
    track.add(picture(0))
    assert track.add(picture(MAX_TICKS))
    assert not track.add(picture(2 * MAX_TICKS + 1))


def test_dark_time_longer_than_a_shift_is_refused_but_not_of_one_track_alone() -> None:
    parameters = replace(AUDIO, extradata=NO_SILENCE)
    dark = (MOST_HELD_NS // NS + 10) * AUDIO.timescale
    track, _ = joined(parameters)
    track.add(sound(0))
    assert not track.add(sound(dark))
    track, sheet = joined(parameters, front_ns=MOST_HELD_NS)
    track.add(sound(0))
    assert track.add(sound(dark))
    assert sheet.rows[Kind.AUDIO][-1][0] == dark


def test_last_picture_is_held_to_the_end_but_not_beyond_what_players_read() -> None:
    track, _ = joined(replace(VIDEO, timescale=1_000_000))
    track.add(picture(0, duration=33_333))
    assert track.finish(10 * NS) == 10_000_000
    track, _ = joined(replace(VIDEO, timescale=1_000_000))
    track.add(picture(0, duration=33_333))
    assert track.finish(10_000 * NS) == MAX_TICKS


def test_end_that_is_less_than_half_a_second_away_adds_nothing() -> None:
    track, sheet = joined(AUDIO)
    track.add(sound(0))
    assert track.finish(NS // 2) == FRAME
    assert len(sheet.rows[Kind.AUDIO]) == 1


@settings(max_examples=100, deadline=None)
@given(
    timescales=st.lists(st.sampled_from([12_800, 25_000, 44_100, 48_000, 90_000, 1_000_000]), min_size=1, max_size=2),
    bases=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    apart_ns=st.integers(0, 5 * NS),
)
def test_tracks_of_a_file_are_whole_ticks_from_its_zero_and_stay_in_step(
    timescales: list[int], bases: tuple[int, int], apart_ns: int
) -> None:
    kinds = list(Kind)[: len(timescales)]
    epochs = {kind: index * apart_ns for index, kind in enumerate(kinds)}
    base_ticks = dict(zip(kinds, bases, strict=False))
    tracks = [
        Track(kind, "", timescale, base_ticks[kind], "", 0, 0, 0, 0)
        for kind, timescale in zip(kinds, timescales, strict=True)
    ]
    line = TimeLine(tracks, Placement(0, epochs, base_ticks, None), base_ticks)
    firsts = {}
    for track in tracks:
        at = track.base_ticks + line.offset(epochs[track.kind], track.timescale)
        assert at >= 0
        firsts[track.kind] = Fraction(at, track.timescale)
        moved = Fraction(track.base_ticks, track.timescale) + Fraction(epochs[track.kind], NS)
        error = abs(moved - Fraction(line.zero_ns, NS) - firsts[track.kind])
        assert error <= Fraction(1, track.timescale) + Fraction(1, NS)
    if apart_ns == 0 and len(tracks) == 2:
        first, second = tracks
        step = Fraction(first.base_ticks, first.timescale) - Fraction(second.base_ticks, second.timescale)
        assert firsts[first.kind] - firsts[second.kind] == step
    assert min(firsts.values()) < Fraction(1, 100)


def test_track_that_never_comes_is_a_gap_from_end_to_end() -> None:
    sheet = Sheet()
    placement = Placement(0, dict.fromkeys(Kind, 0), dict.fromkeys(Kind, 0), None)
    line = TimeLine([track_of(VIDEO), track_of(AUDIO)], placement, placement.base_ticks)
    join = Join([VIDEO, AUDIO], line, sheet)
    join.begin_segment(placement, overlaps=False, remember_from_ns=None)
    join.tracks[Kind.VIDEO].add(picture(0))
    assert join.settled_ns == 0
    assert set(join.finish(2 * NS)) == {Kind.VIDEO}
    assert Gap(Kind.AUDIO, 0, 2 * NS, 0) in sheet.gaps
