"""One camera's certificate does not fill the station's disk, and holds nothing of the others' up."""

from pathlib import Path

import pytest

from agent.dock.messages import MAX_JSON
from agent.station import store
from agent.station.quota import Quota, exceeded_quota
from agent.station.service import LIMITS
from agent.station.store import MAX_ALARMS, Usage
from tests.support.stations import Rig, event, status

SMALL = Quota(messages_a_minute=100, bytes_a_minute=1 << 20, bytes_a_day=1 << 20, bytes_stored=3 << 20)
JUNK = "A" * 60_000


def test_event_of_a_megabyte_is_neither_kept_nor_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, monkeypatch)
    for size in (MAX_JSON + 1, 1_040_000):
        rig.send("event", event(1, junk="A" * size))
    assert rig.stored() == rig.acknowledged() == []
    assert rig.alarms() == ["malformed"]
    assert rig.bytes() < 1 << 20


def test_a_turn_holds_at_most_some_megabytes() -> None:
    assert LIMITS.bytes_at_once + LIMITS.message <= 16 << 20


def test_flood_of_a_day_is_bounded_and_an_alarm_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, SMALL)
    number = 0
    for _minute in range(30):
        for _ in range(20):
            number += 1
            rig.hand("event", event(number, junk=JUNK))
        rig.hand("event", event(number, "cam-2"), "cam-2")
        rig.station.turn(0)
        rig.clocks.advance(60)
    assert rig.acknowledged() == rig.stored(), "what is not kept is not acknowledged: it stays with the device"
    assert 0 < sum(len(event(1, junk=JUNK)) for _ in rig.stored()) <= SMALL.bytes_a_day
    assert rig.bytes() < 4 * SMALL.bytes_a_day
    assert set(rig.alarms()) == {"over_quota"}
    assert len(rig.stored("cam-2")) == len(rig.acknowledged("cam-2")) == 30
    assert rig.alarms("cam-2") == []


def test_flood_of_many_days_ends_at_the_bound_of_what_is_kept_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, SMALL)
    for day in range(6):
        for number in range(20):
            rig.send("event", event(100 * day + number, junk=JUNK))
            rig.clocks.advance(61)
        rig.clocks.advance(86_400)
    assert rig.store.usage("cam-1").stored <= SMALL.bytes_stored
    assert rig.bytes() < 2 * SMALL.bytes_stored
    assert [detail for _, detail in rig.store.alarms("cam-1") if "in all" in detail]


def test_over_quota_is_over_by_the_next_minute_and_what_was_left_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, SMALL)
    wanted = [event(number) for number in range(150)]
    for _minute in range(3):
        for said in wanted:
            if said.split(b'"id": "')[1][:64].decode() not in rig.acknowledged():
                rig.hand("event", said)
        rig.station.turn(0)
        rig.clocks.advance(60)
    assert len(rig.acknowledged()) == len(rig.stored()) == 150
    assert rig.alarms() == ["over_quota"]


def test_event_that_is_kept_already_is_acknowledged_beyond_the_quota_of_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, SMALL)
    for number in range(40):
        rig.send("event", event(number, junk=JUNK))
        rig.clocks.advance(60)
    kept = rig.stored()
    rig.connection.published.clear()
    rig.send("event", event(0, junk=JUNK))
    rig.send("event", event(39, junk=JUNK))
    assert rig.acknowledged() == [kept[0]] == [f"{0:064x}"]


def test_flood_of_malformed_states_and_statuses_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, monkeypatch, Quota())
    for number in range(3000):
        rig.hand("status", status(uptime_s=number))
        rig.hand("event", b"\x00" * (number % 512))
    for _ in range(3):
        rig.station.turn(0)
    size = rig.bytes()
    for number in range(3000):
        rig.hand("status", status(uptime_s=number))
    rig.station.turn(0)
    assert rig.alarms() == ["malformed"]
    assert rig.station.refusals["cam-1"] == 3000
    assert rig.bytes() <= size + (1 << 20)


def test_open_alarms_of_a_kind_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, monkeypatch)
    for number in range(200):
        with rig.store.transaction():
            rig.store.put_alarm("cam-1", "history_shorter", f"line {number}", "2026-01-01T00:00:00.000000Z")
    assert rig.alarms() == ["history_shorter"] * MAX_ALARMS + ["alarms_left_out"]


def test_event_does_not_cost_more_the_more_the_device_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long ends of recordings that say nothing of the wearer's word are not read again for each one that does."""
    rig = Rig(tmp_path, monkeypatch)
    between = 200
    for number in range(between + 1):
        said = number in (0, between)
        told = event(number, kind="recording_ended", line=number + 1, declared_only=said, junk="" if said else JUNK)
        rig.hand("event", told)
    while rig.connection.received:
        rig.station.turn(0)
    statements: list[str] = []
    rig.store._database.set_trace_callback(statements.append)
    since = "2025-01-01T00:00:00.000000Z"
    assert rig.store.declared_ends("cam-1", between, since) == 1
    assert rig.store.declared_ends("cam-1", between + 1, since) == 2
    rig.store._database.set_trace_callback(None)
    for statement in statements:
        operations = [row[1] for row in rig.store._database.execute(f"EXPLAIN {statement}")]
        assert "Function" not in operations, "no event is parsed again"
        assert "SeekLE" in operations, "an index leads to the ends that count"
    monkeypatch.setattr(store, "MAX_ENDS", 1)
    assert rig.store.declared_ends("cam-1", between + 1, since) == 1, "the first one is too long ago"


@pytest.mark.parametrize(
    ("usage", "size", "over"),
    [
        (Usage(), 1 << 20, None),
        (Usage(), (1 << 20) + 1, "bytes a day"),
        (Usage(1 << 20, "2026-01-01", 1 << 20), 1, "bytes a day"),
        (Usage(1 << 20, "2025-12-31", 1 << 20), 1, None),
        (Usage(3 << 20, "2025-12-31", 0), 1, "bytes in all"),
    ],
)
def test_room_is_that_of_the_day_and_of_all(usage: Usage, size: int, over: str | None) -> None:
    assert exceeded_quota(SMALL, usage, size, "2026-01-01") == over
