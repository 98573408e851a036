"""One boot after another on cards that somebody swapped, put back, cut or emptied: what the recorder says and keeps."""

import errno
from collections.abc import Callable
from itertools import pairwise

import pytest

from agent.clock import NS
from agent.core.recording import events
from agent.device_state.updater import ANCHOR_FAILING, NOT_KEPT
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal.entries import Boot, Tampered
from agent.journal.format import parse_line, split_lines
from agent.keys import jws
from agent.verify.findings import Code, Verdict
from tests.support.device import Device, trust
from tests.support.evidence import Files, check, codes, files_of, memory, storage_of
from tests.support.storage import MemoryStorage, failing
from tests.support.stores import MemoryRam


def boot_number(device: Device) -> int:
    return device.recorder.status().boot


def told(device: Device) -> list[str]:
    """Kinds of the tamper events of the newest boot, problems that are over left out."""
    found = device.entries(Tampered, boot_number(device))
    return [entry.what for entry in found if isinstance(entry, Tampered) and not entry.ended]


def boot_line(device: Device) -> Boot:
    entry = device.lines(boot_number(device))[0].entry
    assert isinstance(entry, Boot)
    return entry


def copy_of(device: Device) -> Files:
    """A copy of the card, as it would be after a power cut now."""
    return {path: file.durable for path, file in memory(device).files.items()}


def insert(device: Device, files: Files | None = None) -> None:
    """Battery out, this card in (an empty one if none is given), battery in; some seconds go by."""
    memory(device).cut_power()
    device.storage = storage_of(files or {})
    device.clocks.now_ns += 20 * NS
    device.boot()
    device.run(3)


def recording() -> Device:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(4)
    return device


