"""16-bit registers of a chip on an I²C bus, by smbus2: SMBus word transfers, which the kernel's `i2c-stub` has too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smbus2 import SMBus

from agent.errors import DeviceError


class SmbusDevice:
    """The chip at one address of a bus. The bus is opened for each transfer, so that one that came back is found again.

    Args:
        bus: Such as /dev/i2c-1.
        address: Seven bits. A chip that a kernel driver holds is refused (EBUSY).
    """

    def __init__(self, bus: Path, address: int) -> None:
        self._bus = bus
        self._address = address

    @property
    def name(self) -> str:
        """Bus and address."""
        return f"{self._bus} at 0x{self._address:02x}"

    def read_word(self, register: int) -> int:
        """A 16-bit register, most significant byte first on the wire.

        Raises:
            DeviceError: The bus is missing, or nothing answers.
        """
        with self._opened(register) as bus:
            return _swapped(bus.read_word_data(self._address, register))

    def write_word(self, register: int, value: int) -> None:
        """Write a 16-bit register, most significant byte first on the wire.

        Raises:
            DeviceError: The bus is missing, or nothing answers.
        """
        with self._opened(register) as bus:
            bus.write_word_data(self._address, register, _swapped(value))

    @contextmanager
    def _opened(self, register: int) -> Iterator[SMBus]:
        bus = SMBus()  # opened below: a constructor that fails on what is no bus would leak its descriptor
        try:
            bus.open(str(self._bus))
            yield bus
        except OSError as error:
            raise DeviceError(error.errno, f"{self.name}, register 0x{register:02x}: {error.strerror}") from error
        finally:
            bus.close()


def _swapped(word: int) -> int:
    """SMBus sends the low byte of a word first, the chips here the high one."""
    return (word & 0xFF) << 8 | word >> 8
