"""What somebody does to the journal; each is noticed, and named."""

import pytest

from agent.encoding.strict_json import encode_json, sha256_hex, strict_json
from agent.journal.entries import RecordingEnded, StandbyEntered
from agent.journal.format import CHECKPOINT_TYPE
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.verify.findings import Code, Verdict
from tests.support.evidence import (
    JOURNAL,
    check,
    codes,
    files_of,
    found,
    head_before,
    joined,
    kinds,
    lines,
    memory,
    rechained,
    recorder,
    whole,
)

SAMPLE = whole(torn=False)
RAW = [lines(SAMPLE.files[path]) for path in JOURNAL]


def with_journal(boot: int, raw: list[bytes], rest: bytes = b"") -> dict[str, bytes]:
    return SAMPLE.files | {JOURNAL[boot - 1]: joined(raw) + rest}


def edited(raw: bytes, **changes: object) -> bytes:
    return encode_json(strict_json(raw) | changes)


@pytest.mark.parametrize("boot", [1, 2])
def test_dropped_line_is_named_wherever_it_was(boot: int) -> None:
    raw = RAW[boot - 1]
    for index in range(0, len(raw) - 1, 3):
        report = check(with_journal(boot, raw[:index] + raw[index + 1 :]))
        missing = found(report, Code.JOURNAL_LINE_MISSING)
        assert missing, index
        assert f"line {strict_json(raw[index])['n']}" in missing[0].subject


@pytest.mark.parametrize("boot", [1, 2])
def test_repeated_line_is_named_wherever_it_was(boot: int) -> None:
    raw = RAW[boot - 1]
    for index in range(0, len(raw), 3):
        report = check(with_journal(boot, raw[: index + 1] + raw[index:]))
        assert codes(report) == {Code.JOURNAL_LINE_MOVED}


@pytest.mark.parametrize("boot", [1, 2])
def test_reordered_lines_are_named(boot: int) -> None:
    raw = RAW[boot - 1]
    for index in range(1, len(raw) - 1, 3):
        report = check(with_journal(boot, [*raw[:index], raw[index + 1], raw[index], *raw[index + 2 :]]))
        assert {Code.JOURNAL_LINE_MISSING, Code.JOURNAL_LINE_MOVED} <= codes(report)


@pytest.mark.parametrize("boot", [1, 2])
def test_altered_line_is_named(boot: int) -> None:
    raw = RAW[boot - 1]
    for index in range(1, len(raw), 2):
        altered = [*raw[:index], edited(raw[index], mono_us=strict_json(raw[index])["mono_us"] + 1), *raw[index + 1 :]]
        bad = codes(check(with_journal(boot, altered)))
        assert bad & {Code.JOURNAL_LINE_ALTERED, Code.CHECKPOINT_CONTRADICTS}, kinds(raw)[index]


def test_altered_line_is_told_once_and_hides_nothing_else() -> None:
    raw = list(RAW[1])
    raw[4] = b"{}"
    raw[20] = b"no line"
    report = check(with_journal(2, raw))
    first = strict_json(RAW[1][0])["n"]
    assert [finding.subject for finding in found(report, Code.JOURNAL_LINE_ALTERED)] == [
        f"{JOURNAL[1]} line {first + 4}",
        f"{JOURNAL[1]} line {first + 20}",
    ]


@pytest.mark.parametrize("boot", [1, 2])
def test_lines_that_were_altered_and_chained_anew_do_not_get_past_the_next_checkpoint(boot: int) -> None:
    raw = RAW[boot - 1]
    index = next(n for n, kind in enumerate(kinds(raw)) if kind == "standby")
    altered = [edited(raw[index], entry={"kind": "shut_down"}), *raw[index + 1 :]]
    chained = [*raw[:index], *rechained(altered, *head_before(raw, index))]
    report = check(with_journal(boot, chained))
    assert Code.CHECKPOINT_CONTRADICTS in codes(report)
    assert "chained anew" in found(report, Code.CHECKPOINT_CONTRADICTS)[0].sentence


def test_line_that_was_dropped_and_the_rest_chained_anew_does_not_get_past_the_next_checkpoint() -> None:
    raw = RAW[1]
    index = next(n for n, kind in enumerate(kinds(raw)) if kind == "requested")
    chained = [*raw[:index], *rechained(raw[index + 1 :], *head_before(raw, index))]
    assert Code.CHECKPOINT_CONTRADICTS in codes(check(with_journal(2, chained)))


def test_journal_chained_anew_with_own_checkpoints_is_forged() -> None:
    signer = KeySigner.generate()
    raw = RAW[1]
    head, number = head_before(raw, 1)
    made = raw[:1]
    for line in raw[1:]:
        value = strict_json(line)
        number += 1
        value["n"], value["prev"] = number, head
        if value["entry"]["kind"] == "checkpoint":
            payload = jws.unverified_payload(value["entry"]["jws"], CHECKPOINT_TYPE) | {"n": number - 1, "head": head}
            value["entry"]["jws"] = jws.sign(signer, CHECKPOINT_TYPE, payload)
        made.append(encode_json(value))
        head = sha256_hex(made[-1])
    assert Code.CHECKPOINT_FORGED in codes(check(with_journal(2, made)))


