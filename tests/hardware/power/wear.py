"""How much is written to a card for what is recorded: every write is counted, and said whose it is.

`python -m tests.hardware.power.wear` prints a table; it takes some minutes and root. BWC_WEAR_S says how long each
recording lasts.
"""

import os
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.hardware.power import taking
from tests.hardware.power.disks import BLOCK, make_ext4, read_log, scratch
from tests.hardware.power.taking import Agency, Setting, Take, staged
from tests.hardware.support.debian import run
from tests.support.blklog import FLUSH

SECONDS = float(os.environ.get("BWC_WEAR_S", "30"))
MEGABYTES = 256
OPTIONS = ("noatime", "relatime", "noatime,commit=30", "noatime,lazytime")
_EXTENT = re.compile(r"\s*(\d+)/\s*(\d+)\s+\d+/\s*\d+\s+\d+ -\s+\d+\s+(\d+) -\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Wear:
    """What one recording cost.

    Attributes:
        recorded: Bytes of sealed segments; `evidence`: of all files, the journal among them.
        written: Bytes that reached the disk; `journal`: those of the file system's own journal.
        requests, flushes, syncs: How many.
    """

    recorded: int
    evidence: int
    written: int
    journal: int
    requests: int
    flushes: int
    syncs: int
    seconds: float


def record(agency: Agency, setting: Setting, base: Path, folder: Path, seconds: float) -> Take:
    """A recording, from its being caught up on; the take's `begin` and `end` lie around that."""
    with staged(agency, setting, base, folder) as stage:
        stage.record()
        time.sleep(1.0)
        begin, before = stage.disk.size, sizes(stage.recorder.evidence)
        time.sleep(seconds)
        after = sizes(stage.recorder.evidence)
    take = stage.take
    take.begin = begin
    take.held = {name: size - before.get(name, 0) for name, size in after.items()}
    return take


def sizes(evidence: Path) -> dict[str, int]:
    """Lengths of all files."""
    return {str(p.relative_to(evidence)): p.stat().st_size for p in evidence.rglob("*") if p.is_file()}


def wear(take: Take, seconds: float) -> Wear:
    """What a take's log says of it."""
    log = read_log(take.log)
    entries = [entry for entry in log.entries if take.begin < entry.end <= take.end]
    blocks = journal_blocks(take)
    counts: Counter[str] = Counter()
    for entry in entries:
        size = entry.sectors * log.sector_size
        counts["written"] += size
        if any(low <= entry.sector * log.sector_size < high for low, high in blocks):
            counts["journal"] += size
    return Wear(
        recorded=sum(size for name, size in take.held.items() if name.endswith(".seg")),
        evidence=sum(take.held.values()),
        written=counts["written"],
        journal=counts["journal"],
        requests=sum(entry.writes for entry in entries),
        flushes=sum(bool(entry.flags & FLUSH) for entry in entries),
        syncs=sum(take.begin < line["log"] <= take.end for line in take.ledger if "made" not in line),
        seconds=seconds,
    )


def journal_blocks(take: Take) -> list[tuple[int, int]]:
    """Where the file system's journal lies, in bytes of the disk, as debugfs tells its extents."""
    said = run("debugfs", "-R", "dump_extents <8>", take.base)
    found = []
    for line in said.splitlines():
        match = _EXTENT.match(line)
        if match and match[1] == match[2]:
            found.append((int(match[3]) * BLOCK, (int(match[4]) + 1) * BLOCK))
    assert found, said
    return found


def main() -> None:
    """Print the table."""
    taking.SEGMENT_S = 60.0
    root = scratch()
    try:
        agency = Agency.make(root / "pilot")
        base = make_ext4(root / "base.img", MEGABYTES)
        print(f"{SECONDS:.0f} s each, segments of {taking.SEGMENT_S:.0f} s, ext4 with blocks of 4 KiB")
        print(
            f"Mbit/s  {'options':<20}  recorded   evidence    written  of it jbd2  writes/s  flushes/s  syncs/s  "
            "written/recorded"
        )
        for megabits in (2, 8):
            for options in sys.argv[1:] or OPTIONS:
                folder = root / Setting(megabits, options).name
                found = wear(record(agency, Setting(megabits, options), base, folder, SECONDS), SECONDS)
                print(
                    f"{megabits:6d}  {options:<20}  {found.recorded / 1e6:5.2f} MB  {found.evidence / 1e6:6.2f} MB  "
                    f"{found.written / 1e6:6.2f} MB   {found.journal / 1e6:5.2f} MB  "
                    f"{found.requests / found.seconds:8.1f}  {found.flushes / found.seconds:9.1f}  "
                    f"{found.syncs / found.seconds:7.1f}  {found.written / found.recorded:.3f}",
                    flush=True,
                )
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
