"""What a dock service sends to stations, and when. Pure: no file, socket or clock of its own.

The rules, in order:
1. A connection begins with a status. The state `docked` is sent when the recorder reports it, `undocked` when it no
   longer does.
2. A status is sent when a field changed that is not among `_DEFERRED`, `MIN_STATUS_NS` after the one before at the
   earliest, and every `STATUS_NS` in any case.
3. Events are sent in the journal's order, at most `WINDOW` of them unacknowledged. On a new connection, when a station
   has started to listen, and when none has answered for `RESEND_NS`, unacknowledged events are sent again: a broker
   stores nothing for an absent station, and sends its PUBACK all the same. Each time without an answer the wait
   doubles, up to `MAX_RESEND_NS`: repetition does not help a station that is behind.
4. An event is finished when a *station* has acknowledged it; the broker's PUBACK does not count. The cursor is the last
   line up to which everything is finished: a restart continues after it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agent.clock import NS
from agent.dock.journal import JournalEvent
from agent.dock.messages import Ack, Publication, SinceDock, State, Status, Topics, encode

WINDOW = 64
MIN_STATUS_NS = 1 * NS
STATUS_NS = 15 * NS
RESEND_NS = 10 * NS
MAX_RESEND_NS = 80 * NS
MAX_STATIONS = 8
_DEFERRED = frozenset({"uptime_s", "temperature_c", "checkpoint", "evidence", "storage", "clock"})
"""Fields whose change waits for the next regular status."""


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What survives a restart: the line up to which everything is finished, its hash, and `SinceDock` up to there."""

    line: int = 0
    hash: str = ""
    refused: int = 0
    tampered: int = 0
    declared_only: int = 0
    pauses: int = 0
    mutes: int = 0


@dataclass(slots=True)
class _Pending:
    line: JournalEvent
    payload: bytes
    acknowledged: bool = False


class Session:
    """One device's side of the protocol, over all its connections.

    Args:
        topics: Of this device.
        cursor: As the previous run left it.
    """

    def __init__(self, topics: Topics, cursor: Cursor) -> None:
        self._topics = topics
        self._cursor = cursor
        self._pending: deque[_Pending] = deque()
        self._unsent: deque[_Pending] = deque()
        self._answered_ns = 0
        self._resend_ns = RESEND_NS
        self._name = ""
        self._docked: bool | None = None
        self._status_ns: int | None = None
        self._sent_status: dict[str, object] = {}
        self._requested_lines: dict[str, int] = {}

    @property
    def cursor(self) -> Cursor:
        """To be stored: where a restart continues."""
        return self._cursor

    @property
    def capacity(self) -> int:
        """How many more events may wait for acknowledgement now."""
        return max(0, WINDOW - len(self._pending))

    @property
    def unacknowledged(self) -> int:
        """Events that no station has acknowledged."""
        return sum(not pending.acknowledged for pending in self._pending)

    @property
    def lines_to_confirm(self) -> Sequence[int]:
        """Numbers of the lines whose hash stations ask for."""
        return sorted(set(self._requested_lines.values()))

    @property
    def since_dock(self) -> SinceDock:
        """Counts since the previous docking."""
        return SinceDock(**_with_counts(self._cursor, [pending.line for pending in self._pending]))

    def will(self, name: str) -> Publication:
        """What the broker publishes if connection `name` is lost."""
        return self._state("lost", name)

    def _state(self, state: str, name: str) -> Publication:
        return Publication(
            self._topics.state, encode(msgspec.convert({"state": state, "session": name}, State)), retain=True
        )

    def connected(self, name: str, now_ns: int) -> None:
        """A new connection with this name: everything unacknowledged is sent on it."""
        self._name = name
        self._docked = None
        self._status_ns = None
        self._resend_ns = RESEND_NS
        self._queue_unacknowledged(now_ns)

    def _queue_unacknowledged(self, now_ns: int) -> None:
        self._unsent = deque(pending for pending in self._pending if not pending.acknowledged)
        self._answered_ns = now_ns

    def add_lines(self, lines: Sequence[JournalEvent]) -> None:
        """Queue lines of the journal that are reported to stations; the others are finished at once."""
        for line in lines:
            if line.reported:
                pending = _Pending(line, line.event_payload(self._topics.agency, self._topics.device))
                self._pending.append(pending)
                self._unsent.append(pending)
            elif not self._pending:
                self._cursor = msgspec.structs.replace(self._cursor, line=line.n, hash=line.hash)

    def acknowledge(self, ack: Ack, now_ns: int) -> bool:
        """Apply a station's acknowledgement; True if the cursor moved and is to be stored."""
        self._answered_ns, self._resend_ns = now_ns, RESEND_NS
        if ack.seen:
            self._requested_lines.pop(ack.station, None)
            while len(self._requested_lines) >= MAX_STATIONS:
                del self._requested_lines[next(iter(self._requested_lines))]  # whose request is the oldest
            self._requested_lines[ack.station] = ack.seen
        ids = set(ack.ids)
        for pending in self._pending:
            if pending.line.hash in ids:
                pending.acknowledged = True
        if ack.began:
            self._queue_unacknowledged(now_ns)
            self._status_ns = None
        before = self._cursor
        while self._pending and self._pending[0].acknowledged:
            line = self._pending.popleft().line
            self._cursor = Cursor(line=line.n, hash=line.hash, **_with_counts(self._cursor, [line]))
        return self._cursor != before

    def publications_due(self, status: Status, now_ns: int) -> list[Publication]:
        """What is to be published now, on the open connection, in this order."""
        due: list[Publication] = []
        status = msgspec.structs.replace(status, session=self._name, since_dock=self.since_dock)
        if self._status_due(status, now_ns):
            due.append(Publication(self._topics.status, encode(status), retain=True))
            self._status_ns, self._sent_status = now_ns, _prompt_fields(status)
        if status.docked != bool(self._docked):
            self._docked = status.docked
            due.append(self._state("docked" if status.docked else "undocked", self._name))
        if self.unacknowledged and now_ns - self._answered_ns >= self._resend_ns:
            self._queue_unacknowledged(now_ns)
            self._resend_ns = min(2 * self._resend_ns, MAX_RESEND_NS)
        while self._unsent:
            pending = self._unsent.popleft()
            if not pending.acknowledged:
                due.append(Publication(self._topics.event, pending.payload))
        return due

    def _status_due(self, status: Status, now_ns: int) -> bool:
        if self._status_ns is None or now_ns - self._status_ns >= STATUS_NS:
            return True
        return now_ns - self._status_ns >= MIN_STATUS_NS and _prompt_fields(status) != self._sent_status

    def farewell(self) -> list[Publication]:
        """What is published on leaving. The counts since the previous docking start again at zero."""
        self._cursor = Cursor(line=self._cursor.line, hash=self._cursor.hash)
        return [self._state("undocked", self._name)]


def _with_counts(cursor: Cursor, lines: Sequence[JournalEvent]) -> dict[str, int]:
    """The counts up to a cursor, plus these lines."""
    counts = [line.counts for line in lines]
    return {name: getattr(cursor, name) + sum(name in each for each in counts) for name in SinceDock.__struct_fields__}


def _prompt_fields(status: Status) -> dict[str, object]:
    """Fields whose change is sent soon."""
    fields = {name: getattr(status, name) for name in status.__struct_fields__ if name not in _DEFERRED}
    return fields | {"confirms": bool(status.confirms)}
