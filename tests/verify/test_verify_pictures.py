"""Recordings in which nothing is to be seen are named, and are evidence all the same."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from agent.audit.ledger import read_ledger
from agent.evidence import layout
from agent.evidence.manifest import (
    MANIFEST_TYPE,
    OPENING_TYPE,
    Manifest,
    Opening,
    Written,
    manifest,
    opening,
    without_picture,
)
from agent.keys import jws
from agent.media.packet import Kind, Packet
from agent.verify.findings import Code, Severity, Verdict
from agent.verify.tree import find
from tests.cli.test_ledger_command import app
from tests.independent.verifier import check_folder
from tests.support.device import Device, trust
from tests.support.evidence import Files, check, files_of, found, memory, start, stop, storage_of, whole, write


class Blind(Device):
    """A device whose camera delivers nothing, while its microphone works; as long as it is blind."""

    blind = True

    def play(self, packets: Iterable[Packet]) -> None:
        super().play([p for p in packets if not self.blind or p.stream.parameters.kind is Kind.AUDIO])


@cache
def _blind() -> tuple[Files, str, str]:
    device = Blind(pre_event_s=1.0, segment_s=3.0)
    unseen = start(device, 5)
    stop(device)
    device.blind = False
    device.run(2)
    seen = start(device, 5)
    stop(device)
    device.recorder.close()
    return files_of(memory(device)), unseen, seen


def test_recording_without_a_picture_is_named_and_intact_all_the_same() -> None:
    files, unseen, _ = _blind()
    report = check(files, trust())
    (finding,) = found(report, Code.NO_PICTURE)
    assert (finding.severity, finding.recording, finding.subject) == (Severity.NOTE, unseen, f"recordings/{unseen}")
    assert report.verdict is Verdict.INTACT
    assert report.summary.endswith("; 1 recording WITHOUT ANY PICTURE")
    assert {f.recording for f in found(report, Code.RECORDING_INTACT)} >= {unseen}


def test_recordings_with_pictures_are_not_named() -> None:
    report = check(whole().files, trust())
    assert found(report, Code.NO_PICTURE) == []
    assert "PICTURE" not in report.summary


def test_ledger_names_the_recording_in_words_and_in_json(tmp_path: Path) -> None:
    files, unseen, _ = _blind()
    found_in = find(storage_of(files))
    ledger = read_ledger(found_in.tree, "")
    assert ledger.as_json()["without_picture"] == [unseen]
    ran = CliRunner().invoke(app, [str(write(files, tmp_path))])
    assert f"recording {unseen} holds NO PICTURE" in ran.stdout


def test_verifier_written_from_the_page_names_the_same_recording(tmp_path: Path) -> None:
    files, unseen, _ = _blind()
    said = check_folder(write(files, tmp_path / "evidence"), trust().token)
    assert [f.subject for f in said.all if f.code == "no_picture"] == [f"recordings/{unseen}"]


@cache
def _sample() -> tuple[Opening, Manifest]:
    files, _, seen = _blind()
    return (
        opening(jws.unverified_payload(files[layout.opening(seen, 1)].decode().strip(), OPENING_TYPE)),
        manifest(jws.unverified_payload(files[layout.manifest(seen, 1)].decode().strip(), MANIFEST_TYPE)),
    )


@pytest.mark.parametrize(
    ("changes", "blind"),
    [
        pytest.param({}, True, id="closed, and only sound is counted"),
        pytest.param({"written": [Written(Kind.VIDEO, 1, 0, 1)]}, False, id="a single picture"),
        pytest.param({"recovered": True, "written": []}, False, id="recovered: nobody could count"),
        pytest.param({"recovered": True, "written": [], "bytes": 0}, True, id="recovered, and not a byte was stored"),
    ],
)
def test_segment_is_without_picture_only_where_its_statements_say_so(changes: dict[str, object], blind: bool) -> None:
    said, closed = _sample()
    sound = msgspec.structs.replace(closed, written=[Written(Kind.AUDIO, 3, 0, 3)])
    assert without_picture(said, msgspec.structs.replace(sound, **changes)) is blind
    sound_only = msgspec.structs.replace(said, tracks=[t for t in said.tracks if t.kind is Kind.AUDIO])
    assert without_picture(sound_only, None)
    assert not without_picture(said, None)
    assert not without_picture(None, None)
