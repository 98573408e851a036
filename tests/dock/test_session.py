"""The conversation as a pure thing: what is said, when, and what a restart begins from."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.dock.journal import JournalEvent
from agent.dock.messages import Ack, SinceDock, Topics
from agent.dock.session import RESEND_NS, WINDOW, Cursor, Session
from tests.support.statuses import status

TOPICS = Topics("city", "cam-1")


def line(n: int, kind: str = "tampered", **more: Any) -> JournalEvent:
    fields = {"n": n, "utc": "2026-11-22T23:40:00.123456Z", "clock": "ntp", "within_ms": 1, "mono_us": n}
    return JournalEvent(n, f"{n:064x}", {**fields, "entry": {"kind": kind, **more}})


def ack(*numbers: int) -> Ack:
    return Ack(station="s", ids=[f"{n:064x}" for n in numbers])


def events(session: Session, now_ns: int = 0) -> list[int]:
    said = session.publications_due(status(), now_ns)
    return [json.loads(p.payload)["data"]["line"] for p in said if p.topic == TOPICS.event]


def begun(cursor: Cursor | None = None) -> Session:
    session = Session(TOPICS, cursor or Cursor())
    session.connected("0" * 16, 0)
    return session


def test_events_are_said_once_in_order_until_a_connection_is_made_anew() -> None:
    session = begun()
    session.add_lines([line(1), line(2, "checkpoint"), line(3)])
    assert events(session) == [1, 3]
    assert events(session) == []
    session.connected("1" * 16, 0)
    assert events(session) == [1, 3]


def test_cursor_moves_over_what_is_acknowledged_without_gaps() -> None:
    session = begun()
    session.add_lines([line(1), line(2), line(3)])
    assert not session.acknowledge(ack(2, 3), 0)
    assert session.cursor.line == 0
    assert session.acknowledge(ack(1), 0)
    assert session.cursor.line == 3


def test_silent_station_is_told_again_and_only_what_it_has_not_acknowledged() -> None:
    session = begun()
    session.add_lines([line(1), line(2)])
    assert events(session, 0) == [1, 2]
    session.acknowledge(ack(1), 1)
    assert events(session, RESEND_NS) == []
    assert events(session, RESEND_NS + 1) == [2]


def test_station_that_has_just_begun_to_listen_is_told_again_at_once_what_it_has_not() -> None:
    session = begun()
    session.add_lines([line(1), line(2), line(3)])
    assert events(session) == [1, 2, 3]
    assert events(session) == []
    session.acknowledge(Ack(station="s", ids=[f"{2:064x}"], began=True), 0)
    said = session.publications_due(status(), 0)
    assert [json.loads(p.payload)["data"]["line"] for p in said if p.topic == TOPICS.event] == [1, 3]
    assert sum(p.topic == TOPICS.status for p in said) == 1


def test_answer_of_a_station_that_had_listened_all_along_makes_nothing_be_said_again() -> None:
    session = begun()
    session.add_lines([line(1), line(2)])
    assert events(session) == [1, 2]
    session.acknowledge(Ack(station="s", ids=[f"{1:064x}"]), 0)
    session.acknowledge(Ack(station="s", ids=[]), 0)
    assert [p.topic for p in session.publications_due(status(), 0)] == []


def told_again_s(session: Session, seconds: range) -> list[int]:
    """At which seconds something is said again."""
    return [second for second in seconds if events(session, second * NS)]


def test_station_that_stays_silent_is_told_again_ever_more_seldom_until_it_is_heard() -> None:
    session = begun()
    session.add_lines([line(1), line(2)])
    assert told_again_s(session, range(400)) == [0, 10, 30, 70, 150, 230, 310, 390]
    session.acknowledge(ack(1), 400 * NS)
    assert told_again_s(session, range(400, 435)) == [410, 430]
    session.connected("1" * 16, 435 * NS)
    assert told_again_s(session, range(435, 470)) == [435, 445, 465]


def test_acknowledgement_of_what_was_never_said_is_nothing() -> None:
    session = begun()
    session.add_lines([line(5)])
    assert not session.acknowledge(ack(9, 4), 0)
    assert session.unacknowledged == 1


def test_window_bounds_what_waits() -> None:
    session = begun()
    session.add_lines([line(n) for n in range(1, WINDOW + 1)])
    assert session.capacity == 0
    session.acknowledge(ack(1), 0)
    assert session.capacity == 1


def test_status_is_coalesced_but_not_what_somebody_waits_for() -> None:
    session = begun()

    def statuses(now_ns: int, **changes: object) -> int:
        return sum(p.topic == TOPICS.status for p in session.publications_due(status(**changes), now_ns))

    assert statuses(0) == 1
    assert statuses(2 * NS, uptime_s=2) == 0
    assert statuses(2 * NS, nonce="B" * 22) == 1
    assert statuses(2 * NS + 1, nonce="C" * 22) == 0
    assert statuses(3 * NS, nonce="C" * 22) == 1
    assert statuses(17 * NS, nonce="C" * 22) == 0
    assert statuses(18 * NS, nonce="C" * 22) == 1


def test_states_are_said_when_they_change_and_on_leaving() -> None:
    session = begun()

    def states(docked: bool) -> list[str]:
        said = session.publications_due(status(docked=docked), 0)
        return [json.loads(p.payload)["state"] for p in said if p.topic == TOPICS.state]

    assert [states(docked) for docked in (False, True, True, False)] == [[], ["docked"], [], ["undocked"]]
    assert [json.loads(p.payload)["state"] for p in session.farewell()] == ["undocked"]


def test_grants_on_the_wearers_word_pauses_and_mutes_are_counted_until_the_docking_is_over() -> None:
    session = begun()
    granted: dict[str, Any] = {"allowed": True, "declared_only": True}
    session.add_lines([line(1, "decided", **granted), line(2, "withheld", kinds=["audio", "video"])])
    session.add_lines(
        [line(3, "withheld", kinds=["audio"]), line(4, "decided", **granted), line(5, "withheld", kinds="")]
    )
    assert session.since_dock == SinceDock(refused=0, tampered=0, declared_only=2, pauses=1, mutes=2)
    session.acknowledge(ack(1, 2), 0)
    assert (session.cursor.declared_only, session.cursor.pauses, session.cursor.mutes) == (1, 1, 0)
    assert session.since_dock == SinceDock(refused=0, tampered=0, declared_only=2, pauses=1, mutes=2)
    session.acknowledge(ack(3, 4, 5), 0)
    session.farewell()
    assert session.since_dock == SinceDock(refused=0, tampered=0)


def test_refusals_and_tampering_are_counted_until_the_docking_is_over() -> None:
    session = begun()
    session.add_lines([line(1, "decided", allowed=False), line(2, "decided", allowed=True), line(3)])
    assert (session.since_dock.refused, session.since_dock.tampered) == (1, 1)
    session.acknowledge(ack(1, 2, 3), 0)
    assert (session.cursor.refused, session.cursor.tampered) == (1, 1)
    session.farewell()
    assert (session.since_dock.refused, session.since_dock.tampered) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["line", "say", "ack", "drop", "restart"]), max_size=60), st.randoms())
def test_nothing_is_ever_passed_over_that_no_station_has(steps: list[str], dice: Any) -> None:
    """Whatever the order of losses, restarts and acknowledgements: the cursor is never beyond what was stored."""
    session, made, said, stored = begun(), 0, set[int](), set[int]()
    for step in steps:
        match step:
            case "line" if session.capacity:
                made += 1
                session.add_lines([line(made)])
            case "say":
                said |= set(events(session))
            case "ack":
                had = {n for n in said if dice.random() < 0.5}
                stored |= had
                session.acknowledge(ack(*had), 0)
            case "drop":
                session.connected("2" * 16, 0)
            case "restart":
                session = begun(session.cursor)
                session.add_lines([line(n) for n in range(session.cursor.line + 1, made + 1)])
        assert set(range(1, session.cursor.line + 1)) <= stored
    session.connected("3" * 16, 0)
    said |= set(events(session))
    assert set(range(1, made + 1)) <= said | stored
