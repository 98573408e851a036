import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.capture.config import MicrophoneConfig, Picamera2Config
from agent.config.recorder import Config, load, resolve
from agent.config.template import write_config
from agent.errors import ConfigError
from agent.gpio.config import BENCH_CONTROLS
from tests.support.device import agency

GOOD = """\
# a device
[device]
key = "file:device.pem"
certificate = "device.jws"
trust = "trust.jws"
root = "abc"

[storage]
path = "evidence"
"""


def loaded(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text)
    return load(path)


def refusal(folder: Path, text: str) -> str:
    """What is said about a file; where, as `line N: key`, comes first."""
    with pytest.raises(ConfigError) as refused:
        loaded(folder, text)
    said = str(refused.value)
    assert said.startswith(f"{folder / 'config.toml'}")
    assert "\n" not in said
    return said.removeprefix(f"{folder / 'config.toml'}").lstrip(",: ")


def line_of(text: str, mark: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if mark in line)


def test_smallest_file_gives_the_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    assert config.device.root == "abc"
    assert config.source.camera == "pattern"
    assert config.buffer.pre_event_s == 30.0
    assert not config.policy.unsafe_permit_everything
    assert config.run.directory == "/run/bwc"
    assert config.controls.lines == ()


def test_file_that_init_writes_says_every_key_and_its_default(tmp_path: Path) -> None:
    folder = agency().device_key.parent
    (tmp_path / "trust.jws").write_bytes((folder / "trust.jws").read_bytes())
    path = write_config(tmp_path, camera='replay:/clips/a "b".mp4', controls=BENCH_CONTROLS)
    config = load(path)
    assert config.source.camera == 'replay:/clips/a "b".mp4'
    assert config.controls.pin_factory == "mock"
    assert [line.name for line in config.controls.lines] == ["record", "mark", "dock_contact", "lights_siren"]
    text = path.read_text()
    for section in ("device", "storage", "source", "buffer", "recording", "policy", "run"):
        for key in type(getattr(config, section)).__struct_fields__:
            table = rf"#?\[{section}\.{key}\]"
            assert re.search(rf"^({key} = |{table})", text, re.MULTILINE), f"{section}.{key} is not in the file"
    for kind, hidden in ((Picamera2Config, ""), (MicrophoneConfig, "#")):
        for key in kind.__struct_fields__:
            assert re.search(rf"^{hidden}{key} = ", text, re.MULTILINE), f"{key} is not in the file"
    plain = loaded(tmp_path, GOOD)
    assert config.source.picamera2 == plain.source.picamera2
    for section in ("storage", "buffer", "recording", "policy"):
        assert getattr(config, section) == getattr(plain, section)


@pytest.mark.parametrize(
    ("key", "value", "where", "right"),
    [
        ("[buffer]", "pre_event_s = 601", "buffer.pre_event_s", "<= 600"),
        ("[buffer]", "pre_event_s = -1", "buffer.pre_event_s", ">= 0"),
        ("[buffer]", 'pre_event_s = "30"', "buffer.pre_event_s", "expected `float`, got `str`"),
        ("[buffer]", "pre_event_s = nan", "buffer.pre_event_s", ">= 0"),
        ("[buffer]", "pre_event_s = inf", "buffer.pre_event_s", "<= 600"),
        ("[buffer]", "pre_event_audio = 1", "buffer.pre_event_audio", "expected `bool`, got `int`"),
        ("[buffer]", "max_mb = 0", "buffer.max_mb", ">= 1"),
        ("[buffer]", "max_mb = 1.5", "buffer.max_mb", "expected `int`, got `float`"),
        ("[recording]", "segment_s = 1", "recording.segment_s", ">= 2"),
        ("[recording]", "segment_s = nan", "recording.segment_s", ">= 2"),
        ("[policy]", "unsafe_permit_everything = 'yes'", "policy.unsafe_permit_everything", "expected `bool`"),
        ("[source]", "camera = 7", "source.camera", "expected `str`, got `int`"),
        ("[run]", "directory = []", "run.directory", "expected `str`, got `array`"),
        ("[run]", 'directory = ""', "run.directory", "length >= 1"),
        ("[run]", 'directory = "a\\u0000b"', "run.directory", "without control characters"),
        ("[source]", 'camera = "replay:a\\nb"', "source.camera", "without control characters"),
        ("[controls]", 'pin_factory = "pigpio"', "controls.pin_factory", "expected one of lgpio, mock, got 'pigpio'"),
        ("[controls]", 'layout = "one-button"', "controls", "two-buttons"),
        ("[buffer]", "pre_event = 5", "buffer.pre_event", "did you mean 'pre_event_s'?"),
        ("[recording]", "quality = 5", "recording.quality", "known here: classification, segment_s"),
        ("[buffers]", "pre_event_s = 5", "buffers", "did you mean 'buffer'?"),
        ("[network]", "address = 1", "network", "known here: buffer, controls, device"),
    ],
)
def test_wrong_key_or_value_is_named_with_its_line_and_what_would_be_right(
    tmp_path: Path, key: str, value: str, where: str, right: str
) -> None:
    text = f"{GOOD}\n{key}\n{value}\n"
    said = refusal(tmp_path, text)
    at_key = "." in where
    assert said.startswith(f"line {line_of(text, value if at_key else key)}: {where}: ")
    assert right in said


