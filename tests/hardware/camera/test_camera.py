"""The recorder on real picamera2 and libcamera: the sensor's times, sound with the pictures, a covered lens, faults."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import NS
from agent.evidence import layout
from agent.evidence.manifest import OPENING_TYPE, Opening, opening
from agent.journal import entries
from agent.keys import jws
from agent.media.packet import Kind
from tests.hardware.camera import film, tree
from tests.hardware.camera.sound_card import SoundCard
from tests.hardware.camera.stage import HERE, Stage, stage, virtual
from tests.hardware.support import debian

RECORDED_S = 60.0
PPM = 150
"""How far the sound card's crystal is off: more than most are."""
MOST_OFF_S = 0.020
BACK_S = 2.0
FOUND_S = 3.0
BETWEEN_KILLS_S = 2.3
LATE_S = 0.06
BEFORE_S = 4.5
"""More than is kept from before a start: 1 s, 2 s for a late press, and up to 1 s to an IDR picture."""
US = 1_000_000
SOUND = "s16le:{folder}/sound"


def statement(at: Stage, recording: str) -> Opening:
    """The first opening statement of a recording."""
    token = (at.recorder.evidence / layout.opening(recording, 1)).read_text()
    said: Opening = opening(jws.unverified_payload(token, OPENING_TYPE))
    return said


