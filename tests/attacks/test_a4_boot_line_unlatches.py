"""Unsigned lines that would release a latched critical incident, admit an older policy, or refill a pause's limit."""

import msgspec
import pytest

from agent.clock import NS
from agent.core.recording import events
from agent.decisions.unsafe import UnsafePermitEverything
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.journal.entries import Authorised, Boot, PersistedState, RecordingStarted, Released
from agent.verify.findings import Code, Verdict
from tests.attacks.test_card_attacks import chain_on, memory
from tests.support.clocks import FakeClocks
from tests.support.device import Device, trust
from tests.support.evidence import check, codes, files_of
from tests.support.shifts import publish_bundle, signed_policy
from tests.support.storage import MemoryStorage


def latched_under_a_newer_policy() -> tuple[Device, MemoryStorage, FakeClocks]:
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, "us-mo-kcpd", 1)
    publish_bundle(storage, clocks, "us-il", 7)
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(3)
    device.press("record", times=2)
    device.run(2)
    device.recorder.control.put(events.TriggerActivated(clocks.now_ns, "critical_incident"))
    device.settle()
    device.run(2)
    assert device.recorder.control.state.latched
    assert device.recorder.status().policy_version == 7
    return device, storage, clocks


@pytest.mark.parametrize("line", ["boot", "release"])
def test_unsigned_line_neither_unlatches_nor_lets_an_older_policy_in(line: str) -> None:
    device, storage, clocks = latched_under_a_newer_policy()
    storage.cut_power()
    real = device.entries(Boot)[0]
    assert isinstance(real, Boot)
    forged = (
        msgspec.structs.replace(real, carried=PersistedState())
        if line == "boot"
        else Authorised("ReleaseCriticalIncident", clocks.now_ns // 1000)
    )
    chain_on(device, forged)
    del storage.files["policy/00000007.jws"]
    device.policy = signed_policy(storage, clocks)
    device.boot()
    device.run(2)
    state = device.recorder.control.state
    assert state.latched
    assert "critical_incident" in state.raised
    assert device.recorder.status().policy_version != 1
    device.recorder.close()
    report = check(files_of(storage), trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert Code.LINE_NOT_BELIEVED in codes(report)


@pytest.mark.parametrize("line", ["start", "release"])
def test_unsigned_line_refills_nothing_that_a_pause_may_use(line: str) -> None:
    limits = Limits(post_roll_s=0, pause_s=10, pause_total_s=20)
    device = Device(policy=UnsafePermitEverything(PolicySettings(limits)))
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    for _ in range(3):
        device.press("mark", hold_s=2.2)
        device.run(12)
    used = {action: ns // NS for action, ns in device.recorder.control.state.used_ns.items()}
    assert set(used.values()) == {20}
    memory(device).cut_power()
    forged = (
        RecordingStarted(running, "button", 1, 0, 0, 0, "")
        if line == "start"
        else Released(running, 3, ["audio", "video"], 1, "limit")
    )
    chain_on(device, forged)
    device.boot()
    device.run(2)
    assert device.recording == running
    assert {action: ns // NS for action, ns in device.recorder.control.state.used_ns.items()} == used
    device.press("mark", hold_s=2.2)
    device.run(2)
    assert device.recorder.status().mode == "recording"
    device.press("record", hold_s=3.2)
    device.run(1)
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert report.verdict is Verdict.NOT_INTACT
    found = Code.JOURNAL_CONTRADICTS if line == "start" else Code.LINE_NOT_BELIEVED
    assert codes(report) == {found, Code.POLICY_UNSAFE}
