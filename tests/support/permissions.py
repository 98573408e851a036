"""What only root may, and what needs a program that is not everywhere: skipped, except where all must run."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MUST_RUN = "BWC_MUST_RUN"
"""Set by CI: what would be skipped for want of a permission or a program fails there."""


looks_into_the_recorder = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may look into a process that is not dumpable, as the recorder is"
)


def skip(why: str) -> None:
    """Skip, or fail where everything has to run."""
    if os.environ.get(MUST_RUN):
        pytest.fail(f"{why} ({MUST_RUN} is set)")
    pytest.skip(why)


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `place` that holds no more than `size`, such as `64k`."""
    place.mkdir(mode=0o700, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "bwc-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        skip("only root may mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Not a byte more goes onto that file system until the file that is returned is removed."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    continue
    return filler
