"""Press buttons of several devices at once, as often as asked, and write down what was pressed and what was heard.

python3 -m tests.hardware.gpio.guest.presses SEED PRESSES DEVICES BOUNCE_MS EVERYTHING OUT

The devices are one process with a control loop for each, for lgpio keeps polling in every process that it is used in;
the hand on all of them is another one.
"""

import heapq
import json
import os
import random
import sys
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.core.inputs.lines import Timing
from tests.hardware.gpio.guest import hand
from tests.hardware.gpio.guest.sim import Chip

MS = 1_000_000
LINES = ("RECORD", "MARK", "RED", "GREEN", "TONE", "HAPTIC")


def press(chips: list[Chip], seed: int, presses: int, *, everything: bool) -> list[list[hand.Done]]:
    """Press all of them at once until enough presses are good."""
    dice = [random.Random(f"{seed}-{number}") for number in range(len(chips))]
    names = list(hand.GESTURES)
    weights = [weight for _, weight, _ in hand.GESTURES.values()]
    done: list[list[hand.Done]] = [[] for _ in chips]
    # Every gesture at least once, also those that take long.
    todo: list[list[str]] = [[] for _ in chips]
    if everything:
        for number, name in enumerate(names):
            todo[number % len(chips)].append(name)
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


def hand_in_a_process(chips: list[Chip], go: int, seed: int, presses: int, out: Path, *, everything: bool) -> None:
    """Wait for the word, press, write down what was pressed, and end."""
    os.read(go, 1)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))  # a hand waits for nobody
    began = time.monotonic()
    done = press(chips, seed, presses, everything=everything)
    took_s = time.monotonic() - began
    said: dict[str, Any] = {"took_s": took_s, "done": [[asdict(each) for each in one] for one in done]}
    (out / "pressed.json").write_text(json.dumps(said))


def main(argv: list[str]) -> None:
    """See the module."""
    seed, presses, devices, bounce_ms, everything = (int(word) for word in argv[:5])
    out = Path(argv[5])
    out.mkdir(parents=True)
    chips = [Chip(f"{out.name}-{number}", LINES) for number in range(devices)]
    for chip in chips:
        for line in ("RECORD", "MARK"):
            chip.pull(line, up=True)
    go, say_go = os.pipe()
    child = os.fork()
    if not child:
        hand_in_a_process(chips, go, seed, presses, out, everything=bool(everything))
        os._exit(0)
    from tests.hardware.gpio.guest.shell import Shell

    timing = None if bounce_ms == Timing().bounce_ms else Timing(bounce_ms=bounce_ms)
    shells = [Shell(chip.name, timing) for chip in chips]
    time.sleep(1.0)
    os.write(say_go, b"g")
    _, code = os.waitpid(child, 0)
    time.sleep(1.5)
    for number, shell in enumerate(shells):
        heard = {
            "asked": [asdict(each) for each in shell.asked],
            "stumbles": shell.stumbles,
            "problems": shell.hands.problems,
        }
        (out / f"heard-{number}.json").write_text(json.dumps(heard))
        shell.close()
    sys.exit(os.waitstatus_to_exitcode(code))


if __name__ == "__main__":
    main(sys.argv[1:])
