"""Finds recordings that were running by the journal while nothing reached storage and no line explains why.

While a recording runs, its open segment is attested about once a second. Attestations pause while pictures are
suppressed, while the camera delivers none, or while writing fails; each of these is journalled. A writer that is
blocked, for example by a file planted to block it, journals nothing: the journal continues, signed once a minute, and
attests nothing.

The time counts from the last line that shows writing to the last line but one, so that after a hang of the storage, and
of the journal with it, the next line can still report it.
"""

from dataclasses import dataclass

from agent.journal import entries
from agent.journal.format import Line
from agent.journal.reader import claimed_checkpoint

MOST_US = 45_000_000
"""Longest time without a line that shows writing, in microseconds."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing of a recording reached storage for `us` microseconds before line `line`."""

    recording: str
    line: int
    us: int


class Stalls:
    """Follows the lines of one boot."""

    def __init__(self) -> None:
        self._recording = ""
        self._written_us = 0
        self._before: Line | None = None
        self._excuses: set[str] = set()
        self._reported = False
        self._place = ("", 0, 0)

    def follow(self, line: Line) -> Stall | None:
        """Process the next line; returns a stall that lasts up to the line before, once for each stall."""
        written = self._shows_writing(line)
        stall = None if written else self._stall()
        if written or self._excuses:
            self._written_us, self._reported = line.mono_us, False
        self._before = line
        return stall

    def finish(self) -> Stall | None:
        """Process the end of the journal; returns a stall that lasts up to the last line."""
        return self._stall()

    def _stall(self) -> Stall | None:
        if not self._recording or self._excuses or self._reported or self._before is None:
            return None
        us = self._before.mono_us - self._written_us
        if us <= MOST_US:
            return None
        self._reported = True
        return Stall(self._recording, self._before.n, us)

    def _shows_writing(self, line: Line) -> bool:
        """True if the line shows that something was written, or explains why not."""
        match line.entry:
            case entries.RecordingStarted() as entry:
                self._recording = entry.recording
            case entries.RecordingEnded():
                self._recording = ""
            case entries.Withheld() as entry if "video" in entry.kinds:
                self._excuses.add("withheld")
            case entries.Released():
                self._excuses.discard("withheld")
            case entries.SourceFailed() as entry if entry.track != "audio":
                self._excuses.add("source")
            case entries.SourceGap() as entry if entry.track != "audio":
                self._excuses.discard("source")
            case entries.StorageFailed():
                self._excuses.add("storage")
            case entries.StorageBack():
                self._excuses.discard("storage")
            case entries.Checkpoint() as entry:
                return self._attests(entry)
            case entries.SegmentOpened() | entries.SegmentClosed() | entries.SlowSync() | entries.PacketsLost():
                return True
            case _:
                return False
        return True

    def _attests(self, entry: entries.Checkpoint) -> bool:
        """True if it attests other bytes than the checkpoint before; `journals` verifies its signature."""
        payload = claimed_checkpoint(entry)
        if payload is None:
            return False
        place = (payload.recording, payload.segment, payload.bytes)
        more = bool(payload.recording) and place != self._place
        self._place = place
        return more
