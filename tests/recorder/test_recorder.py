import errno
import os

import pytest
from msgspec.structs import replace

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.core.recording.events import (
    Action,
    ActionRequested,
    Attested,
    Cause,
    Classified,
    Declared,
    DockContact,
    KeySwitched,
    PowerFailing,
    StartRequested,
    TerminationRequested,
)
from agent.core.recording.requests import facts
from agent.core.recording.state import Mode
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.errors import EvidenceError
from agent.evidence import layout
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Opening, manifest, opening
from agent.journal import entries
from agent.keys import files, jws
from agent.media.packet import Kind
from agent.policy.request import Authorization
from agent.recorder.health import self_test
from agent.trust.authorization import issue
from agent.verify.findings import Verdict
from agent.verify.verifier import verify
from tests.support.device import Device, GrantsAll, agency, trust
from tests.support.storage import MemoryStorage, failing


def recordings(device: Device) -> list[str]:
    return device.storage.names(layout.RECORDINGS)


def test_double_press_starts_with_the_pre_event_seconds_and_a_hold_asks_to_stop() -> None:
    device = Device()
    device.run(10)
    device.press("record", times=2)
    assert device.recording
    started = device.entries(entries.RecordingStarted)
    assert len(started) == 1
    assert isinstance(started[0], entries.RecordingStarted)
    assert started[0].pre_event_kept_ms >= 5000
    device.run(5)
    device.press("record", hold_s=3.2)
    assert not device.recording
    kinds = [type(entry) for entry in device.entries() if not isinstance(entry, entries.Checkpoint)]
    assert kinds.index(entries.Requested) < kinds.index(entries.Decided) < kinds.index(entries.RecordingEnded)
    assert Signal.STARTED in device.signals.shown
    assert Signal.GRANTED in device.signals.shown
    assert device.signals.lights is Background.STANDBY


def test_details_of_journal_lines_stay_in_memory_only_where_the_pins_are_simulated() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    assert device.recording
    assert device.recorder.effects.recent.after(0) == {"n": 0, "entries": []}


def test_grant_is_carried_out_only_once_its_journal_line_is_on_storage() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"sync", "write"}, errno.EIO, only="journal")
    device.press("record", hold_s=3.2)
    device.run(3)
    assert device.recording
    storage.fault = failing(set(), 0)
    device.run(1)
    assert not device.recording


def test_start_acts_first_even_if_storage_refuses() -> None:
    device = Device()
    device.run(6)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"sync", "write", "create", "publish", "read"}, errno.EIO)
    device.press("record", times=2)
    assert device.recording
    device.run(5)
    storage.fault = failing(set(), 0)
    device.run(5)
    assert recordings(device) == [device.recording]
    kinds = {type(entry) for entry in device.entries()}
    assert {entries.StorageFailed, entries.StorageBack, entries.RecordingStarted} <= kinds


def test_recording_begun_before_storage_could_be_read_is_written_when_it_can() -> None:
    storage = MemoryStorage()
    storage.fault = failing({"sync", "write", "create", "publish", "read"}, errno.EIO)
    device = Device(storage=storage)
    device.run(2)
    device.press("record", times=2)
    device.run(2)
    assert device.recording
    storage.fault = failing(set(), 0)
    device.run(2)
    assert recordings(device) == [device.recording]
    assert device.entries(entries.RecordingStarted)


def test_recording_continues_after_a_power_cut_in_the_same_recording() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.run(4)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.cut_power()
    device.clocks.advance(30)
    device.boot()
    device.run(3)
    assert device.recording == running
    recovered = device.entries(entries.SegmentRecovered, boot=2)
    assert len(recovered) == 1
    boot = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(boot, entries.Boot)
    assert boot.interrupted == running
    assert boot.dark_ms is not None
    assert 29_000 < boot.dark_ms < 31_500
    assert boot.dark_basis == "same_kernel"
    device.press("record", hold_s=3.2)
    assert not device.recording
    assert recordings(device) == [running]
    names = device.storage.names(layout.recording(running))
    assert "0002.manifest.jws" in names
    assert "boot-00000002.jws" in names


def test_downtime_without_a_trusted_clock_is_reported_to_be_unknown() -> None:
    device = Device()
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    device.run(2)
    device.clocks.now_ns = 0
    device.kernel_boot_id = "kernel-2"
    device.boot()
    boot = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(boot, entries.Boot)
    assert (boot.dark_ms, boot.dark_basis) == (None, "unknown")


