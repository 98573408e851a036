"""Annotations beside real evidence: added, found, and defended, and everything else stays as it is."""

import errno
import os
from pathlib import Path

import pytest

from agent.audit.annotating import Added, add_annotation
from agent.clock import WallReading
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.annotation import TYP, Content, Subject, annotate, check_annotation
from agent.evidence.manifest import MANIFEST_TYPE
from agent.keys import files
from agent.keys.signer import KeySigner, Signer
from agent.seal.recipients import AnyRecipientKey
from agent.verify.findings import Code, Verdict
from agent.verify.verifier import verify
from tests.support.clocks import FakeClocks
from tests.support.device import agency, trust
from tests.support.evidence import Files, check, codes, crashed, files_of, found, signed_by, storage_of, whole, write
from tests.support.storage import MemoryStorage, failing

SAMPLE = whole()
CLOCKS = FakeClocks()


def supervisor() -> Signer:
    return files.load_signer(f"file:{agency().supervisor}")


def recipient() -> AnyRecipientKey:
    return files.load_recipient_key(agency().oversight)


def add(
    storage: MemoryStorage,
    recording: str = SAMPLE.a,
    classification: str = "juvenile",
    *,
    signer: Signer | None = None,
    time: WallReading | None = None,
) -> Added:
    return add_annotation(
        storage,
        layout.recording(recording),
        signer or supervisor(),
        trust(),
        Content(classification, "Sgt. A. Doe", "seen in court"),
        time=time or CLOCKS.wall(),
        random_bytes=os.urandom,
    )


def annotated(count: int = 3, recording: str = SAMPLE.a) -> Files:
    storage = storage_of(SAMPLE.files)
    for _ in range(count):
        add(storage, recording)
    return files_of(storage)


def path(number: int, recording: str = SAMPLE.a) -> str:
    return f"{layout.recording(recording)}/annotations/{number:04d}.jws"


def test_annotations_are_numbered_and_nothing_that_was_there_is_changed() -> None:
    files = annotated(3)
    assert {new: files[new] for new in SAMPLE.files} == SAMPLE.files
    assert set(files) - set(SAMPLE.files) == {path(1), path(2), path(3)}


def test_annotated_evidence_is_intact_and_the_annotations_are_told() -> None:
    report = check(annotated(2))
    assert report.verdict is Verdict.INTACT, report.bad
    told = found(report, Code.ANNOTATION_SIGNED)
    assert [finding.subject for finding in told] == [path(1), path(2)]
    assert all("signed by supervisor, 2026-11-18T" in finding.sentence for finding in told)
    assert all(finding.recording == SAMPLE.a for finding in told)
    assert "juvenile" not in str(report.findings)


def test_every_recording_has_its_own() -> None:
    storage = storage_of(SAMPLE.files)
    for recording in SAMPLE.recordings:
        assert add(storage, recording).number == 1
    assert check(files_of(storage)).verdict is Verdict.INTACT


def test_a_recordings_folder_is_enough() -> None:
    prefix = layout.recording(SAMPLE.b) + "/"
    alone = storage_of({name.removeprefix(prefix): data for name, data in SAMPLE.files.items() if prefix in name})
    added = add_annotation(
        alone,
        "",
        supervisor(),
        trust(),
        Content("medical", "A", ""),
        time=CLOCKS.wall(),
        random_bytes=os.urandom,
    )
    assert (added.path, added.subject.recording) == ("annotations/0001.jws", SAMPLE.b)


def test_an_annotation_by_a_clock_that_nobody_vouches_for_says_so() -> None:
    storage = storage_of(SAMPLE.files)
    add(storage, time=WallReading(CLOCKS.wall().utc_ns, "unsynchronised", None))
    (told,) = found(check(files_of(storage)), Code.ANNOTATION_SIGNED)
    assert "by an unsynchronised clock" in told.sentence


# -- attacks ----------------------------------------------------------------------------------------------------------


def refused(files: Files, *expected: Code) -> None:
    report = check(files)
    assert codes(report) == set(expected), report.bad
    assert report.verdict is Verdict.NOT_INTACT


def test_an_annotation_taken_out_from_between_is_noticed() -> None:
    files = annotated(3)
    del files[path(2)]
    refused(files, Code.ANNOTATION_MISSING)


def test_the_first_annotation_taken_away_is_noticed() -> None:
    files = annotated(2)
    del files[path(1)]
    refused(files, Code.ANNOTATION_MISSING)


def test_annotations_that_change_places_are_noticed() -> None:
    files = annotated(2)
    files[path(1)], files[path(2)] = files[path(2)], files[path(1)]
    refused(files, Code.ANNOTATION_REFUSED)


def test_an_annotation_replaced_by_another_that_was_signed_for_its_place_is_noticed() -> None:
    files = annotated(2)
    files[path(1)] = annotated(1)[path(1)]
    refused(files, Code.ANNOTATION_REFUSED)


def test_annotations_renumbered_over_one_that_was_taken_out_are_noticed() -> None:
    files = annotated(2)
    files[path(1)] = files.pop(path(2))
    refused(files, Code.ANNOTATION_REFUSED)


def test_an_annotation_moved_behind_a_hole_is_noticed() -> None:
    files = annotated(1)
    files[path(2)] = files.pop(path(1))
    refused(files, Code.ANNOTATION_MISSING, Code.ANNOTATION_REFUSED)


def test_one_altered_annotation_makes_the_next_one_stand_on_nothing() -> None:
    files = annotated(3)
    files[path(2)] = signed_by(KeySigner.generate(), files[path(2)], TYP)
    wrong = found(check(files), Code.ANNOTATION_REFUSED)
    assert [finding.subject for finding in wrong] == [path(2), path(3)]


