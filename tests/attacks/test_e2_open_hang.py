"""Times that are lies make `open` neither hang nor fill a disk: what is filled in is bounded, and said."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.clock import NS
from agent.encoding.strict_json import b64, encode_json, strict_json, unb64
from agent.evidence import layout
from agent.export import text_track
from agent.export.joining import MOST_FILLED_NS, MOST_HELD_NS
from agent.export.text_track import TextTrack
from agent.media.packet import Kind
from tests.support.device import agency
from tests.support.evidence import segments, whole, write
from tests.support.running import ROOT


def opened(folder: Path, recording: str, out: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(sys.executable, "-m", "agent", "open", str(folder), "--recording", recording),
            *("--key", str(agency().custodian), "--out", str(out), "--unverified"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
        timeout=100,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )


@pytest.mark.parametrize(
    ("later_s", "said"),
    [
        (2**53 // 10**6, "nothing is shown for that"),
        (13 * 3600, "nothing is shown for that"),
        (600, "0 h"),
    ],
)
def test_manifest_that_names_a_far_stop_makes_no_film_of_it(tmp_path: Path, later_s: int, said: str) -> None:
    shift = whole()
    last = layout.manifest(shift.c, len(segments(shift.files, shift.c)))
    head, body, signature = shift.files[last].decode().split(".")
    payload = strict_json(unb64(body))
    payload["stop"]["mono_us"] = min(2**53 - 1, payload["stop"]["mono_us"] + later_s * 10**6)
    shift.files[last] = f"{head}.{b64(encode_json(payload))}.{signature}".encode()
    began = time.monotonic()
    ran = opened(write(shift.files, tmp_path / "evidence"), shift.c, tmp_path / "film.mp4")
    assert time.monotonic() - began < 60
    assert ran.returncode == 1 or later_s == 600
    assert "Traceback" not in ran.stderr
    if later_s > MOST_HELD_NS // NS:
        assert said in ran.stdout
    assert (tmp_path / "film.mp4").stat().st_size < 20 << 20


def test_what_is_filled_in_altogether_is_bounded_and_the_next_gap_ends_the_file() -> None:
    from agent.export.joining import Filling
    from tests.export.test_joining import joined, sound
    from tests.support.packets import AUDIO

    filling = Filling(10 * NS)
    track, sheet = joined(AUDIO, filling=filling)
    assert track.add(sound(0))
    ticks, filled = AUDIO.timescale, 0
    while track.add(sound(ticks)):
        filled += 1
        ticks += 2 * AUDIO.timescale
        assert filled < 20
    assert sum(gap.ns for gap in sheet.gaps) <= 10 * NS
    assert filling.left_ns(Kind.AUDIO) < 2 * NS
    assert track.finish(10**6 * NS) < 100 * AUDIO.timescale
    assert track.unfilled_ns > 10**5 * NS


def test_bound_of_what_is_filled_in_is_above_that_of_one_gap() -> None:
    assert MOST_HELD_NS <= MOST_FILLED_NS <= 48 * 3600 * NS


def test_text_ends_after_its_bound_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.clock import WallReading

    monkeypatch.setattr(text_track, "MOST_CUES", 50)
    cues: list[tuple[int, str]] = []
    text = TextTrack(
        lambda at, said: cues.append((at, said)),
        lambda at: WallReading(at, "ntp", 0.001),
        zero_ns=0,
        caption="cam",
        mode="recording",
    )
    text.until(10**9 * NS)
    text.finish(10**9 * NS)
    assert len(cues) <= 52
    assert cues[-1][1] == "cam | no further text"
