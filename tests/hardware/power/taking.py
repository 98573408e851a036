"""A recorder at work on a logged disk, and what was promised meanwhile, by whom, and when."""

import json
import shutil
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from agent.clock import NS
from agent.demo.stage import run_tool
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import parse_line
from agent.keys import jws
from agent.trust.authorization import TYP as AUTHORISATION
from tests.hardware.power.disks import LoggedDisk, logged
from tests.hardware.power.observed import STATE
from tests.support.running import Running, change

SEGMENT_S = 2.0
PRE_EVENT_S = 2.0
DRAINED_MS = 300
"""The backlog from which on a recording is up to date."""
SAMPLE_S = 0.002
EVIDENCE = "evidence"
HOLD_S = 3.2
STALL_NS = 50_000_000
"""Who looks every few milliseconds, and does so no sooner than after this, was kept from it."""
FOR_EVER_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class Setting:
    """Under which conditions is recorded.

    Attributes:
        megabits: A second, of pictures.
        options: Mount options of ext4.
    """

    megabits: int
    options: str

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.megabits}M-{self.options.replace(',', '-').replace('=', '')}"

    @property
    def camera(self) -> str:
        """The source that makes pictures of this bit rate."""
        size = "848x480" if self.megabits < 4 else "1280x720"
        return f"pattern:{size}@30,{self.megabits}M,gop=15"


@dataclass(frozen=True, slots=True)
class Agency:
    """A provisioned agency and device, which every recorder gets a copy of."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Agency":
        """Provision it."""
        code, said = run_tool("init", str(folder))
        assert code == 0, said
        return cls(folder)

    @property
    def trust(self) -> Path:
        """The trust document."""
        return self.folder / "agency" / "trust.jws"

    @property
    def custodian(self) -> Path:
        """A key that opens what is recorded."""
        return self.folder / "agency" / "custodian" / "custodian.pem"

    @property
    def supervisor(self) -> Path:
        """A key that gives leave."""
        return self.folder / "agency" / "supervisor" / "supervisor.pem"

    @property
    def device_key(self) -> Path:
        """The identity key."""
        return self.folder / "device" / "device.pem"

    def recorder(self, folder: Path, evidence: Path, camera: str, *prefix: str) -> Running:
        """A recorder that keeps its evidence at `evidence` and everything else in `folder`."""
        shutil.copytree(self.folder / "device", folder / "device", ignore=shutil.ignore_patterns("evidence"))
        config = folder / "device" / "config.toml"
        change(config, 'path = "evidence"', f'path = "{evidence}"')
        change(config, 'state = "state"', f'state = "{(evidence / STATE).parent}"')
        change(config, 'camera = "pattern"', f'camera = "{camera}"')
        change(config, "pre_event_s = 30.0", f"pre_event_s = {PRE_EVENT_S}")
        change(config, "segment_s = 60.0", f"segment_s = {SEGMENT_S}")
        change(config, "unsafe_permit_everything = false", "unsafe_permit_everything = true")
        running = Running(config, prefix)
        running.evidence = evidence
        return running


@dataclass(frozen=True, slots=True)
class Span:
    """A recording's time, on the monotonic clock, between its backlog being drained and its stop being asked for.

    `began_ns` is when it began in this boot: what an earlier one recorded of it ends before that, and the dark between.
    `granted_at` is the log's size when it was seen to have been stopped, `stopped_at` when the line that says so had
    been synced; 0 if it was not stopped. A cut between them lets it go on: recording more is the safe side.
    """

    recording: str
    from_ns: int
    to_ns: int
    began_ns: int
    granted_at: int = 0
    stopped_at: int = 0


@dataclass(slots=True)
class Take:
    """What one recorder has done on one disk.

    Attributes:
        base: The disk before.
        log: The log of all that was written to it.
        reference: The evidence as it stood at the end.
        begin, end: Log sizes between which power may go.
        times, sizes: How large the log was when.
        ledger: What each sync promised (see `observed`).
        spans: What was recorded.
        used: Ids of authorisations that the recorder has said it took, with the log's size by then.
        held: Evidence that was on the disk before, and how long each file was; `before` has the hashes of files that
            are replaced as a whole.
    """

    setting: Setting
    base: Path
    log: Path
    reference: Path
    begin: int = 0
    end: int = 0
    times: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    used: list[tuple[str, int]] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)

    def last_moment(self, position: int) -> int:
        """When, at the latest, the log was of this size: monotonic nanoseconds."""
        return self.times[max(0, bisect_right(self.sizes, position) - 1)]

    def stalled_s(self, moment_ns: int) -> float:
        """How much of the second before a sync was under way, or the machine ran nobody: no recorder can store then."""
        low, high = bisect_left(self.times, moment_ns - NS), bisect_right(self.times, moment_ns)
        seen = [*self.times[low:high], moment_ns]
        spans = [(before + STALL_NS, after) for before, after in pairwise(seen) if after - before > STALL_NS]
        spans += [(line["t"] - line["took"], line["t"]) for line in self.ledger if "took" in line]
        total, done = 0, moment_ns - NS
        for begin, end in sorted(spans):
            if min(end, moment_ns) > max(begin, done):
                total += min(end, moment_ns) - max(begin, done)
                done = min(end, moment_ns)
        return total / NS

    def size_at(self, moment_ns: int) -> int:
        """How large the log was at a time."""
        return self.sizes[max(0, bisect_right(self.times, moment_ns) - 1)]


class _Sampler:
    """Looks at the log's size all the time."""

    def __init__(self, disk: LoggedDisk) -> None:
        self._disk = disk
        self._ending = threading.Event()
        self.times: list[int] = []
        self.sizes: list[int] = []
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def _run(self) -> None:
        while not self._ending.wait(SAMPLE_S):
            before = time.monotonic_ns()  # the size is of then or later, so that no promise is dated too early
            self.sizes.append(self._disk.size)
            self.times.append(before)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()


