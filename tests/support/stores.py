"""One small file in memory, as `agent.storage.disk.WholeFile` keeps it on disk, and a device state in it."""

import errno

from agent.device_state.anchor import SIZE, NoAnchor
from agent.device_state.store import SignedStateStore
from agent.device_state.updater import StateUpdater, UsedTokensInState
from agent.errors import StorageError
from agent.keys.signer import Signer
from tests.support.clocks import FakeClocks


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


class MemoryRam:
    """Battery-backed RAM of a clock chip: what is written stays. `failing`: the bus does not answer."""

    def __init__(self, size: int = SIZE) -> None:
        self.data = bytearray(size)
        self.failing = False

    def read(self, length: int) -> bytes:
        self._check()
        return bytes(self.data[:length])

    def write(self, offset: int, data: bytes) -> None:
        self._check()
        self.data[offset : offset + len(data)] = data

    def _check(self) -> None:
        if self.failing:
            raise StorageError(errno.EREMOTEIO, "the clock chip does not answer")


def state_store(store: MemoryStore, signer: Signer) -> SignedStateStore:
    """The state of camera cam-1 of the agency city, without an anchor."""
    return SignedStateStore(store, signer, "city", "cam-1", NoAnchor())


def used_in(store: MemoryStore, signer: Signer) -> UsedTokensInState:
    """The used authorisations in it, as a recorder that has just been started finds them."""
    return UsedTokensInState(StateUpdater(state_store(store, signer), FakeClocks()))
