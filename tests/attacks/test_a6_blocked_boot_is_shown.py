"""What `a6_blocked_boot_verifies` rests on: a boot whose writer hangs all shift. The wearer sees it at once.

What falls out of memory meanwhile is counted by somebody else than the writer.
"""

import pytest

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.journal.entries import PacketsLost, StorageFailed
from agent.recorder.storage_watch import HANG_NS
from agent.recorder.writing.writer import Wait, Writer
from tests.attacks.test_card_attacks import memory
from tests.support.device import Device


def test_writer_that_hangs_is_shown_and_journalled_and_its_losses_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(max_bytes=1 << 15)
    device.run(6)
    device.press("record", times=2)
    recording = device.recording
    device.run(4)
    memory(device).cut_power()
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "step", lambda _self: Wait(None, 0))  # stands for a write that does not come back
        device.boot()
        device.run(HANG_NS / NS + 1)
        assert device.signals.lights is Background.FAULT
        assert Signal.STORAGE_FAULT in device.signals.shown
        assert device.recorder.status().storage_failing
        device.run(60)
        status = device.recorder.status()
        job = device.recorder.effects.task
        assert job is not None
        rest = sum(gone.packets for gone in device.recorder.feed.take_lost(job.cursor))
        held, came = len(device.recorder.feed._ring), device.recorder.feed.packets
    assert status.backlog_ms > 1000
    (failed,) = device.entries(StorageFailed, 2)
    assert isinstance(failed, StorageFailed)
    assert failed.problem == "ETIMEDOUT"
    lost = [entry for entry in device.entries(PacketsLost, 2) if isinstance(entry, PacketsLost)]
    assert {entry.recording for entry in lost} == {recording}
    counted = sum(entry.packets for entry in lost)
    assert counted > 3000
    assert counted + rest + held == came, "all that came in is counted or held"
    memory(device).cut_power()
    device.boot()
    device.run(3)
    assert device.recording == recording
    assert not device.recorder.status().storage_failing
