"""The text beside a film: a strict parser reads it, and it says what the film's own text track says at that time."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import StorageError
from agent.export.webvtt import WebVtt
from agent.media.packet import Kind
from agent.output import escaped
from agent.storage import new_file
from tests.support.clips import ACTION
from tests.support.films import camera, found, open_rig, packets_of, record, texts
from tests.support.rig import Rig
from tests.support.sources import microphone_dies

Cue = tuple[int, int, str]
_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})", re.ASCII)
_REFERENCE = re.compile(r"&(amp|lt|gt);")


def parsed(data: bytes) -> list[Cue]:
    """The cues of a WebVTT file: beginning, end and text. Stricter than a browser, which forgives most of this."""
    header, *blocks = data.decode("utf-8").removesuffix("\n").split("\n\n")
    assert header.rstrip("\n") == "WEBVTT"
    cues: list[Cue] = []
    for block in blocks:
        times, *lines = block.split("\n")
        match = _TIMES.fullmatch(times)
        assert match, times
        numbers = list(map(int, match.groups()))
        begin, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
        assert begin < end
        assert begin >= (cues[-1][1] if cues else 0), "cues neither overlap nor go back"
        assert lines
        for line in lines:
            assert line
            assert not re.search("[<>\r\0]", line)
            assert "&" not in _REFERENCE.sub("", line)
        text = "\n".join(lines)
        cues.append((begin, end, _REFERENCE.sub(lambda r: {"amp": "&", "lt": "<", "gt": ">"}[r[1]], text)))
    return cues


def written(cues: list[tuple[int, str]], end: int) -> list[Cue]:
    stream = io.BytesIO()
    vtt = WebVtt(stream)
    for at, text in cues:
        vtt.add(at, text)
    vtt.finish(end)
    return parsed(stream.getvalue())


def test_cue_stands_until_the_next_and_the_last_until_the_end() -> None:
    assert written([(0, "a"), (750, "b\nc"), (3_600_000 * 101, "d")], 3_600_000 * 101 + 1) == [
        (0, 750, "a"),
        (750, 3_600_000 * 101, "b\nc"),
        (3_600_000 * 101, 3_600_000 * 101 + 1, "d"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b> & <c.red>",
        "00:00:00.000 --> 99:00:00.000",
        "a\n\n00:00:09.000 --> 00:00:10.000\nforged",
        "\n\nNOTE hidden",
        "WEBVTT",
        "&lt;script&gt; &amp;amp;",
    ],
)
def test_text_of_a_journal_can_neither_be_markup_nor_forge_a_cue(text: str) -> None:
    visible = "\n".join(line for line in text.split("\n") if line)
    assert written([(0, "before"), (1, text), (2, "after")], 3) == [(0, 1, "before"), (1, 2, visible), (2, 3, "after")]


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_comes_back_as_the_film_shows_it(lines: list[str]) -> None:
    shown = [escaped(line) for line in lines]
    visible = "\n".join(line for line in shown if line)
    assert written([(5, "\n".join(shown))], 9) == ([(5, 9, visible)] if visible else [])


def test_text_beside_the_film_is_the_films_own_at_the_same_times(tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(microphone_dies(camera(ACTION), 3), 11)
    record(rig, packets, 1, 10)
    out = tmp_path / "stop.mp4"
    (file,) = open_rig(rig, out).files
    assert (file.path, file.text) == (out, tmp_path / "stop.vtt")
    assert file.text.stat().st_mode & 0o777 == 0o600
    cues, track = parsed(file.text.read_bytes()), texts(out)
    assert [(begin, text) for begin, _, text in cues] == [(at, text) for at, _, text in track]
    assert all(end == begin + length for (begin, end, _), (_, length, _) in zip(cues, track, strict=True))
    assert cues[-1][1] / 1000 == pytest.approx(file.seconds, abs=0.001)
    assert cues[-1][1] / 1000 >= max(at for at, _, _ in found(out, Kind.VIDEO))
    (gap,) = file.gaps
    named = [begin for begin, _, text in cues if "silence inserted" in text]
    assert named[0] / 1000 == pytest.approx(gap.from_s, abs=0.001)


def test_each_film_has_its_own_text(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, packets_of(camera(ACTION), 11), 1, 10)
    files = open_rig(rig, tmp_path / "a.mp4", apart=True).files
    assert [file.text.name for file in files] == [file.path.with_suffix(".vtt").name for file in files]
    for file in files:
        cues = parsed(file.text.read_bytes())
        assert cues[0][0] == 0
        assert cues[-1][1] / 1000 == pytest.approx(file.seconds, abs=0.001)


def test_nothing_is_overwritten_where_the_texts_name_is_taken(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, packets_of(camera(ACTION), 4), 1, 3)
    (tmp_path / "a.vtt").write_text("mine")
    with pytest.raises(StorageError, match=r"a\.vtt is there already"):
        open_rig(rig, tmp_path / "a.mp4")
    with pytest.raises(StorageError, match="expected a film's name"):
        open_rig(rig, tmp_path / "b.vtt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.vtt"]
    assert (tmp_path / "a.vtt").read_text() == "mine"


def test_no_text_is_left_without_its_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The film's name is taken by somebody else after the text got its own."""
    rig = Rig()
    record(rig, packets_of(camera(ACTION), 4), 1, 3)
    publish = new_file.NewFile.publish

    def taken_first(self: new_file.NewFile, path: Path) -> None:
        if path.suffix == ".mp4":
            path.write_text("somebody else's")
        publish(self, path)

    monkeypatch.setattr(new_file.NewFile, "publish", taken_first)
    with pytest.raises(StorageError, match=r"a\.mp4 was not written"):
        open_rig(rig, tmp_path / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "somebody else's"


def test_interrupt_between_text_and_film_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    record(rig, packets_of(camera(ACTION), 4), 1, 3)
    publish = new_file.NewFile.publish

    def interrupted(self: new_file.NewFile, path: Path) -> None:
        if path.suffix == ".mp4":
            raise KeyboardInterrupt
        publish(self, path)

    monkeypatch.setattr(new_file.NewFile, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_rig(rig, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
