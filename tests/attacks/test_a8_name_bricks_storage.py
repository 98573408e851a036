"""One unsigned line whose recording has a name that is no id: it costs that line, never storage or the recording."""

from pathlib import Path

import pytest

from agent.evidence.layout import journal
from agent.journal.boot_recovery import read_recovery_state, read_tail
from agent.journal.entries import AnyEntry, Continued, RecordingStarted, Tampered
from agent.storage.disk import DiskStorage
from tests.attacks.test_card_attacks import chain_on, interrupted, memory
from tests.support.device import owner
from tests.support.evidence import files_of, write

NAMES = ("../x", "n" * 300, "deep/er", ".", "", "a\nb", "\x1b[2J", "r-0001\n", "Ω", "-x", "/etc")


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:12])
@pytest.mark.parametrize("kind", ["started", "continued"])
def test_recording_whose_name_is_no_id_costs_its_line_only(name: str, kind: str, tmp_path: Path) -> None:
    device = interrupted()
    running = device.recording
    said: AnyEntry = RecordingStarted(name, "button", 1, 0, 0, 0, "") if kind == "started" else Continued(running, name)
    chain_on(device, said)
    evidence = write(files_of(memory(device)), tmp_path / "evidence")
    before = (evidence / journal(1)).read_bytes()
    device.storage = DiskStorage(evidence)
    for _ in range(2):
        device.boot()
        device.run(4)
    status = device.recorder.status()
    assert (status.boot, status.recording, status.storage_failing) == (3, running, False)
    assert listed(evidence / "journal") == [f"{boot:08d}.jsonl" for boot in (1, 2, 3)]
    assert listed(evidence / "recordings") == [running]
    assert listed(tmp_path) == ["evidence"]
    assert {f"{number:04d}.seg" for number in (1, 2, 3)} <= set(listed(evidence / "recordings" / running))
    assert (evidence / journal(1)).read_bytes() == before
    assert [entry.what for entry in device.entries(Tampered, 2) if isinstance(entry, Tampered)].count(
        "journal_damaged"
    ) == 1


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:12])
def test_refused_line_is_named_in_plain_characters(name: str) -> None:
    device = interrupted()
    chain_on(device, RecordingStarted(name, "button", 1, 0, 0, 0, ""))
    identity = owner().signer.public_key
    (refused,) = read_recovery_state(device.storage, read_tail(device.storage, identity), identity).refused
    assert refused.isascii()
    assert refused.isprintable()
    assert "boot 1" in refused
