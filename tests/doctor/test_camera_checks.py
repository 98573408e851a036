import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.config.recorder import Config, load
from agent.doctor.camera_checks import ENCODER, ENCODER_NAME, HEAPS, check_camera
from agent.doctor.checks import Finding
from tests.support.running import change, provision

CAMERAS = [{"Model": "imx708", "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a", "Num": 0}]
CARDS = """\
 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi
                      vc4-hdmi
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-3f980000.usb-1.2, full speed
"""


class Pi:
    """The folders of a Raspberry Pi, as far as they are looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = provision(root / "pilot", camera="picamera2")
        for name, text in (
            (ENCODER, ""),
            (ENCODER_NAME, "bcm2835-codec-encode\n"),
            (HEAPS[1], ""),
            ("usr/share/alsa/alsa.conf", ""),
            ("proc/asound/cards", CARDS),
        ):
            self.put(name, text)
        change(self.config, "#[source.microphone]", "[source.microphone]")
        change(self.config, '#device = "alsa:hw:1,0"', 'device = "alsa:hw:1,0"')

    def put(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def findings(self, listed: Sequence[dict[str, Any]] | Exception = CAMERAS) -> dict[str, Finding]:
        def ask() -> Sequence[dict[str, Any]]:
            if isinstance(listed, Exception):
                raise listed
            return listed

        return {found.check: found for found in check_camera(self.loaded(), listed=ask, root=self.root)}

    def loaded(self) -> Config:
        return load(self.config)


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path)


def test_device_with_all_hardware_passes(pi: Pi) -> None:
    found = pi.findings()
    assert list(found) == ["libcamera", "encoder", "picture memory", "sound card"]
    assert all(finding.good for finding in found.values()), found
    assert "imx708" in found["libcamera"].said
    assert "USB PnP" in found["sound card"].said


def test_missing_camera_is_reported_with_the_listed_ones(pi: Pi) -> None:
    assert "lists none" in pi.findings([])["libcamera"].said
    change(pi.config, "number = 0", "number = 1")
    finding = pi.findings()["libcamera"]
    assert not finding.good
    assert "imx708" in finding.said


@pytest.mark.parametrize("error", [RuntimeError("camera manager"), OSError(13, "Permission denied")])
def test_library_that_raises_is_a_finding(pi: Pi, error: Exception) -> None:
    assert not pi.findings(error)["libcamera"].good


def test_missing_library_is_a_finding(pi: Pi) -> None:
    found = {finding.check: finding for finding in check_camera(pi.loaded(), root=pi.root)}
    assert "picamera2" in found["libcamera"].said
    assert found["libcamera"].remedy


@pytest.mark.parametrize("name", ["", "bcm2835-isp-output0"])
def test_board_without_hardware_encoder_gets_libav_as_remedy(pi: Pi, name: str) -> None:
    (pi.root / ENCODER_NAME).unlink()
    if name:
        pi.put(ENCODER_NAME, name)
    else:
        (pi.root / ENCODER).unlink()
    assert "libav" in pi.findings()["encoder"].remedy
    change(pi.config, 'encoder = "hardware"', 'encoder = "libav"')
    assert pi.findings()["encoder"].good


def test_missing_heap_is_a_finding(pi: Pi) -> None:
    (pi.root / HEAPS[1]).unlink()
    assert not pi.findings()["picture memory"].good


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_devices_that_may_not_be_opened_are_findings(pi: Pi) -> None:
    for device in (ENCODER, HEAPS[1]):
        (pi.root / device).chmod(0)
    found = pi.findings()
    assert "group video" in found["encoder"].remedy
    assert "group video" in found["picture memory"].remedy


@pytest.mark.parametrize(("device", "good"), [("hw:1,0", True), ("plughw:Device", True), ("hw:2,0", False)])
def test_sound_card_is_looked_for_by_number_and_name(pi: Pi, device: str, good: bool) -> None:
    change(pi.config, "alsa:hw:1,0", f"alsa:{device}")
    assert pi.findings()["sound card"].good is good


@pytest.mark.parametrize("gone", ["usr/share/alsa/alsa.conf", "proc/asound/cards"])
def test_missing_sound_system_is_a_finding(pi: Pi, gone: str) -> None:
    (pi.root / gone).unlink()
    assert not pi.findings()["sound card"].good


def test_checks_skip_hardware_that_is_not_configured(tmp_path: Path) -> None:
    config = load(provision(tmp_path / "pilot"))
    assert list(check_camera(config, root=tmp_path)) == []
