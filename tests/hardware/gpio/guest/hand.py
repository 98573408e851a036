"""A hand on two buttons: gestures as real edges, bounce and all, and what it really did, by the clock.

The plan keeps clear of every limit of the gestures by a margin. The machine is emulated and may stand still for a
moment; so each gesture is held against what was really done, and one that was spoilt by that is not judged.
"""

import random
import time
from collections.abc import Generator
from dataclasses import dataclass, field

from tests.hardware.gpio.guest.sim import Chip

MS = 1_000_000
LONGEST_BOUNCE_MS = 30
PLANNED_BOUNCE_MS = 28
MOST_BOUNCES = 3
"""How often a contact opens again in one bounce."""

GESTURES: dict[str, tuple[tuple[str, ...], int, float]] = {
    # name: (requests, weight, hold in seconds)
    "short:record": (("mark",), 10, 0.0),
    "double:record": (("start",), 25, 0.0),
    "short:mark": (("mark",), 10, 0.0),
    "double:mark": (("declare:encounter_state+enforcement_mode",), 25, 0.0),
    "triple:mark": (("declare:request_on_recording",), 30, 0.0),
    "chord:record+mark": (("ResumeRecording",), 15, 0.0),
    "triple:record": (("start", "mark"), 4, 0.0),  # a start waits for no third press
    "hold:record": ((), 1, 1.5),  # let go too early
    "hold 2s:mark": (("PrivacyPause",), 1, 2.15),
    "hold 3s:record": (("StopRecording",), 1, 3.15),
    "chord hold 2s:record+mark": (("Mute",), 1, 2.2),
    "hold 8s:record": (("PowerOff",), 0, 8.2),
}
"""What hands do and what that asks for: from the documentation of the two-button layout, not from the code."""
_TIMES = {"short": 1, "double": 2, "triple": 3, "hold": 1}


@dataclass(frozen=True, slots=True)
class Move:
    """One contact is to be moved, this long after the gesture began."""

    after_ns: int
    line: str
    closed: bool
    bounce_ns: tuple[int, ...]


@dataclass(slots=True)
class Done:
    """A gesture as it was really done.

    Attributes:
        name: Which.
        presses: Buttons that were pressed.
        began_ns, ended_ns: First and last edge, monotonic.
        late_ns: By how much it was ever behind its plan.
        bounced_ns: The longest that any contact bounced.
        edges: How many edges.
    """

    name: str
    presses: int = 0
    began_ns: int = 0
    ended_ns: int = 0
    late_ns: int = 0
    bounced_ns: int = 0
    edges: int = 0
    moves: list[tuple[str, bool, int]] = field(default_factory=list)

    @property
    def spoilt(self) -> bool:
        """True if the machine stood still in it for so long that it became another gesture, or none."""
        return self.late_ns > 50 * MS or self.bounced_ns > LONGEST_BOUNCE_MS * MS


def plan(name: str, dice: random.Random) -> list[Move]:
    """The moves of a gesture, in order."""
    kind, _, names = name.partition(":")
    lines = names.split("+")
    hold_s = GESTURES[name][2]
    moves: list[Move] = []

    def move(at_ms: float, line: str, *, closed: bool) -> None:
        moves.append(Move(round(at_ms * MS), line, closed, _bounce(dice)))

    at_ms = 0.0
    for _ in range(1 if len(lines) > 1 else _TIMES[kind.split(" ")[0]]):
        held_ms = hold_s * 1000 if hold_s else dice.uniform(85, 140)
        if len(lines) > 1:
            apart_ms, let_go_ms = dice.uniform(10, 70), dice.uniform(10, 60)
            held_ms = max(held_ms, 200.0)
            first, second = dice.sample(lines, 2)
            move(at_ms, first, closed=True)
            move(at_ms + apart_ms, second, closed=True)
            move(at_ms + held_ms, first, closed=False)
            move(at_ms + held_ms + let_go_ms, second, closed=False)
        else:
            move(at_ms, lines[0], closed=True)
            move(at_ms + held_ms, lines[0], closed=False)
        at_ms += held_ms + dice.uniform(95, 170)
    return moves


def rest_ns(dice: random.Random) -> int:
    """A pause after which a gesture can be followed by no further press."""
    return round(dice.uniform(470, 530) * MS)


def _bounce(dice: random.Random) -> tuple[int, ...]:
    """Offsets at which the contact opens and closes again, an even number of them, all within the bounce time."""
    times = 2 * dice.randint(0, MOST_BOUNCES)
    if not times:
        return ()
    longest = dice.uniform(5, PLANNED_BOUNCE_MS)
    before = [dice.uniform(0.3, longest - 0.3) for _ in range(times - 1)]
    return tuple(sorted(round(each * MS) for each in (*before, longest)))


def do(chip: Chip, name: str, dice: random.Random, polarity_low: bool = True) -> Generator[int, None, Done]:
    """Do a gesture: yields when it wants to go on (monotonic ns), and returns what was done."""
    done = Done(name)
    start_ns = time.monotonic_ns()
    edges: list[tuple[int, str, bool, int]] = []
    for number, move in enumerate(plan(name, dice)):
        edges.append((move.after_ns, move.line, move.closed, number))
        for count, offset in enumerate(move.bounce_ns):
            edges.append((move.after_ns + offset, move.line, move.closed != (count % 2 == 0), number))
    first: dict[int, int] = {}
    for after_ns, line, closed, number in sorted(edges):
        yield start_ns + after_ns
        before = time.monotonic_ns()
        chip.pull(line.upper(), up=closed != polarity_low)
        now = time.monotonic_ns()
        done.began_ns = done.began_ns or before
        done.ended_ns = now
        done.late_ns = max(done.late_ns, now - start_ns - after_ns)
        done.edges += 1
        if number not in first:
            first[number] = before
            done.presses += closed
        done.bounced_ns = max(done.bounced_ns, now - first[number])
    return done