def test_clock_set_back_never_takes_the_journal_below_its_last_time() -> None:
    device = Device()
    device.run(2)
    device.clocks.utc_offset_ns -= 3600 * NS
    device.run(1)
    device.press("record", times=2)
    times = [line.wall.utc_ns for line in device.lines()]
    assert times == sorted(times)
    assert device.lines()[-1].wall.source == "held"


def test_sigterm_while_recording_saves_reports_it_and_comes_back_recording() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.run(3)
    device.recorder.control.handle(TerminationRequested(device.clocks.now_ns))
    assert device.ended
    device.recorder.close()
    assert device.entries(entries.Interrupted)
    assert isinstance(device.entries()[-2], entries.ShutDown)
    device.clocks.advance(5)
    device.boot()
    assert device.recording == running


def test_critical_battery_closes_the_recording_in_order_and_it_continues_once_power_is_back() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.run(3)
    device.recorder.control.handle(PowerFailing(device.clocks.now_ns, "3 %"))
    assert device.ended
    device.recorder.close()
    said = [type(entry) for entry in device.entries() if not isinstance(entry, entries.Checkpoint)]
    assert said[-4:] == [entries.PowerFailing, entries.Interrupted, entries.SegmentClosed, entries.ShutDown]
    assert not device.entries(entries.RecordingEnded)
    (closed,) = device.entries(entries.SegmentClosed)
    assert isinstance(closed, entries.SegmentClosed)
    assert (closed.ended, closed.final) == ("interrupted", False)
    device.clocks.advance(3600)
    device.boot()
    assert device.recording == running


def test_sigterm_in_standby_ends_cleanly_and_comes_back_in_standby() -> None:
    device = Device()
    device.run(3)
    device.recorder.control.handle(TerminationRequested(device.clocks.now_ns))
    device.recorder.close()
    assert not device.entries(entries.Interrupted)
    device.boot()
    assert not device.recording


def test_power_cut_between_the_grant_and_the_last_manifest_keeps_the_recording_ended() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.run(2)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"publish"}, errno.EIO, only="manifest")
    device.press("record", hold_s=3.2)
    assert not device.recording
    storage.cut_power()
    storage.fault = failing(set(), 0)
    device.boot()
    device.run(1)
    assert not device.recording
    assert "0001.manifest.jws" in storage.names(layout.recording(running))


def test_torn_journal_line_is_left_as_it_is_and_named_by_the_next_boot() -> None:
    device = Device()
    device.run(2)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    torn = b'{"n":99,"ut'
    file = storage.files[layout.journal(1)]
    file.data += torn
    file.durable = bytes(file.data)
    device.boot()
    boot = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(boot, entries.Boot)
    assert boot.torn_bytes == len(torn)
    assert storage.read(layout.journal(1)).endswith(torn)


def test_trigger_starts_a_recording() -> None:
    device = Device()
    device.run(6)
    device.raise_trigger()
    assert device.recording
    started = device.entries(entries.RecordingStarted)[0]
    assert isinstance(started, entries.RecordingStarted)
    assert started.cause == "trigger"


def test_short_press_marks_while_recording_and_nothing_in_standby() -> None:
    device = Device()
    device.run(3)
    device.press("mark")
    assert not device.entries(entries.Marked)
    device.press("record", times=2)
    device.press("mark")
    assert len(device.entries(entries.Marked)) == 1


def test_start_while_recording_changes_nothing() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.recorder.control.handle(StartRequested(device.clocks.now_ns, Cause.SOCKET))
    assert device.recording == running
    assert len(device.entries(entries.RecordingStarted)) == 1


def test_error_in_an_effect_is_journalled_and_the_loop_continues() -> None:
    device = Device()

    def broken(_signal: Signal, _now_ns: int) -> None:
        raise RuntimeError("a light is broken")

    device.signals.show = broken  # type: ignore[method-assign, assignment]
    device.run(6)
    device.press("record", times=2)
    device.run(1)
    assert device.recording
    assert any(isinstance(e, entries.Refused) and "light is broken" in e.why for e in device.entries())


def test_status_tells_what_is_going_on() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    status = device.recorder.status()
    assert status.mode == "recording"
    assert status.recording == device.recording
    assert status.tracks[Kind.VIDEO].codec == "h264"
    assert status.memory_bytes > 0
    assert status.time_left_s is not None


