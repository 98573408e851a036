"""The inbox: the only way in which anything that came over a network reaches the recorder, and it is only looked at.

A message is a small file that the dock service laid there. Whatever lies there, links, pipes, huge or forged files,
it is opened without following links and without waiting, must be regular and small, is read whole and taken away.
What it says must be signed, and the recorder itself checks the signature.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 1 << 20
MOST_FILES = 64
"""Files looked at in one turn: a flood costs little time each time, and no memory."""


def take(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The messages in a folder, oldest name first: name and content, each taken away. Never raises.

    What is no message (a folder, a link, a pipe, a device, a file that is too large) is taken away where that is
    possible, and not given back.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = sorted(entry.name for _, entry in zip(range(MOST_FILES), entries, strict=False))
        for name in names:
            data = _read(folder / name)
            with contextlib.suppress(OSError):
                (folder / name).unlink()
            if data is not None:
                yield name, data


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES or facts.st_nlink != 1:
            return None
        return os.read(handle, MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(handle)
