"""What a boot reads on the card, to hold it against the device state.

All reading is bounded, whatever a file claims.
"""

import errno

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.device_state.compare import CardView
from agent.device_state.record import DeviceState, HighWaterMark
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal.attested import read_boot
from agent.journal.boot_recovery import JournalTail, RecoveryState, names_in
from agent.journal.reader import NO_FILE, line_hash
from agent.storage.interface import Storage

ID_BYTES = 16
BROKEN = "broken"
"""Instead of a hash: the line is there, but the chain before it is broken."""
_HEX = frozenset("0123456789abcdef")


def card_id(storage: Storage) -> str:
    """The card's id; empty if it has none, or something else lies in its place.

    Raises:
        StorageError: Storage can't be read.
    """
    try:
        text = storage.read(layout.CARD_ID, 2 * ID_BYTES + 1).decode("ascii", "replace").strip()
    except StorageError as error:
        if error.errno in NO_FILE | {errno.EFBIG}:
            return ""
        raise
    return text if len(text) == 2 * ID_BYTES and set(text) <= _HEX else ""


def view_of(
    storage: Storage,
    tail: JournalTail,
    left: RecoveryState,
    state: DeviceState | None,
    identity: PublicKey | None = None,
) -> CardView:
    """The card as `agent.device_state.compare` wants it.

    Args:
        storage: The evidence folder.
        tail: Where its journal stands.
        left: What the boots before left behind.
        state: The device's own memory; None if there is none.
        identity: The device's identity key; without it every journal counts.

    Raises:
        StorageError: Storage can't be read.
    """
    mark = state.mark if state is not None else None
    card = card_id(storage)
    own = state.cards.get(card) if state is not None else None
    asked: list[str] = []
    if state is not None:
        asked = [*state.recordings, *([state.running.recording] if state.running is not None else [])]
    return CardView(
        empty=not tail.boot and not names_in(storage, layout.RECORDINGS),
        card=card,
        boot=tail.boot,
        line=tail.line.n if tail.line is not None else 0,
        mark_hash=_mark_hash(storage, tail, mark, identity) if mark is not None else "",
        own_hash=_mark_hash(storage, tail, own, identity) if own is not None else "",
        present=frozenset(recording for recording in asked if _is_there(storage, recording)),
        running=left.running.recording if left.running is not None else "",
        carried=left.carried,
    )


def _mark_hash(storage: Storage, tail: JournalTail, mark: HighWaterMark, identity: PublicKey | None) -> str:
    """The hash of the line that the mark names, or another text where the chain does not reach it.

    A line that is there counts only with all that stands before it in its file: else whoever alters the first line has
    the whole file passed over, and the device believes that nothing is missing.
    """
    found = line_hash(storage, mark.boot, mark.line)
    if found != mark.head:
        return found
    known = tail.journal is not None and tail.journal.boot == mark.boot
    # The mark vouches for the chain before it. Its boot must all the same be ours: else somebody else's key could have
    # signed a chain of any length before the line, and all of it would be read.
    journal = tail.journal if known else read_boot(storage, mark.boot, identity)
    return found if journal is not None and journal.chained >= mark.line else BROKEN


def _is_there(storage: Storage, recording: str) -> bool:
    try:
        return any(layout.segment_part(name) is not None for name in storage.names(layout.recording(recording)))
    except StorageError as error:
        if error.errno in NO_FILE:
            return False
        raise
