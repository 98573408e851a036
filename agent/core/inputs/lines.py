"""Input lines and the times by which they are read: the configuration of `agent.core.inputs.inputs`.

A line is a named digital input that is active or inactive. Pins and polarity are the shell's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum

from agent.domain.patterns import Kind, Pattern, check_name
from agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Edge:
    """One raw reading of a line, bounce and all.

    Attributes:
        active: The level after the edge.
        at_ns: Monotonic time of the edge.
        initial: No edge was seen: this is the level in which the line was found, at boot or when it came back.
        problem: Why the line can't be read; then `active` has no meaning. Empty for a reading.
    """

    line: str
    active: bool
    at_ns: int
    initial: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ButtonLine:
    """A push button: active while pressed.

    Attributes:
        name: Its name in patterns such as `double:record`.
        stuck_ms: Active for longer than this, it is stuck; None for `Timing.stuck_ms`.
    """

    name: str
    stuck_ms: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class SwitchLine:
    """A slide switch, key switch or contact that rests in either position; active means on or closed."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)


class TriggerMode(StrEnum):
    """How a trigger line is read."""

    LEVEL = "level"
    """A lasting level (lights, siren, weapon out): raised and lowered, both debounced."""
    EDGE = "edge"
    """A pulse of any length (impact): raised at its first rise, never lowered."""


@dataclass(frozen=True, slots=True)
class TriggerLine:
    """A line that starts a recording by itself, at its rising edge: siren, holster, weapon, impact.

    Attributes:
        name: The trigger's name, as policies know it.
        stuck_ms: Active for longer than this, it is reported as stuck. None for the default: never for a level (a siren
            may run for an hour), `Timing.stuck_ms` for an edge.
    """

    name: str
    mode: TriggerMode = TriggerMode.LEVEL
    stuck_ms: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)


Line = ButtonLine | SwitchLine | TriggerLine


@dataclass(frozen=True, slots=True)
class Timing:
    """The times and limits by which edges are read, in milliseconds and counts.

    Attributes:
        bounce_ms: A contact may bounce for this long after each true change. A change counts once the line has been
            still for as long; what is shorter is never a change. More than half a period of 50 Hz, so that mains hum on
            a broken line is never a press.
        rest_ms: A switch has moved only once it has been still for this long.
        gap_ms: Longest pause, release to next press, within a double or triple press.
        chord_ms: Buttons first touched within this time of each other are a chord, if the layout has it.
        short_ms: On a button with holds, a press longer than this is an attempt at a hold, not a short press.
        stuck_ms: A button active for longer than this is stuck.
        coincidence_ms: Two buttons that are pressed *and* released within this of each other are one wire.
        chatter_edges: More raw edges than this in a second are chatter.
        chatter_glitches: More spells shorter than `bounce_ms` than this in a second, bounce of true changes aside, are
            chatter.
        unsettled_ms: A line that does not come to rest for this long chatters.
        flood_presses: More presses (moves of a switch, rises of a trigger) than this within `flood_ms` are a flood.
        flood_ms: See `flood_presses`.
        recover_ms: A line that chattered or flooded is trusted again after being still for this long.
        holdoff_ms: A trigger of mode `edge` is raised at most once in this time: an impact rattles.
    """

    bounce_ms: int = 30
    rest_ms: int = 250
    gap_ms: int = 400
    chord_ms: int = 150
    short_ms: int = 800
    stuck_ms: int = 30_000
    coincidence_ms: int = 2
    chatter_edges: int = 200
    chatter_glitches: int = 6
    unsettled_ms: int = 500
    flood_presses: int = 12
    flood_ms: int = 3_000
    recover_ms: int = 1_000
    holdoff_ms: int = 1_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ConfigError(f"expected timing {field.name} of at least 1, got {value}")
        for smaller, larger in (
            ("bounce_ms", "gap_ms"),
            ("bounce_ms", "chord_ms"),
            ("chord_ms", "short_ms"),
            ("short_ms", "stuck_ms"),
            ("bounce_ms", "rest_ms"),
            ("rest_ms", "unsettled_ms"),
            ("unsettled_ms", "recover_ms"),
            ("coincidence_ms", "bounce_ms"),
        ):
            below, above = getattr(self, smaller), getattr(self, larger)
            if below >= above:
                raise ConfigError(f"expected timing {smaller} below {larger}, got {below} and {above}")


def stuck_limit_ms(line: Line, timing: Timing) -> int | None:
    """After how many milliseconds of being active a line counts as stuck; None for never."""
    if isinstance(line, SwitchLine):
        return None
    if line.stuck_ms is not None:
        return line.stuck_ms
    if isinstance(line, TriggerLine) and line.mode is TriggerMode.LEVEL:
        return None
    return timing.stuck_ms


def check_patterns(lines: Iterable[Line], patterns: Iterable[Pattern], timing: Timing) -> None:
    """Check that `patterns` can be performed on `lines`.

    Raises:
        ConfigError: A pattern names a line that is missing or of another kind, or a hold that is no longer than a
            short press or no shorter than a stuck line.
    """
    by_name = {line.name: line for line in lines}
    for pattern in patterns:
        wanted = ButtonLine if pattern.kind in (Kind.PRESS, Kind.HOLD) else SwitchLine
        for name in pattern.lines:
            line = by_name.get(name)
            if not isinstance(line, wanted):
                kind = "button" if wanted is ButtonLine else "switch"
                there = ", ".join(sorted(line.name for line in by_name.values() if isinstance(line, wanted))) or "none"
                raise ConfigError(f"expected the name of a {kind} in {str(pattern)!r}, got {name!r}; there is: {there}")
            if pattern.kind is not Kind.HOLD:
                continue
            stuck_ms = stuck_limit_ms(line, timing)
            if not timing.short_ms < pattern.hold_ms < (stuck_ms or timing.stuck_ms):
                raise ConfigError(
                    f"expected the hold of {str(pattern)!r} to be longer than a short press ({timing.short_ms} ms) and "
                    f"shorter than what counts as stuck ({stuck_ms} ms)"
                )
