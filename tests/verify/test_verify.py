"""Evidence that nobody has touched: whole, recovered, open, or only a part of it."""

import errno
from pathlib import Path

import pytest

from agent.errors import EvidenceError
from agent.evidence import layout
from agent.storage.disk import DiskStorage
from agent.verify.findings import Code, Report, Severity, Verdict
from agent.verify.verifier import verify
from tests.support.device import trust
from tests.support.evidence import (
    JOURNAL,
    Files,
    check,
    codes,
    crashed,
    durable_of,
    files_of,
    found,
    memory,
    recorder,
    resumed,
    segments,
    start,
    stop,
    storage_of,
    whole,
    write,
)
from tests.support.storage import failing


@pytest.mark.parametrize("torn", [False, True])
def test_untouched_evidence_is_intact(torn: bool) -> None:
    sample = whole(torn=torn)
    report = check(sample.files)
    assert report.verdict is Verdict.INTACT
    assert report.bad == ()
    assert (report.counts.devices, report.counts.recordings) == (1, 3)
    assert report.counts.segments == sum(path.endswith(".seg") for path in sample.files)
    assert report.counts.bytes == sum(len(data) for path, data in sample.files.items() if path.endswith(".seg"))
    assert report.summary.endswith("all intact")
    assert len(found(report, Code.BOOT_INTACT)) == 2
    assert {finding.recording for finding in found(report, Code.RECORDING_INTACT)} == set(sample.recordings)


def test_what_a_power_cut_left_is_named_and_is_no_alteration() -> None:
    sample = whole()
    notes = codes(check(sample.files), Severity.NOTE)
    assert notes == {Code.JOURNAL_TORN, Code.SEGMENT_RECOVERED, Code.UNATTESTED_TAIL}
    recovered = found(check(sample.files), Code.SEGMENT_RECOVERED)
    assert [finding.recording for finding in recovered] == [sample.b]


def test_power_cut_before_recovery_is_unfinished_and_says_so() -> None:
    report = check(crashed())
    assert report.verdict is Verdict.UNFINISHED
    assert codes(report) == {Code.UNFINISHED, Code.JOURNAL_CUT, Code.JOURNAL_OPEN}
    assert "not all is closed" in report.summary


def test_running_recorder_is_unfinished_and_never_altered() -> None:
    device = recorder()
    device.run(2)
    start(device, 4)
    report = check(files_of(memory(device)))
    assert report.verdict is Verdict.UNFINISHED
    assert Code.UNFINISHED in codes(report)
    stop(device)
    report = check(files_of(memory(device)))
    assert codes(report) == {Code.JOURNAL_OPEN}
    device.recorder.close()
    assert check(files_of(memory(device))).verdict is Verdict.INTACT


def test_recording_that_the_end_of_the_process_interrupted_is_explained() -> None:
    device = recorder()
    device.run(2)
    running = start(device, 4)
    device.recorder.close()
    report = check(files_of(memory(device)))
    assert report.verdict is Verdict.INTACT
    assert [finding.recording for finding in found(report, Code.RECORDING_OPEN_END)] == [running]
    device.boot()
    device.run(2)
    assert device.recording == running
    stop(device)
    device.recorder.close()
    assert check(files_of(memory(device))).verdict is Verdict.INTACT


@pytest.mark.parametrize("kept", ["durable", "written"])
def test_every_moment_of_a_power_cut_is_unfinished_and_after_recovery_intact(kept: str) -> None:
    """Between any two steps of storage, round a segment's end and a stop; with or without what was not synced."""
    device = recorder()
    device.run(2)
    start(device, 1.4)
    storage = memory(device)
    moments: list[tuple[Files, bytes | None]] = []

    def now(_operation: str, _path: str) -> None:
        files = files_of(storage) if kept == "written" else durable_of(storage)
        moments.append((files, device.state.data))

    storage.fault = now
    device.run(1.2)
    stop(device)
    assert len(moments) > 80
    for moment, state in moments[::4]:
        assert check(moment).verdict in (Verdict.UNFINISHED, Verdict.INTACT), _told(check(moment))
        following = recorder(storage_of(moment), state=state)
        following.run(1.2)
        if following.recording:
            stop(following)
        following.recorder.close()
        report = check(files_of(memory(following)))
        assert report.verdict is Verdict.INTACT, _told(report)


def _told(report: Report) -> list[str]:
    return [f"{finding.code}: {finding.subject}: {finding.sentence}" for finding in report.bad]


def test_boot_that_went_dark_before_its_first_line_is_named() -> None:
    files = crashed(torn=False)
    device = resumed(files | {JOURNAL[1]: b""}, torn=False)
    device.run(1)
    stop(device)
    device.recorder.close()
    report = check(files_of(memory(device)))
    assert report.verdict is Verdict.INTACT
    assert [finding.subject for finding in found(report, Code.BOOT_EMPTY)] == [JOURNAL[1]]


def test_lines_torn_in_two_boots_in_a_row_are_counted_together() -> None:
    device = resumed(crashed() | {JOURNAL[1]: b'{"clock":'})
    device.run(1)
    stop(device)
    device.recorder.close()
    assert check(files_of(memory(device))).verdict is Verdict.INTACT


