"""Storage on a file system: the only code that writes evidence and device state.

The reason of each step: a file's data is synced before its name is (otherwise a name may lead to nothing after a power
cut), and a new name is durable only once its folder is synced too (fsync(2), NOTES). Evidence is never overwritten or
deleted; `WholeFile` is for device state, which is replaced.
"""

import contextlib
import errno
import fcntl
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from agent.errors import StorageError
from agent.storage.interface import MAX_NAMES

OWNER_FOLDER, OWNER_FILE = 0o700, 0o600
GROUP_FOLDER, GROUP_FILE = 0o750, 0o640
"""Modes where the group may read: sealed evidence is not secret, and the dock service that reads it is another user."""


@contextmanager
def _refusals(path: object) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"storage refused {path}: {error.strerror}") from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: As open(2) and fsync(2).
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file or folder within its folder, durably; an existing file is replaced.

    Raises:
        OSError: As rename(2); or, with the new name in place but perhaps not durable, as fsync(2).
    """
    source.rename(target)
    sync_folder(target.parent)


def make_folders(folder: Path, mode: int = OWNER_FOLDER) -> None:
    """Make a folder and its missing parents, their names durable on return; for the owner alone, or of exactly `mode`.

    Raises:
        OSError: As mkdir(2) and fsync(2).
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=OWNER_FOLDER, exist_ok=True)
        if mode != OWNER_FOLDER:
            new.chmod(mode)  # whatever the umask says
        sync_folder(new.parent)


class DiskFile:
    """A growing file on disk."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at `offset` (pwrite(2) may write less; it is called until all is written)."""
        view = memoryview(data)
        with _refusals(self._path):
            while view:
                written = os.pwrite(self._handle, view, offset)
                if not written:
                    raise OSError(errno.EIO, "not a byte was taken")
                offset += written
                view = view[written:]

    def sync(self) -> None:
        """fdatasync(2): the data, and the size that is needed to read it back."""
        with _refusals(self._path):
            os.fdatasync(self._handle)

    def close(self) -> None:
        """Release the handle; synced data is safe, so an error here is ignored."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            try:
                os.close(handle)
            except OSError:
                # The kernel has released the descriptor all the same (close(2)); synced bytes are not touched by this.
                return


def _create(target: Path, mode: int) -> int:
    """A handle on a new file with exactly this mode, whatever the umask says."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(target, flags, OWNER_FILE)
    try:
        if mode != OWNER_FILE:
            os.fchmod(handle, mode)
    except OSError:
        os.close(handle)
        raise
    return handle


def _write_whole(target: Path, data: bytes, *, folder: int = OWNER_FOLDER, mode: int = OWNER_FILE) -> None:
    """Replace the content of `target` by `data`, durably and atomically. A failed attempt leaves no file behind.

    What a cut attempt left is removed first: it could be a link that leads elsewhere, or a pipe that blocks. If that
    can't be removed, as a folder, another temporary name is used.
    """
    make_folders(target.parent, folder)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
    except OSError:
        if not os.path.lexists(unfinished):
            raise
        unfinished = target.with_name(f".{target.name}.{os.urandom(8).hex()}.unfinished")
    file = DiskFile(unfinished, _create(unfinished, mode))
    try:
        file.write_at(0, data)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    finally:
        file.close()
    rename_durably(unfinished, target)


class _Reading(io.FileIO):
    """Reads that raise `StorageError`: a card may be pulled out in the middle of a file."""

    def readinto(self, buffer: Any) -> int | None:
        """As read(2)."""
        with _refusals("a file under reading"):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """Up to the end."""
        with _refusals("a file under reading"):
            return super().readall() or b""