def test_missing_key_is_named_with_its_table(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace('root = "abc"\n', ""))
    assert said.startswith("line 2: device: ")
    assert "`root`" in said


def test_missing_table_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.split("[storage]", maxsplit=1)[0])
    assert "`storage`" in said


@pytest.mark.parametrize(
    ("wrong", "where", "right"),
    [
        ("pinn = 27", "controls.buttons[1].pinn", "did you mean 'pin'?"),
        ("pull = 'sideways'", "controls.buttons[1].pull", "expected one of up, down, floating, got 'sideways'"),
        ("pin = 1.5", "controls.buttons[1].pin", "expected `int | str`"),
        ("active_high = 1", "controls.buttons[1].active_high", "expected `bool | null`"),
    ],
)
def test_wrong_key_in_the_second_of_several_tables_is_found_there(
    tmp_path: Path, wrong: str, where: str, right: str
) -> None:
    keys = {"name": "name = 'mark'", "pin": "pin = 27", "pull": "pull = 'up'", "active_high": "active_high = true"}
    keys[wrong.partition(" ")[0]] = wrong
    first = "[[controls.buttons]]\nname = 'record'\npin = 17\npull = 'up'\nactive_high = true"
    text = "\n".join([GOOD, first, "", "[[controls.buttons]]", *keys.values(), ""])
    said = refusal(tmp_path, text)
    assert said.startswith(f"line {line_of(text, wrong)}: {where}: ")
    assert right in said


def test_missing_key_in_the_second_of_several_tables_is_named_with_that_table(tmp_path: Path) -> None:
    text = f"{GOOD}\n[[controls.buttons]]\nname = 'record'\npin = 17\n\n[[controls.buttons]]\nname = 'mark'\n"
    said = refusal(tmp_path, text)
    assert said.startswith(f"line {line_of(text, 'mark') - 1}: controls.buttons[1]: ")
    assert "`pin`" in said


def test_pin_that_floats_without_saying_what_active_is_gets_named(tmp_path: Path) -> None:
    text = f"{GOOD}\n[[controls.triggers]]\nname = 'siren'\npin = 3\npull = 'floating'\n"
    said = refusal(tmp_path, text)
    assert said.startswith(f"line {line_of(text, 'triggers')}: controls.triggers[0]: ")
    assert "active_high" in said


def test_two_lines_of_one_name_are_refused(tmp_path: Path) -> None:
    text = f"{GOOD}\n[[controls.buttons]]\nname = 'a'\npin = 17\n[[controls.buttons]]\nname = 'a'\npin = 18\n"
    assert "a twice" in refusal(tmp_path, text)


def test_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    text = f"{GOOD}path = 'elsewhere'\n"
    said = refusal(tmp_path, text)
    assert "expected TOML" in said
    assert f"line {line_of(text, 'elsewhere')}" in said


