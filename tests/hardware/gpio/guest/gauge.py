"""The MAX17048 driver on a real I²C character device, against the kernel's i2c-stub.

python3 -m tests.hardware.gpio.guest.gauge OUT

The registers are set here by an ioctl of its own, in the order of bytes on the wire: i2c-stub speaks SMBus, which sends
the low byte of a word first, while the gauge sends the high one first.
"""

import array
import fcntl
import json
import os
import struct
import sys
from dataclasses import asdict
from pathlib import Path

from agent.errors import DeviceError
from agent.power.config import PowerConfig


def put(bus: str, address: int, register: int, wire: bytes) -> None:
    """Set a register to two bytes, in the order in which they are on the wire."""
    data = array.array("B", wire + bytes(32))
    at, _ = data.buffer_info()
    handle = os.open(bus, os.O_RDWR)
    try:
        fcntl.ioctl(handle, 0x0703, address)
        fcntl.ioctl(handle, 0x0720, struct.pack("@BBIQ", 0, register, 3, at))
    finally:
        os.close(handle)


def main(argv: list[str]) -> None:
    """See the module."""
    (bus,) = [
        f"/dev/{place.name}"
        for place in Path("/sys/bus/i2c/devices").glob("i2c-*")
        if "stub" in (place / "name").read_text()
    ]
    gauge = PowerConfig(gauge=f"max17048:{bus}").make_gauge()
    assert gauge is not None
    found: dict[str, object] = {"name": gauge.name}
    try:
        gauge.read()
    except DeviceError as error:
        found["blank"] = str(error)
    registers = {0x08: "0012", 0x0A: "8030", 0x0C: "971c", 0x02: "c000", 0x04: "4980", 0x16: "ffd0"}
    for register, wire in registers.items():
        put(bus, 0x36, register, bytes.fromhex(wire))
    found["battery"] = asdict(gauge.read())
    put(bus, 0x36, 0x04, bytes.fromhex("0380"))
    found["low"] = asdict(gauge.read())
    absent = PowerConfig(gauge="max17048:/dev/i2c-77").make_gauge()
    assert absent is not None
    try:
        absent.read()
    except DeviceError as error:
        found["absent"] = str(error)
    Path(argv[0]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
