"""One pass over a sealed segment, without a key: its hash, its hash at each attested length, and its frames.

Frames are parsed in the chunks that are being hashed, so that nothing is read twice. `agent.seal.message` defines the
frames; this module only finds them across chunk boundaries.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.seal import message
from agent.seal.message import FINAL_HEAD, FRAME_OVERHEAD, REGULAR_HEAD, Header
from agent.storage.interface import read_chunks

CHUNK = 1 << 18
"""Bytes that are read at once: small enough for a processor's cache, so that parsing frames costs no second read."""


class Mark(NamedTuple):
    """The SHA-256 expected of the first `size` bytes, by journal line `line`, or by the manifest if that is 0."""

    size: int
    line: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class SealedFile:
    """The result of one pass.

    Attributes:
        size, sha256: Of the whole file.
        header: The message's header; None if it is not valid, and `header_fault` says why.
        header_sha256: Hash of the header, its authentication tag included.
        whole_frames: Number of complete frames, the final one included.
        whole_bytes: Offset at which the last of them ends; 0 if there is no header.
        final: True if the final frame is among them.
        frame_fault: Why the bytes after that can't begin the next frame; empty if they can, or if there are none.
        agrees_to: The last mark before the first mismatch, in bytes; 0 if there is none.
        differs: The first mark that does not match; None if all within the file do.
    """

    size: int
    sha256: str
    header: Header | None
    header_sha256: str
    header_fault: str
    whole_frames: int
    whole_bytes: int
    final: bool
    frame_fault: str
    agrees_to: int
    differs: Mark | None


def examine(stream: BinaryIO, marks: Iterable[Mark]) -> SealedFile:
    """Read a file once, from its beginning to its end, in constant memory.

    Args:
        stream: The file, at its beginning.
        marks: By ascending size.

    Raises:
        StorageError: Reading fails.
    """
    hashed = _Hashed(stream, marks)
    header, header_fault = None, ""
    try:
        header = message.read_header(hashed)
    except EvidenceError as error:
        header_fault = str(error)
    except OSError as error:
        raise StorageError(error.errno, f"reading failed: {error.strerror}") from error
    walk = _Walk(header.frame_length, hashed.size) if header else None
    for chunk in read_chunks(stream, size=CHUNK):
        hashed.update(chunk)
        if walk is not None:
            walk.feed(chunk)
    whole_frames, whole_bytes, final, frame_fault = walk.finish() if walk else (0, 0, False, "")
    return SealedFile(
        size=hashed.size,
        sha256=hashed.sha256.hexdigest(),
        header=header,
        header_sha256=sha256_hex(header.serialize()) if header else "",
        header_fault=header_fault,
        whole_frames=whole_frames,
        whole_bytes=whole_bytes,
        final=final,
        frame_fault=frame_fault,
        agrees_to=hashed.agrees_to,
        differs=hashed.differs,
    )


class _Hashed:
    """Hashes what is read and compares the hash at each mark."""

    def __init__(self, stream: BinaryIO, marks: Iterable[Mark]) -> None:
        self._stream = stream
        self._marks: Iterator[Mark] = iter(marks)
        self._next: Mark | None = next(self._marks, None)
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.agrees_to = 0
        self.differs: Mark | None = None

    def read(self, size: int, /) -> bytes:
        """Read and hash bytes; the header parser uses this."""
        data = self._stream.read(size)
        self.update(data)
        return data

    def update(self, data: bytes) -> None:
        """Hash the next bytes."""
        view = memoryview(data)
        while self._next is not None and self._next.size <= self.size + len(view):
            upto = self._next.size - self.size
            self.sha256.update(view[:upto])
            self.size += upto
            view = view[upto:]
            if self.sha256.copy().digest() != self._next.sha256:
                # All later marks include the first difference and show nothing new.
                self.differs, self._next = self._next, None
            else:
                self.agrees_to = self.size
                self._next = next(self._marks, None)
        self.sha256.update(view)
        self.size += len(view)


class _Walk:
    """Finds frames in chunks that may end anywhere.

    The newest frame that has begun spans the offsets `_begin` to `_end`. `_rest` holds the bytes from `_end` on, while
    they are too few to give the next frame's length.
    """

    def __init__(self, frame_length: int, start: int) -> None:
        self._frame_length = frame_length
        self._size = self._begin = self._end = start
        self._frames = 0
        self._final = False
        self._fault = ""
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Process the next bytes of the file."""
        before = self._size
        self._size += len(chunk)
        if self._fault or self._final or self._size <= self._end:
            return
        data, origin = self._rest + chunk, before - len(self._rest)
        at = self._walk(data, self._end - origin, origin)
        self._end = origin + at
        self._rest = data[at : at + FINAL_HEAD.size]

    def _walk(self, data: bytes, at: int, origin: int) -> int:
        """Skip all frames whose heads are within `data`; returns the offset at which the last of them ends."""
        sequence, step, frame_length = self._frames + 1, self._frame_length + FRAME_OVERHEAD, self._frame_length
        pack, head_size, last = REGULAR_HEAD.pack, REGULAR_HEAD.size, len(data) - FINAL_HEAD.size
        begin = self._begin - origin
        while at <= last and not self._final:
            # Nearly all frames are regular ones, which one comparison recognises.
            if data[at : at + head_size] == pack(sequence, 0, sequence):
                length = step
            else:
                try:
                    head = message.frame_head(data[at : at + FINAL_HEAD.size], sequence, frame_length)
                except EvidenceError as error:
                    self._fault = str(error)
                    break
                assert head is not None, "24 bytes give every frame's length"
                length, self._final = head.length, head.final
            begin = at
            at += length
            sequence += 1
        self._begin, self._frames = origin + begin, sequence - 1
        return at

    def finish(self) -> tuple[int, int, bool, str]:
        """End of the file: `whole_frames`, `whole_bytes`, `final` and `frame_fault` of `SealedFile`."""
        if self._size < self._end:
            return self._frames - 1, self._begin, False, ""
        if self._final and self._size > self._end:
            self._fault = f"expected nothing after the final frame, got {self._size - self._end} bytes"
        elif self._rest and not self._fault:
            try:
                message.frame_head(self._rest, self._frames + 1, self._frame_length)
            except EvidenceError as error:
                self._fault = str(error)
        return self._frames, self._end, self._final, self._fault
