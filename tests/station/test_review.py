"""What a custodian is to look at: an unsafe policy, and more stops on the wearer's word than the policy allows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import NS, parse_utc, utc_text
from agent.dock.messages import Event, EventData, Policy, encode
from agent.station.review import DECLARED_STOPS, UNSAFE_POLICY, event_alarms, status_alarms
from agent.station.store import Store
from tests.support.statuses import status

BEGAN_NS = parse_utc("2026-11-22T23:40:00.000000Z")
MINUTE = 60 * NS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "station.sqlite") as made:
        yield made


class Shift:
    """Events of one device, each a journal line later."""

    def __init__(self, store: Store, device: str = "cam-1") -> None:
        self.store, self.device, self.line = store, device, 0

    def tell(self, at_ns: int, kind: str, **fields: Any) -> list[tuple[str, str]]:
        self.line += 1
        digest = f"{self.line:064x}"
        data = EventData(
            line=self.line, hash=digest, clock="ntp", within_ms=1, mono_us=self.line, entry={"kind": kind, **fields}
        )
        source = f"/bwc/city/{self.device}"
        event = Event(
            specversion="1.0", id=digest, source=source, type=f"bwc.v1.{kind}", time=utc_text(at_ns), data=data
        )
        with self.store.transaction():
            self.store.put_event(
                self.device,
                digest,
                self.line,
                kind=event.type,
                time=event.time,
                received=event.time,
                text=encode(event).decode(),
            )
            return list(event_alarms(self.store, self.device, event))

    def stops(self, count: int, *, each_ns: int = 5 * MINUTE, from_ns: int = BEGAN_NS, **fields: Any) -> list[str]:
        told = {"recording": "r", "request": 1, "at_us": 1, "declared_only": True, **fields}
        alarms = [self.tell(from_ns + n * each_ns, "recording_ended", **told) for n in range(count)]
        return [detail for found in alarms for _, detail in found]


def test_stops_on_the_wearers_word_beyond_three_an_hour_are_an_alarm(store: Store) -> None:
    shift = Shift(store)
    assert shift.stops(3) == []
    found = shift.tell(BEGAN_NS + 20 * MINUTE, "recording_ended", declared_only=True)
    assert [kind for kind, _ in found] == [DECLARED_STOPS]
    assert found[0][1] == (
        "4 recordings ended on the wearer's word alone in the hour up to 2026-11-23T00:00:00Z, the policy allows 3"
    )


def test_stops_that_are_spread_or_rest_on_more_than_words_are_no_alarm(store: Store) -> None:
    shift = Shift(store)
    assert shift.stops(40, each_ns=20 * MINUTE) == []
    assert shift.stops(40, from_ns=BEGAN_NS + 50 * 3600 * NS, declared_only=False) == []


def test_limit_is_that_of_the_signed_policy_by_its_newest_line_before(store: Store) -> None:
    shift = Shift(store)
    shift.tell(BEGAN_NS, "policy", what="policy_in_force", declared_stops_per_hour=1)
    assert len(shift.stops(2)) == 1
    shift.tell(BEGAN_NS, "policy", what="policy_in_force", declared_stops_per_hour=10)
    assert shift.stops(5, from_ns=BEGAN_NS + 10 * MINUTE, each_ns=MINUTE) == []


@pytest.mark.parametrize("limit", ["9999", -1, 1 << 50, None, [5], 3.5])
def test_limit_that_no_bundle_can_have_counts_as_the_default(store: Store, limit: object) -> None:
    shift = Shift(store)
    shift.tell(BEGAN_NS, "policy", what="policy_in_force", declared_stops_per_hour=limit)
    assert len(shift.stops(4)) == 1


def test_stops_of_one_device_count_for_no_other(store: Store) -> None:
    assert Shift(store, "cam-1").stops(3) == []
    assert Shift(store, "cam-2").stops(3) == []


def test_time_without_an_hour_before_it_raises_nothing(store: Store) -> None:
    shift = Shift(store)
    shift.tell(BEGAN_NS, "policy", what="policy_in_force", declared_stops_per_hour=0)
    assert shift.stops(1, from_ns=-62_135_596_800 * NS) == []  # 0001-01-01, the first that there is
    assert len(shift.stops(1)) == 1


def test_unsafe_policy_is_an_alarm_by_its_event_and_by_the_status(store: Store) -> None:
    found = Shift(store).tell(BEGAN_NS, "policy", what="policy_unsafe", version=0)
    assert [kind for kind, _ in found] == [UNSAFE_POLICY]
    assert list(status_alarms(status())) == []
    unsafe = Policy(name="UNSAFE-permit-everything", version=0, digest="0" * 64, unsafe=True)
    assert [kind for kind, _ in status_alarms(status(policy=unsafe))] == [UNSAFE_POLICY]


def test_card_that_was_put_back_is_an_alarm_of_its_own_kind(store: Store) -> None:
    shift = Shift(store)
    found = [shift.tell(BEGAN_NS, "tampered", what=what, at_us=1) for what in ("card_rolled_back", "card_replaced")]
    assert [kind for alarms in found for kind, _ in alarms] == ["card_rolled_back", "card_replaced"]
    assert "put back to an earlier state" in found[0][0][1]


def test_planted_and_older_policies_are_an_alarm_of_their_own_kind_and_good_ones_none(store: Store) -> None:
    shift = Shift(store)
    happened = ("policy_damaged", "policy_rolled_back", "policy_in_force", "policy_refused", "policy_built_in")
    found = [shift.tell(BEGAN_NS, "policy", what=what, version=2, policy="", why="") for what in happened]
    assert [kind for alarms in found for kind, _ in alarms] == ["policy_damaged", "policy_rolled_back"]


def test_end_of_a_problem_and_other_tampering_are_none(store: Store) -> None:
    shift = Shift(store)
    assert shift.tell(BEGAN_NS, "tampered", what="state_not_kept", at_us=1, ended=True) == []
    assert shift.tell(BEGAN_NS, "tampered", what="lens_covered", at_us=1) == []
    assert shift.tell(BEGAN_NS, "tampered", what=["card_replaced"], at_us=1) == []
