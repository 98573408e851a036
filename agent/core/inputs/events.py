"""What comes out of the inputs: gestures, moved switches, raised triggers, and lines that are not to be trusted.

Frozen dataclasses, and the whole vocabulary. Every press that was recognised as one turns up exactly once: in a
`Gesture`, in an `Unmatched`, or in the counts of a `LineRecovered`. Times are monotonic nanoseconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.domain.patterns import Pattern


class Fault(StrEnum):
    """Why a line is not listened to."""

    STUCK = "stuck"
    """Active for longer than anybody holds a button: jammed, or shorted to its supply."""
    CHATTER = "chatter"
    """Changes faster than a hand or a sound contact can."""
    FLOOD = "flood"
    """More presses than anybody means."""
    HELD_AT_BOOT = "held_at_boot"
    """Active when it was first read: nobody saw it being pressed."""
    SHORTED = "shorted"
    """Moves at the very same instants as another button: one wire, or water."""
    LOST = "lost"
    """Its pin can't be read any more."""
    UNKNOWN = "unknown"
    """An edge came from a line that is not configured; reported once for each name."""


class UnmatchedReason(StrEnum):
    """Why presses were no gesture."""

    NO_PATTERN = "no_pattern"
    """The layout knows no such number of presses or no such chord."""
    LET_GO_EARLY = "let_go_early"
    """Too long for a short press, not long enough for a hold."""
    INTERRUPTED = "interrupted"
    """A hold with breaks in it."""
    FAULT = "fault"
    """The line turned out to be faulty, or a new layout came, in the middle of it."""


@dataclass(frozen=True, slots=True)
class LevelChanged:
    """A debounced change of a line that is to be believed.

    Attributes:
        active: The level it changed to.
        at_ns: Its first edge.
        decided_ns: When it could be believed.
    """

    active: bool
    at_ns: int
    decided_ns: int


@dataclass(frozen=True, slots=True)
class Gesture:
    """Hands did what a pattern of the layout says.

    Attributes:
        pattern: Which.
        began_ns: First contact of its first press (for a chord: of the last button that joined): the time a mark means.
        at_ns: When it could be told. A hold is told when it is let go, a number of presses once no more can follow.
        held_s: Seconds for which the last press or the hold was held; 0 for switches.
    """

    pattern: Pattern
    began_ns: int
    at_ns: int
    held_s: float

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, sorted."""
        return self.pattern.lines

    @property
    def presses(self) -> int:
        """Number of short presses; 0 for holds and switches."""
        return self.pattern.presses


@dataclass(frozen=True, slots=True)
class HoldReached:
    """A hold has lasted as long as `pattern` asks, and still lasts. Not a request yet: time to let the wearer feel it.

    It becomes a `Gesture` when it is let go before the next longer hold is reached and before the line counts as stuck,
    so a button that jams asks for nothing.
    """

    pattern: Pattern
    began_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Presses that are no pattern of the layout.

    Attributes:
        lines: The lines, sorted.
        presses: How many presses this accounts for; a chord counts one for each button.
        held_s: Seconds of the last press; 0 if it was still held.
        why: What was wrong with them.
    """

    lines: tuple[str, ...]
    presses: int
    began_ns: int
    at_ns: int
    held_s: float
    why: UnmatchedReason


@dataclass(frozen=True, slots=True)
class SwitchMoved:
    """A switch rests in a position.

    Attributes:
        line: Its name.
        on: True if active.
        at_ns: When it left the other position.
        found: True if nobody saw it move there: at boot, or after a fault. Then it is a fact, never a request.
    """

    line: str
    on: bool
    at_ns: int
    found: bool = False


@dataclass(frozen=True, slots=True)
class TriggerRaised:
    """A trigger's rising edge, at its first contact."""

    line: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class TriggerLowered:
    """The end of a level trigger that was raised."""

    line: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class LineFault:
    """From now on nothing on this line is read as anything, until it recovers. Reported once.

    Attributes:
        line: Its name, as it came; an unknown name is cut to 80 characters.
        fault: What is wrong with it.
        at_ns: When that could be told.
        partner: For `shorted` the other line.
        detail: What the pin library said, for `lost`.
    """

    line: str
    fault: Fault
    at_ns: int
    partner: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LineRecovered:
    """The line is at rest and is listened to again.

    Attributes:
        line: Its name.
        fault: What was wrong with it.
        at_ns: When it could be trusted again.
        presses: Debounced rises that were not read as anything, the one that told the fault included.
        edges: Raw edges while it was faulty.
    """

    line: str
    fault: Fault
    at_ns: int
    presses: int
    edges: int


InputEvent = (
    Gesture | HoldReached | Unmatched | SwitchMoved | TriggerRaised | TriggerLowered | LineFault | LineRecovered
)
