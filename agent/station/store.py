"""A station's database: SQLite, write-ahead log, every commit synced. Only what was committed is acknowledged.

The rules, in order:
1. An event is identified by its device *and* its id: one device's event never replaces another one's.
2. Alarms and their acknowledgements are added and never changed or deleted; the database itself refuses that.
3. What a device stores permanently (events, checkpoints) is counted in bytes, by device and by day, in the same commit
   (`agent.station.quota` has the bounds); its open alarms of one kind are bounded (`MAX_ALARMS`).
4. If a message fails, its writes are undone alone; if the database fails, the whole transaction is.
5. A database of an earlier version is migrated in one transaction when a station opens it; one of a later version is
   refused. A read-only store reads both.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from agent.errors import EvidenceError, StorageError
from agent.station.history import SeenJournal

VERSION = 1
"""Of the tables (`PRAGMA user_version`). 0: an event's id was unique over all devices, and nothing was counted."""
MAX_ALARMS = 32
"""Open alarms of one kind and device; those beyond are one more alarm, `alarms_left_out`."""
MAX_ENDS = 4096
"""Declared ends that are counted at most: more than any policy allows within an hour."""
_LEFT_OUT = "alarms_left_out"

_EVENTS = """\
CREATE TABLE IF NOT EXISTS events (
  device TEXT NOT NULL, id TEXT NOT NULL, line INTEGER NOT NULL, type TEXT NOT NULL,
  time TEXT NOT NULL, received TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (device, id)
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_device ON events (device, line);
CREATE TABLE IF NOT EXISTS usage (
  device TEXT PRIMARY KEY, stored INTEGER NOT NULL, day TEXT NOT NULL, of_day INTEGER NOT NULL
) STRICT;
"""
_DECLARED = (
    "type='bwc.v1.recording_ended' AND json_valid(event) AND json_extract(event, '$.data.entry.declared_only') IS 1"
)
"""An end of a recording on the wearer's word alone. An index has them, so that each event is parsed once, when it is
stored: to search a device's earlier events at each new one would let one device slow the station down."""
_INDEXES = f"""\
CREATE INDEX IF NOT EXISTS events_by_type ON events (device, type, line);
CREATE INDEX IF NOT EXISTS declared_ends ON events (device, line, time) WHERE {_DECLARED};
"""
_TABLES = """\
CREATE TABLE IF NOT EXISTS devices (
  device TEXT PRIMARY KEY,
  state TEXT NOT NULL DEFAULT '', state_session TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL DEFAULT '', last_seen TEXT NOT NULL DEFAULT '',
  seen_line INTEGER NOT NULL DEFAULT 0, seen_hash TEXT NOT NULL DEFAULT '', seen_boot INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS checkpoints (
  device TEXT NOT NULL, line INTEGER NOT NULL, hash TEXT NOT NULL, boot INTEGER NOT NULL,
  received TEXT NOT NULL, jws TEXT NOT NULL, PRIMARY KEY (device, line, hash)
) STRICT;
CREATE TABLE IF NOT EXISTS alarms (
  number INTEGER PRIMARY KEY, device TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL, received TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS alarms_by_device ON alarms (device);
CREATE TABLE IF NOT EXISTS acknowledgements (
  alarm INTEGER PRIMARY KEY REFERENCES alarms (number), custodian TEXT NOT NULL, reason TEXT NOT NULL,
  login TEXT NOT NULL, time TEXT NOT NULL
) STRICT;
CREATE VIEW IF NOT EXISTS open_alarms AS
  SELECT * FROM alarms WHERE number NOT IN (SELECT alarm FROM acknowledgements);
"""
_KEPT = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_{verb.lower()} BEFORE {verb} ON {table}"
    f" BEGIN SELECT RAISE(ABORT, '{table} are added to, never changed'); END;\n"
    for table in ("alarms", "acknowledgements")
    for verb in ("UPDATE", "DELETE")
)


