from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import NS
from agent.export.opened import Opened
from agent.export.recorded import recordings
from agent.export.recording import open_recording
from agent.keys import files
from agent.media.packet import Kind, Packet
from agent.seal.recipients import AnyRecipientKey
from agent.verify.tree import find
from tests.support.device import Device, agency
from tests.support.evidence import memory
from tests.support.films import found, texts
from tests.support.packets import AUDIO, VIDEO


def custodian() -> AnyRecipientKey:
    return files.load_recipient_key(agency().custodian)


def opened(device: Device, recording: str, out: Path, key: AnyRecipientKey | None = None) -> Opened:
    (place,) = [place for place in recordings(find(device.storage)) if place.recording == recording]
    return open_recording(place, key or custodian(), out, verified=True)


def interrupted(device: Device, dark_s: float) -> tuple[str, list[Packet]]:
    """A recording in which the power goes away; its id, and the packets from a second after boot up to the start."""
    before = device.run(6)
    device.press("record", times=2)
    device.run(4)
    memory(device).cut_power()
    device.clocks.advance(dark_s)
    return device.recording, [packet for packet in before if packet.time_ns >= NS]


def pictures(packets: list[Packet]) -> list[Fraction]:
    return [Fraction(p.ticks, VIDEO.timescale) for p in packets if p.kind is Kind.VIDEO]


def test_recording_that_lost_power_is_one_film_with_the_dark_time_in_it(tmp_path: Path) -> None:
    device = Device()
    recording, before_start = interrupted(device, 30)
    device.boot()
    after = device.run(3)
    device.press("record", hold_s=3.2)
    out = tmp_path / "out.mp4"
    result = opened(device, recording, out)
    assert [file.segments for file in result.files] == [(1, 2)]
    shown = [at for at, _, _ in found(out, Kind.VIDEO)]
    dark = max(range(1, len(shown)), key=lambda index: shown[index] - shown[index - 1])
    assert Fraction(30) < shown[dark] - shown[dark - 1] < Fraction(32)
    # The kernel went on, and so did its clock: what comes after lies where it was, to the tick.
    after = after[next(index for index, packet in enumerate(after) if packet.kind is Kind.VIDEO and packet.key) :]
    zero = pictures(after)[0] - shown[dark]
    assert [zero + at for at in shown[dark : dark + 60]] == pictures(after)[:60]
    assert [zero + at for at in shown[:60]] == pictures(before_start)[:60]
    sound = [at for at, _, _ in found(out, Kind.AUDIO)]
    assert max(late - early for early, late in pairwise(sound)) < 2 * Fraction(1024, 48_000)
    assert {gap.cause for gap in result.files[0].gaps} == {"power loss"}
    said = " ".join(result.missing)
    assert "segment 1 is cut (ended by power loss)" in said
    assert "by the monotonic clock" in said
    assert not result.complete
    dark_texts = [(lasts, text) for _, lasts, text in texts(out) if "power loss" in text and " UTC (" not in text]
    assert any(29_000 < lasts < 33_000 for lasts, _ in dark_texts)


def reboot(device: Device, monotonic_s: float) -> None:
    """Another kernel: its monotonic clock begins anew, the wall clock goes on."""
    utc_ns = device.clocks.wall().utc_ns
    device.clocks.now_ns = round(monotonic_s * NS)
    device.clocks.utc_offset_ns = utc_ns - device.clocks.now_ns
    device.kernel_boot_id = "kernel-2"
    device.boot()


def test_dark_time_over_a_reboot_is_told_by_a_trusted_wall_clock(tmp_path: Path) -> None:
    device = Device()
    recording, _ = interrupted(device, 40)
    reboot(device, 3)
    device.run(3)
    device.press("record", hold_s=3.2)
    out = tmp_path / "out.mp4"
    result = opened(device, recording, out)
    gap = next(gap for gap in result.files[0].gaps if gap.kind is Kind.VIDEO)
    assert gap.to_s - gap.from_s == pytest.approx(40, abs=0.5)
    assert gap.known
    assert "within 22 ms" in " ".join(result.missing)


