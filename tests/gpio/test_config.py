"""The [controls] table: what is wrong with it is said by name, and its defaults fit the buttons that there are."""

import tomllib

import msgspec
import pytest

from agent.core.inputs.lines import ButtonLine, SwitchLine, TriggerLine, TriggerMode
from agent.domain.layout import NO_BUTTONS, THREE_BUTTONS, TWO_BUTTONS
from agent.gpio.config import BENCH_CONTROLS, ButtonConfig, ControlsConfig, InputConfig


def controls(text: str) -> ControlsConfig:
    return msgspec.convert(tomllib.loads(text).get("controls", {}), ControlsConfig)


def button(name: str, pin: int) -> str:
    return f'[[controls.buttons]]\nname = "{name}"\npin = {pin}\n'


def test_bench_controls_are_two_buttons_the_docks_contact_a_trigger_and_every_output() -> None:
    config = controls(BENCH_CONTROLS)
    lines = (ButtonLine("record"), ButtonLine("mark"), SwitchLine("dock_contact"), TriggerLine("lights_siren"))
    assert config.lines == lines
    assert [output.name for output in config.outputs] == ["red", "green", "tone", "haptic"]
    assert config.build_layout() is TWO_BUTTONS


def test_layout_fits_the_buttons_unless_it_is_named() -> None:
    two = button("record", 17) + button("mark", 27)
    assert controls(two + button("privacy", 22)).build_layout() is THREE_BUTTONS
    assert controls('[controls]\nlayout = "two-buttons"\n' + two + button("privacy", 22)).build_layout() is TWO_BUTTONS
    assert ControlsConfig().build_layout() is NO_BUTTONS


def test_layout_of_ones_own() -> None:
    config = controls(
        '[[controls.switches]]\nname = "slide"\npin = "GPIO4"\n'
        '[controls.gestures]\n"switch on:slide" = "start"\n"switch off:slide" = "ask_stop"\n'
    )
    assert config.lines == (SwitchLine("slide"),)
    assert config.build_layout().text() == {"switch on:slide": "start", "switch off:slide": "ask_stop"}


def test_trigger_says_its_mode_and_polarity() -> None:
    config = controls('[[controls.triggers]]\nname = "impact"\npin = 4\nmode = "edge"\npull = "down"\n')
    assert config.lines == (TriggerLine("impact", TriggerMode.EDGE),)
    assert config.triggers[0].high_is_active


@pytest.mark.parametrize(
    ("pull", "active_high", "high_is_active"),
    [("up", None, False), ("down", None, True), ("up", True, True), ("down", False, False), ("floating", True, True)],
)
def test_polarity_follows_the_pull_unless_it_is_said(pull: str, active_high: bool | None, high_is_active: bool) -> None:
    config = msgspec.convert({"name": "a", "pin": 4, "pull": pull, "active_high": active_high}, ButtonConfig)
    assert config.high_is_active is high_is_active


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (button("record", 17) + button("record", 27), "record twice"),
        (button("Record", 17), "line name"),
        ('[[controls.buttons]]\nname = "record"\n', "`pin`"),
        ('[[controls.buttons]]\nname = "record"\npin = 1.5\n', "pin"),
        ('[[controls.buttons]]\nname = "record"\npin = 17\npul = "up"\n', "pul"),
        ('[[controls.buttons]]\nname = "record"\npin = 17\npull = "floating"\n', "active_high"),
        ('[[controls.triggers]]\nname = "siren"\npin = 17\nmode = "both"\n', "both"),
        ('[[controls.outputs]]\nname = "blue"\npin = 5\n', "blue"),
        ('[[controls.outputs]]\nname = "red"\npin = 5\npassive = true\n', "passive"),
        ('[[controls.outputs]]\nname = "red"\npin = 5\n' * 2, "red twice"),
        ('[controls]\npin_factory = "pigpio"\n', "pigpio"),
        ('[controls]\nlayout = "four-buttons"\n', "two-buttons, three-buttons"),
        ('[controls]\nlayout = "two-buttons"\n' + button("record", 17), "there is: record"),
        (button("go", 17), "controls.gestures"),
        (button("go", 17) + '[controls.gestures]\n"double:go" = "begin"\n', "begin"),
        (button("go", 17) + '[controls.gestures]\n"twice:go" = "start"\n', "twice:go"),
        (
            '[controls]\nlayout = "two-buttons"\n' + button("go", 17) + '[controls.gestures]\n"double:go" = "start"\n',
            "both",
        ),
    ],
)
def test_wrong_table_is_refused_and_the_message_names_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refusal:
        controls(text)
    assert complaint in str(refusal.value)


def test_an_input_is_always_of_a_kind() -> None:
    with pytest.raises(NotImplementedError):
        InputConfig(name="record", pin=17)
