"""The store of the device state: one small signed file on internal storage, and an anchor.

The rules, in order:
1. The state is a JWS by the identity key (`bwc-state+jws`), bound to agency and device, replaced as a whole and durable
   on return.
2. A state that is missing, unreadable, altered, of another device or of another version is reported as such.
3. A state that is older than the anchor's record is `rolled_back`; it is used all the same, as nothing better is known.
4. Each save raises the counter, also a failed one: no counter ever stands for two states.
5. An anchor that can't be read or written is reported, and stops nothing.

Another implementation of `StateStore` can be a secure element, which holds one small value and signs it.
"""

import errno
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from agent.device_state.anchor import NONE, Anchor, AnchorRecord
from agent.device_state.record import DeviceState, parse_state
from agent.errors import EvidenceError, StorageError
from agent.keys import jws
from agent.keys.signer import Signer
from agent.storage.interface import ReplacedFile

TYP = "bwc-state+jws"
FILE = "state.jws"
"""Its name in the state folder."""
_MAX_NAME = 256
LIMIT = 1 << 16
"""Bytes of the file: several times what a full state needs."""
_NO_STATE = frozenset({errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.EISDIR})
"""A link, a pipe, a folder, or a file larger than any state: somebody put it there, and a save may replace it."""


class Found(StrEnum):
    """The condition in which a state was found."""

    GOOD = "good"
    MISSING = "missing"
    ALTERED = "altered"
    UNREADABLE = "unreadable"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading the state.

    Attributes:
        state: None unless it is `GOOD` or `ROLLED_BACK`.
        detail: What is wrong; empty if nothing.
        anchor: What is wrong with the anchor; empty if nothing, or if there is none.
        anchored: The anchor has recorded a state.
    """

    found: Found
    state: DeviceState | None = None
    detail: str = ""
    anchor: str = ""
    anchored: bool = False


class StateStore(Protocol):
    """Stores one device's state."""

    def load(self) -> Loaded:
        """Load the state. Never raises."""

    def save(self, state: DeviceState) -> DeviceState:
        """Save a state, durably; returns it as it was saved, with its counter.

        Raises:
            StorageError: It may or may not have been saved.
        """

    @property
    def anchor(self) -> Anchor:
        """The memory that detects a roll-back."""

    @property
    def anchor_problem(self) -> str:
        """What was wrong with the anchor when it was last used; empty if nothing."""


class SignedStateStore:
    """A state in a file that is signed by the identity key. For several threads.

    Args:
        file: The file, which nothing else writes.
        signer: The identity key.
        agency, device: The device that the state belongs to.
        anchor: Detects a roll-back of the state.
    """

    def __init__(self, file: ReplacedFile, signer: Signer, agency: str, device: str, anchor: Anchor) -> None:
        self._file = file
        self._signer = signer
        self._agency = agency
        self._device = device
        self._anchor = anchor
        self._anchor_problem = ""
        self._counter = 0
        self._lock = threading.Lock()

    @property
    def anchor(self) -> Anchor:
        """The memory that detects a roll-back."""
        return self._anchor

    @property
    def anchor_problem(self) -> str:
        """What was wrong with the anchor when it was last used."""
        return self._anchor_problem

    def load(self) -> Loaded:
        """Load the state and compare it with the anchor."""
        with self._lock:
            loaded = self._load()
            self._anchor_problem = loaded.anchor
            return loaded

    def _load(self) -> Loaded:
        anchored, problem = self._anchored()
        if anchored is not None:
            self._counter = max(self._counter, anchored.counter)
        known = anchored is not None
        try:
            data = self._file.load()
        except StorageError as error:
            found = Found.ALTERED if error.errno in _NO_STATE else Found.UNREADABLE
            return Loaded(found, None, f"can't be read: {error.strerror}", problem, known)
        if data is None:
            recorded = f"; the anchor recorded save {anchored.counter}" if anchored is not None else ""
            return Loaded(Found.MISSING, None, f"is missing{recorded}", problem, known)
        try:
            state = self._parsed(data)
        except EvidenceError as error:
            return Loaded(Found.ALTERED, None, str(error), problem, known)
        self._counter = max(self._counter, state.counter)
        if anchored is None:
            return Loaded(Found.GOOD, state, "", problem or self._unanchored(state), known)
        older = state.counter < anchored.counter
        other = state.counter == anchored.counter and not self._anchor.matches(anchored, state.digest)
        if older or other:
            recorded = "another one of that number" if other else f"save {anchored.counter}"
            detail = f"is that of save {state.counter}, the anchor recorded {recorded}"
            return Loaded(Found.ROLLED_BACK, state, detail, problem, known)
        return Loaded(Found.GOOD, state, "", problem, known)

    def _unanchored(self, state: DeviceState) -> str:
        """What is wrong if the anchor is empty, or there is none; empty if nothing."""
        if state.anchor in ("", self._anchor.name):
            cleared = "was cleared: its battery was empty, or somebody erased it"
            return f"{state.anchor} {cleared}" if state.anchor else ""
        return f"the state was anchored in {state.anchor}, now {self._anchor.name} is configured"

    def _anchored(self) -> tuple[AnchorRecord | None, str]:
        try:
            return self._anchor.read(), ""
        except StorageError as error:
            return None, error.strerror or str(error)

    def _parsed(self, data: bytes) -> DeviceState:
        try:
            token = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise EvidenceError("expected a signed device state, got bytes that are not ASCII") from error
        state = parse_state(jws.verify(token, TYP, self._signer.public_key))
        if (state.agency, state.device) != (self._agency, self._device):
            raise EvidenceError(
                f"expected the state of {self._device} of {self._agency}, got that of {state.device} of {state.agency}"
            )
        return state

    def save(self, state: DeviceState) -> DeviceState:
        """Replace the file, then write the anchor."""
        with self._lock:
            self._counter += 1
            kept = msgspec.structs.replace(
                state,
                agency=self._agency,
                device=self._device,
                counter=self._counter,
                anchor="" if self._anchor.name == NONE else self._anchor.name[:_MAX_NAME],
            )
            payload = msgspec.to_builtins(kept)
            parse_state(payload)  # a state that could not be loaded again must not replace one that can
            token = jws.sign(self._signer, TYP, payload).encode("ascii")
            self._file.save(token)
            try:
                self._anchor.write(kept.counter, kept.digest)
            except StorageError as error:
                self._anchor_problem = error.strerror or str(error)
            else:
                self._anchor_problem = ""
            return kept
