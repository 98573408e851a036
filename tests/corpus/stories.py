"""What honest cameras leave behind."""

import os
from collections.abc import Callable

from agent.audit.annotating import add_annotation
from agent.clock import NS
from agent.core.recording import events
from agent.evidence import layout
from agent.evidence.annotation import Content
from agent.keys import files
from agent.provisioning.agency import Provisioned
from tests.corpus.agency import TACTICS, ask, camera, declare, send, shut_down, start, stop, trust
from tests.support.clocks import FakeClocks
from tests.support.device import Device
from tests.support.evidence import TORN_FRAME, TORN_LINE, Files, files_of, memory, storage_of, tear

Story = Callable[[Provisioned], Files]


def clean(provisioned: Provisioned) -> Files:
    """One recording with a mark, ended by a granted stop."""
    device = camera(provisioned)
    start(device, 1)
    send(device, events.MarkRequested(device.clocks.now_ns))
    stop(device)
    return shut_down(device)


def refused(provisioned: Provisioned) -> Files:
    """A stop is refused because nothing was declared, then because of a trigger, then granted."""
    device = camera(provisioned)
    start(device, 0.5)
    ask(device, events.Action.STOP_RECORDING)
    send(device, events.TriggerActivated(device.clocks.now_ns, "lights_siren"))
    declare(device, {"encounter_state": "concluded", "enforcement_mode": "none"})
    ask(device, events.Action.STOP_RECORDING)
    device.clocks.advance(31)
    device.run(0.5)
    ask(device, events.Action.STOP_RECORDING, 1.5)
    return shut_down(device)


def paused(provisioned: Provisioned) -> Files:
    """A privacy pause in a recording, and a second one that its limit ends."""
    device = camera(provisioned)
    start(device, 0.5)
    declare(device, {"encounter_state": "concluded", "enforcement_mode": "none"})
    ask(device, events.Action.PRIVACY_PAUSE, 0.8)
    ask(device, events.Action.RESUME_RECORDING, 0.4)
    ask(device, events.Action.PRIVACY_PAUSE, 3.4)
    stop(device)
    return shut_down(device)


def muted(provisioned: Provisioned) -> Files:
    """Sound is withheld for a while."""
    device = camera(provisioned)
    start(device, 0.5)
    declare(device, TACTICS)
    ask(device, events.Action.MUTE, 0.8)
    ask(device, events.Action.RESUME_RECORDING, 0.4)
    stop(device)
    return shut_down(device)


def restricted(provisioned: Provisioned) -> Files:
    """A declaration classifies the recording: from then on it is sealed to the restricted set."""
    device = camera(provisioned)
    start(device, 0.5)
    declare(device, {"reason_code": "juvenile"})
    device.run(0.6)
    stop(device)
    return shut_down(device)


def clock_set_back(provisioned: Provisioned) -> Files:
    """The clock loses its source, is set back, and becomes right again."""
    device = camera(provisioned)
    start(device, 0.5)
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    device.clocks.utc_offset_ns += 3600 * NS
    send(device, events.MarkRequested(device.clocks.now_ns), 1)
    device.clocks.utc_offset_ns -= 7200 * NS
    send(device, events.MarkRequested(device.clocks.now_ns), 1)
    device.clocks.utc_offset_ns += 3600 * NS
    device.clocks.source, device.clocks.uncertainty_s = "ntp", 0.01
    send(device, events.MarkRequested(device.clocks.now_ns), 1)
    stop(device)
    return shut_down(device)


def two_boots(provisioned: Provisioned) -> Files:
    """The process ends in order while it records; the next boot goes on with the recording, and makes another one."""
    device = camera(provisioned)
    recording = start(device, 1)
    files = shut_down(device)
    device = again(provisioned, files, device)
    assert device.recording == recording
    device.run(0.5)
    stop(device)
    start(device, 0.5)
    stop(device)
    return shut_down(device)


def again(provisioned: Provisioned, files: Files, before: Device) -> Device:
    """The next boot, half a minute later, on what lies there."""
    clocks = FakeClocks()
    clocks.now_ns = (before.clocks.now_ns // NS + 30) * NS
    return camera(provisioned, storage_of(files), clocks, before.state)


def _cut(provisioned: Provisioned) -> tuple[Files, Device]:
    device = camera(provisioned)
    start(device, 0.5)
    stop(device)
    recording = start(device, 2)
    storage = memory(device)
    storage.cut_power()
    tear(storage, layout.journal(1), TORN_LINE)
    folder = f"{layout.recording(recording)}/"
    tear(storage, max(path for path in storage.files if path.startswith(folder) and ".seg" in path), TORN_FRAME)
    return files_of(storage), device


def power_cut(provisioned: Provisioned) -> Files:
    """The power is lost in the middle of a recording; no boot has followed."""
    return _cut(provisioned)[0]


def recovered(provisioned: Provisioned) -> Files:
    """The next boot recovers that recording, goes on with it, and ends it."""
    files, before = _cut(provisioned)
    device = again(provisioned, files, before)
    assert device.recording
    device.run(0.5)
    stop(device)
    return shut_down(device)


def card_replaced(provisioned: Provisioned) -> Files:
    """The device gets a card with nothing but the policy between two boots, remembers the other one, and says so."""
    device = camera(provisioned)
    start(device, 0.5)
    stop(device)
    before = shut_down(device)
    policies = {path: data for path, data in before.items() if path.startswith(f"{layout.POLICY}/")}
    device = again(provisioned, policies, device)
    start(device, 0.5)
    stop(device)
    return shut_down(device)


def card_rolled_back(provisioned: Provisioned) -> Files:
    """The card is put back to how it was before a recording; the next boot says so."""
    device = camera(provisioned)
    before = shut_down(device)
    device = again(provisioned, before, device)
    start(device, 0.5)
    stop(device)
    shut_down(device)
    device = again(provisioned, before, device)
    return shut_down(device)


def annotated(provisioned: Provisioned) -> Files:
    """Two annotations were added afterwards."""
    storage = storage_of(clean(provisioned))
    (recording,) = storage.names(layout.RECORDINGS)
    clocks = FakeClocks(utc_ns=1_795_003_600 * NS)
    for classification, note in (("juvenile", "a child is seen"), ("medical", "")):
        add_annotation(
            storage,
            layout.recording(recording),
            files.load_signer(f"file:{provisioned.supervisor}"),
            trust(),
            Content(classification, "A. Smith", note),
            time=clocks.wall(),
            random_bytes=os.urandom,
        )
        clocks.advance(60)
    return files_of(storage)


STORIES: dict[str, Story] = {
    story.__name__: story
    for story in (
        clean,
        refused,
        paused,
        muted,
        restricted,
        clock_set_back,
        two_boots,
        power_cut,
        recovered,
        card_replaced,
        card_rolled_back,
        annotated,
    )
}
