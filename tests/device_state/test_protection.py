"""Which build a device is, by what the kernel says of the disks below two folders."""

import os
from pathlib import Path

import pytest

from agent.device_state.protection import Protection, protection_of


class Tree:
    """A sysfs with some disks, and folders whose file systems are said to lie on them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sys = root / "sys"
        (self.sys / "dev/block").mkdir(parents=True)
        self._root = root
        self._devices: dict[Path, int] = {}
        stat = Path.stat

        def said(path: Path, **more: bool) -> os.stat_result:
            real = stat(path, **more)
            device = self._devices.get(path, real.st_dev)
            return os.stat_result((real.st_mode, real.st_ino, device, *tuple(real)[3:]))

        monkeypatch.setattr(Path, "stat", said)

    def disk(self, name: str, minor: int, *, below: tuple[str, ...] = ()) -> None:
        """A disk; or what is made of others, `below`."""
        folder = self.sys / "devices" / name
        folder.mkdir(parents=True)
        for other in below:
            (folder / "slaves").mkdir(exist_ok=True)
            (folder / "slaves" / other).symlink_to(next((self.sys / "devices").rglob(other)))
        (self.sys / f"dev/block/179:{minor}").symlink_to(folder)

    def partition(self, disk: str, name: str, minor: int) -> None:
        folder = self.sys / "devices" / disk / name
        folder.mkdir(parents=True)
        (folder / "partition").write_text("1\n")
        (self.sys / f"dev/block/179:{minor}").symlink_to(folder)

    def folder(self, name: str, minor: int, major: int = 179) -> Path:
        path = self._root / name
        path.mkdir()
        self._devices[path] = os.makedev(major, minor)
        return path

    def row(self, evidence: Path, state: Path, anchor: str = "none") -> Protection:
        return protection_of(evidence, state, anchor, self.sys)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_two_partitions_of_one_card_are_one_card(tree: Tree) -> None:
    tree.disk("mmcblk0", 0)
    tree.partition("mmcblk0", "mmcblk0p2", 2)
    tree.partition("mmcblk0", "mmcblk0p3", 3)
    assert tree.row(tree.folder("evidence", 3), tree.folder("state", 2)) is Protection.ONE_CARD


def test_card_beside_internal_storage(tree: Tree) -> None:
    for number in (0, 1):
        tree.disk(f"mmcblk{number}", 8 * number)
        tree.partition(f"mmcblk{number}", f"mmcblk{number}p1", 8 * number + 1)
    assert tree.row(tree.folder("evidence", 9), tree.folder("state", 1)) is Protection.SEPARATE_CARD


def test_encrypted_volume_on_the_same_card_is_one_card(tree: Tree) -> None:
    tree.disk("mmcblk0", 0)
    tree.partition("mmcblk0", "mmcblk0p2", 2)
    tree.partition("mmcblk0", "mmcblk0p3", 3)
    tree.disk("dm-0", 20, below=("mmcblk0p3",))
    assert tree.row(tree.folder("evidence", 20), tree.folder("state", 2)) is Protection.ONE_CARD


def test_disks_that_the_kernel_does_not_name_are_taken_for_one(tree: Tree) -> None:
    assert tree.row(tree.folder("evidence", 1, major=0), tree.folder("state", 2, major=0)) is Protection.ONE_CARD
    assert tree.row(tree.folder("e", 77), tree.folder("s", 78)) is Protection.ONE_CARD


def test_folder_that_is_not_there_yet_counts_as_where_it_would_be_made(tree: Tree) -> None:
    tree.disk("mmcblk0", 0)
    tree.disk("mmcblk1", 8)
    state = tree.folder("state", 0)
    assert tree.row(tree.folder("card", 8) / "evidence", state) is Protection.SEPARATE_CARD


def test_anchor_is_a_row_of_its_own(tree: Tree) -> None:
    assert tree.row(tree.folder("e", 1), tree.folder("s", 1), "nvmem:/ram") is Protection.CLOCK_RAM