def mode(device: Device) -> Mode:
    return device.recorder.control.state.mode


def opening_of(device: Device, recording: str, segment: int) -> Opening:
    token = device.storage.read(layout.opening(recording, segment)).decode()
    return opening(jws.unverified_payload(token, OPENING_TYPE))


def test_restricted_recording_is_sealed_to_fewer_recipients_from_the_next_picture_on_and_after_a_power_cut() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.recorder.control.handle(Classified(device.clocks.now_ns, "restricted"))
    device.run(3)
    default, restricted = (trust().set_id(name) for name in ("default", "restricted"))
    assert opening_of(device, running, 1).recipients == default
    assert opening_of(device, running, 2).recipients == restricted
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running
    assert opening_of(device, running, 3).recipients == restricted
    assert b"restricted" not in storage.read(layout.journal(1), limit=1 << 24)


def test_declared_minor_restricts_the_recording() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.recorder.control.handle(Declared(device.clocks.now_ns, {"person_class": frozenset({"minor"})}))
    device.run(3)
    assert opening_of(device, device.recording, 2).recipients == trust().set_id("restricted")


def test_suppressed_picture_is_not_in_evidence_and_its_span_is_in_the_manifest() -> None:
    device = Device(policy=GrantsAll(PolicySettings(Limits(post_roll_s=0, pause_s=4))))
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.recorder.control.handle(ActionRequested(device.clocks.now_ns, Action.PRIVACY_PAUSE))
    device.settle()
    began = device.clocks.now_ns
    assert mode(device) is Mode.PRIVACY
    device.run(6)
    assert mode(device) is Mode.RECORDING
    device.press("record", hold_s=3.2)
    token = device.storage.read(layout.manifest(running, 1)).decode()
    statement = manifest(jws.unverified_payload(token, MANIFEST_TYPE))
    assert {span.kind for span in statement.withheld} == {Kind.VIDEO, Kind.AUDIO}
    for span in statement.withheld:
        assert abs(span.from_us * 1000 - began) < NS // 10
        assert span.to_us is not None
        assert abs(span.to_us * 1000 - began - 4 * NS) < NS // 2
    assert {gap.kind for gap in statement.gaps} == {Kind.VIDEO, Kind.AUDIO}


def test_dock_contact_without_an_attestation_is_journalled_and_permits_nothing() -> None:
    device = Device()
    device.run(2)
    device.recorder.control.handle(DockContact(device.clocks.now_ns, closed=True))
    device.settle()
    assert device.entries(entries.DockContact)
    assert (
        facts(device.recorder.control.state, device.clocks.now_ns, Action.STOP_RECORDING)["dock_state"].value
        == "undocked"
    )


def test_docked_is_contact_and_attestation_and_ends_by_itself() -> None:
    device = Device()
    device.run(2)
    control = device.recorder.control

    def dock_state() -> object:
        return facts(control.state, device.clocks.now_ns, Action.POWER_OFF)["dock_state"].value

    control.handle(Attested(device.clocks.now_ns, device.clocks.now_ns + 60 * NS, "station-1"))
    assert dock_state() == "undocked"
    control.handle(DockContact(device.clocks.now_ns, closed=True))
    assert dock_state() == "undocked"
    control.handle(Attested(device.clocks.now_ns, device.clocks.now_ns + 60 * NS, "station-1"))
    assert dock_state() == "docked"
    device.press("record", times=2)
    assert device.recording
    device.clocks.advance(61)
    control.turn()
    assert dock_state() == "undocked"
    control.handle(Attested(device.clocks.now_ns, device.clocks.now_ns + 60 * NS, "station-1"))
    control.handle(DockContact(device.clocks.now_ns, closed=False))
    assert dock_state() == "undocked"
    device.settle()
    told = [entry.docked for entry in device.entries(entries.Docked) if isinstance(entry, entries.Docked)]
    assert told == [True, False, True, False]
    assert any(isinstance(e, entries.Refused) and e.what == "attestation" for e in device.entries())
    assert device.recording


def test_key_switch_stands_for_presence_and_never_counts_as_signed() -> None:
    device = Device()
    device.recorder.control.handle(KeySwitched(device.clocks.now_ns, on=True))
    given = facts(device.recorder.control.state, device.clocks.now_ns, Action.STOP_RECORDING)["authorization"].value
    assert given == Authorization("supervisor_onscene", "officer", signed=False, expires_in_s=60)


