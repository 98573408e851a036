"""What stands out in a shift, what is sealed of it, and what the ledger says it can't vouch for."""

import errno
import json
from functools import cache

import msgspec
import pytest

from agent.audit.ledger import Ledger, read_ledger
from agent.audit.timekeeping import State
from agent.core.recording import events
from agent.errors import EvidenceError
from agent.evidence import layout
from agent.journal.entries import AnyEntry, Continued, RecordingEnded, Released, ShutDown
from agent.keys import files
from agent.verify.tree import StorageTree
from tests.attacks.test_card_attacks import chain_on
from tests.audit.test_replay import act_out
from tests.support.cards import card, journal_of, last_line, signed_by_another_key
from tests.support.device import Device, agency
from tests.support.evidence import Files, files_of, joined, lines, storage_of
from tests.support.shifts import custodian, under_signed_policy
from tests.support.storage import MemoryStorage, failing


@cache
def _acted_out() -> Files:
    device = under_signed_policy()
    act_out(device)
    device.recorder.control.handle(events.TerminationRequested(device.clocks.now_ns))
    device.recorder.close()
    return files_of(device.storage)  # type: ignore[arg-type]


def ledger_of(evidence: Files, *, opened: bool = False) -> Ledger:
    return read_ledger(StorageTree(storage_of(evidence)), "", custodian() if opened else None)


def kinds(ledger: Ledger) -> list[str]:
    return [broken.kind for broken in ledger.unaccounted]


def with_journal(boot: int, raw: list[bytes]) -> Files:
    return _acted_out() | {layout.journal(boot): joined(raw)}


def journal(boot: int) -> list[bytes]:
    return lines(_acted_out()[layout.journal(boot)])


# -- a shift ----------------------------------------------------------------------------------------------------------


def test_states_of_a_shift_add_up_to_its_length_and_each_is_named() -> None:
    ledger = ledger_of(_acted_out())
    assert sum(ledger.states.values()) == ledger.length_us
    assert {state for state, us in ledger.states.items() if us} == {
        State.OFF,
        State.STANDBY,
        State.RECORDING,
        State.PRIVACY,
    }
    assert 5_900_000 < ledger.states[State.PRIVACY] < 6_300_000
    assert sum(span.us for span in ledger.spans if span.phase) == 2_000_000


def test_refused_stops_stand_out_and_repeats_are_counted() -> None:
    ledger = ledger_of(_acted_out())
    assert [(row.action, row.again) for row in ledger.refused] == [("StopRecording", 1), ("StopRecording", 2)]
    assert [row.outcome for row in ledger.requests] == ["refused", "granted", "refused", "granted"]


def test_stop_in_standby_is_void_in_the_list_and_in_the_count() -> None:
    device = Device()
    device.boot()
    now_ns = device.clocks.now_ns
    device.recorder.control.handle(
        events.ActionRequested(now_ns, events.Action.STOP_RECORDING, events.Principal.WEARER)
    )
    device.settle()
    device.recorder.close()
    ledger = ledger_of(files_of(device.storage))  # type: ignore[arg-type]
    assert [(row.outcome, row.why) for row in ledger.requests] == [("void", "standby")]
    assert ledger.refused == ledger.requests


def test_permit_on_the_wearers_word_alone_is_marked() -> None:
    rows = [row for row in ledger_of(_acted_out()).requests if row.outcome == "granted"]
    assert [row.declared_only for row in rows] == [True, True]


def test_interruption_and_recovery_are_told() -> None:
    texts = [event.text for event in ledger_of(_acted_out()).events if event.stands_out]
    assert any("was running when the boot before it ended" in text for text in texts)


def test_nothing_about_people_is_told_without_a_key() -> None:
    ledger = ledger_of(_acted_out())
    assert ledger.opened == 0 < ledger.sealed
    text = json.dumps(ledger.as_json())
    for word in ("wearer", "concluded", "base.unknown-situation", "us-il"):
        assert word not in text


def test_with_the_agencys_key_it_says_who_why_and_by_which_rules() -> None:
    ledger = ledger_of(_acted_out(), opened=True)
    assert (ledger.opened, ledger.problem) == (ledger.sealed, "")
    refused, granted = ledger.requests[0].sealed, ledger.requests[1].sealed
    assert (refused["principal"], refused["rules"]) == ("wearer", ["base.unknown-situation"])
    assert "enforcement_mode" in refused["unknown"]
    assert granted["facts"]["encounter_state"] == {"value": "concluded", "provenance": "declared"}
    assert granted["rules"] == ["base.concluded"]