def recorded(at: Stage, seconds: float, out: Path) -> str:
    """A recording of so long, stopped by the rules, verified and opened; its name."""
    recording = at.recorder.record(0.0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert at.recorder.status()["recording"] == recording
        time.sleep(0.5)
    at.stop()
    assert at.recorder.terminate() == 0
    code, _ = at.recorder.verify()
    assert code == 0
    print(at.open(recording, out).splitlines()[0])
    return recording


@pytest.fixture(scope="module", autouse=True)
def _tree() -> None:
    """Made before any test's time is taken."""
    tree.prepared()


def test_a_minute_is_recorded_whole_with_the_sensors_times_and_sound_stays_with_the_pictures(tmp_path: Path) -> None:
    with stage(SOUND) as at, SoundCard(at.folder / "sound", ppm=PPM):
        at.tell("scene flashes")
        at.recorder.until(lambda status: "audio" in status["tracks"])
        time.sleep(BEFORE_S)
        recording = recorded(at, RECORDED_S, tmp_path / "film.mp4")
        seen = film.read(tmp_path / "film.mp4")
        encoded_us, said = at.encoded_us(), statement(at, recording)
        sensor_ns = [int(line.more[0]) for line in at.log() if line.what == "sensor"]
        problems = [entry for entry in at.recorder.entries() if isinstance(entry, entries.SourceFailed)]
    assert not problems
    assert len(seen.pictures_us) >= RECORDED_S * 30 * 0.9, "the virtual camera gives 30 pictures a second"
    sensor_us = [ns // 1000 for ns in sensor_ns[: len(encoded_us)]]
    assert encoded_us == sensor_us, "the encoder gave out other times than the sensor's"
    zero = said.start.mono_us
    base_us = next(track.base_ticks for track in said.tracks if track.kind is Kind.VIDEO)
    assert abs(encoded_us[0] + base_us - zero) <= 1, "ticks of the evidence do not lead back to the sensor's time"
    worst_us = film.check_pictures(seen.pictures_us, encoded_us, zero)
    print(f"{len(seen.pictures_us)} pictures, each at its sensor time within {worst_us} us")
    first, _ = film.begin(seen.pictures_us, encoded_us, zero)
    taken_ns = sensor_ns[first : first + len(seen.pictures_us)]
    film.check_flashes(seen, taken_ns)
    print(film.check_sound(seen, MOST_OFF_S))
    # The checks themselves: they see what is not as it should be.
    for broken in (
        [*seen.pictures_us[:900], *seen.pictures_us[901:]],
        [*seen.pictures_us[:900], seen.pictures_us[900] + 2, *seen.pictures_us[901:]],
        [us + 200 for us in seen.pictures_us],
    ):
        with pytest.raises(AssertionError):
            film.check_pictures(broken, encoded_us, zero)
    at_s, white = seen.white[900]
    for seen_otherwise, times in (
        (seen, sensor_ns[first + 1 : first + 1 + len(seen.pictures_us)]),
        (replace(seen, white=[*seen.white[:900], (at_s, not white), *seen.white[901:]]), taken_ns),
    ):
        with pytest.raises(AssertionError, match="do not show what was seen"):
            film.check_flashes(seen_otherwise, times)
    with pytest.raises(AssertionError):
        film.check_sound(replace(seen, tones_s=[*seen.tones_s[:30], seen.tones_s[30] + 0.03]), MOST_OFF_S)


def test_sound_that_is_late_is_seen_to_be_so(tmp_path: Path) -> None:
    with stage(SOUND) as at, SoundCard(at.folder / "sound", late_ns=round(LATE_S * NS)):
        at.tell("scene flashes")
        at.recorder.until(lambda status: "audio" in status["tracks"])
        time.sleep(BEFORE_S)
        recorded(at, 8.0, tmp_path / "film.mp4")
        seen = film.read(tmp_path / "film.mp4")
    with pytest.raises(AssertionError):
        film.check_sound(seen, MOST_OFF_S)
    assert all(abs(offset - LATE_S) < MOST_OFF_S for offset in film.sound_offsets(seen))


def test_bit_rate_is_lowered_while_the_camera_runs() -> None:
    asked = (3_000_000, 600_000)
    with virtual() as (root, environment):
        named = [f"{name}={value}" for name, value in environment.items()]
        said = debian.inside(root, "env", *named, tree.PYTHON, str(HERE / "rates_here.py"), *map(str, asked))
    high, low = json.loads(said.splitlines()[-1])
    print(f"asked for {asked} bit/s, got {high, low}")
    assert high > 0.7 * asked[0]
    assert 0.5 * asked[1] < low < 1.3 * asked[1]


def tampered(at: Stage, what: str, *, ended: bool) -> list[int]:
    """When that was found, in microseconds."""
    told = [entry for entry in at.recorder.entries() if isinstance(entry, entries.Tampered)]
    return [entry.at_us for entry in told if entry.what == what and entry.ended == ended]


def wait_for(good: Callable[[], bool], within_s: float) -> None:
    until = time.monotonic() + within_s
    while not good():
        assert time.monotonic() < until, f"it did not become so within {within_s} s"
        time.sleep(0.02)


def test_covered_and_frozen_pictures_are_found_by_the_low_resolution_stream() -> None:
    with stage() as at:
        time.sleep(5.0)  # a clear view of moving bars is nothing to tell of
        assert not [entry for entry in at.recorder.entries() if isinstance(entry, entries.Tampered)]
        for scene, what, within_s in (("covered", "lens_covered", FOUND_S), ("frozen", "picture_frozen", 6.0)):
            at.tell(f"scene {scene}")
            began_us = time.monotonic_ns() // 1000
            wait_for(lambda: bool(tampered(at, what, ended=False)), within_s + 5)  # noqa: B023
            took_s = (tampered(at, what, ended=False)[0] - began_us) / US
            print(f"{what}: found after {took_s:.2f} s")
            assert 0 < took_s <= within_s
            at.tell("scene bars")
            wait_for(lambda: bool(tampered(at, what, ended=True)), within_s + 5)  # noqa: B023
        assert at.recorder.terminate() == 0


KILLS = (
    ("stall", 0.0),
    ("raise process", 0.0),
    ("close", 0.0),
    ("raise encode", 0.0),
    ("unplug 0.8", 0.8),
    ("stall", 0.0),
    ("raise stop", 0.0),
    ("close", 0.0),
    ("unplug 3.0", 3.0),
    ("raise process", 0.0),
)


def killed(at: Stage, command: str, gone_s: float) -> float:
    """Kill the camera; how long it took until the encoder gave out a picture again, from when that was possible."""
    openings = sum(line.what == "opened" for line in at.log())
    at.tell(command)
    if command == "raise stop":
        at.tell("stall")
    back: list[int] = []

    def is_back() -> bool:
        log = at.log()
        opened = [number for number, line in enumerate(log) if line.what == "opened"]
        if len(opened) <= openings:
            return False
        back[:] = [line.at_ns for line in log[opened[-1] :] if line.what == "encoded"][:1]
        return bool(back)

    wait_for(is_back, 15.0)
    told_ns = max(line.at_ns for line in at.log() if line.what == "told" and " ".join(line.more) == command)
    return (back[0] - told_ns) / NS - gone_s


def test_camera_that_is_killed_ten_times_is_back_within_two_seconds_and_sound_never_stops(tmp_path: Path) -> None:
    with stage(SOUND) as at, SoundCard(at.folder / "sound") as card:
        at.recorder.until(lambda status: "audio" in status["tracks"])
        recording = at.recorder.record(2.5)
        for command, gone_s in KILLS:
            took_s = killed(at, command, gone_s)
            print(f"{command}: back after {took_s:.2f} s")
            assert took_s <= BACK_S
            status = at.recorder.until(lambda status: status["source_delivering"])
            assert status["recording"] == recording
            time.sleep(BETWEEN_KILLS_S)
        card.unplug(1.0)
        at.recorder.until(lambda status: status["tracks"]["audio"]["age_ms"] > 900)
        at.recorder.until(lambda status: status["tracks"]["audio"]["age_ms"] < 300)
        time.sleep(1.0)
        at.stop()
        assert at.recorder.terminate() == 0
        assert at.recorder.verify()[0] == 0
        print(at.open(recording, tmp_path / "film.mp4").splitlines()[0])
        seen = film.read(tmp_path / "film.mp4")
        log, encoded_us = at.log(), at.encoded_us()
        _, zero = film.begin(seen.pictures_us, encoded_us, statement(at, recording).start.mono_us)
        told = at.recorder.entries()
    failed = [entry for entry in told if isinstance(entry, entries.SourceFailed)]
    gaps = [entry for entry in told if isinstance(entry, entries.SourceGap)]
    assert [entry.track for entry in failed if entry.track != "audio"] == ["video"] * len(KILLS)
    pictures, sound = ([gap for gap in gaps if gap.track == track] for track in ("video", "audio"))
    assert len(pictures) == len(KILLS)
    unheard = [entry for entry in failed if entry.track == "audio"]
    assert len(sound) == 1 == len(unheard), f"the microphone is to fail once, when it is unplugged: {unheard}, {sound}"
    in_film = {us + zero for us in seen.pictures_us}
    around = in_film | {us + off for us in in_film for off in (-1, 1)}
    for gap in pictures:
        assert gap.to_us in around
        assert not [us for us in in_film if gap.from_us + 1 < us < gap.to_us - 1]
    # All that the encoder gave out is in the film, but what came while a camera was being taken down.
    lost = [us for us in encoded_us if min(in_film) < us < max(in_film) and us not in around]
    dark = [(max(us for us in in_film if us < gap.to_us - 1), gap.to_us) for gap in pictures]
    assert all(any(begin < us < end for begin, end in dark) for us in lost)
    assert len(lost) <= 3 * len(KILLS)
    assert not [us for us in in_film if not any(abs(us - given) <= 2 for given in encoded_us)]
    assert sum(line.what == "opened" for line in log) >= len(KILLS) + 1
