"""Choosing a GPIO chip and a line of it by number or name. Pure.

A Raspberry Pi has several chips: the header's lines are on `pinctrl-bcm2835`, `pinctrl-bcm2711` or, on a Pi 5,
`pinctrl-rp1`, whose number differs between kernels. So a label names a chip better than a number.
"""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.errors import DeviceError

HEADERS = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
"""Labels of the chips that carry the 40-pin header of a Raspberry Pi."""


@dataclass(frozen=True, slots=True)
class ChipInfo:
    """A chip, as the kernel describes it (`GPIO_GET_CHIPINFO_IOCTL`).

    Attributes:
        number: Of /dev/gpiochipN.
        name, label: Given by the kernel and by the driver.
        lines: How many it has.
    """

    number: int
    name: str
    label: str
    lines: int


@dataclass(frozen=True, slots=True)
class LineInfo:
    """A line, as the kernel describes it (`GPIO_V2_GET_LINEINFO_IOCTL`).

    Attributes:
        offset: Its number on the chip.
        name: From the device tree; empty if it has none.
        consumer: The name of its holder; may be empty.
        used: It is busy.
    """

    offset: int
    name: str
    consumer: str = ""
    used: bool = False


def choose_chip(found: Iterable[ChipInfo], wanted: int | str | None) -> ChipInfo:
    """The chip of a number, name or label; by default the header's, else the first.

    Raises:
        DeviceError: It is missing.
    """
    chips = list(found)
    if wanted is None:
        for chip in chips:
            if chip.label in HEADERS:
                return chip
        if chips:
            return chips[0]
        raise DeviceError(errno.ENODEV, "no GPIO chip is there: expected /dev/gpiochip0 and access to it")
    for chip in chips:
        if wanted in {chip.number, chip.name, chip.label}:
            return chip
    there = ", ".join(f"{chip.name} ({chip.label})" for chip in chips) or "none"
    raise DeviceError(errno.ENODEV, f"GPIO chip {wanted!r} is not there; there is: {there}")


def offset_of(lines: Sequence[LineInfo], name: int | str) -> int | None:
    """The offset of a line by number or name; None if the chip has no such line.

    A number is an offset, which on a Raspberry Pi is the GPIO number. A name is the chip's own for a line; if it has
    none such, `GPIO17` is number 17. A name that two lines have means neither.
    """
    if isinstance(name, int):
        return name if 0 <= name < len(lines) else None
    named = [line.offset for line in lines if name and line.name == name]
    if named:
        return named[0] if len(named) == 1 else None
    digits = name.removeprefix("GPIO")
    if name.startswith("GPIO") and digits.isascii() and digits.isdigit():
        return offset_of(lines, int(digits))
    return None