def latched() -> Device:
    device = recording()
    device.recorder.control.put(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.settle()
    device.run(2)
    assert device.recorder.control.state.latched
    return device


# -- what is none of it ------------------------------------------------------------------------------------------------


def test_first_boot_of_a_device_says_nothing() -> None:
    device = Device()
    device.run(3)
    assert told(device) == []
    assert boot_line(device).continuity is None
    assert device.recorder.status().device_state.found == "missing"


@pytest.mark.parametrize("ram", [None, MemoryRam()])
def test_power_cut_at_any_moment_is_no_tamper_event(ram: MemoryRam | None) -> None:
    """The state lags behind the card by up to a second; the card never lags behind what the state names."""
    device = Device(ram=ram)
    storage = memory(device)
    for number in range(1, 14):
        device.run(0.37 * number)
        device.press("record", times=2)
        device.run(0.19 * number)
        if number % 3 == 0:
            device.press("record", hold_s=3.2)
        storage.cut_power()
        device.boot()
        device.run(0.1)
        assert told(device) == [], number
        assert boot_number(device) == number + 1
    assert device.recorder.status().device_state.found == "good"


def test_power_cut_before_anything_was_saved_is_still_a_first_boot() -> None:
    device = Device()
    device.state.data = None
    memory(device).files.clear()
    device.boot()
    device.run(1)
    assert told(device) == []


def test_orderly_restarts_say_nothing_and_the_next_boot_is_told_from_the_state() -> None:
    device = Device()
    for _ in range(3):
        device.run(2)
        device.recorder.close()
        device.boot()
    device.run(1)
    assert told(device) == []
    assert device.recorder.status().device_state.found == "good"


# -- put back ----------------------------------------------------------------------------------------------------------


def test_rolled_back_card_is_named_with_what_is_missing() -> None:
    device = recording()
    old = copy_of(device)
    device.run(70)
    device.press("record", hold_s=3.2)
    device.run(2)
    seen = device.recorder.journal.durable[0]
    insert(device, old)
    assert told(device)[0] == "card_rolled_back"
    line = boot_line(device)
    assert line.continuity is not None
    assert line.continuity.line == seen
    assert device.lines(2)[0].n == seen + 1, "no line number is used twice"
    assert device.lines(2)[0].prev == line.continuity.head


def test_boot_number_of_a_boot_that_was_taken_off_the_card_is_not_used_again() -> None:
    device = Device()
    device.run(3)
    old = copy_of(device)
    for _ in range(3):
        memory(device).cut_power()
        device.boot()
        device.run(3)
    insert(device, old)
    assert boot_number(device) == 5
    assert told(device) == ["card_rolled_back"]
    insert(device, copy_of(device))
    assert (boot_number(device), told(device)) == (6, [])


def test_journal_with_one_line_less_than_was_synced_is_named() -> None:
    device = recording()
    device.run(5)
    memory(device).cut_power()
    kept = device.state.data
    assert kept is not None
    mark = jws.unverified_payload(kept.decode(), "bwc-state+jws")["mark"]["line"]
    file = memory(device).files[layout.journal(1)]
    raw, _ = split_lines(bytes(file.data))
    file.data[:] = b"".join(line + b"\n" for line in raw if parse_line(line).n < mark)
    file.durable = bytes(file.data)
    device.boot()
    device.run(2)
    assert told(device) == ["card_rolled_back"]
    assert device.recording, "and the recording goes on"


def test_journal_whose_marked_line_is_another_one_is_named() -> None:
    device = Device()
    device.run(5)
    memory(device).cut_power()
    file = memory(device).files[layout.journal(1)]
    file.data[:] = file.data.replace(b'"kind":"standby"', b'"kind":"standbx"')
    raw, _ = split_lines(bytes(file.data))
    mark = jws.unverified_payload((device.state.data or b"").decode(), "bwc-state+jws")["mark"]["line"]
    file.data[:] = b"".join((line if parse_line_n(line) != mark else b"{}") + b"\n" for line in raw)
    file.durable = bytes(file.data)
    device.boot()
    device.run(2)
    assert told(device) == ["card_rolled_back", "journal_damaged"]


def parse_line_n(raw: bytes) -> int:
    try:
        return parse_line(raw).n
    except ValueError:
        return 0


def test_interrupted_recording_continues_where_the_state_knows_it_to_be_on_a_card_from_before_it() -> None:
    device = Device()
    device.run(6)
    old = copy_of(device)
    device.press("record", times=2)
    device.run(70)
    running = device.recording
    insert(device, old)
    assert device.recording == running
    assert told(device) == ["card_rolled_back", "recording_missing"]
    assert boot_line(device).interrupted == running
    names = memory(device).names(layout.recording(running))
    assert [name for name in names if name.endswith(".opening.jws")] == ["0003.opening.jws"], "no number is used twice"


def test_segments_that_are_there_are_not_written_over_whatever_the_journal_says() -> None:
    """The journal was cut to before the recording, its folder was left."""
    device = Device()
    device.run(6)
    old = copy_of(device)
    device.press("record", times=2)
    device.run(10)
    running = device.recording
    files = copy_of(device)
    insert(device, {path: data for path, data in files.items() if path.startswith("recordings/")} | old)
    assert device.recording == running
    folder = layout.recording(running)
    assert (
        memory(device).files[f"{folder}/0001.seg"].data[: len(files[f"{folder}/0001.seg"])]
        == files[f"{folder}/0001.seg"]
    )
    assert not device.recorder.status().storage_failing


def test_recording_that_was_taken_off_the_card_is_missing_by_id_and_once() -> None:
    device = recording()
    ended = device.recording
    device.press("record", hold_s=3.2)
    device.run(2)
    kept = {path: data for path, data in copy_of(device).items() if not path.startswith(layout.recording(ended))}
    insert(device, kept)
    assert told(device) == ["recording_missing"]
    line = boot_line(device)
    assert line.continuity is not None
    assert line.continuity.recordings == [ended]
    insert(device, copy_of(device))
    assert told(device) == []


# -- replaced ----------------------------------------------------------------------------------------------------------


def test_blank_card_ends_no_recording_and_releases_nothing() -> None:
    device = latched()
    running = device.recording
    seen = device.recorder.journal.durable[0]
    insert(device)
    assert told(device) == ["card_replaced", "recording_missing"]
    assert device.recording == running
    assert device.recorder.control.state.latched
    assert boot_number(device) == 2
    assert device.lines(2)[0].n == seen + 1
    assert device.recorder.status().device_state.events == ["card_replaced", "recording_missing"]


def test_cards_used_in_turn_are_named_each_time_and_no_number_is_used_twice() -> None:
    device = Device()
    device.run(3)
    first = copy_of(device)
    insert(device)
    second = copy_of(device)
    insert(device, first)
    assert (boot_number(device), told(device)) == (3, ["card_replaced"])
    first = copy_of(device)
    insert(device, second)
    assert (boot_number(device), told(device)) == (4, ["card_replaced"])
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert (report.verdict, codes(report)) == (Verdict.UNFINISHED, {Code.CARD_REPLACED}), "honest, and not all is here"
    numbers = [line.n for line in device.lines(4)]
    assert numbers[0] > max(parse_line(raw).n for raw in split_lines(first[layout.journal(3)])[0])


def test_card_that_was_cut_while_another_one_was_in_use_was_put_back() -> None:
    device = Device()
    device.run(3)
    early = copy_of(device)
    device.run(65)
    insert(device)
    insert(device, early)
    assert told(device) == ["card_rolled_back"]
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert {Code.CARD_ROLLED_BACK, Code.JOURNAL_LINE_MISSING} <= codes(report)


def test_more_cards_than_are_remembered_are_no_hindrance() -> None:
    device = Device()
    for _ in range(12):
        device.run(1)
        insert(device)
        assert told(device) == ["card_replaced"]
    assert len(jws.unverified_payload((device.state.data or b"").decode(), "bwc-state+jws")["cards"]) == 8


def test_card_whose_id_was_removed_is_named_though_its_journal_is_whole() -> None:
    device = Device()
    device.run(3)
    files = {path: data for path, data in copy_of(device).items() if path != layout.CARD_ID}
    insert(device, files)
    assert told(device) == ["card_replaced"]
    insert(device, copy_of(device))
    assert told(device) == []


def test_id_copied_onto_a_blank_card_makes_it_one_that_was_put_back() -> None:
    device = latched()
    insert(device, {layout.CARD_ID: copy_of(device)[layout.CARD_ID]})
    assert told(device)[0] == "card_rolled_back"
    assert device.recorder.control.state.latched


@pytest.mark.parametrize("junk", [b"", b"x" * 100, b"../../etc", b"\xff" * 32])
def test_junk_in_place_of_the_cards_id_keeps_nothing_from_recording(junk: bytes) -> None:
    device = Device()
    device.run(3)
    insert(device, copy_of(device) | {layout.CARD_ID: junk})
    assert told(device) == ["card_replaced"]
    insert(device, copy_of(device))
    assert told(device) == []
    device.press("record", times=2)
    assert device.recording


# -- the state itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alter",
    [
        lambda _data: None,
        lambda _data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    ],
)
def test_state_that_is_gone_or_altered_is_lost_and_what_the_card_says_holds(
    alter: Callable[[bytes], bytes | None],
) -> None:
    device = latched()
    running = device.recording
    memory(device).cut_power()
    assert device.state.data is not None
    device.state.data = alter(device.state.data)
    device.boot()
    device.run(2)
    assert told(device) == ["state_lost"]
    assert device.recording == running
    assert device.recorder.control.state.latched
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert told(device) == [], "a new state was begun"


