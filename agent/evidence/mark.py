"""The device's own memory of how far its journal came, so that one that was cut is named at the next boot.

The rules, in order:
1. A mark names a line that is on storage: it is saved after that line was, now and then, and replaces the one before.
   It is signed by the identity key.
2. At a boot the journal must hold that very line. No loss of power takes a line away that was on storage before the
   mark: then somebody cut the journal, or altered it.
3. A mark that is missing beside a journal, or that this device did not sign, is named too.

What it can't see: who puts back both, mark and journal, of an earlier moment. For that the newest checkpoint travels in
the docked status.
"""

from typing import Annotated

import msgspec

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.journal import parse_line, split_lines
from agent.keys import jws
from agent.keys.records import Record, Sha256, as_record
from agent.keys.signer import Signer
from agent.storage.interface import ReplacedFile, Storage

TYP = "bwc-mark+jws"
_TAIL = 1 << 20
_Count = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]


class _Mark(Record, frozen=True, forbid_unknown_fields=True):
    device: str
    boot: _Count
    n: _Count
    head: Sha256


class JournalMark:
    """The mark of one device.

    Args:
        store: Where it is kept; nothing else writes there.
        signer: The identity key.
        device: The device's name.
    """

    def __init__(self, store: ReplacedFile, signer: Signer, device: str) -> None:
        self._store = store
        self._signer = signer
        self._device = device

    def save(self, boot: int, number: int, head: str) -> None:
        """Remember a line that is on storage.

        Args:
            boot: In whose journal it is.
            number: Its number.
            head: Its hash.

        Raises:
            StorageError: Storage refuses; the one before may still be there.
        """
        mark = _Mark(self._device, boot, number, head)
        self._store.save(jws.sign(self._signer, TYP, msgspec.to_builtins(mark)).encode("ascii"))

    def boot(self) -> int:
        """The boot whose journal was marked; 0 where no mark of ours can be read, which `judge` tells."""
        try:
            data = self._store.load() or b""
            payload = jws.verify(data.decode("ascii"), TYP, self._signer.public_key)
            return as_record(payload, _Mark, "journal mark").boot
        except (StorageError, EvidenceError, UnicodeDecodeError):
            return 0

    def judge(self, storage: Storage) -> str:
        """What is wrong with the journal, in words; empty if it holds what was marked.

        Raises:
            StorageError: Storage can't be read.
        """
        data = self._store.load()
        if data is None:
            known = any(storage.size(f"{layout.JOURNAL}/{name}") for name in storage.names(layout.JOURNAL))
            return "the mark of how far the journal came is gone" if known else ""
        try:
            token = data.decode("ascii")
            mark = as_record(jws.verify(token, TYP, self._signer.public_key), _Mark, "journal mark")
        except (EvidenceError, UnicodeDecodeError) as error:
            return f"the mark of how far the journal came was altered: {error}"
        lines = _last_lines(storage, layout.journal(mark.boot))
        if mark.n in lines:
            same = lines[mark.n] == mark.head
            return "" if same else f"line {mark.n} of boot {mark.boot} is not the one that was written"
        if lines and min(lines) > mark.n:
            return ""  # it lies further back than is looked
        newest = max(lines, default=0)
        return (
            f"line {mark.n} of boot {mark.boot} was on storage, and is gone; the last one there is {newest or 'none'}"
        )


def _last_lines(storage: Storage, path: str) -> dict[int, str]:
    """Number and hash of the last lines of a journal; empty if there is none."""
    size = storage.size(path)
    if size is None:
        return {}
    found = {}
    with storage.open(path) as stream:
        stream.seek(max(0, size - _TAIL))
        for raw in split_lines(stream.read(_TAIL))[0]:
            try:
                line = parse_line(raw)
            except EvidenceError:
                continue  # the first one may be cut by where reading began; others are for auditors to judge
            found[line.n] = line.hash
    return found
