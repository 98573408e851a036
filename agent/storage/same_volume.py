"""Storage that creates files only while it is the volume that holds a certain file.

The mount point of a card that was pulled is an ordinary folder: files made there would be hidden below the card as soon
as it is back, and another card would get recordings without their journal.
"""

import errno
from collections.abc import Callable
from typing import BinaryIO

from agent.errors import StorageError
from agent.storage.interface import GrowingFile, Storage


class SameVolumeStorage:
    """Creates new files only if `marker` exists; everything else is passed on.

    Args:
        storage: The underlying storage.
        marker: Returns the path of the file that has to exist; empty while there is none.
    """

    def __init__(self, storage: Storage, marker: Callable[[], str]) -> None:
        self._storage = storage
        self._marker = marker

    def _check(self) -> None:
        marker = self._marker()
        if marker and self._storage.size(marker) is None:
            raise StorageError(errno.ENODEV, f"expected the storage with {marker}; this is another one, or none")

    def create(self, path: str) -> GrowingFile:
        """As `Storage.create`; ENODEV if this is not the same storage."""
        self._check()
        return self._storage.create(path)

    def reopen(self, path: str) -> GrowingFile:
        """As `Storage.reopen`."""
        return self._storage.reopen(path)

    def publish(self, path: str, data: bytes) -> None:
        """As `Storage.publish`; ENODEV if this is not the same storage."""
        self._check()
        self._storage.publish(path, data)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """As `Storage.read`."""
        return self._storage.read(path, limit)

    def open(self, path: str) -> BinaryIO:
        """As `Storage.open`."""
        return self._storage.open(path)

    def names(self, path: str) -> list[str]:
        """As `Storage.names`."""
        return self._storage.names(path)

    def size(self, path: str) -> int | None:
        """As `Storage.size`."""
        return self._storage.size(path)

    def free_bytes(self) -> int:
        """As `Storage.free_bytes`."""
        return self._storage.free_bytes()
