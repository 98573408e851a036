"""On a real, running recorder: kill it while it records, make its newest segment 4 TiB long, start it again."""

import os
from pathlib import Path

import pytest

from agent.evidence import layout
from agent.journal.entries import SegmentRecovered
from tests.support.running import Running, provision, wait_for


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    return provision(tmp_path / "pilot")


def test_recorder_that_was_killed_records_on_beside_a_segment_of_four_tebibytes(pilot: Path) -> None:
    with Running(pilot) as recorder:
        recording = recorder.record(2.0)
        recorder.kill()
        sealed = recorder.evidence / layout.segment(recording, 1)
        size = sealed.stat().st_size
        os.truncate(sealed, 4 << 40)
        recorder.start()
        following = recorder.evidence / layout.segment(recording, 2)
        wait_for(lambda: following.exists() and following.stat().st_size > 10_000)
        status = recorder.until(lambda status: status["recording_s"] > 3)
        assert status["recording"] == recording
        assert not status["storage_failing"]
        assert status["backlog_ms"] < 2000
        wait_for(lambda: any(isinstance(entry, SegmentRecovered) for entry in recorder.entries(2)))
        assert recorder.terminate() == 0
        assert sealed.stat().st_size == 4 << 40, "evidence is never altered, not even by whoever altered it"
        with sealed.open("rb") as stream:
            assert len(stream.read(size)) == size
