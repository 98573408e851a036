"""Power goes at any moment, and the drive drops whatever it had not flushed: what was promised is there all the same.

A real recorder records on ext4, with everything logged that reaches the disk. From the log the disk is made as hundreds
of cuts would leave it, and each is judged by the same rules (see `judging`). BWC_POWER_CUTS says how many for each
setting, BWC_POWER_RESTARTS on how many of them a recorder is started again, BWC_POWER_SEED which.
"""

import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.hardware.power.disks import (
    Cut,
    after,
    check_file_system,
    loop_mounted,
    make_ext4,
    positions,
    read_log,
    scratch,
)
from tests.hardware.power.judging import MOST_LOST_S, Judge, Judgement
from tests.hardware.power.restarting import Restarted, restart
from tests.hardware.power.taking import EVIDENCE, Agency, Setting, Take, play
from tests.hardware.support.debian import CommandError, need
from tests.support.blklog import Log

CUTS = int(os.environ.get("BWC_POWER_CUTS", "60"))
RESTARTS = int(os.environ.get("BWC_POWER_RESTARTS", "5"))
SEED = int(os.environ.get("BWC_POWER_SEED", "20261123"))
AGAIN = 6
"""Cuts while a recorder recovers, after each restart."""
LYING_FLUSHES = 8
LIES = 25
MEGABYTES = 192
MOST_UNREPEATED = 2
SECONDS = 16.0
SETTINGS = tuple(
    Setting(megabits, f"noatime,{alloc}") for alloc in ("auto_da_alloc", "noauto_da_alloc") for megabits in (2, 8)
)


@dataclass
class Bench:
    """The takes of all settings, made once.

    Attributes:
        unrepeated: What was wrong once, and not again.
    """

    root: Path
    agency: Agency
    judge: Judge
    takes: dict[str, tuple[Take, Log]] = field(default_factory=dict)
    unrepeated: list[str] = field(default_factory=list)

    def cut(self, take: Take, log: Log, cut: Cut, where: Path | None = None) -> Judgement:
        """Make the disk that a cut leaves, mount it, and judge it.

        Whatever is wrong with it must be so again: a cut is computed, and always leaves the same. What is not so again
        was this machine's doing, which other programs use as well.
        """
        where = where or self.root / "cut"
        judgement = self._judge(take, log, cut, where)
        if judgement.wrong and not cut.lying_flushes:
            first, judgement = judgement, self._judge(take, log, cut, where)
            if not judgement.wrong:
                self.unrepeated.append(f"{cut}: {'; '.join(first.wrong[:3])}")
        return judgement

    def _judge(self, take: Take, log: Log, cut: Cut, where: Path) -> Judgement:
        image = after(take.base, take.log, log, cut, where.with_suffix(".img"))
        try:
            with loop_mounted(image, where, take.setting.options) as mount:
                judgement = self.judge.judge(take, cut.position, mount / EVIDENCE)
            check_file_system(image)
        except CommandError as error:
            return Judgement([f"the file system: {error}"])
        finally:
            image.unlink()
        return judgement


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    need(
        qemu_storage_daemon="qemu-system-common", losetup="mount", mount="mount", mke2fs="e2fsprogs", e2fsck="e2fsprogs"
    )
    root = scratch()
    try:
        agency = Agency.make(root / "pilot")
        base = make_ext4(root / "base.img", MEGABYTES)
        made = Bench(root, agency, Judge(agency))
        # Two at a time: what they wait for is time, not this machine.
        with ThreadPoolExecutor(2) as pool:
            takes = pool.map(lambda s: play(agency, s, base, root / s.name, seconds=SECONDS), SETTINGS)
            made.takes = {take.setting.name: (take, read_log(take.log)) for take in takes}
        yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


def cuts(
    take: Take, log: Log, count: int, chance: random.Random, *, until: int = 0, lying_flushes: int = 0
) -> Iterator[Cut]:
    """Moments to cut at: every other one out of all time, the others out of all writes, which crowd at each roll."""
    until = until or take.end
    written = positions(log, take.begin, until)
    for number in range(count):
        moment_ns = chance.randint(take.times[0], take.last_moment(until))
        position = take.size_at(moment_ns) if number % 2 else chance.choice(written)
        yield Cut(max(position, take.begin), chance.getrandbits(32), lying_flushes)


