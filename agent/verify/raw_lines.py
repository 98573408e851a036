"""A journal's file as lines, in constant memory, whatever its bytes are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from agent.journal.format import MAX_LINE
from agent.storage.interface import read_chunks

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Whole:
    """A line, without the line feed that ends it."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line of `size` bytes with its line feed: longer than any line of a journal."""

    size: int


@dataclass(frozen=True, slots=True)
class Torn:
    """The last `size` bytes, which no line feed ends."""

    size: int


def raw_lines(stream: BinaryIO) -> Iterator[Whole | TooLong | Torn]:
    """The lines of a file; memory is bounded, however long they are.

    Raises:
        StorageError: The stream can't be read on.
    """
    begun = bytearray()
    passed = 0
    for chunk in read_chunks(stream, size=_CHUNK):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            if passed or len(begun) + len(end) > MAX_LINE:
                yield TooLong(passed + len(begun) + len(end) + 1)
            else:
                yield Whole(bytes(begun) + end if begun else end)
            begun.clear()
            passed = 0
        begun += rest
        if len(begun) > MAX_LINE:
            passed += len(begun)
            begun.clear()
    if passed or begun:
        yield Torn(passed + len(begun))
