"""The sources that a configuration names: a camera, and with it a microphone of its own where there is one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.capture.base import Source, paced, unpaced
from agent.capture.spec import parse_spec
from agent.clock import NS, Monotonic
from agent.config.recorder import Config, resolve

INTERLEAVE_NS = 3 * NS // 20
"""How long pictures wait for older sound, and sound for older pictures. Sound arrives some 65 ms late (measured: a
block of 1024 samples, AAC's look-ahead, the input's own block); video encoders hold a few pictures back."""

Look = Callable[[memoryview, int, int, int, int], None]


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source and what it delivers: `video`, `audio` or `both`."""

    source: Source
    track: str


def sources(
    config: Config, config_file: Path, monotonic: Monotonic, look: Look, *, live: bool = True
) -> list[NamedSource]:
    """The configured sources, the camera first. Nothing is opened.

    Args:
        config: The configuration.
        config_file: Relative paths start at its folder.
        monotonic: The recorder's clock.
        look: Takes the small pictures of a camera that delivers them (see `picamera2`).
        live: False to let a substitute deliver as fast as it is read.

    Raises:
        ConfigError: There is no such camera.
    """
    section = config.source
    named: list[NamedSource] = []
    if section.camera == "picamera2":
        from agent.capture.picamera2 import Picamera2Source

        named.append(NamedSource(Picamera2Source(section.picamera2, monotonic, look), "video"))
    else:
        pacing = paced(monotonic) if live else unpaced(monotonic)
        track = "video" if section.microphone is not None else "both"
        named.append(NamedSource(parse_spec(_spec(section.camera, config_file), pacing), track))
    if section.microphone is not None:
        from agent.capture.microphone import MicrophoneSource

        named.append(NamedSource(MicrophoneSource(section.microphone, monotonic), "audio"))
    return named


def _spec(camera: str, config_file: Path) -> str:
    """The source's spec with its path made absolute."""
    kind, colon, rest = camera.partition(":")
    return f"{kind}:{resolve(config_file, rest)}" if colon and kind.startswith("replay") else camera
