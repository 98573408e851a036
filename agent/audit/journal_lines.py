"""A device's journals as the ledger takes them: one sequence of lines, and what keeps some of them out of the account.

`chained_lines` follows the chain (`agent.journal.reader`). A break is reported, and reading continues with the
next line, repeated and moved lines too: an account with a gap is better than none, as long as it says where the gap
is. `agent.verify.journals` is stricter and does not count moved lines; here that would let a single line
with a far number hide all that follow it.

`attested_only` holds back unsigned lines that would change the account. A line that permits, ends, continues or
releases something is stored together with the checkpoint that signs it (`agent.journal.line_trust`). Such a line, and
what follows it, waits until a checkpoint by the boot's key covers it; one that none covers is named and left out. The
boot's first line says whose key that is; whether the device has certified it is checked by `agent.verify.verifier`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.journal.format import Line, parse_line
from agent.journal.line_trust import needs_signature
from agent.journal.reader import Chain, Link, Torn, Whole, certified_boot, covers, raw_lines
from agent.verify.findings import number
from agent.verify.tree import Tree, below, journal_files

MOST_HELD = 4096
"""Lines that are held back at most: a recorder signs such a line in the write that stores it."""
MOST_NAMED = 20
"""Unattested lines that are named one by one, of each boot."""


@dataclass(frozen=True, slots=True)
class BootBegun:
    """A boot's file begins."""

    boot: int


@dataclass(frozen=True, slots=True)
class ChainBroken:
    """Something about the journal keeps a part of the shift from being accounted for.

    Attributes:
        kind: `chain_broken`, `unreadable`, `journal_missing`, `torn` or `unattested`; the ledger adds others.
        boot: In whose file; 0 if it is about none.
        sentence: In words.
    """

    kind: str
    boot: int
    sentence: str


Item = BootBegun | Line | ChainBroken


def chained_lines(tree: Tree, folder: str) -> Iterator[Item]:
    """All lines of all journals of a device, in order, in constant memory.

    Args:
        tree: Where the evidence lies.
        folder: The device's folder in it.

    Raises:
        EvidenceError: There is no journal.
    """
    boots = journal_files(tree, folder)
    if not boots:
        path = below(folder, layout.JOURNAL)
        raise EvidenceError(f"expected a journal in {path}, found none: without it there is nothing to account for")
    chain = Chain(_anchor(tree, folder))
    if chain.head is None:
        yield ChainBroken(
            "chain_broken", 0, "the device certificate is missing: what the first line follows is unknown"
        )
    expected = 1
    for boot, path in boots.items():
        if boot > expected:
            chain.lose()
            which = f"boot {expected}" if boot == expected + 1 else f"boots {expected} to {boot - 1}"
            yield ChainBroken("journal_missing", expected, f"the journal of {which} is missing, with everything in it")
        yield BootBegun(boot)
        yield from _file(tree, boot, path, chain)
        expected = boot + 1


def _anchor(tree: Tree, folder: str) -> str | None:
    try:
        return sha256_hex(tree.read(below(folder, layout.DEVICE)))
    except StorageError:
        return None


def _file(tree: Tree, boot: int, path: str, chain: Chain) -> Iterator[Line | ChainBroken]:
    try:
        with tree.open(path) as stream:
            for item in raw_lines(stream):
                if isinstance(item, Whole):
                    yield from _line(boot, item.raw, chain)
                elif isinstance(item, Torn):
                    said = f"boot {boot}'s journal ends within a line: {item.size} bytes of it are there"
                    yield ChainBroken("torn", boot, said)
                else:
                    said = f"{item.size} bytes after line {chain.number} are no line of a journal"
                    chain.lose()
                    yield ChainBroken("unreadable", boot, said)
    except StorageError as error:
        chain.lose()
        yield ChainBroken("unreadable", boot, f"boot {boot}'s journal can't be read on: {error.strerror}")


def _line(boot: int, raw: bytes, chain: Chain) -> Iterator[Line | ChainBroken]:
    try:
        line = parse_line(raw)
    except EvidenceError as error:
        chain.lose()
        said = f"what follows line {chain.number} is no line of a journal: {error}"
        yield ChainBroken("unreadable", boot, said)
        return
    link = chain.link(line.n, line.prev)
    if link is Link.ALTERED:
        said = f"journal line {line.n} does not follow line {chain.number}: one of the two was altered"
        yield ChainBroken("chain_broken", boot, said)
    elif link in {Link.GAP, Link.MOVED}:
        said = f"expected journal line {chain.number + 1}, got line {line.n}: lines are missing or moved"
        yield ChainBroken("chain_broken", boot, said)
    chain.take(line.n, line.hash)
    yield line


def attested_only(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, without the lines that would need a signature and have none; those are named instead."""
    holder = _Holder()
    for item in items:
        yield from holder.take(item)
    yield from holder.end_boot()


class _Holder:
    def __init__(self) -> None:
        self._boot = 0
        self._first = False
        self._key: PublicKey | None = None
        self._held: list[Line] = []
        self._named = 0

    def take(self, item: Item) -> Iterator[Item]:
        if isinstance(item, BootBegun):
            yield from self.end_boot()
            self._boot, self._first, self._key, self._named = item.boot, True, None, 0
        elif isinstance(item, Line):
            yield from self._line(item)
            return
        else:
            yield from self._let_go()  # the chain is broken here: no later checkpoint covers what stands before
        yield item

    def _line(self, line: Line) -> Iterator[Item]:
        if self._first:
            # Of a boot whose first line is not signed the account still has to say that it was there.
            self._first = False
            self._key = _key_of(line, self._boot)
            yield line
            return
        if not self._held and not needs_signature(line.entry):
            yield line
            return
        self._held.append(line)
        if covers(line, self._boot, self._key):
            yield from self._held
            self._held = []
        elif len(self._held) > MOST_HELD:
            yield from self._let_go()

    def _let_go(self) -> Iterator[Item]:
        held, self._held = self._held, []
        for line in held:
            if not needs_signature(line.entry):
                yield line
                continue
            self._named += 1
            if self._named <= MOST_NAMED:
                kind = str(line.entry.__struct_config__.tag)
                said = f"line {line.n} of boot {self._boot}, {kind}, has no signature and is left out"
                yield ChainBroken("unattested", self._boot, said)

    def end_boot(self) -> Iterator[Item]:
        """There are no more lines of this boot."""
        yield from self._let_go()
        if self._named > MOST_NAMED:
            more = number(self._named - MOST_NAMED, "line")
            yield ChainBroken("unattested", self._boot, f"{more} more of boot {self._boot} like these")


def _key_of(first: Line, boot: int) -> PublicKey | None:
    """The key that a file's first line names; None if it is not that boot's first line."""
    try:
        return certified_boot(first, boot, None).key
    except EvidenceError:
        return None
