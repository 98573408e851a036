"""Writes one progressive MP4 from joined samples, with its text track."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.clock import NS
from agent.export.joining import Filling, Gap, Join, TimeLine
from agent.export.journal_events import RecordingEvents
from agent.export.opened import OpenedFile, OpenedGap
from agent.export.placing import Placement, Timeline
from agent.export.text_track import SHOWN_NS, Note, TextTrack, provenance, time_text, utc_or_empty
from agent.export.webvtt import WebVtt
from agent.media.fmp4_reader import Sample
from agent.media.mp4 import Mp4Writer
from agent.media.packet import Kind, StreamParameters
from agent.media.ring import GAP_NS
from agent.storage.new_file import NewFile
from agent.verify.findings import number

MOST_GAPS = 10_000
_BREAK_SLACK_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class RecordingContext:
    """What a file needs to know about its recording.

    Attributes:
        caption: Begins each cue.
        started_ns: When the start was requested, on the line; None if unknown.
    """

    timeline: Timeline
    journal: RecordingEvents
    caption: str
    started_ns: int | None


@dataclass(frozen=True, slots=True)
class Break:
    """The time between a segment and the one before.

    Attributes:
        at_ns: Where the segment begins, on the line.
        cause: Why there is a gap before it; empty if that is unknown.
        downtime: True if the recorder did not run meanwhile.
        known: False if no clock measured how long it was.
    """

    at_ns: int
    cause: str
    downtime: bool
    known: bool


class OutputFile:
    """A file being written. For each segment call `begin_segment` and add its samples; then `finish`.

    Args:
        file: The MP4.
        text: Its text as WebVTT.
        parameters: Of each track.
        line: The file's time line.
        context: Of the recording.
        silent_head: True if the pre-event part is recorded without sound on purpose.
        reserve: Bytes to reserve for the index.
        filling: The fill limit of the whole opening.

    Attributes:
        parameters: Of each track.
        segments: Numbers of those in it.
        file, text: The caller publishes or discards them.
    """

    def __init__(
        self,
        file: NewFile,
        text: NewFile,
        parameters: Sequence[StreamParameters],
        line: TimeLine,
        context: RecordingContext,
        *,
        silent_head: bool,
        reserve: int,
        filling: Filling,
    ) -> None:
        self.parameters = tuple(parameters)
        self.segments: list[int] = []
        self.file = file
        self.text = text
        self._context = context
        self._silent_head = silent_head
        self._writer = Mp4Writer(file.stream, parameters, reserve=reserve)
        self._join = Join(parameters, line, self, filling)
        self._zero_ns = line.zero_ns
        self._captions = WebVtt(text.stream)
        self._text = TextTrack(
            self._put_text,
            context.timeline.wall,
            zero_ns=self._zero_ns,
            caption=context.caption,
            mode="before the start" if self._before_start() else "recording",
        )
        if context.started_ns is not None:
            self._text.mode(context.started_ns, "recording")
        self._boots: set[int] = set()
        self._breaks: list[Break] = []
        self._gaps: list[OpenedGap] = []
        self._short: dict[Kind, Note] = {}
        self._short_frames: dict[Kind, int] = {}

    def _put_text(self, milliseconds: int, text: str) -> None:
        """Write a cue to the MP4's text track and to the WebVTT file."""
        self._writer.add_text(milliseconds, text)
        self._captions.add(milliseconds, text)

    @property
    def zero_ns(self) -> int:
        """Its beginning, on the line."""
        return self._zero_ns

    @property
    def end_ns(self) -> int:
        """Its end so far, on the line."""
        return self._zero_ns + self._join.front_ns()

    @property
    def contradictions(self) -> int:
        """Repeated samples whose bytes were others, and times that went back."""
        return sum(track.contradictions + track.moved_back for track in self._join.tracks.values())

    @property
    def unfilled_ns(self) -> Mapping[Kind, int]:
        """By kind, the time at its end that the fill limit left empty; valid after `finish`."""
        return {kind: track.unfilled_ns for kind, track in self._join.tracks.items() if track.unfilled_ns}

    def _before_start(self) -> bool:
        return self._context.started_ns is not None and self._zero_ns < self._context.started_ns

    def begin_segment(
        self,
        number_: int,
        placement: Placement,
        *,
        overlaps: bool,
        remember_from_ns: int | None,
        after: Break | None,
    ) -> None:
        """Begin a segment: the samples that follow belong to it (see `Join.begin_segment`)."""
        self.segments.append(number_)
        if after is not None:
            self._breaks = [*self._breaks[-1:], after]
        self._join.begin_segment(placement, overlaps=overlaps, remember_from_ns=remember_from_ns)
        self._add_events()

    def _add_events(self) -> None:
        """Put the journal's events into the text, for boots that are placed on the line."""
        placed: set[int] = set()
        for event in self._context.journal.events:
            at_ns = self._line_of_new(event.boot, event.mono_us)
            if at_ns is not None:
                placed.add(event.boot)
                if at_ns >= self._zero_ns:
                    self._text.note(Note(at_ns, at_ns + SHOWN_NS, event.text))
        for mode in self._context.journal.modes:
            at_ns = self._line_of_new(mode.boot, mode.from_us)
            if at_ns is not None:
                placed.add(mode.boot)
                self._text.mode(at_ns, mode.name)
        self._boots |= placed

    def _line_of_new(self, boot: int, mono_us: int) -> int | None:
        """Convert an event's time to the line; None if it can't be, or if the boot's events are in the text already."""
        return None if boot in self._boots else self._context.timeline.line_ns(boot, mono_us)

    @property
    def takers(self) -> Mapping[Kind, Callable[[Sample], bool]]:
        """By track, the function that adds the segment's next sample.

        It returns False, without adding the sample, after a gap that is too long for this file. It raises OSError if
        writing fails.
        """
        return {kind: track.add for kind, track in self._join.tracks.items()}

    def update_text(self) -> None:
        """Write the text up to the samples added so far; to be called from time to time."""
        self._text.until(self._zero_ns + self._join.settled_ns)

    def adder(self, kind: Kind) -> Callable[[int, bytes, bool], None]:
        """As `Sink.adder`."""
        return self._writer.adder(kind)

    def gap(self, gap: Gap) -> None:
        """As `Sink.gap`: put it into the text and into the result."""
        from_ns, to_ns = self._zero_ns + gap.from_ns, self._zero_ns + gap.to_ns
        break_ = next(
            (b for b in self._breaks if from_ns <= b.at_ns + _BREAK_SLACK_NS and b.at_ns - _BREAK_SLACK_NS <= to_ns),
            None,
        )
        if gap.ns <= GAP_NS and break_ is None:
            self._short_gap(gap.kind, from_ns, to_ns, gap.silent_frames)
            return
        cause = self._cause(gap.kind, from_ns, to_ns, break_)
        known = break_ is None or break_.known
        downtime = break_ is not None and break_.downtime
        text = self._gap_text(gap, from_ns, to_ns, cause, known=known)
        self._text.note(Note(from_ns, to_ns, text, downtime=downtime))
        if to_ns < from_ns + SHOWN_NS:
            self._text.note(Note(to_ns, from_ns + SHOWN_NS, text))
        if len(self._gaps) < MOST_GAPS:
            wall = self._context.timeline.wall
            self._gaps.append(
                OpenedGap(
                    kind=gap.kind,
                    from_s=gap.from_ns / NS,
                    to_s=gap.to_ns / NS,
                    from_utc=time_text(wall(from_ns)),
                    to_utc=time_text(wall(to_ns)),
                    cause=cause,
                    silent_frames=gap.silent_frames,
                    known=known,
                )
            )

    def _short_gap(self, kind: Kind, from_ns: int, to_ns: int, frames: int) -> None:
        """Report short gaps that are close together in one note."""
        note = self._short.get(kind)
        if note is None or note.until_ns < from_ns:
            note = self._short[kind] = Note(from_ns, to_ns, "")
            self._short_frames[kind] = 0
            self._text.note(note)
        self._short_frames[kind] += frames
        note.until_ns = max(note.until_ns, to_ns, from_ns + SHOWN_NS)
        note.text = f"{number(self._short_frames[kind], 'sound frame')} missing (silence inserted)"

    def _cause(self, kind: Kind, from_ns: int, to_ns: int, break_: Break | None) -> str:
        if break_ is not None and break_.cause:
            return break_.cause
        causes: dict[str, None] = {}
        explained = False
        for span in self._context.journal.spans:
            start_ns, end_ns = (self._context.timeline.line_ns(span.boot, at) for at in (span.from_us, span.to_us))
            concerns = span.track in (kind.value, "both")
            if concerns and start_ns is not None and end_ns is not None and start_ns <= to_ns and end_ns >= from_ns:
                causes[span.cause] = None
                explained = explained or start_ns <= from_ns + GAP_NS
        if causes:
            # A cause that begins in the middle of a gap does not explain its beginning.
            return " and ".join([*([] if explained else ["source gap"]), *causes])
        if kind is Kind.AUDIO and self._silent_head and from_ns == self._zero_ns:
            return "no sound is kept from before the start"
        return "source gap"

    def _gap_text(self, gap: Gap, from_ns: int, to_ns: int, cause: str, *, known: bool) -> str:
        if gap.kind is Kind.AUDIO:
            what, shown = "no sound", "silence inserted" if gap.silent_frames else "nothing inserted"
        else:
            what, shown = "no picture", "the last one is held" if gap.from_ns else "nothing shown"
        if not known:
            return (
                f"{what} after {self._when(from_ns)}, for a time that no clock measured, shown as {gap.ns / NS:.1f} s: "
                f"{cause} ({shown})"
            )
        return f"{what} from {self._when(from_ns)} to {self._when(to_ns)}: {cause} ({shown})"

    def _when(self, at_ns: int) -> str:
        text = time_text(self._context.timeline.wall(at_ns))
        return f"{(at_ns - self._zero_ns) / NS:.3f} s" if text == "?" else text

    def finish(self, end_ns: int | None, after: Break | None) -> OpenedFile:
        """Complete the file; nothing can be added afterwards.

        Args:
            end_ns: When the recorded time ended, on the line; None if only the samples show that.
            after: Why it ended there.

        Raises:
            EvidenceError: Its times do not fit into the format.
            OSError: Writing fails.
        """
        if after is not None:
            self._breaks = [*self._breaks[-1:], after]
        ends = self._join.finish(0 if end_ns is None else max(0, end_ns - self._zero_ns))
        lasts_ns = max(ticks * NS // self._join.tracks[kind].parameters.timescale for kind, ticks in ends.items())
        text_end_ms = self._text.finish(self._zero_ns + lasts_ns)
        self._captions.finish(text_end_ms)
        wall = self._context.timeline.wall(self._zero_ns)
        trusted_ns = wall.utc_ns if wall is not None and wall.trusted else None
        in_front = self._writer.finish(ends, text_end_ms=text_end_ms, created_ns=trusted_ns)
        tracks = self._join.tracks.values()
        return OpenedFile(
            path=Path(),
            text=Path(),
            segments=tuple(self.segments),
            begins=f"{utc_or_empty(wall)} ({provenance(wall)})" if wall is not None else "",
            seconds=lasts_ns / NS,
            packets={track.parameters.kind: track.packets for track in tracks},
            repeated=sum(track.repeated for track in tracks),
            silent_frames=sum(track.silent_frames for track in tracks),
            gaps=tuple(self._gaps),
            index_in_front=in_front,
        )
