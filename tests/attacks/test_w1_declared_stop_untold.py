"""A wearer's standing way out: say that it is over, and stop, as often as wanted, with no station the wiser."""

from pathlib import Path
from typing import TypeVar

from agent.core.inputs.lines import Edge
from agent.dock.journal import JournalEvent, parse
from agent.dock.messages import Event, encode
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import split_lines
from agent.station.review import DECLARED_STOPS, event_alarms
from agent.station.store import Store
from tests.support.clocks import FakeClocks
from tests.support.device import Device
from tests.support.shifts import publish_bundle, signed_policy
from tests.support.storage import MemoryStorage

STOPS = 5
_E = TypeVar("_E", bound=entries.Entry)


def device_on_patrol() -> Device:
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, "us-mo-kcpd", 1)
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(3)
    device._edge("siren", active=True)
    device.run(1)
    assert device.recording
    device.run(31)  # the hold time after the rising edge is over; the siren goes on
    return device


def claims_that_it_is_over(device: Device) -> None:
    """As the script did it: declare, ask for a pause, ask for a stop."""
    if not device.recording:
        device.press("record", times=2)
    device.press("mark", times=2)
    device.press("mark", hold_s=2.2)
    device.run(2)
    device.press("record", hold_s=3.2)
    device.run(3)


def of_kind(device: Device, kind: type[_E], boot: int = 1) -> list[_E]:
    return [entry for entry in device.entries(boot=boot) if isinstance(entry, kind)]


def told(device: Device) -> list[JournalEvent]:
    raw, _ = split_lines(device.storage.read(layout.journal(1), limit=1 << 26))
    return [line for line in map(parse, raw) if line is not None and line.reported]


def kept(store: Store, lines: list[JournalEvent]) -> list[tuple[str, str]]:
    """What a station makes of these lines."""
    alarms = []
    for line in lines:
        event: Event = line.event("city", "cam-1")
        with store.transaction():
            store.put_event(
                "cam-1",
                event.id,
                line.n,
                kind=event.type,
                time=event.time,
                received=event.time,
                text=encode(event).decode(),
            )
            alarms += list(event_alarms(store, "cam-1", event))
    return alarms


def test_w1_declared_stop_untold_is_refused_while_the_siren_is_on() -> None:
    device = device_on_patrol()
    recording = device.recording
    for _ in range(STOPS):
        claims_that_it_is_over(device)
    assert device.recording == recording
    assert of_kind(device, entries.RecordingEnded) == []
    assert of_kind(device, entries.Withheld) == []
    decided = of_kind(device, entries.Decided)
    assert len(decided) == 2 * STOPS
    assert not any(entry.allowed for entry in decided)
    assert (device.recorder.status().refused, device.recorder.status().declared_only) == (2 * STOPS, 0)


def test_w1_declared_stop_untold_is_told_flagged_counted_and_an_alarm_once_the_siren_is_off(tmp_path: Path) -> None:
    device = device_on_patrol()
    device._edge("siren", active=False)
    device.run(1)
    assert [(entry.name, entry.raised) for entry in of_kind(device, entries.TriggerLevel)] == [
        ("siren", True),
        ("siren", False),
    ]
    for _ in range(STOPS):
        claims_that_it_is_over(device)
    ended = of_kind(device, entries.RecordingEnded)
    assert [entry.declared_only for entry in ended] == [True] * STOPS
    granted = [entry for entry in of_kind(device, entries.Decided) if entry.allowed]
    assert all(entry.declared_only and entry.review for entry in granted)
    assert {entry.action for entry in granted} == {"StopRecording", "PrivacyPause"}
    status = device.recorder.status()
    assert (status.declared_only, status.pauses, status.mutes) == (len(granted), STOPS, 0)
    lines = told(device)
    kinds = [line.kind for line in lines]
    assert kinds.count("withheld") == kinds.count("released") == STOPS
    assert kinds.count("decided") == len(of_kind(device, entries.Decided))
    with Store(tmp_path / "station.sqlite") as store:
        alarms = kept(store, lines)
    assert [kind for kind, _ in alarms] == [DECLARED_STOPS] * (STOPS - 3)
    assert "4 recordings ended on the wearer's word alone" in alarms[0][1]
    assert "the policy allows 3" in alarms[0][1]


def test_w1_siren_that_was_on_before_the_recorder_began_counts_as_raised() -> None:
    device = device_on_patrol()
    device.boot()
    device.recorder.control.turn(Edge("siren", active=True, at_ns=device.clocks.now_ns, initial=True))
    device.settle()
    assert of_kind(device, entries.TriggerLevel, boot=2) == [
        entries.TriggerLevel("siren", raised=True, at_us=device.clocks.now_ns // 1000)
    ]
    claims_that_it_is_over(device)
    assert not any(entry.allowed for entry in of_kind(device, entries.Decided, boot=2))