def test_dark_time_that_no_clock_tells_is_not_invented(tmp_path: Path) -> None:
    device = Device()
    device.clocks.source, device.clocks.uncertainty_s = "unsynchronised", None
    recording, _ = interrupted(device, 40)
    reboot(device, 3)
    device.run(3)
    device.press("record", hold_s=3.2)
    out = tmp_path / "out.mp4"
    result = opened(device, recording, out)
    gap = next(gap for gap in result.files[0].gaps if gap.kind is Kind.VIDEO)
    assert gap.to_s - gap.from_s == pytest.approx(1, abs=0.3)
    assert not gap.known
    assert "for a time that no clock measured, shown as 1.000 s" in " ".join(result.missing)
    assert any("for a time that no clock measured" in text for _, _, text in texts(out))
    assert any("(unsynchronised, error unknown)" in text for _, _, text in texts(out))


def test_clock_that_goes_wrong_by_years_does_not_make_a_film_of_years(tmp_path: Path) -> None:
    device = Device()
    recording, _ = interrupted(device, 5)
    device.clocks.utc_offset_ns += 3 * 365 * 86_400 * NS
    reboot(device, 3)
    device.run(3)
    device.press("record", hold_s=3.2)
    result = opened(device, recording, tmp_path / "out.mp4")
    assert [file.segments for file in result.files] == [(1,), (2,)]
    assert sum(file.seconds for file in result.files) < 40
    assert any("no file can hold so long a gap" in note for note in result.notes)


def test_sealed_details_open_with_the_agencys_key(tmp_path: Path) -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    recording = device.recording
    device.run(2)
    device.press("mark")
    device.run(2)
    device.press("record", hold_s=3.2)
    device.run(1)
    result = opened(device, recording, tmp_path / "out.mp4")
    events = {event.text.split(" ")[0]: event for event in result.events}
    assert {"started", "mark", "stop", "request", "stopped", "manifest"} <= set(events)
    assert all(event.problem == "" for event in result.events)
    assert events["manifest"].details
    assert events["request"].details
    assert result.complete
    cues = texts(tmp_path / "out.mp4")
    assert any(text.endswith("\nmark") for _, _, text in cues)
    marked = next(event for event in result.events if event.text == "mark")
    shown = next(at for at, _, text in cues if "\nmark" in text)
    begins = result.files[0].begins
    assert marked.utc[:17] == begins[:17]
    assert shown / 1000 == pytest.approx(float(marked.utc[17:26]) - float(begins[17:26]), abs=0.01)


def test_journal_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    recording = device.recording
    device.run(2)
    device.press("record", hold_s=3.2)
    for path in [path for path in memory(device).files if path.startswith("journal/")]:
        del memory(device).files[path]
    result = opened(device, recording, tmp_path / "out.mp4")
    assert any("no journal of boot 1" in note for note in result.notes)
    modes = [text.splitlines()[0].rsplit(" | ", 1)[1] for _, _, text in texts(tmp_path / "out.mp4")]
    assert modes[0] == "before the start"
    assert modes[-1] == "recording"


def test_every_recipient_opens_the_same_film(tmp_path: Path) -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    recording = device.recording
    device.run(2)
    device.press("record", hold_s=3.2)
    films = []
    for name in ("custodian", "oversight", "offline"):
        key = files.load_recipient_key(getattr(agency(), name))
        opened(device, recording, tmp_path / f"{name}.mp4", key)
        films.append((tmp_path / f"{name}.mp4").read_bytes())
    assert films[0] == films[1] == films[2]
    assert len(found(tmp_path / "custodian.mp4", Kind.AUDIO)) > 5 * AUDIO.sample_rate // 1024
