"""Simulated GPIO chips (the kernel's gpio-sim), made by configfs and worked by sysfs."""

import fcntl
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path

CONFIG = Path("/sys/kernel/config/gpio-sim")
DEVICES = Path("/sys/devices/platform")
_GET_LINE = 3 << 30 | 0xB4 << 8 | 0x07
_INPUT = 1 << 2


class Chip:
    """A chip, live until it is removed.

    Args:
        name: Of its configuration, and its label.
        lines: The names of its lines, in order.
    """

    def __init__(self, name: str, lines: Sequence[str]) -> None:
        self.name = name
        self._lines = {line: number for number, line in enumerate(lines)}
        self._config = CONFIG / name
        bank = self._config / "bank0"
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text(str(len(lines)))
        (bank / "label").write_text(name)
        for line, number in self._lines.items():
            (bank / f"line{number}").mkdir()
            (bank / f"line{number}" / "name").write_text(line)
        self._pulls: dict[str, int] = {}
        self.plug()

    def plug(self) -> None:
        """Let the chip appear."""
        (self._config / "live").write_text("1")
        device = (self._config / "dev_name").read_text().strip()
        chip = (self._config / "bank0" / "chip_name").read_text().strip()
        self._place = DEVICES / device / chip
        self.device = Path("/dev") / chip
        self._pulls = {line: os.open(self._of(line) / "pull", os.O_WRONLY) for line in self._lines}
        wait_for(Path("/dev") / chip)

    def unplug(self) -> None:
        """Let the chip go away, whoever holds its lines."""
        for handle in self._pulls.values():
            os.close(handle)
        self._pulls = {}
        (self._config / "live").write_text("0")

    def remove(self) -> None:
        """Let it go away for good."""
        if self._pulls:
            self.unplug()
        bank = self._config / "bank0"
        for number in self._lines.values():
            (bank / f"line{number}").rmdir()
        bank.rmdir()
        self._config.rmdir()

    def pull(self, line: str, *, up: bool) -> None:
        """Drive an input."""
        os.pwrite(self._pulls[line], b"pull-up" if up else b"pull-down", 0)

    def offset(self, line: str) -> int:
        """The line's number on the chip."""
        return self._lines[line]

    def value(self, line: str) -> int:
        """The level of a line; what an output drives."""
        return int((self._of(line) / "value").read_text())

    def _of(self, line: str) -> Path:
        return self._place / f"sim_gpio{self._lines[line]}"


class Holder:
    """Another program that holds a line, by the kernel's own interface (`struct gpio_v2_line_request`).

    Args:
        chip: Whose.
        line: Its name.
        consumer: What it calls itself.
    """

    def __init__(self, chip: Chip, line: str, consumer: str) -> None:
        request = struct.pack("I252x32sQI20x240xII20xi", chip.offset(line), consumer.encode(), _INPUT, 0, 1, 0, 0)
        buffer = bytearray(request)
        device = os.open(chip.device, os.O_RDWR)
        try:
            fcntl.ioctl(device, _GET_LINE | len(buffer) << 16, buffer)
        finally:
            os.close(device)
        (self._handle,) = struct.unpack_from("i", buffer, len(buffer) - 4)

    def close(self) -> None:
        """Give it back."""
        os.close(self._handle)


def wait_for(path: Path, seconds: float = 10.0) -> None:
    """Wait until a path is there."""
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"expected {path} within {seconds} s")
        time.sleep(0.01)
