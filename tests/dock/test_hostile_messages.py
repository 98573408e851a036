"""Whatever comes to a dock service over the network, or lies on the card, it ends nothing and counts as nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.dock import service as dock_service
from agent.dock.config import BrokerSection, DockConfig, DockSection
from agent.dock.journal import parse
from agent.dock.messages import MAX_ATTESTATION, MAX_JSON, Event, decode
from agent.dock.mqtt import Received
from agent.dock.service import DockService
from agent.dock.session import Cursor, Session
from agent.encoding.strict_json import encode_json, sha256_hex
from agent.recorder.ipc import inbox
from tests.dock.test_session import TOPICS, line
from tests.station.test_hostile_messages import TEXTS, VALUES
from tests.support.stations import StandIn

ACK = {"v": 1, "station": "s", "ids": ["0" * 64], "seen": 1, "began": False}
LINE: dict[str, Any] = {
    "n": 1,
    "utc": "2026-11-22T23:40:00.123456Z",
    "clock": "ntp",
    "within_ms": 1,
    "mono_us": 1,
    "prev": "0" * 64,
    "entry": {"kind": "tampered", "what": "x", "at_us": 1},
}


class Rig:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StandIn, "name", "cam-1", raising=False)
        monkeypatch.setattr(dock_service, "Connection", StandIn)
        (folder / "run").mkdir()
        self.inbox = inbox.make_folder(folder / "run")
        (folder / "evidence").mkdir()
        section = DockSection(agency="city", device="cam-1", run="run", evidence="evidence", state="state")
        broker = BrokerSection(host="h", ca="c", certificate="c", key="k")
        self.said: list[str] = []
        self.service = DockService(DockConfig(dock=section, broker=broker), folder / "dock.toml", log=self.said.append)
        self.service._snapshot_ns = self.service._monotonic()
        self.service._snapshot = {"dock_contact": True}

    def hand(self, topic: str, payload: bytes) -> None:
        self.service._snapshot_ns = self.service._monotonic()
        self.service.connection.received.append(Received(topic, payload, retained=False))
        self.service.turn(0)

    def given(self) -> list[bytes]:
        """What was given to the recorder."""
        return [message for message in inbox.take(self.inbox) if message is not None]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([TOPICS.ack, TOPICS.dock, TOPICS.policy, TOPICS.agency_policy, TOPICS.event, "", "\x1b[2J"]),
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda name, value: json.dumps(ACK | {name: value}).encode("utf-8", "surrogatepass"),
            st.sampled_from(sorted(ACK)),
            VALUES,
        ),
        TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
)
def test_no_message_leaves_the_handler_as_an_error_or_moves_the_cursor(rig: Rig, topic: str, payload: bytes) -> None:
    rig.service._logged.clear()
    rig.hand(topic, payload)
    assert rig.service.session.cursor == Cursor()
    assert not [said for said in rig.said if "Error:" in said], rig.said
    assert all(said.isprintable() for said in rig.said)
    for message in rig.given():
        assert len(message) <= MAX_JSON or topic != TOPICS.dock


def test_unexpected_error_is_logged_and_the_next_message_is_handled(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.service.session, "acknowledge", lambda *_: 1 / 0)
    rig.hand(TOPICS.ack, json.dumps(ACK).encode())
    rig.hand(TOPICS.dock, b"a.b.c")
    assert any("ZeroDivisionError" in said for said in rig.said)
    assert rig.given() == [b"a.b.c"]


def test_attestation_beyond_its_bound_is_not_given_to_the_recorder(rig: Rig) -> None:
    rig.hand(TOPICS.dock, b"a" * (MAX_ATTESTATION + 1))
    rig.hand(TOPICS.dock, b"a" * MAX_ATTESTATION)
    assert rig.given() == [b"a" * MAX_ATTESTATION]
    assert any("at most 2048 bytes" in said for said in rig.said)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(LINE)), VALUES)
def test_line_on_a_card_is_told_as_an_event_that_a_station_takes_or_is_no_line(name: str, value: Any) -> None:
    try:
        raw = json.dumps(LINE | {name: value}).encode()
    except UnicodeEncodeError:
        return
    read = parse(raw)
    if read is None:
        return
    told = decode(read.event_payload("city", "cam-1"), Event)
    assert (told.id, told.data.line) == (sha256_hex(raw), read.n)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"kind": "tampered", "what": "\x7f" * 60_000}, id="large as an event"),
        pytest.param({"kind": "tampered", "what": nested(28)}, id="deep"),
        pytest.param({"kind": "tampered", "what": nested(29)}, id="deeper"),
    ],
)
def test_line_that_makes_no_event_is_told_by_its_kind_and_stops_no_other(entry: dict[str, Any]) -> None:
    raw = encode_json(LINE | {"entry": entry, "prev": "x" * 4000})
    read = parse(raw)
    assert read is not None
    told = decode(read.event_payload("city", "cam-1"), Event)
    assert told.data.entry in (entry, {"kind": "tampered", "left_out": True})
    session = Session(TOPICS, Cursor())
    session.connected("0" * 16, 0)
    session.add_lines([read, line(2)])
    assert session.unacknowledged == 2


def test_line_that_makes_no_event_exists() -> None:
    """Else the test above would show nothing."""
    read = parse(encode_json(LINE | {"entry": {"kind": "tampered", "what": nested(30)}}))
    assert read is not None
    assert decode(read.event_payload("city", "cam-1"), Event).data.entry == {"kind": "tampered", "left_out": True}


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2**53},
        {"n": -1},
        {"n": True},
        {"mono_us": 10**18},
        {"within_ms": -1},
        {"utc": "\x1b[2J"},
        {"utc": "2026-11-22T23:40:00.123456Z\n"},
        {"clock": "x" * 201},
        {"entry": {"kind": "Tampered\x1b"}},
        {"entry": {"kind": "x" * 57}},
        {"entry": {"kind": 1}},
        {"entry": {"kind": "x"} | {f"f{n}": n for n in range(64)}},
    ],
)
def test_line_with_a_value_that_no_recorder_writes_is_no_line(more: dict[str, Any]) -> None:
    assert parse(encode_json(LINE)) is not None
    assert parse(encode_json(LINE | more)) is None
