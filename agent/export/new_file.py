"""A file for plain evidence: nobody else can read it, it is whole or not there, and it replaces no other file."""

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import BinaryIO

from agent.errors import StorageError
from agent.storage.disk import sync_folder

_MODE = 0o600
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class NewFile:
    """A file in the making, in the folder where it will be.

    It has no name until it is published (O_TMPFILE of open(2)), so that nothing is left of it whatever ends the
    process; on file systems that can't do that it has a temporary one.

    Args:
        folder: Must be there.
        unnamed: False to use a temporary name in any case.

    Attributes:
        stream: To be written; mode 0600.

    Raises:
        StorageError: The folder is missing, or does not take files.
    """

    def __init__(self, folder: Path, *, unnamed: bool = True) -> None:
        self._folder = folder
        self._temporary: Path | None = None
        self._published: Path | None = None
        try:
            handle = self._unnamed() if unnamed else None
            self.stream: BinaryIO = os.fdopen(self._named() if handle is None else handle, "wb")
        except OSError as error:
            raise StorageError(error.errno, f"{folder} does not take a new file: {error.strerror}") from error

    def _unnamed(self) -> int | None:
        try:
            return os.open(self._folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, _MODE)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            return None

    def _named(self) -> int:
        self._temporary = self._folder / f".bwc-open-{secrets.token_hex(8)}.partial"
        return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)

    def publish(self, path: Path) -> None:
        """Make it durable and give it its name.

        Args:
            path: In the same folder.

        Raises:
            StorageError: There is something of that name already, or storage refuses; it has no name then.
        """
        try:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self._name(path)
            self._published = path
            self.stream.close()
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(error.errno, f"{path} was not written: {error.strerror}") from error

    def _name(self, path: Path) -> None:
        """A link, unlike a renaming, never replaces what has that name."""
        if self._temporary is None:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # With a folder's handle, which an absolute path needs none of, this is linkat(2) that follows links.
                os.link(f"/proc/self/fd/{self.stream.fileno()}", path, src_dir_fd=folder)
            finally:
                os.close(folder)
            return
        try:
            os.link(self._temporary, path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename(self._temporary, path)
        else:
            self._temporary.unlink()
        self._temporary = None

    def _rename(self, temporary: Path, path: Path) -> None:
        """On file systems without links, such as FAT."""
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "there is a file already")
        temporary.rename(path)

    def discard(self) -> None:
        """Remove it, unless it was published."""
        with contextlib.suppress(OSError):  # what is in its buffer has no room: it is not wanted any more
            self.stream.close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):  # its storage is gone: nothing is left to be done
                self._temporary.unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Remove it although it was published: another file that belongs to it can't be."""
        self.discard()
        if self._published is not None:
            with contextlib.suppress(OSError):  # as in discard
                self._published.unlink(missing_ok=True)


def text_beside(film: Path) -> Path:
    """The name of a film's text."""
    return film.with_suffix(".vtt")


def refuse_existing(film: Path) -> None:
    """Refuse to begin where something has the name that is asked for, of the film or of its text.

    Raises:
        StorageError: It does, or there is no such folder.
    """
    if film.suffix == ".vtt":
        raise StorageError(errno.EINVAL, f"expected a film's name such as stop.mp4, got {film}: .vtt is its text's")
    for path in (film, text_beside(film)):
        if os.path.lexists(path):
            raise StorageError(errno.EEXIST, f"{path} is there already, and is not overwritten: name another file")
    if not film.parent.is_dir():
        raise StorageError(errno.ENOENT, f"expected a folder at {film.parent} for the files to be written")
