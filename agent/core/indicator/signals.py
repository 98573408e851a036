"""The signals to the wearer: what each means, and the rhythm in which it is shown.

Every signal is one rhythm of short, medium and long pulses, the same in vibration, tone and light. So it is learnt once
and understood through a coat, in noise, by the colour-blind, and with only one of the three fitted. Colour and pitch
repeat its kind: red and low for bad, green and high for good, both and in between for the rest.

Two rhythms differ if they have another number of pulses, or if a pulse of one is at least twice as long as its
counterpart in the other (`told_apart`). Tests check the table below for that, in vibration, tone and light.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import pairwise
from types import MappingProxyType


class Output(StrEnum):
    """A kind of output. A level is 0 or 1; of the tone it is the frequency in Hz, 0 for silence."""

    RED = "red"
    GREEN = "green"
    TONE = "tone"
    HAPTIC = "haptic"


class Signal(StrEnum):
    """Something that is signalled once."""

    GRANTED = "granted"
    REFUSED = "refused"
    SAY_REASON = "say_reason"
    """Missing: say the reason aloud, then ask again."""
    CAPTURE_REQUEST = "capture_request"
    """Missing: have the request on the recording, then ask again."""
    AUTHORISE = "authorise"
    """Missing: a supervisor's authorisation."""
    PROMPT_STOP = "prompt_stop"
    """The law compels a stop; the wearer has to request it."""
    HOLD_REACHED = "hold_reached"
    """Held for long enough: release to make the request."""
    MARKED = "marked"
    STARTED = "started"
    """A recording has begun."""
    RECORDING = "recording"
    """It records, and did before."""
    STANDBY = "standby"
    """It does not record."""
    POST_ROLL = "post_roll"
    """A stop was granted; it can be cancelled for a few seconds, and recording continues until then."""
    PRIVACY = "privacy"
    MUTED = "muted"
    RESUMED = "resumed"
    """Picture and sound are back."""
    REMINDER = "reminder"
    """It is still recording."""
    SUPPRESSED = "withheld"
    """Picture or sound is still suppressed."""
    FAULT = "fault"
    STORAGE_FAULT = "storage_fault"
    STORAGE_LOW = "storage_low"
    BATTERY_LOW = "battery_low"
    READY = "ready"
    """The device is up and has passed its test."""
    DOCKED = "docked"
    UNDOCKED = "undocked"


class Background(StrEnum):
    """What the lights show while no signal plays."""

    OFF = "off"
    STANDBY = "standby"
    RECORDING = "recording"
    POST_ROLL = "post_roll"
    PRIVACY = "privacy"
    MUTED = "muted"
    FAULT = "fault"