def test_inline_tables_and_dotted_keys_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    assert loaded(tmp_path, f"buffer.max_mb = 7\n{GOOD}").buffer.max_mb == 7
    dotted = f"buffer.max_mb = 0\n{GOOD}"
    assert refusal(tmp_path, dotted).startswith("line 1: buffer.max_mb: ")
    inline = f"buffer = {{ max_mb = 0 }}\n{GOOD}"
    assert refusal(tmp_path, inline).startswith("line 1: buffer.max_mb: ")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{a=" * 3000,
        "a = " + "1" * 5000,
        "a = 2026-13-01",
        "a = 99999-01-01",
        "a = '\\ud800'",
        'a = "\\ud800"',
        "\0",
        "=",
        "[",
        "a.b = 1\na = 2",
    ],
)
def test_hostile_toml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text)


def test_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="expected a configuration file in TOML"):
            load(path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="expected a configuration file in TOML"):
        load(binary)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert resolve(tmp_path / "config.toml", "evidence") == tmp_path / "evidence"
    assert resolve(tmp_path / "config.toml", "/var/lib/bwc") == Path("/var/lib/bwc")
    assert resolve(tmp_path / "config.toml", "~/evidence") == Path.home() / "evidence"


def test_home_folder_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody-of-that-name"):
        resolve(tmp_path / "config.toml", "~nobody-of-that-name/run")


def test_wrong_meaning_of_a_gesture_is_named_with_the_table(tmp_path: Path) -> None:
    text = f"{GOOD}\n[controls.gestures]\n'double:record' = 3\n"
    assert refusal(tmp_path, text).startswith(f"line {line_of(text, 'gestures')}: controls.gestures: ")


def test_what_does_not_fit_together_in_controls_is_named_with_its_first_table(tmp_path: Path) -> None:
    text = f"{GOOD}\n[[controls.buttons]]\nname = 'left'\npin = 17\n"
    said = refusal(tmp_path, text)
    assert said.startswith(f"line {line_of(text, 'controls')}: controls: ")
    assert "[controls.gestures]" in said


def test_key_with_a_line_feed_in_its_name_makes_no_second_line(tmp_path: Path) -> None:
    assert "unknown key 'a\\nb'" in refusal(tmp_path, f'"a\\nb" = 1\n{GOOD}')


keys = st.sampled_from(
    [
        "device",
        "storage",
        "buffer",
        "controls",
        "buttons",
        "gestures",
        "name",
        "pin",
        "pull",
        "layout",
        "path",
        "max_mb",
    ]
) | st.text("ab_-", min_size=1, max_size=4)
scalars = (
    st.booleans().map(lambda value: str(value).lower())
    | st.integers().map(str)
    | st.floats().map(str)
    | st.text("abc \\n\"'", max_size=5).map(lambda text: "'" + text.replace("'", "") + "'")
    | st.sampled_from(["record", "double:record", "start", "up", "level", "lgpio", "mock"]).map(lambda t: f"'{t}'")
    | st.sampled_from(["2026-01-01", "07:32:00", "[]", "{}", "1979-05-27T07:32:00Z"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(keys, inner, max_size=2).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=4,
)
headers = st.lists(keys, min_size=1, max_size=3).map(".".join)
lines = (
    st.tuples(keys, values).map(lambda pair: f"{pair[0]} = {pair[1]}")
    | headers.map(lambda name: f"[{name}]")
    | headers.map(lambda name: f"[[{name}]]")
    | st.sampled_from(
        ["[[controls.buttons]]", "[controls.gestures]", "[[controls.outputs]]", "name = 'red'", "pin = 1"]
    )
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=12), st.booleans())
def test_no_toml_raises_anything_but_config_error(tmp_path: Path, parts: list[str], good: bool) -> None:
    try:
        loaded(tmp_path, "\n".join([GOOD, *parts] if good else parts))
    except ConfigError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017 - most files are wrong, some happen to be right


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_no_text_raises_anything_but_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError):
        load(path)