def test_checkpoint_of_another_boot_is_refused() -> None:
    first = next(line for line in RAW[0] if strict_json(line)["entry"]["kind"] == "checkpoint")
    index = next(n for n, kind in enumerate(kinds(RAW[1])) if kind == "checkpoint")
    raw = [*RAW[1][:index], edited(RAW[1][index], entry=strict_json(first)["entry"]), *RAW[1][index + 1 :]]
    assert Code.CHECKPOINT_FORGED in codes(check(with_journal(2, raw)))


def test_newest_journal_that_was_truncated_is_never_intact() -> None:
    raw = RAW[1]
    for length in range(0, len(raw), 2):
        report = check(with_journal(2, raw[:length]))
        assert report.verdict is not Verdict.INTACT, length


def test_newest_journal_that_was_truncated_below_what_it_must_hold_is_named() -> None:
    raw = RAW[1]
    opened = [n for n, kind in enumerate(kinds(raw)) if kind == "segment_opened"]
    for length in range(1, opened[-1]):
        assert check(with_journal(2, raw[:length])).verdict is Verdict.NOT_INTACT, length
    bad = codes(check(with_journal(2, raw[: opened[1]])))
    assert Code.JOURNAL_TRUNCATED in bad


def test_older_journal_that_was_truncated_is_named() -> None:
    raw = RAW[0]
    for length in range(0, len(raw), 2):
        assert Code.JOURNAL_LINE_MISSING in codes(check(with_journal(1, raw[:length])))


@pytest.mark.parametrize("rest", [b"{", b'{"clock":"ntp"}', b"\0" * 100])
def test_bytes_added_to_an_older_journal_are_named(rest: bytes) -> None:
    assert codes(check(with_journal(1, RAW[0], rest))) == {Code.JOURNAL_TORN_UNEXPLAINED}


def test_torn_line_that_was_removed_or_changed_in_length_is_named() -> None:
    torn = whole(torn=True)
    for rest in (b"", b"{", b"x" * 60):
        files = torn.files | {JOURNAL[0]: joined(lines(torn.files[JOURNAL[0]])) + rest}
        assert Code.JOURNAL_TORN_UNEXPLAINED in codes(check(files))


def test_newest_journal_that_ends_within_a_line_is_cut_and_not_called_altered() -> None:
    report = check(with_journal(2, RAW[1][:-1], RAW[1][-1][:50]))
    assert codes(report) == {Code.JOURNAL_CUT, Code.JOURNAL_OPEN}
    assert report.verdict is Verdict.UNFINISHED


def test_missing_line_feed_at_the_end_is_named() -> None:
    report = check(with_journal(2, RAW[1][:-1], RAW[1][-1]))
    assert Code.JOURNAL_CUT in codes(report)


def test_journals_of_two_boots_that_changed_places_are_named() -> None:
    files = SAMPLE.files | {JOURNAL[0]: SAMPLE.files[JOURNAL[1]], JOURNAL[1]: SAMPLE.files[JOURNAL[0]]}
    bad = codes(check(files))
    assert {Code.JOURNAL_LINE_MISSING, Code.CERTIFICATE_REFUSED} <= bad


def test_boot_that_is_left_out_is_named() -> None:
    files = {path: data for path, data in SAMPLE.files.items() if path != JOURNAL[0]}
    report = check(files)
    assert Code.JOURNAL_MISSING in codes(report)
    assert "boot 1" in found(report, Code.JOURNAL_MISSING)[0].sentence


def test_journal_that_was_removed_with_all_its_boots_is_named() -> None:
    files = {path: data for path, data in SAMPLE.files.items() if path not in JOURNAL}
    assert codes(check(files)) == {Code.JOURNAL_MISSING}


def test_folders_in_the_place_of_all_journals_are_no_journals() -> None:
    files = {path: data for path, data in SAMPLE.files.items() if path not in JOURNAL}
    files |= {f"{path}/x": b"" for path in JOURNAL}
    assert codes(check(files)) == {Code.JOURNAL_MISSING}


def test_boot_line_in_the_middle_of_a_journal_is_named() -> None:
    raw = [*RAW[0], *RAW[1]]
    files = {path: data for path, data in SAMPLE.files.items() if path != JOURNAL[1]} | {JOURNAL[0]: joined(raw)}
    assert Code.JOURNAL_LINE_MOVED in codes(check(files))


def test_recording_that_ends_without_a_grant_is_named() -> None:
    device = recorder()
    device.run(1)
    device.recorder.journal.post(RecordingEnded("r1", 7, 0))
    device.recorder.close()
    report = check(files_of(memory(device)))
    assert codes(report) == {Code.ENDED_WITHOUT_GRANT}
    assert "request 7" in found(report, Code.ENDED_WITHOUT_GRANT)[0].sentence


def test_time_that_goes_back_is_named() -> None:
    device = recorder()
    device.run(1)
    keeper = device.recorder.journal
    keeper.step()
    assert keeper._journal is not None
    keeper._journal._floor = 0
    device.clocks.utc_offset_ns -= 3600 * 10**9
    keeper.post(StandbyEntered())
    device.recorder.close()
    assert codes(check(files_of(memory(device)))) == {Code.TIME_WENT_BACK}


def test_very_many_findings_of_a_kind_are_counted_not_listed() -> None:
    raw = [line for n, line in enumerate(RAW[1]) if n % 2 == 0] * 20
    report = check(with_journal(2, raw))
    assert len(found(report, Code.JOURNAL_LINE_MOVED)) <= 41
    assert "more like these" in found(report, Code.JOURNAL_LINE_MOVED)[-1].sentence
