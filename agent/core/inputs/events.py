"""Events of the input lines: gestures, switch positions, triggers and line faults.

Every recognised press occurs in exactly one of them: a `Gesture`, an `Unmatched`, or the counts of a `LineRecovered`.
Times are monotonic nanoseconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.domain.patterns import Pattern


class Fault(StrEnum):
    """Why a line is ignored."""

    STUCK = "stuck"
    """Active for longer than anybody holds a button: jammed, or shorted to its supply."""
    CHATTER = "chatter"
    """Changes faster than a hand or a sound contact can."""
    FLOOD = "flood"
    """More presses than anybody makes on purpose."""
    HELD_AT_BOOT = "held_at_boot"
    """Active when it was first read, so that its press was not seen."""
    SHORTED = "shorted"
    """Changes at the same instants as another button: one wire, or water."""
    LOST = "lost"
    """Its pin can't be read."""
    UNKNOWN = "unknown"
    """Not configured; reported once for each name."""


class UnmatchedReason(StrEnum):
    """Why presses were no gesture."""

    NO_PATTERN = "no_pattern"
    """The layout has no such number of presses or no such chord."""
    LET_GO_EARLY = "let_go_early"
    """Too long for a short press, not long enough for a hold."""
    INTERRUPTED = "interrupted"
    """A hold with breaks in it."""
    FAULT = "fault"
    """The line became faulty, or a new layout came into force, during the gesture."""


@dataclass(frozen=True, slots=True)
class LevelChanged:
    """A debounced change of a line that is not faulty.

    Attributes:
        active: The level it changed to.
        at_ns: Its first edge.
        decided_ns: When the line had been still for long enough.
    """

    active: bool
    at_ns: int
    decided_ns: int


@dataclass(frozen=True, slots=True)
class Gesture:
    """A pattern of the layout was performed.

    Attributes:
        began_ns: First contact of its first press (for a chord: of the last button that joined): the time of a mark.
        at_ns: When it was recognised: a hold on release, a number of presses once no more can follow.
        held_s: How long the last press or the hold lasted; 0 for switches.
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
    """A hold has reached the length of `pattern`, and still lasts: the wearer is to be signalled.

    It becomes a `Gesture` on release, before the next longer hold is reached and before the line counts as stuck: a
    button that jams requests nothing.
    """

    pattern: Pattern
    began_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Presses that match no pattern of the layout.

    Attributes:
        lines: The lines, sorted.
        presses: How many presses these were; a chord counts one for each button.
        held_s: How long the last press lasted; 0 if it was still held.
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
        at_ns: When it left the other position.
        found: Its move was not seen, as at boot or after a fault: then it is a fact, never a request.
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
    """The line is ignored from now on, until it recovers. Reported once.

    Attributes:
        line: Its name; an unknown name is cut to 80 characters.
        partner: For `shorted` the other line.
        detail: For `lost` the error of the pin library.
    """

    line: str
    fault: Fault
    at_ns: int
    partner: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LineRecovered:
    """The line is at rest, and no longer ignored.

    Attributes:
        presses: Debounced rises that were ignored, the one that showed the fault included.
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
