"""A recording's annotations, opened with the key that opens the recording.

`agent.export` checks no signatures: the caller has verified the recording.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.clock import utc_text
from agent.errors import EvidenceError, StorageError
from agent.evidence.annotation import Content, read_unchecked
from agent.export.opened import OpenedEvent
from agent.export.recorded import Place
from agent.seal.recipients import RecipientKey
from agent.verify.tree import annotation_files


@dataclass(frozen=True, slots=True)
class OpenedAnnotation:
    """One annotation.

    Attributes:
        event: Its line in the report.
        content: None if it does not open.
    """

    event: OpenedEvent
    content: Content | None


def annotations(place: Place, key: RecipientKey) -> list[OpenedAnnotation]:
    """All annotations of a recording, in order. The event of one that does not open has the reason."""
    return list(_read(place, annotation_files(place.tree, place.folder), key))


def _read(place: Place, files: Mapping[int, str], key: RecipientKey) -> Iterator[OpenedAnnotation]:
    for number, path in files.items():
        text = f"annotation {number}"
        try:
            raw = place.tree.read(path)
            annotation = read_unchecked(raw.decode("ascii").removesuffix("\n"))
            utc = utc_text(annotation.time.utc_ns)
        except (EvidenceError, StorageError, UnicodeDecodeError) as error:
            yield OpenedAnnotation(OpenedEvent("", text, {}, f"can't be read: {error}"), None)
            continue
        if annotation.subject.recording != place.recording:
            yield OpenedAnnotation(OpenedEvent(utc, text, {}, f"it is one of {annotation.subject.recording}"), None)
            continue
        try:
            content = annotation.content([key])
        except EvidenceError:
            yield OpenedAnnotation(OpenedEvent(utc, text, {}, "what it says is sealed to others than this key"), None)
            continue
        details = {"classification": content.classification, "author": content.author, "note": content.note}
        when = "" if annotation.time.trusted else ", by an unsynchronised clock"
        event = OpenedEvent(utc, f"{text}, made {utc[:10]}{when}: {content.classification}", details, "")
        yield OpenedAnnotation(event, content)


def caption(opened: Sequence[OpenedAnnotation]) -> str:
    """The text track's permanent caption: the newest classification that opens; empty if there are no annotations."""
    newest = next((annotation.content for annotation in reversed(opened) if annotation.content is not None), None)
    if newest is not None:
        return f"annotated: {newest.classification}"
    return "annotated: sealed to others" if opened else ""
