"""What somebody does to evidence without any private key, or with the wrong one; each is noticed, and named."""

import itertools

import pytest

from agent.encoding.strict_json import sha256_hex
from agent.evidence import layout
from agent.evidence.closing import close_unfinished, place_of
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE
from agent.journal.boot_recovery import read_recovery_state, read_tail
from agent.keys.signer import KeySigner
from agent.verify.findings import Code, Severity, Verdict
from tests.support.evidence import (
    JOURNAL,
    Files,
    Sample,
    appended,
    check,
    codes,
    crashed,
    files_of,
    flipped,
    forged,
    found,
    lines,
    memory,
    recorder,
    resumed,
    segments,
    signed_by,
    start,
    stop,
    storage_of,
    whole,
)

SAMPLE = whole()
FILES = sorted(path for path in SAMPLE.files if path != layout.CARD_ID)  # which names a card, and proves nothing


def renamed(files: Files, old: str, new: str) -> Files:
    return {path.replace(old, new): data for path, data in files.items()}


def without(files: Files, *paths: str) -> Files:
    return {path: data for path, data in files.items() if path not in paths}


def finished(files: Files, *, torn: bool = True) -> Files:
    """The next boot recovers what it finds, ends the recording, and shuts down in order."""
    device = resumed(files, torn=torn)
    device.run(2)
    stop(device)
    device.recorder.close()
    return files_of(memory(device))


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(FILES)))
def test_removed_file_is_noticed(number: int) -> None:
    report = check(without(SAMPLE.files, FILES[number]))
    assert report.verdict is Verdict.NOT_INTACT
    missing = {
        Code.SEGMENT_MISSING,
        Code.OPENING_MISSING,
        Code.MANIFEST_MISSING,
        Code.CERTIFICATE_MISSING,
        Code.TRUST_MISSING,
        Code.JOURNAL_MISSING,
        Code.JOURNAL_TRUNCATED,
    }
    assert codes(report) & missing


@pytest.mark.parametrize("suffix", [".seg", ".opening.jws", ".manifest.jws", ".jsonl", "boot-00000002.jws"])
def test_swapped_files_are_noticed(suffix: str) -> None:
    alike = [path for path in FILES if path.endswith(suffix)]
    for one, other in itertools.combinations(alike, 2):
        if SAMPLE.files[one] != SAMPLE.files[other]:
            files = SAMPLE.files | {one: SAMPLE.files[other], other: SAMPLE.files[one]}
            assert check(files).verdict is Verdict.NOT_INTACT, (one, other)


def test_repeated_segment_is_noticed() -> None:
    last = segments(SAMPLE.files, SAMPLE.a)[-1].removesuffix(".seg")
    following = f"{last[:-4]}{int(last[-4:]) + 1:04d}"
    added = {path.replace(last, following): data for path, data in SAMPLE.files.items() if path.startswith(last)}
    bad = codes(check(SAMPLE.files | added))
    assert {Code.STATEMENT_MISPLACED, Code.AFTER_FINAL} <= bad


def test_dropped_last_segment_is_noticed() -> None:
    last = segments(SAMPLE.files, SAMPLE.a)[-1].removesuffix(".seg")
    files = {path: data for path, data in SAMPLE.files.items() if not path.startswith(last)}
    assert Code.SEGMENT_MISSING in codes(check(files))


def test_dropped_last_segment_is_noticed_without_the_journal() -> None:
    folder = layout.recording(SAMPLE.a)
    last = segments(SAMPLE.files, SAMPLE.a)[-1].removesuffix(".seg")
    alone = {path: data for path, data in SAMPLE.files.items() if path.startswith(f"{folder}/")}
    files = {path.rpartition("/")[2]: data for path, data in alone.items() if not path.startswith(last)}
    assert codes(check(files)) == {Code.RECORDING_NOT_FINAL}


