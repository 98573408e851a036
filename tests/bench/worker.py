"""One measurement, in a process of its own: `python -m tests.bench.worker '{"what": ..., ...}'` prints JSON.

Times are CPU seconds of this process (user and system, all threads) while the work is done, its imports and the
interpreter's start left out; memory is VmHWM, with what it was before the work as the base. So nothing is imported here
that the work does not need.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import NS, SystemClocks
from agent.media.fmp4_reader import Reader
from agent.media.packet import Kind
from agent.seal.reader import open_message
from agent.seal.recipients import HpkeRecipientKey
from tests.bench import path, piped, stream

RECIPIENTS = 2
WARM_UP_S = 3.0


@dataclass(slots=True)
class Sample:
    """What one run cost.

    Attributes:
        frames, packets, media_bytes: That went through.
        peak_bytes: Most memory resident; `base_bytes` of it before the work began.
        more: What else is told.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    frames: int = 0
    packets: int = 0
    media_bytes: int = 0
    syncs: int = 0
    peak_bytes: int = 0
    base_bytes: int = 0
    more: dict[str, float] = field(default_factory=dict)


@contextmanager
def _measured() -> Iterator[Sample]:
    sample = Sample(base_bytes=piped.resident_peak("self"))
    wall, cpu = time.monotonic(), time.process_time()
    yield sample
    sample.cpu_s, sample.wall_s = time.process_time() - cpu, time.monotonic() - wall
    sample.peak_bytes = piped.resident_peak("self")


def ours(folder: Path, clip: Path, seconds: float, *, sync: bool, check: bool = False) -> Sample:
    """Ring, mux, seal, hash, sync; the source included. Warmed up, as a recorder that runs all day."""
    keys = [HpkeRecipientKey.generate() for _ in range(RECIPIENTS)]
    base = piped.resident_peak("self")
    path.record(folder / "warm-up", keys, stream.opened(clip), round(min(WARM_UP_S, seconds) * NS), sync=sync)
    with _measured() as sample:
        done = path.record(folder / "evidence", keys, stream.opened(clip), round(seconds * NS), sync=sync)
    return _counted(sample, done, base, _opened_frames(folder, keys) if check else None)


def ours_live(folder: Path, clip: Path, seconds: float) -> Sample:
    """The same at the stream's own pace, synced; the source not included."""
    keys = [HpkeRecipientKey.generate() for _ in range(RECIPIENTS)]
    base = piped.resident_peak("self")
    path.record(folder / "warm-up", keys, stream.opened(clip), round(min(WARM_UP_S, seconds) * NS), sync=True)
    source = stream.opened_live(clip, SystemClocks().monotonic_ns)
    with _measured() as sample:
        done, cpu_s = path.record_live(folder / "evidence", keys, source, round(seconds * NS))
    sample.cpu_s = cpu_s
    return _counted(sample, done, base, None)


def _counted(sample: Sample, done: path.Recorded, base: int, opened: int | None) -> Sample:
    counts = done.counts
    sample.frames, sample.packets, sample.media_bytes = counts.frames, counts.packets, counts.media_bytes
    sample.syncs, sample.base_bytes = done.syncs, base
    sample.more = {
        "sealed_bytes": done.sealed_bytes,
        "journal_syncs": done.journal_syncs,
        "ring_bytes": done.ring_bytes,
    }
    if opened is not None:
        sample.more["opened_frames"] = opened
    return sample


def _opened_frames(folder: Path, keys: list[HpkeRecipientKey]) -> int:
    """Pictures that come back out of what was recorded."""
    frames = 0
    for segment in sorted((folder / "evidence" / "recordings" / path.RECORDING).glob("*.seg")):
        with segment.open("rb") as sealed:
            frames += sum(sample.kind is Kind.VIDEO for sample in Reader(iter(open_message(sealed, keys[:1]))))
    return frames


def ours_source(folder: Path, clip: Path, seconds: float, *, live: bool = False) -> Sample:  # noqa: ARG001
    """Our source alone: demuxing, and an object for each packet."""
    stream.drained(stream.opened(clip), round(min(WARM_UP_S, seconds) * NS))
    source = stream.opened_live(clip, SystemClocks().monotonic_ns) if live else stream.opened(clip)
    with _measured() as sample:
        counts = stream.drained(source, round(seconds * NS))
    sample.frames, sample.packets, sample.media_bytes = counts.frames, counts.packets, counts.media_bytes
    return sample