def test_state_of_another_device_is_none_of_ours() -> None:
    device, other = Device(), Device()
    device.run(2)
    payload = jws.unverified_payload((other.state.data or b"").decode(), "bwc-state+jws")
    from tests.support.device import owner

    other.state.data = jws.sign(owner().signer, "bwc-state+jws", payload | {"device": "cam-2"}).encode()
    memory(device).cut_power()
    device.state.data = other.state.data
    device.boot()
    device.run(1)
    assert told(device) == ["state_lost"]


def test_state_that_was_put_back_is_noticed_by_its_anchor_and_by_none_without_one() -> None:
    for ram, expected in ((MemoryRam(), ["state_rolled_back"]), (None, [])):
        device = Device(ram=ram)
        device.run(3)
        files, state = copy_of(device), device.state.data
        device.run(70)
        memory(device).cut_power()
        device.state.data = state
        device.storage = storage_of(files)
        device.boot()
        device.run(2)
        assert told(device) == expected


def test_anchor_that_remembers_a_state_makes_an_empty_device_no_new_one() -> None:
    device = Device(ram=MemoryRam())
    device.run(3)
    device.state.data = None
    insert(device)
    assert told(device) == ["state_lost"]


def test_failing_anchor_is_reported_stops_nothing_and_its_end_is_reported_too() -> None:
    ram = MemoryRam()
    device = Device(ram=ram)
    device.run(3)
    ram.failing = True
    device.press("record", times=2)
    device.run(5)
    assert device.recording
    assert told(device) == [ANCHOR_FAILING]
    assert device.recorder.status().device_state.anchor_problem
    ram.failing = False
    device.run(70)
    ended = [entry.what for entry in device.entries(Tampered) if isinstance(entry, Tampered) and entry.ended]
    assert ended == [ANCHOR_FAILING]
    assert device.recorder.status().device_state.anchor_problem == ""