class Priority(IntEnum):
    """The order of signals; a higher one interrupts a lower one."""

    INFORMATION = 0
    WARNING = 1
    STATE = 2
    ANSWER = 3
    FAULT = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A level (see `Output`) for some milliseconds."""

    ms: int
    level: int


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class SignalPattern:
    """How a signal is shown, on each output from its beginning.

    Attributes:
        steps: By output; one that is left out shows the background (lights) or is off.
        stale_ms: If it has not begun by then, it is dropped.
    """

    steps: Mapping[Output, Steps]
    priority: Priority
    stale_ms: int

    @property
    def duration_ms(self) -> int:
        """Of its longest output."""
        return max(sum(step.ms for step in steps) for steps in self.steps.values())


class _Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"
    PROMPT = "prompt"
    NEUTRAL = "neutral"


_TONE_HZ = {_Mood.GOOD: 1760, _Mood.PROMPT: 1320, _Mood.NEUTRAL: 880, _Mood.BAD: 440}
_LIGHTS = {
    _Mood.GOOD: (Output.GREEN,),
    _Mood.PROMPT: (Output.RED, Output.GREEN),
    _Mood.NEUTRAL: (Output.RED, Output.GREEN),
    _Mood.BAD: (Output.RED,),
}

# A small vibration motor needs about 50 ms to be felt and as long to stop; a light needs longer pulses than a motor.
_HAPTIC_MS = {".": 80, "-": 250, "=": 800}
_HAPTIC_GAP_MS = 140
_LIGHT_MS = {".": 120, "-": 375, "=": 1200}
_LIGHT_GAP_MS = 180
# Dark before and after, so that a rhythm is seen against a steady light.
_LIGHT_MARGIN_MS = 220

_STALE_MS = {
    Priority.INFORMATION: 10_000,
    Priority.WARNING: 30_000,
    Priority.STATE: 5_000,
    Priority.ANSWER: 4_000,
    Priority.FAULT: 60_000,
}


def _rhythm(code: str, lengths_ms: Mapping[str, int], gap_ms: int, level: int) -> Steps:
    pulses = [Step(lengths_ms[pulse], level) for pulse in code]
    return tuple(step for pulse in pulses for step in (Step(gap_ms, 0), pulse))[1:]


def _cue(code: str, mood: _Mood, priority: Priority, stale_ms: int | None = None) -> SignalPattern:
    light = (
        Step(_LIGHT_MARGIN_MS, 0),
        *_rhythm(code, _LIGHT_MS, _LIGHT_GAP_MS, 1),
        Step(_LIGHT_MARGIN_MS, 0),
    )
    dark = (Step(sum(step.ms for step in light), 0),)
    lights = {output: light if output in _LIGHTS[mood] else dark for output in (Output.RED, Output.GREEN)}
    steps = {
        **lights,
        Output.TONE: _rhythm(code, _HAPTIC_MS, _HAPTIC_GAP_MS, _TONE_HZ[mood]),
        Output.HAPTIC: _rhythm(code, _HAPTIC_MS, _HAPTIC_GAP_MS, 1),
    }
    return SignalPattern(MappingProxyType(steps), priority, _STALE_MS[priority] if stale_ms is None else stale_ms)


CUES: Mapping[Signal, SignalPattern] = MappingProxyType(
    {
        # Answers to presses. Shortest for what happens most.
        Signal.HOLD_REACHED: _cue(".", _Mood.NEUTRAL, Priority.ANSWER, stale_ms=300),
        Signal.MARKED: _cue("..", _Mood.GOOD, Priority.ANSWER),
        Signal.GRANTED: _cue(".-", _Mood.GOOD, Priority.ANSWER),
        Signal.REFUSED: _cue("---", _Mood.BAD, Priority.ANSWER),
        Signal.SAY_REASON: _cue("-.", _Mood.PROMPT, Priority.ANSWER),
        Signal.CAPTURE_REQUEST: _cue("-..", _Mood.PROMPT, Priority.ANSWER),
        Signal.AUTHORISE: _cue("-...", _Mood.PROMPT, Priority.ANSWER),
        Signal.PROMPT_STOP: _cue("-.-.", _Mood.PROMPT, Priority.WARNING),
        # The states all begin with a long pulse; the recording itself is nothing but one.
        Signal.STARTED: _cue("=", _Mood.GOOD, Priority.STATE),
        Signal.RECORDING: _cue("=-", _Mood.GOOD, Priority.STATE),
        Signal.STANDBY: _cue("==", _Mood.NEUTRAL, Priority.STATE),
        Signal.POST_ROLL: _cue("=--", _Mood.NEUTRAL, Priority.STATE),
        Signal.PRIVACY: _cue("=.", _Mood.NEUTRAL, Priority.STATE),
        Signal.MUTED: _cue("=..", _Mood.NEUTRAL, Priority.STATE),
        Signal.RESUMED: _cue("=.-", _Mood.GOOD, Priority.STATE),
        # Trouble: many short pulses, or two medium ones and then short ones.
        Signal.FAULT: _cue("....", _Mood.BAD, Priority.FAULT),
        Signal.STORAGE_FAULT: _cue("--..", _Mood.BAD, Priority.FAULT),
        Signal.STORAGE_LOW: _cue("--.", _Mood.BAD, Priority.WARNING),
        Signal.BATTERY_LOW: _cue("..-", _Mood.BAD, Priority.WARNING),
        # What may come at any time and requires no response.
        Signal.REMINDER: _cue("-", _Mood.NEUTRAL, Priority.INFORMATION),
        Signal.SUPPRESSED: _cue(".=", _Mood.PROMPT, Priority.WARNING),
        Signal.READY: _cue("...", _Mood.GOOD, Priority.INFORMATION),
        Signal.DOCKED: _cue(".-.", _Mood.NEUTRAL, Priority.INFORMATION),
        Signal.UNDOCKED: _cue(".--", _Mood.NEUTRAL, Priority.INFORMATION),
    }
)
"""How each signal is shown."""


def _both(*steps: Step) -> Mapping[Output, Steps]:
    return MappingProxyType({Output.RED: steps, Output.GREEN: steps})


def _red(*steps: Step) -> Mapping[Output, Steps]:
    return MappingProxyType({Output.RED: steps})


def _green(*steps: Step) -> Mapping[Output, Steps]:
    return MappingProxyType({Output.GREEN: steps})


BACKGROUNDS: Mapping[Background, Mapping[Output, Steps]] = MappingProxyType(
    {
        Background.OFF: MappingProxyType({}),
        Background.STANDBY: _green(Step(60, 1), Step(3940, 0)),
        Background.RECORDING: _red(Step(1000, 1)),
        Background.POST_ROLL: _red(Step(500, 1), Step(500, 0)),
        Background.PRIVACY: _both(Step(120, 1), Step(240, 0), Step(120, 1), Step(1520, 0)),
        Background.MUTED: _red(Step(1600, 1), Step(160, 0), Step(80, 1), Step(160, 0)),
        Background.FAULT: _red(Step(120, 1), Step(120, 0)),
    }
)
"""The lights of each background, repeated; a light that is left out is dark."""


def pulses_ms(steps: Steps) -> tuple[int, ...]:
    """The lengths of the pulses (runs of any level but 0), in milliseconds."""
    lengths: list[int] = []
    for before, step in pairwise((Step(0, 0), *steps)):
        if step.level and before.level:
            lengths[-1] += step.ms
        elif step.level:
            lengths.append(step.ms)
    return tuple(lengths)


def told_apart(one: Steps, other: Steps, *, ratio: float = 2.0) -> bool:
    """True if two rhythms can be told apart: by the number of pulses, or by `ratio` in the length of one."""
    ones, others = pulses_ms(one), pulses_ms(other)
    if len(ones) != len(others):
        return True
    return any(max(a, b) >= ratio * min(a, b) for a, b in zip(ones, others, strict=True))
