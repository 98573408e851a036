import os
import struct
import threading
from pathlib import Path

import pytest

from agent.core.recording.events import Action, ActionRequested, LineFaulty, LineRecovered
from agent.gpio.power_key import LINE, PowerKey
from tests.support.clocks import FakeClocks


def told(kind: int, code: int, value: int) -> bytes:
    """An event as the kernel's input layer writes it (linux/input.h)."""
    return struct.pack("llHHi", 1, 2, kind, code, value)


PRESS = told(1, 116, 1) + told(0, 0, 0) + told(1, 116, 0) + told(0, 0, 0)


class Reading:
    """A key whose device is a pipe; read until the pipe ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clocks = FakeClocks()
        self.heard: list[ActionRequested | LineFaulty | LineRecovered] = []
        self.key = PowerKey(path, self.clocks.monotonic_ns, self.heard.append)

    def hear(self, said: bytes) -> None:
        """Read what the device says."""
        reader = threading.Thread(target=self.key.read)
        reader.start()
        with self.path.open("wb", buffering=0) as device:
            device.write(said)
        reader.join(10)
        assert not reader.is_alive()

    @property
    def asked(self) -> list[Action]:
        return [event.action for event in self.heard if isinstance(event, ActionRequested)]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    os.mkfifo(tmp_path / "power-key")
    return Reading(tmp_path / "power-key")


def test_press_however_short_asks_to_power_off(reading: Reading) -> None:
    reading.hear(PRESS)
    assert reading.asked == [Action.POWER_OFF]


def test_hammered_key_asks_once_a_second(reading: Reading) -> None:
    reading.hear(PRESS * 20)
    assert reading.asked == [Action.POWER_OFF]
    reading.clocks.advance(1)
    reading.hear(PRESS)
    assert reading.asked == [Action.POWER_OFF] * 2


def test_other_keys_releases_and_repeats_ask_for_nothing(reading: Reading) -> None:
    reading.hear(told(1, 116, 0) + told(1, 116, 2) + told(1, 30, 1) + told(5, 116, 1))
    assert reading.asked == []


def test_key_that_goes_away_is_told_once_and_when_it_is_back(reading: Reading) -> None:
    missing = PowerKey(reading.path.with_name("none"), reading.clocks.monotonic_ns, reading.heard.append)
    missing.read()
    missing.read()
    faults = [event for event in reading.heard if isinstance(event, LineFaulty)]
    assert [(event.line, event.fault) for event in faults] == [(LINE, "lost: No such file or directory")]
    reading.hear(PRESS)
    reading.clocks.advance(2)
    reading.hear(PRESS)
    kinds = [type(event) for event in reading.heard[1:]]
    assert kinds == [ActionRequested, LineFaulty, LineRecovered, ActionRequested, LineFaulty]
