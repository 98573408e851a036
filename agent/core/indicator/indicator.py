"""The levels of the outputs at a given time, from the signals shown and the background.

Times are monotonic nanoseconds given by the caller. One signal plays at a time: one of higher priority interrupts it,
others wait, and one that has waited for too long is dropped.
"""

from dataclasses import dataclass, field

from agent.clock import MS
from agent.core.indicator.signals import BACKGROUNDS, CUES, Background, Output, Signal, SignalPattern, Steps

_PAUSE_NS = 250 * MS
"""Silence between two signals, so that they are not taken for one."""
_MAX_WAITING = 8
_SILENT_IN_STEALTH = (Output.RED, Output.GREEN, Output.TONE)


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """A waiting signal; the smallest is next."""

    order: tuple[int, int] = field(compare=True)
    signal: Signal = field(compare=False)
    shown_ns: int = field(compare=False)

    @property
    def stale_ns(self) -> int:
        return self.shown_ns + CUES[self.signal].stale_ms * MS


class Indicator:
    """Plays signals and the background.

    Args:
        stealth: Begin with lights and tone off; vibration stays on.
    """

    def __init__(self, *, stealth: bool = False) -> None:
        self._stealth = stealth
        self._background = Background.OFF
        self._background_since_ns = 0
        self._playing: _Waiting | None = None
        self._began_ns = 0
        self._free_ns = 0
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._now_ns = 0

    @property
    def stealth(self) -> bool:
        """True while lights and tone are off."""
        return self._stealth

    def show(self, signal: Signal, now_ns: int) -> None:
        """Play `signal`, now or after those before it. One that waits already is not added again."""
        now_ns = self._advance(now_ns)
        if any(waiting.signal is signal for waiting in self._waiting):
            return
        self._count += 1
        shown = _Waiting((-CUES[signal].priority, self._count), signal, now_ns)
        playing = self._playing
        if playing is not None and CUES[signal].priority > CUES[playing.signal].priority:
            self._waiting.append(playing)
            self._playing = None
            self._free_ns = now_ns + (_PAUSE_NS if now_ns > self._began_ns else 0)
        self._waiting.append(shown)
        self._waiting.sort()
        del self._waiting[_MAX_WAITING:]
        self._advance(now_ns)

    def background(self, state: Background, now_ns: int) -> None:
        """Set what the lights show while no signal plays."""
        now_ns = self._advance(now_ns)
        if state is not self._background:
            self._background = state
            self._background_since_ns = now_ns

    def set_stealth(self, now_ns: int, *, on: bool) -> None:
        """Switch lights and tone off, or on again."""
        self._advance(now_ns)
        self._stealth = on

    def playing(self, now_ns: int) -> Signal | None:
        """The signal that plays now."""
        now_ns = self._advance(now_ns)
        return None if self._playing is None or self._began_ns > now_ns else self._playing.signal

    def levels(self, now_ns: int) -> dict[Output, int]:
        """The level of every output at `now_ns`."""
        now_ns = self._advance(now_ns)
        return {output: self._level(output, now_ns)[0] for output in Output}

    def next_change_ns(self, now_ns: int) -> int | None:
        """When a level next changes after `now_ns`, at the latest; None if never."""
        now_ns = self._advance(now_ns)
        changes = [change for output in Output if (change := self._level(output, now_ns)[1]) is not None]
        if self._playing is not None:
            end_ns = self._began_ns + CUES[self._playing.signal].duration_ms * MS
            changes.append(end_ns if now_ns >= self._began_ns else self._began_ns)
        return min(changes, default=None)

    def _advance(self, now_ns: int) -> int:
        """Advance to `now_ns`, or stay if that is earlier. Returns the time reached."""
        self._now_ns = now_ns = max(now_ns, self._now_ns)
        while True:
            if self._playing is not None:
                end_ns = self._began_ns + CUES[self._playing.signal].duration_ms * MS
                if end_ns > now_ns:
                    return now_ns
                self._playing = None
                self._free_ns = end_ns + _PAUSE_NS
            if not self._waiting:
                return now_ns
            candidate = self._waiting.pop(0)
            begin_ns = max(self._free_ns, candidate.shown_ns)
            if begin_ns <= candidate.stale_ns:
                self._playing = candidate
                self._began_ns = begin_ns

    def _level(self, output: Output, now_ns: int) -> tuple[int, int | None]:
        """The level of one output, and when it next changes."""
        if self._stealth and output in _SILENT_IN_STEALTH:
            return 0, None
        if self._playing is not None and now_ns >= self._began_ns:
            cue: SignalPattern = CUES[self._playing.signal]
            steps = cue.steps.get(output)
            if steps is not None:
                return _at(steps, now_ns - self._began_ns, now_ns)
        steps = BACKGROUNDS[self._background].get(output, ())
        if len(steps) <= 1:
            return (steps[0].level if steps else 0), None
        cycle_ns = sum(step.ms for step in steps) * MS
        return _at(steps, (now_ns - self._background_since_ns) % cycle_ns, now_ns)


def _at(steps: Steps, offset_ns: int, now_ns: int) -> tuple[int, int | None]:
    """The level at an offset into `steps`, and when the step it is in ends; off and never after the last one."""
    for step in steps:
        if offset_ns < step.ms * MS:
            return step.level, now_ns + step.ms * MS - offset_ns
        offset_ns -= step.ms * MS
    return 0, None
