"""Checks that camera, encoder and microphone are present, for `bwc-agent doctor --hardware`.

Nothing is opened for recording.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.capture.config import MicrophoneConfig
from agent.config.recorder import Config
from agent.doctor.checks import Finding
from agent.errors import SourceError

ENCODER = "dev/video11"
ENCODER_NAME = "sys/class/video4linux/video11/name"
ENCODES = "bcm2835-codec-encode"
HEAPS = ("dev/dma_heap/vidbuf_cached", "dev/dma_heap/linux,cma")
_CARD = re.compile(r"(?:plug)?hw:(?:CARD=)?(?P<card>[A-Za-z0-9_-]+)")

Listed = Callable[[], Sequence[dict[str, Any]]]
"""Gives the cameras as `Picamera2.global_camera_info` does: a list of Model, Id, Num and more."""


def listed_by_libcamera() -> Sequence[dict[str, Any]]:
    """The cameras that libcamera knows.

    Raises:
        SourceError: picamera2 can't be imported.
    """
    from agent.capture.picamera2_library import load

    load()
    from picamera2 import Picamera2

    return list(Picamera2.global_camera_info())


def check_camera(config: Config, *, listed: Listed = listed_by_libcamera, root: Path = Path("/")) -> Iterator[Finding]:
    """Check camera, encoder, memory and microphone, as far as the configuration names them.

    Args:
        config: The configuration; only the camera `picamera2` has hardware to check.
        listed: Gives the cameras.
        root: The machine's root folder.
    """
    if config.source.camera == "picamera2":
        yield _cameras(config.source.picamera2.number, listed)
        yield _encoder(config.source.picamera2.encoder, root)
        yield _memory(root)
    if config.source.microphone is not None:
        yield _microphone(config.source.microphone, root)


def _cameras(number: int, listed: Listed) -> Finding:
    try:
        cameras = listed()
    except SourceError as error:
        return Finding("libcamera", str(error), "apt install python3-picamera2")
    except Exception as error:  # noqa: BLE001 - a camera library may raise anything
        return Finding("libcamera", f"{type(error).__name__}: {error}", "look at `rpicam-hello --list-cameras`")
    text = ", ".join(f"{n}: {camera.get('Model', '?')} ({camera.get('Id', '?')})" for n, camera in enumerate(cameras))
    if number < len(cameras):
        return Finding("libcamera", f"uses camera {number} of {text}")
    remedy = "check the cable and config.txt (camera_auto_detect=1, dtoverlay), or [source.picamera2] number"
    return Finding("libcamera", f"no camera {number}; libcamera lists {text or 'none'}", remedy)


def _encoder(kind: str, root: Path) -> Finding:
    device = root / ENCODER
    try:
        name = (root / ENCODER_NAME).read_text().strip()
    except OSError:
        name = ""
    there = device.exists() and (not name or name.startswith(ENCODES))
    if kind == "libav":
        return Finding("encoder", f"libav (x264){'; there is a hardware encoder too' if there else ''}")
    if not there:
        text = f"no hardware encoder at /{ENCODER}{f', which is {name}' if name else ''}"
        return Finding("encoder", text, 'encoder = "libav" in [source.picamera2]: a Pi 5 has no other')
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding("encoder", f"/{ENCODER} can't be opened by this user", "put the recorder into the group video")
    return Finding("encoder", f"hardware, /{ENCODER}{f' ({name})' if name else ''}")


def _memory(root: Path) -> Finding:
    there = [heap for heap in HEAPS if (root / heap).exists()]
    if not there:
        return Finding("picture memory", "no dma heap", "a kernel of Raspberry Pi OS, or one with CONFIG_DMABUF_HEAPS")
    if not os.access(root / there[0], os.R_OK | os.W_OK):
        return Finding("picture memory", f"/{there[0]} can't be opened by this user", "put it into the group video")
    return Finding("picture memory", f"/{there[0]}")


def _microphone(settings: MicrophoneConfig, root: Path) -> Finding:
    if settings.form != "alsa":
        return Finding("sound card", f"simulated: {settings.device}", 'device = "alsa:hw:…" in [source.microphone]')
    if not (root / "usr/share/alsa/alsa.conf").exists():
        return Finding("sound card", "no /usr/share/alsa/alsa.conf", "apt install libasound2-data")
    try:
        cards = (root / "proc/asound/cards").read_text()
    except OSError:
        return Finding("sound card", "the kernel has no sound cards", "check dtoverlay and the card's driver")
    known = re.findall(r"^\s*(\d+) \[(\S+)\s*\]: (.*)$", cards, re.MULTILINE)
    text = ", ".join(f"{number} {name} ({what.strip()})" for number, name, what in known)
    wanted = _CARD.match(settings.name)
    if wanted and not any(wanted["card"] in {number, name} for number, name, _ in known):
        return Finding("sound card", f"{settings.name} is missing; present: {text or 'none'}", "see `arecord -l`")
    return Finding("sound card", f"{settings.name}; present: {text or 'none'}")
