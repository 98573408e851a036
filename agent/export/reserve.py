"""Estimates the size of a file's index before the first sample is read."""

from collections.abc import Sequence

from agent.clock import NS
from agent.evidence.manifest import Manifest, Opening
from agent.export.placing import reading
from agent.export.recorded import SegmentStatements
from agent.media.mp4 import index_bytes
from agent.media.packet import Kind, StreamParameters

_SMALLEST_PACKET = 160
"""Bytes; sound at 60 kbit/s. Bounds the packets of a recovered segment, whose manifest does not count them."""
_SOUND_FRAMES_A_SECOND = 50
_LONGEST_S = 24 * 3600.0
_MOST = 1 << 30
"""Bytes; some 200 hours."""


def reserved_bytes(segments: Sequence[SegmentStatements], parameters: Sequence[StreamParameters]) -> int:
    """Bytes to reserve for the index of a file of these segments; if too few, the index goes to the file's end."""
    samples = 0
    seconds = 0.0
    for segment in segments:
        known = segment.manifest is not None and bool(segment.manifest.written)
        if segment.opening is not None and segment.manifest is not None and known:
            packets = sum(written.packets for written in segment.manifest.written)
            samples += max(0, min(packets, segment.size or 0))
            seconds += _seconds(segment.opening, segment.manifest)
        else:
            samples += (segment.size or 0) // _SMALLEST_PACKET
    seconds = max(seconds, _span(segments))
    if any(one.kind is Kind.AUDIO for one in parameters):
        # Gaps in the sound are filled with frames of silence.
        samples += round(seconds * _SOUND_FRAMES_A_SECOND / 4)
    return min(index_bytes(samples, seconds, parameters), _MOST)


def _seconds(opening: Opening, manifest: Manifest) -> float:
    timescales = {track.kind: track.timescale for track in opening.tracks}
    spans = [
        (written.end_ticks - written.first_ticks) / timescales[written.kind]
        for written in manifest.written
        if written.kind in timescales
    ]
    return min(_LONGEST_S, max(spans, default=0.0))


def _span(segments: Sequence[SegmentStatements]) -> float:
    """Seconds from the first to the last segment by the wall clock, 0 if implausible: gaps need index entries too."""
    times = [reading(segment.opening.start).utc_ns for segment in segments if segment.opening is not None]
    span = (times[-1] - times[0]) / NS if times else 0.0
    return span if 0 <= span <= _LONGEST_S else 0.0
