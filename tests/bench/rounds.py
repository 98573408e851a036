"""Runs all measurements, alternating, and makes figures of them: medians, and ratios within each round."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.piped import SYNCS_A_SECOND, new_recipients
from tests.bench.stream import Described

START_S = 0.2
"""So short a stream that what ffmpeg and age use for it is their start."""
RECIPIENTS = 2
ROOT = Path(__file__).resolve().parents[2]


class MeasurementError(RuntimeError):
    """A measurement's process failed; the text is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: seconds of media a run, rounds, seconds and rounds at the stream's own pace, and so on."""

    seconds: float = 60.0
    rounds: int = 9
    live_s: float = 10.0
    live_rounds: int = 3
    starts: int = 9
    long_starts: int = 5
    stall_s: float = 60.0
    evidence_s: float = 600.0
    service_starts: int = 5
    raw_s: float = 1.0


QUICK = Amount(6.0, 1, 2.0, 1, 2, 1, 10.0, 20.0, 1, 0.1)
"""Enough to see that everything works; the figures mean little."""


@dataclass(slots=True)
class Figures:
    """Everything that was measured.

    Attributes:
        samples: Of each kind of run, one a round.
        missing: Kinds that could not be measured, and why.
        single: What is not repeated in rounds.
    """

    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    single: dict[str, Any] = field(default_factory=dict)


def worker(what: str, folder: Path, *, environment: Mapping[str, str] | None = None, **job: Any) -> Any:
    """One measurement in a process of its own.

    Raises:
        MeasurementError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.worker", json.dumps({"what": what, "folder": str(folder), **job})],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MeasurementError(" / ".join(done.stderr.strip().splitlines()[-2:]))
    return json.loads(done.stdout.splitlines()[-1])


def without_aes() -> dict[str, str]:
    """Environment in which OpenSSL uses no AES, carry-less multiply, vector AES or SHA instructions."""
    return {"OPENSSL_ia32cap": "~0x200000200000000:~0x60020000000", "OPENSSL_armcap": "0x1"}


def run_all(clip: Path, described: Described, folder: Path, amount: Amount, say: Callable[[str], None]) -> Figures:
    """All measurements of one run."""
    figures = Figures()
    age = new_recipients(folder, RECIPIENTS)
    source = {"clip": str(clip), "seconds": amount.seconds}
    live = {"clip": str(clip), "seconds": amount.live_s}
    start = {"clip": str(clip), "seconds": START_S}
    sync_after = described.bytes_a_second / SYNCS_A_SECOND
    runs: list[tuple[str, str, dict[str, Any]]] = [
        ("a", "ours", {**source, "sync": False}),
        ("b", "ffmpeg_age", {**source, "recipients": age}),
        ("c", "picamera2", {**source, "sync": False}),
        ("a source", "ours_source", source),
        ("b start", "ffmpeg_age", {**start, "recipients": age}),
        ("b source", "ffmpeg_source", source),
        ("b source start", "ffmpeg_source", start),
        ("c source", "picamera2_source", source),
        ("a synced", "ours", {**source, "sync": True}),
        ("b synced", "ffmpeg_age", {**source, "recipients": age, "sync_after": sync_after}),
        ("c synced", "picamera2", {**source, "sync": True}),
    ]
    live_runs: list[tuple[str, str, dict[str, Any]]] = [
        ("a live", "ours_live", live),
        ("b live", "ffmpeg_age", {**live, "recipients": age, "sync_after": sync_after, "live": True}),
        ("a live source", "ours_source", {**live, "live": True}),
        ("b live source", "ffmpeg_source", {**live, "live": True}),
    ]
    for number in range(amount.rounds):
        say(f"round {number + 1} of {amount.rounds}")
        _round(figures, runs[number % len(runs) :] + runs[: number % len(runs)], folder)
    for number in range(amount.live_rounds):
        say(f"at the stream's own pace, round {number + 1} of {amount.live_rounds}")
        _round(figures, live_runs, folder)
    say("without AES instructions")
    slow = without_aes()
    _once(figures, "limits", lambda: worker("limits", folder, budget_s=amount.raw_s))
    _once(figures, "limits, no AES", lambda: worker("limits", folder, environment=slow, budget_s=amount.raw_s))
    _once(figures, "a, no AES", lambda: worker("ours", folder, environment=slow, **source, sync=False))
    say("starts")
    _once(figures, "durable 5", lambda: worker("durable", folder, pre_event_s=5.0, times=amount.starts))
    _once(figures, "durable 30", lambda: worker("durable", folder, pre_event_s=30.0, times=amount.long_starts))
    say("catching up")
    _once(figures, "catching up", lambda: worker("catching_up", folder, clip=str(clip), media_s=amount.stall_s))
    say("checking and opening")
    _once(figures, "evidence", lambda: worker("evidence", folder, clip=str(clip), seconds=amount.evidence_s))
    say("the recorder's own process")
    lives = amount.service_starts
    _once(figures, "recorder", lambda: worker("recorder", folder, clip=str(clip), times=lives, live_s=amount.live_s))
    return figures


