"""SMBus word transfers over the kernel's I²C character device (linux/i2c-dev.h), in a few lines of ioctl.

Only these are needed, and unlike plain I²C transfers they are also had from the kernel's `i2c-stub`.
"""

import ctypes
import fcntl
import os
from pathlib import Path

from agent.errors import DeviceError

_I2C_SLAVE = 0x0703
_I2C_SMBUS = 0x0720
_READ, _WRITE = 1, 0
_WORD_DATA = 3


class _Data(ctypes.Union):
    """`union i2c_smbus_data`."""

    _fields_ = [("byte", ctypes.c_uint8), ("word", ctypes.c_uint16), ("block", ctypes.c_uint8 * 34)]


class _Transfer(ctypes.Structure):
    """`struct i2c_smbus_ioctl_data`."""

    _fields_ = [
        ("read_write", ctypes.c_uint8),
        ("command", ctypes.c_uint8),
        ("size", ctypes.c_uint32),
        ("data", ctypes.POINTER(_Data)),
    ]


class SmbusDevice:
    """The chip at one address of a bus. Opened for each transfer: a bus that went away and came back is found again.

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
            DeviceError: The bus is not there, or nothing answers.
        """
        return self._transfer(_READ, register, 0)

    def write_word(self, register: int, value: int) -> None:
        """Write a 16-bit register, most significant byte first on the wire.

        Raises:
            DeviceError: As above.
        """
        self._transfer(_WRITE, register, value)

    def _transfer(self, direction: int, register: int, value: int) -> int:
        # SMBus sends the low byte of a word first.
        data = _Data(word=_swapped(value))
        transfer = _Transfer(direction, register, _WORD_DATA, ctypes.pointer(data))
        try:
            handle = os.open(self._bus, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, _I2C_SLAVE, self._address)
                fcntl.ioctl(handle, _I2C_SMBUS, transfer)
            finally:
                os.close(handle)
        except OSError as error:
            raise DeviceError(error.errno, f"{self.name}, register 0x{register:02x}: {error.strerror}") from error
        return _swapped(data.word)


def _swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8