def _regular(target: Path, flags: int) -> int:
    """A handle on a regular file; links, pipes and devices are refused, as they could redirect or block the caller."""
    handle = os.open(target, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StorageError(errno.EINVAL, f"expected a regular file at {target}, got something else")
    return handle


def _open_regular(target: Path) -> BinaryIO:
    return io.BufferedReader(_Reading(_regular(target, os.O_RDONLY), "rb"))


class WholeFile:
    """One small file that is replaced as a whole, mode 0600. Not for evidence.

    Args:
        path: The file; missing folders are made.
        limit: The largest size in bytes that is read.
    """

    def __init__(self, path: Path, limit: int = 1 << 20) -> None:
        self._path = path
        self._limit = limit

    def load(self) -> bytes | None:
        """The content; None if there is no file.

        Raises:
            StorageError: It can't be read, is larger than `limit`, or is not a regular file.
        """
        try:
            with _refusals(self._path), _open_regular(self._path) as stream:
                data = stream.read(self._limit + 1)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        if len(data) > self._limit:
            raise StorageError(errno.EFBIG, f"expected at most {self._limit} bytes in {self._path}, it is larger")
        return data

    def save(self, data: bytes) -> None:
        """Replace the content, durably.

        Raises:
            StorageError: It may or may not have been replaced, but is whole either way.
        """
        with _refusals(self._path):
            _write_whole(self._path, data)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise StorageError(errno.EINVAL, f"expected a path below the evidence folder, got {path!r}")
    return parts


class DiskStorage:
    """Evidence below one folder, readable by its owner alone, or by its group too.

    Args:
        root: The folder.
        group_reads: New files and folders are readable for their group.
    """

    def __init__(self, root: Path, *, group_reads: bool = False) -> None:
        self._root = root
        self._folder_mode = GROUP_FOLDER if group_reads else OWNER_FOLDER
        self._file_mode = GROUP_FILE if group_reads else OWNER_FILE
        self._claim = -1

    @property
    def root(self) -> Path:
        """The evidence folder."""
        return self._root

    def _path(self, path: str) -> Path:
        *folders, name = _parts(path)
        return self._folder(folders) / name

    def _folder(self, parts: list[str]) -> Path:
        folder = self._root
        for part in parts:
            folder /= part
            if folder.is_symlink():
                raise StorageError(
                    errno.ELOOP, f"expected a folder at {folder}, got a link; evidence is kept in one place"
                )
        return folder

    def create(self, path: str) -> DiskFile:
        """A new file, its name durable on return."""
        target = self._path(path)
        with _refusals(target):
            make_folders(target.parent, self._folder_mode)
            handle = _create(target, self._file_mode)
            try:
                sync_folder(target.parent)
            except OSError:
                os.close(handle)
                with contextlib.suppress(OSError):  # empty and unused: the next attempt must find the name free
                    target.unlink()
                raise
            return DiskFile(target, handle)

    def reopen(self, path: str) -> DiskFile:
        """A file that was created before, to continue writing."""
        target = self._path(path)
        with _refusals(target):
            return DiskFile(target, _regular(target, os.O_WRONLY))

    def publish(self, path: str, data: bytes) -> None:
        """A new small file, whole or not there at all, whatever a cut attempt left behind."""
        target = self._path(path)
        with _refusals(target):
            if not os.path.lexists(target):
                _write_whole(target, data, folder=self._folder_mode, mode=self._file_mode)
            elif self._holds(target, data):
                sync_folder(target.parent)
            else:
                raise StorageError(errno.EEXIST, f"{target} exists already: evidence is never overwritten")

    @staticmethod
    def _holds(target: Path, data: bytes) -> bool:
        """True if the file holds `data`: an earlier attempt has renamed it, and then its sync of the folder failed."""
        try:
            with _open_regular(target) as stream:
                return stream.read(len(data) + 1) == data
        except OSError:
            return False

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """The bytes of a regular file of at most `limit` bytes."""
        with self.open(path) as stream, _refusals(path):
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise StorageError(errno.EFBIG, f"expected at most {limit} bytes in {path}, it is larger")
        return data

    def open(self, path: str) -> BinaryIO:
        """A stream over a regular file; links, pipes and devices are refused."""
        target = self._path(path)
        with _refusals(target):
            return _open_regular(target)

    def names(self, path: str) -> list[str]:
        """The sorted names in a folder, unfinished ones left out, up to `MAX_NAMES`; empty if there is no folder."""
        target = self._folder(_parts(path) if path else [])
        try:
            with _refusals(target), os.scandir(target) as entries:
                found = (entry.name for entry in entries if not entry.name.endswith(".unfinished"))
                return sorted(islice(found, MAX_NAMES))
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

    def size(self, path: str) -> int | None:
        """The size of a file in bytes; None if there is none."""
        target = self._path(path)
        try:
            with _refusals(target):
                return target.lstat().st_size
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def claim(self) -> None:
        """Lock this folder against other processes that claim it, until this process ends (flock(2)).

        Raises:
            StorageError: Another process has claimed it (EWOULDBLOCK), or storage refuses.
        """
        with _refusals(self._root):
            handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                raise
            self._claim = handle

    def free_bytes(self) -> int:
        """Bytes that an unprivileged writer may still write (statvfs(3), f_bavail)."""
        with _refusals(self._root):
            facts = os.statvfs(self._root)
            return facts.f_bavail * facts.f_frsize
