"""A journal that is not the one that was seen: copied and put back, cut, forked, replaced, or kept to itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.dock.messages import Confirmed
from agent.evidence import layout
from agent.storage.disk import DiskStorage
from tests.support.docking import DEVICE, Docked
from tests.support.faults import complete, happen

HISTORY = {"history_shorter", "history_different"}


class Card:
    """All that a device remembers: evidence, the dock's cursor, what the recorder keeps beside them."""

    def __init__(self, docked: Docked) -> None:
        self._docked = docked
        self._folders = (docked.folder / "evidence", docked.folder / "dock-state")
        self._files = {
            path: path.read_bytes() for folder in self._folders for path in folder.rglob("*") if path.is_file()
        }
        self._state = docked.device.state.data

    @property
    def lines(self) -> int:
        return sum(data.count(b"\n") for path, data in self._files.items() if path.suffix == ".jsonl")

    def put_back(self, *, state: bool = True) -> None:
        """The card; and, where it lies on it too, the device's own memory."""
        for folder in self._folders:
            for path in sorted(folder.rglob("*"), reverse=True):
                if path.is_file() and path not in self._files:
                    path.unlink()
        for path, data in self._files.items():
            path.write_bytes(data)
        if state:
            self._docked.device.state.data = self._state


def seen_line(docked: Docked) -> int:
    assert docked.store is not None
    seen = docked.store.newest_checkpoint(DEVICE)
    return seen.line if seen else 0


def dock(docked: Docked) -> None:
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.until(lambda: set(docked.told()) <= set(docked.stored()))


def undock(docked: Docked) -> None:
    docked.contact(closed=False)
    docked.until(lambda: not docked.dock.connection.connected)


def restart(docked: Docked) -> None:
    """Power off and on: recorder and dock service begin with what the card holds."""
    docked.dock.connection.end()
    docked.device.boot()
    docked.dock = docked.make_dock()


def in_time(docked: Docked, reached: Callable[[], bool]) -> None:
    """Wait for it, a quarter of a minute at a time."""
    for _ in range(30):
        docked.until(lambda: docked.dock.connection.connected or reached())
        for _ in range(6):
            if reached():
                return
            docked.turn()
        docked.later(15)
    raise AssertionError((docked.alarms(), docked.said, docked.station_said))


def shown(docked: Docked, line: int) -> None:
    """The station sees a checkpoint over that line, or a later one."""
    docked.device.recorder.journal.attest(None)
    docked.device.settle()
    in_time(docked, lambda: seen_line(docked) >= line)


@pytest.fixture
def seen(docked: Docked) -> tuple[Docked, Card]:
    """Docked once and copied; then used, docked again and seen; now undocked."""
    docked.start_station()
    dock(docked)
    shown(docked, 1)
    undock(docked)
    copy = Card(docked)
    docked.device.run(2)
    docked.device.press("record", times=2)
    happen(docked, 0, 10)
    dock(docked)
    shown(docked, copy.lines + 1)
    undock(docked)
    assert docked.alarms() == []
    return docked, copy


@pytest.mark.parametrize("lines", [0, 200], ids=["as it was", "and used until it is longer than what was seen"])
def test_card_copied_at_one_docking_and_put_back_before_the_next_is_noticed(
    seen: tuple[Docked, Card], lines: int
) -> None:
    docked, copy = seen
    before = docked.stored()
    copy.put_back()
    restart(docked)
    happen(docked, 7, lines)
    docked.device.recorder.journal.attest(None)
    docked.device.settle()
    dock(docked)
    in_time(docked, lambda: HISTORY & set(docked.alarms()) != set())
    assert docked.alarms() == ["history_different" if lines else "history_shorter"]
    assert any(line.startswith(f"ALARM {DEVICE}") for line in docked.station_said)
    assert set(before) < set(docked.stored())  # what was told of the history that is gone stays


def test_card_that_was_put_back_beside_the_devices_own_memory_is_told_by_the_device_too(
    seen: tuple[Docked, Card],
) -> None:
    docked, copy = seen
    running = docked.device.recording
    copy.put_back(state=False)
    restart(docked)
    assert docked.device.recording == running
    docked.device.recorder.journal.attest(None)
    docked.device.settle()
    dock(docked)
    in_time(docked, lambda: {"card_rolled_back", "history_different"} <= set(docked.alarms()))
    assert set(docked.alarms()) == {"card_rolled_back", "history_different", "recording_missing"}


