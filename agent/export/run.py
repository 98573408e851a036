"""One opening of a recording, segment by segment; see `recording` for its rules."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from agent.clock import NS
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError
from agent.evidence.manifest import Opening, track
from agent.export.annotations import annotations
from agent.export.annotations import caption as annotated_as
from agent.export.facts import details_keys, refuse_others, repeats_from, timeline, torn_from, whole_bytes, withheld
from agent.export.film_names import refuse_existing, text_beside
from agent.export.joining import MOST_FILLED_NS, MOST_HELD_NS, Filling, TimeLine
from agent.export.journal_events import read_journals
from agent.export.opened import Opened, OpenedFile, OpenedSegment, cut_sentence, segments_text
from agent.export.output_file import Break, OutputFile, RecordingContext
from agent.export.placing import Placement
from agent.export.recorded import Recorded, SegmentStatements, segment_path
from agent.export.report import opened_events, remarks
from agent.export.reserve import reserved_bytes
from agent.media.fmp4_reader import Reader, Sample
from agent.media.packet import Kind, StreamParameters
from agent.seal.reader import Opened as Message
from agent.seal.reader import open_message
from agent.seal.recipients import RecipientKey
from agent.storage.new_file import NewFile
from agent.verify.findings import number

_CAUSES = {
    "rolled": "",
    "stopped": "",
    "power_loss": "power loss",
    "interrupted": "the recorder's process was stopped",
    "storage_full": "storage full",
    "fault": "storage or source fault",
}

MOST_AFTER_GAPS = 100
"""Files that may be begun within segments, because a gap is too long for one file."""
_FRAGMENTS_PER_UPDATE = 8
"""After that many fragments the text track is written up to their end."""


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of `recording.open_recording`."""

    out: Path
    verified: bool
    apart: bool


