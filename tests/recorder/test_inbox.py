import os
import socket
import threading
from pathlib import Path

import pytest

from agent.recorder import inbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return inbox.make(tmp_path)


def test_messages_are_given_back_once_and_taken_away(folder: Path) -> None:
    (folder / "2").write_bytes(b"second")
    (folder / "1").write_bytes(b"first")
    assert list(inbox.take(folder)) == [b"first", b"second"]
    assert list(inbox.take(folder)) == []
    assert list(folder.iterdir()) == []


def test_link_is_neither_followed_nor_left_and_what_it_names_stays(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder / "soft").symlink_to(secret)
    os.link(secret, folder / "hard")
    assert list(inbox.take(folder)) == [None, None]
    assert secret.read_bytes() == b"secret"
    assert list(folder.iterdir()) == []


def test_pipe_and_socket_block_nobody(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    here = socket.socket(socket.AF_UNIX)
    here.bind(str(folder / "socket"))
    found: list[bytes | None] = []
    worker = threading.Thread(target=lambda: found.extend(inbox.take(folder)), daemon=True)
    worker.start()
    worker.join(5)
    here.close()
    assert found == [None, None]


def test_huge_file_is_not_read(folder: Path) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert list(inbox.take(folder)) == [None]


def test_file_of_a_user_who_may_not_put_messages_is_refused(folder: Path) -> None:
    (folder / "foreign").write_bytes(b"x")
    assert list(inbox.take(folder, owners=[os.geteuid() + 1])) == [None]


def test_flood_costs_a_bounded_number_of_files_each_turn(folder: Path) -> None:
    for number in range(3 * inbox.MOST_FILES):
        (folder / f"{number:04d}").write_bytes(b"x")
    assert len(list(inbox.take(folder))) == inbox.MOST_FILES


def test_empty_folders_in_the_inbox_do_not_hold_it_up(folder: Path) -> None:
    for number in range(inbox.MOST_FILES):
        (folder / f"dir{number}").mkdir()
    assert list(inbox.take(folder)) == [None] * inbox.MOST_FILES
    (folder / "message").write_bytes(b"x")
    assert list(inbox.take(folder)) == [b"x"]


def test_inbox_that_is_a_link_is_not_looked_into(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"x")
    run = tmp_path / "run"
    run.mkdir()
    (run / inbox.NAME).symlink_to(elsewhere)
    assert list(inbox.take(run / inbox.NAME)) == []
    with pytest.raises(OSError, match="inbox"):
        inbox.make(run)
    assert (elsewhere / "file").exists()
