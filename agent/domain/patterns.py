"""Press patterns: what can be done to buttons and switches, and its text in the configuration.

Grammar (case matters, single spaces):

    pattern = press ":" line
            | "hold " seconds ":" line
            | "chord:" lines
            | "chord hold " seconds ":" lines
            | "switch " ("on" | "off") ":" line
    press   = "short" | "double" | "triple" | "quadruple" | "quintuple"
    seconds = digits ["." 1*3digits] "s"          from 1 s to 15 s
    lines   = line "+" line *("+" line)
    line    = a-z *(a-z | 0-9 | "_")

Such as `double:record`, `hold 3s:record`, `chord hold 2s:record+mark`, `switch off:power`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from agent.errors import ConfigError

MAX_PRESSES = 5
MIN_HOLD_MS = 1_000
MAX_HOLD_MS = 15_000

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PRESS_WORDS = {"short": 1, "double": 2, "triple": 3, "quadruple": 4, "quintuple": 5}
_PRESS_NAMES = {count: word for word, count in _PRESS_WORDS.items()}
_SECONDS = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?s")
_EXAMPLES = "short:mark, double:record, hold 3s:record, chord hold 2s:record+mark or switch on:power"


def check_name(name: str) -> str:
    """`name`, if it can name a line.

    Raises:
        ConfigError: It is not 1 to 32 of `a-z`, `0-9` and `_`, beginning with a letter.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"expected a line name of 1 to 32 characters a-z, 0-9 and _ that begins with a letter, got {name[:80]!r}"
        )
    return name


class Kind(StrEnum):
    """What is done to the lines of a pattern."""

    PRESS = "press"
    HOLD = "hold"
    SWITCH_ON = "switch_on"
    SWITCH_OFF = "switch_off"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One thing that can be done to buttons or switches.

    Attributes:
        kind: Press, hold, or a switch put into a position.
        lines: The names of the lines, sorted; two or more are a chord.
        presses: How many short presses, 1 to 5; 1 for a chord; 0 for anything but presses.
        hold_ms: How long to hold, in milliseconds; 0 for anything but holds.
    """

    kind: Kind
    lines: tuple[str, ...]
    presses: int = 0
    hold_ms: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(sorted(self.lines)))
        for line in self.lines:
            check_name(line)
        if not self.lines or len(set(self.lines)) != len(self.lines):
            raise ConfigError(f"expected different lines in a pattern, at least one, got {list(self.lines)}")
        if self.chord and self.kind not in (Kind.PRESS, Kind.HOLD):
            raise ConfigError(f"expected one line for a switch, got {list(self.lines)}")
        if self.kind is Kind.PRESS:
            if self.hold_ms or not 1 <= self.presses <= (1 if self.chord else MAX_PRESSES):
                raise ConfigError(
                    f"expected 1 to {MAX_PRESSES} presses of one line or 1 of a chord, got {self.presses} of "
                    f"{'+'.join(self.lines)}"
                )
        elif self.presses:
            raise ConfigError(f"expected presses only in a press pattern, got {self.presses} with {self.kind}")
        elif self.kind is Kind.HOLD:
            if not MIN_HOLD_MS <= self.hold_ms <= MAX_HOLD_MS:
                allowed = f"{MIN_HOLD_MS // 1000} to {MAX_HOLD_MS // 1000} s"
                raise ConfigError(f"expected a hold of {allowed}, got {self.hold_ms / 1000:g} s")
        elif self.hold_ms:
            raise ConfigError(f"expected a hold time only in a hold pattern, got {self.hold_ms} ms with {self.kind}")

    @property
    def chord(self) -> bool:
        """True if it takes more than one button at once."""
        return len(self.lines) > 1

    @property
    def hold_s(self) -> float:
        """How long to hold, in seconds; 0 for anything but holds."""
        return self.hold_ms / 1000

    def __str__(self) -> str:
        """The text that `parse_pattern` reads."""
        lines = "+".join(self.lines)
        chord = "chord " if self.chord else ""
        if self.kind is Kind.PRESS:
            return f"{'chord' if self.chord else _PRESS_NAMES[self.presses]}:{lines}"
        if self.kind is Kind.HOLD:
            return f"{chord}hold {self.hold_s:g}s:{lines}"
        return f"switch {'on' if self.kind is Kind.SWITCH_ON else 'off'}:{lines}"


def parse_pattern(text: str) -> Pattern:
    """The pattern of a text, by the grammar above.

    Raises:
        ConfigError: It is none.
    """
    gesture, colon, names = text.partition(":")
    if not colon:
        raise ConfigError(f"expected a gesture, a colon and lines, such as {_EXAMPLES}, got {text[:80]!r}")
    lines = tuple(names.split("+"))
    words = gesture.split(" ")
    chord = words[0] == "chord"
    if chord:
        words = words[1:]
    if chord != (len(lines) > 1):
        raise ConfigError(
            f"expected 'chord' before two or more lines joined by + and only there, such as {_EXAMPLES}, "
            f"got {text[:80]!r}"
        )
    match words:
        case [] if chord:
            return Pattern(Kind.PRESS, lines, presses=1)
        case ["hold", seconds]:
            return Pattern(Kind.HOLD, lines, hold_ms=_milliseconds(seconds, text))
        case [word] if not chord and word in _PRESS_WORDS:
            return Pattern(Kind.PRESS, lines, presses=_PRESS_WORDS[word])
        case ["switch", ("on" | "off") as position] if not chord:
            return Pattern(Kind.SWITCH_ON if position == "on" else Kind.SWITCH_OFF, lines)
        case _:
            raise ConfigError(
                f"expected {', '.join(_PRESS_WORDS)}, hold with seconds, chord, or switch on or off before the colon, "
                f"such as {_EXAMPLES}, got {text[:80]!r}"
            )


def _milliseconds(seconds: str, text: str) -> int:
    match = _SECONDS.fullmatch(seconds)
    if match is None:
        raise ConfigError(f"expected a hold time such as 3s or 1.5s, got {seconds[:40]!r} in {text[:80]!r}")
    whole, fraction = match.groups(default="")
    return int(whole) * 1000 + int(fraction.ljust(3, "0"))
