"""Joins segments' samples on the time line of one file. Pure: samples in, samples out.

The rules, in order:

1. A sample keeps its bytes, its order and its time; between two segments nothing is rounded if their ticks have the
   same epoch (see `placing`).
2. Samples that repeat those of an earlier segment (`overlap`) are dropped if their bytes are equal. If they are not,
   the earlier sample stays, and the contradiction is counted.
3. A gap keeps its length. The last picture is held; sound is filled with whole frames of silence, so that the last of
   them may be held for less than a frame.
4. Where one track ends before the other, the gap at the end of the file is treated alike, above `GAP_NS`.
5. A time that goes back, which no recorder writes, moves what follows to the end of the track, and is counted.
6. A gap in all tracks that is longer than `MOST_HELD_NS`, or that the format can't express, ends the file.
7. In all files of one opening together, at most `MOST_FILLED_NS` of each track are held pictures or silence. Beyond
   that, a gap ends the file as in rule 6, and a track that ends before the file is not extended.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from agent.clock import NS
from agent.evidence.manifest import Track
from agent.export.placing import Placement
from agent.media.fmp4_reader import Sample
from agent.media.mp4 import MAX_TICKS
from agent.media.packet import Kind, StreamParameters
from agent.media.ring import GAP_NS
from agent.media.silence import silence

MOST_HELD_NS = 12 * 3600 * NS
"""Longer than a shift: time that a camera lay in a drawer is not put into a film."""
MOST_FILLED_NS = 24 * 3600 * NS
"""Twice that. Evidence with forged times must not fill a disk with silence."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Time without samples in a track, in nanoseconds from the file's beginning.

    Attributes:
        silent_frames: Inserted frames of silence; 0 where a picture is held, or nothing can be inserted.
    """

    kind: Kind
    from_ns: int
    to_ns: int
    silent_frames: int

    @property
    def ns(self) -> int:
        """Its length."""
        return self.to_ns - self.from_ns


class Sink(Protocol):
    """Where the joined samples go."""

    def adder(self, kind: Kind) -> Callable[[int, bytes, bool], None]:
        """The function to add a track's samples: ticks from the file's beginning, bytes, whether it is a key frame."""

    def gap(self, gap: Gap) -> None:
        """Report a gap, once it is over."""


class Filling:
    """The remaining time that may be filled (rule 7), by kind of track."""

    def __init__(self, most_ns: int = MOST_FILLED_NS) -> None:
        self._left_ns = dict.fromkeys(Kind, most_ns)

    def left_ns(self, kind: Kind) -> int:
        """The remaining time for a kind of track."""
        return self._left_ns[kind]

    def fill(self, kind: Kind, ns: int) -> None:
        """Subtract filled time."""
        self._left_ns[kind] = max(0, self._left_ns[kind] - ns)


class TimeLine:
    """The time line of one file. Its zero is such that every track's time is whole ticks from it.

    Args:
        tracks: As the file's first segment declares them.
        placement: Of that segment.
        begins: By kind, the tick of the stream before which the track has no samples.

    Attributes:
        zero_ns: The file's beginning on the recording's line.
    """

    def __init__(self, tracks: Sequence[Track], placement: Placement, begins: Mapping[Kind, int]) -> None:
        self._reference_ns = placement.epochs_ns[tracks[0].kind]
        grid = math.gcd(*(track.timescale for track in tracks))
        starts = [
            Fraction(
                begins[track.kind] + self._moved(placement.epochs_ns[track.kind], track.timescale), track.timescale
            )
            for track in tracks
            if track.kind in begins
        ]
        self._zero = Fraction(math.floor(min(starts) * grid), grid)
        self.zero_ns = self._reference_ns + int(self._zero * NS)

    def _moved(self, epoch_ns: int, timescale: int) -> int:
        return round(Fraction((epoch_ns - self._reference_ns) * timescale, NS))

    def offset(self, epoch_ns: int, timescale: int) -> int:
        """Ticks to add to a stream's own ticks to count from the file's beginning."""
        return self._moved(epoch_ns, timescale) - int(self._zero * timescale)


class JoinedTrack:
    """One track of one file.

    Args:
        parameters: Of the stream.
        sink: Where samples go.
        front_ns: Returns the end of the longest track, from the file's beginning.
        filling: Of the whole opening.

    Attributes:
        end: Where the newest sample ends, in ticks from the file's beginning; None before the first.
        packets: The recording's own samples, without inserted silence.
        silent_frames: Inserted.
        repeated: Samples dropped because a segment before held them.
        contradictions: Repeated samples with other bytes, dropped.
        moved_back: How often time went back (rule 5).
        unfilled_ns: Time at its end that was not filled (rule 7).
    """

    def __init__(self, parameters: StreamParameters, sink: Sink, front_ns: Callable[[], int], filling: Filling) -> None:
        self.parameters = parameters
        self._filling = filling
        self._front_ns = front_ns
        self.end: int | None = None
        self.packets = 0
        self.silent_frames = 0
        self.repeated = 0
        self.contradictions = 0
        self.moved_back = 0
        self.unfilled_ns = 0
        self._sink = sink
        self._put = sink.adder(parameters.kind)
        self._silence = silence(parameters)
        self._frame = self._silence.ticks if self._silence else None
        self._longest = math.ceil(self._frame) if self._frame else math.inf
        self._last = 0
        self._offset = 0
        self._overlaps = False
        self._remember_from: int | None = None
        self._remembered: dict[int, bytes] = {}

    def begin_segment(self, offset: int, *, overlaps: bool, remember_from: int | None) -> None:
        """Begin a segment: the samples that follow belong to it.

        Args:
            offset: Ticks to add to theirs.
            overlaps: They may repeat earlier samples.
            remember_from: The tick of the file from which later segments may repeat these samples; None if none will.
        """
        self._offset = offset
        self._overlaps = overlaps
        self._remember_from = remember_from
        if not overlaps:
            keep_from = math.inf if remember_from is None else remember_from
            self._remembered = {at: digest for at, digest in self._remembered.items() if at >= keep_from}

    def add(self, sample: Sample) -> bool:
        """Add a sample, with the segment's own ticks. Returns False, without adding it, if the gap is too long."""
        at = sample.ticks + self._offset
        if at != self.end:
            if self._is_repeated(at, sample.data):
                return True
            if self._is_too_far(at):
                return False
            at = self._reconcile(at)
        self._put(at, sample.data, sample.key)
        self._last = at
        duration = sample.duration
        # Missing sound within a fragment shows as a sample whose duration is longer than a frame.
        self.end = at + duration if duration <= self._longest else at + int(self._longest)
        self.packets += 1
        if self._remember_from is not None and at >= self._remember_from:
            self._remembered[at] = _digest(sample.data)
        return True

    def _is_too_far(self, at: int) -> bool:
        """True if the gap before a sample ends the file (rules 6 and 7)."""
        if not self._may_fill(self.end or 0, at):
            return True
        if self.end is not None and self._frame is None and at - self._last > MAX_TICKS:
            return True
        return at * NS > (self._front_ns() + MOST_HELD_NS) * self.parameters.timescale

    def _may_fill(self, start: int, end: int) -> bool:
        ns = (end - start) * NS // self.parameters.timescale
        return ns <= GAP_NS or ns <= self._filling.left_ns(self.parameters.kind)

    def _is_repeated(self, at: int, data: bytes) -> bool:
        """Whether an earlier segment held this sample (rule 2); reopening a source may shift its time by a tick."""
        if not self._overlaps or self.end is None or at > self._last + 1:
            return False
        digest = _digest(data)
        if any(self._remembered.get(near) == digest for near in (at, at - 1, at + 1)):
            self.repeated += 1
            return True
        if at > self._last:
            return False
        self.contradictions += 1
        return True

    def _reconcile(self, at: int) -> int:
        """The tick for a sample that is not at the track's end: fills a gap, or corrects a time that goes back."""
        end = self.end or 0
        if at < self._last:
            self.moved_back += 1
            self._offset += end - at
            at = end
        if at > end:
            self._fill(end, at)
        return at

    def _fill(self, start: int, end: int) -> None:
        """Fill the gap between two ticks with silence; a picture is held by its duration."""
        frames = 0
        if self._silence is not None and self._frame is not None:
            frames = math.floor((end - start) / self._frame)
            # At the head silence ends where sound begins; elsewhere it begins where sound ends.
            begin = end - frames * self._frame if self.end is None else Fraction(start)
            self._put_silence(begin, self._frame, frames, self._silence.data)
        timescale = self.parameters.timescale
        if frames or (end - start) * NS > GAP_NS * timescale:
            kind = self.parameters.kind
            self._filling.fill(kind, (end - start) * NS // timescale)
            self._sink.gap(Gap(kind, start * NS // timescale, end * NS // timescale, frames))

    def _put_silence(self, begin: Fraction, frame: Fraction, frames: int, data: bytes) -> None:
        # Integer arithmetic for speed: hours can be missing.
        parts = frame.denominator
        first, step, put = int(begin * parts), frame.numerator, self._put
        for number in range(frames):
            put((first + number * step) // parts, data, True)  # noqa: FBT003 - a key, as every sound frame
        if frames:
            self._last = (first + (frames - 1) * step) // parts
        self.silent_frames += frames

    def finish(self, end_ns: int) -> int:
        """End the track of a file that lasts until `end_ns`; returns the end of its last sample, in ticks."""
        assert self.end is not None
        end = end_ns * self.parameters.timescale // NS
        if not self._may_fill(self.end, end):
            self.unfilled_ns = (end - self.end) * NS // self.parameters.timescale
        elif (end - self.end) * NS > GAP_NS * self.parameters.timescale:
            self._fill(self.end, end)
            self.end = end
        return max(self._last, min(self.end, self._last + MAX_TICKS))

    @property
    def end_ns(self) -> int:
        """Where the newest sample ends, in nanoseconds from the file's beginning; 0 before the first."""
        return 0 if self.end is None else self.end * NS // self.parameters.timescale


class Join:
    """All tracks of one file.

    Args:
        parameters: Of each track.
        line: The file's.
        sink: Where the joined samples go.
        filling: Of the whole opening.
    """

    def __init__(
        self, parameters: Sequence[StreamParameters], line: TimeLine, sink: Sink, filling: Filling | None = None
    ) -> None:
        self.line = line
        filling = filling or Filling()
        self.tracks: Mapping[Kind, JoinedTrack] = {
            one.kind: JoinedTrack(one, sink, self.front_ns, filling) for one in parameters
        }
        self._sink = sink

    def begin_segment(self, placement: Placement, *, overlaps: bool, remember_from_ns: int | None) -> None:
        """Begin a segment: the samples that follow belong to it; see `JoinedTrack.begin_segment`.

        Args:
            placement: Of the segment.
            overlaps: Its first samples may repeat earlier ones.
            remember_from_ns: On the recording's line.
        """
        for kind, joined in self.tracks.items():
            timescale = joined.parameters.timescale
            remember_from = None
            if remember_from_ns is not None:
                remember_from = (remember_from_ns - self.line.zero_ns) * timescale // NS - 2
            offset = self.line.offset(placement.epochs_ns[kind], timescale) + placement.base_ticks[kind]
            joined.begin_segment(offset, overlaps=overlaps, remember_from=remember_from)

    def front_ns(self) -> int:
        """The end of the longest track, in nanoseconds from the file's beginning."""
        return max(joined.end_ns for joined in self.tracks.values())

    @property
    def settled_ns(self) -> int:
        """The time before which no track gets further samples."""
        return min(joined.end_ns for joined in self.tracks.values())

    def finish(self, end_ns: int) -> dict[Kind, int]:
        """End all tracks; returns the end of each track that has samples, in its ticks.

        Args:
            end_ns: When the recording ended, from the file's beginning; 0 if only its samples show that.
        """
        end_ns = max(end_ns, self.front_ns())
        ends = {}
        for kind, joined in self.tracks.items():
            if joined.end is None:
                self._sink.gap(Gap(kind, 0, end_ns, 0))
            else:
                ends[kind] = joined.finish(end_ns)
        return ends


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
