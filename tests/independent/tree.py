"""Section 4 and 13.3: files in folders, as they were found."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.independent.encoding import RefusedError

MOST = 1 << 20
JOURNAL = re.compile(r"(\d{8})\.jsonl", re.ASCII)
PART = re.compile(r"(\d{4,6})\.(opening\.jws|seg|manifest\.jws)", re.ASCII)
_DEEPEST, _MOST_FOLDERS = 12, 100_000


def below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


class UnreadableError(RefusedError):
    """The file is no regular one, or larger than it may be."""


class Tree(Protocol):
    """Folders and files below one folder, whose own path is empty. Links are neither."""

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder."""

    def others(self, path: str) -> list[str]:
        """Names that are no folders."""

    def is_file(self, path: str) -> bool:
        """True for a regular file."""

    def read(self, path: str, most: int | None = MOST) -> bytes:
        """The bytes of a regular file."""


class MemoryTree:
    """Files by path."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._folders: dict[str, dict[str, bool]] = {"": {}}
        for path in files:
            parts = path.split("/")
            for depth, name in enumerate(parts):
                folder = self._folders.setdefault("/".join(parts[:depth]), {})
                folder[name] = folder.get(name, False) or depth < len(parts) - 1

    def folders(self, path: str) -> list[str]:
        return sorted(name for name, is_folder in self._folders.get(path, {}).items() if is_folder)

    def others(self, path: str) -> list[str]:
        return sorted(name for name, is_folder in self._folders.get(path, {}).items() if not is_folder)

    def is_file(self, path: str) -> bool:
        return path in self._files

    def read(self, path: str, most: int | None = MOST) -> bytes:
        data = self._files.get(path)
        if data is None or (most is not None and len(data) > most):
            raise UnreadableError(path)
        return data


class DiskTree:
    """Files on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _names(self, path: str, *, folders: bool) -> list[str]:
        try:
            with os.scandir(self._root / path) as found:
                return sorted(each.name for each in found if each.is_dir(follow_symlinks=False) == folders)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folders(self, path: str) -> list[str]:
        return self._names(path, folders=True)

    def others(self, path: str) -> list[str]:
        return self._names(path, folders=False)

    def is_file(self, path: str) -> bool:
        place = self._root / path
        return place.is_file() and not place.is_symlink()

    def read(self, path: str, most: int | None = MOST) -> bytes:
        place = self._root / path
        if not self.is_file(path) or (most is not None and place.stat().st_size > most):
            raise UnreadableError(path)
        return place.read_bytes()


@dataclass(frozen=True)
class Found:
    """Folders with evidence."""

    devices: list[str]
    recordings: list[str]


def is_recording(tree: Tree, path: str) -> bool:
    return any(PART.fullmatch(name) for name in tree.others(path))


def is_device(tree: Tree, path: str) -> bool:
    folders = tree.folders(path)
    journal, recordings = below(path, "journal"), below(path, "recordings")
    if "journal" in folders and any(JOURNAL.fullmatch(n) for n in (*tree.others(journal), *tree.folders(journal))):
        return True
    return "recordings" in folders and any(is_recording(tree, below(recordings, n)) for n in tree.folders(recordings))


def find(tree: Tree) -> Found:
    """Section 13.3, breadth first."""
    found = Found([], [])
    level = [""]
    searched = 0
    for depth in range(_DEEPEST + 2):
        following = []
        for path in level:
            searched += 1
            if depth > _DEEPEST or searched > _MOST_FOLDERS:
                raise RefusedError("too deep, or too many folders")
            if is_device(tree, path):
                found.devices.append(path)
            elif is_recording(tree, path):
                found.recordings.append(path)
            else:
                following += [below(path, name) for name in tree.folders(path)]
        level = following
    return found
