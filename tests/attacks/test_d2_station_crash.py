"""No value in a message of one camera ends the station, or keeps what another says from being kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.clock import WallReading
from agent.journal.format import CHECKPOINT_TYPE
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.trust.certificates import issue_boot
from tests.support.device import owner
from tests.support.stations import Rig, event, status

EXTREME: list[Any] = [
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    -1,
    -(2**63),
    -(10**30),
    1e308,
    True,
    None,
    "9",
    [],
    {},
    "x" * 70_000,
]


def checkpoint(**fields: Any) -> dict[str, Any]:
    """What a stolen camera can sign: anything, under its own certificates."""
    own, boot = owner(), KeySigner.generate()
    certificate = issue_boot(
        own.signer,
        agency=own.agency,
        device_id=own.device,
        boot=1,
        boot_id="k",
        key=boot.public_key,
        time=WallReading(0, "x", None),
        details_key=b"x",
    )
    payload = {"device": "cam-1", "boot": 1, "n": 1, "head": "0" * 64, "utc": "x", "clock": "x", "within_ms": None}
    return {
        "line": 1,
        "jws": jws.sign(boot, CHECKPOINT_TYPE, payload | {"mono_us": 1} | fields),
        "device_certificate": own.certificate.decode(),
        "boot_certificate": certificate,
    }


def signable(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@pytest.mark.parametrize("name", ["n", "boot", "head", "mono_us", "within_ms", "utc"])
def test_signed_checkpoint_with_extreme_values_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    for value in filter(signable, [*EXTREME, "\x1b[2Jh"]):
        rig.hand("status", status(contact=False, checkpoint=checkpoint(**{name: value})))
        rig.hand("event", event(7, "cam-2"), "cam-2")
        rig.station.turn(0)
        assert rig.stored("cam-2") == rig.acknowledged("cam-2")[-1:] == [f"{7:064x}"]
    seen = rig.store.newest_checkpoint("cam-1")
    assert seen is None or seen.line < 2**53
    assert set(rig.alarms()) <= {"malformed", "checkpoint_refused", "history_different", "history_shorter"}
    assert set(rig.alarms())


def test_unsigned_fields_with_extreme_values_are_refused_counted_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    refused = 0
    whole = {"status": json.loads(status()), "event": json.loads(event())}
    whole["state"] = {"state": "docked", "session": "0" * 16}
    for kind, message in whole.items():
        for path in [[name] for name in message] + [["data", name] for name in message.get("data", {})]:
            for value in EXTREME:
                bad = json.loads(json.dumps(message))
                at = bad
                for step in path[:-1]:
                    at = at[step]
                at[path[-1]] = value
                before = rig.station.refusals["cam-1"]
                rig.send(kind, json.dumps(bad).encode())
                refused += rig.station.refusals["cam-1"] > before
                rig.clocks.advance(60)
    assert refused > 300
    assert rig.alarms() == ["malformed"]
    rig.send("event", event(2))
    assert f"{2:064x}" in rig.acknowledged()
    assert 1 < len([line for line in rig.said if "was refused" in line]) < 20


def test_failure_that_nobody_foresaw_is_undone_alone_and_is_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    put_event = rig.store.put_event

    def fails_after_writing(device: str, *positional: Any, **named: Any) -> None:
        put_event(device, *positional, **named)
        if device == "cam-1":
            raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(rig.store, "put_event", fails_after_writing)
    rig.hand("event", event(1))
    rig.hand("event", event(2, "cam-2"), "cam-2")
    rig.station.turn(0)
    assert rig.stored("cam-1") == rig.acknowledged("cam-1") == []
    assert rig.store.usage("cam-1").stored == 0
    assert rig.alarms("cam-1") == ["message_failed"]
    assert rig.stored("cam-2") == rig.acknowledged("cam-2") == [f"{2:064x}"]
