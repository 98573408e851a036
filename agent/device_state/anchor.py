"""The anchor: a small memory that can't be rolled back together with the state, so that an older state is detected.

The rules, in order:
1. The state is saved first, then the anchor. After a power cut in between the state is newer than the anchor by one
   save, which is normal; it is older only if somebody rolled it back.
2. Battery-backed RAM has room for two slots, written in turn: a torn write costs the older one.
3. A slot is 28 bytes: a magic, the counter, a tag over counter and state's digest, and a tag over these two. The key of
   both tags is derived from the identity key. So a counter can be trusted without its state, and a slot that was torn,
   or written without the key, is ignored.
4. A failed read is an error for the caller to report; it stops nothing.

The limit of RAM: whoever opens the device and reaches the clock's bus can write back what they read there earlier.
"""

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from agent.errors import ConfigError, StorageError
from agent.keys.signer import Signer

NONE = "none"
_NVMEM = "nvmem"
_SLOT = struct.Struct(">4sQ8s8s")
_MAGIC = b"BWS1"
_TAG = 8
SIZE = 2 * _SLOT.size
"""Bytes that an nvmem device must have: 56, all that a DS1307 has."""
_PURPOSE = "bwc-state anchor 1"


@dataclass(frozen=True, slots=True)
class AnchorRecord:
    """The content of an anchor.

    Attributes:
        counter: Of the newest save.
        digest_tag: Authenticates that state's digest; see `Anchor.matches`.
    """

    counter: int
    digest_tag: bytes


class Anchor(Protocol):
    """A memory whose counter only rises: a clock chip's RAM, or later a TPM's counter or a secure element."""

    @property
    def name(self) -> str:
        """Its configured name; `none` for none."""

    def read(self) -> AnchorRecord | None:
        """Its content; None if it is empty, because it is new or its battery was empty.

        Raises:
            StorageError: It can't be read, or holds something else.
        """

    def write(self, counter: int, digest: str) -> None:
        """Record a state that was saved.

        Raises:
            StorageError: It could not be recorded; the content may be that of the save before.
        """

    def matches(self, anchored: AnchorRecord, digest: str) -> bool:
        """True if the anchor's content belongs to the state with this digest."""


class NoAnchor:
    """No anchor: a state that was rolled back is not detected."""

    name = NONE

    def read(self) -> AnchorRecord | None:
        """Nothing."""
        return None

    def write(self, counter: int, digest: str) -> None:
        """Does nothing."""

    def matches(self, anchored: AnchorRecord, digest: str) -> bool:
        """Never called, as `read` returns None."""
        return bool(anchored.counter and digest)


class Ram(Protocol):
    """A few bytes of non-volatile memory."""

    def read(self, length: int) -> bytes:
        """The first bytes, as many as there are, up to `length`.

        Raises:
            StorageError: It can't be read.
        """

    def write(self, offset: int, data: bytes) -> None:
        """Replace some of them.

        Raises:
            StorageError: Not all were replaced.
        """


class RamAnchor:
    """An anchor in battery-backed RAM.

    Args:
        ram: Where; its first `SIZE` bytes are the anchor's.
        signer: The identity key, for the tags' key.
        name: Its configured name.
    """

    def __init__(self, ram: Ram, signer: Signer, name: str) -> None:
        self._ram = ram
        self._key = signer.derive(_PURPOSE)
        self._name = name

    @property
    def name(self) -> str:
        """Its configured name."""
        return self._name

    def read(self) -> AnchorRecord | None:
        """The newer one of the valid slots; None if neither was ever written."""
        data = self._ram.read(SIZE)
        if len(data) < SIZE:
            raise StorageError(errno.ENOSPC, f"expected at least {SIZE} bytes in {self._name}, got {len(data)}")
        slots = [data[: _SLOT.size], data[_SLOT.size :]]
        good = [anchored for slot in slots if (anchored := self._slot(slot)) is not None]
        if good:
            return max(good, key=lambda anchored: anchored.counter)
        if len(set(data)) > 1:
            raise StorageError(errno.EBADMSG, f"expected this device's anchor in {self._name}, found something else")
        return None

    def write(self, counter: int, digest: str) -> None:
        """Write the slot that does not hold the newest save."""
        tag = self._digest_tag(counter, digest)
        slot = _SLOT.pack(_MAGIC, counter, tag, self._slot_tag(counter, tag))
        self._ram.write(counter % 2 * _SLOT.size, slot)

    def matches(self, anchored: AnchorRecord, digest: str) -> bool:
        """True if the anchor's content belongs to the state with this digest."""
        return anchored.digest_tag == self._digest_tag(anchored.counter, digest)

    def _slot(self, data: bytes) -> AnchorRecord | None:
        magic, counter, digest_tag, slot_tag = _SLOT.unpack(data)
        if magic != _MAGIC or slot_tag != self._slot_tag(counter, digest_tag):
            return None
        return AnchorRecord(counter, digest_tag)

    def _slot_tag(self, counter: int, digest_tag: bytes) -> bytes:
        return self._tag(b"slot %d " % counter + digest_tag)

    def _digest_tag(self, counter: int, digest: str) -> bytes:
        return self._tag(b"state %d %s" % (counter, digest.encode("ascii")))

    def _tag(self, message: bytes) -> bytes:
        # Tags are compared once a boot, so that the timing of the comparison reveals nothing.
        tag = HMAC(self._key, hashes.SHA256())  # the standard library's would load a second OpenSSL
        tag.update(message)
        return tag.finalize()[:_TAG]


class NvmemRam:
    """The kernel's nvmem device of a clock chip, such as /sys/bus/nvmem/devices/ds1307_nvram0/nvmem.

    Args:
        path: The device's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, length: int) -> bytes:
        """The first bytes."""
        with self._opened(os.O_RDONLY) as handle:
            data = b""
            while len(data) < length:
                part = os.pread(handle, length - len(data), len(data))
                if not part:
                    break
                data += part
            return data

    def write(self, offset: int, data: bytes) -> None:
        """Replace some of them. The chip stores them at once; a file, in a test, is synced."""
        with self._opened(os.O_WRONLY) as handle:
            written = os.pwrite(handle, data, offset)
            if written != len(data):
                raise OSError(errno.EIO, f"{written} of {len(data)} bytes were taken")
            with contextlib.suppress(OSError):
                os.fdatasync(handle)

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        try:
            handle = os.open(self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise OSError(errno.EINVAL, "expected an nvmem device's file")
                yield handle
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(error.errno, f"the anchor {self._path} refused: {error.strerror}") from error


def make_anchor(spec: str, signer: Signer) -> Anchor:
    """The anchor of a configuration: `none`, or `nvmem:PATH`.

    Raises:
        ConfigError: There is no such kind.
    """
    kind, _, place = spec.partition(":")
    if spec == NONE:
        return NoAnchor()
    if kind == _NVMEM and place.startswith("/"):
        return RamAnchor(NvmemRam(Path(place)), signer, spec)
    raise ConfigError(f"expected [device] anchor as none or nvmem:/PATH of a clock chip's RAM, got {spec[:80]!r}")
