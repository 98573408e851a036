"""Whatever comes on a topic, the station's handler ends nothing, and acknowledges only what it has on storage."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.dock.messages import MAX_ACKS, MAX_JSON
from agent.encoding.strict_json import MAX_DEPTH
from tests.support.stations import FULL, Rig, event, status

NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), -(10**30)])
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=40),
    st.sampled_from(["", "\x1b[2J", "\u202e", "\ud800", "x" * 201, "A" * 70_000, "2026-99-99T99:99:99.999999Z", "\n"]),
)
FLOATS = st.sampled_from([0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan")])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, FLOATS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
KINDS = ["state", "status", "event", "inbox/ack", "", "\x1b[2J"]
DEVICES = st.sampled_from(["cam-1", "cam-2", "", "a" * 65, "\x1b", "cam 1", "..", "cam-1\n"])


def paths(message: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """To every value in a message."""
    for key, value in message.items():
        yield (*at, key)
        if isinstance(value, dict):
            yield from paths(value, (*at, key))


WHOLE: dict[str, Any] = {
    "status": FULL
    | {
        "checkpoint": {"line": 1, "jws": "a.b.c", "device_certificate": "a.b.c", "boot_certificate": "a.b.c"},
        "self_test": {"passed": ["a"], "failed": []},
        "confirms": [{"line": 1, "hash": None}],
    },
    "event": json.loads(event(what="x", facts={"a": 1})),
    "state": {"v": 1, "state": "docked", "session": "0" * 16},
}


@st.composite
def nearly_valid(draw: st.DrawFn) -> tuple[str, bytes]:
    """A message of a kind with some of its values exchanged, left out or added."""
    kind = draw(st.sampled_from(sorted(WHOLE)))
    message = json.loads(json.dumps(WHOLE[kind]))
    for path in draw(st.lists(st.sampled_from(sorted(paths(WHOLE[kind]), key=str)), min_size=1, max_size=3)):
        at = message
        for step in path[:-1]:
            at = at.get(step) if isinstance(at, dict) else None
            if at is None:
                break
        if not isinstance(at, dict):
            continue
        if draw(st.integers(0, 5)):
            at[path[-1]] = draw(VALUES)
        else:
            at.pop(path[-1], None)
    return kind, json.dumps(message).encode("utf-8", "surrogatepass")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def holds(rig: Rig) -> None:
    """Never an acknowledgement without what it acknowledges, for that very device; never a mistake of ours."""
    for said in rig.connection.published:
        device = said.topic.split("/")[3]
        if said.topic.endswith("/inbox/ack"):
            ids = json.loads(said.payload)["ids"]
            assert len(ids) <= MAX_ACKS
            assert set(ids) <= set(rig.stored(device))
    rig.connection.published.clear()
    assert not [kind for row in rig.store.devices() for kind in rig.alarms(row.device) if kind == "message_failed"]


SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(
    st.lists(
        st.tuples(DEVICES, st.one_of(nearly_valid(), st.tuples(st.sampled_from(KINDS), st.binary(max_size=200)))),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_no_message_leaves_the_handler_as_an_error_and_none_is_acknowledged_without_being_kept(
    rig: Rig, messages: list[tuple[str, tuple[str, bytes]]], retained: bool
) -> None:
    for device, (kind, payload) in messages:
        rig.hand(kind, payload, device, retained=retained)
    rig.hand("event", event(1, "honest"), "honest")
    rig.station.turn(0)
    assert rig.acknowledged("honest") == [f"{1:064x}"]
    holds(rig)
    rig.clocks.advance(60)


def deep(levels: int) -> bytes:
    return event(1, x=0).replace(b'"x": 0', b'"x": ' + b"[" * levels + b"]" * levels)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(deep(MAX_DEPTH), id="deep"),
        pytest.param(deep(20_000), id="very deep"),
        pytest.param(b'{"a":' * 9000 + b"1" + b"}" * 9000, id="deep objects"),
        pytest.param(event(1, x="\x00" * 1000).replace(b"\\u0000", b"\x00"), id="raw zeros"),
        pytest.param(event(1, x=1).replace(b'"x": 1', b'"x": ' + b"9" * 5000), id="number of 5,000 digits"),
        pytest.param(event(1, x=1).replace(b'"x": 1', b'"x": 1e999'), id="infinite"),
        pytest.param(event(1, x=1).replace(b'"x": 1', b'"x": NaN'), id="no number"),
        pytest.param(event(1, x=1).replace(b'"x": 1', b'"x": "\\ud800"'), id="half of a pair"),
        pytest.param(event(1, x=1).replace(b'"x": 1', b'"x": 1, "x": 2'), id="one name twice"),
        pytest.param(event(1, **dict[str, Any]({f"x{n}": n for n in range(64)})), id="many fields"),
        pytest.param(event(1, **dict[str, Any]({"x" * 65: 1})), id="long name"),
        pytest.param(event(1, x="A" * MAX_JSON), id="large"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"", id="empty"),
    ],
)
def test_event_beyond_a_bound_is_refused_alone(rig: Rig, payload: bytes) -> None:
    rig.hand("event", payload)
    rig.hand("event", event(2))
    rig.station.turn(0)
    assert rig.stored() == rig.acknowledged() == [f"{2:064x}"]
    assert rig.alarms() == ["malformed"]
    assert rig.station.refusals["cam-1"] == 1


def test_event_within_the_bounds_is_kept(rig: Rig) -> None:
    fits = event(1, x="A" * (MAX_JSON - len(event(1, x=""))))
    assert len(fits) == MAX_JSON
    rig.send("event", fits)
    rig.send("event", deep(MAX_DEPTH - 3).replace(f"{1:064x}".encode(), f"{2:064x}".encode()))
    assert rig.stored() == rig.acknowledged() == [f"{1:064x}", f"{2:064x}"]


def test_status_that_an_earlier_version_kept_hides_no_other_device(rig: Rig) -> None:
    from agent.station.fleet import rows

    with rig.store.transaction():
        rig.store.put_status("cam-1", "0" * 16, '{"of": "another version"}', "2026-01-01T00:00:00.000000Z", live=True)
    rig.send("status", status(device="cam-2"), "cam-2")
    found = {row.device: row.mode for row in rows(rig.store)}
    assert found == {"cam-1": None, "cam-2": "standby"}


def test_answer_that_fails_for_one_device_is_given_to_the_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rig.store.newest_checkpoint

    def fails(device: str) -> object:
        if device == "cam-1":
            raise ZeroDivisionError("nobody thought of this")
        return seen(device)

    monkeypatch.setattr(rig.store, "newest_checkpoint", fails)
    for device in ("cam-1", "cam-2", "cam-3"):
        rig.hand("event", event(1, device), device)
    rig.station.turn(0)
    assert rig.acknowledged("cam-1") == []
    assert rig.acknowledged("cam-2") == rig.acknowledged("cam-3") == [f"{1:064x}"]
    assert any("cam-1 was not sent: ZeroDivisionError" in line for line in rig.said)