class _Whole:
    """A sealed file up to the end of its last whole frame; a loss of power may have left arbitrary bytes after it."""

    def __init__(self, stream: BinaryIO, size: int, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._left = size
        self._progress = progress

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        self._progress(len(data))
        return data


class Run:
    """One opening: call `open_all`, then `publish`, and `discard` in any case.

    Args:
        recorded: The recording, with at least one segment.
        key: A private key.
        options: The caller's options.
        progress: Called with the sealed bytes read so far and the total.
    """

    def __init__(
        self, recorded: Recorded, key: RecipientKey, options: Options, progress: Callable[[int, int], None]
    ) -> None:
        self._recorded = recorded
        self._place = recorded.place
        self._key = key
        self._options = options
        self._progress = progress
        self._read = 0
        self._total = sum(segment.size or 0 for segment in recorded.segments)
        self._details = details_keys(recorded.boots, key)
        boots = {opening.boot for opening in recorded.openings}
        boots |= {segment.manifest.boot for segment in recorded.segments if segment.manifest is not None}
        self._journal = read_journals(self._place.tree, self._place.device, self._place.recording, boots, self._details)
        self._journal.spans += withheld(recorded.segments)
        self._annotations = annotations(recorded.place, key)
        self._timeline = timeline(recorded, self._journal)
        self._repeats = repeats_from(recorded.segments)
        self._filling = Filling()
        self._after_gaps = 0
        self._film: OutputFile | None = None
        self._films: list[tuple[OutputFile, OpenedFile]] = []
        self._files: list[NewFile] = []
        self._segments: list[OpenedSegment] = []
        self._missing: list[str] = []
        self._notes: list[str] = []
        self._end_ns: int | None = None
        self._cause = ""
        self._unopened: list[int] = []

    def open_all(self) -> None:
        """Open every segment, and finish the files.

        Raises:
            EvidenceError: Nothing could be opened.
            StorageError: Evidence can't be read.
            OSError: A file can't be written.
        """
        expected = 1
        for index, statements in enumerate(self._recorded.segments):
            if statements.number > expected:
                which = segments_text(expected, statements.number - 1)
                self._cause = f"{which} missing"
                self._missing.append(f"nothing is there of {which}")
            expected = statements.number + 1
            self._segment(index, statements)
        stop_ns = self._stop_ns()
        unopened = (
            Break(stop_ns, self._cause, downtime=False, known=True) if stop_ns is not None and self._cause else None
        )
        self._finish_film(stop_ns, unopened)
        if not self._films:
            raise EvidenceError("; ".join(["nothing of this recording could be opened", *self._missing]))

    # -- a segment ----------------------------------------------------------------------------------------------------

    def _segment(self, index: int, statements: SegmentStatements) -> None:
        result = OpenedSegment(statements.number, sealed_bytes=statements.size or 0)
        self._segments.append(result)
        self._missing += [f"segment {statements.number}: {problem}" for problem in statements.problems]
        if statements.manifest is not None:
            result.ended, result.recovered = statements.manifest.ended, statements.manifest.recovered
        problem = ""
        try:
            if statements.opening is None:
                problem = "no opening statement says where it belongs"
            elif statements.size is None:
                problem = "its sealed file is missing"
            else:
                with closing(self._place.tree.open(segment_path(self._place, statements.number))) as stream:
                    refuse_others(stream, self._place, self._key)
                    whole = whole_bytes(statements, stream)
                    self._sealed(index, statements, statements.opening, _Whole(stream, whole, self._count), result)
        except EvidenceError as error:
            problem = str(error)
        if problem:
            self._missing.append(f"segment {statements.number} could not be opened, or not to its end: {problem}")
        self._compare(index, statements, result, problem)
        self._cause = _CAUSES.get(result.ended, result.ended) if statements.manifest is not None else "never closed"
        self._unopened = [] if result.packets else [*self._unopened, statements.number]
        if self._unopened:
            self._cause = f"{segments_text(self._unopened[0], statements.number)} could not be opened"
        elif problem:
            self._cause = f"segment {statements.number} could not be opened to its end"

    def _sealed(
        self, index: int, statements: SegmentStatements, opening: Opening, stream: _Whole, result: OpenedSegment
    ) -> None:
        sealed = open_message(stream, [self._key], torn_from=torn_from(statements))
        if sha256_hex(sealed.header.serialize()) != opening.header:
            raise EvidenceError("its opening statement signs the header of another sealed file")
        reader = Reader(iter(sealed))
        parameters = reader.tracks
        declared = [track(one, stated.base_ticks) for one, stated in zip(parameters, opening.tracks, strict=False)]
        if parameters and declared != list(opening.tracks):
            raise EvidenceError("its tracks are not those that its opening statement declares")
        self._join(index, opening, parameters, reader, result)
        _sum_up(sealed, reader, result)

    def _count(self, size: int) -> None:
        self._read += size
        self._progress(self._read, self._total)

    def _join(
        self,
        index: int,
        opening: Opening,
        parameters: Sequence[StreamParameters],
        reader: Reader,
        result: OpenedSegment,
    ) -> None:
        """Put a segment's samples into files. A file is begun only when there is a sample for it."""
        counts: Counter[Kind] = Counter()
        film: OutputFile | None = None
        placement: Placement | None = None
        take: Mapping[Kind, Callable[[Sample], bool]] = {}
        try:
            for count, samples in enumerate(reader.fragments()):
                if film is None or placement is None:
                    placement = self._timeline.place(opening, self._end_ns)
                    film = self._begin(index, opening, parameters, placement)
                    take = film.takers
                for sample in samples:
                    if not take[sample.kind](sample):
                        film = self._begin_after_gap(index, opening, parameters, placement, sample)
                        take = film.takers
                        take[sample.kind](sample)
                counts.update([sample.kind for sample in samples])
                if count % _FRAGMENTS_PER_UPDATE == 0:
                    film.update_text()
        finally:
            result.packets = dict(counts)
            if film is not None and placement is not None:
                result.seconds = (film.end_ns - placement.start_ns) / NS
                self._end_ns = max(film.end_ns, self._end_ns or film.end_ns)

    def _compare(self, index: int, statements: SegmentStatements, result: OpenedSegment, problem: str) -> None:
        """Compare what was opened with the manifest, and report what is missing."""
        manifest, name = statements.manifest, f"segment {statements.number}"
        if manifest is None:
            if not statements.problems:
                self._missing.append(f"{name} has no manifest: it is still being written, or was never closed")
        else:
            if statements.size is not None and statements.size != manifest.bytes:
                self._missing.append(
                    f"{name} has {statements.size:,} bytes, its manifest says {manifest.bytes:,}: altered"
                )
            if manifest.recovered:
                result.unattested_bytes = max(0, result.opened_bytes - manifest.attested_bytes)
            if manifest.lost_packets:
                lost = number(manifest.lost_packets, "packet")
                self._missing.append(f"{name}: {lost} fell out of memory before storage took them")
            if not problem and result.opened_bytes < manifest.attested_bytes:
                lacking = number(manifest.attested_bytes - result.opened_bytes, "byte")
                self._missing.append(f"{name} lacks {lacking} that the journal attests: it was cut afterwards")
        if not result.complete and not problem:
            self._missing.append(cut_sentence(result, self._journalled_after_s(index, statements, result)))

    def _journalled_after_s(self, index: int, statements: SegmentStatements, result: OpenedSegment) -> float:
        """How long a boot journalled after the end of its last segment, as far as opened; 0 if unknown."""
        following = [later.opening for later in self._recorded.segments[index + 1 :] if later.opening is not None]
        if statements.opening is None or (following and following[0].boot == statements.opening.boot):
            return 0.0
        last_us = self._journal.last_us.get(statements.opening.boot, 0)
        return max(0.0, (last_us - statements.opening.start.mono_us) / 1_000_000 - result.seconds)

    # -- files --------------------------------------------------------------------------------------------------------

    def _begin(
        self, index: int, opening: Opening, parameters: Sequence[StreamParameters], placement: Placement
    ) -> OutputFile:
        """The file for a segment's samples: the current one, or a new one if that can't take them."""
        after = self._break(opening, placement)
        film = self._film
        too_far = film is not None and placement.start_ns - film.end_ns > MOST_HELD_NS
        if film is None or too_far or self._options.apart or film.parameters != tuple(parameters):
            film = self._new_film(
                index, opening, parameters, TimeLine(opening.tracks, placement, placement.base_ticks), after
            )
        repeats_us = self._repeats[index]
        remember_from_ns = None if repeats_us is None else self._timeline.line_ns(opening.boot, repeats_us)
        film.begin_segment(
            opening.segment, placement, overlaps=opening.overlap, remember_from_ns=remember_from_ns, after=after
        )
        return film

    def _begin_after_gap(
        self,
        index: int,
        opening: Opening,
        parameters: Sequence[StreamParameters],
        placement: Placement,
        sample: Sample,
    ) -> OutputFile:
        """A new file, for a sample after a gap that is too long, and for those that follow.

        Raises:
            EvidenceError: There were `MOST_AFTER_GAPS` such gaps: the times are not plausible.
        """
        self._after_gaps += 1
        if self._after_gaps > MOST_AFTER_GAPS:
            raise EvidenceError(f"its times leave more than {MOST_AFTER_GAPS} gaps that no file can hold")
        # The other track may have samples from just before this one.
        declared = next(candidate for candidate in opening.tracks if candidate.kind is sample.kind)
        begins = {sample.kind: declared.base_ticks + sample.ticks - declared.timescale // 4}
        film = self._new_film(index, opening, parameters, TimeLine(opening.tracks, placement, begins), None)
        film.begin_segment(opening.segment, placement, overlaps=False, remember_from_ns=None, after=None)
        return film

    def _new_film(
        self,
        index: int,
        opening: Opening,
        parameters: Sequence[StreamParameters],
        line: TimeLine,
        after: Break | None,
    ) -> OutputFile:
        before = self._film
        if before is not None:
            distance_ns = line.zero_ns - before.end_ns
            holds = not self._options.apart and 0 < distance_ns <= MOST_HELD_NS
            self._finish_film(line.zero_ns if holds else None, after)
            if not self._options.apart:
                changed = before.parameters != tuple(parameters)
                why = "its stream parameters are others" if changed else "no file can hold so long a gap"
                lies = f"{distance_ns / NS:.3f} s after" if distance_ns >= 0 else f"{-distance_ns / NS:.3f} s before"
                self._notes.append(
                    f"segment {opening.segment} begins another file, {lies} the end of the one before: {why}"
                )
        file, text = NewFile(self._options.out.parent), NewFile(self._options.out.parent)
        self._files += [file, text]
        segments = self._recorded.segments[index : index + 1 if self._options.apart else None]
        silent = opening.pre_event is not None and opening.pre_event.silent
        self._film = OutputFile(
            file,
            text,
            parameters,
            line,
            self._context(),
            silent_head=silent,
            reserve=reserved_bytes(segments, parameters),
            filling=self._filling,
        )
        return self._film

    def _context(self) -> RecordingContext:
        first = self._recorded.openings[0]
        caption = f"{first.agency}/{first.device} {first.recording}"
        if annotated := annotated_as(self._annotations):
            caption = f"{caption} {annotated}"
        if not self._options.verified:
            caption = f"NOT VERIFIED {caption}"
        started_us = self._journal.started_us.get(first.boot)
        if started_us is None and first.pre_event is not None:
            started_us = first.start.mono_us + first.pre_event.kept_ms * 1000
        started_ns = None if started_us is None else self._timeline.line_ns(first.boot, started_us)
        return RecordingContext(self._timeline, self._journal, caption, started_ns)

    def _break(self, opening: Opening, placement: Placement) -> Break | None:
        """The known reason for a gap before a segment; None if there is none. Reports downtime as missing."""
        downtime, cause = placement.downtime, self._cause
        if downtime is None:
            return Break(placement.start_ns, cause, downtime=False, known=True) if cause else None
        cause = cause or "the recorder did not run"
        known = downtime.basis != "unknown"
        if known:
            basis = "by the monotonic clock" if downtime.basis == "same_kernel" else f"within {downtime.within_ms} ms"
            lasted = f"for {downtime.ns / NS:.3f} s ({basis})"
        else:
            lasted = f"for a time that no clock measured, shown as {downtime.ns / NS:.3f} s"
        self._missing.append(f"nothing was recorded {lasted} before segment {opening.segment}: {cause}")
        return Break(placement.start_ns, cause, downtime=True, known=known)

    def _finish_film(self, end_ns: int | None, after: Break | None = None) -> None:
        film, self._film = self._film, None
        if film is None:
            return
        if film.contradictions:
            packets = number(film.contradictions, "packet")
            self._missing.append(
                f"{packets} contradict what was recorded before them, or go back in time: left out or moved"
            )
        self._films.append((film, film.finish(end_ns, after)))
        for kind, ns in film.unfilled_ns.items():
            what = "sound" if kind is Kind.AUDIO else "picture"
            most_h = MOST_FILLED_NS // NS // 3600
            self._missing.append(
                f"no {what} for the last {ns / NS:.3f} s of a file, and nothing inserted: "
                f"more than {most_h} h would be filled in"
            )

    def _stop_ns(self) -> int | None:
        """When the recording was ended, on the time line; None if it was not, or if that is unknown."""
        last = self._recorded.segments[-1]
        manifest = last.manifest
        if manifest is None or not manifest.final:
            ended = (
                f"its last segment ended by {_CAUSES.get(manifest.ended) or manifest.ended}"
                if manifest
                else "unfinished"
            )
            self._missing.append(f"the recording was not ended by a granted request: {ended}")
            return None
        if manifest.stop is None or last.opening is None or manifest.boot != last.opening.boot:
            return None
        stop_ns = self._timeline.line_ns(manifest.boot, manifest.stop.mono_us)
        end_ns = self._end_ns
        if stop_ns is not None and end_ns is not None and stop_ns - end_ns > MOST_HELD_NS:
            self._missing.append(
                f"its manifest says that the recording ended {(stop_ns - end_ns) / NS:.3f} s after what there is of "
                f"it: nothing is shown for that, it is longer than the {MOST_HELD_NS // NS // 3600} h of a gap"
            )
            return None
        return stop_ns

    # -- the end ------------------------------------------------------------------------------------------------------

    def publish(self) -> Opened:
        """Give the files their names.

        Raises:
            StorageError: A file of such a name exists, or storage fails.
        """
        out = self._options.out
        names = [out]
        if self._options.apart:
            names = [out.with_name(f"{out.stem}-{opened.segments[0]:04d}{out.suffix}") for _, opened in self._films]
        elif len(self._films) > 1:
            names = [out.with_name(f"{out.stem}-{at}{out.suffix}") for at in range(1, len(self._films) + 1)]
        for name in names:
            refuse_existing(name)
        files: list[OpenedFile] = []
        try:
            for name, (film, opened) in zip(names, self._films, strict=True):
                film.text.publish(text_beside(name))
                film.file.publish(name)
                files.append(replace(opened, path=name, text=text_beside(name)))
        except BaseException:  # an interrupt too: no text may stay without its film
            for file in self._files:
                file.withdraw()
            raise
        first = self._recorded.openings[0]
        return Opened(
            agency=first.agency,
            device=first.device,
            recording=first.recording,
            verified=self._options.verified,
            files=files,
            segments=self._segments,
            events=[
                *opened_events(self._recorded, self._journal, self._timeline, self._details),
                *(annotation.event for annotation in self._annotations),
            ],
            missing=self._missing,
            notes=[*self._notes, *remarks(self._recorded, self._journal, files)],
        )

    def discard(self) -> None:
        """Remove files that were not published."""
        for file in self._files:
            file.discard()


def _sum_up(sealed: Message, reader: Reader, result: OpenedSegment) -> None:
    report, ending = sealed.report, reader.ending
    result.opened_bytes = report.message_bytes
    result.torn_bytes = result.sealed_bytes - report.message_bytes
    result.torn_because = report.fault
    result.partial_bytes = ending.cut_bytes
    result.complete = report.ended == "whole" and ending.complete
