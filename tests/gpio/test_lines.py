"""Which chip and line a configuration means."""

import pytest

from agent.errors import DeviceError
from agent.gpio.lines import ChipInfo, LineInfo, choose_chip, offset_of

FIRMWARE = ChipInfo(1, "gpiochip1", "raspberrypi-exp-gpio", 8)
HEADER = ChipInfo(0, "gpiochip0", "pinctrl-bcm2711", 58)
PI_5 = ChipInfo(4, "gpiochip4", "pinctrl-rp1", 54)
LINES = [LineInfo(number, name) for number, name in enumerate(("ID_SDA", "GPIO7", "BUTTON", "TWIN", "TWIN", ""))]


@pytest.mark.parametrize(
    ("chips", "chosen"),
    [([FIRMWARE, HEADER], HEADER), ([FIRMWARE, PI_5], PI_5), ([FIRMWARE], FIRMWARE)],
)
def test_chip_of_the_header_is_taken_whatever_its_number(chips: list[ChipInfo], chosen: ChipInfo) -> None:
    assert choose_chip(chips, None) is chosen


@pytest.mark.parametrize("wanted", [1, "gpiochip1", "raspberrypi-exp-gpio"])
def test_chip_is_named_by_number_name_or_label(wanted: int | str) -> None:
    assert choose_chip([HEADER, FIRMWARE], wanted) is FIRMWARE


def test_chip_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match=r"'pinctrl-rp1' is not there; there is: gpiochip0 \(pinctrl-bcm2711\)"):
        choose_chip([HEADER], "pinctrl-rp1")
    with pytest.raises(DeviceError, match="no GPIO chip"):
        choose_chip([], None)


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        (0, 0),
        (5, 5),
        ("ID_SDA", 0),
        ("BUTTON", 2),
        ("GPIO7", 1),  # what the chip calls so, not number 7
        ("GPIO3", 3),  # no line is called so
        (6, None),
        (-1, None),
        ("GPIO6", None),
        ("GPIO", None),
        ("GPIO-1", None),
        ("GPIO٣", None),
        ("button", None),
        ("TWIN", None),  # which of the two?
    ],
)
def test_line_is_found_by_number_or_by_what_the_chip_calls_it(name: int | str, offset: int | None) -> None:
    assert offset_of(LINES, name) == offset