def test_dropped_middle_segment_is_noticed() -> None:
    middle = segments(SAMPLE.files, SAMPLE.a)[1].removesuffix(".seg")
    files = {path: data for path, data in SAMPLE.files.items() if not path.startswith(middle)}
    assert Code.SEGMENT_MISSING in codes(check(files))


@pytest.mark.parametrize("which", ["a", "b", "c"])
def test_removed_recording_is_noticed(which: str) -> None:
    folder = layout.recording(getattr(SAMPLE, which))
    files = {path: data for path, data in SAMPLE.files.items() if not path.startswith(f"{folder}/")}
    assert codes(check(files)) == {Code.RECORDING_MISSING}


def test_renamed_recording_is_noticed() -> None:
    bad = codes(check(renamed(SAMPLE.files, SAMPLE.a, "another")))
    assert {Code.RECORDING_MISSING, Code.STATEMENT_MISPLACED, Code.RECORDING_UNNAMED} <= bad


def test_copy_of_a_recording_under_another_name_is_noticed() -> None:
    folder = layout.recording(SAMPLE.a)
    own = {path: data for path, data in SAMPLE.files.items() if path.startswith(folder)}
    assert Code.STATEMENT_MISPLACED in codes(check(SAMPLE.files | renamed(own, SAMPLE.a, "copy")))


def test_manifest_of_one_recording_put_into_another_is_noticed() -> None:
    one, other = layout.manifest(SAMPLE.a, 1), layout.manifest(SAMPLE.c, 1)
    report = check(SAMPLE.files | {one: SAMPLE.files[other]})
    assert Code.STATEMENT_MISPLACED in codes(report)
    assert SAMPLE.c in found(report, Code.STATEMENT_MISPLACED)[0].sentence


def test_foreign_files_are_noticed() -> None:
    folder = layout.recording(SAMPLE.a)
    for path in (f"{folder}/notes.txt", f"{folder}/1.seg", "journal/3.jsonl", "recordings/film.mp4"):
        assert codes(check(SAMPLE.files | {path: b"x"})) == {Code.FOREIGN_FILE}, path
    assert check(SAMPLE.files | {"notes.txt": b"x"}).verdict is Verdict.INTACT


def test_segment_without_any_statement_is_foreign() -> None:
    last = segments(SAMPLE.files, SAMPLE.a)[-1]
    following = layout.segment(SAMPLE.a, int(last[-8:-4]) + 1)
    assert Code.SEGMENT_FOREIGN in codes(check(SAMPLE.files | {following: SAMPLE.files[last]}))


# -- sealed files -----------------------------------------------------------------------------------------------------


def test_altered_bytes_are_located_between_two_attestations() -> None:
    path = segments(SAMPLE.files, SAMPLE.a)[1]
    report = check(SAMPLE.files | {path: flipped(SAMPLE.files[path], 8 * 40_000)})
    (finding,) = found(report, Code.SEGMENT_ALTERED)
    assert codes(report) == {Code.SEGMENT_ALTERED}
    first, last = (int(word.replace(",", "")) for word in finding.sentence.split() if word[0].isdigit() and "," in word)
    assert first <= 40_000 < last
    assert last - first < 50_000


def test_segment_forged_with_the_public_keys_is_named() -> None:
    for path in segments(SAMPLE.files, SAMPLE.b):
        report = check(SAMPLE.files | {path: forged(SAMPLE.files[path])})
        assert codes(report) == {Code.SEGMENT_FORGED}
        assert "somebody else sealed it" in found(report, Code.SEGMENT_FORGED)[0].sentence


def test_what_a_forged_header_says_of_the_journal_does_not_count() -> None:
    path = segments(SAMPLE.files, SAMPLE.a)[0]
    sealed = SAMPLE.files[path]
    place = sealed.index(b"journal") + len("journal") + 2
    report = check(SAMPLE.files | {path: sealed[:place] + b"00" * 32 + sealed[place + 64 :]})
    assert codes(report) == {Code.SEGMENT_FORGED}


