"""Battery out, the journal cut back at a line's end, card back in: no earlier copy of anything is needed for that.

It used to be noticed only if more than a minute was cut away: the mark lay on the same card and was a minute old.
"""

from agent.core.recording import events
from agent.evidence import layout
from agent.journal.entries import Checkpoint, Tampered, TriggerRaised
from agent.journal.format import CHECKPOINT_TYPE, parse_line, split_lines
from agent.keys import jws
from agent.verify.findings import Verdict
from tests.support.device import Device, trust
from tests.support.evidence import check, files_of, memory


def cut_journal(device: Device, keep: int) -> None:
    """Keep so many lines of the first boot's journal."""
    file = memory(device).files[layout.journal(1)]
    raw, _ = split_lines(bytes(file.data))
    file.data[:] = b"".join(line + b"\n" for line in raw[:keep])
    file.durable = bytes(file.data)


def lines(device: Device) -> list[bytes]:
    return split_lines(bytes(memory(device).files[layout.journal(1)].data))[0]


def tampered(device: Device) -> list[str]:
    return [entry.what for entry in device.entries(Tampered, 2) if isinstance(entry, Tampered)]


def test_recording_with_a_latched_incident_does_not_vanish_with_its_lines() -> None:
    device = Device()
    device.run(62.5)  # the mark of the first minute had just been saved
    device.raise_trigger("siren")
    device.recorder.control.put(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.settle()
    running = device.recording
    device.run(40)
    assert device.recorder.control.state.latched
    memory(device).cut_power()
    cut_journal(
        device, next(n for n, raw in enumerate(lines(device)) if isinstance(parse_line(raw).entry, TriggerRaised))
    )
    for path in [path for path in memory(device).files if path.startswith(layout.recording(running))]:
        del memory(device).files[path]
    device.boot()
    device.run(5)
    assert device.recording == running
    assert device.recorder.control.state.latched
    assert tampered(device) == ["card_rolled_back", "recording_missing"]
    assert "device_state" in str(device.recorder.status())
    device.recorder.close()
    report = check(files_of(memory(device)), trust())
    assert report.verdict is Verdict.NOT_INTACT
    assert running in "".join(finding.sentence + finding.recording for finding in report.bad)


def test_last_seconds_of_a_recording_do_not_vanish_with_their_lines() -> None:
    device = Device()
    device.run(5)
    device.press("record", times=2)
    running = device.recording
    device.run(50)
    memory(device).cut_power()
    attested = [
        (n, payload)
        for n, raw in enumerate(lines(device))
        if isinstance(entry := parse_line(raw).entry, Checkpoint)
        and (payload := jws.unverified_payload(entry.jws, CHECKPOINT_TYPE)).get("recording")
    ]
    at, payload = attested[8]
    newest = attested[-1][1]["bytes"]
    segment = memory(device).files[layout.segment(running, 1)]
    cut_journal(device, at + 1)
    segment.data[:] = segment.data[: payload["bytes"]]
    segment.durable = bytes(segment.data)
    device.boot()
    device.run(3)
    assert tampered(device) == ["card_rolled_back"]
    recovered = jws.unverified_payload(device.storage.read(layout.manifest(running, 1)).decode(), "bwc-manifest+jws")
    assert recovered["bytes"] == payload["bytes"] < newest
    device.press("record", hold_s=3.2)
    device.run(1)
    device.recorder.close()
    assert check(files_of(memory(device)), trust()).verdict is Verdict.NOT_INTACT
