"""The MAX17048 fuel gauge for one lithium cell, by its datasheet (Maxim 19-6171, "MAX17048/MAX17049", table 2).

It measures only the cell's voltage and models the charge. So charging is read from the sign of the rate, which takes a
minute to follow; the status line of a charger is better where a board has one.
"""

import errno
from typing import Protocol

from agent.errors import DeviceError
from agent.power.readings import Battery

ADDRESS = 0x36
VCELL, SOC, VERSION, HIBRT, CONFIG, CRATE, STATUS = 0x02, 0x04, 0x08, 0x0A, 0x0C, 0x16, 0x1A
FAMILY = 0x0010
"""Of VERSION, without the last digit, which counts revisions."""
VOLTS_A_BIT = 78.125e-6
PERCENT_A_BIT = 1 / 256
RATE_A_BIT = 0.208
"""Per cent an hour."""
NEVER_HIBERNATE = 0x0000
"""Of HIBRT: in hibernation the cell is measured every 45 s, otherwise four times a second, for 20 µA more."""
SLEEP = 0x0080
"""Of CONFIG: the chip measures nothing."""
RATE_IS_NOISE = 1.0
"""Per cent an hour; below it the sign of the rate means nothing."""
_PLAUSIBLE_VOLTS = (2.0, 5.0)


class Words(Protocol):
    """16-bit registers."""

    @property
    def name(self) -> str:
        """Where they are."""

    def read_word(self, register: int) -> int:
        """Read a register."""

    def write_word(self, register: int, value: int) -> None:
        """Write a register."""


class Max17048:
    """The gauge.

    Args:
        words: Its registers.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self._known = False

    @property
    def name(self) -> str:
        """What and where."""
        return f"MAX17048 on {self._words.name}"

    def read(self) -> Battery:
        """The cell's state.

        Raises:
            DeviceError: Nothing answers, it is another chip, or it has no cell.
        """
        if not self._known:
            self._recognise()
        try:
            volts = self._words.read_word(VCELL) * VOLTS_A_BIT
            percent = self._words.read_word(SOC) * PERCENT_A_BIT
            rate = _signed(self._words.read_word(CRATE)) * RATE_A_BIT
        except DeviceError:
            self._known = False  # it may be exchanged, or come back from a reset
            raise
        low, high = _PLAUSIBLE_VOLTS
        if not low <= volts <= high:
            raise DeviceError(errno.EIO, f"{self.name}: expected a cell of {low} to {high} V, got {volts:.3f} V")
        charging = None if abs(rate) < RATE_IS_NOISE else rate > 0
        # The model runs over 100 at the end of a charge.
        return Battery(min(100.0, percent), round(volts, 4), charging, round(rate, 1))

    def _recognise(self) -> None:
        """Check that it is this chip, and wake it.

        The rest of its configuration stays: temperature compensation needs the cell's temperature, which nothing here
        measures, so the datasheet's value for 20 °C stays.
        """
        version = self._words.read_word(VERSION)
        if version & 0xFFF0 != FAMILY:
            raise DeviceError(errno.ENODEV, f"{self.name}: expected version 0x001_, got 0x{version:04x}: another chip")
        config = self._words.read_word(CONFIG)
        if config & SLEEP:
            self._words.write_word(CONFIG, config & ~SLEEP)
        if self._words.read_word(HIBRT) != NEVER_HIBERNATE:
            self._words.write_word(HIBRT, NEVER_HIBERNATE)
        self._known = True


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
