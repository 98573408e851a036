"""The inbox: the only way in which anything that came over a network reaches the recorder, and it is only looked at.

A message is a small file that the dock service laid there. Whatever lies there, links, pipes, devices, huge, old,
forged, it is opened without following links and without waiting, must be regular, small and of an owner who may put
messages here, is read whole, and is taken away. What it says must be signed; the recorder itself checks that.

The dock service makes a message without a name and links it in when it is whole (`O_TMPFILE`): none is ever seen half.
"""

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

NAME = "inbox"
MAX_BYTES = 1 << 20
MOST_FILES = 8
"""Files looked at in one turn: a flood costs little time each time, and no memory."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MESSAGE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def make(run_directory: Path) -> Path:
    """The inbox in a run directory, made if it is not there: its group may put messages in, but not see them.

    Raises:
        OSError: The run directory is not ours, or something else has that name.
    """
    folder = run_directory / NAME
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o730)
    handle = os.open(folder, _FOLDER)
    try:
        os.fchmod(handle, 0o730)
    finally:
        os.close(handle)
    return folder


def take(folder: Path, owners: Collection[int] | None = None) -> Iterator[bytes | None]:
    """The messages in a folder, each taken away; None for each that was no message. Never raises.

    Args:
        folder: Opened without following a link; everything below it goes through that handle.
        owners: Users whose files count; by default this process's own and root.
    """
    allowed = {0, os.geteuid()} if owners is None else set(owners)
    with contextlib.suppress(OSError):
        handle = os.open(folder, _FOLDER)
        try:
            with os.scandir(handle) as entries:
                names = [entry.name for _, entry in zip(range(MOST_FILES), entries, strict=False)]
            for name in sorted(names):
                data = _read(name, handle, allowed)
                _remove(name, handle)
                yield data
        finally:
            os.close(handle)


def _remove(name: str, folder: int) -> None:
    """Take away what has this name. A folder with something in it stays: it holds nothing up but its own place."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=folder)


def _read(name: str, folder: int, owners: Collection[int]) -> bytes | None:
    try:
        handle = os.open(name, _MESSAGE, dir_fd=folder)
    except OSError:
        return None
    try:
        facts = os.fstat(handle)
        regular = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid in owners
        if not regular or facts.st_size > MAX_BYTES:
            return None
        return os.read(handle, MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(handle)