_SET_ASIDE = """\
DROP INDEX IF EXISTS events_by_device;
ALTER TABLE events RENAME TO events_0;
"""
_COPY = """\
INSERT INTO events SELECT device, id, line, type, time, received, event FROM events_0;
DROP TABLE events_0;
INSERT INTO usage
  SELECT device, sum(bytes), '', 0 FROM (
    SELECT device, length(CAST(event AS BLOB)) AS bytes FROM events
    UNION ALL SELECT device, length(CAST(jws AS BLOB)) FROM checkpoints
  ) GROUP BY device;
"""
"""From version 0, whose ids were unique over all devices, and so within each: every event is kept."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of a device's stored messages: in all, and on one day (UTC)."""

    stored: int = 0
    day: str = ""
    of_day: int = 0


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as last seen; `status` is JSON, empty if there is none; `alarms` counts the open ones."""

    device: str
    state: str
    status: str
    last_seen: str
    alarms: int
    events: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm, and who acknowledged it; the last four are empty while it is open.

    Attributes:
        number: By which it is acknowledged.
        received: When it was raised, UTC.
        custodian, reason, time: Who acknowledged it, as they named themselves, why, and when.
        login: The account on this machine under which they did.
    """

    number: int
    device: str
    kind: str
    detail: str
    received: str
    custodian: str = ""
    reason: str = ""
    login: str = ""
    time: str = ""

    @property
    def open(self) -> bool:
        """True if it has not been acknowledged."""
        return not self.time


@contextlib.contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(errno.EIO, f"the station's database refuses: {error}") from error


