"""Battery out, one unsigned line that says a recording went on as another one, card back."""

import pytest

from agent.journal.entries import Continued
from agent.verify.findings import Code, Verdict
from tests.attacks.test_card_attacks import chain_on, interrupted, memory
from tests.support.device import Device, trust
from tests.support.evidence import check, codes, files_of


def with_an_ended_one_before() -> tuple[Device, str]:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(3)
    first = device.recording
    device.press("record", hold_s=3.2)
    device.run(1)
    assert not device.recording
    device.press("record", times=2)
    device.run(6)
    memory(device).cut_power()
    return device, first


@pytest.mark.parametrize("by", ["itself", "one that has ended", "one that never was"])
def test_unsigned_continuation_ends_no_recording_and_verify_calls_it_altered(by: str) -> None:
    if by == "one that has ended":
        device, other = with_an_ended_one_before()
    else:
        device = interrupted()
        other = device.recording if by == "itself" else "abababababab-0001"
    running = device.recording
    chain_on(device, Continued(running, other))
    device.boot()
    device.run(3)
    assert device.recording == running
    device.press("record", hold_s=3.2)
    device.run(1)
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert codes(report) == {Code.LINE_NOT_BELIEVED}
