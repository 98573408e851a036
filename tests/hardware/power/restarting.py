"""What a recorder does on a disk that a cut has left: it says what happened, and records on."""

import time
from dataclasses import dataclass
from pathlib import Path

from agent.evidence import layout
from agent.journal import entries
from agent.verify.findings import Verdict
from tests.hardware.power.disks import Cut, after, copy, loop_mounted
from tests.hardware.power.judging import Footage, Judge, held, said_by, versions
from tests.hardware.power.taking import EVIDENCE, Agency, Take, staged
from tests.support.blklog import Log
from tests.support.running import wait_for

RECORD_ON_S = 0.7


@dataclass(frozen=True, slots=True)
class Restarted:
    """A recorder that was started after a cut, and killed again.

    Attributes:
        take: What it did; its base is the disk that the cut had left.
        footage: What could be seen before.
        interrupted: The recording that it went on with; empty if it stood by.
        torn_bytes: That it found behind whole lines and frames.
        recovered: The size of the log when it recorded again.
    """

    take: Take
    footage: dict[str, Footage]
    interrupted: str
    torn_bytes: int
    recovered: int


def restart(agency: Agency, judge: Judge, cut: tuple[Take, Log, Cut], folder: Path) -> Restarted:
    """Start a recorder on what a cut has left, have it record, and look at what it says.

    Raises:
        AssertionError: It does not start, does not say what happened, or does not record on.
    """
    folder.mkdir()
    take, log, where = cut
    base = after(take.base, take.log, log, where, folder / "cut.img")
    with loop_mounted(copy(base, folder / "look.img"), folder / "look", take.setting.options) as mount:
        before, replaced = held(mount / EVIDENCE), versions(mount / EVIDENCE)
        footage = judge.footage(mount / EVIDENCE)
    with staged(agency, take.setting, base, folder / "again") as stage:
        stage.take.held, stage.take.before = before, replaced
        status = stage.recorder.status()
        wait_for(lambda: bool(said_by(stage.recorder.evidence, int(status["boot"]))))
        began = said_by(stage.recorder.evidence, int(status["boot"]))[0]
        if isinstance(began, entries.Boot) and began.interrupted:
            status = stage.recorder.until(lambda status: bool(status["recording"]))
        recording = str(status["recording"])
        from_ns = stage.caught_up(recording) if recording else 0
        if not recording:
            recording, from_ns = stage.record()
        recovered_at = stage.disk.size
        stage.goes_on(recording, from_ns)
        time.sleep(RECORD_ON_S)
    evidence = stage.take.reference
    boot = int(status["boot"])
    told = said_by(evidence, boot)
    first = told[0]
    assert isinstance(first, entries.Boot)
    allowed = _may_be_interrupted(take, where.position)
    assert first.interrupted in allowed, f"it goes on with {first.interrupted!r}, expected one of {sorted(allowed)}"
    recovered = [entry for entry in told if isinstance(entry, entries.SegmentRecovered)]
    refused = [entry for entry in told if isinstance(entry, entries.Refused)]
    assert refused == []
    assert_all_is_closed(evidence, recovered, newest=recording)
    report = judge.verdict(evidence)
    assert report.verdict is not Verdict.NOT_INTACT, report.bad
    assert judge.footage(evidence)[recording].pictures > footage.get(recording, Footage()).pictures
    torn = first.torn_bytes + sum(entry.torn_bytes for entry in recovered)
    return Restarted(stage.take, footage, first.interrupted, torn, recovered_at)


def _may_be_interrupted(take: Take, position: int) -> set[str]:
    """Which recordings may go on after a cut; the empty one is standby."""
    moment_ns = take.last_moment(position)
    for span in take.spans:
        if span.from_ns <= moment_ns <= span.to_ns:
            return {span.recording}
    return {""} | {span.recording for span in take.spans if not 0 < span.stopped_at <= position}


def assert_all_is_closed(evidence: Path, recovered: list[entries.SegmentRecovered], *, newest: str) -> None:
    """Every segment but the one that is being written has a manifest, and what was closed now was said to be."""
    said = {(entry.recording, entry.segment) for entry in recovered}
    for folder in (evidence / layout.RECORDINGS).iterdir():
        numbers = sorted(int(path.name[:4]) for path in folder.glob("*.opening.jws"))
        open_ = numbers[-1] if folder.name == newest else 0
        for number in numbers:
            manifest = folder / f"{number:04d}.manifest.jws"
            assert manifest.is_file() or number == open_, f"{folder.name}, segment {number}, was left open"
            assert (folder.name, number) not in said or manifest.is_file()
    assert all(entry.ended == "power_loss" and entry.whole_bytes >= entry.attested_bytes for entry in recovered)
