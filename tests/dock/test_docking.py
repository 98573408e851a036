import time

import pytest

from agent.brokers import mosquitto
from agent.clock import NS, SystemClocks
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import Connection, Limits, Received
from agent.dock.session import RESEND_NS
from agent.dock.status import battery_pct
from agent.journal import entries
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy import bundle
from agent.power.status import PowerStatus
from agent.station.service import LIMITS
from tests.support.broker import AGENCY
from tests.support.docking import DEVICE, Docked
from tests.support.faults import happen


def test_contact_and_a_station_dock_the_device_and_what_happened_arrives(docked: Docked) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.until(lambda: docked.stored() == docked.told() and docked.row().state == "docked")
    row = docked.row()
    assert row.device == DEVICE
    assert row.alarms == 0
    assert row.mode == "standby"
    assert "dock_contact" in docked.kinds()
    assert not docked.device.entries(entries.Refused)


def test_undocking_says_so_and_ends_the_session_in_one_turn(docked: Docked) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.contact(closed=False)
    docked.turn()
    docked.turn()
    assert not docked.dock.connection.connected
    docked.until(lambda: docked.row().state == "undocked")


def test_farewell_is_not_what_is_dropped_of_a_transfer(docked: Docked) -> None:
    """More waits for the broker than it takes at once when the device leaves."""
    device, station = (
        Connection(docked.broker.client(name), topics, SystemClocks().monotonic_ns, lambda low, _high: low)
        for name, topics in ((DEVICE, ()), (mosquitto.STATION, [Topics(AGENCY, DEVICE).state]))
    )
    while not (device.connected and station.connected):
        for one in (device, station):
            one.turn(0.02, lambda: None)
    for number in range(8 * Limits().in_flight):
        device.publish(Publication(Topics(AGENCY, DEVICE).event, b"%d" % number))
    device.end([Publication(Topics(AGENCY, DEVICE).state, b"farewell")])
    for _ in range(20):
        station.turn(0.05, lambda: None)
    assert [message.payload for message in station.received] == [b"farewell"]
    station.end()


def test_station_that_listens_later_is_told_at_once(docked: Docked) -> None:
    """A broker says that it took what nobody heard. The station need not wait until the dock finds it silent."""
    docked.contact(closed=True)
    happen(docked, 1, 40)
    docked.until(lambda: docked.dock.connection.acknowledged >= 40)
    docked.start_station()
    begun = time.monotonic()
    docked.until(lambda: docked.stored() == docked.told() and docked.dock.session.unacknowledged == 0)
    docked.until(lambda: docked.device.recorder.status().docked)
    assert time.monotonic() - begun < RESEND_NS / NS / 2


def test_dock_that_came_back_before_its_station_is_not_told_late(docked: Docked) -> None:
    """Both lost their broker; the dock speaks first, into the void."""
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.broker.kill()
    docked.turn()
    assert docked.station is not None
    docked.station.connection._next_ns = 1 << 62
    docked.broker.start()
    happen(docked, 1, 20)
    taken = docked.dock.connection.acknowledged
    docked.until(lambda: docked.dock.connection.connected and docked.dock.connection.acknowledged >= taken + 20)
    docked.station.connection._next_ns = None
    begun = time.monotonic()
    docked.until(lambda: docked.stored() == docked.told() and docked.dock.session.unacknowledged == 0)
    assert time.monotonic() - begun < RESEND_NS / NS / 2


def test_no_message_of_a_flood_is_dropped_on_either_side(docked: Docked) -> None:
    """Thousands at once, as a station answers a shift change: more than the library queues or a turn takes."""
    names, many = ("cam-1", "cam-2"), 12 * Limits().at_once
    devices = [
        Connection(
            docked.broker.client(name), [Topics(AGENCY, name).ack], SystemClocks().monotonic_ns, lambda low, _: low
        )
        for name in names
    ]
    client = docked.broker.client(mosquitto.STATION)
    station = Connection(client, (), SystemClocks().monotonic_ns, lambda low, _: low, LIMITS)
    everybody = (*devices, station)
    while not all(one.connected for one in everybody):
        for one in everybody:
            one.turn(0.02, lambda: None)
    for number in range(many):
        station.publish(Publication(Topics(AGENCY, names[number % 2]).ack, b"%d" % number))
    came: set[int] = set()
    until = time.monotonic() + 20
    while len(came) < many and time.monotonic() < until:
        for one in everybody:
            one.turn(0.01, lambda: None)
            came |= {int(message.payload) for message in one.received}
            one.received.clear()
    for one in everybody:
        one.end()
    assert len(came) == many