def test_an_annotation_that_hides_what_came_before_it_is_noticed() -> None:
    files = annotated(1)
    files[path(1)] = signed_by(supervisor(), files[path(1)], TYP, previous="00" * 32)
    refused(files, Code.ANNOTATION_REFUSED)


def test_an_annotation_copied_to_another_recording_is_noticed() -> None:
    files = annotated(1)
    files[path(1, SAMPLE.c)] = files[path(1)]
    refused(files, Code.ANNOTATION_REFUSED)


def test_an_annotation_of_a_manifest_that_is_not_there_is_noticed() -> None:
    files = annotated(1)
    files[path(1)] = annotate(
        supervisor(),
        trust(),
        Subject("city", "cam-1", SAMPLE.a, "00" * 32),
        Content("juvenile", "A", ""),
        number=1,
        previous=None,
        time=CLOCKS.wall(),
        random_bytes=os.urandom,
    ).encode()
    refused(files, Code.ANNOTATION_REFUSED)


def test_a_forged_annotation_is_noticed() -> None:
    files = annotated(1)
    files[path(1)] = signed_by(KeySigner.generate(), files[path(1)], TYP)
    refused(files, Code.ANNOTATION_REFUSED)


@pytest.mark.parametrize("data", [b"", b"x", b"\xff\xfe", b"a.b.c"], ids=str)
def test_rubbish_among_annotations_is_noticed(data: bytes) -> None:
    files = annotated(1)
    files[path(1)] = data
    refused(files, Code.ANNOTATION_REFUSED)


@pytest.mark.parametrize("name", ["0000.jws", "1.jws", "0001.txt", "00001.jws", "notes/0001.jws", "0002.jws/x"])
def test_a_foreign_file_among_annotations_is_noticed(name: str) -> None:
    files = annotated(1)
    files[f"{layout.recording(SAMPLE.a)}/annotations/{name}"] = b"x"
    refused(files, Code.FOREIGN_FILE)


def test_the_rest_of_a_cut_write_is_no_annotation() -> None:
    files = annotated(1)
    files[f"{layout.recording(SAMPLE.a)}/annotations/.0002.jws.unfinished"] = b"x"
    report = check(files)
    assert (report.verdict, len(found(report, Code.LEFTOVER))) == (Verdict.INTACT, 1)


def test_a_link_in_the_place_of_the_annotations_is_not_followed(tmp_path: Path) -> None:
    folder = write(dict(SAMPLE.files), tmp_path)
    (folder / layout.recording(SAMPLE.a) / "annotations").symlink_to(folder)
    report = verify(folder, trust())
    assert codes(report) == {Code.FOREIGN_FILE}


# -- refusals ---------------------------------------------------------------------------------------------------------


def unchanged(storage: MemoryStorage, before: Files) -> None:
    assert files_of(storage) == before


def test_a_recording_whose_end_was_never_closed_is_not_annotated() -> None:
    files = crashed()
    storage = storage_of(files)
    with pytest.raises(EvidenceError, match="is not closed"):
        add(storage, SAMPLE.b)
    unchanged(storage, files)


def test_a_recording_that_somebody_else_finished_is_not_annotated() -> None:
    files = dict(SAMPLE.files)
    last = max(name for name in files if SAMPLE.a in name and name.endswith(".manifest.jws"))
    files[last] = signed_by(KeySigner.generate(), files[last], MANIFEST_TYPE)
    storage = storage_of(files)
    with pytest.raises(EvidenceError, match="signature"):
        add(storage)
    unchanged(storage, files)


def test_what_is_no_recording_is_not_annotated() -> None:
    storage = storage_of(SAMPLE.files)
    with pytest.raises(EvidenceError, match="no segment"):
        add(storage, "nowhere")
    unchanged(storage, SAMPLE.files)


def test_a_key_that_may_not_annotate_leaves_no_trace() -> None:
    storage = storage_of(SAMPLE.files)
    for path in (agency().policy, agency().station, agency().device_key):
        with pytest.raises(EvidenceError, match="supervisor or custodian key"):
            add(storage, signer=files.load_signer(f"file:{path}"))
    unchanged(storage, SAMPLE.files)


def test_storage_that_refuses_leaves_nothing_behind() -> None:
    storage = storage_of(SAMPLE.files)
    storage.fault = failing({"publish"}, errno.EROFS)
    with pytest.raises(StorageError):
        add(storage)
    storage.fault = lambda _operation, _path: None
    unchanged(storage, SAMPLE.files)


def test_two_who_annotate_at_once_do_not_overwrite_each_other() -> None:
    """The second one finds the place taken when it comes to store."""
    storage = storage_of(SAMPLE.files)

    def meanwhile(operation: str, name: str) -> None:
        if operation == "publish" and name == path(1):
            storage.fault = lambda _operation, _path: None
            add(storage, classification="medical")

    storage.fault = meanwhile
    with pytest.raises(StorageError, match="exists"):
        add(storage, classification="juvenile")
    files = files_of(storage)
    assert set(files) - set(SAMPLE.files) == {path(1)}
    assert check(files).verdict is Verdict.INTACT


def test_what_was_said_opens_with_a_recipients_key() -> None:
    files = annotated(1)
    last = max(name for name in files if SAMPLE.a in name and name.endswith(".manifest.jws"))
    annotation = check_annotation(
        files[path(1)].decode(), trust(), device="cam-1", recording=SAMPLE.a, manifests={sha256_hex(files[last])}
    )
    assert annotation.content([recipient()]) == Content("juvenile", "Sgt. A. Doe", "seen in court")
