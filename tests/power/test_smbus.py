"""The bus: words change their order on it, and what is wrong with it is one error with its place."""

from pathlib import Path

import pytest

from agent.errors import DeviceError
from agent.power.smbus import SmbusDevice, _swapped


def test_first_byte_on_the_wire_is_the_high_one() -> None:
    assert _swapped(0x8049) == 0x4980


def test_bus_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceError, match=r"/dev/i2c-77 at 0x36, register 0x04: No such file"):
        SmbusDevice(Path("/dev/i2c-77"), 0x36).read_word(4)


def test_file_that_is_no_bus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i2c-1").touch()
    with pytest.raises(DeviceError) as refused:
        SmbusDevice(tmp_path / "i2c-1", 0x36).read_word(4)
    assert refused.value.errno


def test_file_that_is_no_bus_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "i2c-1").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(DeviceError):
            SmbusDevice(tmp_path / "i2c-1", 0x36).read_word(4)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
