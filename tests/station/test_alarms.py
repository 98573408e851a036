"""An alarm stays until a custodian closes it by name and with a reason, and is never gone."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import EvidenceError, StorageError
from agent.station.fleet import rows
from agent.station.store import Store
from tests.support.running import command

THEN = "2026-11-22T23:40:00.123456Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "station.sqlite")) as made:
        yield made


def raised(store: Store, device: str = "cam-1", detail: str = "line 5") -> None:
    with store.transaction():
        store.put_alarm(device, "history_shorter", detail, THEN)


def acknowledge(store: Store, number: int = 1, custodian: str = "A. Custodian", reason: str = "card replaced") -> None:
    store.acknowledge(number, custodian=custodian, reason=reason, login="root", time=THEN)


def test_acknowledged_alarm_is_no_longer_shown_and_is_kept_with_name_and_reason(store: Store) -> None:
    raised(store)
    raised(store, "cam-2")
    assert [row.alarms for row in rows(store)] == [1, 1]
    acknowledge(store)
    assert [row.alarms for row in rows(store)] == [0, 1]
    assert store.alarms("cam-1") == []
    kept = store.all_alarms()
    assert [(a.device, a.open, a.custodian, a.reason, a.login) for a in kept] == [
        ("cam-1", False, "A. Custodian", "card replaced", "root"),
        ("cam-2", True, "", "", ""),
    ]


def test_same_alarm_again_is_nothing_until_the_one_before_was_acknowledged(store: Store) -> None:
    raised(store)
    raised(store)
    assert len(store.all_alarms()) == 1
    acknowledge(store)
    raised(store)
    assert [alarm.open for alarm in store.all_alarms()] == [False, True]


def test_device_that_sends_rubbish_all_day_does_not_fill_the_database(store: Store) -> None:
    for number in range(50):
        with store.transaction():
            store.put_alarm("cam-1", "malformed", f"rubbish {number}", THEN, once=True)
    assert len(store.all_alarms()) == 1


@pytest.mark.parametrize(("custodian", "reason"), [("", "because"), ("  ", "because"), ("A. Custodian", " ")])
def test_nobody_closes_an_alarm_without_a_name_and_a_reason(store: Store, custodian: str, reason: str) -> None:
    raised(store)
    with pytest.raises(EvidenceError, match="name and a reason"):
        acknowledge(store, 1, custodian, reason)
    assert store.all_alarms()[0].open


def test_alarm_that_is_not_there_or_was_closed_before_is_not_closed(store: Store) -> None:
    raised(store)
    with pytest.raises(EvidenceError, match="number of an alarm"):
        acknowledge(store, 2)
    acknowledge(store)
    with pytest.raises(EvidenceError, match=r"acknowledged by A\. Custodian"):
        acknowledge(store, 1, "Somebody Else", "to cover it up")
    assert store.all_alarms()[0].custodian == "A. Custodian"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM alarms",
        "UPDATE alarms SET detail='nothing'",
        "DELETE FROM acknowledgements",
        "UPDATE acknowledgements SET custodian='nobody'",
    ],
)
def test_database_itself_deletes_and_changes_no_alarm(store: Store, tmp_path: Path, statement: str) -> None:
    raised(store)
    acknowledge(store)
    before = store.all_alarms()
    other = sqlite3.connect(tmp_path / "station.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        other.execute(statement)
    other.close()
    assert store.all_alarms() == before


def test_reader_of_a_database_writes_nothing(store: Store, tmp_path: Path) -> None:
    raised(store)
    reader = Store(tmp_path / "station.sqlite", read_only=True)
    with pytest.raises(StorageError):
        acknowledge(reader)
    reader.close()
    assert store.all_alarms()[0].open


def test_custodian_lists_and_closes_alarms_by_command(store: Store, tmp_path: Path) -> None:
    raised(store)
    store.close()
    config = tmp_path / "station.toml"
    config.write_text(
        '[station]\nname = "station-1"\nagency = "city"\ntrust = "t"\nroot = "r"\nkey = "file:k"\n'
        'database = "station.sqlite"\n[broker]\nhost = "h"\nca = "a"\ncertificate = "b"\nkey = "c"\n'
    )
    listed = command("fleet", "alarms", "--config", str(config))
    assert (listed.returncode, listed.stdout.split()[0]) == (1, "1")
    assert "history_shorter" in listed.stdout
    close = ("fleet", "acknowledge", "1", "--config", str(config), "--name", "A. Custodian", "--reason")
    assert command(*close, "").returncode == 2
    closed = command(*close, "card replaced, case 12")
    assert (closed.returncode, closed.stderr) == (0, "")
    assert command("fleet", "alarms", "--config", str(config)).stdout.startswith("no open alarms")
    assert json.loads(command("fleet", "alarms", "--config", str(config), "--json").stdout) == []
    everything = command("fleet", "alarms", "--config", str(config), "--all", "--json")
    assert everything.returncode == 0
    assert json.loads(everything.stdout)[0]["reason"] == "card replaced, case 12"
    watched = command("fleet", "watch", "--config", str(config), "--json")
    assert (watched.returncode, json.loads(watched.stdout)[0]["alarms"]) == (0, 0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "station.toml").write_text(config.read_text())
    assert command("fleet", "alarms", "--config", str(elsewhere / "station.toml")).returncode == 2
    assert list(elsewhere.iterdir()) == [elsewhere / "station.toml"]
