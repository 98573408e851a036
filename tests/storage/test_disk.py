import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.errors import StorageError
from agent.storage.disk import DiskFile, DiskStorage, WholeFile, make_folders
from agent.storage.interface import MAX_NAMES, Storage, read_chunks

SEGMENT = "recordings/r1/0001.seg"
MANIFEST = "recordings/r1/0001.manifest.jws"


@pytest.fixture
def storage(tmp_path: Path) -> DiskStorage:
    return DiskStorage(tmp_path / "evidence")


def refuse(
    code: int, *, on: Callable[..., bool] = lambda *_: True, real: Callable[..., object]
) -> Callable[..., object]:
    """A system call that fails when `on` its arguments, and else works."""

    def call(*given: object, **named: object) -> object:
        if on(*given):
            raise OSError(code, os.strerror(code))
        return real(*given, **named)

    return call


def name_of(handle: object) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_disk_storage_is_a_storage(storage: DiskStorage) -> None:
    promised: Storage = storage
    promised.publish("a", b"1")
    assert promised.read("a") == b"1"


def test_a_folder_that_is_made_is_its_owners_alone_and_every_name_on_the_way_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(name_of(handle))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    make_folders(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    make_folders(tmp_path / "a" / "b")
    assert len(synced) == 2


# -- publish: whole or not there, never over something else -----------------------------------------------------------


def test_published_file_is_whole_its_owners_alone_and_nothing_else_is_left(storage: DiskStorage) -> None:
    before = os.umask(0)
    try:
        storage.publish(MANIFEST, b"manifest")
    finally:
        os.umask(before)
    path = storage.root / MANIFEST
    assert path.read_bytes() == b"manifest"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert left_in(path.parent) == {"0001.manifest.jws"}
    for folder in (path.parent, path.parent.parent, storage.root):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_published_evidence_is_never_overwritten(storage: DiskStorage) -> None:
    storage.publish(MANIFEST, b"first")
    with pytest.raises(StorageError, match="never overwritten") as refused:
        storage.publish(MANIFEST, b"other")
    assert refused.value.errno == errno.EEXIST
    assert storage.read(MANIFEST) == b"first"


def test_publishing_the_same_bytes_again_ends_an_attempt_whose_end_is_unknown(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.publish("recordings/r1/device.jws", b"certificate")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(errno.EIO, real=os.fsync))
        with pytest.raises(StorageError) as refused:
            storage.publish(MANIFEST, b"manifest")
        assert refused.value.errno == errno.EIO
        assert storage.read(MANIFEST) == b"manifest"  # there, but nobody knows if for good
        with pytest.raises(StorageError):
            storage.publish(MANIFEST, b"manifest")
    synced: list[object] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(name_of(handle)))
    storage.publish(MANIFEST, b"manifest")
    assert synced == [str((storage.root / MANIFEST).parent)]


