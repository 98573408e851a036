"""Every microsecond of a shift in exactly one state.

The rules, in order:
1. Within a boot, time is the monotonic clock's, from the boot's first line to its last. What comes after a boot's last
   line and before the next one's first is `off`: nothing was journalled.
2. How long it was off is what the next boot says, if a clock could tell it: exactly if the kernel ran on
   (`same_kernel`), else by a clock that was trusted at both ends (`trusted_clock`).
3. Where no clock could tell it at that time, lines of both boots that were written under a trusted clock may tell it
   afterwards (`later_clock`). Else it is `unknown`: its length can't be stated, and it adds nothing to any sum.
   Where a boot's whole journal is missing, the time is `off` too, on the basis `journal_missing`.
4. Time that no recorder can mean is not counted: more than `MOST_SILENT_US` between two lines of a boot, of which one
   writes several a minute, or more than `MOST_OFF_US` off, or less than none. The first is named (`beyond`), the second
   is `unknown`.
5. Nothing is in two states. A recording in which pictures are withheld is in `privacy`, one in which only sound is, is
   `muted`. `fault` is a standby in which the camera delivers nothing. The seconds in which a granted stop can be taken
   back are `recording`, and are named `post_roll`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.journal import entries
from agent.journal.format import HELD, Line


class State(StrEnum):
    """What the camera did."""

    OFF = "off"
    STANDBY = "standby"
    RECORDING = "recording"
    PRIVACY = "privacy"
    MUTED = "muted"
    FAULT = "fault"


POST_ROLL = "post_roll"
MOST_SILENT_US = 86_400 * 1_000_000
MOST_OFF_US = 10 * 366 * MOST_SILENT_US


@dataclass(frozen=True, slots=True)
class Span:
    """A time in one state.

    Attributes:
        state: Which.
        boot: During which boot; of `off`, the boot that ended it.
        from_us, to_us: Monotonic microseconds of that boot; of `off`, 0 and its length.
        line: The line by which it began, for the time of day; of `off`, the last line before it.
        recording: Id of the recording; empty if none ran.
        phase: `post_roll`, or empty.
        basis: Of `off`: what its length rests on.
        uncertainty_us: Of `off`: bound on the error of its length; None if there is none.
        known: False if its length is unknown.
    """

    state: State
    boot: int
    from_us: int
    to_us: int
    line: Line
    recording: str = ""
    phase: str = ""
    basis: str = ""
    uncertainty_us: int | None = None
    known: bool = True

    @property
    def us(self) -> int:
        """How long it lasted, as far as that is known."""
        return self.to_us - self.from_us


@dataclass(slots=True)
class _Boot:
    """One boot's time."""

    number: int
    first: Line
    last: Line
    entry: entries.Boot | None
    spans: list[Span] = field(default_factory=list)
    anchor: Line | None = None
    """A line that was written under a trusted clock."""


