"""The storage interface: few operations with a stated durability, so that a fake can lose what was not durable.

Every operation raises `StorageError` (an `OSError`, with `errno` set) and nothing else.
"""

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from agent.errors import StorageError

MAX_NAMES = 16_384
"""How many names of a folder are listed at most: anybody can put any number of files there. Which ones, if there are
more, is the file system's choice."""


class GrowingFile(Protocol):
    """A file that only grows: a sealed segment or a journal."""

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at `offset`; the same bytes may be written again there after an error.

        Raises:
            StorageError: Not all was written.
        """

    def sync(self) -> None:
        """Return when everything written is on storage (fdatasync(2)).

        Raises:
            StorageError: It may not be.
        """

    def close(self) -> None:
        """Release the handle. Never raises: only what was synced is durable anyway."""


class Storage(Protocol):
    """A folder of evidence."""

    def create(self, path: str) -> GrowingFile:
        """A new file, its name durable on return; missing folders are made.

        Raises:
            StorageError: It exists already (EEXIST), or storage refuses; then it was not made.
        """

    def reopen(self, path: str) -> GrowingFile:
        """A file that was created before, to continue writing after storage was gone.

        Raises:
            StorageError: It is missing or not a regular file.
        """

    def publish(self, path: str, data: bytes) -> None:
        """A new small file, whole or not there at all, durable on return (write, sync, rename, sync the folder).

        The same bytes may be published again, as after an error it is unknown whether the file exists.

        Raises:
            StorageError: Another one exists already (EEXIST), or storage refuses.
        """

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """The bytes of a file of at most `limit` bytes.

        Raises:
            StorageError: It is missing, larger, or not a regular file.
        """

    def open(self, path: str) -> BinaryIO:
        """A binary stream over a regular file, at its beginning, without following a link.

        Raises:
            StorageError: It is missing or not a regular file.
        """

    def names(self, path: str) -> list[str]:
        """The sorted names in a folder, at most `MAX_NAMES` of them; empty if there is no such folder.

        Raises:
            StorageError: Storage refuses.
        """

    def size(self, path: str) -> int | None:
        """The size of a file in bytes; None if there is none.

        Raises:
            StorageError: Storage refuses.
        """

    def free_bytes(self) -> int:
        """Bytes that may still be written.

        Raises:
            StorageError: Storage refuses, or is gone.
        """


class ReplacedFile(Protocol):
    """One small file that is replaced as a whole and never read half: `agent.storage.disk.WholeFile`."""

    def load(self) -> bytes | None:
        """The content; None if there is no file.

        Raises:
            StorageError: It can't be read.
        """

    def save(self, data: bytes) -> None:
        """Replace the content as a whole, durably.

        Raises:
            StorageError: It may or may not have been replaced.
        """


def read_chunks(stream: BinaryIO, limit: int | None = None, size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of a stream in chunks of at most `size`, up to `limit` in all.

    Raises:
        StorageError: Reading failed.
    """
    left = limit
    while left is None or left > 0:
        try:
            chunk = stream.read(size if left is None else min(size, left))
        except OSError as error:
            raise StorageError(error.errno, f"reading failed: {error.strerror}") from error
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        yield chunk
