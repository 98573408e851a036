"""Events and remarks that are reported beside the files of an opened recording."""

from collections.abc import Mapping, Sequence

from agent.errors import EvidenceError
from agent.evidence.details import DetailsKey
from agent.evidence.manifest import Manifest
from agent.evidence.segment import manifest_details
from agent.export.journal_events import RecordingEvents
from agent.export.opened import OpenedEvent, OpenedFile
from agent.export.placing import Timeline
from agent.export.recorded import Recorded
from agent.export.text_track import utc_or_empty
from agent.verify.findings import number


def opened_events(
    recorded: Recorded, journal: RecordingEvents, timeline: Timeline, keys: Mapping[int, DetailsKey]
) -> list[OpenedEvent]:
    """The events of journals and manifests, with their opened details.

    Args:
        recorded: The recording.
        journal: Its events from the journals.
        timeline: Its time line.
        keys: Details keys, by boot.
    """
    events = []
    for event in journal.events:
        at_ns = timeline.line_ns(event.boot, event.mono_us)
        utc = "" if at_ns is None else utc_or_empty(timeline.wall(at_ns))
        events.append(OpenedEvent(utc, event.text, event.details, event.problem))
    manifests = (segment.manifest for segment in recorded.segments)
    return events + [
        _of_manifest(manifest, keys.get(manifest.boot))
        for manifest in manifests
        if manifest is not None and manifest.sealed
    ]


def _of_manifest(manifest: Manifest, key: DetailsKey | None) -> OpenedEvent:
    utc = manifest.stop.utc if manifest.stop else ""
    text = f"manifest of segment {manifest.segment}"
    if key is None:
        return OpenedEvent(utc, text, {}, "sealed details: no key that opens them")
    try:
        return OpenedEvent(utc, text, manifest_details(manifest, key), "")
    except EvidenceError as error:
        return OpenedEvent(utc, text, {}, str(error))


def remarks(recorded: Recorded, journal: RecordingEvents, files: Sequence[OpenedFile]) -> list[str]:
    """Notes on the files for their viewer."""
    sentences = []
    if journal.missing:
        which = ", ".join(map(str, journal.missing))
        sentences.append(f"no journal of boot {which} is beside the recording: marks and requests are not in the text")
    if journal.unreadable:
        sentences.append(f"{number(journal.unreadable, 'journal line')} could not be read")
    pre_event = next((opening.pre_event for opening in recorded.openings if opening.pre_event is not None), None)
    if pre_event is not None and pre_event.short:
        sentences.append(
            f"{pre_event.kept_ms / 1000:.1f} s from before the start were kept, {pre_event.asked_ms / 1000:.1f} s "
            f"were asked for: {pre_event.short.replace('_', ' ')}"
        )
    return sentences + [f"{file.path} has its index at the end" for file in files if not file.index_in_front]
