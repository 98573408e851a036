"""What was said of a recording later is shown to who opens it."""

from pathlib import Path

from agent.evidence import layout
from agent.export.opened import Opened
from agent.export.recorded import recordings
from agent.export.recording import open_recording
from agent.keys import files as key_files
from agent.verify.tree import find
from tests.audit.test_annotating import SAMPLE, add, path
from tests.support.device import agency
from tests.support.evidence import Files, files_of, storage_of, write
from tests.support.films import texts


def annotated(*classifications: str) -> Files:
    storage = storage_of(SAMPLE.files)
    for classification in classifications:
        add(storage, SAMPLE.a, classification)
    return files_of(storage)


def opened(files: Files, folder: Path, holder: str = "oversight") -> tuple[Opened, str]:
    """The report, and all that stands in the text track."""
    write(files, folder / "evidence")
    (place,) = [place for place in recordings(find(folder / "evidence")) if place.recording == SAMPLE.a]
    key = key_files.load_recipient_key(getattr(agency(), holder))
    report = open_recording(place, key, folder / "out.mp4", verified=True)
    return report, "\n".join(text for _, _, text in texts(report.files[0].path))


def test_annotations_are_in_the_report_and_the_newest_classification_in_the_text_track(tmp_path: Path) -> None:
    report, text = opened(annotated("medical", "juvenile"), tmp_path)
    said = [event for event in report.events if event.text.startswith("annotation")]
    assert [event.details["classification"] for event in said] == ["medical", "juvenile"]
    assert said[0].details["author"] == "Sgt. A. Doe"
    assert said[0].details["note"] == "seen in court"
    assert "annotated: juvenile" in text
    assert "medical" not in text.splitlines()[0]


def test_recording_that_nobody_annotated_says_nothing_of_it(tmp_path: Path) -> None:
    report, text = opened(SAMPLE.files, tmp_path)
    assert "annotat" not in text
    assert not [event for event in report.events if event.text.startswith("annotation")]


def test_annotation_that_is_damaged_or_another_recordings_is_named_and_hides_no_picture(tmp_path: Path) -> None:
    files = annotated("medical", "juvenile")
    report, text = opened(files | {path(1): b"not one", path(2): files[path(2)][:-1] + b"!"}, tmp_path)
    said = [event for event in report.events if event.text.startswith("annotation")]
    assert all("can't be read" in event.problem for event in said)
    assert len(said) == 2
    assert "annotated: sealed to others" in text
    assert report.files[0].packets
    assert layout.ANNOTATIONS in path(1)
