"""Ten minutes of 1080p30 at 8 Mbit/s: what the recorder takes of a processor, by part, and that its memory stays flat.

Memory, lost pictures and gaps are asserted. How much of a processor it takes is printed and not asserted: who else
uses this machine is not the recorder's doing. BWC_RESOURCES_S says how long.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.evidence import layout
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Manifest, manifest, opening
from agent.journal import entries
from agent.keys import jws
from agent.media.packet import Kind
from agent.verify.findings import Verdict
from tests.hardware.resources.process import Memory, memory, slope, threads
from tests.hardware.resources.sealing import speeds
from tests.hardware.support.film import FULL_HD, film
from tests.support.running import Running, change, provision

SECONDS = float(os.environ.get("BWC_RESOURCES_S", "600"))
PROFILED_S = 12.0
LOOK_S = 5.0
SETTLED_S = 60.0
PRE_EVENT_S = 30.0
MOST_GROWTH_MB = 6.0
"""Over the whole time after the first minute, by the median slope; a leak of one packet in a hundred would be ten."""
MOST_SPREAD_MB = 24.0


@dataclass(frozen=True)
class Look:
    """One look at the recorder: seconds since it recorded, memory, processor seconds by thread, its status."""

    at_s: float
    memory: Memory
    threads: dict[str, float]
    status: dict[str, Any]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not in memory: what is recorded must not be taken for what the recorder holds."""
    made = Path(tempfile.mkdtemp(prefix="bwc-resources-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


def recorder(folder: Path, profile: str) -> Running:
    config = provision(folder / "pilot", camera=f"replay:{film(FULL_HD)}")
    change(config, "pre_event_s = 1.0", f"pre_event_s = {PRE_EVENT_S}")
    # What else runs on this machine is not what is judged: the recorder goes first, as its unit has it on a device.
    prefix = ("nice", "-n", "-10", sys.executable, "-m", "tests.hardware.resources.measured", profile)
    return Running(config, prefix)


def look(running: Running, began_s: float) -> Look:
    status = running.status()
    return Look(time.monotonic() - began_s, memory(running.pid), threads(running.pid), status)


def manifests(running: Running, recording: str) -> list[Manifest]:
    folder = running.evidence / layout.recording(recording)
    tokens = (path.read_text("ascii") for path in sorted(folder.glob("*.manifest.jws")))
    return [manifest(jws.unverified_payload(token, MANIFEST_TYPE)) for token in tokens]


def test_ten_minutes_of_1080p30_lose_nothing_and_memory_stays_flat(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recorder(folder, "-") as running:
        recording = running.record()
        began_s = time.monotonic()
        looks = [look(running, began_s)]
        while looks[-1].at_s < SECONDS:
            time.sleep(LOOK_S)
            looks.append(look(running, began_s))
        assert running.terminate() == 0
    with capsys.disabled():
        print_table(looks)
    settled = [one for one in looks if one.at_s >= min(SETTLED_S, SECONDS / 2)]
    grows = slope([(one.at_s, one.memory.rss) for one in settled]) * (settled[-1].at_s - settled[0].at_s)
    spread = max(one.memory.rss for one in settled) - min(one.memory.rss for one in settled)
    written = manifests(running, recording)
    pictures = sum(part.packets for said in written for part in said.written if part.kind is Kind.VIDEO)
    lasted_s = sum(
        (part.end_ticks - part.first_ticks) / timescale_of(running, recording)
        for said in written
        for part in said.written
        if part.kind is Kind.VIDEO
    )
    gaps = [gap for said in written for gap in said.gaps]
    above_ring = settled[-1].memory.rss - settled[-1].status["memory_bytes"] / 2**20
    with capsys.disabled():
        print(
            f"resident memory: {settled[0].memory.rss:.1f} MB after the first minute, {settled[-1].memory.rss:.1f} MB "
            f"at the end ({above_ring:.1f} MB above the ring), growth by the median slope {grows:+.2f} MB, "
            f"spread {spread:.2f} MB; {pictures} pictures in "
            f"{lasted_s:.3f} s of {len(written)} segments, {sum(said.lost_packets for said in written)} packets lost, "
            f"{len(gaps)} gaps"
        )
    assert grows <= MOST_GROWTH_MB
    assert spread <= MOST_SPREAD_MB
    assert sum(said.lost_packets for said in written) == 0
    assert not [entry for entry in running.entries() if isinstance(entry, entries.PacketsLost)]
    assert gaps == []
    assert looks[-1].status["openings"] == 1
    assert pictures == round(lasted_s * FULL_HD.fps)
    assert lasted_s >= looks[-1].at_s - 1.0
    code, report = running.verify()
    assert (code, report["verdict"]) == (0, Verdict.INTACT), report


def timescale_of(running: Running, recording: str) -> int:
    token = (running.evidence / layout.opening(recording, 1)).read_text("ascii")
    return next(
        one.timescale for one in opening(jws.unverified_payload(token, OPENING_TYPE)).tracks if one.kind is Kind.VIDEO
    )


def print_table(looks: list[Look]) -> None:
    """Each minute's figures, and the processor time of each thread."""
    print(f"\nload {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores; 1080p30 at 8 Mbit/s from a file")
    print("   time   cpu %   RSS MB   PSS MB   ring MB   backlog ms   slowest sync ms")
    shown, last = 0.0, looks[0]
    for one in looks[1:]:
        if one.at_s < shown + 60 and one is not looks[-1]:
            continue
        cpu = (sum(one.threads.values()) - sum(last.threads.values())) / (one.at_s - last.at_s) * 100
        status = one.status
        print(
            f"{one.at_s:6.0f} s  {cpu:5.1f}  {one.memory.rss:7.1f}  {one.memory.pss:7.1f}  "
            f"{status['memory_bytes'] / 1e6:8.1f}  {status['backlog_ms']:11d}  {status['slowest_sync_ms']:16d}"
        )
        shown, last = one.at_s, one
    first, end = looks[min(len(looks) - 1, round(SETTLED_S / LOOK_S))], looks[-1]
    if end is first:
        first = looks[0]
    span_s = end.at_s - first.at_s
    used = {name: (end.threads[name] - first.threads.get(name, 0.0)) / span_s * 100 for name in end.threads}
    print(f"processor by thread, % of one core over {span_s:.0f} s, all together {sum(used.values()):.2f}:")
    for name, share in sorted(used.items(), key=lambda item: -item[1]):
        if share >= 0.01:
            print(f"  {name:<15} {share:6.2f}")


def test_processor_time_by_module_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("from Python 3.12 on one profiler serves a whole process: threads can't be told apart")
    profile = folder / "profile.json"
    with recorder(folder, str(profile)) as running:
        running.record()
        before, began_s = threads(running.pid), time.monotonic()
        time.sleep(min(PROFILED_S, SECONDS))
        took = sum(threads(running.pid).values()) - sum(before.values())
        share = took / (time.monotonic() - began_s) * 100
        assert running.terminate() == 0
    counts: dict[str, float] = defaultdict(float)
    for thread, modules in json.loads(profile.read_text()).items():
        for module, seconds in modules.items():
            counts[f"{thread:<15} {module}"] += seconds
    total = sum(counts.values())
    with capsys.disabled():
        print(f"\nprofiled run (slowed down to {share:.1f} % of a core by the profiler): shares by thread and module")
        for name, seconds in sorted(counts.items(), key=lambda item: -item[1])[:28]:
            print(f"  {seconds / total * 100:5.1f} %  {name}")
    assert any("writer" in name and "encrypt_into" in name for name in counts)


def test_sealing_with_and_without_aes_instructions_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fast, slow = speeds()
    with capsys.disabled():
        print(
            f"\nAES-256-GCM in frames of 8 KiB: {fast:.0f} MB/s of a core with AES instructions, {slow:.0f} MB/s "
            f"without; 8 Mbit/s take {1 / fast * 100:.2f} % and {1 / slow * 100:.2f} %"
        )
    assert slow > 1  # the recorder seals one megabyte a second
