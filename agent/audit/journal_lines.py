"""A device's journals as one sequence of lines, each checked against the chain, in constant memory.

Only the chain is looked at here: whether lines follow each other. Whether a recorder signed them, and which, is the
business of `agent.verify.verifier`. Where the chain is broken that is named, and reading goes on with what
stands there: an account of a shift with a hole in it is better than none, as long as it says where the hole is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.journal.format import Line, follow, parse_line
from agent.verify.raw_lines import TooLong, Torn, Whole, raw_lines
from agent.verify.tree import Kind, Tree, below


@dataclass(frozen=True, slots=True)
class BootBegun:
    """A boot's file begins."""

    boot: int


@dataclass(frozen=True, slots=True)
class ChainBroken:
    """Something about the journal keeps a part of the shift from being accounted for.

    Attributes:
        kind: `chain_broken`, `unreadable`, `journal_missing` or `torn`; of others see who makes them.
        boot: In whose file; 0 if it is about none.
        sentence: In words.
    """

    kind: str
    boot: int
    sentence: str


Item = BootBegun | Line | ChainBroken


def journal_lines(tree: Tree, folder: str) -> Iterator[Item]:
    """All lines of all journals of a device, in order.

    Args:
        tree: Where the evidence lies.
        folder: The device's folder in it.

    Raises:
        EvidenceError: There is no journal.
    """
    path = below(folder, layout.JOURNAL)
    boots = {}
    for entry in tree.entries(path):
        boot = layout.journal_boot(entry.name)
        if boot and entry.kind is Kind.FILE:
            boots[boot] = below(path, entry.name)
    if not boots:
        raise EvidenceError(f"expected a journal in {path}, found none: nothing tells what the camera did")
    reader = _Reader(tree, _anchor(tree, folder))
    if reader.head is None:
        yield ChainBroken(
            "chain_broken", 0, "the device certificate is missing: what the first line follows can't be told"
        )
    expected = 1
    for boot in sorted(boots):
        if boot > expected:
            reader.head = None
            which = f"boot {expected}" if boot == expected + 1 else f"boots {expected} to {boot - 1}"
            yield ChainBroken("journal_missing", expected, f"the journal of {which} is missing, and all that it told")
        yield BootBegun(boot)
        yield from reader.read(boot, boots[boot])
        expected = boot + 1


def _anchor(tree: Tree, folder: str) -> str | None:
    try:
        return sha256_hex(tree.read(below(folder, layout.DEVICE)))
    except StorageError:
        return None


class _Reader:
    """Knows where the chain stands; `head` is None where nobody can tell what the next line follows."""

    def __init__(self, tree: Tree, head: str | None) -> None:
        self._tree = tree
        self.head = head
        self._number = 0

    def read(self, boot: int, path: str) -> Iterator[Line | ChainBroken]:
        """One boot's file."""
        try:
            with self._tree.open(path) as stream:
                for item in raw_lines(stream):
                    if isinstance(item, Whole):
                        yield from self._line(boot, item.raw)
                    elif isinstance(item, Torn):
                        said = f"boot {boot}'s journal ends within a line: {item.size} bytes of it are there"
                        yield ChainBroken("torn", boot, said)
                    else:
                        yield self._unreadable(boot, item)
        except StorageError as error:
            self.head = None
            yield ChainBroken("unreadable", boot, f"boot {boot}'s journal can't be read on: {error.strerror}")

    def _unreadable(self, boot: int, item: TooLong) -> ChainBroken:
        self.head = None
        return ChainBroken("unreadable", boot, f"{item.size} bytes after line {self._number} are no line of a journal")

    def _line(self, boot: int, raw: bytes) -> Iterator[Line | ChainBroken]:
        if self.head is not None:
            try:
                line = next(follow([raw], self.head, self._number))
            except EvidenceError as error:
                yield ChainBroken("chain_broken", boot, str(error))
            else:
                yield self._stands(line)
                return
        try:
            yield self._stands(parse_line(raw))
        except EvidenceError as error:
            self.head = None
            yield ChainBroken("unreadable", boot, f"what follows line {self._number} is no line of a journal: {error}")

    def _stands(self, line: Line) -> Line:
        self.head, self._number = line.hash, line.n
        return line
