"""What camera A says never stands for what camera B says: an event is acknowledged to whom it is kept for."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.station.store import VERSION, Store
from tests.support.stations import Rig, event

DIGEST = "ab" * 32
OLD = """\
CREATE TABLE devices (
  device TEXT PRIMARY KEY,
  state TEXT NOT NULL DEFAULT '', state_session TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL DEFAULT '', last_seen TEXT NOT NULL DEFAULT '',
  seen_line INTEGER NOT NULL DEFAULT 0, seen_hash TEXT NOT NULL DEFAULT '', seen_boot INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
  id TEXT PRIMARY KEY, device TEXT NOT NULL, line INTEGER NOT NULL, type TEXT NOT NULL,
  time TEXT NOT NULL, received TEXT NOT NULL, event TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_device ON events (device, line);
CREATE TABLE checkpoints (
  device TEXT NOT NULL, line INTEGER NOT NULL, hash TEXT NOT NULL, boot INTEGER NOT NULL,
  received TEXT NOT NULL, jws TEXT NOT NULL, PRIMARY KEY (device, line, hash)
) STRICT;
CREATE TABLE alarms (
  number INTEGER PRIMARY KEY, device TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL, received TEXT NOT NULL
) STRICT;
CREATE INDEX alarms_by_device ON alarms (device);
CREATE TABLE acknowledgements (
  alarm INTEGER PRIMARY KEY REFERENCES alarms (number), custodian TEXT NOT NULL, reason TEXT NOT NULL,
  login TEXT NOT NULL, time TEXT NOT NULL
) STRICT;
CREATE VIEW open_alarms AS
  SELECT * FROM alarms WHERE number NOT IN (SELECT alarm FROM acknowledgements);
CREATE TRIGGER alarms_update BEFORE UPDATE ON alarms
 BEGIN SELECT RAISE(ABORT, 'alarms are added to, never changed'); END;
INSERT INTO devices (device, seen_line, seen_hash, seen_boot) VALUES ('cam-a', 3, 'h', 1);
INSERT INTO events VALUES ('{first}', 'cam-a', 1, 'bwc.v1.boot', 't', 'r1', '{{"é": 1}}');
INSERT INTO events VALUES ('{second}', 'cam-b', 2, 'bwc.v1.boot', 't', 'r2', 'event of b');
INSERT INTO checkpoints VALUES ('cam-a', 3, 'h', 1, 'r1', 'a.b.c');
INSERT INTO alarms VALUES (1, 'cam-a', 'malformed', 'd', 'r1');
"""
"""A station's database as the version before made it."""


def old(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(OLD.format(first=DIGEST, second="cd" * 32))


def test_event_that_another_device_said_first_is_kept_for_the_one_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    rig.send("event", event(device="cam-a", kind="shut_down", digest=DIGEST, line=77), "cam-a")
    assert rig.acknowledged("cam-b") == []
    rig.send("event", event(device="cam-b", kind="tampered", digest=DIGEST, line=77, what="lens_covered"), "cam-b")
    assert rig.acknowledged("cam-b") == [DIGEST]
    ((device, told),) = rig.store.newest_events("cam-b", 10)
    assert device == "cam-b"
    assert json.loads(told)["data"]["entry"]["what"] == "lens_covered"
    assert len(rig.store.newest_events("cam-a", 10)) == 1
    assert rig.store.events("cam-b") == [(DIGEST, 77, "bwc.v1.tampered")]


def test_event_on_another_devices_topic_or_in_another_devices_name_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    rig.send("event", event(device="cam-b", digest=DIGEST), "cam-a")
    assert rig.acknowledged("cam-a") == rig.acknowledged("cam-b") == []
    assert rig.stored("cam-a") == rig.stored("cam-b") == []
    assert rig.alarms("cam-a") == ["malformed"]
    assert rig.alarms("cam-b") == []


def test_database_of_the_version_before_is_migrated_and_keeps_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "station.sqlite"
    old(path)
    with Store(path, read_only=True) as store:
        assert store.events("cam-a") == [(DIGEST, 1, "bwc.v1.boot")], "who only looks needs no migration"
    rig = Rig(tmp_path, monkeypatch)
    assert rig.store.newest_events() == [("cam-a", '{"é": 1}'), ("cam-b", "event of b")]
    assert rig.store.usage("cam-a").stored == len('{"é": 1}'.encode()) + len("a.b.c")
    assert rig.alarms("cam-a") == ["malformed"]
    assert rig.store.newest_checkpoint("cam-a") is not None
    rig.send("event", event(device="cam-b", digest=DIGEST), "cam-b")
    assert rig.stored("cam-b") == [DIGEST, "cd" * 32]
    rig.store.close()
    with Store(path) as store:
        assert len(store.events("cam-b")) == 2, "once"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'events_%0'").fetchall() == []


def test_migration_that_is_cut_leaves_the_old_database_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "station.sqlite"
    old(path)
    monkeypatch.setattr("agent.station.store._COPY", "INSERT INTO nowhere SELECT 1;")
    with pytest.raises(StorageError, match="nowhere"):
        Store(path)
    monkeypatch.undo()
    with Store(path) as store:
        assert len(store.newest_events()) == 2


@pytest.mark.parametrize("read_only", [True, False])
def test_database_of_a_later_version_is_refused_in_words(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "station.sqlite"
    with Store(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(StorageError, match="a later bwc-agent has made it"):
        Store(path, read_only=read_only)
