import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from agent.recorder.ipc import inbox
from tests.support.permissions import skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return inbox.make_folder(tmp_path)


def test_messages_are_returned_once_and_removed(folder: Path) -> None:
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
    for number in range(3 * inbox.MAX_FILES):
        (folder / f"{number:04d}").write_bytes(b"x")
    assert len(list(inbox.take(folder))) == inbox.MAX_FILES


def test_empty_folders_in_the_inbox_do_not_delay_it(folder: Path) -> None:
    for number in range(inbox.MAX_FILES):
        (folder / f"dir{number}").mkdir()
    assert list(inbox.take(folder)) == [None] * inbox.MAX_FILES
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
        inbox.make_folder(run)
    assert (elsewhere / "file").exists()


def test_folders_with_something_in_them_delay_nothing_and_are_reported_once(folder: Path) -> None:
    """They can't be taken away by a recorder that does not own them; a message must come through all the same."""
    for number in range(5 * inbox.MAX_FILES):
        (folder / f"{number:04d}").mkdir()
        (folder / f"{number:04d}" / "content").write_bytes(b"x")
    (folder / "message").write_bytes(b"x")
    stuck: set[str] = set()
    turns = [list(inbox.take(folder, stuck=stuck)) for _ in range(10)]
    given = [message for turn in turns for message in turn]
    assert given.count(b"x") == 1
    assert given.count(None) == 5 * inbox.MAX_FILES
    assert turns[-1] == []
    (folder / "another").write_bytes(b"y")
    assert list(inbox.take(folder, stuck=stuck)) == [b"y"]


def test_name_that_was_stuck_and_is_a_message_now_is_returned(folder: Path) -> None:
    (folder / "name" / "inner").mkdir(parents=True)
    stuck: set[str] = set()
    assert list(inbox.take(folder, stuck=stuck)) == [None]
    (folder / "name" / "inner").rmdir()
    (folder / "name").rmdir()
    assert list(inbox.take(folder, stuck=stuck)) == []
    (folder / "name").write_bytes(b"x")
    assert list(inbox.take(folder, stuck=stuck)) == [b"x"]


def test_device_in_the_inbox_is_not_even_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        os.mknod(folder / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        skip("only root may make a device")
    opened: list[object] = []
    real = os.open

    def watched(path: str, *arguments: int, **named: int) -> int:
        opened.append(path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", watched)
    assert list(inbox.take(folder)) == [None]
    assert opened == [folder]


def test_file_that_grows_shrinks_and_changes_while_it_is_read_costs_no_more_than_a_message(folder: Path) -> None:
    """A writer that never stops: what comes out is bounded, and the reader always comes to an end."""
    ending = threading.Event()

    def swap() -> None:
        number = 0
        while not ending.is_set():
            number += 1
            path = folder / "message"
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                os.truncate(handle, (number * 7919) % (2 * inbox.MAX_BYTES))
                os.pwrite(handle, b"x" * 4096, (number * 104729) % inbox.MAX_BYTES)
                os.ftruncate(handle, 3)
                os.close(handle)
                (folder / "other").symlink_to("/etc/passwd")
                (folder / "other").replace(path)
            except FileExistsError:
                (folder / "other").unlink(missing_ok=True)
            except OSError:
                continue  # ELOOP: the link is there now

    worker = threading.Thread(target=swap, daemon=True)
    worker.start()
    passwords = Path("/etc/passwd").read_bytes()
    try:
        for _ in range(300):
            for message in inbox.take(folder):
                assert message is None or len(message) <= inbox.MAX_BYTES
                assert message is None or passwords not in message
    finally:
        ending.set()
        worker.join(5)