def test_key_that_opens_nothing_is_said_to() -> None:
    key = files.load_recipient_key(agency().offline)
    ledger = read_ledger(StorageTree(storage_of(_acted_out())), "", key)
    assert ledger.opened == ledger.sealed
    stranger = type(key).generate()
    ledger = read_ledger(StorageTree(storage_of(_acted_out())), "", stranger)
    assert ledger.opened == 0
    assert ledger.problem.startswith("boot 1: ")


def test_json_has_its_documented_form() -> None:
    document = ledger_of(_acted_out(), opened=True).as_json()
    assert list(document) == [
        "verified",
        "notice",
        "agency",
        "device",
        "shift",
        "states",
        "post_roll_us",
        "docked_us",
        "spans",
        "requests",
        "events",
        "unaccounted",
        "without_picture",
        "details",
    ]
    assert (document["verified"], document["agency"], document["device"]) == (False, "city", "cam-1")
    assert list(document["states"]) == ["off", "standby", "recording", "privacy", "muted", "fault"]
    assert sum(document["states"].values()) == document["shift"]["length_us"]
    assert sum(span["length_us"] for span in document["spans"]) == document["shift"]["length_us"]
    assert set(document["spans"][0]["from"]) == {"utc", "clock", "within_ms", "boot", "mono_us"}
    assert set(document["requests"][0]) == {
        "at",
        "number",
        "action",
        "again",
        "recording",
        "outcome",
        "why",
        "declared_only",
        "policy",
        "review",
        "sealed",
    }
    assert set(document["events"][0]) == {"at", "kind", "text", "stands_out", "since", "sealed"}
    assert json.loads(json.dumps(document)) == document


def test_moments_follow_each_other() -> None:
    ledger = ledger_of(_acted_out())
    times = [ledger.moment(span).utc_ns for span in ledger.spans]
    assert times == sorted(times)


# -- what can't be accounted for --------------------------------------------------------------------------------------


def test_shift_that_ended_in_order_leaves_nothing_open_but_its_power_cut() -> None:
    ledger = ledger_of(_acted_out())
    assert [broken.boot for broken in ledger.unaccounted if broken.kind == "open_end"] == [1]
    assert set(kinds(ledger)) <= {"open_end", "unsigned", "packets_lost"}


def test_line_that_was_taken_out_is_named() -> None:
    raw = journal(1)
    assert "chain_broken" in kinds(ledger_of(with_journal(1, raw[:3] + raw[4:])))


def test_line_that_was_altered_is_named_and_the_rest_is_told_as_it_stands() -> None:
    raw = journal(1)
    at = next(n for n, line in enumerate(raw) if b'"kind":"requested"' in line)
    altered = raw[at].replace(b"StopRecording", b"PrivacyPause")
    ledger = ledger_of(with_journal(1, [*raw[:at], altered, *raw[at + 1 :]]))
    broken = [broken for broken in ledger.unaccounted if broken.kind == "chain_broken"]
    assert len(broken) == 1
    assert "does not follow" in broken[0].sentence
    assert sum(ledger.states.values()) == ledger.length_us
    assert len(ledger.requests) == 4


def test_bytes_that_are_no_line_are_named() -> None:
    raw = journal(1)
    ledger = ledger_of(with_journal(1, [*raw[:5], b"\x00\xff not a line", *raw[5:]]))
    assert "unreadable" in kinds(ledger)
    assert len(ledger.requests) == 4


def test_line_longer_than_any_line_is_named_and_not_kept_in_memory() -> None:
    raw = journal(1)
    assert "unreadable" in kinds(ledger_of(with_journal(1, [*raw[:5], b"x" * 200_000, *raw[5:]])))


def test_torn_end_is_named() -> None:
    torn = _acted_out() | {layout.journal(2): _acted_out()[layout.journal(2)] + b'{"n":99,"ut'}
    assert "torn" in kinds(ledger_of(torn))


