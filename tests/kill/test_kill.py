"""A recorder is killed at a random moment; what is on storage then must open, play, and lack at most half a second.

The victims are chained: each restart recovers what the one before left, records on in the same recording, and is killed
in turn. BWC_KILLS says how many, BWC_KILL_SEED which moments.
"""

import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from av.container import InputContainer

from agent.clock import NS
from agent.demo.stage import RecorderProcess, run_tool
from agent.evidence import layout
from agent.evidence.manifest import OPENING_TYPE, Opening, opening
from agent.journal import entries
from agent.journal.format import parse_line, split_lines
from agent.keys import files, jws
from agent.media.fmp4_reader import Reader
from agent.media.packet import Kind
from agent.recorder.ipc.local_socket import ask
from agent.seal.reader import open_message

KILLS = int(os.environ.get("BWC_KILLS", "6"))
SEED = int(os.environ.get("BWC_KILL_SEED", "20261122"))
MOST_LOST_S = 0.5
DRAINED_MS = 300
CAMERAS = (
    "pattern:848x480@30,2M",
    "pattern:no-picture",
    "pattern:1280x720@25,4M,gop=50",
    "pattern:320x240@10,200k",
    "pattern:848x480@30,8M,gop=15",
    "pattern:640x360@60,1M,no-sound",
)


@dataclass
class Bench:
    """A provisioned device and its recorder."""

    folder: Path
    run: Path

    def __post_init__(self) -> None:
        code, said = run_tool("init", str(self.folder))
        assert code == 0, said
        self.config = self.folder / "device" / "config.toml"
        self.evidence = self.folder / "device" / "evidence"
        self.key = files.load_recipient_key(self.folder / "agency" / "custodian" / "custodian.pem")
        self.text = (
            self.config.read_text()
            .replace('directory = "run" ', f'directory = "{self.run}" ')
            .replace("pre_event_s = 30.0 ", "pre_event_s = 2.0 ")
            .replace("unsafe_permit_everything = false", "unsafe_permit_everything = true ")
        )
        self.recorder = RecorderProcess(self.config, self.run, self.folder / "recorder.log")

    def use(self, camera: str) -> None:
        self.config.write_text(self.text.replace('camera = "pattern" ', f'camera = "{camera}" '))

    def last_segment(self, recording: str) -> int:
        parts = map(
            layout.segment_part, (path.name for path in (self.evidence / layout.recording(recording)).iterdir())
        )
        return max(part[0] for part in parts if part is not None and part[1] == "seg")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    run = Path(tempfile.mkdtemp(prefix="bwc-kill-"))
    made = Bench(tmp_path / "pilot", run)
    with made.recorder:
        yield made
    shutil.rmtree(run, ignore_errors=True)


@dataclass(frozen=True)
class Found:
    """What lay on storage right after a kill.

    Attributes:
        newest_ns: Monotonic time at which the last picture (or sound, where there are no pictures) ends.
        played: Pictures and sound frames that a decoder made of it.
    """

    newest_ns: int
    samples: int
    played: int


def read_back(bench: Bench, recording: str, segment: int) -> Found:
    """Open the unfinished segment with the agency's key, play it, and say how far it goes."""
    token = (bench.evidence / layout.opening(recording, segment)).read_text()
    statement: Opening = opening(jws.unverified_payload(token, OPENING_TYPE))
    with (bench.evidence / layout.segment(recording, segment)).open("rb") as stream:
        opened = open_message(stream, [bench.key])
        plain = b"".join(opened)
    reader = Reader(iter([plain]))
    samples = list(reader)
    kinds = {sample.kind for sample in samples}
    judged = Kind.VIDEO if Kind.VIDEO in kinds else Kind.AUDIO
    timescale = next(track.timescale for track in statement.tracks if track.kind is judged)
    last = max((s for s in samples if s.kind is judged), key=lambda sample: sample.ticks)
    newest_ns = statement.start.mono_us * 1000 + (last.ticks + last.duration) * NS // timescale
    with av.open(io.BytesIO(plain)) as container:
        assert isinstance(container, InputContainer)
        played = sum(1 for _ in container.decode(*container.streams))
    return Found(newest_ns, len(samples), played)


def test_killed_recorder_loses_at_most_half_a_second_reports_it_and_records_on(bench: Bench) -> None:
    chance = random.Random(SEED)
    worst_s = 0.0
    recording = ""
    for kill in range(KILLS):
        bench.use(CAMERAS[kill * len(CAMERAS) // KILLS if len(CAMERAS) <= KILLS else kill])
        bench.recorder.start()
        if recording:
            status = bench.recorder.until("it goes on recording", lambda status: status["recording"] == recording)  # noqa: B023
            assert_recovery_is_journalled(bench, int(status["boot"]), recording)
        else:
            recording = str(ask(bench.run, {"ask": "start"})["recording"])
        before = bench.recorder.until(
            "the backlog is drained",
            lambda status: status["recording_s"] > 0.5 and status["backlog_ms"] < DRAINED_MS and status["tracks"] != {},
        )
        moment_ns = time.monotonic_ns() + int(chance.uniform(0.0, 1.5) * NS)
        while time.monotonic_ns() < moment_ns:
            bench.recorder.status()  # asked all the while, as a tool might
        killed_ns = time.monotonic_ns()
        bench.recorder.kill()
        segment = bench.last_segment(recording)
        found = read_back(bench, recording, segment)
        assert found.samples
        # A decoder may keep the last frame of a cut track to itself.
        assert found.played >= found.samples - 2
        lost_s = (killed_ns - found.newest_ns) / NS
        assert lost_s <= MOST_LOST_S, f"kill {kill} of {before['boot']}: {lost_s:.3f} s lost"
        worst_s = max(worst_s, lost_s)
    bench.recorder.start()
    bench.recorder.until("it goes on recording", lambda status: status["recording"] == recording)
    bench.recorder.press("record", hold_s=3.2)
    bench.recorder.until("it stands by", lambda status: not status["recording"])
    assert bench.recorder.terminate() == 0
    code, said = run_tool("verify", str(bench.evidence), "--trust", str(bench.folder / "agency" / "trust.jws"))
    # The bench permits everything, so that a press ends it, and `verify` says so; nothing else is bad.
    bad = [line for line in said.splitlines() if line.startswith("BAD") and "UNSAFE POLICY" not in line]
    assert (code, bad) == (1, []), said
    out = bench.folder / "all.mp4"
    code, said = run_tool(
        "open",
        str(bench.evidence / layout.recording(recording)),
        "--key",
        str(bench.folder / "agency" / "custodian" / "custodian.pem"),
        "--out",
        str(out),
    )
    assert code in {0, 1}, said
    print(f"\n{KILLS} kills, worst loss {worst_s:.3f} s")


def assert_recovery_is_journalled(bench: Bench, boot: int, recording: str) -> None:
    """The restart says which segment it closed, where it was cut, and since when it was dark."""
    deadline = time.monotonic() + 10
    while True:
        lines, _ = split_lines((bench.evidence / layout.journal(boot)).read_bytes())
        told = [parse_line(line).entry for line in lines]
        recovered = [entry for entry in told if isinstance(entry, entries.SegmentRecovered)]
        if recovered or time.monotonic() > deadline:
            break
    first = told[0]
    assert isinstance(first, entries.Boot)
    assert first.interrupted == recording
    assert first.dark_basis == "same_kernel"
    assert [(entry.recording, entry.ended) for entry in recovered] == [(recording, "power_loss")]
    assert recovered[0].whole_bytes >= recovered[0].attested_bytes > 0
