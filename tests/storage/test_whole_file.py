import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.storage.disk import WholeFile


def test_what_was_saved_last_comes_back(tmp_path: Path) -> None:
    file = WholeFile(tmp_path / "state" / "used.jws")
    assert file.load() is None
    file.save(b"one")
    file.save(b"three")
    assert file.load() == b"three"
    assert WholeFile(tmp_path / "state" / "used.jws").load() == b"three"
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["used.jws"]


def test_file_and_folder_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        WholeFile(tmp_path / "state" / "used.jws").save(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "used.jws").stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["pwrite", "fdatasync"])
def test_failed_save_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = WholeFile(tmp_path / "used.jws")
    file.save(b"one")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StorageError, match="No space left"):
            file.save(b"another one")
    assert file.load() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["used.jws"]
    file.save(b"two")
    assert file.load() == b"two"


def test_data_is_synced_before_its_name_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(what: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object) -> object:
            done.append(what)
            return real(*given)

        return call

    for what, name in (("data", "fdatasync"), ("rename", "rename"), ("folder", "fsync")):
        monkeypatch.setattr(os, name, noted(what, getattr(os, name)))
    WholeFile(tmp_path / "used.jws").save(b"one")
    assert done == ["data", "rename", "folder"]


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "used.jws").symlink_to(secret)
    file = WholeFile(tmp_path / "used.jws")
    with pytest.raises(StorageError):
        file.load()
    file.save(b"one")
    assert secret.read_bytes() == b"secret"
    assert file.load() == b"one"


def test_a_pipe_in_the_files_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "used.jws")
    with pytest.raises(StorageError, match="regular file"):
        WholeFile(tmp_path / "used.jws").load()


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "used.jws").write_bytes(b"12345")
    assert WholeFile(tmp_path / "used.jws", limit=5).load() == b"12345"
    with pytest.raises(StorageError, match="at most 4 bytes"):
        WholeFile(tmp_path / "used.jws", limit=4).load()
