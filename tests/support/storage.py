"""Storage in memory that keeps only what was promised: what was not synced is gone after a power cut.

An honest small implementation of `agent.storage.interface.Storage`, with faults that a test switches on and off.
"""

import errno
import io
from collections.abc import Callable
from typing import BinaryIO

from agent.errors import StorageError


class MemoryFile:
    def __init__(self, storage: "MemoryStorage", path: str) -> None:
        self._storage = storage
        self.path = path
        self.data = bytearray()
        self.durable = b""
        self.dead = False

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._storage.check("write", self.path, self.dead)
        end = offset + len(data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data

    def sync(self) -> None:
        self._storage.check("sync", self.path, self.dead)
        self.durable = bytes(self.data)

    def close(self) -> None:
        return


class MemoryStorage:
    """Files by path. `fault` is asked before every operation and may raise a `StorageError`.

    Attributes:
        fault: Called with operation (`create`, `publish`, `name`, `write`, `sync`, `read`, `reopen`) and path. A fault
            of `name` comes when a new file has its name already, but not for good.
        free: What `free_bytes` says.
    """

    def __init__(self) -> None:
        self.files: dict[str, MemoryFile] = {}
        self.fault: Callable[[str, str], None] = lambda _operation, _path: None
        self.free = 1 << 40
        self.syncs = 0

    def check(self, operation: str, path: str, dead: bool = False) -> None:
        if dead:
            raise StorageError(errno.EIO, f"{path} belongs to storage that is gone")
        if operation == "sync":
            self.syncs += 1
        self.fault(operation, path)

    def create(self, path: str) -> MemoryFile:
        self.check("create", path)
        if path in self.files:
            raise StorageError(errno.EEXIST, f"{path} exists")
        file = MemoryFile(self, path)
        self.check("name", path)
        self.files[path] = file
        return file

    def reopen(self, path: str) -> MemoryFile:
        self.check("reopen", path)
        if path not in self.files:
            raise StorageError(errno.ENOENT, f"no {path}")
        return self.files[path]

    def publish(self, path: str, data: bytes) -> None:
        self.check("publish", path)
        if path not in self.files:
            self.check("create", path)
            file = self.files[path] = MemoryFile(self, path)
            file.data[:] = data
            file.durable = bytes(data)
        elif self.files[path].data != data:
            raise StorageError(errno.EEXIST, f"{path} exists")
        self.check("name", path)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        with self.open(path) as stream:
            data = stream.read()
        if len(data) > limit:
            raise StorageError(errno.EFBIG, f"{path} is larger than {limit}")
        return data

    def open(self, path: str) -> BinaryIO:
        self.check("read", path)
        if path not in self.files:
            raise StorageError(errno.ENOENT, f"no {path}")
        return io.BytesIO(bytes(self.files[path].data))

    def names(self, path: str) -> list[str]:
        self.check("read", path)
        prefix = f"{path}/" if path else ""
        return sorted({name[len(prefix) :].split("/")[0] for name in self.files if name.startswith(prefix)})

    def size(self, path: str) -> int | None:
        self.check("read", path)
        return len(self.files[path].data) if path in self.files else None

    def free_bytes(self) -> int:
        self.check("read", "")
        return self.free

    def cut_power(self) -> None:
        """What was not synced is gone; open handles are dead."""
        for file in self.files.values():
            file.dead = True
        survivors = {path: file.durable for path, file in self.files.items()}
        self.files = {}
        for path, durable in survivors.items():
            self.files[path] = MemoryFile(self, path)
            self.files[path].data[:] = durable
            self.files[path].durable = durable


def failing(operations: set[str], code: int, *, only: str = "") -> Callable[[str, str], None]:
    """A fault for some operations, on paths that contain `only`."""

    def fault(operation: str, path: str) -> None:
        if operation in operations and only in path:
            raise StorageError(code, errno.errorcode[code])

    return fault
