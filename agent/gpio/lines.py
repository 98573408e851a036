"""Which chip and which of its lines a configuration means. Pure: what there is comes in.

A Raspberry Pi has several chips: the header's lines are on `pinctrl-bcm2835`, `pinctrl-bcm2711` or, on a Pi 5,
`pinctrl-rp1`, whose number has changed from one kernel to the next. So chips are better named by label than by number.
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
        name, label: What the kernel, and the driver, call it.
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
        consumer: Who holds it; may be empty.
        used: Somebody holds it.
    """

    offset: int
    name: str
    consumer: str = ""
    used: bool = False


def choose_chip(found: Iterable[ChipInfo], wanted: int | str | None) -> ChipInfo:
    """The chip that is meant: by number, name or label; if none is named, the header's, else the first.

    Raises:
        DeviceError: There is none such, now.
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
    """The offset of the line that is meant; None if the chip has none such.

    A number is an offset, which on a Raspberry Pi is the GPIO number. A name is what the chip calls one of its lines;
    failing that `GPIO17` is number 17. A name that two lines have means neither.
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
