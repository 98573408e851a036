"""Press buttons of several devices at once, as often as asked, and write down what was pressed and what was heard.

python3 -m tests.hardware.gpio.guest.presses SEED PRESSES DEVICES BOUNCE_MS OUT

Each device is a process of its own, as on the device; one further process is the hand on all of them.
"""

import heapq
import json
import os
import random
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.core.inputs_lines import Timing
from tests.hardware.gpio.guest import hand
from tests.hardware.gpio.guest.shell import LINES, Shell
from tests.hardware.gpio.guest.sim import Chip

MS = 1_000_000


def listen(chip: str, bounce_ms: int, out: Path, ready: int) -> None:
    """Be one device until told to end; then write down what its core was told."""
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    shell = Shell(chip, None if bounce_ms == Timing().bounce_ms else Timing(bounce_ms=bounce_ms))
    os.write(ready, b"r")
    while not ending:
        signal.pause()
    asked = [asdict(each) for each in shell.asked]
    out.write_text(json.dumps({"asked": asked, "stumbles": shell.stumbles, "problems": shell.hands.problems}))
    shell.close()


def press(chips: list[Chip], seed: int, presses: int) -> list[list[hand.Done]]:
    """Press all of them at once until enough presses are good."""
    dice = [random.Random(f"{seed}-{number}") for number in range(len(chips))]
    names = list(hand.GESTURES)
    weights = [weight for _, weight, _ in hand.GESTURES.values()]
    done: list[list[hand.Done]] = [[] for _ in chips]
    # The long hold is done by the first device alone, and every gesture at least once.
    todo = [list(names) if number == 0 else [] for number in range(len(chips))]
    good = 0
    now = time.monotonic_ns()
    due: list[tuple[int, int, Generator[int, None, hand.Done] | None]] = [
        (now + number * 70 * MS, number, None) for number in range(len(chips))
    ]
    heapq.heapify(due)
    while due:
        at_ns, number, doing = heapq.heappop(due)
        wait_ns = at_ns - time.monotonic_ns()
        if wait_ns > 0:
            time.sleep(wait_ns / 1e9)
        if doing is None:
            if good >= presses and not todo[number]:
                continue
            name = todo[number].pop() if todo[number] else dice[number].choices(names, weights)[0]
            doing = hand.do(chips[number], name, dice[number])
        try:
            heapq.heappush(due, (next(doing), number, doing))
        except StopIteration as stop:
            was: hand.Done = stop.value
            done[number].append(was)
            good += 0 if was.spoilt else was.presses
            heapq.heappush(due, (was.ended_ns + hand.rest_ns(dice[number]), number, None))
    return done


def main(argv: list[str]) -> None:
    """See the module."""
    seed, presses, devices, bounce_ms = (int(word) for word in argv[:4])
    out = Path(argv[4])
    chips = [Chip(f"{out.name}-{number}", LINES) for number in range(devices)]
    for chip in chips:
        for line in ("RECORD", "MARK"):
            chip.pull(line, up=True)
    import gpiozero.pins.local  # noqa: F401 - once for all; lgpio itself has a thread, which no fork survives

    children = []
    reading, writing = os.pipe()
    out.mkdir()
    for number, chip in enumerate(chips):
        child = os.fork()
        if not child:
            listen(chip.name, bounce_ms, out / f"heard-{number}.json", writing)
            os._exit(0)
        children.append(child)
    for _ in children:
        os.read(reading, 1)
    time.sleep(1.0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))  # a hand waits for nobody
    began = time.monotonic()
    done = press(chips, seed, presses)
    took_s = time.monotonic() - began
    time.sleep(1.5)
    for child in children:
        os.kill(child, signal.SIGTERM)
    codes = [os.waitpid(child, 0)[1] for child in children]
    said: dict[str, Any] = {"took_s": took_s, "codes": codes, "done": [[asdict(each) for each in one] for one in done]}
    (out / "pressed.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
