"""Which recordings hold no picture, by what their segments' signed statements count.

Read, not checked, as all of the ledger is: `agent.verify.recordings` does that (rule 5).
"""

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.manifest import (
    MANIFEST_TYPE,
    OPENING_TYPE,
    Manifest,
    Opening,
    manifest,
    opening,
    without_picture,
)
from agent.keys import jws
from agent.verify.tree import Kind, Tree, below


def recordings_without_picture(tree: Tree, folder: str) -> list[str]:
    """Ids of the recordings in a device's folder in which nothing is to be seen; not of those that can't be read."""
    path = below(folder, layout.RECORDINGS)
    try:
        names = [entry.name for entry in tree.entries(path) if entry.kind is Kind.FOLDER]
        return [name for name in names if layout.is_recording_id(name) and _is_blind(tree, below(path, name))]
    except StorageError:
        return []


def _is_blind(tree: Tree, folder: str) -> bool:
    names = {entry.name for entry in tree.entries(folder) if entry.kind is Kind.FILE}
    numbers = {part[0] for part in map(layout.segment_part, names) if part is not None}
    return bool(numbers) and all(
        without_picture(_opening(tree, folder, number), _manifest(tree, folder, number)) for number in sorted(numbers)
    )


def _opening(tree: Tree, folder: str, number: int) -> Opening | None:
    token = _token(tree, below(folder, layout.opening("", number).rpartition("/")[2]))
    try:
        return opening(jws.peek(token, OPENING_TYPE))
    except EvidenceError:
        return None


def _manifest(tree: Tree, folder: str, number: int) -> Manifest | None:
    token = _token(tree, below(folder, layout.manifest("", number).rpartition("/")[2]))
    try:
        return manifest(jws.peek(token, MANIFEST_TYPE))
    except EvidenceError:
        return None


def _token(tree: Tree, path: str) -> str:
    try:
        return tree.read(path).decode("ascii", "replace").strip()
    except StorageError:
        return ""
