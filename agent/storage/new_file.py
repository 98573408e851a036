"""A new file that appears under its name once it is complete and on storage, and never replaces another."""

import contextlib
import errno
import os
from pathlib import Path
from typing import BinaryIO

from agent.errors import StorageError
from agent.storage.disk import sync_folder

_MODE = 0o600
_DESCRIPTORS = Path("/proc/self/fd")
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class NewFile:
    """A file that is being written in the folder where it will stay.

    It has no name until it is published (O_TMPFILE of open(2)), so that nothing is left of it if writing fails or the
    process dies. On file systems without O_TMPFILE it has a temporary name, which `discard` removes.

    Args:
        folder: An existing folder.
        mode: Its mode once it is published; before that only its owner can open it.
        unnamed: False to use a temporary name in any case.

    Attributes:
        stream: Takes the content.

    Raises:
        StorageError: The folder is missing, or no file can be made in it.
    """

    def __init__(self, folder: Path, *, mode: int = _MODE, unnamed: bool = True) -> None:
        self._folder = folder
        self._mode = mode
        self._temporary: Path | None = None
        self._published: Path | None = None
        try:
            handle = self._unnamed() if unnamed else None
            self.stream: BinaryIO = os.fdopen(self._named() if handle is None else handle, "wb")
        except OSError as error:
            raise StorageError(error.errno, f"{folder} does not take a new file: {error.strerror}") from error

    def _unnamed(self) -> int | None:
        if not _DESCRIPTORS.exists():  # without /proc, as in a bare chroot, it could never be given a name
            return None
        try:
            return os.open(self._folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, _MODE)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            return None

    def _named(self) -> int:
        self._temporary = self._folder / f".bwc-{os.urandom(8).hex()}.partial"
        return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)

    def publish(self, path: Path) -> None:
        """Bring it to storage and give it its name.

        Args:
            path: In the same folder.

        Raises:
            StorageError: `path` exists already (EEXIST), or storage fails; the file then has no name.
        """
        try:
            self.stream.flush()
            os.fchmod(self.stream.fileno(), self._mode)  # whatever the umask says
            os.fsync(self.stream.fileno())
            self._name(path)
            self._published = path
            self.stream.close()
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(error.errno, f"{path} was not written: {error.strerror}") from error

    def _name(self, path: Path) -> None:
        """Link it: unlike a rename, a link never replaces an existing file."""
        if self._temporary is None:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # With a folder's handle, which an absolute path needs none of, this is linkat(2) that follows links.
                os.link(f"{_DESCRIPTORS}/{self.stream.fileno()}", path, src_dir_fd=folder)
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
        with contextlib.suppress(OSError):  # a full disk refuses the rest of the buffer, which nobody needs now
            self.stream.close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):  # its storage is gone: there is nothing left to remove
                self._temporary.unlink(missing_ok=True)

    def withdraw(self) -> None:
        """Remove it although it was published: another file that belongs to it can't be."""
        self.discard()
        if self._published is not None:
            with contextlib.suppress(OSError):  # as in discard
                self._published.unlink(missing_ok=True)
