"""Storage that must be the same as before: the one in which a certain file lies.

A mount point whose card is gone is an ordinary folder. What were made there would vanish below the card as soon as it
is back, and another card would get recordings without their journal.
"""

import errno
from collections.abc import Callable
from typing import BinaryIO

from agent.errors import StorageError
from agent.storage.interface import GrowingFile, Storage


class SameVolumeStorage:
    """Makes new files only beside its anchor; all else is as the storage below has it.

    Args:
        storage: The storage below.
        anchor: Path of the file that has to be there; empty while there is none.
    """

    def __init__(self, storage: Storage, anchor: Callable[[], str]) -> None:
        self._storage = storage
        self._anchor = anchor

    def _check(self) -> None:
        anchor = self._anchor()
        if anchor and self._storage.size(anchor) is None:
            raise StorageError(errno.ENODEV, f"expected the storage with {anchor}; this is another one, or none")

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
