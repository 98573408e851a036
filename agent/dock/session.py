"""What is said to a station, and when. Pure: no file, socket or clock of its own.

The rules, in order:
1. A connection begins with a status; `docked` is said when the recorder says so, `undocked` when it no longer does.
2. A status is sent when something in it changed that somebody waits for, `MIN_STATUS_NS` after the one before at the
   earliest, and every `STATUS_NS` in any case.
3. Events are sent in the journal's order, at most `WINDOW` of them unacknowledged. On a new connection, when a station
   has begun to listen anew, and when none was heard for `RESEND_NS`, what is not acknowledged is sent again: a broker
   keeps nothing for a station that was away, and says that it took it all the same. Each time without an answer the
   wait doubles, up to `MAX_RESEND_NS`: a station that is behind is not helped by hearing everything once more.
4. An event is done with when a *station* has acknowledged it, never because a broker took it. The cursor is the last
   line before which everything is done with; it is what a restart begins from.
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
_SLOW = frozenset({"uptime_s", "temperature_c", "checkpoint", "evidence", "storage", "clock"})
"""Fields that wait for the next status."""


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What survives a restart: the line up to which all is done with, its hash, and what was counted up to there.

    The counts are those of `SinceDock`.
    """

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
    """One device's side of the conversation, over all its connections.

    Args:
        topics: Of this device.
        cursor: Where a run before had come.
    """

    def __init__(self, topics: Topics, cursor: Cursor) -> None:
        self._topics = topics
        self._cursor = cursor
        self._pending: deque[_Pending] = deque()
        self._unsent: deque[_Pending] = deque()
        self._heard_ns = 0
        self._again_ns = RESEND_NS
        self._name = ""
        self._docked: bool | None = None
        self._status_ns: int | None = None
        self._told: dict[str, object] = {}
        self._seen: dict[str, int] = {}

    @property
    def cursor(self) -> Cursor:
        """What to keep."""
        return self._cursor

    @property
    def room(self) -> int:
        """How many more events can be taken now."""
        return max(0, WINDOW - len(self._pending))

    @property
    def unacknowledged(self) -> int:
        """Events that no station has acknowledged."""
        return sum(not pending.acknowledged for pending in self._pending)

    @property
    def asked(self) -> Sequence[int]:
        """Lines that stations want confirmed."""
        return sorted(set(self._seen.values()))

    @property
    def since_dock(self) -> SinceDock:
        """What was counted since the docking before."""
        return SinceDock(**_counted(self._cursor, [pending.line for pending in self._pending]))

    def will(self, name: str) -> Publication:
        """What the broker is to say when connection `name` is lost."""
        return self._state("lost", name)

    def _state(self, state: str, name: str) -> Publication:
        return Publication(
            self._topics.state, encode(msgspec.convert({"state": state, "session": name}, State)), retain=True
        )

    def connected(self, name: str, now_ns: int) -> None:
        """A connection with this name has begun: everything that is not acknowledged is to be sent on it."""
        self._name = name
        self._docked = None
        self._status_ns = None
        self._again_ns = RESEND_NS
        self._again(now_ns)

    def _again(self, now_ns: int) -> None:
        self._unsent = deque(pending for pending in self._pending if not pending.acknowledged)
        self._heard_ns = now_ns

    def take(self, lines: Sequence[JournalEvent]) -> None:
        """Lines that were read: what a station should know of is to be sent, the rest is done with."""
        for line in lines:
            if line.told:
                pending = _Pending(line, line.event_payload(self._topics.agency, self._topics.device))
                self._pending.append(pending)
                self._unsent.append(pending)
            elif not self._pending:
                self._cursor = msgspec.structs.replace(self._cursor, line=line.n, hash=line.hash)

    def acknowledged(self, ack: Ack, now_ns: int) -> bool:
        """A station has events on storage; True if the cursor has moved and is to be kept."""
        self._heard_ns, self._again_ns = now_ns, RESEND_NS
        if ack.seen:
            self._seen.pop(ack.station, None)
            while len(self._seen) >= MAX_STATIONS:
                del self._seen[next(iter(self._seen))]  # the one that has asked for nothing for the longest time
            self._seen[ack.station] = ack.seen
        ids = set(ack.ids)
        for pending in self._pending:
            if pending.line.hash in ids:
                pending.acknowledged = True
        if ack.began:
            self._again(now_ns)
            self._status_ns = None
        before = self._cursor
        while self._pending and self._pending[0].acknowledged:
            line = self._pending.popleft().line
            self._cursor = Cursor(line=line.n, hash=line.hash, **_counted(self._cursor, [line]))
        return self._cursor != before

    def say(self, status: Status, now_ns: int) -> list[Publication]:
        """What is to be published now, given how things are. Only while connected."""
        said: list[Publication] = []
        status = msgspec.structs.replace(status, session=self._name, since_dock=self.since_dock)
        if self._due(status, now_ns):
            said.append(Publication(self._topics.status, encode(status), retain=True))
            self._status_ns, self._told = now_ns, _quick(status)
        if status.docked != bool(self._docked):
            self._docked = status.docked
            said.append(self._state("docked" if status.docked else "undocked", self._name))
        if self.unacknowledged and now_ns - self._heard_ns >= self._again_ns:
            self._again(now_ns)
            self._again_ns = min(2 * self._again_ns, MAX_RESEND_NS)
        while self._unsent:
            pending = self._unsent.popleft()
            if not pending.acknowledged:
                said.append(Publication(self._topics.event, pending.payload))
        return said

    def _due(self, status: Status, now_ns: int) -> bool:
        if self._status_ns is None or now_ns - self._status_ns >= STATUS_NS:
            return True
        return now_ns - self._status_ns >= MIN_STATUS_NS and _quick(status) != self._told

    def farewell(self) -> list[Publication]:
        """What is said on leaving. What was counted since the docking before was told, and begins anew."""
        self._cursor = Cursor(line=self._cursor.line, hash=self._cursor.hash)
        return [self._state("undocked", self._name)]


def _counted(cursor: Cursor, lines: Sequence[JournalEvent]) -> dict[str, int]:
    """What was counted up to a cursor, and these lines besides."""
    counts = [line.counts for line in lines]
    return {name: getattr(cursor, name) + sum(name in each for each in counts) for name in SinceDock.__struct_fields__}


def _quick(status: Status) -> dict[str, object]:
    """What somebody waits for."""
    fields = {name: getattr(status, name) for name in status.__struct_fields__ if name not in _SLOW}
    return fields | {"confirms": bool(status.confirms)}
