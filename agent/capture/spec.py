"""The forms in which a source is named in a configuration file or on a command line.

replay:FILE                     an MP4 file, for ever
replay-once:FILE                the same, ending with the file
pattern                         848x480@30, 2 Mbit/s, with sound
pattern:1280x720@30,4M,gop=60   size, pictures a second, bit rate (k, M), pictures to the next IDR picture;
                                each may be left out
pattern:no-sound                pictures only
pattern:no-picture              sound only
"""

import re
from dataclasses import replace
from pathlib import Path

from agent.capture.base import Pacing, Source
from agent.capture.pattern import PatternSettings, PatternSource
from agent.capture.replay import ReplaySource
from agent.errors import ConfigError

_FORMS = "replay:FILE, replay-once:FILE, pattern or pattern:WIDTHxHEIGHT@FPS,RATE,gop=N,no-sound,no-picture"
_SIZE = re.compile(r"(?:(?P<width>[0-9]{1,5})x(?P<height>[0-9]{1,5}))?(?:@(?P<fps>[0-9]{1,3}))?", re.ASCII)
_RATE = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[kM])", re.ASCII)
_GOP = re.compile(r"gop=(?P<gop>[0-9]{1,4})", re.ASCII)
_UNITS = {"k": 1_000, "M": 1_000_000}
_SIDE, _FPS, _BIT_RATE, _GOP_LENGTH = (64, 4096), (1, 120), (50_000, 100_000_000), (1, 1000)


def parse_spec(spec: str, pacing: Pacing) -> Source:
    """The source that `spec` names; see the module for the forms. Nothing is opened.

    Args:
        spec: For example `replay:/clips/street.mp4`.
        pacing: `paced(clocks.monotonic_ns)`, or `unpaced` for benchmarks.

    Raises:
        ConfigError: It has none of these forms, or a number in it is out of range.
    """
    kind, colon, rest = spec.partition(":")
    if kind in {"replay", "replay-once"}:
        if not rest or "\0" in rest:
            raise ConfigError(f"expected the path of an MP4 file after {kind}:, got {rest!r}")
        return ReplaySource(_path(rest), pacing, loop=kind == "replay")
    if kind == "pattern" and (rest or not colon):
        return PatternSource(_pattern_settings(rest), pacing, name=spec)
    raise ConfigError(f"expected a source as {_FORMS}; got {spec!r}")


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"expected the path of an MP4 file, got {text[:80]!r}: {error}") from error


def _pattern_settings(text: str) -> PatternSettings:
    settings = PatternSettings()
    for part in text.split(",") if text else []:
        if match := _RATE.fullmatch(part):
            settings = replace(settings, bit_rate=int(match["number"]) * _UNITS[match["unit"]])
        elif match := _GOP.fullmatch(part):
            settings = replace(settings, gop=int(match["gop"]))
        elif part in {"no-sound", "no-picture"}:
            settings = replace(settings, **{part.removeprefix("no-"): False})
        elif part and (match := _SIZE.fullmatch(part)):
            settings = replace(
                settings,
                width=int(match["width"] or settings.width),
                height=int(match["height"] or settings.height),
                fps=int(match["fps"] or settings.fps),
            )
        else:
            raise ConfigError(f"expected a pattern as {_FORMS}; {part!r} is none of its parts")
    _check_range("width and height in pixels", min(settings.width, settings.height), _SIDE)
    _check_range("width and height in pixels", max(settings.width, settings.height), _SIDE)
    _check_range("pictures a second", settings.fps, _FPS)
    _check_range("bit rate", settings.bit_rate, _BIT_RATE)
    _check_range("pictures from one IDR picture to the next (gop)", settings.gop, _GOP_LENGTH)
    if settings.width % 2 or settings.height % 2:
        raise ConfigError(f"expected an even width and height for the pattern, got {settings.width}x{settings.height}")
    if not (settings.picture or settings.sound):
        raise ConfigError("expected a pattern with a picture, sound, or both, got no-picture and no-sound")
    return settings


def _check_range(what: str, value: int, limits: tuple[int, int]) -> None:
    low, high = limits
    if not low <= value <= high:
        raise ConfigError(f"expected {what} from {low} to {high} for the pattern, got {value}")
