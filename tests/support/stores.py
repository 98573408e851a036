"""One small file in memory, as `agent.storage.disk.WholeFile` keeps it on disk."""

import errno

from agent.errors import StorageError


class MemoryStore:
    """What was saved last. `refusing`: when storage refuses, `before` or `after` it took what it was given."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.refusing = ""

    def load(self) -> bytes | None:
        if self.refusing:
            raise StorageError(errno.EIO, "storage refused")
        return self.data

    def save(self, data: bytes) -> None:
        if self.refusing == "before":
            raise StorageError(errno.ENOSPC, "storage is full")
        self.data = data
        if self.refusing:
            raise StorageError(errno.EIO, "the folder could not be synced")
