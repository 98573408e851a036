"""Lines that are held, stuck, chattering, lost or busy, and lights, all on real lines; writes down what came of them.

python3 -m tests.hardware.gpio.guest.faults OUT AFTER

The last case begins once the file AFTER is there. Lanes of cases are processes of their own: lgpio stops all of a
process for 0.1 s whenever it closes a chip.
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tests.hardware.gpio.guest.presses import LINES
from tests.hardware.gpio.guest.shell import Shell
from tests.hardware.gpio.guest.sim import Chip, Holder, wait_for

OUTPUTS = ("RED", "GREEN", "TONE", "HAPTIC")


def chip_at_rest(name: str) -> Chip:
    """A chip of which nobody touches a button."""
    chip = Chip(name, LINES)
    for line in ("RECORD", "MARK"):
        chip.pull(line, up=True)
    return chip


def press(chip: Chip, line: str, held_s: float = 0.1) -> None:
    """Press a button once."""
    chip.pull(line, up=False)
    time.sleep(held_s)
    chip.pull(line, up=True)


def double(chip: Chip, line: str = "RECORD") -> None:
    """Press a button twice: on `record` that starts a recording."""
    press(chip, line)
    time.sleep(0.12)
    press(chip, line)
    time.sleep(1.5)


class Case(threading.Thread):
    """One case, on a chip of its own."""

    def __init__(self, out: Path) -> None:
        self.place = out
        self.found: dict[str, Any] = {}
        super().__init__(name=type(self).__name__.lower())
        self.chip = chip_at_rest(self.name)

    def run(self) -> None:
        try:
            self.happen()
        except Exception as error:  # noqa: BLE001 - it is read where it is judged
            self.found["failed"] = f"{type(error).__name__}: {error}"
        (self.place / f"{self.name}.json").write_text(json.dumps(self.found))

    def note(self, name: str, shell: Shell, since: int = 0) -> int:
        """Write down what the core was told since; how much that is now."""
        self.found[name] = [each["what"] for each in map(asdict, shell.asked[since:])]
        self.found["stumbles"] = shell.stumbles
        return len(shell.asked)

    def steady(self, line: str) -> bool:
        """True if an output is on for a second without a break, once the signals that wait are over."""
        until, since = time.monotonic() + 20, time.monotonic()
        while (now := time.monotonic()) < until:
            if not self.chip.value(line):
                since = now
            elif now - since > 1:
                return True
            time.sleep(0.02)
        return False

    def happen(self) -> None:
        """What happens."""
        raise NotImplementedError


class Held(Case):
    """A button that is held when the recorder begins, and let go later."""

    def happen(self) -> None:
        self.chip.pull("RECORD", up=False)
        shell = Shell(self.name, floating=True)
        time.sleep(2)
        seen = self.note("while_held", shell)
        self.chip.pull("RECORD", up=True)
        time.sleep(1)
        seen = self.note("let_go", shell, seen)
        double(self.chip)
        self.note("after", shell, seen)
        shell.close()


class Stuck(Case):
    """A button that jams for longer than anybody holds one; the other one works all the time."""

    def happen(self) -> None:
        shell = Shell(self.name)
        time.sleep(0.5)
        seen = self.note("before", shell)
        self.chip.pull("RECORD", up=False)
        time.sleep(31.5)
        seen = self.note("while_stuck", shell, seen)
        press(self.chip, "MARK")
        time.sleep(1.5)
        seen = self.note("other", shell, seen)
        self.chip.pull("RECORD", up=True)
        time.sleep(1.5)
        seen = self.note("let_go", shell, seen)
        double(self.chip)
        self.note("after", shell, seen)
        shell.close()


class Chattering(Case):
    """A broken wire: 100 Hz hum, then spells of some milliseconds; then it is mended."""

    def happen(self) -> None:
        shell = Shell(self.name)
        time.sleep(0.5)
        seen = self.note("before", shell)
        for number in range(400):
            self.chip.pull("RECORD", up=bool(number % 2))
            time.sleep(0.005)
        self.chip.pull("RECORD", up=True)
        seen = self.note("chatter", shell, seen)
        time.sleep(1.6)
        seen = self.note("at_rest", shell, seen)
        double(self.chip)
        self.note("after", shell, seen)
        shell.close()


class Lost(Case):
    """The whole chip goes away in the middle of it, and comes back."""

    def happen(self) -> None:
        shell = Shell(self.name)
        time.sleep(0.5)
        double(self.chip)
        seen = self.note("before", shell)
        self.chip.unplug()
        time.sleep(2.5)
        self.found["recording_while_gone"] = shell.control.state.recording
        self.found["problems"] = shell.hands.problems
        seen = self.note("gone", shell, seen)
        self.chip.plug()
        for line in ("RECORD", "MARK"):
            self.chip.pull(line, up=True)
        time.sleep(2.5)
        seen = self.note("back", shell, seen)
        self.found["problems_after"] = shell.hands.problems
        double(self.chip)
        self.note("after", shell, seen)
        self.found["red"] = self.steady("RED")
        shell.close()


class Missing(Case):
    """A recorder that begins before its chip is there."""

    def happen(self) -> None:
        self.chip.unplug()
        shell = Shell(self.name)
        time.sleep(0.5)
        self.found["problems"] = shell.hands.problems
        seen = self.note("gone", shell)
        self.chip.plug()
        for line in ("RECORD", "MARK"):
            self.chip.pull(line, up=True)
        time.sleep(2.5)
        seen = self.note("back", shell, seen)
        double(self.chip)
        self.note("after", shell, seen)
        shell.close()


class Busy(Case):
    """Somebody else holds two of the lines when the recorder begins, and gives them back later."""

    def happen(self) -> None:
        record, red = Holder(self.chip, "RECORD", "another program"), Holder(self.chip, "RED", "a third one")
        shell = Shell(self.name)
        time.sleep(0.5)
        self.found["problems"] = shell.hands.problems
        seen = self.note("busy", shell)
        press(self.chip, "MARK")
        time.sleep(1.5)
        seen = self.note("other", shell, seen)
        record.close()
        red.close()
        time.sleep(2.5)
        seen = self.note("free", shell, seen)
        self.found["problems_after"] = shell.hands.problems
        double(self.chip)
        self.note("after", shell, seen)
        self.found["red"] = self.steady("RED")
        shell.close()


class Parted(Case):
    """The line that was opened last is given back, and then the one before it; the first one works all the time."""

    def happen(self) -> None:
        from agent.gpio.chip import ChipFactory

        heard: list[int] = []

        def hear(_ticks: float, level: int) -> None:
            heard.append(level)

        factory = ChipFactory(self.name)
        pins = [factory.pin(line) for line in LINES[:3]]
        for pin in pins:
            pin.edges = "both"
            pin.when_changed = hear
        for name, pin in (("before", None), ("one_less", pins[2]), ("alone", pins[1])):
            if pin is not None:
                pin.close()
            heard.clear()
            press(self.chip, "RECORD")
            time.sleep(0.3)
            self.found[name] = list(heard)
        factory.close()


class Lights(Case):
    """What each output shows, read back from the lines every few milliseconds."""

    def happen(self) -> None:
        shell = Shell(self.name)
        self.found["ready"] = self.watch(3.0)
        self.found["standby"] = self.watch(4.2)
        press(self.chip, "RECORD")
        time.sleep(0.12)
        press(self.chip, "RECORD")
        self.found["started"] = self.watch(2.5)
        time.sleep(1.0)
        self.found["recording"] = self.watch(1.5)
        press(self.chip, "RECORD", 3.2)
        self.found["refused"] = self.watch(2.0)
        time.sleep(1.0)
        press(self.chip, "MARK")
        self.found["marked"] = self.watch(1.6)
        shell.close()
        time.sleep(0.1)
        self.found["closed"] = {output: self.chip.value(output) for output in OUTPUTS}

    def watch(self, seconds: float) -> dict[str, list[tuple[int, int]]]:
        """The levels of each output and how long each lasted, in milliseconds."""
        began = time.monotonic()
        runs: dict[str, list[list[float]]] = {output: [] for output in OUTPUTS}
        while (now := time.monotonic()) < began + seconds:
            for output, run in runs.items():
                level = self.chip.value(output)
                if not run or run[-1][0] != level:
                    run.append([level, now])
            time.sleep(0.006)
        ends = {output: [*[at for _, at in run[1:]], now] for output, run in runs.items()}
        return {
            output: [(int(level), round((end - at) * 1000)) for (level, at), end in zip(run, ends[output], strict=True)]
            for output, run in runs.items()
        }


LANES: tuple[tuple[type[Case], ...], ...] = ((Stuck,), (Lights,), (Parted, Held, Chattering, Busy, Missing))
"""What goes on at the same time. The lost chip comes after all of them: lgpio is so busy with reading from what is gone
that it would disturb the others, and those that are pressed at the same time."""


def one_by_one(out: Path, kinds: tuple[type[Case], ...]) -> None:
    """One case after the other, each with a chip of its own."""
    for kind in kinds:
        case = kind(out)
        case.start()
        case.join()
        case.chip.remove()


def apart(out: Path, kinds: tuple[type[Case], ...]) -> NoReturn:
    """One case after the other, in a process that was made for it."""
    try:
        import agent.gpio.chip  # noqa: F401 - begins threads, and takes a second here, which is no case's

        one_by_one(out, kinds)
    finally:
        os._exit(0)  # what is missing is missed where it is judged


def main(argv: list[str]) -> None:
    """See the module."""
    out = Path(argv[0])
    out.mkdir(parents=True)
    lanes = []
    for lane in LANES:
        child = os.fork()
        if not child:
            apart(out, lane)
        lanes.append(child)
    for child in lanes:
        os.waitpid(child, 0)
    wait_for(Path(argv[1]), 600.0)
    one_by_one(out, (Lost,))


if __name__ == "__main__":
    main(sys.argv[1:])