@pytest.mark.parametrize("refusing", ["before", "after"])
def test_state_that_cannot_be_kept_is_reported_once_and_stops_nothing(refusing: str) -> None:
    device = Device()
    device.run(3)
    device.state.refusing = refusing
    device.press("record", times=2)
    device.run(30)
    assert device.recording
    assert told(device) == [NOT_KEPT]
    assert device.recorder.status().device_state.problem
    device.press("record", hold_s=3.2)
    device.run(2)
    assert not device.recording, "nor does it stop what is granted"
    device.state.refusing = ""
    device.run(65)
    assert device.recorder.status().device_state.problem == ""


def test_state_that_cannot_be_read_is_reported_and_not_written_over_and_counts_once_it_can_be() -> None:
    device = latched()
    memory(device).cut_power()
    before = device.state.data
    device.state.refusing = "before"
    insert(device)
    assert told(device)[0] == "state_unreadable"
    device.press("record", times=2)
    device.run(3)
    assert device.recording
    assert device.state.data == before
    device.state.refusing = ""
    device.run(5)
    assert device.state.data != before
    insert(device, copy_of(device))
    assert device.recorder.control.state.latched, "what it said counts again"


# -- what restricts, also while the card refuses -----------------------------------------------------------------------


def test_latch_raised_while_the_card_refuses_outlives_a_power_cut() -> None:
    device = recording()
    storage = memory(device)
    storage.fault = failing({"write", "sync"}, errno.EIO)
    device.recorder.control.put(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.settle()
    device.run(3)
    assert device.recorder.control.state.latched
    storage.fault = failing(set(), 0)
    storage.cut_power()
    device.boot()
    device.run(2)
    assert device.recorder.control.state.latched
    assert told(device) == [], "the card lacks nothing that was ever on it"


def test_nothing_is_saved_before_the_line_that_says_what_was_found_is_on_storage() -> None:
    device = latched()
    before = device.state.data
    memory(device).cut_power()
    blank = MemoryStorage()
    device.storage = blank
    blank.fault = failing({"write", "sync"}, errno.ENOSPC)
    device.boot()
    device.run(5)
    assert device.state.data == before
    blank.fault = failing(set(), 0)
    blank.cut_power()  # a cut there loses nothing of what was found
    device.boot()
    device.run(2)
    assert told(device)[0] == "card_replaced"


def test_state_is_saved_at_most_once_a_second_and_within_one() -> None:
    device = recording()
    saves: list[int] = []
    kept = device.state.save

    def counted(data: bytes) -> None:
        saves.append(device.clocks.now_ns)
        kept(data)

    device.state.save = counted  # type: ignore[method-assign]
    device.run(30)
    gaps = [later - earlier for earlier, later in pairwise(saves)]
    assert 25 <= len(saves) <= 31
    assert min(gaps) >= NS


def test_error_in_the_state_costs_no_line_of_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    device = recording()

    def broken(_line: bytes) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(device.recorder.state, "lines_appended", broken)
    device.run(5)
    device.press("record", hold_s=3.2)
    device.run(2)
    assert not device.recording
    numbers = [line.n for line in device.lines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_link_in_place_of_the_state_on_a_full_card_is_an_error_that_is_told() -> None:
    device = Device()
    device.run(2)

    def link() -> bytes | None:
        raise StorageError(errno.ELOOP, "a link lies in its place")

    device.state.load = link  # type: ignore[method-assign]
    memory(device).cut_power()
    device.boot()
    device.run(1)
    assert told(device) == ["state_lost"]


def test_files_of_the_card_are_unchanged_but_for_what_is_new() -> None:
    device = latched()
    old = copy_of(device)
    device.run(70)
    insert(device, old)
    now = files_of(memory(device))
    assert {path: now[path][: len(data)] for path, data in old.items()} == old
