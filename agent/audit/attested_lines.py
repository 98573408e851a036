"""Keeps lines out of an account that would change it and that nobody has signed.

A line that permits, ends, continues or releases something is stored together with the checkpoint that signs it
(`agent.journal.belief`). Here such a line is held back, and what follows it, until a checkpoint by the boot's key
covers it. One that none covers does not become part of the account, but is named in it. Whose key that is, the boot's
first line says; whether the device has certified it, `agent.verify.verifier` checks.
"""

from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.audit.journal_lines import BootBegun, ChainBroken, Item
from agent.errors import EvidenceError, KeyFileError
from agent.journal import entries
from agent.journal.belief import needs_signature
from agent.journal.format import CHECKPOINT_TYPE, Line, checkpoint_payload
from agent.keys import jws
from agent.keys.jwk import public_key
from agent.trust.certificates import BOOT_TYP
from agent.verify.findings import number

MOST_HELD = 4096
"""Lines that are held back at most: a recorder signs such a line in the write that stores it."""
MOST_NAMED = 20
"""Unattested lines that are named one by one, of each boot."""


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
            self._key = _key_of(line.entry)
            yield line
            return
        if not self._held and not needs_signature(line.entry):
            yield line
            return
        self._held.append(line)
        if isinstance(line.entry, entries.Checkpoint) and self._covers(line, line.entry):
            yield from self._held
            self._held = []
        elif len(self._held) > MOST_HELD:
            yield from self._let_go()

    def _covers(self, line: Line, entry: entries.Checkpoint) -> bool:
        if self._key is None:
            return False
        try:
            payload = checkpoint_payload(jws.verify(entry.jws, CHECKPOINT_TYPE, self._key))
        except EvidenceError:
            return False
        return (payload.boot, payload.n, payload.head) == (self._boot, line.n - 1, line.prev)

    def _let_go(self) -> Iterator[Item]:
        held, self._held = self._held, []
        for line in held:
            if not needs_signature(line.entry):
                yield line
                continue
            self._named += 1
            if self._named <= MOST_NAMED:
                kind = str(line.entry.__struct_config__.tag)
                said = f"line {line.n} of boot {self._boot}, {kind}, is signed by nobody and is not believed"
                yield ChainBroken("unattested", self._boot, said)

    def end_boot(self) -> Iterator[Item]:
        """There are no more lines of this boot."""
        yield from self._let_go()
        if self._named > MOST_NAMED:
            more = number(self._named - MOST_NAMED, "line")
            yield ChainBroken("unattested", self._boot, f"{more} more of boot {self._boot} like these")


def _key_of(entry: entries.AnyEntry) -> PublicKey | None:
    """The key that a boot line names; None if it names none."""
    if not isinstance(entry, entries.Boot):
        return None
    try:
        return public_key(jws.unverified_payload(entry.certificate, BOOT_TYP).get("jwk"))
    except (EvidenceError, KeyFileError):
        return None
