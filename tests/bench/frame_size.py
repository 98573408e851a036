"""What a frame length costs, on storage and in time: `python -m tests.bench.frame_size`.

Fragments of 0.2 s with sizes spread 30 % about the mean, as six pictures of 30 a second make them, are padded to whole
frames with a `free` box (at least 8 bytes) and sealed. For each bit rate and frame length:

- overhead: what padding, frame heads and tags add to the media's bytes, in per cent;
- time: microseconds to seal, for each packet (the best of several rounds), the mux and the storage not counted.
"""

import os
import platform
import random
import time

from rich.console import Console
from rich.table import Table

from agent.seal.framing import frame_length_for
from agent.seal.recipients import HpkeRecipientKey
from agent.seal.writer import Sealer

FRAGMENTS_PER_S, PACKETS_PER_FRAGMENT = 5, 6
FRAGMENTS, ROUNDS = 100, 5
RATES_MBIT = (1, 2, 4, 8)
FRAME_LENGTHS_KIB = (1, 2, 3, 4, 6, 8, 12, 16)
FREE_BOX = 8


def padded(length: int, frame_length: int) -> int:
    """Bytes of a fragment of media with its `free` box, a whole number of frames."""
    gap = -length % frame_length
    return length + gap + (frame_length if 0 < gap < FREE_BOX else 0)


def measure(bit_rate_bps: int, frame_length: int) -> tuple[float, float]:
    """Overhead in per cent of the media's bytes; microseconds a packet."""
    spread = random.Random(1)
    mean = bit_rate_bps / 8 / FRAGMENTS_PER_S
    media = [round(mean * spread.uniform(0.7, 1.3)) for _ in range(FRAGMENTS)]
    fragments = [os.urandom(padded(length, frame_length)) for length in media]
    best, written = float("inf"), 0
    for _ in range(ROUNDS):
        sealer = Sealer([HpkeRecipientKey.generate().recipient], {}, frame_length, os.urandom)
        started = time.perf_counter()
        written = sum(len(sealer.seal(fragment)) for fragment in fragments)
        best = min(best, time.perf_counter() - started)
    return (written / sum(media) - 1) * 100, best / FRAGMENTS / PACKETS_PER_FRAGMENT * 1e6


def main() -> None:
    table = Table(title=f"overhead in % and µs a packet; {platform.machine()}, Python {platform.python_version()}")
    table.add_column("frame")
    for rate in RATES_MBIT:
        table.add_column(f"{rate} Mbit/s", justify="right")
    for kib in FRAME_LENGTHS_KIB:
        cells = []
        for rate in RATES_MBIT:
            overhead, microseconds = measure(rate * 1_000_000, kib * 1024)
            chosen = "*" if frame_length_for(rate * 1_000_000) == kib * 1024 else " "
            cells.append(f"{overhead:.1f} %  {microseconds:.1f} µs{chosen}")
        table.add_row(f"{kib} KiB", *cells)
    Console().print(table, "* = chosen by frame_length_for")


if __name__ == "__main__":
    main()
