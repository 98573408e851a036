"""Battery, charger and board read from files: the kernel's sysfs, or JSON of another program."""

import errno
import os
import stat
import time
from pathlib import Path
from typing import Annotated

import msgspec

from agent.errors import DeviceError
from agent.power.readings import Battery

_CHARGING = {"Charging": True, "Full": True, "Discharging": False}
"""Of `status` (Documentation/ABI/testing/sysfs-class-power); `Not charging` and `Unknown` are neither."""
STALE_S = 120
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_JSON = 4096
_UNDERVOLTAGE = 1 << 0
_SLOWED = 1 << 1 | 1 << 2 | 1 << 3
"""Of get_throttled: frequency capped, throttled, soft temperature limit; now, the bits from 16 on since boot."""


def read_text(path: str | Path) -> str:
    """The text of a small file. A path with `*` means the first match: numbers in sysfs change at each boot.

    Raises:
        DeviceError: It can't be read.
    """
    place = Path(path)
    if "*" in str(path):
        found = sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
        if not found:
            raise DeviceError(errno.ENOENT, f"nothing is at {path}")
        place = found[0]
    try:
        return place.read_text("ascii", "replace").strip()
    except OSError as error:
        raise DeviceError(error.errno, f"{place}: {error.strerror}") from error


def read_number(path: str | Path, base: int = 10) -> int:
    """The whole number in a file.

    Raises:
        DeviceError: It can't be read, or is none.
    """
    text = read_text(path)
    try:
        return int(text, base)
    except ValueError as error:
        raise DeviceError(errno.EIO, f"{path}: expected a whole number, got {text[:40]!r}") from error


class SupplyGauge:
    """A battery with a kernel driver.

    Args:
        folder: Of /sys/class/power_supply, with `capacity`, and mostly `voltage_now` and `status`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def read(self) -> Battery:
        """The battery's state.

        Raises:
            DeviceError: The folder is missing, or has no capacity of 0 to 100.
        """
        percent = read_number(self._folder / "capacity")
        if not 0 <= percent <= 100:  # noqa: PLR2004 - a percentage
            raise DeviceError(errno.EIO, f"{self._folder}: expected a capacity of 0 to 100, got {percent}")
        volts = status = None
        if (self._folder / "voltage_now").exists():
            volts = read_number(self._folder / "voltage_now") / 1e6
        if (self._folder / "status").exists():
            status = _CHARGING.get(read_text(self._folder / "status"))
        return Battery(float(percent), volts, status)


class SupplyCharger:
    """A charger or mains input with a kernel driver.

    Args:
        folder: Of /sys/class/power_supply, with `online`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def connected(self) -> bool:
        """True while it is online.

        Raises:
            DeviceError: It can't be read.
        """
        return read_number(self._folder / "online") != 0


class _JsonBattery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of `JsonGauge`."""

    percent: Annotated[float, msgspec.Meta(ge=0, le=100)]
    volts: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    charging: bool | None = None
    percent_an_hour: float | None = None


class JsonGauge:
    """Measurements of another program: {"percent": 73.5, "volts": 3.81, "charging": false, "percent_an_hour": -11}.

    An empty battery ends a recording. So the file counts only if just root or this process's user may write it, and
    only while it is written again at least every `STALE_S`: the value of a program that died at 3 % expires.

    Args:
        path: The file, replaced whole by its writer. All keys but `percent` may be left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    def read(self) -> Battery:
        """The battery's state.

        Raises:
            DeviceError: The file is not there or is not of that form.
        """
        try:
            battery = msgspec.json.decode(_newly_written(self._path), type=_JsonBattery)
        except msgspec.DecodeError as error:
            raise DeviceError(errno.EIO, f"{self._path}: expected the state of a battery in JSON: {error}") from error
        return Battery(battery.percent, battery.volts, battery.charging, battery.percent_an_hour)


def _newly_written(path: Path) -> bytes:
    """The bytes of a small, recently written file of this user or root; follows no link and does not block."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(handle)
            data = os.read(handle, _MOST_JSON)
        finally:
            os.close(handle)
    except OSError as error:
        raise DeviceError(error.errno, f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in {0, os.geteuid()} or facts.st_mode & _OTHERS_WRITE:
        raise DeviceError(errno.EPERM, f"{path}: expected a file that only root or this process's user may write")
    if abs(time.time() - facts.st_mtime) > STALE_S:
        raise DeviceError(errno.ESTALE, f"{path}: expected it written within {STALE_S} s; its writer has stopped")
    return data


def read_celsius(path: str) -> float:
    """The processor's temperature from a thermal zone's `temp`, in thousandths of a degree.

    Raises:
        DeviceError: It can't be read.
    """
    return read_number(path) / 1000


def read_throttled(path: str) -> tuple[bool, bool]:
    """Undervoltage and throttling, now, from the Raspberry Pi firmware's `get_throttled`.

    Raises:
        DeviceError: It can't be read.
    """
    bits = read_number(path, 16)
    return bool(bits & _UNDERVOLTAGE), bool(bits & _SLOWED)


def read_alarm(path: str) -> bool:
    """An alarm of hwmon, such as `in0_lcrit_alarm` of `rpi_volt`.

    Raises:
        DeviceError: It can't be read.
    """
    return read_number(path) != 0