def test_recording_forged_with_the_public_keys_and_own_statements_is_named() -> None:
    signer = KeySigner.generate()
    files = dict(SAMPLE.files)
    for path in segments(SAMPLE.files, SAMPLE.a):
        stem = path.removesuffix(".seg")
        sealed = forged(files[path])
        files[path] = sealed
        files[f"{stem}.opening.jws"] = signed_by(signer, files[f"{stem}.opening.jws"], OPENING_TYPE)
        files[f"{stem}.manifest.jws"] = signed_by(
            signer, files[f"{stem}.manifest.jws"], MANIFEST_TYPE, bytes=len(sealed), sha256=sha256_hex(sealed)
        )
    report = check(files)
    assert Code.STATEMENT_FORGED in codes(report)
    assert "no boot certificate names" in found(report, Code.STATEMENT_FORGED)[0].sentence


def test_segment_that_was_never_recorded_is_named() -> None:
    """Somebody adds a recording of their own, sealed to the agency, with statements by their own key."""
    files = dict(SAMPLE.files)
    signer = KeySigner.generate()
    for name in ("0001.seg", "0001.opening.jws", "0001.manifest.jws", "device.jws", "boot-00000001.jws"):
        data = SAMPLE.files[f"{layout.recording(SAMPLE.a)}/{name}"]
        if ".opening" in name:
            data = signed_by(signer, data, OPENING_TYPE, recording="invented")
        elif ".manifest" in name:
            data = signed_by(signer, data, MANIFEST_TYPE, recording="invented")
        files[f"{layout.recording('invented')}/{name}"] = data
    assert {Code.STATEMENT_FORGED, Code.RECORDING_UNNAMED} <= codes(check(files))


def test_closed_segment_that_is_cut_is_named() -> None:
    path = segments(SAMPLE.files, SAMPLE.a)[0]
    report = check(SAMPLE.files | {path: SAMPLE.files[path][:-10]})
    assert codes(report) == {Code.SEGMENT_CUT}


def test_closed_segment_that_is_cut_below_what_was_attested_is_altered_not_cut() -> None:
    for path in segments(SAMPLE.files, SAMPLE.b):
        report = check(SAMPLE.files | {path: SAMPLE.files[path][:20_000]})
        assert codes(report) == {Code.CUT_BELOW_ATTESTED}
        assert "altered after it was attested" in found(report, Code.CUT_BELOW_ATTESTED)[0].sentence


def test_closed_segment_that_grew_is_named() -> None:
    path = segments(SAMPLE.files, SAMPLE.a)[0]
    report = check(SAMPLE.files | {path: SAMPLE.files[path] + b"more"})
    assert codes(report) == {Code.SEGMENT_EXTENDED}
    assert "4 bytes" in found(report, Code.SEGMENT_EXTENDED)[0].sentence


# -- after a loss of power, before the recorder runs again ------------------------------------------------------------


def unfinished(files: Files) -> str:
    """The sealed file that no manifest closes."""
    (path,) = (path for path in files if path.endswith(".seg") and path.replace(".seg", ".manifest.jws") not in files)
    return path


def test_unfinished_segment_cut_below_what_was_attested_is_altered_not_cut() -> None:
    files = crashed()
    path = unfinished(files)
    files[path] = files[path][:20_000]
    report = check(files)
    assert Code.CUT_BELOW_ATTESTED in codes(report)
    assert report.verdict is Verdict.NOT_INTACT
    recovered = check(finished(files))
    assert codes(recovered) == {Code.CUT_BELOW_ATTESTED}
    assert "when boot 2 closed it" in found(recovered, Code.CUT_BELOW_ATTESTED)[0].sentence


def test_unfinished_segment_altered_below_what_was_attested_is_named() -> None:
    files = crashed()
    path = unfinished(files)
    files[path] = flipped(files[path], 8 * 20_000)
    assert Code.SEGMENT_ALTERED in codes(check(files))
    assert codes(check(finished(files))) == {Code.SEGMENT_ALTERED}


