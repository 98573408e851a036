"""Things that take long to make (a clip, a Debian tree, a kernel module, a disk image), kept between runs.

They lie outside of the repository, in `$BWC_CACHE` or `~/.cache/bwc-agent/hardware`, or where the caller says, each in
a folder named after what went into it. Whatever is missing is made by the same command again, so that the folder can be
removed at any time.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """The folder of everything that is kept; made if absent."""
    folder = Path(os.environ.get("BWC_CACHE") or Path.home() / ".cache" / "bwc-agent" / "hardware")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One maker at a time: suites run side by side and share trees."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept(name: str, key: object, make: Callable[[Path], None], *, within: Path | None = None) -> Path:
    """The folder `name` made of `key`; made by `make(folder)` where it is not there yet.

    It appears under its name only once it is complete: what was interrupted is made anew.

    Args:
        name: What it is, a file name.
        key: What went into it; anything whose `repr` changes when it must be made anew.
        make: Fills the empty folder that it is given; whatever it raises leaves nothing behind.
        within: Where it is kept; `root()` if that is not said.
    """
    within = within or root()
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    final = within / f"{name}-{digest}"
    with _alone(within / f".{name}-{digest}.lock"):
        if not final.is_dir():
            partial = within / f".{name}-{digest}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                make(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            partial.rename(final)
    return final
