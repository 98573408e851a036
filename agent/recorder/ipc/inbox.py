"""The inbox: the only way by which data from a network reaches the recorder.

A message is a small file that the dock service put there. The folder may hold anything: links, pipes, devices, huge,
old or forged files. Each is opened without following links and without waiting, must be regular, small and of a
permitted owner, is read whole, and is removed. Its content must be signed; the recorder itself checks that.

The dock service creates a message without a name and links it in when it is whole (`O_TMPFILE`): none is seen half.
"""

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

NAME = "inbox"
MAX_BYTES = 1 << 20
MAX_FILES = 8
"""Files read in one turn: a flood costs little time each time, and no memory."""
MAX_NAMES = 1024
"""Names listed in one turn: non-empty folders can't be removed, and must not delay messages."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MESSAGE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def make_folder(run_directory: Path) -> Path:
    """The inbox in a run directory, made if it is missing: its group may put messages in, but not list them.

    Raises:
        OSError: The run directory is not writable, or something else has that name.
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
    """The messages in a folder, each removed; None for each file that is no message. Never raises.

    Args:
        folder: Opened without following a link; everything in it is reached through that handle.
        owners: Users whose files are read; by default this process's own and root.
        stuck: Names that could not be removed, kept from one turn to the next: they take no message's place, and are
            returned as None once, not in every turn.
    """
    allowed = {0, os.geteuid()} if owners is None else set(owners)
    kept = set[str]() if stuck is None else stuck
    with contextlib.suppress(OSError):
        handle = os.open(folder, _FOLDER)
        try:
            with os.scandir(handle) as entries:
                there = [entry.name for _, entry in zip(range(MAX_NAMES), entries, strict=False)]
            kept.intersection_update(there)
            names = sorted(name for name in there if name not in kept)[:MAX_FILES]
            for name in names:
                data = _read(name, handle, allowed)
                if not _removed(name, handle):
                    kept.add(name)
                yield data
        finally:
            os.close(handle)


def _removed(name: str, folder: int) -> bool:
    """Remove what has this name; False if it stays, as a non-empty folder does."""
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
        # Opened only if it looks like a file: opening a device can have effects. fstat says what was opened.
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