def test_recordings_on_a_failing_card_leave_the_account_whole_and_are_named() -> None:
    storage = storage_of(_acted_out())
    storage.fault = failing({"read"}, errno.EIO, only=layout.RECORDINGS)
    ledger, whole = read_ledger(StorageTree(storage), ""), ledger_of(_acted_out())
    assert sorted(kinds(ledger)) == sorted([*kinds(whole), "recordings_unreadable"])
    assert (ledger.states, ledger.requests, ledger.events) == (whole.states, whole.requests, whole.events)


def test_missing_boot_is_named_and_its_time_is_not_passed_off_as_ordinary_dark() -> None:
    evidence = {path: data for path, data in _acted_out().items() if path != layout.journal(1)}
    ledger = ledger_of(evidence)
    assert "journal_missing" in kinds(ledger)


def test_missing_device_certificate_leaves_the_first_line_without_an_anchor() -> None:
    evidence = {path: data for path, data in _acted_out().items() if path != layout.DEVICE}
    ledger = ledger_of(evidence)
    assert "chain_broken" in kinds(ledger)
    assert (ledger.agency, ledger.device) == ("", "")


def test_lines_that_nobody_signed_are_counted() -> None:
    raw = journal(1)
    asked = next(n for n, line in enumerate(raw) if b'"kind":"requested"' in line)
    signed = max(n for n, line in enumerate(raw[:asked]) if b'"kind":"checkpoint"' in line)
    ledger = ledger_of(with_journal(1, raw[: asked + 1]))
    (unsigned,) = (broken for broken in ledger.unaccounted if broken.kind == "unsigned" and broken.boot == 1)
    assert unsigned.sentence.startswith(f"{asked - signed} line")


@pytest.mark.parametrize(
    "forged",
    [RecordingEnded("{}", 1, 1), Released("{}", 1, ["video"], 1, "limit"), ShutDown(), Continued("{}", "x-0001")],
    ids=lambda entry: type(entry).__name__,
)
def test_line_that_somebody_appended_changes_no_account_and_is_named(forged: AnyEntry) -> None:
    device = Device()
    device.run(3)
    device.press("record", times=2)
    device.run(5)
    assert isinstance(device.storage, MemoryStorage)
    device.storage.cut_power()
    before = read_ledger(StorageTree(device.storage), "")
    if hasattr(forged, "recording"):
        forged = msgspec.structs.replace(forged, recording=device.recording)
    chain_on(device, forged)
    after = read_ledger(StorageTree(device.storage), "")
    assert after.states == before.states
    assert [event.kind for event in after.events] == [event.kind for event in before.events]
    (named,) = (broken for broken in after.unaccounted if broken.kind == "unattested")
    assert "has no signature and is left out" in named.sentence
    assert after.unaccounted[-1].kind == before.unaccounted[-1].kind == "open_end"


def test_line_signed_by_another_key_changes_no_account() -> None:
    of = card("recording")
    path = journal_of(of)
    forged = signed_by_another_key(last_line(of.files[path]), of.boot, RecordingEnded(of.recording, 1, 1))
    before, after = (
        read_ledger(StorageTree(storage_of(of.files | {path: of.files[path] + tail})), "") for tail in (b"", forged)
    )
    assert after.states == before.states
    assert "unattested" in kinds(after)


def test_dark_time_that_no_clock_tells_is_named() -> None:
    device = Device()
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    device.run(2)
    device.clocks.now_ns = 0
    device.kernel_boot_id = "kernel-2"
    device.boot()
    device.run(1)
    ledger = read_ledger(StorageTree(device.storage), "")
    assert "dark_unknown" in kinds(ledger)
    assert ledger.as_json()["shift"]["unknown_gaps"] == 1


@pytest.mark.parametrize("evidence", [{}, {f"{layout.JOURNAL}/readme.txt": b"nothing"}, {layout.journal(1): b""}])
def test_folder_without_a_line_of_a_journal_is_refused(evidence: Files) -> None:
    with pytest.raises(EvidenceError, match="journal"):
        ledger_of(evidence)


@pytest.mark.parametrize("data", [b"\n\n\n", b"{}\n", b"[1]\n" * 1000, b"\xff\xfe\n"])
def test_file_of_rubbish_raises_no_other_error(data: bytes) -> None:
    with pytest.raises(EvidenceError, match=r"no(ne)? "):
        ledger_of({layout.journal(1): data})
