"""What somebody does to the wall clock: none of it makes a supervisor's leave last longer."""

import os

import pytest

from agent.clock import NS
from agent.errors import EvidenceError
from agent.journal.entries import ClockTakenBack
from agent.journal.format import HELD
from agent.keys import files
from agent.trust.authorization import issue
from tests.support.device import Device, agency
from tests.support.evidence import check, codes, files_of, memory

YEAR_S = 365 * 86_400


def recording() -> Device:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    return device


def leave(device: Device, *, at_ns: int | None = None, valid_s: int = 300) -> str:
    now_ns = device.clocks.wall().utc_ns if at_ns is None else at_ns
    return issue(
        files.load_signer(f"file:{agency().supervisor}"),
        agency="city",
        device="cam-1",
        recording=device.recording,
        action="StopRecording",
        authority="supervisor_remote",
        rank="sergeant",
        authoriser="Sgt. Vega",
        now_ns=now_ns,
        random_bytes=os.urandom,
        valid_s=valid_s,
    )


def vouch(device: Device, *, by: bool) -> None:
    device.clocks.source, device.clocks.uncertainty_s = ("ntp", 0.01) if by else ("unsynchronised", None)


def step(device: Device, seconds: float) -> None:
    device.clocks.utc_offset_ns += round(seconds * NS)


def ran_ahead(device: Device) -> None:
    """Nobody vouches for the clock, it shows next year for some lines, and then it is right and vouched for again."""
    vouch(device, by=False)
    step(device, YEAR_S)
    device.press("mark")
    step(device, -YEAR_S)
    vouch(device, by=True)
    device.press("mark")


def test_wrong_reading_of_an_unsynchronised_clock_is_taken_back_and_reported() -> None:
    device = recording()
    ran_ahead(device)
    said = [entry for entry in device.entries(ClockTakenBack) if isinstance(entry, ClockTakenBack)]
    assert [round(entry.by_ms / 1000 / YEAR_S) for entry in said] == [1]
    assert device.lines()[-1].wall.trusted
    assert device.lines()[-1].wall.utc_ns <= device.clocks.wall().utc_ns
    assert device.recorder.authorize(leave(device)) == "StopRecording"
    device.recorder.close()
    assert codes(check(files_of(memory(device)))) <= codes(check(files_of(memory(closed()))))


def closed() -> Device:
    device = recording()
    device.recorder.close()
    return device


def test_wrong_reading_of_an_earlier_boot_is_taken_back_too() -> None:
    device = recording()
    vouch(device, by=False)
    step(device, YEAR_S)
    device.press("mark")
    device.recorder.close()
    step(device, -YEAR_S)
    vouch(device, by=True)
    device.boot()
    device.run(1)
    first, second = device.lines(2)[:2]
    assert first.wall.trusted
    assert isinstance(second.entry, ClockTakenBack)
    assert device.recorder.authorize(leave(device)) == "StopRecording"


def test_clock_set_forward_and_back_does_not_revive_an_expired_authorisation() -> None:
    device = recording()
    token = leave(device, valid_s=60)
    device.run(70)
    vouch(device, by=False)
    step(device, YEAR_S)
    device.press("mark")
    vouch(device, by=True)
    step(device, -YEAR_S - 65)
    device.press("mark")
    assert device.lines()[-1].wall.source == HELD
    with pytest.raises(EvidenceError, match="clock"):
        device.recorder.authorize(token)


def test_clock_set_back_a_little_again_and_again_does_not_extend_an_authorisation() -> None:
    device = recording()
    token = leave(device, valid_s=60)
    for _ in range(8):
        device.run(10)
        step(device, -9)
    assert device.clocks.wall().utc_ns < device.lines()[0].wall.utc_ns + 60 * NS
    with pytest.raises(EvidenceError, match=r"clock|expired"):
        device.recorder.authorize(token)


def test_clock_set_back_while_the_camera_is_off_does_not_revive_an_authorisation_either() -> None:
    device = recording()
    token = leave(device, valid_s=60)
    device.run(70)
    vouch(device, by=False)
    device.press("mark")
    device.recorder.close()
    vouch(device, by=True)
    step(device, -60)
    device.boot()
    device.run(1)
    with pytest.raises(EvidenceError, match=r"clock|expired"):
        device.recorder.authorize(token)


def test_authorisation_is_refused_while_the_clock_is_unsynchronised_wherever_it_is_set() -> None:
    device = recording()
    token = leave(device)
    vouch(device, by=False)
    for seconds in (0, -120, 240):
        step(device, seconds)
        with pytest.raises(EvidenceError, match="clock"):
            device.recorder.authorize(token)
