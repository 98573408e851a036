from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS, WallReading
from agent.export.text_track import SHOWN_NS, Note, TextTrack, provenance, time_text

UTC = 1_795_000_000 * NS


def wall(at_ns: int) -> WallReading:
    """A trusted clock on which the line's 0 is a quarter second after a whole one."""
    return WallReading(UTC + NS // 4 + at_ns, "ntp", 0.011)


def track(mode: str = "recording", **changes: object) -> tuple[TextTrack, list[tuple[int, str]]]:
    cues: list[tuple[int, str]] = []
    text = TextTrack(
        lambda at, said: cues.append((at, said)),
        changes.get("wall", wall),  # type: ignore[arg-type]
        zero_ns=0,
        caption="city/cam-1 r1",
        mode=mode,
    )
    return text, cues


def test_clock_runs_by_the_second_from_the_first_moment_to_the_last() -> None:
    text, cues = track()
    assert text.finish(3 * NS + 1) == 3001
    assert [at for at, _ in cues] == [0, 750, 1750, 2750]
    assert cues[0][1] == "city/cam-1 r1 | 2026-11-18 11:06:40 UTC (ntp, within 11 ms) | recording"
    assert [said[27:35] for _, said in cues] == ["11:06:40", "11:06:41", "11:06:42", "11:06:43"]


def test_cues_come_as_soon_as_all_is_known_and_not_before() -> None:
    text, cues = track()
    text.until(NS)
    assert [at for at, _ in cues] == []
    text.until(2 * NS)
    assert [at for at, _ in cues] == [0]
    text.note(Note(2 * NS, 2 * NS + SHOWN_NS, "mark"))
    text.finish(4 * NS)
    assert ("mark" in cues[-1][1], "mark" in cues[0][1]) == (True, False)


def test_note_is_shown_from_its_moment_to_its_end() -> None:
    text, cues = track()
    text.note(Note(1_234_000_000, 2_345_000_000, "no sound"))
    text.finish(4 * NS)
    shown = [(at, said.partition("\n")[2]) for at, said in cues]
    assert shown == [(0, ""), (750, ""), (1234, "no sound"), (1750, "no sound"), (2345, ""), (2750, ""), (3750, "")]


def test_no_clock_runs_in_the_dark() -> None:
    text, cues = track()
    text.note(Note(NS, 100 * NS, "power loss", downtime=True))
    text.finish(101 * NS)
    shown = next(text for _, text in cues if "power loss" in text)
    assert shown == "city/cam-1 r1 | not recording\npower loss"
    assert len(cues) == 5


def test_mode_changes_at_its_moment() -> None:
    text, cues = track("before the start")
    text.mode(1_500_000_000, "recording")
    text.mode(2_000_000_000, "muted")
    text.finish(3 * NS)
    modes = [(at, said.rsplit(" | ", 1)[1]) for at, said in cues]
    assert modes == [
        (0, "before the start"),
        (750, "before the start"),
        (1500, "recording"),
        (1750, "recording"),
        (2000, "muted"),
        (2750, "muted"),
    ]


def test_unknown_time_is_said_to_be_so() -> None:
    text, cues = track(wall=lambda at: WallReading(UTC + at, "unsynchronised", None))
    text.finish(NS // 2)
    assert "(unsynchronised, error unknown)" in cues[0][1]
    text, cues = track(wall=lambda _at: None)
    text.finish(5 * NS)
    assert cues == [(0, "city/cam-1 r1 | recording")]


def test_clock_beyond_any_calendar_breaks_nothing() -> None:
    text, cues = track(wall=lambda at: WallReading((1 << 62) * 100 + at, "ntp", 0.01))
    text.finish(2 * NS)
    assert "time unknown" in cues[0][1]
    assert time_text(WallReading(1 << 80, "ntp", None)) == "?"


@pytest.mark.parametrize(
    ("within_s", "said"),
    [(0.0104, "ntp, within 10 ms"), (2.34, "ntp, within 2.3 s"), (None, "ntp, error unknown")],
)
def test_provenance_is_told_in_words(within_s: float | None, said: str) -> None:
    assert provenance(WallReading(0, "ntp", within_s)) == said


def test_very_many_notes_and_terminal_commands_stay_harmless() -> None:
    text, cues = track()
    for number in range(1000):
        text.note(Note(0, NS, f"note {number} \x1b[2J" + "x" * 10_000))
    text.finish(2 * NS)
    assert len(cues[0][1].encode()) < 3000
    assert "\x1b" not in cues[0][1]
    assert cues[0][1].splitlines()[-1] == "and 994 more"


@settings(max_examples=80, deadline=None)
@given(
    notes=st.lists(st.tuples(st.integers(0, 20 * NS), st.integers(1, 5 * NS)), max_size=12),
    steps=st.lists(st.integers(0, 5 * NS), max_size=8),
    end=st.integers(1, 25 * NS),
)
def test_cues_follow_each_other_and_every_note_is_told(
    notes: list[tuple[int, int]], steps: list[int], end: int
) -> None:
    text, cues = track()
    for number, (at, lasts) in enumerate(notes):
        text.note(Note(at, at + lasts, f"<{number}>"))
    at = 0
    for step in steps:
        at = min(end, at + step)
        text.until(at)
    end_ms = text.finish(end)
    assert cues[0][0] == 0
    assert all(before[0] < after[0] for before, after in pairwise(cues))
    assert end_ms >= cues[-1][0]
    told = "".join(said for _, said in cues)
    for number, (begins, lasts) in enumerate(notes):
        if lasts > 1_000_000 and begins + 1_000_000 < end and len(notes) < 7:
            assert f"<{number}>" in told