@dataclass(slots=True)
class Stage:
    """A recorder that runs, and its disk."""

    agency: Agency
    disk: LoggedDisk
    recorder: Running
    take: Take
    began_ns: int = 0

    def record(self) -> tuple[str, int]:
        """Start a recording; its id, and when it had caught up."""
        recording = str(self.recorder.ask("start")["recording"])
        return recording, self.caught_up(recording)

    def caught_up(self, recording: str) -> int:
        """When a recording that runs had caught up with its camera, in monotonic nanoseconds."""
        status = self.recorder.until(
            lambda s: s["recording"] == recording and s["recording_s"] > 0.3 and s["backlog_ms"] < DRAINED_MS
        )
        now = time.monotonic_ns()
        self.began_ns = now - round(status["recording_s"] * NS)
        return now

    def authorise(self, recording: str) -> None:
        """Have the recorder take a supervisor's leave, and note that it said so."""
        device = self.recorder.status()["device"]
        code, said = run_tool(
            "authorize", "--key", str(self.agency.supervisor), "--action", "StopRecording", "--device", device,
            "--recording", recording, "--trust", str(self.agency.trust), "--json",
        )  # fmt: skip
        assert code == 0, said
        token = str(json.loads(said)["token"])
        self.recorder.ask("authorize", token=token)
        self.take.used.append((str(jws.unverified_payload(token, AUTHORISATION)["jti"]), self.disk.size))

    def stop(self, recording: str, from_ns: int) -> None:
        """Stop by the buttons; noted once the recorder says that it stands by."""
        to_ns = time.monotonic_ns()
        self.recorder.ask("press", name="record", hold_s=HOLD_S, times=1)
        self.recorder.until(lambda status: not status["recording"])
        self.take.spans.append(Span(recording, from_ns, to_ns, self.began_ns, self.disk.size))

    def goes_on(self, recording: str, from_ns: int) -> None:
        """Note that it records until the end."""
        self.take.spans.append(Span(recording, from_ns, FOR_EVER_NS, self.began_ns))


@contextmanager
def staged(agency: Agency, setting: Setting, base: Path, folder: Path) -> Iterator[Stage]:
    """A recorder on a logged copy of `base`, from before its start to its kill; the take is complete after this."""
    folder.mkdir()
    with logged(base, folder / "disk", setting.options) as disk:
        evidence = disk.mount / EVIDENCE
        ledger = folder / "ledger.jsonl"
        ledger.touch()
        witness = (sys.executable, "-m", "tests.hardware.power.observed", str(disk.log), str(ledger), str(evidence))
        recorder = agency.recorder(folder, evidence, setting.camera, *witness)
        take = Take(setting, base, disk.log, folder / "reference", begin=disk.size)
        with _Sampler(disk) as sampler, recorder:
            yield Stage(agency, disk, recorder, take)
            take.end = disk.size
            recorder.kill()
        take.times, take.sizes = sampler.times, sampler.sizes
        shutil.copytree(evidence, take.reference)
    take.ledger = [json.loads(line) for line in ledger.read_bytes().splitlines()]
    take.spans = [replace(span, stopped_at=_end_synced(take, span)) if span.granted_at else span for span in take.spans]


def _end_synced(take: Take, span: Span) -> int:
    """The log's size when the line that a recording has ended was on storage."""
    name = layout.journal(1)
    length = 0
    for raw in (take.reference / name).read_bytes().splitlines(keepends=True):
        length += len(raw)
        entry = parse_line(raw.rstrip(b"\n")).entry
        if isinstance(entry, entries.RecordingEnded) and entry.recording == span.recording:
            break
    return next(int(line["log"]) for line in take.ledger if line.get("data") == name and line["size"] >= length)


def play(agency: Agency, setting: Setting, base: Path, folder: Path, *, seconds: float) -> Take:
    """One take: standby, a recording that is stopped, standby, and one that runs until the end."""
    with staged(agency, setting, base, folder) as stage:
        recording, from_ns = stage.record()
        first_until = time.monotonic() + seconds / 2 - HOLD_S
        while time.monotonic() < first_until:
            time.sleep(1.0)
            stage.authorise(recording)
        stage.stop(recording, from_ns)
        time.sleep(0.3)
        recording, from_ns = stage.record()
        stage.recorder.until(lambda status: status["recording_s"] > seconds / 2)
        stage.goes_on(recording, from_ns)
    return stage.take
