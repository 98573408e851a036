from dataclasses import asdict
from pathlib import Path

from agent.capture import parse_spec, unpaced
from agent.clock import NS
from agent.seal.recipients import HpkeRecipientKey
from tests.bench import path, rounds, table, worker
from tests.bench.stream import CLIP, Described
from tests.support.clips import clip

KEYS = [HpkeRecipientKey.generate()]
DESCRIBED = Described("a clip", 340_000, 30)


def test_path_under_measurement_records_a_second_with_a_sync_for_each_fragment(tmp_path: Path) -> None:
    source = parse_spec("pattern:320x240@30,300k", unpaced(lambda: 0)).open(1)
    done = path.record(tmp_path, KEYS, source, NS, sync=True)
    assert done.counts.frames == 30
    assert done.counts.packets > done.counts.frames
    assert done.sealed_bytes > done.counts.media_bytes
    fragments = 5
    assert done.syncs >= fragments


def test_measured_recording_opens_whole(tmp_path: Path) -> None:
    sample = worker.ours(tmp_path, clip(CLIP), 1.0, sync=False, check=True)
    assert sample.more["opened_frames"] == sample.frames > 0
    assert sample.cpu_s > 0
    assert sample.peak_bytes >= sample.base_bytes > 0


def test_table_names_what_could_not_be_measured() -> None:
    figures = rounds.Figures(missing={"c": "no camera library"})
    for name in ("a", "a source"):
        sample = worker.Sample(cpu_s=0.01, wall_s=0.1, frames=30, packets=77, media_bytes=1, peak_bytes=2, base_bytes=1)
        figures.samples[name] = [asdict(sample)]
    text = table.report(figures, DESCRIBED, rounds.QUICK, "clip.mp4", "a disk")
    assert "(a) ours" in text
    assert "Not measured: c: no camera library" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {len(table.HEAD) + 1, 4}