def _round(figures: Figures, runs: Sequence[tuple[str, str, dict[str, Any]]], folder: Path) -> None:
    for name, what, job in runs:
        if name not in figures.missing:
            try:
                figures.samples.setdefault(name, []).append(worker(what, folder, **job))
            except MeasurementError as error:
                figures.missing[name] = str(error)


def _once(figures: Figures, name: str, work: Callable[[], Any]) -> None:
    try:
        figures.single[name] = work()
    except MeasurementError as error:
        figures.missing[name] = str(error)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of some values."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


class Rounds:
    """CPU a picture, in microseconds, by round, the source's share taken off; None where something is missing.

    Which rounds belong together: the samples of one kind in the order in which they were taken.
    """

    def __init__(self, figures: Figures) -> None:
        self._samples = figures.samples

    def raw(self, name: str) -> list[float] | None:
        """As measured, microseconds a picture."""
        samples = self._samples.get(name)
        return [sample["cpu_s"] / sample["frames"] * 1e6 for sample in samples] if samples else None

    def _seconds(self, name: str) -> list[float] | None:
        samples = self._samples.get(name)
        return [sample["cpu_s"] for sample in samples] if samples else None

    def _frames(self, name: str) -> list[int]:
        return [sample["frames"] for sample in self._samples[name]]

    def less(self, name: str, *others: str) -> list[float] | None:
        """A run's CPU without that of others, a picture."""
        total = self._seconds(name)
        parts = [self._seconds(other) for other in others]
        if total is None or any(part is None for part in parts):
            return None
        rows = zip(total, self._frames(name), *(_matched(part, len(total)) for part in parts if part), strict=True)
        return [(row[0] - sum(row[2:])) / row[1] * 1e6 for row in rows]

    def ffmpeg_source(self, name: str = "b source") -> list[float] | None:
        """What reading costs ffmpeg, its start left out, in CPU seconds."""
        total, start = self._seconds(name), self._seconds("b source start")
        if total is None or start is None:
            return None
        return [max(0.0, a - b) for a, b in zip(total, _matched(start, len(total)), strict=True)]

    def piped(self, name: str, source: str, *, with_start: bool) -> list[float] | None:
        """`ffmpeg | age` without its source, a picture."""
        total, read, start = self._seconds(name), self.ffmpeg_source(source), self._seconds("b start")
        if total is None or read is None or start is None:
            return None
        rows = zip(total, self._frames(name), _matched(read, len(total)), _matched(start, len(total)), strict=True)
        return [(cpu - src - (0 if with_start else begin)) / frames * 1e6 for cpu, frames, src, begin in rows]


def _matched(values: Sequence[float], length: int) -> list[float]:
    """As many values as there are rounds of the other: their own, or the median for each."""
    return list(values) if len(values) == length else [median(values)] * length


def ratio(these: Sequence[float] | None, those: Sequence[float] | None) -> Spread | None:
    """Within each round; None where one of both is missing."""
    if these is None or those is None:
        return None
    pairs = [(a, b) for a, b in zip(these, those, strict=False) if b > 0]
    return Spread.of([a / b for a, b in pairs]) if pairs else None
