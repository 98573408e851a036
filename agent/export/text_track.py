"""The text track beside picture and sound: device, wall-clock time with its provenance, mode, and events.

Pure: notes and modes in, cues out, in order. A cue lasts a second of the recorder's wall clock, or until a note or mode
begins or ends. Times are nanoseconds on the recording's line (see `placing`).
"""

import heapq
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.clock import MS, NS, WallReading, utc_text_or_empty
from agent.output import escaped

SHOWN_NS = 3 * NS
"""How long an event without a duration is shown."""

_ROUNDING_NS = 10_000_000
"""Clock adjustments up to this size between two readings start no cue of their own."""
MOST_CUES = 500_000
"""Of one file: 138 hours. The last one says that there are no further ones."""
_MOST_LINES = 8
_MOST_CHARACTERS = 240
_NEVER = 1 << 100

Wall = Callable[[int], WallReading | None]


@dataclass(order=True, slots=True)
class Note:
    """A text that is shown for some time.

    Attributes:
        downtime: True if the recorder did not run meanwhile, so that no time is shown.
    """

    from_ns: int
    until_ns: int = field(compare=False)
    text: str = field(compare=False)
    downtime: bool = field(default=False, compare=False)


def time_text(reading: WallReading | None) -> str:
    """Time of day with milliseconds, such as `23:40:00.123`; `?` where it is unknown."""
    text = utc_or_empty(reading)
    return text[11:23] if text else "?"


def utc_or_empty(reading: WallReading | None) -> str:
    """RFC 3339 text in UTC; empty where the time is unknown, or beyond any calendar."""
    return "" if reading is None else utc_text_or_empty(reading.utc_ns)


def provenance(reading: WallReading) -> str:
    """The source of a wall-clock time and its uncertainty, in words."""
    if reading.uncertainty_s is None:
        return f"{escaped(reading.source)}, error unknown"
    if reading.uncertainty_s < 1:
        return f"{escaped(reading.source)}, within {reading.uncertainty_s * 1000:.0f} ms"
    return f"{escaped(reading.source)}, within {reading.uncertainty_s:.1f} s"


class TextTrack:
    """Generates the cues of one file.

    Args:
        put: Receives each cue: milliseconds from the file's beginning, and its text.
        wall: The recorder's wall clock on the line.
        zero_ns: The file's beginning.
        caption: Begins each cue, such as the device's name.
        mode: The recorder's mode at the beginning, in a word or two.
    """

    def __init__(
        self,
        put: Callable[[int, str], None],
        wall: Wall,
        *,
        zero_ns: int,
        caption: str,
        mode: str,
    ) -> None:
        self._put = put
        self._wall = wall
        self._zero_ns = zero_ns
        self._at_ns = zero_ns
        self._caption = caption
        self._modes = [(zero_ns, mode)]
        self._coming: list[Note] = []
        self._active: list[Note] = []
        self._pending: tuple[int, str] | None = None
        self._cues = 0

    def note(self, note: Note) -> None:
        """Show a note. One from before the cues that were already put is shown late, or not at all."""
        heapq.heappush(self._coming, note)

    def mode(self, from_ns: int, name: str) -> None:
        """Change the mode from a moment on."""
        insort(self._modes, (from_ns, name), key=lambda mode: mode[0])

    def until(self, at_ns: int) -> None:
        """Put the cues that end by a moment; no more notes may come for the time before it."""
        while (following := self._following()) <= at_ns:
            if self._cues >= MOST_CUES:
                self._at_ns = at_ns
                return
            self._cue()
            self._at_ns = following

    def finish(self, end_ns: int) -> int:
        """Put the last cues; returns the end of the last one, in milliseconds from the file's beginning."""
        self.until(end_ns - 1)
        self._cue()
        if self._pending is not None:
            self._put(*self._pending)
        return max(-(-(end_ns - self._zero_ns) // MS), 0 if self._pending is None else self._pending[0])

    def _following(self) -> int:
        """When the cue that begins now ends; `_NEVER` while nothing ends it."""
        now = self._at_ns
        while self._coming and self._coming[0].from_ns <= now:
            self._active.append(heapq.heappop(self._coming))
        self._active = [note for note in self._active if note.until_ns > now]
        edges = [note.until_ns for note in self._active]
        edges += [self._coming[0].from_ns] if self._coming else []
        edges += [from_ns for from_ns, _ in self._modes if from_ns > now]
        reading = None if self._in_downtime() else self._wall(now)
        if reading is not None:
            edges.append(now + NS - (reading.utc_ns + _ROUNDING_NS) % NS + _ROUNDING_NS)
        return min(edges, default=_NEVER)

    def _in_downtime(self) -> bool:
        return any(note.downtime for note in self._active)

    def _cue(self) -> None:
        at_ms = (self._at_ns - self._zero_ns + MS // 2) // MS
        if self._pending is not None and self._pending[0] != at_ms:
            self._put(*self._pending)
        self._cues += 1
        self._pending = (at_ms, self._text() if self._cues < MOST_CUES else f"{self._caption} | no further text")

    def _text(self) -> str:
        downtime = self._in_downtime()
        mode = ["not recording"] if downtime else [name for from_ns, name in self._modes if from_ns <= self._at_ns]
        reading = None if downtime else self._wall(self._at_ns)
        parts = [self._caption]
        if reading is not None:
            utc = utc_or_empty(WallReading(reading.utc_ns + _ROUNDING_NS, reading.source, reading.uncertainty_s))
            parts.append(f"{utc[:10]} {utc[11:19]} UTC ({provenance(reading)})" if utc else "time unknown")
        parts += mode[-1:]
        lines = [" | ".join(parts), *(note.text for note in sorted(self._active))]
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES - 1 :] = [f"and {len(lines) - _MOST_LINES + 1} more"]
        return "\n".join(escaped(line)[:_MOST_CHARACTERS] for line in lines)
