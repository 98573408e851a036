"""Signed tokens that are good once: which were used, remembered until no clock can make them valid again.

The rules, in order:

1. What is remembered is on storage before a token takes effect. If storage refuses, so does the guard, and nothing was
   used up.
2. A token that was used is remembered until it has expired. Then it may be forgotten, because from there on the guard
   refuses every token that ends no later: that time only ever rises, whatever a clock is set to.
3. When it is full of tokens that have not expired, the next one is refused. None is ever forgotten early.
4. The record is part of the device state (`agent.device_state`), outside of the removable card. One that is missing,
   altered, of another device, or older than the state's anchor remembers is a *lost* one: nobody knows any more what
   was used. The next token is then refused and a new record begun, which refuses all that end within `LONGEST_S` from
   now; by the time one is accepted, all that may have been used before the loss have expired. Only a device that never
   ran before begins without this.
5. A record that can't be read because storage refuses is not lost: it is asked for again with the next token.

While the recorder runs, its memory decides and not the record. Rule 4 rests on a clock that was not set back before the
loss was noticed; the journal's is one (`agent.journal.format.Journal.wall`).
"""

import threading
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from agent.clock import NS, utc_text
from agent.errors import EvidenceError, StorageError
from agent.trust.records import Record

LONGEST_S = 16 * 60
"""No token is accepted that could still be used later than this many seconds from now."""
CAPACITY = 256
"""Tokens within `LONGEST_S`: far more than any shift needs, and a record of some 10 KB."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""NumericDate (RFC 7519, 2) without fractions: whole seconds since 1970, up to the year 9999."""
Jti = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
"""128 random bits, base64url."""


class UsedTokens(Record, frozen=True, forbid_unknown_fields=True):
    """The record: every token that ends at `over` or before is refused; `used` holds the end of each used one."""

    over: Seconds
    used: Annotated[dict[Jti, Seconds], msgspec.Meta(max_length=CAPACITY)]


class UsedRecord(Protocol):
    """Where the record is kept: `agent.device_state.used.UsedTokensInState`."""

    def load(self) -> UsedTokens | None:
        """What was saved last; None if nothing ever was, or it is gone.

        Raises:
            StorageError: It can't be read now.
            EvidenceError: It was altered, or is not the newest one.
        """

    def save(self, used: UsedTokens) -> None:
        """Replaces it, durable on return.

        Raises:
            StorageError: It may or may not have been replaced.
        """


@dataclass(frozen=True, slots=True)
class PresentInterval:
    """Between which times the present lies, by a clock whose error is bounded. Nanoseconds since 1970."""

    earliest_ns: int
    latest_ns: int


class ReplayGuard:
    """Lets each token in once. For several threads.

    Args:
        record: Where the record is kept; nothing else changes it.
        fresh: True only if this device never ran before; then a missing record is a beginning and no loss.
        capacity: The most tokens that are remembered.
    """

    def __init__(self, record: UsedRecord, *, fresh: bool, capacity: int = CAPACITY) -> None:
        self._record = record
        self._fresh = fresh
        self._capacity = capacity
        self._memory: UsedTokens | None = None
        self._lost = ""
        self._lock = threading.Lock()

    def load(self) -> str:
        """Reads the record, to be called once storage is there. Never raises.

        Returns:
            Why the guard will refuse the next token, for the journal: the record is lost, or can't be read or begun
            for now. Empty if all is well.
        """
        with self._lock:
            try:
                self._read()
            except StorageError as error:
                return f"the record of used tokens can't be read or begun: {error}"
            return self._lost

    def use(self, jti: str, *, expires_s: int, now: PresentInterval) -> None:
        """Uses a token up. What called this may let it take effect once it returns, and not if it raises.

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
        """Reads the record once; finds that it is lost, or begins it on a device that never ran before."""
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
        """After a loss: refuses all that may have been used, by a time that no such token outlasts."""
        why = self._lost
        self._save(UsedTokens(now.latest_ns // NS + 1 + LONGEST_S, {}))
        self._lost = ""
        raise EvidenceError(f"{why}: {self._over()}")

    def _with(self, known: UsedTokens, jti: str, expires_s: int, now: PresentInterval) -> UsedTokens:
        """What is remembered once this token is used too."""
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
