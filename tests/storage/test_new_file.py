import errno
import os
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.storage.new_file import NewFile
from tests.support.limits import largest_file

BOTH = pytest.mark.parametrize("unnamed", [True, False])


@BOTH
def test_file_appears_whole_and_for_its_owner_only(unnamed: bool, tmp_path: Path) -> None:
    file = NewFile(tmp_path, unnamed=unnamed)
    file.stream.write(b"plain")
    file.publish(tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"plain"
    assert (tmp_path / "out.mp4").stat().st_mode & 0o777 == 0o600
    file.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_mode_is_exactly_as_asked_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        file = NewFile(tmp_path, mode=0o644)
        file.publish(tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o644


@BOTH
def test_full_storage_leaves_nothing_behind(unnamed: bool, tmp_path: Path) -> None:
    file = NewFile(tmp_path, unnamed=unnamed)
    file.stream.write(bytes(2048))  # stays in the buffer, whichever size the stream chose
    with largest_file(1024), pytest.raises(StorageError, match="was not written: File too large") as refused:
        file.publish(tmp_path / "out")
    assert refused.value.errno == errno.EFBIG
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_without_proc_a_file_has_a_temporary_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("agent.storage.new_file._DESCRIPTORS", tmp_path / "no-proc")
    file = NewFile(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    file.publish(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_file_in_the_making_has_no_name(tmp_path: Path) -> None:
    file = NewFile(tmp_path)
    file.stream.write(b"plain")
    file.stream.flush()
    assert list(tmp_path.iterdir()) == []
    file.discard()


def test_temporary_name_is_hidden_private_and_removed(tmp_path: Path) -> None:
    file = NewFile(tmp_path, unnamed=False)
    (temporary,) = tmp_path.iterdir()
    assert temporary.name.startswith(".bwc-")
    assert temporary.stat().st_mode & 0o777 == 0o600
    file.discard()
    assert list(tmp_path.iterdir()) == []


@BOTH
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_ever_replaced(unnamed: bool, kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    file = NewFile(tmp_path, unnamed=unnamed)
    if kind == "file":
        out.write_bytes(b"mine")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to("nowhere")
    with pytest.raises(StorageError) as refused:
        file.publish(out)
    assert refused.value.errno == errno.EEXIST
    file.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert not (tmp_path / "nowhere").exists()


def test_storage_without_links_is_renamed_on_and_replaces_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_links(*_args: object, **_named: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    first, second = NewFile(tmp_path, unnamed=False), NewFile(tmp_path, unnamed=False)
    first.stream.write(b"first")
    first.publish(tmp_path / "out.mp4")
    with pytest.raises(StorageError):
        second.publish(tmp_path / "out.mp4")
    second.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"first"


def test_storage_without_unnamed_files_gets_a_temporary_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.open

    def no_unnamed(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", no_unnamed)
    file = NewFile(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    file.publish(tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not take a new file"):
        NewFile(tmp_path / "nowhere")
