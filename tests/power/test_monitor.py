"""The monitor: what it reads becomes status, events and lines, and what it can't read is said."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from agent.clock import NS
from agent.core.recording.events import Event, PowerFailing, RunningLow
from agent.journal.entries import BitRateSet, Strained
from agent.power.config import PowerConfig
from agent.power.monitor import PowerMonitor
from tests.support.clocks import FakeClocks


class Board:
    """A board in files."""

    def __init__(self, folder: Path, *, adjustable: bool = True) -> None:
        self.folder = folder
        self.clocks = FakeClocks(monotonic_ns=NS)
        self.told: list[Event] = []
        self.lines: list[BitRateSet | Strained] = []
        self.rates: list[int] = []
        (folder / "charger").mkdir()
        self.set(percent=80, celsius=50, throttled="0", online=False)
        config = PowerConfig(
            gauge=f"json:{folder / 'battery.json'}",
            charger=f"supply:{folder / 'charger'}",
            temperature=str(folder / "temp"),
            throttled=str(folder / "get_throttled"),
            undervoltage=str(folder / "alarm"),
        )

        def set_bit_rate(rate: int) -> bool:
            self.rates.append(rate)
            return adjustable

        self.monitor = PowerMonitor(config, self.clocks, self.told.append, self.lines.append, set_bit_rate)

    def set(
        self,
        *,
        percent: float | None = None,
        celsius: float | None = None,
        throttled: str | None = None,
        online: bool | None = None,
    ) -> None:
        if percent is not None:
            (self.folder / "battery.json").write_text(json.dumps({"percent": percent, "volts": 3.7}))
        if celsius is not None:
            (self.folder / "temp").write_text(f"{celsius * 1000:.0f}\n")
        if throttled is not None:
            (self.folder / "get_throttled").write_text(throttled)
        if online is not None:
            (self.folder / "charger" / "online").write_text(f"{online:d}\n")

    def run(self, seconds: int) -> None:
        for _ in range(seconds // 5):
            self.monitor.look()
            self.clocks.advance(5)


def test_everything_is_in_the_status(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.run(5)
    status = board.monitor.status
    assert (status.battery_percent, status.battery_volts, status.charging) == (80, 3.7, False)
    assert (status.celsius, status.undervoltage, status.throttled) == (50, False, False)
    assert (status.saving, status.unknown) == ("none", {})
    assert (board.told, board.lines, board.rates) == ([], [], [])


def test_what_is_not_there_is_null_with_a_reason() -> None:
    absent = PowerConfig(temperature="/absent/temp", throttled="/absent/*/t", undervoltage="/absent/a")
    monitor = PowerMonitor(absent, FakeClocks(), lambda _: None, lambda _: None, lambda _: False)
    monitor.look()
    status = monitor.status
    assert (status.battery_percent, status.charging, status.celsius, status.undervoltage) == (None, None, None, None)
    assert status.unknown["battery"] == "no gauge is configured"
    assert set(status.unknown) == {"battery", "charger", "celsius", "throttled", "undervoltage"}


def test_hwmon_tells_of_undervoltage_where_the_firmware_does_not(tmp_path: Path) -> None:
    board = Board(tmp_path)
    (tmp_path / "get_throttled").unlink()
    (tmp_path / "alarm").write_text("1\n")
    board.run(5)
    assert board.monitor.status.undervoltage is True
    assert board.lines == [
        Strained("undervoltage", False, NS // 1000),
        BitRateSet(2_000_000, True, "undervoltage", NS // 1000),
    ]


def test_battery_that_empties_is_warned_of_then_saved_then_closed_in_order(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for percent in range(30, 2, -1):
        board.set(percent=percent)
        board.run(100)
    warned = [event.left for event in board.told if isinstance(event, RunningLow)]
    assert warned == ["20 %", "10 %", "5 %"]
    assert board.rates == [2_000_000, 1_000_000]
    assert isinstance(board.told[-1], PowerFailing)
    assert board.told[-1].left == "4 %"
    assert sum(isinstance(event, PowerFailing) for event in board.told) == 1


def test_charger_brings_the_rate_back(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.set(percent=15)
    board.run(10)
    assert (board.rates, board.monitor.status.bit_rate_lowered) == ([2_000_000], True)
    board.set(online=True)
    board.run(90)
    assert (board.rates, board.monitor.status.bit_rate_lowered) == ([2_000_000, 0], False)


@pytest.mark.parametrize("how", ["others may write it", "a link", "long ago", "a pipe"])
def test_file_that_anybody_could_have_left_there_powers_no_camera_off(tmp_path: Path, how: str) -> None:
    board = Board(tmp_path)
    file = tmp_path / "battery.json"
    board.set(percent=1)
    if how == "others may write it":
        file.chmod(0o666)
    elif how == "a link":
        file.rename(tmp_path / "other.json")
        file.symlink_to(tmp_path / "other.json")
    elif how == "long ago":
        os.utime(file, (time.time() - 600, time.time() - 600))
    else:
        file.unlink()
        os.mkfifo(file)
    board.run(60)
    assert board.told == []
    assert board.monitor.status.battery_percent is None
    assert "battery" in board.monitor.status.unknown


def test_mistake_in_reading_does_not_end_the_watch_over_the_battery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path)
    looks: list[int] = []
    again = threading.Event()

    def look() -> None:
        looks.append(1)
        if len(looks) > 1:
            again.set()
            board.monitor.close()
        raise ValueError("nobody thought of that")

    monkeypatch.setattr(board.monitor, "look", look)
    monkeypatch.setattr("agent.power.monitor.EVERY_S", 0.01)
    board.monitor.start()
    assert again.wait(5)


def test_source_that_can_not_change_its_rate_is_said(tmp_path: Path) -> None:
    board = Board(tmp_path, adjustable=False)
    board.set(celsius=76)
    board.run(5)
    assert [line.taken for line in board.lines if isinstance(line, BitRateSet)] == [False]
    assert (board.monitor.status.saving, board.monitor.status.bit_rate_lowered) == ("saving", False)


def test_gauge_that_fails_ends_nothing_and_is_said(tmp_path: Path) -> None:
    board = Board(tmp_path)
    (tmp_path / "battery.json").write_text("torn {")
    board.run(600)
    assert board.told == []
    assert "expected the state" in board.monitor.status.unknown["battery"]
