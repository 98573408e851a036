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
MOST_NAMES = 1024
"""Names looked at in one turn, for folders with something in them can't be taken away and must hold nothing up."""
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


def take(folder: Path, owners: Collection[int] | None = None, stuck: set[str] | None = None) -> Iterator[bytes | None]:
    """The messages in a folder, each taken away; None for each that was no message. Never raises.

    Args:
        folder: Opened without following a link; everything below it goes through that handle.
        owners: Users whose files count; by default this process's own and root.
        stuck: Names that could not be taken away, kept from one turn to the next: they take no message's place, and
            are given back as None once, not in every turn.
    """
    allowed = {0, os.geteuid()} if owners is None else set(owners)
    kept = set[str]() if stuck is None else stuck
    with contextlib.suppress(OSError):
        handle = os.open(folder, _FOLDER)
        try:
            with os.scandir(handle) as entries:
                there = [entry.name for _, entry in zip(range(MOST_NAMES), entries, strict=False)]
            kept.intersection_update(there)
            names = sorted(name for name in there if name not in kept)[:MOST_FILES]
            for name in names:
                data = _read(name, handle, allowed)
                if not _removed(name, handle):
                    kept.add(name)
                yield data
        finally:
            os.close(handle)


def _removed(name: str, folder: int) -> bool:
    """Take away what has this name. A folder with something in it stays; False then."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
        return True
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _read(name: str, folder: int, owners: Collection[int]) -> bytes | None:
    try:
        # Not even opened unless it looks like a file: to open a device can do something. fstat says what it is then.
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None
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