@pytest.mark.parametrize("call", ["open", "pwrite", "fdatasync", "rename"])
def test_publish_that_fails_at_any_step_leaves_nothing_in_the_files_place(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    storage.publish("recordings/r1/device.jws", b"certificate")
    with monkeypatch.context() as patch:
        of_manifest = (lambda path, *_: "manifest" in str(path)) if call in {"open", "rename"} else (lambda *_: True)
        patch.setattr(os, call, refuse(errno.ENOSPC, on=of_manifest, real=getattr(os, call)))
        with pytest.raises(StorageError) as refused:
            storage.publish(MANIFEST, b"manifest")
    assert refused.value.errno == errno.ENOSPC
    assert storage.size(MANIFEST) is None
    assert storage.names("recordings/r1") == ["device.jws"]
    storage.publish(MANIFEST, b"manifest")
    assert storage.read(MANIFEST) == b"manifest"
    assert left_in(storage.root / "recordings/r1") == {"device.jws", "0001.manifest.jws"}


def test_rest_of_a_cut_attempt_is_no_evidence_and_not_in_the_way(storage: DiskStorage) -> None:
    storage.publish("recordings/r1/device.jws", b"certificate")
    rest = storage.root / "recordings/r1/.0001.manifest.jws.unfinished"
    rest.write_bytes(b"a much longer rest of what was to be a manifest")
    assert storage.names("recordings/r1") == ["device.jws"]
    storage.publish(MANIFEST, b"manifest")
    assert storage.read(MANIFEST) == b"manifest"
    assert not rest.exists()


@pytest.mark.parametrize("trap", ["link", "pipe", "dangling"])
def test_trap_in_the_place_of_a_rest_is_neither_followed_nor_waited_for(
    storage: DiskStorage, tmp_path: Path, trap: str
) -> None:
    storage.publish("recordings/r1/device.jws", b"certificate")
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    rest = storage.root / "recordings/r1/.0001.manifest.jws.unfinished"
    match trap:
        case "link":
            rest.symlink_to(victim)
        case "dangling":
            rest.symlink_to(tmp_path / "nowhere")
        case _:
            os.mkfifo(rest)
    storage.publish(MANIFEST, b"manifest")
    assert storage.read(MANIFEST) == b"manifest"
    assert victim.read_bytes() == b"victim"
    assert not (tmp_path / "nowhere").exists()


def test_each_step_of_publish_is_durable_before_the_next(storage: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.root.mkdir()
    done: list[str] = []

    def where(handle: object) -> str:
        name = name_of(handle)
        return str(Path(name).relative_to(storage.root)) if name != str(storage.root) else "."

    def noted(name: str, says: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*given: object, **named: object) -> object:
            done.append(f"{name} {says(*given)}")
            return real(*given, **named)

        monkeypatch.setattr(os, name, call)

    def below(path: object, *_: object) -> str:
        return str(Path(str(path)).relative_to(storage.root))

    for name in ("fsync", "fdatasync"):
        noted(name, where)
    noted("mkdir", below)
    noted("rename", lambda _source, target: below(target))
    storage.publish(MANIFEST, b"manifest")
    folder = "recordings/r1"
    assert done == [
        "mkdir recordings",
        "fsync .",
        f"mkdir {folder}",
        "fsync recordings",
        f"fdatasync {folder}/.0001.manifest.jws.unfinished",
        f"rename {MANIFEST}",
        f"fsync {folder}",
    ]


# -- create: a new file that grows ------------------------------------------------------------------------------------


def test_created_file_is_its_owners_alone_and_its_name_durable(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def noted(handle: int) -> None:
        synced.append(name_of(handle))
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    before = os.umask(0)
    try:
        storage.create(SEGMENT).close()
    finally:
        os.umask(before)
    path = storage.root / SEGMENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert synced[-1] == str(path.parent)


def test_created_file_never_takes_the_place_of_another(storage: DiskStorage, tmp_path: Path) -> None:
    file = storage.create(SEGMENT)
    file.write_at(0, b"sealed")
    file.sync()
    file.close()
    with pytest.raises(StorageError) as refused:
        storage.create(SEGMENT)
    assert refused.value.errno == errno.EEXIST
    (storage.root / "recordings/r1/0002.seg").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        storage.create("recordings/r1/0002.seg")
    assert storage.read(SEGMENT) == b"sealed"
    assert not (tmp_path / "elsewhere").exists()


def test_create_whose_name_could_not_be_made_durable_can_be_tried_again(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.publish("recordings/r1/device.jws", b"certificate")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(errno.EIO, real=os.fsync))
        with pytest.raises(StorageError) as refused:
            storage.create(SEGMENT)
    assert refused.value.errno == errno.EIO
    assert storage.size(SEGMENT) is None
    storage.create(SEGMENT).close()


def test_short_writes_are_completed(storage: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: real(handle, bytes(data)[:3], at))
    file = storage.create(SEGMENT)
    file.write_at(0, b"0123456789")
    file.write_at(10, memoryview(b"abcdefgh"))
    file.close()
    assert storage.read(SEGMENT) == b"0123456789abcdefgh"


def test_same_bytes_may_be_written_again_at_the_same_place(storage: DiskStorage) -> None:
    file = storage.create(SEGMENT)
    for _ in range(3):
        file.write_at(0, b"head")
        file.write_at(4, b"tail")
    file.sync()
    file.close()
    assert storage.read(SEGMENT) == b"headtail"


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_file_that_storage_refuses_reports_it_with_the_systems_error(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = storage.create(SEGMENT)
    monkeypatch.setattr(os, call, refuse(errno.ENOSPC, real=getattr(os, call)))
    attempt = file.sync if call == "fdatasync" else partial(file.write_at, 0, b"sealed")
    with pytest.raises(StorageError, match="No space left") as refused:
        attempt()
    assert refused.value.errno == errno.ENOSPC


def test_write_that_takes_no_byte_ends_instead_of_looping_for_ever(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = storage.create(SEGMENT)
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(StorageError) as refused:
        file.write_at(0, b"sealed")
    assert refused.value.errno == errno.EIO


def test_closed_file_takes_nothing_and_can_be_closed_again(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = storage.create(SEGMENT)
    file.close()
    file.close()
    with pytest.raises(StorageError) as refused:
        file.write_at(0, b"sealed")
    assert refused.value.errno == errno.EBADF
    other = storage.create("recordings/r1/0002.seg")
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", refuse(errno.EIO, real=os.close))
        other.close()  # the kernel has let go of it all the same; what was synced is safe


def test_file_is_reopened_where_it_was_left(storage: DiskStorage) -> None:
    file = storage.create(SEGMENT)
    file.write_at(0, b"sealed")
    file.sync()
    file.close()
    again = storage.reopen(SEGMENT)
    again.write_at(6, b" and more")
    again.sync()
    again.close()
    assert storage.read(SEGMENT) == b"sealed and more"


def test_file_that_is_not_there_is_not_made_by_opening_it_again(storage: DiskStorage, tmp_path: Path) -> None:
    storage.publish(MANIFEST, b"manifest")
    with pytest.raises(StorageError) as refused:
        storage.reopen(SEGMENT)
    assert refused.value.errno == errno.ENOENT
    (storage.root / SEGMENT).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(storage.root / "recordings/r1/0002.seg")
    for path in (SEGMENT, "recordings/r1/0002.seg", "recordings/r1"):
        with pytest.raises(StorageError):
            storage.reopen(path)
    assert not (tmp_path / "elsewhere").exists()


# -- reading: nothing leads astray ------------------------------------------------------------------------------------


def traps(folder: Path, secret: Path) -> Iterator[str]:
    (folder / "link").symlink_to(secret)
    yield "link"
    (folder / "dangling").symlink_to(folder / "nowhere")
    yield "dangling"
    os.mkfifo(folder / "pipe")
    yield "pipe"
    (folder / "folder").mkdir()
    yield "folder"
    if os.geteuid() == 0:
        os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        yield "device"


def test_links_pipes_folders_and_devices_are_not_read(storage: DiskStorage, tmp_path: Path) -> None:
    storage.root.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    for trap in traps(storage.root, secret):
        with pytest.raises(StorageError):
            storage.open(trap)
        with pytest.raises(StorageError):
            storage.read(trap)


def test_refused_reads_leave_no_handle_open(storage: DiskStorage, tmp_path: Path) -> None:
    storage.root.mkdir()
    before = handles()
    for trap in traps(storage.root, tmp_path / "secret"):
        with pytest.raises(StorageError):
            storage.open(trap)
    assert handles() == before


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "/", "/etc/passwd", "../secret", "a/../../secret", "a//b", "a/", "./a", "a/.", "a\0b", "a/\0"],
)
def test_path_that_leads_out_of_the_evidence_folder_is_refused(storage: DiskStorage, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    storage.root.mkdir()
    (storage.root / "a").mkdir()
    attempts: list[Callable[[], object]] = [
        lambda: storage.create(path),
        lambda: storage.publish(path, b"x"),
        lambda: storage.read(path),
        lambda: storage.open(path),
        lambda: storage.size(path),
        lambda: storage.reopen(path),
    ]
    if path:
        attempts.append(lambda: storage.names(path))
    for attempt in attempts:
        with pytest.raises(StorageError) as refused:
            attempt()
        assert refused.value.errno == errno.EINVAL
    assert left_in(tmp_path) == {"secret", "evidence"}
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_linked_folder_leads_nowhere(storage: DiskStorage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0001.seg").write_bytes(b"foreign")
    (storage.root / "recordings").mkdir(parents=True)
    (storage.root / "recordings/r1").symlink_to(outside)
    attempts: list[Callable[[], object]] = [
        lambda: storage.read(SEGMENT),
        lambda: storage.size(SEGMENT),
        lambda: storage.names("recordings/r1"),
        lambda: storage.publish(MANIFEST, b"manifest"),
        lambda: storage.create("recordings/r1/0002.seg"),
        lambda: storage.reopen(SEGMENT),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError):
            attempt()
    assert left_in(outside) == {"0001.seg"}


def test_evidence_folder_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / "evidence").symlink_to(tmp_path / "card")
    DiskStorage(tmp_path / "evidence").publish(MANIFEST, b"manifest")
    assert (tmp_path / "card" / MANIFEST).read_bytes() == b"manifest"


def test_file_beyond_the_limit_is_not_read_into_memory(storage: DiskStorage) -> None:
    storage.publish("a", bytes(10))
    assert len(storage.read("a", limit=10)) == 10
    with pytest.raises(StorageError, match="at most 9 bytes") as refused:
        storage.read("a", limit=9)
    assert refused.value.errno == errno.EFBIG


class FailingDescriptor:
    """A device whose every read fails, as that of a card that was pulled out: EIO from read(2)."""

    path = Path("/proc/self/mem")  # at offset 0 nothing is mapped


def test_stream_whose_storage_fails_meanwhile_raises_nothing_but_storage_error(
    storage: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.publish("a", b"data")
    monkeypatch.setattr(stat, "S_ISREG", lambda _mode: True)
    monkeypatch.setattr(storage, "_path", lambda _path: FailingDescriptor.path)
    with storage.open("a") as stream:
        for attempt in (stream.read, stream.readline, lambda: stream.read(1), lambda: list(read_chunks(stream))):
            with pytest.raises(StorageError) as refused:
                attempt()
            assert refused.value.errno == errno.EIO


def test_names_are_sorted_and_a_missing_folder_is_empty(storage: DiskStorage) -> None:
    assert storage.names("") == []
    assert storage.names("journal") == []
    for name in ("b", "c", "a"):
        storage.publish(f"journal/{name}", b"x")
    assert storage.names("journal") == ["a", "b", "c"]
    assert storage.names("") == ["journal"]
    with pytest.raises(StorageError) as refused:
        storage.names("journal/a")
    assert refused.value.errno == errno.ENOTDIR


def test_size_of_what_is_not_there_is_none(storage: DiskStorage) -> None:
    assert storage.size(SEGMENT) is None
    storage.publish(SEGMENT, b"1234")
    assert storage.size(SEGMENT) == 4
    assert storage.size("recordings/r1/none") is None


def test_free_bytes_are_those_of_an_unprivileged_writer_and_gone_storage_reports_it(storage: DiskStorage) -> None:
    with pytest.raises(StorageError) as refused:
        storage.free_bytes()
    assert refused.value.errno == errno.ENOENT
    storage.root.mkdir()
    facts = os.statvfs(storage.root)
    assert storage.free_bytes() <= facts.f_bfree * facts.f_frsize


def test_folder_without_permission_is_storage_that_refuses(storage: DiskStorage, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root is refused nothing")
    storage.root.mkdir(mode=0o500)
    with pytest.raises(StorageError) as refused:
        storage.publish("a", b"x")
    assert refused.value.errno == errno.EACCES
    assert left_in(tmp_path / "evidence") == set()


def test_folder_can_be_claimed_by_one_process_at_a_time(storage: DiskStorage) -> None:
    with pytest.raises(StorageError) as refused:
        storage.claim()
    assert refused.value.errno == errno.ENOENT
    storage.root.mkdir()
    storage.claim()
    other = DiskStorage(storage.root)
    before = handles()
    with pytest.raises(StorageError) as refused:
        other.claim()
    assert refused.value.errno == errno.EWOULDBLOCK
    assert handles() == before
    os.close(storage._claim)  # as when its process ends
    other.claim()
    os.close(other._claim)


def test_device_full_is_storage_that_refuses() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    file = DiskFile(full, os.open(full, os.O_WRONLY))
    with pytest.raises(StorageError) as refused:
        file.write_at(0, b"x")
    assert refused.value.errno == errno.ENOSPC
    file.close()


# -- who may read -----------------------------------------------------------------------------------------------------


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in sorted(root.rglob("*"))}


@pytest.mark.parametrize(("group_reads", "folder", "file"), [(False, 0o700, 0o600), (True, 0o750, 0o640)])
def test_modes_are_what_was_asked_for_whatever_the_umask(
    tmp_path: Path, group_reads: bool, folder: int, file: int
) -> None:
    before = os.umask(0o077)
    try:
        storage = DiskStorage(tmp_path, group_reads=group_reads)
        storage.create("journal/1").close()
        storage.publish("recordings/a/b.jws", b"x")
        WholeFile(tmp_path / "state" / "mark").save(b"x")
    finally:
        os.umask(before)
    assert modes(tmp_path) == {
        "journal": folder,
        "journal/1": file,
        "recordings": folder,
        "recordings/a": folder,
        "recordings/a/b.jws": file,
        "state": 0o700,
        "state/mark": 0o600,
    }


def test_folder_with_any_number_of_files_is_listed_up_to_a_bound(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(MAX_NAMES + 50):
        (folder / f"{number:06d}").touch()
    names = DiskStorage(tmp_path).names("recordings")
    assert len(names) == MAX_NAMES
    assert names == sorted(names)
