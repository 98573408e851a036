"""What a boot finds of those before it, also where several in a row lost power before they had recovered anything."""

import pytest

from agent.journal.boot_recovery import MOST_REFUSED, read_recovery_state, read_tail
from agent.journal.entries import PolicyChanged, Tampered
from agent.journal.format import MAX_LINE
from tests.support.evidence import JOURNAL, crashed, files_of, memory, recorder, resumed, storage_of


def test_boot_that_went_dark_before_its_first_line_hides_no_running_recording() -> None:
    before = storage_of(crashed())
    running = read_recovery_state(before, read_tail(before)).running
    assert running is not None
    assert read_recovery_state(before, read_tail(before)).unfinished[0].attested_bytes
    after = storage_of(crashed() | {JOURNAL[1]: b""})
    assert read_recovery_state(after, read_tail(after)).running == running


def test_boot_that_lost_power_before_it_recovered_anything_hides_nothing() -> None:
    device = resumed(crashed(torn=False), torn=False)
    first_line = memory(device).files[JOURNAL[1]].durable.split(b"\n")[0] + b"\n"
    before = storage_of(crashed(torn=False))
    after = storage_of(crashed(torn=False) | {JOURNAL[1]: first_line})
    assert (
        read_recovery_state(after, read_tail(after)).running == read_recovery_state(before, read_tail(before)).running
    )


def test_what_has_to_be_carried_over_is_known_over_a_boot_without_a_line() -> None:
    device = recorder()
    device.recorder.journal.post(PolicyChanged("policy_in_force", 7, "00" * 32))
    device.recorder.close()
    files = files_of(memory(device))
    before, after = storage_of(files), storage_of(files | {JOURNAL[1]: b""})
    carried = read_recovery_state(before, read_tail(before)).carried
    assert carried != read_recovery_state(storage_of({}), read_tail(storage_of({}))).carried
    assert read_recovery_state(after, read_tail(after)).carried == carried


def test_torn_bytes_of_several_boots_are_counted_together() -> None:
    files = crashed()
    torn = len(files[JOURNAL[0]].rpartition(b"\n")[2])
    assert torn
    storage = storage_of(files | {JOURNAL[1]: b'{"clock"'})
    assert read_tail(storage).torn_bytes == torn + len(b'{"clock"')


@pytest.mark.parametrize("size", [MAX_LINE + 1, 70_000, 200_000])
def test_planted_line_that_is_too_long_is_reported_as_damage_by_the_next_boot(size: int) -> None:
    files = crashed(torn=False)
    files[JOURNAL[0]] += b"Z" * size + b"\n"
    before = storage_of(files)
    assert read_recovery_state(before, read_tail(before)).refused == (f"boot 1: a line of {size + 1} bytes",)
    device = resumed(files, torn=False)
    assert "journal_damaged" in [entry.what for entry in device.entries(Tampered, 2) if isinstance(entry, Tampered)]


def test_planted_lines_that_are_too_long_are_named_up_to_the_bound_and_counted_beyond_it() -> None:
    files = crashed(torn=False)
    files[JOURNAL[0]] += (b"Z" * 70_000 + b"\n") * 20
    storage = storage_of(files)
    *named, unread = read_recovery_state(storage, read_tail(storage)).refused
    assert named == ["boot 1: a line of 70001 bytes"] * MOST_REFUSED
    assert "bytes more than what is read without a signature" in unread
