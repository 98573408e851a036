from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import parse_spec
from agent.capture.pattern import PatternSettings, PatternSource
from agent.capture.replay import ReplaySource
from agent.capture.spec import _pattern_settings
from agent.errors import ConfigError
from agent.media.packet import Kind
from tests.support.sources import virtual_pacing

PACING = virtual_pacing()


def test_replay_names_its_file() -> None:
    source = parse_spec("replay:/clips/a,b@c:d.mp4", PACING)
    assert isinstance(source, ReplaySource)
    assert source.name == "replay:/clips/a,b@c:d.mp4"
    assert isinstance(parse_spec("replay-once:x.mp4", PACING), ReplaySource)


def test_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/officer")
    assert parse_spec("replay:~/x.mp4", PACING).name == f"replay:{Path('/home/officer/x.mp4')}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", PatternSettings()),
        ("1280x720@25,4M", PatternSettings(width=1280, height=720, fps=25, bit_rate=4_000_000)),
        ("@10", PatternSettings(fps=10)),
        ("320x240", PatternSettings(width=320, height=240)),
        ("800k,gop=90", PatternSettings(bit_rate=800_000, gop=90)),
        ("no-sound", PatternSettings(sound=False)),
        ("no-picture", PatternSettings(picture=False)),
    ],
)
def test_pattern_parts_mean_what_they_say(text: str, expected: PatternSettings) -> None:
    assert _pattern_settings(text) == expected


def test_pattern_keeps_its_spec_as_name() -> None:
    source = parse_spec("pattern:320x240@10,no-sound", PACING)
    assert isinstance(source, PatternSource)
    assert source.name == "pattern:320x240@10,no-sound"
    with_picture_only = source.open(1)
    assert [stream.parameters.kind for stream in with_picture_only.streams] == [Kind.VIDEO]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "camera",
        "replay",
        "replay:",
        "replay:a\0b",
        "Replay:x.mp4",
        "pattern:",
        "pattern:,",
        "pattern:4M,",
        "pattern:1280x720,4G",
        "pattern:1280",
        "pattern:-1x2",
        "pattern:321x240",
        "pattern:32x240",
        "pattern:8192x240",
        "pattern:@0",
        "pattern:@500",
        "pattern:1k",
        "pattern:999M",
        "pattern:gop=0",
        "pattern:gop=5000",
        "pattern:no-sound,no-picture",
        "pattern:²²²x240",
    ],
)
def test_wrong_spec_is_refused_with_what_would_be_right(spec: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_spec(spec, PACING)


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_arbitrary_specs_raise_nothing_but_config_error(text: str) -> None:
    for spec in (text, f"pattern:{text}", f"replay:{text}"):
        with suppress(ConfigError):
            parse_spec(spec, PACING)
