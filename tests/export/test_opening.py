import gc
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import NS
from agent.export.opened import gap_sentence
from agent.media.packet import Kind, Packet
from agent.recorder.writing.task import Settings
from tests.support.containers import decoded_times
from tests.support.films import CLIPS, camera, found, open_rig, packets_of, record, shown, texts, zero_of
from tests.support.packets import scene
from tests.support.rig import Rig
from tests.support.sources import microphone_dies, pictures_stop, silent_between, sound_starts_late

SILENT_AAC = bytes.fromhex("21000000001c")
"""A frame of silence in stereo."""


def kept(packets: list[Packet], from_s: Fraction, to_s: float) -> list[Packet]:
    return [p for p in packets if from_s <= Fraction(p.ticks, p.stream.parameters.timescale) and p.time_ns < to_s * NS]


def sounding(path: Path) -> list[tuple[Fraction, bytes, bool]]:
    return [sample for sample in found(path, Kind.AUDIO) if sample[1] != SILENT_AAC]


def assert_audio_never_pauses(path: Path) -> None:
    """From one frame to the next there is never more than a frame and a rest that is shorter than one."""
    times = [at for at, _, _ in found(path, Kind.AUDIO)]
    steps = [after - before for before, after in pairwise(times)]
    assert min(steps) > 0
    assert max(steps) < 2 * Fraction(1024, 48_000)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("segment_s", [3, 60])
def test_recording_opens_with_every_packet_of_its_13_seconds_exact(name: str, segment_s: int, tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=segment_s * NS))
    packets = packets_of(camera(name), 22)
    record(rig, packets, 12, 20)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    zero = zero_of(out, packets)
    expected = kept(packets, zero, 20)
    for kind in Kind:
        assert found(out, kind) == shown(expected, kind, zero)
    head = next(p for p in expected if p.kind is Kind.VIDEO)
    assert head.key
    assert head.time_ns <= 7 * NS
    assert not any(p.key and head.time_ns < p.time_ns <= 7 * NS for p in packets if p.kind is Kind.VIDEO)
    assert opened.complete
    assert opened.files[0].seconds >= 13
    assert opened.files[0].gaps == ()
    assert opened.files[0].silent_frames == 0
    assert len(decoded_times(out, Kind.VIDEO)) == sum(p.kind is Kind.VIDEO for p in expected)
    assert len(decoded_times(out, Kind.AUDIO)) == sum(p.kind is Kind.AUDIO for p in expected)


