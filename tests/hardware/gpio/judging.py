"""What was pressed held against what was heard: nothing missed, nothing invented, nothing at the wrong time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MS = 1_000_000
AFTER_NS = 900 * MS
"""A gesture is told at most so long after its last edge, by an emulated machine."""
BEFORE_NS = 20 * MS
LONGEST_BOUNCE_NS = 30 * MS
LATE_NS = 50 * MS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of all presses of a run.

    Attributes:
        presses, edges: That were judged.
        gestures: By name, how many of them.
        spoilt: Gestures in which the machine stood still for so long that they were others, or none.
        missed, invented: Requests, with their device and time.
        took_s: How long the pressing took.
    """

    presses: int
    edges: int
    gestures: dict[str, int]
    spoilt: int
    missed: list[str]
    invented: list[str]
    took_s: float


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was pressed, and what each device heard."""
    pressed = json.loads((folder / "pressed.json").read_text())
    heard = [json.loads((folder / f"heard-{number}.json").read_text()) for number in range(len(pressed["done"]))]
    return pressed, heard


def judge(folder: Path, asks: dict[str, tuple[str, ...]]) -> Verdict:
    """The verdict on a run.

    Args:
        folder: What it wrote.
        asks: The requests that each gesture makes, in order.
    """
    pressed, heard = read(folder)
    presses = edges = spoilt = 0
    gestures: dict[str, int] = {}
    missed: list[str] = []
    invented: list[str] = []
    for number, (done, listened) in enumerate(zip(pressed["done"], heard, strict=True)):
        # What was found at the start is a fact of the device, not of hands.
        asked = [each for each in listened["asked"] if done and each["at_ns"] >= done[0]["began_ns"] - BEFORE_NS]
        for gesture in done:
            until_ns = gesture["ended_ns"] + AFTER_NS
            mine: list[dict[str, Any]] = []
            while asked and asked[0]["at_ns"] < until_ns and len(mine) < 100 and _is_of(asked[0], gesture, done):
                mine.append(asked.pop(0))
            if gesture["late_ns"] > LATE_NS or gesture["bounced_ns"] > LONGEST_BOUNCE_NS:
                spoilt += 1
                continue
            presses += gesture["presses"]
            edges += gesture["edges"]
            gestures[gesture["name"]] = gestures.get(gesture["name"], 0) + 1
            told = [each["what"] for each in mine]
            place = f"device {number}, {gesture['began_ns'] / 1e9:.3f} s, {gesture['name']}: {told}"
            for what in asks[gesture["name"]]:
                if what in told:
                    told.remove(what)
                else:
                    missed.append(f"{what} ({place})")
            invented += [f"{what} ({place})" for what in told]
        invented += [f"{each['what']} (device {number}, after everything)" for each in asked]
    return Verdict(presses, edges, gestures, spoilt, missed, invented, pressed["took_s"])


def _is_of(asked: dict[str, Any], gesture: dict[str, Any], done: list[dict[str, Any]]) -> bool:
    """True if a request came before the next gesture began."""
    following = [each["began_ns"] for each in done if each["began_ns"] > gesture["began_ns"]]
    return not following or asked["at_ns"] < min(following) - BEFORE_NS
