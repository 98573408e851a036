"""The way of a button press in docs/architecture.md: few files, which exist, and all that a traced press touches."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agent.core.indicator.signals import Signal
from agent.evidence.layout import POLICY
from agent.gpio.config import ButtonConfig, ControlsConfig
from agent.gpio.controls import HardwareControls
from agent.journal.entries import Decided
from agent.policy.store import BundleFiles
from tests.decisions.test_signed_policy import Bench, made
from tests.gpio.pins import BUZZER, GREEN, HAPTIC, MARK, RECORD, RED, SIREN, simulated
from tests.support.device import Device

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs/architecture.md"
MOST_FILES = 12
AGENT = ROOT / "agent"
OUTPUTS = (RED, GREEN, BUZZER, HAPTIC)


def section() -> str:
    text = ARCHITECTURE.read_text()
    return text[text.index("## 6. The way of a button press") : text.index("## 7.")]


def on_the_way() -> list[str]:
    return re.findall(r"^\| \d+ \| `([a-z_/0-9]+\.py)` \|", section(), re.MULTILINE)


def leaves() -> list[str]:
    """Files and folders that the section names as what the way leans on."""
    listed = section().split("Beside these", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"`([a-z_/0-9]+(?:\.py|/))`", listed)


def test_way_has_at_most_twelve_files_which_exist() -> None:
    files = on_the_way()
    assert 10 < len(files) <= MOST_FILES
    assert len(set(files)) == len(files)
    assert [file for file in (*files, *leaves()) if not (AGENT / file).exists()] == []


def test_functions_and_types_that_the_steps_name_exist() -> None:
    files = [AGENT / file for file in (*on_the_way(), *leaves()) if file.endswith(".py")]
    code = "\n".join(file.read_text() for file in files)
    rows = [row.rsplit("|", 2)[1] for row in section().splitlines() if re.match(r"\| \d+ \|", row)]
    names = {part for row in rows for name in re.findall(r"`([\w.]+)`", row) for part in name.split(".")}
    assert len(names) > 20
    unknown = {name for name in names if not re.search(rf"\b(?:def|class) {name}\b", code)}
    assert unknown == {"control", "journal", "requests"}  # threads and a module


class Bodycam:
    """A whole recorder in one thread. Its buttons are simulated pins, its policy is a signed bundle."""

    def __init__(self, factory: Any) -> None:
        bench = Bench()
        BundleFiles(bench.storage, POLICY).keep(1, made(1))
        self.device = Device(policy=bench.policy())
        self.recorder = self.device.recorder
        config = ControlsConfig(pin_factory="mock", buttons=(RECORD, MARK), triggers=(SIREN,), outputs=OUTPUTS)
        self.controls = HardwareControls(config, self.device.clocks, factory)
        self.recorder.effects._signals = self.controls
        self.controls.open(self.recorder.control.put)
        self.factory = factory
        self.shown: set[Signal | None] = set()
        self.touched: set[str] = set()
        self.turn(0.1)

    def turn(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.device.clocks.advance(0.02)
            with self.traced():
                self.recorder.control.drain()
            self.recorder.journal.step()  # the journal's thread, which has a section of its own
            self.shown.add(self.controls._indicator.playing(self.device.clocks.now_ns))

    def press(self, button: ButtonConfig, *, hold_s: float = 0.1, times: int = 1) -> None:
        pin = self.factory.pin(button.pin)
        for _ in range(times):
            with self.traced():
                pin.drive_low()
            self.turn(hold_s)
            with self.traced():
                pin.drive_high()
            self.turn(0.1)
        self.turn(0.8)

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Notes in which of the agent's files functions are called."""

        def note(frame: FrameType, event: str, _argument: object) -> None:
            if event == "call":
                self.touched.add(frame.f_code.co_filename)

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(before)

    def files(self) -> set[str]:
        return {str(Path(file).relative_to(AGENT)) for file in self.touched if Path(file).is_relative_to(AGENT)}


@pytest.fixture
def bodycam() -> Iterator[Bodycam]:
    with simulated() as factory:
        bodycam = Bodycam(factory)
        bodycam.press(RECORD, times=2)
        assert bodycam.device.recording
        yield bodycam
        bodycam.controls.close()


@pytest.mark.parametrize("granted", [True, False])
def test_real_press_touches_only_the_files_of_the_way(bodycam: Bodycam, *, granted: bool) -> None:
    if granted:
        bodycam.press(MARK, times=2)  # declares that the encounter is over
    bodycam.shown.clear()
    bodycam.touched.clear()

    bodycam.press(RECORD, hold_s=3.2)
    bodycam.turn(3)
    assert bodycam.shown >= ({Signal.GRANTED, Signal.POST_ROLL} if granted else {Signal.REFUSED})
    [decided] = bodycam.device.entries(Decided)
    assert isinstance(decided, Decided)
    assert decided.allowed is granted
    touched = bodycam.files()
    assert set(on_the_way()) - touched == {"gpio/chip.py"}, "only real pins are on a chip"
    beside = leaves()
    strangers = {file for file in touched - set(on_the_way()) if not file.startswith(tuple(beside))}
    assert strangers == set()