class Timekeeper:
    """Follows lines and keeps account of the time."""

    def __init__(self) -> None:
        self._boots: list[_Boot] = []
        self._new: int | None = None
        self._cursor_us = 0
        self._recording = ""
        self._withheld: frozenset[str] = frozenset()
        self._rolling = False
        self._failing: set[str] = set()
        self._since: Line | None = None
        self.beyond = 0
        """Lines of this boot whose time is not counted."""

    def begin(self, boot: int) -> None:
        """The lines of a boot follow."""
        self._close()
        self._new = boot

    def follow(self, line: Line) -> None:
        """The next line."""
        if self._new is not None:
            entry = line.entry if isinstance(line.entry, entries.Boot) else None
            self._boots.append(_Boot(self._new, line, line, entry))
            self._new = None
            self._cursor_us, self._since = line.mono_us, line
            self._recording, self._withheld, self._rolling = "", frozenset(), False
            self._failing = set()
            self.beyond = 0
        boot = self._boots[-1]
        if line.mono_us - boot.last.mono_us > MOST_SILENT_US:
            self.beyond += 1
        elif line.mono_us >= boot.last.mono_us:
            boot.last = line
        if line.wall.trusted and line.wall.source != HELD:
            boot.anchor = line
        self._take(line)

    @property
    def boot(self) -> int:
        """Number of the boot whose lines are being followed."""
        return self._boots[-1].number if self._boots else 0

    def within_us(self, at_us: int) -> int:
        """A moment that a line names, held between the boot's first line and the last that was counted."""
        boot = self._boots[-1]
        return max(boot.first.mono_us, min(at_us, boot.last.mono_us))

    @property
    def now_us(self) -> int:
        """Up to when the boot's time was counted, by its monotonic clock."""
        return self._boots[-1].last.mono_us

    @property
    def recording(self) -> str:
        """Id of the recording that runs; empty for none."""
        return self._recording

    def _take(self, line: Line) -> None:
        match line.entry:
            case entries.RecordingStarted() as entry:
                self._turn(line, entry.at_us)
                self._recording, self._withheld, self._rolling = entry.recording, frozenset(), False
            case entries.RecordingEnded() as entry:
                self._turn(line, entry.at_us)
                self._recording, self._withheld, self._rolling = "", frozenset(), False
            case entries.Withheld() as entry:
                self._turn(line, entry.from_us)
                self._withheld = frozenset(entry.kinds)
            case entries.Released() as entry:
                self._turn(line, entry.to_us)
                self._withheld = frozenset()
            case entries.PostRollBegan():
                self._turn(line, line.mono_us)
                self._rolling = True
            case entries.StopTakenBack() as entry:
                self._turn(line, entry.at_us)
                self._rolling = False
            case entries.SourceFailed() as entry:
                self._turn(line, entry.at_us)
                self._failing |= {"video", "audio"} if entry.track == "both" else {entry.track}
            case entries.SourceGap() as entry:
                self._turn(line, entry.to_us)
                self._failing -= {"video", "audio"} if entry.track == "both" else {entry.track}
            case _:
                return

    def _turn(self, line: Line, at_us: int) -> None:
        """Another state begins; what a line says of its time is held between the turn before and the line's own."""
        at_us = max(self._cursor_us, min(at_us, line.mono_us, self._boots[-1].last.mono_us))
        self._span(at_us)
        self._since = line

    def _span(self, to_us: int) -> None:
        if to_us <= self._cursor_us or self._since is None:
            return
        boot = self._boots[-1]
        phase = POST_ROLL if self._rolling and not self._withheld else ""
        span = Span(self._state, boot.number, self._cursor_us, to_us, self._since, self._recording, phase)
        before = boot.spans[-1] if boot.spans else None
        if before is not None and _alike(before, span):
            boot.spans[-1] = replace(before, to_us=to_us)
        else:
            boot.spans.append(span)
        self._cursor_us = to_us

    @property
    def _state(self) -> State:
        if not self._recording:
            return State.FAULT if "video" in self._failing else State.STANDBY
        if "video" in self._withheld:
            return State.PRIVACY
        return State.MUTED if self._withheld else State.RECORDING

    def _close(self) -> None:
        if self._boots and self._new is None:
            self._span(self._boots[-1].last.mono_us)

    def finish(self) -> list[Span]:
        """All time, in order."""
        self._close()
        spans: list[Span] = []
        before: _Boot | None = None
        for boot in self._boots:
            if before is not None:
                spans.append(_off(before, boot))
            spans += boot.spans
            before = boot
        return spans

    def ends(self) -> Iterator[tuple[int, Line]]:
        """Each boot's number and last line."""
        return ((boot.number, boot.last) for boot in self._boots)

    @property
    def length_us(self) -> int:
        """The shift's length, from the clocks alone: what all spans must add up to."""
        on = sum(boot.last.mono_us - boot.first.mono_us for boot in self._boots)
        return on + sum(_off(before, boot).us for before, boot in zip(self._boots, self._boots[1:], strict=False))


def _alike(one: Span, other: Span) -> bool:
    return (one.state, one.recording, one.phase, one.to_us) == (
        other.state,
        other.recording,
        other.phase,
        other.from_us,
    )


def _off(before: _Boot, boot: _Boot) -> Span:
    """The time between two boots."""
    missing = boot.number != before.number + 1
    basis = "journal_missing" if missing else "unknown"
    off = Span(State.OFF, boot.number, 0, 0, before.last, basis=basis, known=False)
    entry = boot.entry
    if entry is not None and not missing:
        if entry.dark_basis == "same_kernel" and boot.first.mono_us >= before.last.mono_us:
            length_us = boot.first.mono_us - before.last.mono_us
            return replace(off, to_us=length_us, basis=entry.dark_basis, uncertainty_us=1, known=True)
        bounded = entry.dark_ms is not None and 0 <= entry.dark_ms * 1000 <= MOST_OFF_US
        if bounded and entry.dark_ms is not None and entry.dark_uncertainty_ms is not None:
            uncertainty_us = entry.dark_uncertainty_ms * 1000
            return replace(
                off, to_us=entry.dark_ms * 1000, basis=entry.dark_basis, uncertainty_us=uncertainty_us, known=True
            )
    if before.anchor is None or boot.anchor is None:
        return off
    ended_us, begun_us = _utc_us(before.anchor, before.last.mono_us), _utc_us(boot.anchor, boot.first.mono_us)
    within_us = sum(round((line.wall.uncertainty_s or 0.0) * 1_000_000) for line in (before.anchor, boot.anchor))
    length_us = max(0, begun_us - ended_us)
    if length_us > MOST_OFF_US:
        return off
    basis = basis if missing else "later_clock"
    return replace(off, to_us=length_us, basis=basis, uncertainty_us=within_us, known=True)


def _utc_us(anchor: Line, mono_us: int) -> int:
    """The time of day at a moment of the anchor's boot."""
    return anchor.wall.utc_ns // 1000 + mono_us - anchor.mono_us
