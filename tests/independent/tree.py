"""Section 4 and 13.3: files in folders, as they were found."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.independent.encoding import RefusedError

MOST = 1 << 20
JOURNAL = re.compile(r"(\d{8})\.jsonl", re.ASCII)
PART = re.compile(r"(\d{4,6})\.(opening\.jws|seg|manifest\.jws)", re.ASCII)
_DEEPEST, _MOST_FOLDERS = 12, 100_000


def below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


class UnreadableError(RefusedError):
    """The file is no regular one, or larger than it may be."""


class Tree:
    """Files by path. What is neither a file nor a folder is None."""

    def __init__(self, files: dict[str, bytes | None]) -> None:
        self.files = files
        self._folders: dict[str, dict[str, bool]] = {"": {}}
        for path in files:
            parts = path.split("/")
            for depth, name in enumerate(parts):
                folder = self._folders.setdefault("/".join(parts[:depth]), {})
                folder[name] = folder.get(name, False) or depth < len(parts) - 1

    def folders(self, path: str) -> list[str]:
        return sorted(name for name, is_folder in self._folders.get(path, {}).items() if is_folder)

    def others(self, path: str) -> list[str]:
        """Names that are no folders."""
        return sorted(name for name, is_folder in self._folders.get(path, {}).items() if not is_folder)

    def is_file(self, path: str) -> bool:
        return self.files.get(path) is not None

    def read(self, path: str, most: int | None = MOST) -> bytes:
        data = self.files.get(path)
        if data is None or (most is not None and len(data) > most):
            raise UnreadableError(path)
        return data


def load(folder: Path) -> Tree:
    """What lies below a folder. Links are not followed."""
    files: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            files[name] = None
        elif path.is_file():
            files[name] = path.read_bytes()
    return Tree(files)


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
