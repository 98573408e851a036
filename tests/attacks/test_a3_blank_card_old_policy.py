"""A blank card, or one on which only an old, expired bundle lies, in place of the camera's own.

It used to put the expired bundle in force, forgot the latched incident and the used-up pauses, and said nothing.
"""

import pytest

from agent.clock import NS
from agent.core.recording import events
from agent.domain.layout import TWO_BUTTONS
from agent.journal.entries import PolicyChanged, Tampered
from agent.keys import files
from agent.policy.bundle import sign_bundle
from agent.policy.packs import BUILT_IN, shipped
from agent.verify.findings import Verdict
from tests.support.clocks import FakeClocks
from tests.support.device import Device, agency, trust
from tests.support.evidence import check, files_of, memory
from tests.support.shifts import publish_bundle, signed_policy
from tests.support.storage import MemoryStorage

DAY = 86_400 * NS


def expired(clocks: FakeClocks, version: int) -> bytes:
    """A bundle that ran out a hundred days ago; the agency did sign it once."""
    now = clocks.wall().utc_ns
    return sign_bundle(
        files.load_signer(f"file:{agency().policy}"),
        agency="city",
        version=version,
        not_before_ns=now - 500 * DAY,
        expires_ns=now - 100 * DAY,
        pack=("us-mo-kcpd", shipped("us-mo-kcpd").text),
        gestures=TWO_BUTTONS,
    ).encode()


def policy_lines(device: Device, boot: int) -> list[tuple[str, int]]:
    found = device.entries(PolicyChanged, boot)
    return [(entry.what, entry.version) for entry in found if isinstance(entry, PolicyChanged)]


def tampered(device: Device, boot: int = 2) -> list[str]:
    return [entry.what for entry in device.entries(Tampered, boot) if isinstance(entry, Tampered)]


@pytest.mark.parametrize("version", [1, 7, 9])
def test_old_and_expired_bundles_on_a_blank_card_do_not_come_into_force_and_nothing_is_forgotten(version: int) -> None:
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, "us-il", 7)
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(3)
    device.press("record", times=2)
    running = device.recording
    device.run(2)
    device.recorder.control.put(events.TriggerActivated(clocks.now_ns, "critical_incident"))
    device.settle()
    device.run(2)
    assert device.recorder.control.state.latched
    storage.cut_power()
    card = MemoryStorage()
    card.publish(f"policy/{version:08d}.jws", expired(clocks, version))
    device.storage, device.policy = card, signed_policy(card, clocks)
    clocks.now_ns += 20 * NS
    device.boot()
    device.run(3)
    status = device.recorder.status()
    assert status.policy == f"{BUILT_IN} (built in)"
    assert device.recorder.control.state.latched
    assert device.recording == running
    assert status.boot == 2
    assert tampered(device)[:2] == ["card_replaced", "recording_missing"]
    assert ("policy_built_in", 0) in policy_lines(device, 2)
    device.recorder.close()
    assert check(files_of(memory(device)), trust()).verdict is not Verdict.INTACT


def test_bundle_that_was_in_force_stays_so_after_it_expired_and_after_a_boot() -> None:
    """An agency that is late with the next one must not have its cameras fall back to the strictest pack."""
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, "us-il", 7)  # for an hour
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(3)
    device.recorder.close()
    clocks.now_ns += 2 * 3600 * NS
    device.policy = signed_policy(storage, clocks)
    device.boot()
    device.run(3)
    assert device.recorder.status().policy == "us-il, version 7"
    assert tampered(device) == []


def test_other_bundle_of_the_same_version_does_not_come_into_force() -> None:
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, "us-il", 7)
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(3)
    memory(device).cut_power()
    storage.files.pop("policy/00000007.jws")
    publish_bundle(storage, clocks, "us-mo-kcpd", 7)
    device.policy = signed_policy(storage, clocks)
    device.boot()
    device.run(3)
    assert device.recorder.status().policy == f"{BUILT_IN} (built in)"
    assert ("policy_refused", 7) in policy_lines(device, 2)
