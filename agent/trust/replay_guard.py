"""Replay guard for tokens that may be used once: the used ones are stored until they can't become valid again.

The rules, in order:

1. The use of a token is on storage before the token takes effect. If storage fails, the token is refused and is not
   used up.
2. A used token is remembered until it has expired. Then it may be dropped, because from then on the guard refuses every
   token that ends no later: that time never goes back, whatever a clock is set to.
3. When the record is full of unexpired tokens, the next one is refused. None is dropped early.
4. The record is part of the device state (`agent.device_state`), outside of the removable card. One that is missing,
   altered, of another device, or older than the state's anchor says is *lost*: it is unknown what was used. The next
   token is then refused and a new record started, which refuses all tokens that end within `LONGEST_S` from now; by the
   time one is accepted, all that may have been used before the loss have expired. Only a device that never ran before
   starts without this.
5. A record that can't be read because storage fails is not lost: it is read again with the next token.

While the recorder runs, its copy in memory is authoritative. Rule 4 needs a clock that was not set back before the loss
was noticed, such as the journal's (`agent.journal.format.Journal.wall`).
"""

import threading
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from agent.clock import NS, utc_text
from agent.errors import EvidenceError, StorageError
from agent.trust.records import Record

LONGEST_S = 16 * 60
"""Tokens that end later than this many seconds from now are refused."""
CAPACITY = 256
"""Tokens within `LONGEST_S`: far more than any shift needs, and a record of some 10 KB."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""NumericDate (RFC 7519, 2) without fractions: whole seconds since 1970, up to the year 9999."""
Jti = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
"""128 random bits, base64url."""


class UsedTokens(Record, frozen=True, forbid_unknown_fields=True):
    """The record: tokens that end at `over` or before are refused; `used` has the end of each used one."""

    over: Seconds
    used: Annotated[dict[Jti, Seconds], msgspec.Meta(max_length=CAPACITY)]


class UsedRecord(Protocol):
    """Storage of the record: `agent.device_state.used.UsedTokensInState`."""

    def load(self) -> UsedTokens | None:
        """The record that was saved last; None if there is none.

        Raises:
            StorageError: It can't be read now.
            EvidenceError: It was altered, or is not the newest one.
        """

    def save(self, used: UsedTokens) -> None:
        """Replaces it, durable on return.

        Raises:
            StorageError: It is unknown whether it was replaced.
        """


@dataclass(frozen=True, slots=True)
class PresentInterval:
    """Bounds of the present time, by a clock whose error is bounded. Nanoseconds since 1970."""

    earliest_ns: int
    latest_ns: int


class ReplayGuard:
    """Accepts each token once. Thread-safe.

    Args:
        record: Its storage, which nothing else changes.
        fresh: True only if this device never ran before; then a missing record is no loss.
        capacity: How many tokens are remembered at most.
    """

    def __init__(self, record: UsedRecord, *, fresh: bool, capacity: int = CAPACITY) -> None:
        self._record = record
        self._fresh = fresh
        self._capacity = capacity
        self._memory: UsedTokens | None = None
        self._lost = ""
        self._lock = threading.Lock()

    def load(self) -> str:
        """Read the record, once storage is there. Never raises.

        Returns:
            Why the guard will refuse the next token, for the journal: the record is lost, or can't be read or created
            now. Empty if it was read.
        """
        with self._lock:
            try:
                self._read()
            except StorageError as error:
                return f"the record of used tokens can't be read or begun: {error}"
            return self._lost

    def use(self, jti: str, *, expires_s: int, now: PresentInterval) -> None:
        """Use a token up. The caller may let it take effect once this returns, and not if it raises.

        Args:
            jti: The token's id.
            expires_s: Its end, whole seconds since 1970, which does not lie before `now`.
            now: The present.

        Raises:
            EvidenceError: It was used before or may have been, or it can't be remembered; the text says which.
        """
        with self._lock:
            try:
                self._read()
                if self._memory is None:
                    self._begin_again(now)
                self._save(self._with(self._known, jti, expires_s, now))
            except StorageError as error:
                raise EvidenceError(
                    f"storage does not remember which tokens were used, so that none is accepted: {error}"
                ) from error

    @property
    def _known(self) -> UsedTokens:
        assert self._memory is not None, "read or begun before"
        return self._memory

    def _read(self) -> None:
        """Read the record once; find that it is lost, or create it on a device that never ran before."""
        if self._memory is not None or self._lost:
            return
        try:
            known = self._record.load()
        except EvidenceError as error:
            self._lost = f"the record of used tokens is torn or altered: {error}"
            return
        if known is not None:
            self._memory = known
        elif self._fresh:
            self._save(UsedTokens(0, {}))
        else:
            self._lost = "the record of used tokens is missing"

    def _begin_again(self, now: PresentInterval) -> None:
        """After a loss: refuse all tokens that may have been used, by the latest time at which they can end."""
        why = self._lost
        self._save(UsedTokens(now.latest_ns // NS + 1 + LONGEST_S, {}))
        self._lost = ""
        raise EvidenceError(f"{why}: {self._over()}")

    def _with(self, known: UsedTokens, jti: str, expires_s: int, now: PresentInterval) -> UsedTokens:
        """The record with this token used too."""
        if jti in known.used:
            raise EvidenceError("expected a token that was not used before: each is good once, ask for a new one")
        if expires_s <= known.over:
            raise EvidenceError(self._over())
        present_s = now.earliest_ns // NS
        if expires_s > present_s + LONGEST_S:
            raise EvidenceError(f"expected a token that ends within {LONGEST_S} s, got one that lives longer")
        over = max(known.over, present_s)
        used = {other: end for other, end in known.used.items() if end > over}
        if len(used) >= self._capacity:
            raise EvidenceError(
                f"expected at most {self._capacity} tokens at a time, and that many were used that have not expired: "
                f"try again after {utc_text(min(used.values()) * NS)}"
            )
        return UsedTokens(over, {**used, jti: expires_s})

    def _over(self) -> str:
        return f"only tokens that end after {utc_text(self._known.over * NS)} are accepted, others may have been used"

    def _save(self, used: UsedTokens) -> None:
        self._record.save(used)
        self._memory = used
