"""Finds evidence in a folder tree: read only, within bounds, without following links.

A folder is recognised by its content, not by its name alone: a device's folder holds a journal or recordings, a
recording's folder holds segments or statements about them.
"""

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Protocol

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.storage.disk import DiskStorage
from agent.storage.interface import Storage

MAX_DEPTH = 12
MAX_FOLDERS = 100_000
_POLICY = re.compile(r"(\d{8,16})\.jws", re.ASCII)


class Kind(Enum):
    """The type of a folder entry."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "link, pipe or device"


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder entry."""

    name: str
    kind: Kind


class Tree(Protocol):
    """Folders and files below a root folder. Paths are relative to it, with `/` between parts; its own is empty."""

    def entries(self, path: str) -> list[Entry]:
        """The entries of a folder, sorted by name; empty if there is no such folder.

        Raises:
            StorageError: It can't be read.
        """

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """As `Storage.read`."""

    def open(self, path: str) -> BinaryIO:
        """As `Storage.open`."""

    def size(self, path: str) -> int | None:
        """As `Storage.size`."""


class DiskTree:
    """Folders and files on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._storage = DiskStorage(root)
        self.read = self._storage.read
        self.open = self._storage.open
        self.size = self._storage.size

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self._root

    def entries(self, path: str) -> list[Entry]:
        """As `Tree.entries`."""
        try:
            with os.scandir(self._root / path) as found:
                return sorted((Entry(item.name, _kind(item)) for item in found), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageError(error.errno, f"{path or self._root} can't be read: {error.strerror}") from error


def _kind(item: os.DirEntry[str]) -> Kind:
    if item.is_dir(follow_symlinks=False):
        return Kind.FOLDER
    return Kind.FILE if item.is_file(follow_symlinks=False) else Kind.OTHER


class StorageTree:
    """Folders and files of a `Storage` that is not on disk: an entry that is not a file is a folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.read = storage.read
        self.open = storage.open
        self.size = storage.size

    def entries(self, path: str) -> list[Entry]:
        """As `Tree.entries`."""
        names = self._storage.names(path)
        return [Entry(name, Kind.FOLDER if self.size(below(path, name)) is None else Kind.FILE) for name in names]


def below(path: str, name: str) -> str:
    """Join a folder's path and a name."""
    return f"{path}/{name}" if path else name


def journal_files(tree: Tree, folder: str) -> dict[int, str]:
    """The journals in a device's folder: paths by boot, in order.

    Raises:
        StorageError: The folder can't be read.
    """
    path = below(folder, layout.JOURNAL)
    names = (entry.name for entry in tree.entries(path) if entry.kind is Kind.FILE)
    return dict(sorted((boot, below(path, name)) for name in names if (boot := layout.journal_boot(name))))


def policy_files(tree: Tree, folder: str) -> dict[str, int]:
    """The signed policies in a device's folder: versions, from the file names, by path.

    Raises:
        StorageError: The folder can't be read.
    """
    path = below(folder, layout.POLICY)
    names = (_POLICY.fullmatch(entry.name) for entry in tree.entries(path) if entry.kind is Kind.FILE)
    return {below(path, name[0]): int(name[1]) for name in names if name is not None}


def annotation_files(tree: Tree, recording: str) -> dict[int, str]:
    """The annotations in a recording's folder: paths by number, in order.

    Raises:
        StorageError: The folder can't be read.
    """
    path = below(recording, layout.ANNOTATIONS)
    names = (entry.name for entry in tree.entries(path) if entry.kind is Kind.FILE)
    numbers = ((layout.annotation_number(name), below(path, name)) for name in names)
    return dict(sorted((number, place) for number, place in numbers if number is not None))


@dataclass(frozen=True, slots=True)
class DevicePlace:
    """A device's evidence folder. `only` is the id of the one recording to check; empty for all."""

    path: str
    only: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The evidence in a tree: devices' folders, and recordings' folders outside these."""

    tree: Tree
    devices: list[DevicePlace]
    recordings: list[str]


def find(root: Path | Storage) -> Found:
    """Find the evidence in a folder; if the folder is part of a device's folder, that device's.

    Raises:
        EvidenceError: There is no such folder, it can't be read, or it is too deep or too large to be searched.
    """
    try:
        if not isinstance(root, Path | DiskStorage):
            return _search(StorageTree(root))
        folder = (root if isinstance(root, Path) else root.root).resolve()
        if not folder.is_dir():
            raise EvidenceError(f"expected a folder with evidence, got {folder}: there is no such folder")
        return _enclosing(folder) or _search(DiskTree(folder))
    except OSError as error:
        raise EvidenceError(f"expected a folder with evidence, got one that can't be read: {error}") from error


def _enclosing(folder: Path) -> Found | None:
    """The device, if the folder is its `recordings`, its `journal` or one of its recordings."""
    parent = folder.parent
    if folder.name in (layout.RECORDINGS, layout.JOURNAL) and _is_device(DiskTree(parent), ""):
        return Found(DiskTree(parent), [DevicePlace("")], [])
    if parent.name == layout.RECORDINGS and _is_recording(DiskTree(folder), ""):
        tree = DiskTree(parent.parent)
        if tree.entries(layout.JOURNAL) or tree.size(layout.TRUST) is not None:
            return Found(tree, [DevicePlace("", folder.name)], [])
    return None


def _search(tree: Tree) -> Found:
    found = Found(tree, [], [])
    queue = deque([("", 0)])
    seen = 0
    while queue:
        path, depth = queue.popleft()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_FOLDERS:
            raise EvidenceError(
                f"expected evidence at most {MAX_DEPTH} folders deep and among at most {MAX_FOLDERS} folders: "
                "name the folder that holds it"
            )
        if _is_device(tree, path):
            found.devices.append(DevicePlace(path))
        elif _is_recording(tree, path):
            found.recordings.append(path)
        else:
            queue.extend((below(path, name), depth + 1) for name in _folders(tree, path))
    return found


def _folders(tree: Tree, path: str) -> Iterator[str]:
    return (entry.name for entry in tree.entries(path) if entry.kind is Kind.FOLDER)


def _is_device(tree: Tree, path: str) -> bool:
    folders = set(_folders(tree, path))
    if layout.JOURNAL in folders:
        entries = tree.entries(below(path, layout.JOURNAL))
        if any(layout.journal_boot(entry.name) is not None for entry in entries):
            return True
    if layout.RECORDINGS not in folders:
        return False
    recordings = below(path, layout.RECORDINGS)
    return any(_is_recording(tree, below(recordings, name)) for name in _folders(tree, recordings))


def _is_recording(tree: Tree, path: str) -> bool:
    return any(layout.segment_part(entry.name) for entry in tree.entries(path) if entry.kind is not Kind.FOLDER)
