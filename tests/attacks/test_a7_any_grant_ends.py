"""One unsigned line that ends a recording, naming a signed grant: of a pause, or of a stop that was taken back."""

import pytest

from agent.decisions.unsafe import UnsafePermitEverything
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.journal.entries import Decided, PowerFailing, RecordingEnded, Requested, StopTakenBack
from agent.verify.findings import Code, Verdict
from tests.attacks.test_card_attacks import chain_on, memory
from tests.support.device import Device, trust
from tests.support.evidence import check, codes, files_of


def with_a_grant_for(what: str) -> Device:
    device = Device(policy=UnsafePermitEverything(PolicySettings(Limits(post_roll_s=10))))
    device.run(6)
    device.press("record", times=2)
    if what == "a pause":
        device.press("mark", hold_s=2.2)
        device.run(2)
    else:
        device.press("record", hold_s=3.2)
        device.run(2)
    device.press("record", times=2)
    device.run(5)
    assert bool(device.entries(StopTakenBack)) == (what == "a stop that was taken back")
    assert device.recording
    return device


def newest_grant(device: Device) -> int:
    return [entry.request for entry in device.entries(Decided) if isinstance(entry, Decided) and entry.allowed][-1]


@pytest.mark.parametrize("what", ["a pause", "a stop that was taken back"])
def test_grant_for_something_else_ends_no_recording_and_verify_calls_it_altered(what: str) -> None:
    device = with_a_grant_for(what)
    running = device.recording
    memory(device).cut_power()
    chain_on(device, RecordingEnded(running, newest_grant(device), device.clocks.now_ns // 1000))
    device.boot()
    device.run(3)
    assert device.recording == running
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert Code.LINE_NOT_BELIEVED in codes(report)


@pytest.mark.parametrize("what", ["a pause", "a stop that was taken back"])
def test_even_signed_the_end_of_a_recording_must_name_a_grant_that_ends_it(what: str) -> None:
    device = with_a_grant_for(what)
    running = device.recording
    device.recorder.journal.post(RecordingEnded(running, newest_grant(device), device.clocks.now_ns // 1000))
    device.settle()
    memory(device).cut_power()
    device.boot()
    device.run(3)
    assert device.recording == running
    device.recorder.close()
    assert Code.ENDED_WITHOUT_GRANT in codes(check(files_of(memory(device)), trust()))


def test_request_of_one_recording_ends_no_other() -> None:
    device = Device(policy=UnsafePermitEverything(PolicySettings(Limits(post_roll_s=0))))
    device.run(6)
    for _ in range(2):
        device.press("record", times=2)
        device.run(2)
        running = device.recording
        device.press("record", hold_s=3.2)
        assert not device.recording
    device.press("record", times=2)
    device.run(2)
    running = device.recording
    stops = [e.request for e in device.entries(Requested) if isinstance(e, Requested) and e.action == "StopRecording"]
    device.recorder.journal.post(PowerFailing("1 %", 1))
    device.recorder.journal.post(RecordingEnded(running, stops[-1], device.clocks.now_ns // 1000))
    device.settle()
    memory(device).cut_power()
    device.boot()
    device.run(2)
    assert device.recording == running