def chance_of(setting: Setting, what: str) -> random.Random:
    return random.Random(f"{SEED} {setting.name} {what}")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_what_was_promised_survives_every_cut(
    bench: Bench, setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    take, log = bench.takes[setting.name]
    broken = []
    lost = []
    stalls = 0.0
    for cut in cuts(take, log, CUTS, chance_of(setting, "cuts")):
        judgement = bench.cut(take, log, cut)
        if judgement.lost_s is not None:
            lost.append(judgement.lost_s)
        stalls = max(stalls, judgement.stalled_s)
        broken += [(cut, judgement.wrong)] if judgement.wrong else []
    with capsys.disabled():
        print(
            f"\n{setting.name}: {CUTS} cuts (seed {SEED}) of {len(log.entries)} writes and {len(take.ledger)} syncs, "
            f"{len(broken)} lost something that was promised; {len(lost)} while recording, where the end missed "
            f"{sorted(lost)[len(lost) // 2]:.3f} s in the middle and {max(lost):.3f} s at worst, "
            f"{sum(one > MOST_LOST_S for one in lost)} times more than {MOST_LOST_S} s; "
            f"of the second before, syncs and a machine that stood still took {stalls:.3f} s at worst"
        )
    assert not broken
    assert len(lost) > CUTS / 4


def test_the_check_sees_what_a_drive_loses_that_lies_about_flushing(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = 0
    for setting in SETTINGS:
        take, log = bench.takes[setting.name]
        for cut in cuts(take, log, LIES, chance_of(setting, "lies"), lying_flushes=LYING_FLUSHES):
            seen += bool(bench.cut(take, log, cut).wrong)
    of = LIES * len(SETTINGS)
    with capsys.disabled():
        print(f"\nnegative control, the last {LYING_FLUSHES} flushes not done: loss seen in {seen} of {of}")
    assert seen >= of * 0.8


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_recorder_goes_on_after_a_cut_and_another_cut_while_it_recovers_costs_nothing(
    bench: Bench, setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    take, log = bench.takes[setting.name]
    chance = chance_of(setting, "restarts")
    chosen = [(number, cut, chance.getrandbits(32)) for number, cut in enumerate(cuts(take, log, RESTARTS, chance))]

    def go_on(number: int, cut: Cut, seed: int) -> tuple[Restarted, list[list[str]]]:
        """Start a recorder after a cut, and judge what further cuts leave; after the first of them start one again."""
        folder = bench.root / f"{setting.name}-{number}"
        restarted = restart(bench.agency, bench.judge, (take, log, cut), folder)
        second = read_log(restarted.take.log)
        others = list(cuts(restarted.take, second, AGAIN, random.Random(seed), until=restarted.recovered))
        wrong = []
        for other in others:
            judgement = bench.cut(restarted.take, second, other, folder / "second")
            wrong.append(judgement.wrong + less(restarted, judgement))
        if number == 0:
            restart(bench.agency, bench.judge, (restarted.take, second, others[0]), folder / "third")
        shutil.rmtree(folder)
        return restarted, wrong

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda one: go_on(*one), chosen))
    broken = [wrong for _, several in done for wrong in several if wrong]
    with capsys.disabled():
        print(
            f"\n{setting.name}: {RESTARTS} restarts after a cut, one after another cut while it recovered; all said "
            f"what had happened and recorded on, {sum(bool(one.interrupted) for one, _ in done)} went on with a "
            f"recording, {sum(one.torn_bytes > 0 for one, _ in done)} found a torn end; "
            f"{RESTARTS * AGAIN} cuts while recovering, {len(broken)} lost something"
        )
    assert not broken


def test_what_was_judged_was_judged_the_same_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        for told in bench.unrepeated:
            print(f"\nwrong once, and not when the same cut was made again: {told}")
    assert len(bench.unrepeated) <= MOST_UNREPEATED


def less(restarted: Restarted, judgement: Judgement) -> list[str]:
    """Pictures that were there after the first cut and are gone after the second."""
    return [
        f"{recording}: {footage.pictures} pictures before the second cut, {judgement.footage[recording].pictures} after"
        for recording, footage in restarted.footage.items()
        if recording not in judgement.footage or judgement.footage[recording].pictures < footage.pictures
    ]
