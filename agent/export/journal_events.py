"""Reads one recording's events from a device's journals, for the text beside the film and for the report.

Chain and signatures are not checked here: `open` verifies the recording first. Unreadable lines are counted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.details import DetailsKey
from agent.export.placing import Reading
from agent.journal import entries
from agent.journal.format import HELD, Line, parse_line
from agent.journal.reader import Whole, is_checkpoint, raw_lines
from agent.verify.tree import Tree, below

MOST_EVENTS = 20_000
"""Of each kind that is kept; a journal of a shift has some hundreds."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while the recording ran.

    Attributes:
        boot, mono_us: Its time.
        text: The public part in words.
        details: The opened details; empty if there are none, or they do not open.
        problem: Why the details do not open; empty if they do or there are none.
    """

    boot: int
    mono_us: int
    text: str
    details: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A time span without a track. `track` is `video`, `audio` or `both`; `cause` is the reason in words."""

    boot: int
    from_us: int
    to_us: int
    track: str
    cause: str


@dataclass(frozen=True, slots=True)
class Mode:
    """The recorder's mode from a moment on, in a word or two."""

    boot: int
    from_us: int
    name: str


@dataclass(slots=True)
class RecordingEvents:
    """The events of one recording in the journals.

    Attributes:
        readings: Readings of both clocks, by boot, in order.
        started_us: When the start was asked for, by boot; recovery counts as a start.
        events: In order.
        spans: Spans of lost packets, of source gaps, and of suppressed tracks.
        modes: Changes of mode, such as privacy pauses.
        last_us: Monotonic time of the last line of each boot.
        unreadable: Lines that could not be read.
        missing: Boots without a readable journal.
    """

    readings: dict[int, list[Reading]] = field(default_factory=dict)
    started_us: dict[int, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    modes: list[Mode] = field(default_factory=list)
    last_us: dict[int, int] = field(default_factory=dict)
    unreadable: int = 0
    missing: list[int] = field(default_factory=list)


def read_journals(
    tree: Tree, device: str | None, recording: str, boots: Iterable[int], keys: Mapping[int, DetailsKey]
) -> RecordingEvents:
    """Read a recording's events from the journals of its boots. An unreadable journal counts as missing.

    Args:
        tree: The evidence.
        device: The device's folder; None if there is none.
        recording: Id of the recording.
        boots: The boots that took part in it.
        keys: Details keys, by boot.

    Raises:
        StorageError: A journal's size can't be read.
    """
    journal = RecordingEvents()
    for boot in sorted(boots):
        path = below(device or "", layout.journal(boot))
        if device is None or tree.size(path) is None:
            journal.missing.append(boot)
            continue
        _Reader(journal, boot, recording, keys.get(boot)).read(tree, path)
    return journal


class _Reader:
    """Reads one boot's journal."""

    def __init__(self, journal: RecordingEvents, boot: int, recording: str, key: DetailsKey | None) -> None:
        self._journal = journal
        self._boot = boot
        self._recording = recording
        self._key = key
        self._runs = False
        self._withheld: dict[tuple[int, str], tuple[int, int]] = {}
        self._readings: list[Reading] = journal.readings.setdefault(boot, [])

    def read(self, tree: Tree, path: str) -> None:
        newest = None
        try:
            with tree.open(path) as stream:
                for item in raw_lines(stream):
                    if not isinstance(item, Whole):
                        continue
                    newest = item.raw
                    # There is one a second while recording, and it would only contribute its time.
                    if not is_checkpoint(newest):
                        self._follow(newest)
        except StorageError:
            self._journal.missing.append(self._boot)
        for (request, track), (from_us, until_us) in self._withheld.items():
            self._span(from_us, until_us, track, withheld_text(request))
        if newest is not None and (line := self._parsed(newest)) is not None:
            self._journal.last_us[self._boot] = line.mono_us

    def _parsed(self, raw: bytes) -> Line | None:
        try:
            return parse_line(raw)
        except EvidenceError:
            self._journal.unreadable += 1
            return None

    def _follow(self, raw: bytes) -> None:
        line = self._parsed(raw)
        if line is None:
            return
        if line.wall.source != HELD and len(self._readings) < MOST_EVENTS:
            self._readings.append(Reading(line.mono_us, line.wall.utc_ns, line.wall.source, _within_ms(line)))
        self._take(line)

    def _take(self, line: Line) -> None:
        match line.entry:
            case entries.RecordingStarted() as entry if entry.recording == self._recording:
                self._runs = True
                self._journal.started_us[self._boot] = entry.at_us
                self._event(line, f"started by {entry.cause}", entry.at_us)
            case entries.RecordingEnded() as entry if entry.recording == self._recording:
                self._event(line, "stopped", entry.at_us)
                self._runs = False
            case entries.SegmentClosed() as entry if entry.recording == self._recording and entry.final:
                self._runs = False
            case entries.Continued() as entry if entry.recording == self._recording:
                self._event(line, f"not resumed: recording {entry.by} was begun before it could be")
            case entries.Marked() as entry if entry.recording == self._recording:
                self._event(line, "mark", entry.at_us)
            case entries.PacketsLost() as entry if entry.recording == self._recording:
                self._span(entry.from_us, entry.to_us, "both", "memory bound")
            case entries.SourceGap() as entry:
                self._span(entry.from_us, entry.to_us, entry.track, "source gap")
            case entries.Interrupted() as entry if entry.recording == self._recording:
                self._event(line, "the recorder's process was stopped")
            case entries.Withheld() as entry if entry.recording == self._recording:
                self._withhold(entry)
                self._event(line, f"request {entry.request} granted: {_kinds(entry.kinds)} withheld", entry.from_us)
            case entries.Released() as entry if entry.recording == self._recording:
                self._release(entry)
                self._event(line, f"{_kinds(entry.kinds)} recorded again: {entry.why}", entry.to_us)
            case entry if self._runs:
                self._take_unnamed(line, entry)
            case _:
                return

    def _take_unnamed(self, line: Line, entry: entries.AnyEntry) -> None:
        """Take an entry that names no recording, while this one runs."""
        match entry:
            case entries.Requested():
                self._event(line, _requested(entry), entry.at_us)
            case entries.Decided():
                declared = ", on declarations alone" if entry.declared_only and entry.allowed else ""
                self._event(line, f"request {entry.request} {'granted' if entry.allowed else 'refused'}{declared}")
            case entries.Voided():
                self._event(line, f"request {entry.request} was granted, but is not carried out")
            case entries.PostRollBegan():
                later_s = max(0.0, (entry.until_us - line.mono_us) / 1_000_000)
                self._event(line, f"request {entry.request} takes effect in {later_s:.1f} s")
            case entries.StopTakenBack():
                self._event(line, "the stop is cancelled: recording continues", entry.at_us)
            case entries.TriggerRaised():
                self._event(line, f"trigger {entry.name}", entry.at_us)
            case entries.Declared():
                self._event(line, "declaration by the wearer", entry.at_us)
            case entries.Authorised():
                self._event(line, f"authorisation to {_words(entry.action)} used", entry.at_us)
            case entries.Classified():
                self._event(line, "classified", entry.at_us)
            case entries.SpeechMeasured():
                heard = "heard" if entry.heard else "not heard"
                self._event(line, f"speech {heard} ({entry.confidence_pct} %)", entry.at_us)
            case entries.Tampered():
                self._event(line, f"tampering: {entry.what}", entry.at_us)
            case entries.StorageFailed():
                self._event(line, f"writing to storage fails ({entry.problem}): recording in memory", entry.at_us)
            case entries.StorageBack():
                self._event(line, "writing to storage works again")
            case entries.ClockChanged():
                self._event(line, f"clock set by {entry.step_ms / 1000:+.3f} s ({entry.source})")
            case entries.SourceFailed():
                what = {"video": "camera", "audio": "microphone"}.get(entry.track, "camera and microphone")
                self._event(line, f"{what}: {entry.problem}", entry.at_us)
            case _:
                return

    def _withhold(self, entry: entries.Withheld) -> None:
        for track in entry.kinds:
            self._withheld[entry.request, track] = (entry.from_us, entry.until_us)
        self._mode(entry.from_us, "privacy" if "video" in entry.kinds else "muted")

    def _release(self, entry: entries.Released) -> None:
        for track in entry.kinds:
            from_us, _ = self._withheld.pop((entry.request, track), (entry.to_us, entry.to_us))
            self._span(from_us, entry.to_us, track, withheld_text(entry.request))
        left = {track for _, track in self._withheld}
        self._mode(entry.to_us, "privacy" if "video" in left else "muted" if left else "recording")

    def _mode(self, from_us: int, name: str) -> None:
        if len(self._journal.modes) < MOST_EVENTS:
            self._journal.modes.append(Mode(self._boot, from_us, name))

    def _event(self, line: Line, text: str, at_us: int | None = None) -> None:
        if len(self._journal.events) >= MOST_EVENTS:
            return
        details: Mapping[str, Any] = {}
        problem = ""
        if line.sealed and self._key is None:
            problem = "sealed details: no key that opens them"
        elif line.sealed and self._key is not None:
            try:
                details = line.details(self._key)
            except EvidenceError as error:
                problem = str(error)
        self._journal.events.append(Event(self._boot, line.mono_us if at_us is None else at_us, text, details, problem))

    def _span(self, from_us: int, to_us: int, track: str, cause: str) -> None:
        if len(self._journal.spans) < MOST_EVENTS:
            self._journal.spans.append(Span(self._boot, from_us, to_us, track, cause))


def withheld_text(request: int) -> str:
    """The cause of a gap that was suppressed on request."""
    return f"withheld on granted request {request}"


def _requested(entry: entries.Requested) -> str:
    asked = f"{_words(entry.action)} requested"
    if not entry.again:
        return f"{asked} anew by the recorder"
    return asked if entry.again == 1 else f"{asked}, time {entry.again}"


def _words(action: str) -> str:
    """`StopRecording` as `stop recording`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", action).lower()


def _kinds(kinds: Sequence[str]) -> str:
    return " and ".join({"video": "pictures", "audio": "sound"}.get(kind, kind) for kind in kinds)


def _within_ms(line: Line) -> int | None:
    return None if line.wall.uncertainty_s is None else round(line.wall.uncertainty_s * 1000)


def merged(readings: Sequence[Mapping[int, Sequence[Reading]]]) -> dict[int, list[Reading]]:
    """Merge readings from several sources, by boot, in the order of the monotonic clock."""
    boots = {boot for source in readings for boot in source}
    return {
        boot: sorted((one for source in readings for one in source.get(boot, ())), key=lambda one: one.mono_us)
        for boot in boots
    }
