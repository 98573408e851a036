"""What the newest boots' journals say of recordings: which were begun, which ended, how far they were attested.

The rules, in order (`agent.journal.line_trust` says what a line is trusted for):
1. Attested lines say which recordings were begun and ended, how much of their segments was attested, and what was
   suppressed.
2. A recording ended by a `recording_ended` line whose grant holds (see `agent.journal.grants`), or because another
   recording, which has begun, is named as its continuation.
3. An unattested line can only add a recording that may have begun. It counts where nothing better is known.
4. Boots are read from the newest one back to one that is attested to have opened a segment: that one had taken over
   everything before it, and its boot line names the recordings with segments that were still open. A boot that lost
   power sooner may have closed nothing, and may not even have a line.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.evidence.manifest import Span
from agent.journal import entries
from agent.journal.attested import BootJournal, read_boot
from agent.journal.entries import PersistedState
from agent.journal.format import Line
from agent.journal.grants import Grants
from agent.journal.persisted_state import PersistedStateBuilder
from agent.journal.reader import claimed_checkpoint
from agent.media.packet import Kind
from agent.storage.interface import Storage

MOST_BOOTS = 64
MOST_SILENT = 8
"""Boots without a line whose recordings are looked for by their certificates."""
MOST_SPANS = 256
MOST_CLAIMED = 8
"""Recordings that unattested lines claim to have begun, the newest ones."""


@dataclass(slots=True)
class Account:
    """What journals say, as far as a boot needs it to continue.

    Attributes:
        recorded: A boot is attested to have opened a segment.
        boot: The newest boot whose boot line is attested; 0 if there is none.
        tags: Of boots whose boot line is attested.
        begun: Recordings that have begun, in order; `claimed` are such that only unattested lines name.
        ended: Those that have ended, or continue as another one.
        attested: Bytes that were last attested of a segment.
        storage_full: Storage had no room at the end.
        carried: What must survive a loss of power.
        keys: Signing keys of the boots whose journals were read.
        silent: Boots of which no line is attested.
        spans: What was suppressed and is in no manifest yet, by boot and recording.
        boots: Those whose journals were read.
        opened: The last segment that was opened, by recording.
        unfinished: Recordings with segments that were left open by earlier boots when one of these began.
    """

    recorded: bool = False
    boot: int = 0
    tags: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    attested: dict[tuple[str, int], int] = field(default_factory=dict)
    storage_full: bool = False
    carried: PersistedState = field(default_factory=PersistedState)
    keys: list[PublicKey] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    spans: dict[tuple[int, str], list[Span]] = field(default_factory=dict)
    boots: set[int] = field(default_factory=set)
    opened: dict[str, int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    def and_then(self, later: "Account") -> "Account":
        """Both, one after the other, but for `carried`, which the caller sets."""
        return Account(
            recorded=self.recorded or later.recorded,
            boot=max(self.boot, later.boot),
            tags=self.tags + later.tags,
            begun=self.begun + later.begun,
            claimed=[*self.claimed, *later.claimed][-MOST_CLAIMED:],
            ended=self.ended | later.ended,
            attested=self.attested | later.attested,
            storage_full=later.storage_full if later.tags else self.storage_full,
            keys=self.keys + later.keys,
            silent=self.silent + later.silent,
            spans=self.spans | later.spans,
            boots=self.boots | later.boots,
            opened=self.opened | later.opened,
            unfinished=self.unfinished + later.unfinished,
        )


def read_account(
    storage: Storage, boots: Iterable[int], identity: PublicKey | None, known: BootJournal | None = None
) -> Account:
    """The account of the newest boots.

    Args:
        storage: The evidence folder.
        boots: Those that may be read, the newest first.
        identity: The device's identity key; None to leave certificates unchecked.
        known: A boot's journal that was read already.

    Raises:
        StorageError: Storage can't be read.
    """
    account = Account()
    carry = PersistedStateBuilder()
    count = 0
    for boot in boots:
        journal = known if known is not None and known.boot == boot else read_boot(storage, boot, identity)
        if journal is None:  # it lost power in its first line, or is not ours: it says nothing, and hides nothing
            # Those that directly follow the newest journal are kept: planting more displaces none of them.
            account.silent = [*account.silent, boot][-MOST_SILENT:]
            continue
        one, own = _read(journal)
        account = one.and_then(account)
        carry = own.and_then(carry)
        count += 1
        if account.recorded or count == MOST_BOOTS:
            break
    account.carried = carry.carried
    return account


def account_of(journal: BootJournal) -> Account:
    """The account of one boot.

    Raises:
        StorageError: Storage can't be read.
    """
    return _read(journal)[0]


def _read(journal: BootJournal) -> tuple[Account, PersistedStateBuilder]:
    builder, carry = _AccountBuilder(journal.boot), PersistedStateBuilder()
    account = builder.account
    account.keys.append(journal.key)
    if journal.last is None:
        account.silent.append(journal.boot)
    for line in journal.attested():
        builder.follow(line)
        carry.attested(line)
    for line in journal.unattested():
        carry.unattested(line)
        if isinstance(line.entry, entries.RecordingStarted):
            account.claimed = [*account.claimed, line.entry.recording][-MOST_CLAIMED:]
    return account, carry


class _AccountBuilder:
    """Follows the attested lines of one boot."""

    def __init__(self, boot: int) -> None:
        self.account = Account(boots={boot})
        self._boot = boot
        self._grants = Grants()

    def follow(self, line: Line) -> None:
        account, entry = self.account, line.entry
        match entry:
            case entries.Boot():
                account.boot = entry.boot
                account.tags.append(entry.tag)
                account.begun += [entry.interrupted] if entry.interrupted else []
                account.unfinished += entry.unfinished
            case entries.RecordingStarted():
                account.begun.append(entry.recording)
            case entries.RecordingEnded() if not self._grants.why_not_ended(entry):
                account.ended.add(entry.recording)
            case entries.Continued() if entry.by != entry.recording and entry.by in account.begun:
                account.ended.add(entry.recording)
            case entries.SegmentOpened():
                account.recorded = True
                account.opened[entry.recording] = max(entry.segment, account.opened.get(entry.recording, 0))
            case entries.Checkpoint():
                self._attested(entry)
            case entries.StorageFailed():
                account.storage_full = entry.problem == "ENOSPC"
            case entries.StorageBack():
                account.storage_full = False
            case _:
                self._withheld(entry)
        self._grants.follow(entry)

    def _attested(self, entry: entries.Checkpoint) -> None:
        payload = claimed_checkpoint(entry)  # covered by a later one, so this device wrote it; perhaps in another form
        if payload is not None and payload.recording:
            self.account.attested[payload.recording, payload.segment] = payload.bytes

    def _withheld(self, entry: entries.Entry) -> None:
        match entry:
            case entries.SegmentClosed():
                # Its manifest says what was suppressed so far; what still is belongs to the next one as well.
                self._keep(entry.recording, [span for span in self._spans(entry.recording) if span.to_us is None])
            case entries.Withheld():
                kinds = [Kind(kind) for kind in sorted(entry.kinds) if kind in set(Kind)]
                began = [Span(kind, entry.request, entry.from_us, None) for kind in kinds]
                self._keep(entry.recording, self._spans(entry.recording) + began)
            case entries.Released():
                released = [
                    Span(s.kind, s.request, s.from_us, entry.to_us)
                    if s.request == entry.request and s.to_us is None
                    else s
                    for s in self._spans(entry.recording)
                ]
                self._keep(entry.recording, released)
            case _:
                return

    def _spans(self, recording: str) -> list[Span]:
        return self.account.spans.get((self._boot, recording), [])

    def _keep(self, recording: str, spans: list[Span]) -> None:
        self.account.spans[self._boot, recording] = spans[-MOST_SPANS:]
