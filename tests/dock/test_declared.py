"""Stops on the wearer's word alone, and a policy that permits everything, from the button to the station's alarm."""

import json
from pathlib import Path

from agent.decisions.unsafe import UnsafePermitEverything
from agent.station.review import DECLARED_STOPS, UNSAFE_POLICY
from tests.dock.test_publishing import Desk
from tests.support.docking import DEVICE, Docked


def stop(docked: Docked) -> None:
    """As a wearer ends an encounter: a recording, the conclusion declared, a stop asked for."""
    device = docked.device
    device.press("record", times=2)
    assert device.recording
    device.press("mark", times=2)
    device.press("record", hold_s=3.2)
    device.run(6)
    assert not device.recording


def told(docked: Docked, kind: str) -> list[dict[str, object]]:
    assert docked.store is not None
    events = [json.loads(text) for _, text in docked.store.newest_events(DEVICE)]
    return [event["data"]["entry"] for event in events if event["type"] == f"bwc.v1.{kind}"]


def test_fourth_stop_within_an_hour_on_the_wearers_word_is_an_alarm_at_the_next_docking(tmp_path: Path) -> None:
    docked = Desk(tmp_path).docked
    try:
        docked.device.run(6)
        for _ in range(3):
            stop(docked)
        docked.start_station()
        docked.contact(closed=True)
        docked.until(lambda: docked.row_known() and docked.stored() == docked.told())
        docked.until(lambda: not docked.dock.session.unacknowledged)
        assert docked.alarms() == []
        docked.contact(closed=False)
        docked.until(lambda: docked.row().state == "undocked")
        stop(docked)
        docked.contact(closed=True)
        docked.until(lambda: docked.stored() == docked.told() and DECLARED_STOPS in docked.alarms())
        row = docked.row()
        assert (row.declared_only, row.pauses, row.mutes, row.refused) == (1, 0, 0, 0)
        granted = [entry for entry in told(docked, "decided") if entry["allowed"]]
        assert [(entry["action"], entry["declared_only"], entry["review"]) for entry in granted] == [
            ("StopRecording", True, True)
        ] * 4
        assert [entry["declared_only"] for entry in told(docked, "recording_ended")] == [True] * 4
        assert any(f"ALARM {DEVICE}: 4 recordings ended" in said for said in docked.station_said)
    finally:
        docked.end()


def test_camera_that_permits_everything_is_an_alarm_and_is_shown_as_unsafe(tmp_path: Path) -> None:
    docked = Docked(tmp_path, policy=UnsafePermitEverything())
    try:
        docked.broker.start()
        docked.start_station()
        docked.contact(closed=True)
        docked.until(lambda: docked.row_known() and docked.row().policy_unsafe is True)
        docked.until(lambda: docked.stored() == docked.told())
        assert docked.alarms() == [UNSAFE_POLICY]
        assert docked.row().policy == "UNSAFE-permit-everything"
        assert [entry["what"] for entry in told(docked, "policy")] == ["policy_unsafe"]
    finally:
        docked.end()
