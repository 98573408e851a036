"""Layouts: which press pattern requests what. Built in, configured, or from a signed bundle.

A layout says what is requested, never whether it is granted; what an intent does in a given state (a mark in standby,
a start while recording) is the state machine's business.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from agent.domain.patterns import Kind, Pattern, parse_pattern
from agent.errors import ConfigError

_ONE = r"[a-z][a-z0-9_]{0,63}(?:=[a-z0-9_]{1,64})?"
_DECLARATION = re.compile(rf"{_ONE}(?:\+{_ONE}){{0,7}}")


class Verb(StrEnum):
    """What a gesture can request."""

    START = "start"
    ASK_STOP = "ask_stop"
    MARK = "mark"
    ASK_PRIVACY = "ask_privacy"
    ASK_MUTE = "ask_mute"
    RESUME = "resume"
    ASK_POWER_OFF = "ask_power_off"
    DECLARE = "declare"
    """A reason code (`declare:victim_request`), another declared attribute (`declare:civilians_present=false`), or
    several that one gesture declares together (`declare:encounter_state=concluded+enforcement_mode=none`)."""
    CLASSIFY = "classify"
    """A classification of the recording, such as `classify:juvenile`."""
    STEALTH = "stealth"
    """Lights and tone off, or on again."""


_WITH_ARGUMENT = (Verb.DECLARE, Verb.CLASSIFY)
_DELIBERATE = (Verb.ASK_STOP, Verb.ASK_PRIVACY, Verb.ASK_MUTE, Verb.ASK_POWER_OFF)
_MOST_PRESSES_TO_START = 3


@dataclass(frozen=True, slots=True)
class Intent:
    """What one pattern requests.

    Attributes:
        argument: The reason code, `attribute=value` or classification; empty for all other verbs. Whether the policy
            has it is checked with the policy.
    """

    verb: Verb
    argument: str = ""

    def __post_init__(self) -> None:
        if self.verb in _WITH_ARGUMENT:
            if not _DECLARATION.fullmatch(self.argument):
                raise ConfigError(
                    f"expected {self.verb}: and then a code of a-z, 0-9 and _, such as {self.verb}:victim_request, "
                    f"got {str(self)[:120]!r}"
                )
        elif self.argument:
            raise ConfigError(f"expected {self.verb} alone, got {str(self)[:120]!r}")

    def __str__(self) -> str:
        """The text that `parse_intent` reads."""
        return f"{self.verb}:{self.argument}" if self.argument else str(self.verb)


def parse_intent(text: str) -> Intent:
    """The intent that `text` names, such as `ask_stop` or `declare:victim_request`.

    Raises:
        ConfigError: There is no such intent.
    """
    name, _, argument = text.partition(":")
    try:
        verb = Verb(name)
    except ValueError:
        verbs = ", ".join(f"{verb}:CODE" if verb in _WITH_ARGUMENT else verb for verb in Verb)
        raise ConfigError(f"expected an intent, one of {verbs}, got {text[:120]!r}") from None
    return Intent(verb, argument)


@dataclass(frozen=True, slots=True)
class Layout:
    """A complete map from patterns to intents.

    Attributes:
        name: Its name in journal and status.

    Raises:
        ConfigError: Nothing in it starts a recording, unless it is empty; or a request that ends or suppresses one is
            on presses, which a bouncing button could make.
    """

    name: str
    intents: Mapping[Pattern, Intent]

    def __post_init__(self) -> None:
        object.__setattr__(self, "intents", MappingProxyType(dict(self.intents)))
        starts = [pattern for pattern, intent in self.intents.items() if intent.verb is Verb.START]
        easy = [pattern for pattern in starts if pattern.presses <= _MOST_PRESSES_TO_START]
        if self.intents and not easy:
            raise ConfigError(
                f"expected a gesture that starts a recording in layout {self.name!r}, of {_MOST_PRESSES_TO_START} "
                "presses at most, such as 'double:record' = 'start'; there is none"
            )
        for pattern, intent in self.intents.items():
            if pattern.kind is Kind.PRESS and intent.verb in _DELIBERATE:
                raise ConfigError(
                    f"expected a hold or a switch for {intent} in layout {self.name!r}, such as 'hold 3s:record', "
                    f"got {str(pattern)!r}: presses are too easily made by accident or by a bad contact"
                )

    @property
    def patterns(self) -> frozenset[Pattern]:
        """The patterns that `Inputs` is to recognise."""
        return frozenset(self.intents)

    def intent(self, pattern: Pattern) -> Intent | None:
        """What `pattern` requests; None for nothing."""
        return self.intents.get(pattern)

    def text(self) -> dict[str, str]:
        """The layout as in the configuration, in a stable order; `parse_layout` reads it."""
        return dict(sorted((str(pattern), str(intent)) for pattern, intent in self.intents.items()))


def parse_layout(name: str, text: Mapping[str, str]) -> Layout:
    """The layout of texts of patterns and intents, such as `{"double:record": "start"}`.

    Raises:
        ConfigError: A pattern or intent is malformed, two texts are the same pattern, or `Layout` refuses it.
    """
    intents: dict[Pattern, Intent] = {}
    for pattern_text, intent_text in text.items():
        pattern = parse_pattern(pattern_text)
        if pattern in intents:
            raise ConfigError(f"expected each gesture once in layout {name!r}, got {pattern_text!r} twice")
        intents[pattern] = parse_intent(intent_text)
    return Layout(name, intents)


TWO_BUTTONS = parse_layout(
    "two-buttons",
    {
        "double:record": "start",
        "short:record": "mark",
        "hold 3s:record": "ask_stop",
        "hold 8s:record": "ask_power_off",
        "short:mark": "mark",
        "double:mark": "declare:encounter_state=concluded+enforcement_mode=none",
        "triple:mark": "declare:request_on_recording=true",
        "hold 2s:mark": "ask_privacy",
        "chord:record+mark": "resume",
        "chord hold 2s:record+mark": "ask_mute",
    },
)
"""For a device with the buttons `record` and `mark`."""

THREE_BUTTONS = parse_layout(
    "three-buttons",
    {
        "double:record": "start",
        "short:record": "mark",
        "hold 3s:record": "ask_stop",
        "hold 8s:record": "ask_power_off",
        "short:mark": "mark",
        "double:mark": "declare:encounter_state=concluded+enforcement_mode=none",
        "triple:mark": "declare:request_on_recording=true",
        "hold 2s:mark": "stealth",
        "short:privacy": "resume",
        "double:privacy": "declare:victim_request",
        "triple:privacy": "declare:occupant_request",
        "hold 2s:privacy": "ask_privacy",
        "chord hold 2s:mark+privacy": "ask_mute",
    },
)
"""For a device with the buttons `record`, `mark` and `privacy`."""

NO_BUTTONS = Layout("no-buttons", {})
"""For a device without buttons and switches: triggers and the local socket start it, and nothing requests a stop."""

DEFAULT_LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {layout.name: layout for layout in (TWO_BUTTONS, THREE_BUTTONS)}
)
"""The built-in layouts by name."""