@pytest.mark.parametrize("name", CLIPS)
def test_dead_microphone_becomes_silence_up_to_the_end(name: str, tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(microphone_dies(camera(name), 3), 11)
    record(rig, packets, 1, 10)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    expected = kept(packets, Fraction(0), 10)
    assert found(out, Kind.VIDEO) == shown(expected, Kind.VIDEO)
    assert sounding(out) == shown(expected, Kind.AUDIO)
    assert_audio_never_pauses(out)
    (gap,) = opened.files[0].gaps
    assert (gap.kind, round(gap.from_s, 1), round(gap.to_s, 1)) == (Kind.AUDIO, 3.0, 10.0)
    assert found(out, Kind.AUDIO)[-1][0] > Fraction(99, 10)
    assert any("no sound from " in text and "silence inserted" in text for _, _, text in texts(out))
    decoded_times(out, Kind.AUDIO)


@pytest.mark.parametrize("name", CLIPS)
def test_microphone_that_comes_back_is_in_step(name: str, tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(microphone_dies(camera(name), 3, until_s=6), 11)
    record(rig, packets, 1, 10)
    out = tmp_path / "out.mp4"
    open_rig(rig, out)
    expected = kept(packets, Fraction(0), 10)
    assert found(out, Kind.VIDEO) == shown(expected, Kind.VIDEO)
    assert sounding(out) == shown(expected, Kind.AUDIO)
    assert_audio_never_pauses(out)
    decoded_times(out, Kind.AUDIO)


@pytest.mark.parametrize("name", CLIPS)
def test_sound_that_starts_late_is_in_step(name: str, tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(sound_starts_late(camera(name), 4), 11)
    rig.declare(packets_of(camera(name), 0.5))
    record(rig, packets, 1, 10)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    expected = kept(packets, Fraction(0), 10)
    assert found(out, Kind.VIDEO) == shown(expected, Kind.VIDEO)
    assert sounding(out) == shown(expected, Kind.AUDIO)
    assert_audio_never_pauses(out)
    assert found(out, Kind.AUDIO)[0][0] < Fraction(1024, 48_000)
    (gap,) = opened.files[0].gaps
    assert (gap.kind, gap.from_s) == (Kind.AUDIO, 0.0)


@pytest.mark.parametrize("name", CLIPS)
def test_silent_pre_event_buffer_is_silence_with_its_reason(name: str, tmp_path: Path) -> None:
    rig = Rig(silent=True)
    packets = packets_of(camera(name), 22)
    record(rig, packets, 12, 20)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    zero = zero_of(out, packets)
    expected = [p for p in kept(packets, zero, 20) if p.kind is Kind.VIDEO or p.time_ns >= 12 * NS]
    assert found(out, Kind.VIDEO) == shown(expected, Kind.VIDEO, zero)
    assert sounding(out) == shown(expected, Kind.AUDIO, zero)
    assert_audio_never_pauses(out)
    (gap,) = opened.files[0].gaps
    assert gap.cause == "no sound is kept from before the start"
    assert opened.complete


@pytest.mark.parametrize("name", CLIPS)
def test_source_gap_is_not_collapsed(name: str, tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = packets_of(silent_between(camera(name), 4, 6), 11)
    record(rig, packets, 1, 10)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    expected = kept(packets, Fraction(0), 10)
    assert found(out, Kind.VIDEO) == shown(expected, Kind.VIDEO)
    assert sounding(out) == shown(expected, Kind.AUDIO)
    assert_audio_never_pauses(out)
    assert {gap.kind for gap in opened.files[0].gaps} == set(Kind)
    assert all(gap.cause == "source gap" for gap in opened.files[0].gaps)
    assert "no picture from 4.0" in "".join(gap_sentence(gap) for gap in opened.files[0].gaps)
    assert any("no picture from " in text and "the last one is held" in text for _, _, text in texts(out))
    assert opened.complete


def test_dead_camera_holds_its_last_picture_to_the_end(tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(pictures_stop(camera(CLIPS[0]), 3), 11)
    record(rig, packets, 1, 10)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    expected = kept(packets, Fraction(0), 10)
    for kind in Kind:
        assert found(out, kind) == shown(expected, kind)
    (gap,) = opened.files[0].gaps
    assert gap.kind is Kind.VIDEO
    assert opened.files[0].seconds == pytest.approx(10, abs=0.03)


def test_recording_that_ends_in_a_gap_lasts_until_its_stop(tmp_path: Path) -> None:
    rig = Rig()
    packets = packets_of(silent_between(camera(CLIPS[0]), 5, 100), 12)
    rig.declare(packets)
    rig.start(1)
    rig.play(packets)
    rig.settle(5)
    rig.stop(10)
    rig.settle()
    opened = open_rig(rig, tmp_path / "out.mp4")
    assert opened.files[0].seconds == pytest.approx(10, abs=0.001)
    assert {round(gap.to_s, 2) for gap in opened.files[0].gaps} == {10.0}


def test_text_runs_from_the_first_to_the_last_moment(tmp_path: Path) -> None:
    rig = Rig()
    record(rig, packets_of(camera(CLIPS[0]), 15), 6, 14)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    cues = texts(out)
    assert cues[0][0] == 0
    for (at, lasts, _), (following, _, _) in pairwise(cues):
        assert at + lasts == following
    assert cues[-1][0] + cues[-1][1] >= opened.files[0].seconds * 1000
    assert cues[2][2].startswith("city/cam-1 r1 | 2026-11-18 11:06:4")
    assert "(ntp, within 11 ms)" in cues[2][2]
    modes = [text.rsplit(" | ", 1)[1].splitlines()[0] for _, _, text in cues]
    assert modes == sorted(modes, key=["before the start", "recording"].index)
    begins = next(at for at, _, text in cues if "before the start" not in text)
    zero_s = float(zero_of(out, packets_of(camera(CLIPS[0]), 15)))
    assert begins / 1000 + zero_s == pytest.approx(6, abs=0.002)


def test_memory_does_not_grow_with_the_recording_but_for_its_index(tmp_path: Path) -> None:
    """All that is kept of a sample are some bytes of the index: at 80 packets a second, 3 MB for an hour."""
    peaks = []
    gc.freeze()  # how often cycles are collected must not depend on what other tests left in memory
    try:
        for index, minutes in enumerate((1, 1, 3)):  # the first one also pays for what is imported once
            rig = Rig()
            record(rig, scene(60 * minutes), 0, 60 * minutes - 1)
            gc.collect()
            tracemalloc.start()
            open_rig(rig, tmp_path / f"{index}.mp4")
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    finally:
        gc.unfreeze()
    assert peaks[2] < 4 << 20
    assert peaks[2] - peaks[1] < 2 * 77 * 60 * 20
