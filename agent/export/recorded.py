"""Loads the statements in a recording's folder, in order.

Signatures and hashes are not checked here (see `agent.verify`). This only finds what can be opened, and notes what is
not readable.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent.encoding.strict_json import unb64
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Manifest, Opening, manifest, opening
from agent.export.placing import Reading, reading
from agent.keys import jws
from agent.verify.tree import DiskTree, Found, Kind, Tree, below

BOOT_TYPE = "bwc-boot+jws"
MAX_SEGMENTS = 100_000
_MAX_MONO_US = 1 << 53
_MAX_TICKS = 1 << 62
_Statement = TypeVar("_Statement", Opening, Manifest)
_BOOT_CERTIFICATE = re.compile(r"boot-(\d{8})\.jws", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a recording.

    Attributes:
        folder: Its folder in the tree.
        device: The device's folder in the tree; None if the recording is in none.
        recording: Its id.
    """

    tree: Tree
    folder: str
    device: str | None
    recording: str

    @property
    def path(self) -> Path:
        """Its folder on disk.

        Raises:
            EvidenceError: It is not on disk.
        """
        if not isinstance(self.tree, DiskTree):
            raise EvidenceError("expected a recording on disk")
        return self.tree.root / self.folder


@dataclass(frozen=True, slots=True)
class SegmentStatements:
    """The unverified statements about a segment.

    Attributes:
        opening, manifest: None if missing or not readable.
        size: Size of the sealed file in bytes; None if it is missing.
        problems: What is not readable.
    """

    number: int
    opening: Opening | None
    manifest: Manifest | None
    size: int | None
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What a boot's certificate states, unverified.

    Attributes:
        kernel: The kernel's boot id; empty if there is none.
        details_key: The sealed message that holds the boot's details key; empty if there is none.
    """

    kernel: str
    details_key: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """The content of a recording's folder. `segments` are in order; numbers may be missing."""

    place: Place
    segments: Sequence[SegmentStatements]
    boots: Mapping[int, BootFacts]

    @property
    def openings(self) -> list[Opening]:
        """All readable opening statements, in order."""
        return [segment.opening for segment in self.segments if segment.opening is not None]

    def readings(self) -> dict[int, list[Reading]]:
        """Readings of both clocks in the opening statements, by boot."""
        readings: dict[int, list[Reading]] = {}
        for statement in self.openings:
            readings.setdefault(statement.boot, []).append(reading(statement.start))
        return readings


def recordings(found: Found) -> list[Place]:
    """All recordings in the evidence, each with its id."""
    places = []
    for device in found.devices:
        folder = below(device.path, layout.RECORDINGS)
        for entry in found.tree.entries(folder):
            wanted = not device.only or entry.name == device.only
            if entry.kind is Kind.FOLDER and wanted and _numbers(found.tree, below(folder, entry.name)):
                places.append(Place(found.tree, below(folder, entry.name), device.path, entry.name))
    alone = [Place(found.tree, folder, None, _id(found.tree, folder)) for folder in found.recordings]
    return places + alone


def _numbers(tree: Tree, folder: str) -> list[int]:
    """Numbers of the segments that have any file, in order."""
    parts = (layout.segment_part(entry.name) for entry in tree.entries(folder) if entry.kind is not Kind.FOLDER)
    return sorted({part[0] for part in parts if part is not None})


def _id(tree: Tree, folder: str) -> str:
    """The recording id in the first readable statement: a folder outside a device's may have any name."""
    for number in _numbers(tree, folder):
        statements = _segment(tree, folder, number)
        signed = statements.opening or statements.manifest
        if signed is not None:
            return signed.recording
    return folder.rsplit("/", 1)[-1] or "recording"


def load(place: Place) -> Recorded:
    """All statements of a recording.

    Raises:
        EvidenceError: It has too many segments to be one.
        StorageError: Its folder can't be read.
    """
    numbers = _numbers(place.tree, place.folder)
    if len(numbers) > MAX_SEGMENTS:
        raise EvidenceError(f"expected at most {MAX_SEGMENTS} segments in {place.folder}, got {len(numbers)}")
    segments = [_segment(place.tree, place.folder, number) for number in numbers]
    return Recorded(place, segments, _boots(place))


def segment_path(place: Place, number: int) -> str:
    """The sealed file of a segment."""
    return below(place.folder, _name(layout.segment("", number)))


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _segment(tree: Tree, folder: str, number: int) -> SegmentStatements:
    problems: list[str] = []
    opened: Opening | None = None
    closed: Manifest | None = None
    try:
        payload = _payload(tree, below(folder, _name(layout.opening("", number))), OPENING_TYPE)
        opened = None if payload is None else _bounded(opening(payload), number)
    except (EvidenceError, StorageError) as error:
        problems.append(f"its opening statement is not readable: {error}")
    try:
        payload = _payload(tree, below(folder, _name(layout.manifest("", number))), MANIFEST_TYPE)
        closed = None if payload is None else _numbered(manifest(payload), number)
    except (EvidenceError, StorageError) as error:
        problems.append(f"its manifest is not readable: {error}")
    size = tree.size(below(folder, _name(layout.segment("", number))))
    return SegmentStatements(number, opened, closed, size, problems)


def _numbered(statement: _Statement, number: int) -> _Statement:
    if statement.segment != number:
        raise EvidenceError(f"expected a statement about segment {number}, got one about segment {statement.segment}")
    return statement


def _bounded(statement: Opening, number: int) -> Opening:
    """Check that times can be computed from an opening statement's numbers."""
    _numbered(statement, number)
    reading(statement.start)
    ticks = [track.base_ticks for track in statement.tracks]
    if not statement.tracks or len({track.kind for track in statement.tracks}) != len(statement.tracks):
        raise EvidenceError("expected one or two tracks, each of its own kind")
    if not 0 <= statement.start.mono_us < _MAX_MONO_US or any(abs(base) > _MAX_TICKS for base in ticks):
        raise EvidenceError("expected times within what a device can have counted")
    if any(track.timescale < 1 for track in statement.tracks):
        raise EvidenceError("expected at least one tick a second")
    return statement


def _payload(tree: Tree, path: str, typ: str) -> dict[str, Any] | None:
    """The payload of a signed statement, signature not checked; None if the file is missing."""
    if tree.size(path) is None:
        return None
    try:
        return jws.unverified_payload(tree.read(path).decode("ascii").removesuffix("\n"), typ)
    except UnicodeDecodeError as error:
        raise EvidenceError("expected a signed message, got bytes that are not ASCII") from error


def _boots(place: Place) -> dict[int, BootFacts]:
    facts = {}
    for entry in place.tree.entries(place.folder):
        match = _BOOT_CERTIFICATE.fullmatch(entry.name)
        if match is None or entry.kind is not Kind.FILE:
            continue
        try:
            payload = _payload(place.tree, below(place.folder, entry.name), BOOT_TYPE) or {}
            details_key = unb64(str(payload.get("details_key", "")))
        except (EvidenceError, StorageError):
            continue  # without it downtime is known less well, and details stay sealed, which is reported
        facts[int(match[1])] = BootFacts(str(payload.get("boot_id", "")), details_key)
    return facts