@pytest.mark.parametrize(
    ("power", "told"),
    [
        ({"battery_percent": 71.6, "celsius": 48.5}, 72),
        ({"battery_percent": 104}, 100),
        ({"battery_percent": None}, None),
        ({"battery_percent": "full"}, None),
        ({"battery_percent": True}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_battery_is_passed_on_as_far_as_the_recorder_measures_it(power: object, told: int | None) -> None:
    assert battery_pct({"power": power}) == told
    assert battery_pct({}) is None


def test_undocked_device_is_silent(docked: Docked) -> None:
    docked.start_station()
    for _ in range(20):
        docked.turn()
    assert docked.broker.log.read_text().count(f"as {DEVICE}") == 0
    assert not docked.dock.connection.connected


def test_recorder_that_is_gone_is_not_docked(docked: Docked) -> None:
    now = [0]
    docked.dock._monotonic = lambda: now[0]
    docked.contact(closed=True)
    docked.turn()
    assert docked.dock.in_dock
    now[0] += 11 * 10**9
    assert not docked.dock.in_dock


def test_docking_ends_no_recording_and_refused_stop_is_told(docked: Docked) -> None:
    docked.device.run(6)
    docked.device.press("record", times=2)
    recording = docked.device.recording
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    docked.until(lambda: docked.stored() == docked.told())
    assert docked.device.recording == recording != ""
    assert "recording_started" in docked.kinds()
    assert docked.row().mode == "recording"


def test_lost_connection_is_said_by_the_will(docked: Docked) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.device.recorder.status().docked)
    client = docked.dock.connection._client
    assert client is not None
    line = client.socket()
    assert line is not None
    line.close()
    docked.dock.connection._client = None
    docked.dock.connection._next_ns = 1 << 62
    docked.until(lambda: docked.row().state == "lost")


def test_retained_bundle_of_the_agency_reaches_the_recorder_which_alone_judges_it(docked: Docked) -> None:
    token = jws.sign(KeySigner.generate(), bundle.TYP, {"version": 1})
    offered: list[str] = []
    docked.device.recorder.deliveries._offer_policy = offered.append
    publisher = Connection(
        docked.broker.client(mosquitto.PUBLISHER), (), SystemClocks().monotonic_ns, lambda low, _high: low
    )
    while not publisher.connected:
        publisher.turn(0.05, lambda: None)
    publisher.publish(Publication(Topics(AGENCY, DEVICE).agency_policy, token.encode(), retain=True))
    publisher.end([Publication(Topics(AGENCY, DEVICE).policy, b"nobody reads this before the docking")])
    docked.contact(closed=True)
    docked.until(lambda: offered == [token])
    assert not docked.device.entries(entries.Refused)


def test_message_on_a_topic_that_nobody_asked_for_does_not_reach_the_recorder(docked: Docked) -> None:
    docked.contact(closed=True)
    docked.until(lambda: docked.dock.connection.connected)
    for topic in (Topics(AGENCY, DEVICE).status, Topics(AGENCY, "cam-2").dock, f"bwc/v1/{AGENCY}/{DEVICE}/inbox/stop"):
        docked.dock.connection.received.append(Received(topic, b"x", retained=True))
    for _ in range(3):
        docked.turn()
    assert any("not subscribed to" in line for line in docked.said)
    assert not docked.device.entries(entries.Refused)


def test_custodian_sees_the_battery_that_the_recorder_measures_and_nothing_where_nobody_does(docked: Docked) -> None:
    docked.start_station()
    docked.contact(closed=True)
    docked.until(lambda: docked.row_known() and docked.row().state == "docked")
    assert docked.row().battery_pct is None
    docked.device.recorder.power = lambda: PowerStatus(battery_percent=41.7)
    docked.until(lambda: docked.row().battery_pct == 42)