def test_use_without_any_rollback_is_no_alarm(seen: tuple[Docked, Card]) -> None:
    docked, _ = seen
    for number in range(2):
        restart(docked)
        happen(docked, number, 20)
        docked.device.recorder.journal.attest(None)
        dock(docked)
        before = seen_line(docked)
        happen(docked, 10 + number, 5)
        shown(docked, before + 5)
        undock(docked)
    assert docked.alarms() == []
    dock(docked)
    docked.until(lambda: complete(docked))


def cut_lines(docked: Docked) -> None:
    """The last lines of the journal are taken away, at the end of a line."""
    newest = max((docked.folder / "evidence" / layout.JOURNAL).glob("*.jsonl"))
    lines = newest.read_bytes().splitlines(keepends=True)
    newest.write_bytes(b"".join(lines[: len(lines) // 2]))


def change_line(docked: Docked) -> None:
    """History is written anew from a line on: that and all that come after it are other ones, and fewer."""
    newest = max((docked.folder / "evidence" / layout.JOURNAL).glob("*.jsonl"))
    lines = newest.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    newest.write_bytes(b"".join(lines[:half]) + lines[half].replace(b"test-0", b"best-0"))


def begin_anew(docked: Docked) -> None:
    """An empty card of the same device: its journal begins with line 1."""
    for path in (docked.folder / "evidence").rglob("*"):
        if path.is_file() and path.name not in {layout.DEVICE, layout.TRUST}:
            path.unlink()


@pytest.mark.parametrize(
    ("alter", "lines"),  # at once, and when it has grown longer than it was
    [(cut_lines, 0), (cut_lines, 200), (change_line, 200), (begin_anew, 0), (begin_anew, 200)],
)
def test_truncated_forked_and_replaced_histories_are_noticed(
    seen: tuple[Docked, Card], alter: Callable[[Docked], None], lines: int
) -> None:
    docked, _ = seen
    alter(docked)
    docked.device.state.data = None  # else the recorder itself would say so
    restart(docked)
    happen(docked, 7, lines)
    docked.device.recorder.journal.attest(None)
    docked.device.settle()
    docked.contact(closed=True)
    in_time(docked, lambda: HISTORY & set(docked.alarms()) != set())


def test_card_whose_certificate_nobody_of_the_agency_signed_is_refused_and_is_an_alarm(
    seen: tuple[Docked, Card],
) -> None:
    docked, _ = seen
    (docked.folder / "evidence" / layout.DEVICE).write_bytes(b"a.b.c")
    restart(docked)
    docked.contact(closed=True)
    docked.until(lambda: docked.alarms() == ["checkpoint_refused"])
    for _ in range(5):
        docked.turn()
    assert not docked.device.recorder.status().docked


def test_device_that_does_not_confirm_what_was_seen_is_an_alarm(
    seen: tuple[Docked, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compromised dock service could ignore the request: that is an alarm."""
    docked, copy = seen
    copy.put_back()
    restart(docked)

    def nothing(_lines: list[int]) -> list[Confirmed]:
        return []

    monkeypatch.setattr(docked.dock._status, "_confirms", nothing)
    happen(docked, 7, 200)
    docked.device.recorder.journal.attest(None)
    docked.device.settle()
    docked.contact(closed=True)

    in_time(docked, lambda: docked.alarms() == ["history_unconfirmed"])


def test_hash_of_a_line_is_found_by_its_number_alone(docked: Docked) -> None:
    from agent.dock.journal import JournalReader

    happen(docked, 1, 50)
    docked.device.boot()
    happen(docked, 2, 50)
    reader = JournalReader(DiskStorage(docked.folder / "evidence"))
    lines = list(reader.lines(1 << 50, 1 << 20))
    assert len(lines) > 100
    assert [reader.line_hash(line.n) for line in lines] == [line.hash for line in lines]
    assert reader.line_hash(lines[-1].n + 1) is None
    assert reader.line_hash(0) is None


def test_card_that_is_exchanged_while_the_service_runs_is_asked_anew(seen: tuple[Docked, Card], tmp_path: Path) -> None:
    """What was confirmed on the connection before may have been another card's word."""
    docked, copy = seen
    assert tmp_path == docked.folder
    dock(docked)
    undock(docked)
    assert docked.dock._status._confirmed
    copy.put_back()
    docked.device.boot()  # the recorder starts again; the dock service does not
    happen(docked, 7, 200)
    docked.device.recorder.journal.attest(None)
    docked.device.settle()
    docked.contact(closed=True)

    in_time(docked, lambda: HISTORY & set(docked.alarms()) != set())