def test_storage_fault_in_a_recording_is_no_alteration() -> None:
    device = recorder()
    device.run(2)
    recording = start(device, 4)
    newest = segments(files_of(memory(device)), recording)[-1]
    memory(device).files[newest].dead = True
    device.run(4)
    stop(device)
    device.recorder.close()
    assert check(files_of(memory(device))).verdict is Verdict.INTACT


def test_clock_that_nobody_vouches_for_is_noted() -> None:
    device = recorder()
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    device.run(2)
    device.recorder.close()
    report = check(files_of(memory(device)))
    assert report.verdict is Verdict.INTACT
    (note,) = found(report, Code.CLOCK_UNTRUSTED)
    assert "unsynchronised" in note.sentence


def test_evidence_is_found_from_any_folder_above_and_from_any_part_of_it(tmp_path: Path) -> None:
    sample = whole()
    evidence = write(sample.files, tmp_path / "out" / "device" / "evidence")
    (tmp_path / "out" / "first.mp4").write_bytes(b"a film")
    for folder in (tmp_path, evidence, evidence / "recordings", evidence / "journal"):
        report = verify(folder, trust())
        assert report.verdict is Verdict.INTACT
        assert report.counts.recordings == 3
    report = verify(DiskStorage(evidence), trust())
    assert report.counts.recordings == 3


def test_one_recording_is_checked_with_its_device_s_journal(tmp_path: Path) -> None:
    sample = whole()
    evidence = write(sample.files, tmp_path)
    report = verify(evidence / "recordings" / sample.b, trust())
    assert report.verdict is Verdict.INTACT
    assert report.counts.recordings == 1
    assert report.counts.journal_lines > 0
    assert {finding.recording for finding in report.findings} == {"", sample.b}


def test_recording_s_folder_alone_says_what_can_t_be_told_without_the_journal(tmp_path: Path) -> None:
    sample = whole()
    folder = layout.recording(sample.a)
    alone = {path.rpartition("/")[2]: data for path, data in sample.files.items() if path.startswith(f"{folder}/")}
    report = verify(write(alone, tmp_path / "renamed"), trust())
    assert report.verdict is Verdict.INTACT
    assert Code.JOURNAL_UNAVAILABLE in codes(report, Severity.NOTE)
    with pytest.raises(EvidenceError, match="trust document"):
        verify(tmp_path / "renamed")


def test_several_devices_below_one_folder_are_each_checked(tmp_path: Path) -> None:
    sample = whole()
    for name in ("one", "two"):
        write(sample.files, tmp_path / name)
    report = verify(tmp_path)
    assert report.counts.devices == 2
    assert report.verdict is Verdict.INTACT
    assert [anchor.subject for anchor in report.anchors] == ["one", "two"]


def test_trust_document_beside_the_evidence_proves_consistency_not_origin(tmp_path: Path) -> None:
    report = verify(write(whole().files, tmp_path))
    assert report.verdict is Verdict.INTACT
    assert [(anchor.root, anchor.pinned) for anchor in report.anchors] == [(trust().root_kid, False)]
    (note,) = found(report, Code.TRUST_UNPINNED)
    assert trust().root_kid in note.sentence
    assert "consistency, not origin" in note.sentence
    assert "origin is not proved" in report.summary


def test_folder_without_evidence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(EvidenceError):
            verify(folder, trust())


def test_links_are_not_followed(tmp_path: Path) -> None:
    sample = whole()
    evidence = write(sample.files, tmp_path / "evidence")
    victim = evidence / segments(sample.files, sample.a)[0]
    elsewhere = victim.rename(tmp_path / "elsewhere.seg")
    victim.symlink_to(elsewhere)
    report = verify(evidence, trust())
    assert {Code.FOREIGN_FILE, Code.SEGMENT_MISSING} <= codes(report)
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(loop, target_is_directory=True)
    with pytest.raises(EvidenceError, match="found none"):
        verify(loop, trust())


def test_unreadable_file_is_a_finding_and_the_rest_is_checked() -> None:
    sample = whole()
    storage = storage_of(sample.files)
    victim = segments(sample.files, sample.a)[0]
    storage.fault = failing({"read"}, errno.EIO, only=victim)
    report = verify(storage, trust())
    assert codes(report) == {Code.UNREADABLE}
    assert report.counts.recordings == 2


def test_rest_of_a_cut_write_is_no_alteration(tmp_path: Path) -> None:
    sample = whole()
    evidence = write(sample.files, tmp_path)
    (evidence / layout.recording(sample.a) / ".0009.manifest.jws.unfinished").write_bytes(b"half")
    report = verify(evidence, trust())
    assert report.verdict is Verdict.INTACT
    assert Code.LEFTOVER in codes(report, Severity.NOTE)


def test_progress_is_told_and_ends_at_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    verify(write(whole().files, tmp_path), trust(), progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]


def test_names_that_could_steer_a_terminal_are_escaped() -> None:
    sample = whole()
    path = f"{layout.recording(sample.a)}/\x1b[2J.txt"
    report = check(sample.files | {path: b""})
    (finding,) = found(report, Code.FOREIGN_FILE)
    assert "\x1b" not in finding.subject
