"""A boot whose writer was blocked all the time says that it records, and stores nothing: what verify says of it."""

import pytest

from agent.core.recording import events
from agent.recorder.writing.writer import Writer
from agent.verify.findings import Code, Verdict
from tests.attacks.test_card_attacks import interrupted, memory
from tests.support.device import trust
from tests.support.evidence import check, codes, files_of, found


def test_boot_that_recorded_nothing_and_does_not_say_why_is_not_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    device = interrupted()
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "step", lambda _writer: None)  # as if it read a file of 4 TiB
        device.boot()
        # Nor does it journal anything: a recorder that notices says so, and then the line explains it.
        patch.setattr(device.recorder.journal, "post", lambda *_said, **_more: None)
        device.run(130)
        memory(device).cut_power()
    device.boot()
    device.run(3)
    device.press("record", hold_s=3.2)
    device.run(1)
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert codes(report) == {Code.RECORDING_STALLED}
    assert "nothing of it reached storage" in found(report, Code.RECORDING_STALLED)[0].sentence


def test_recording_whose_camera_failed_for_minutes_is_intact() -> None:
    device = interrupted()
    device.boot()
    device.run(2)
    device.recorder.control.put(events.SourceFailed(device.clocks.now_ns, "video", "gone"))
    device.settle()
    for _ in range(20):
        device.clocks.advance(10)
        device.settle()
    device.press("record", hold_s=3.2)
    device.run(1)
    device.recorder.close()
    assert Code.RECORDING_STALLED not in codes(check(files_of(memory(device)), trust()))
