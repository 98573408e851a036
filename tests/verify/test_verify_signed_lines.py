"""What only a signed line can say, and what even a signed one can't."""

import pytest

from agent.encoding.strict_json import encode_json, strict_json
from agent.evidence import layout
from agent.journal.entries import Continued, RecordingStarted, ShutDown, StandbyEntered
from agent.verify.findings import Code
from tests.attacks.test_card_attacks import chain_on, interrupted, memory
from tests.support.cards import chained, last_line
from tests.support.device import Device, trust
from tests.support.evidence import check, codes, files_of, found


def ended_in_order(device: Device) -> set[Code]:
    """What is bad once the next boot has ended the recording and shut down."""
    device.boot()
    device.run(3)
    device.press("record", hold_s=3.2)
    device.run(1)
    assert not device.recording
    device.recorder.close()
    return codes(check(files_of(memory(device)), trust())) - {Code.POLICY_UNSAFE}


def test_even_signed_no_recording_is_continued_by_itself() -> None:
    device = interrupted()
    device.boot()
    device.run(2)
    running = device.recording
    device.recorder.journal.post(Continued(running, running))
    device.run(1)
    memory(device).cut_power()
    assert ended_in_order(device) == {Code.JOURNAL_CONTRADICTS}
    assert [e.recording for e in device.entries(RecordingStarted, 3) if isinstance(e, RecordingStarted)] == [running]


def test_shutdown_that_somebody_appended_makes_no_orderly_end() -> None:
    device = interrupted()
    chain_on(device, ShutDown())
    report = check(files_of(memory(device)), trust())
    assert codes(report) >= {Code.LINE_NOT_BELIEVED, Code.JOURNAL_OPEN}
    assert "altered" in found(report, Code.LINE_NOT_BELIEVED)[0].sentence


@pytest.mark.parametrize("times", [{"utc": "9999-12-31T23:59:59.000000Z"}, {"mono_us": (1 << 53) - 1}])
def test_unsigned_line_from_the_far_future_sets_no_clock_of_a_later_boot(times: dict[str, object]) -> None:
    device = interrupted()
    file = memory(device).files[layout.journal(1)]
    line = strict_json(chained(last_line(bytes(file.data)), StandbyEntered()).rstrip(b"\n"))
    file.data += encode_json(line | times) + b"\n"
    file.durable = bytes(file.data)
    assert ended_in_order(device) == set()
    first = device.lines(2)[0]
    assert first.wall.source == "ntp"
    assert abs(first.wall.utc_ns - device.clocks.wall().utc_ns) < 60 * 10**9


def test_honest_cut_within_a_stop_and_its_signature_is_no_alteration() -> None:
    """All places within the write that stores the end of a recording: the recording goes on, or has ended."""
    device = Device()
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    running = device.recording
    before = len(memory(device).files[layout.journal(1)].durable)
    device.press("record", hold_s=3.2)
    device.run(7)
    assert not device.recording
    whole = files_of(memory(device))
    journal = whole[layout.journal(1)]
    at = journal.index(b'"kind":"recording_ended"', before)
    start = journal.rindex(b"\n", 0, at) + 1
    signature = journal.index(b"\n", at) + 1
    end = journal.index(b"\n", signature) + 1
    outcomes = set()
    for cut in (start, start + 1, at, signature - 1, signature + 1, signature + 200, end - 1, end):
        files = whole | {layout.journal(1): journal[:cut]}
        report = check(files, trust())
        assert not codes(report) - {Code.POLICY_UNSAFE, Code.UNFINISHED, Code.JOURNAL_CUT, Code.JOURNAL_OPEN}, cut
        outcomes |= {finding.code for finding in report.findings}
    assert {Code.LINE_TORN_FROM_SIGNATURE, Code.JOURNAL_BEHIND} <= outcomes
    exactly = check(whole | {layout.journal(1): journal[:signature]}, trust())
    assert Code.LINE_NOT_BELIEVED in codes(exactly), f"{running}: a cut exactly between the lines can't be told apart"
