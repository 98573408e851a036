"""What the kernel says of a process: its memory, and the processor time of each of its threads."""

import os
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Places of both in /proc/PID/stat after the name (proc(5))."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In megabytes: resident pages, and the same with shared ones divided among those who share them."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """What a process has in memory now."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = {name: int(value) for name, value in re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE)}
    return Memory(kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024)


def threads(pid: int) -> dict[str, float]:
    """Processor seconds so far by a thread's name; threads that share one are added up."""
    seconds: dict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (task / "stat").read_text()
        except OSError:
            continue  # it has ended meanwhile
        name, _, rest = text.partition(" (")[2].rpartition(") ")
        fields = rest.split()
        seconds[name] += (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS
    return seconds


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How fast the second of each pair grows with the first: the median over all pairs of points (Theil and Sen)."""
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0])