class Store:
    """A station's database.

    Args:
        path: Its file.
        read_only: The file must exist.

    Raises:
        StorageError: It can't be opened, or was made by a later version. All methods raise it when the database fails;
            then nothing of the transaction is stored.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only and not path.is_file():
            raise StorageError(errno.ENOENT, f"expected a station's database at {path}: has the station run?")
        with _database_errors():
            if read_only:
                self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
            else:
                self._database = sqlite3.connect(path, timeout=5, isolation_level=None)
        try:
            with _database_errors():
                self._open(path, read_only=read_only)
        except BaseException:
            self._database.close()
            raise

    def _open(self, path: Path, *, read_only: bool) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StorageError(
                errno.EINVAL,
                f"expected a station's database of version {VERSION} or before at {path}, got version {version}: "
                "a later bwc-agent has made it; use that one",
            )
        if read_only:
            return
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        if version < VERSION:
            self._migrate()
        self._database.executescript(_INDEXES)

    def _migrate(self) -> None:
        """A new database, or one of version 0: all tables, in one transaction."""
        old = self._database.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='events'").fetchone()
        events = _SET_ASIDE + _EVENTS + _COPY if old else _EVENTS
        try:
            self._database.executescript(
                f"BEGIN IMMEDIATE;\n{_TABLES}{_KEPT}{events}PRAGMA user_version={VERSION};\nCOMMIT;"
            )
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within is stored durably, or nothing of it."""
        with _database_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Within a transaction: the writes of one message, undone alone if it raises anything.

        Raises:
            StorageError: The database fails; nothing of the transaction can be stored.
        """
        with _database_errors():
            self._database.execute("SAVEPOINT message")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK TO message")
                raise
            finally:
                self._database.execute("RELEASE message")

    def _add_device(self, device: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO devices (device) VALUES (?)", (device,))

    def put_state(self, device: str, state: str, session: str, received: str) -> None:
        """Store a state. A late `lost`, of a session that another one has followed, is ignored."""
        self._add_device(device)
        newest = self._database.execute("SELECT state_session FROM devices WHERE device=?", (device,)).fetchone()
        if state == "lost" and newest[0] not in ("", session):
            return
        self._database.execute(
            "UPDATE devices SET state=?, state_session=?, last_seen=? WHERE device=?",
            (state, session, received, device),
        )

    def put_status(self, device: str, session: str, status: str, received: str, *, live: bool) -> None:
        """Store a status; a retained one does not count as seen now."""
        self._add_device(device)
        self._database.execute("UPDATE devices SET status=?, state_session=? WHERE device=?", (status, session, device))
        if live:
            self._database.execute("UPDATE devices SET last_seen=? WHERE device=?", (received, device))

    def has_event(self, device: str, event_id: str) -> bool:
        """True if this device's event is stored."""
        with _database_errors():
            found = self._database.execute("SELECT 1 FROM events WHERE device=? AND id=?", (device, event_id))
            return bool(found.fetchall())

    def put_event(
        self, device: str, event_id: str, line: int, *, kind: str, time: str, received: str, text: str
    ) -> None:
        """Store an event and count it; a repetition changes nothing."""
        self._add_device(device)
        added = self._database.execute(
            "INSERT OR IGNORE INTO events VALUES (?,?,?,?,?,?,?)", (device, event_id, line, kind, time, received, text)
        )
        if added.rowcount:
            self._count(device, received, len(text.encode("utf-8")))

    def declared_ends(self, device: str, line: int, since: str) -> int:
        """How many recordings of a device ended on the wearer's word alone after a time, up to a line.

        Only the last `MAX_ENDS` up to that line are counted, so that the cost of an event does not grow with the number
        of earlier ones.
        """
        with _database_errors():
            found: tuple[int] = self._database.execute(
                "SELECT count(*) FROM (SELECT time FROM events INDEXED BY declared_ends"  # noqa: S608 - of this module
                f" WHERE device=? AND line<=? AND {_DECLARED} ORDER BY line DESC LIMIT ?) WHERE time>?",
                (device, line, MAX_ENDS, since),
            ).fetchone()
        return found[0]

    def is_open(self, device: str, kind: str) -> bool:
        """True if an alarm of this kind is open for the device."""
        with _database_errors():
            found = self._database.execute(
                "SELECT 1 FROM open_alarms WHERE device=? AND kind=? LIMIT 1", (device, kind)
            )
            return bool(found.fetchall())

    def declared_stops_limit(self, device: str, line: int) -> object:
        """How many such ends within an hour a device's policy allows, by the newest `policy` line up to `line`.

        Its type is unchecked: it is what the device sent. None if there is no such line.
        """
        with _database_errors():
            row = self._database.execute(
                "SELECT CASE WHEN json_valid(event)"
                " THEN json_extract(event, '$.data.entry.declared_stops_per_hour') END"
                " FROM events WHERE device=? AND type='bwc.v1.policy' AND line<=? ORDER BY line DESC LIMIT 1",
                (device, line),
            ).fetchone()
        return row[0] if row else None

    def usage(self, device: str) -> Usage:
        """What a device has stored."""
        with _database_errors():
            row = self._database.execute("SELECT stored, day, of_day FROM usage WHERE device=?", (device,)).fetchone()
        return Usage(*row) if row else Usage()

    def _count(self, device: str, received: str, size: int) -> None:
        day = received[:10]
        self._database.execute(
            "INSERT INTO usage VALUES (?1,?2,?3,?2) ON CONFLICT (device) DO UPDATE SET"
            " stored=stored+?2, of_day=CASE WHEN day=?3 THEN of_day ELSE 0 END+?2, day=?3",
            (device, size, day),
        )

    def newest_checkpoint(self, device: str) -> SeenJournal | None:
        """What the newest checkpoint of a device signs; None if there is none."""
        with _database_errors():
            row = self._database.execute(
                "SELECT seen_line, seen_hash, seen_boot FROM devices WHERE device=? AND seen_hash<>''", (device,)
            ).fetchone()
        return SeenJournal(*row) if row else None

    def put_checkpoint(self, device: str, seen: SeenJournal, token: str, received: str) -> None:
        """Store a checkpoint, as the newest."""
        self._add_device(device)
        self._database.execute(
            "UPDATE devices SET seen_line=?, seen_hash=?, seen_boot=? WHERE device=?",
            (seen.line, seen.hash, seen.boot, device),
        )
        added = self._database.execute(
            "INSERT OR IGNORE INTO checkpoints VALUES (?,?,?,?,?,?)",
            (device, seen.line, seen.hash, seen.boot, received, token),
        )
        if added.rowcount:
            self._count(device, received, len(token.encode("utf-8")))

    def put_alarm(self, device: str, kind: str, detail: str, received: str, *, once: bool = False) -> bool:
        """Store an alarm, unless the same one is open already.

        At most `MAX_ALARMS` of one kind and device are open at a time; beyond that, one alarm `alarms_left_out` is.

        Args:
            device: Its name.
            kind: What was noticed.
            detail: The sentence that custodians read.
            received: When, UTC.
            once: Any open alarm of this kind is the same one, whatever its detail: a device must not fill the database.

        Returns:
            True if it is a new one.
        """
        self._add_device(device)
        same, of_kind = self._database.execute(
            "SELECT coalesce(sum(detail=? OR ?), 0), count(*) FROM open_alarms WHERE device=? AND kind=?",
            (detail, once, device, kind),
        ).fetchone()
        if same:
            return False
        if of_kind >= MAX_ALARMS and kind != _LEFT_OUT:
            detail = f"more than {MAX_ALARMS} alarms of kind {kind} are open: acknowledge them to hear of further ones"
            return self.put_alarm(device, _LEFT_OUT, detail, received)
        self._database.execute(
            "INSERT INTO alarms (device, kind, detail, received) VALUES (?,?,?,?)", (device, kind, detail, received)
        )
        return True

    def acknowledge(self, number: int, *, custodian: str, reason: str, login: str, time: str) -> Alarm:
        """Close an alarm: it stays stored, with who acknowledged it and why.

        Raises:
            EvidenceError: There is no such alarm, it was acknowledged before, or a name or reason is missing.
        """
        if not custodian.strip() or not reason.strip():
            raise EvidenceError("expected the custodian's name and a reason, got nothing")
        with self.transaction():
            alarm = next((alarm for alarm in self.all_alarms() if alarm.number == number), None)
            if alarm is None:
                raise EvidenceError(f"expected the number of an alarm, got {number}: bwc-agent fleet alarms lists them")
            if not alarm.open:
                raise EvidenceError(f"alarm {number} was acknowledged by {alarm.custodian} at {alarm.time}")
            self._database.execute(
                "INSERT INTO acknowledgements VALUES (?,?,?,?,?)", (number, custodian, reason, login, time)
            )
        return replace(alarm, custodian=custodian, reason=reason, login=login, time=time)

    def all_alarms(self) -> list[Alarm]:
        """All that ever were, oldest first."""
        with _database_errors():
            rows = self._database.execute(
                "SELECT number, device, kind, detail, received, coalesce(custodian,''), coalesce(reason,''),"
                " coalesce(login,''), coalesce(time,'')"
                " FROM alarms LEFT JOIN acknowledgements ON alarm=number ORDER BY number"
            ).fetchall()
        return [Alarm(*row) for row in rows]

    def devices(self) -> list[DeviceRow]:
        """All devices, by name."""
        with _database_errors():
            rows = self._database.execute(
                "SELECT device, state, status, last_seen,"
                " (SELECT count(*) FROM open_alarms a WHERE a.device=d.device),"
                " (SELECT count(*) FROM events e WHERE e.device=d.device) FROM devices d ORDER BY device"
            ).fetchall()
        return [DeviceRow(*row) for row in rows]

    def events(self, device: str) -> list[tuple[str, int, str]]:
        """Id, line and type of a device's events, in the journal's order."""
        with _database_errors():
            return self._database.execute(
                "SELECT id, line, type FROM events WHERE device=? ORDER BY line, id", (device,)
            ).fetchall()

    def newest_events(self, device: str = "", limit: int = -1) -> list[tuple[str, str]]:
        """Device and CloudEvent of at most `limit` newest events, oldest first; of one device, or of all."""
        with _database_errors():
            rows = self._database.execute(
                "SELECT device, event FROM events WHERE ?1='' OR device=?1"
                " ORDER BY received DESC, line DESC, id LIMIT ?2",
                (device, limit),
            ).fetchall()
        return rows[::-1]

    def newest_alarms(self, limit: int) -> list[tuple[str, str, str, str]]:
        """Time, device, kind and detail of the newest open alarms, the newest first."""
        with _database_errors():
            return self._database.execute(
                "SELECT received, device, kind, detail FROM open_alarms ORDER BY number DESC LIMIT ?", (limit,)
            ).fetchall()

    def alarms(self, device: str) -> list[tuple[str, str]]:
        """Kind and detail of a device's open alarms, oldest first."""
        with _database_errors():
            return self._database.execute(
                "SELECT kind, detail FROM open_alarms WHERE device=? ORDER BY number", (device,)
            ).fetchall()
