"""How well this device's build protects its state: the row of SECURITY.md's table that it is in."""

import os
from enum import StrEnum
from pathlib import Path

from agent.device_state.anchor import NONE

_MAX_LAYERS = 8


class Protection(StrEnum):
    """The rows of the table, the weakest first."""

    ONE_CARD = "one_card"
    SEPARATE_CARD = "separate_card"
    CLOCK_RAM = "clock_ram"

    @property
    def text(self) -> str:
        """The row's name in the table."""
        return _TEXT[self]


_TEXT = {
    Protection.ONE_CARD: "one card for everything",
    Protection.SEPARATE_CARD: "evidence card beside internal storage",
    Protection.CLOCK_RAM: "with a clock chip's RAM",
}


def protection_of(evidence: Path, state: Path, anchor: str, sys: Path = Path("/sys")) -> Protection:
    """The row of a build.

    If it is unknown whether two folders are on one disk, they are taken to be: the weaker row promises less.

    Args:
        evidence: The evidence folder.
        state: The state folder.
        anchor: The anchor's name; whether it works is not checked.
        sys: Where sysfs is.
    """
    if anchor != NONE:
        return Protection.CLOCK_RAM
    try:
        disks = [_disks(_nearest(path).stat().st_dev, sys) for path in (evidence, state)]
    except OSError:
        return Protection.ONE_CARD
    apart = all(disks) and not disks[0] & disks[1]
    return Protection.SEPARATE_CARD if apart else Protection.ONE_CARD


def _nearest(path: Path) -> Path:
    """The path, or the nearest parent that exists, in which it would be made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _disks(device: int, sys: Path) -> frozenset[str]:
    """The disks below a file system's device; none if the kernel does not say."""
    major = os.major(device)
    if major == 0:  # a file system in memory, or made of others
        return frozenset()
    return _below((sys / "dev" / "block" / f"{major}:{os.minor(device)}").resolve(), _MAX_LAYERS)


def _below(block: Path, layers: int) -> frozenset[str]:
    if not block.exists() or not layers:
        return frozenset()
    slaves = sorted((block / "slaves").iterdir()) if (block / "slaves").is_dir() else []
    if slaves:  # encryption, logical volumes, RAID
        return frozenset().union(*(_below(slave.resolve(), layers - 1) for slave in slaves))
    disk = block.parent if (block / "partition").exists() else block
    return frozenset({disk.name})
