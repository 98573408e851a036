"""Checks the annotations of one recording: who signed each, whether it belongs here, and whether one is missing.

No check needs to open their sealed content.
"""

from collections.abc import Collection

from agent.clock import utc_text
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.annotation import Annotation, check_annotation
from agent.verify.authority import text
from agent.verify.findings import Code
from agent.verify.statements import Scope
from agent.verify.tree import annotation_files, below

_UNKNOWN = "unknown"
"""Stands for the hash of an annotation that is missing or can't be read, which is reported already."""


def verify_annotations(scope: Scope, manifests: Collection[str]) -> None:
    """Check every file in a recording's annotations folder.

    Args:
        scope: The recording being checked.
        manifests: SHA-256 of its trusted manifests.

    Raises:
        StorageError: The folder can't be read.
    """
    folder = scope.path(layout.ANNOTATIONS)
    files = annotation_files(scope.tree, scope.folder)
    paths = set(files.values())
    for entry in scope.tree.entries(folder):
        path = below(folder, entry.name)
        if path in paths:
            continue
        if entry.name.endswith(".unfinished"):
            scope.add(Code.LEFTOVER, path, "the rest of a cut write; nothing counts on it")
        else:
            scope.add(Code.FOREIGN_FILE, path, "does not belong among annotations")
    before, previous = 0, ""
    for number, path in files.items():
        if number > before + 1:
            which = f"annotation {before + 1} is" if number == before + 2 else f"{before + 1} to {number - 1} are"
            scope.add(Code.ANNOTATION_MISSING, path, f"{which} missing before it")
            previous = _UNKNOWN
        digest, annotation = _read(scope, path, manifests)
        if annotation is not None:
            _check_place(scope, path, annotation, number, previous)
        before, previous = number, digest


def _read(scope: Scope, path: str, manifests: Collection[str]) -> tuple[str, Annotation | None]:
    """Read an annotation: the SHA-256 of its file, or `_UNKNOWN`, and the annotation, or None if it is not trusted."""
    authority = scope.authority
    try:
        raw = scope.tree.read(path)
    except StorageError as error:
        scope.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
        return _UNKNOWN, None
    try:
        annotation = check_annotation(
            text(raw),
            authority.trust,
            device=authority.device.device,
            recording=scope.recording,
            manifests=manifests,
        )
    except EvidenceError as error:
        scope.add(Code.ANNOTATION_REFUSED, path, f"this annotation is not trusted: {error}")
        return sha256_hex(raw), None
    return sha256_hex(raw), annotation


def _check_place(scope: Scope, path: str, annotation: Annotation, number: int, previous: str) -> None:
    if annotation.number != number:
        sentence = f"it is annotation {annotation.number} of this recording, put in another's place"
        scope.add(Code.ANNOTATION_REFUSED, path, sentence)
    elif previous not in (_UNKNOWN, annotation.previous or ""):
        sentence = f"it does not follow annotation {number - 1} as it stands: one of the two was replaced"
        scope.add(Code.ANNOTATION_REFUSED, path, sentence if number > 1 else "it says that others came before it")
    else:
        made = utc_text(annotation.time.utc_ns)
        clock = "" if annotation.time.trusted else ", by an unsynchronised clock"
        scope.add(Code.ANNOTATION_SIGNED, path, f"signed by {annotation.office}, {made}{clock}; what it says is sealed")