def leave(device: Device, *, recording: str = "", action: str = "StopRecording") -> str:
    """A supervisor's signed leave for the running recording."""
    return issue(
        files.load_signer(f"file:{agency().supervisor}"),
        agency="city",
        device="cam-1",
        recording=recording or device.recording,
        action=action,
        authority="supervisor_onscene",
        rank="sergeant",
        authoriser="Sgt. Example",
        now_ns=device.clocks.wall().utc_ns,
        valid_s=120,
        random_bytes=os.urandom,
    )


def test_supervisors_authorisation_is_used_once_counts_for_its_action_and_names_nobody_in_clear() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    token = leave(device)
    assert device.recorder.authorize(token) == "StopRecording"
    device.settle()
    state, now = device.recorder.control.state, device.clocks.now_ns
    given = facts(state, now, Action.STOP_RECORDING)["authorization"].value
    assert isinstance(given, Authorization)
    assert (given.type, given.rank, given.signed) == ("supervisor_onscene", "sergeant", True)
    assert facts(state, now, Action.POWER_OFF)["authorization"].value == Authorization()
    with pytest.raises(EvidenceError):
        device.recorder.authorize(token)
    device.settle()
    assert device.entries(entries.Authorised)
    assert any(isinstance(e, entries.Refused) and e.what == "authorisation" for e in device.entries())
    assert b"Example" not in device.storage.read(layout.journal(1), limit=1 << 24)


def test_replayed_authorisation_is_refused_after_a_restart_too() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    token = leave(device)
    device.recorder.authorize(token)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.cut_power()
    device.boot()
    with pytest.raises(EvidenceError):
        device.recorder.authorize(token)


def test_authorisation_for_another_recording_or_by_an_unsynchronised_clock_is_refused() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    with pytest.raises(EvidenceError):
        device.recorder.authorize(leave(device, recording="another-0001"))
    device.clocks.uncertainty_s = None
    with pytest.raises(EvidenceError):
        device.recorder.authorize(leave(device))


def test_wearer_is_warned_once_for_each_step_when_storage_runs_out() -> None:
    device = Device()
    device.run(6)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    rate = device.recorder.feed.bytes_a_second()
    for minutes, warned in ((300, 0), (50, 1), (45, 1), (25, 2), (1, 3)):
        storage.free = int(rate * 60 * minutes) + (16 << 20)
        device.recorder.warn()
        device.recorder.warn()
        device.settle()
        assert len(device.entries(entries.RunningLow)) == warned
    assert Signal.STORAGE_LOW in device.signals.shown


def test_self_test_names_what_failed() -> None:
    device = Device()
    device.run(3)
    good = self_test(replace(device.recorder.status(), locked_memory=True), 1, microphone=True)
    assert not good.failed
    bad = self_test(
        replace(device.recorder.status(), tracks={}, clock_within_ms=None, faulty_lines=["mark"]), 1, microphone=True
    )
    assert set(bad.failed) == {"camera", "microphone", "clock", "inputs", "memory"}
    device.recorder.control.handle(bad)
    device.settle()
    entry = device.entries(entries.SelfTested)[0]
    assert isinstance(entry, entries.SelfTested)
    assert entry.failed == sorted(bad.failed)


class Hasty(Device):
    """Somebody starts a recording before storage was read."""

    hasty = False

    def settle(self) -> None:
        if self.hasty:
            self.hasty = False
            self.recorder.control.put(StartRequested(self.clocks.now_ns, Cause.SOCKET))
            self.recorder.control.drain()
        super().settle()


def test_what_a_power_cut_left_open_is_closed_at_once_although_a_start_came_before_storage_was_read() -> None:
    device = Hasty()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    cut = device.recording
    device.hasty = True
    device.boot()
    device.run(2)
    assert device.recording
    assert device.recording != cut
    (continued,) = device.entries(entries.Continued, boot=2)
    assert isinstance(continued, entries.Continued)
    assert (continued.recording, continued.by) == (cut, device.recording)
    (recovered,) = device.entries(entries.SegmentRecovered, boot=2)
    assert isinstance(recovered, entries.SegmentRecovered)
    assert (recovered.recording, recovered.segment, recovered.ended) == (cut, 1, "power_loss")
    assert device.storage.size(layout.manifest(cut, 1)) is not None
    assert verify(device.storage, trust()).verdict is not Verdict.NOT_INTACT