def test_unfinished_segment_forged_with_the_public_keys_is_named() -> None:
    files = crashed()
    path = unfinished(files)
    files[path] = forged(files[path], final=False)
    assert Code.SEGMENT_FORGED in codes(check(files))
    assert Code.SEGMENT_FORGED in codes(check(finished(files)))


def test_segment_finished_by_another_hand_has_its_unattested_tail_named() -> None:
    files = crashed()
    path = unfinished(files)
    files[path] = appended(files[path], 3, final=True)
    before = check(files)
    assert before.verdict is Verdict.UNFINISHED
    assert "final frame although that boot never closed it" in found(before, Code.UNATTESTED_TAIL)[0].sentence
    after = check(finished(files))
    (tail,) = found(after, Code.UNATTESTED_TAIL)
    assert tail.subject == path
    assert "final frame although that boot never closed it" in tail.sentence


def test_segment_continued_for_long_by_another_hand_is_named() -> None:
    device = recorder()
    device.segment_s = 60.0
    device.boot()
    device.run(2)
    start(device, 8)
    memory(device).cut_power()
    files = files_of(memory(device))
    path = unfinished(files)
    files[path] = appended(files[path], 700, final=True)
    assert Code.FINISHED_BY_ANOTHER_HAND in codes(check(files))
    following = recorder(storage_of(files), state=device.state.data)
    following.run(2)
    stop(following)
    following.recorder.close()
    assert codes(check(files_of(memory(following)))) == {Code.FINISHED_BY_ANOTHER_HAND}


def test_manifest_that_another_hand_writes_for_an_unfinished_segment_is_forged() -> None:
    files = crashed()
    path = unfinished(files)
    example = files[path.replace(path[-8:], "0001.manifest.jws")]
    made = signed_by(
        KeySigner.generate(), example, MANIFEST_TYPE, segment=int(path[-8:-4]), bytes=len(files[path]), final=True
    )
    files[path.replace(".seg", ".manifest.jws")] = made
    assert Code.STATEMENT_FORGED in codes(check(files))


def test_later_boot_that_closes_a_segment_as_its_own_is_named() -> None:
    """A recorder whose program was changed has a true key, and says that an earlier boot's segment is its own."""
    device = resumed(crashed())
    storage = memory(device)
    left = read_recovery_state(storage_of(crashed()), read_tail(storage_of(crashed()))).running
    assert left is not None
    identity = device.recorder._boot.ready().identity("default", "0" * 64)
    place = place_of(storage, left.recording, left.segment)
    close_unfinished(storage, identity, place, ended="rolled", attested_bytes=0, recovered=False)
    assert Code.FINISHED_BY_ANOTHER_HAND in codes(check(files_of(storage)))


def test_journal_cut_back_together_with_its_newest_recording_leaves_an_open_end() -> None:
    """Without any key this can't be told from a loss of power; it is never said to be intact."""
    raw = lines(SAMPLE.files[JOURNAL[1]])
    begun = next(n for n, line in enumerate(raw) if b'"recording_started"' in line and SAMPLE.c.encode() in line)
    folder = layout.recording(SAMPLE.c)
    files = {path: data for path, data in SAMPLE.files.items() if not path.startswith(folder)}
    files[JOURNAL[1]] = b"".join(line + b"\n" for line in raw[:begun])
    report = check(files)
    assert report.verdict is Verdict.UNFINISHED
    assert codes(report) == {Code.JOURNAL_OPEN}
    assert f"line {begun + len(lines(SAMPLE.files[JOURNAL[0]]))}" in found(report, Code.JOURNAL_OPEN)[0].sentence


def test_notes_never_hide_that_something_is_bad() -> None:
    sample: Sample = whole()
    path = segments(sample.files, sample.b)[2]
    report = check(sample.files | {path: flipped(sample.files[path], 8 * 30_000)})
    assert codes(report, Severity.NOTE)
    assert report.verdict is Verdict.NOT_INTACT