def ffmpeg_age(
    folder: Path,
    clip: Path,
    seconds: float,
    *,
    recipients: list[str],
    sync_after: float = 0.0,
    live: bool = False,
    times: int = 1,
) -> Sample:
    """`ffmpeg -c copy` piped into age, so many times one after the other; start and source included."""
    sample = Sample(more=dict.fromkeys(("ffmpeg_cpu_s", "age_cpu_s", "sync_cpu_s", "reader_cpu_s"), 0.0))
    began = time.monotonic()
    for number in range(times):
        done = piped.seal(clip, seconds, folder / f"{number}.age", recipients, sync_after=sync_after, live=live)
        sample.cpu_s += done.cpu_s
        sample.frames += done.frames
        sample.syncs += done.syncs
        sample.peak_bytes = max(sample.peak_bytes, done.peak_bytes)
        sample.more["ffmpeg_cpu_s"] += done.ffmpeg.cpu_s
        sample.more["age_cpu_s"] += done.age.cpu_s
        sample.more["sync_cpu_s"] += done.sync_cpu_s
        sample.more["reader_cpu_s"] += done.reader_cpu_s
    sample.wall_s = time.monotonic() - began
    return sample


def ffmpeg_source(folder: Path, clip: Path, seconds: float, *, live: bool = False) -> Sample:  # noqa: ARG001
    """ffmpeg reading and dropping the stream; its start included."""
    began = time.monotonic()
    done = piped.demux(clip, seconds, live=live)
    return Sample(done.cpu_s, time.monotonic() - began, done.frames, peak_bytes=done.peak_bytes)


def picamera2(folder: Path, clip: Path, seconds: float, *, syncs_a_second: float = 0.0) -> Sample:
    """CircularOutput2 and PyavOutput; the source included, warmed up like ours."""
    from tests.bench import picamera

    base = piped.resident_peak("self")
    # It holds back its buffer's seconds: less would write nothing.
    picamera.record(picamera.Feed(clip), min(WARM_UP_S + 5, seconds), folder / "warm-up.mp4")
    with _measured() as sample:
        ran = picamera.record(picamera.Feed(clip), seconds, folder / "c.mp4", syncs_a_second=syncs_a_second)
    sample.frames, sample.packets, sample.media_bytes, sample.syncs = ran
    sample.base_bytes = base
    return sample


def picamera2_source(folder: Path, clip: Path, seconds: float) -> Sample:  # noqa: ARG001
    """Its packets, made and dropped."""
    from tests.bench import picamera

    picamera.drain(picamera.Feed(clip), min(WARM_UP_S, seconds))
    with _measured() as sample:
        ran = picamera.drain(picamera.Feed(clip), seconds)
    sample.frames, sample.packets, sample.media_bytes, sample.syncs = ran
    return sample


def limits(folder: Path, budget_s: float) -> dict[str, float]:  # noqa: ARG001
    from tests.bench import raw

    return raw.speeds(budget_s)


def durable(folder: Path, pre_event_s: float, times: int) -> list[dict[str, Any]]:
    """Starts at different moments between two fragments."""
    from tests.bench import latency

    keys = [HpkeRecipientKey.generate() for _ in range(RECIPIENTS)]
    phases = [0.037 * turn for turn in range(times)]
    packets = latency.encode(pre_event_s + latency.LIVE_S + max(phases) + 2.5)
    return [
        asdict(latency.start_to_durable(folder / f"{turn}", keys, packets, pre_event_s, phase_s=phase))
        for turn, phase in enumerate(phases)
    ]


def catching_up(folder: Path, clip: Path, media_s: float) -> float:
    from tests.bench import latency

    keys = [HpkeRecipientKey.generate() for _ in range(RECIPIENTS)]
    return latency.catch_up(folder / "evidence", keys, clip, media_s)


def evidence(folder: Path, clip: Path, seconds: float) -> dict[str, Any]:
    from tests.bench import reading

    reading.make_evidence(folder / "evidence", clip, seconds)
    return asdict(reading.measure(folder / "evidence", folder / "film.mp4"))


def recorder(folder: Path, clip: Path, times: int, live_s: float) -> list[dict[str, Any]]:
    from tests.bench import service

    config = service.provision(folder / "pilot", clip)
    return [asdict(service.live(config, 0.0 if turn else live_s)) for turn in range(times)]


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    work.__name__: work
    for work in (
        ours,
        ours_live,
        ours_source,
        ffmpeg_age,
        ffmpeg_source,
        picamera2,
        picamera2_source,
        limits,
        durable,
        catching_up,
        evidence,
        recorder,
    )
}


def main() -> None:
    job: dict[str, Any] = json.loads(sys.argv[1])
    work = MEASUREMENTS[job.pop("what")]
    if (core := job.pop("core", None)) is not None:
        os.sched_setaffinity(0, {core})
    if "clip" in job:
        job["clip"] = Path(job["clip"])
    with tempfile.TemporaryDirectory(dir=job.pop("folder")) as folder:
        result = work(Path(folder), **job)
    print(json.dumps(asdict(result) if isinstance(result, Sample) else result))


if __name__ == "__main__":
    main()
