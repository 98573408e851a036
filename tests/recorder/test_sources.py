from pathlib import Path

import pytest

from agent.config import recorder as configuration
from agent.errors import ConfigError
from agent.recorder.sources import sources
from tests.support.running import change, provision

TONE = "lavfi:sine=frequency=440"


def named(config: Path) -> list[tuple[str, str]]:
    made = sources(configuration.load(config), config, lambda: 0, lambda *_: None)
    return [(one.source.name, one.track) for one in made]


def with_microphone(folder: Path, camera: str) -> Path:
    config = provision(folder, camera=camera)
    change(config, "#[source.microphone]", "[source.microphone]")
    change(config, '#device = "alsa:hw:1,0"', f'device = "{TONE}"')
    return config


def test_substitute_brings_both_and_a_camera_of_picamera2_pictures_alone(tmp_path: Path) -> None:
    assert named(provision(tmp_path / "a", camera="pattern")) == [("pattern", "both")]
    assert named(provision(tmp_path / "b", camera="picamera2")) == [("picamera2:0", "video")]


@pytest.mark.parametrize(("camera", "name"), [("picamera2", "picamera2:0"), ("pattern:no-sound", "pattern:no-sound")])
def test_microphone_is_a_source_beside_the_camera_which_comes_first(tmp_path: Path, camera: str, name: str) -> None:
    config = with_microphone(tmp_path / "pilot", camera)
    assert named(config) == [(name, "video"), (f"microphone:{TONE}", "audio")]


@pytest.mark.parametrize("camera", ["pattern", "replay:/clips/street.mp4"])
def test_microphone_beside_a_camera_with_sound_of_its_own_is_refused(tmp_path: Path, camera: str) -> None:
    with pytest.raises(ConfigError, match="microphone"):
        configuration.load(with_microphone(tmp_path / "pilot", camera))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('encoder = "hardware"', 'encoder = "nvenc"', "hardware, libav"),
        ("rotation = 0", "rotation = 90", "0, 180"),
        ("width = 1280", "width = 1281", "even width"),
        ("low_width = 320", "low_width = 640\nlow = 1", "low"),
        ("width = 1280", "width = 128", "low_width"),
        ("fps = 30", "fps = 0", ">= 1"),
    ],
)
def test_wrong_camera_settings_are_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    config = provision(tmp_path / "pilot", camera="picamera2")
    text = config.read_text()
    config.write_text(text.replace(f"\n{old}", f"\n{new}"))
    with pytest.raises(ConfigError, match=said):
        configuration.load(config)


@pytest.mark.parametrize("device", ["hw:1,0\\u0000", "ALSA:hw", "alsa", ":x"])
def test_microphone_that_names_no_input_is_refused(tmp_path: Path, device: str) -> None:
    config = provision(tmp_path / "pilot", camera="picamera2")
    change(config, "#[source.microphone]", "[source.microphone]")
    change(config, '#device = "alsa:hw:1,0"', f'device = "{device}"')
    with pytest.raises(ConfigError, match="device"):
        configuration.load(config)
