"""Section 13.11: a sealed file against all that is signed about it."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.independent.encoding import RefusedError, digest
from tests.independent.journal import Segment
from tests.independent.message import Header, read_header, walk
from tests.independent.statements import Scope
from tests.independent.tree import UnreadableError, below

_MUCH, _USUAL, _ENOUGH = 2 << 20, 10, 5


@dataclass(frozen=True)
class Facts:
    """What is believed about a segment."""

    segment: int
    opening: dict[str, Any] | None
    manifest: dict[str, Any] | None
    closed: bool
    told: Segment


def check_sealed(scope: Scope, name: str, facts: Facts) -> None:
    try:
        data = scope.tree.read(below(scope.folder, name), None)
    except UnreadableError:
        scope.say("unreadable", name)
        return
    try:
        header = read_header(data)
    except RefusedError:
        header = None
    manifest = facts.manifest
    bad = len(scope.findings.bad)
    if facts.opening and header:
        _header(scope, name, facts, header)
    if len(scope.findings.bad) == bad and (code := _wrong_bytes(facts, data)):
        scope.say(code, name)
    final = False
    if header:
        frames = list(walk(data, header))
        whole = len(frames), frames[-1].end if frames else len(header.raw)
        final = bool(frames) and frames[-1].final
    else:
        whole = 0, 0
    if manifest and len(scope.findings.bad) == bad:
        if (manifest["whole_frames"], manifest["whole_bytes"]) != whole:
            scope.say("statements_contradict", name)
        if manifest["written"] and (manifest["recovered"] or not final or whole[1] != len(data)):
            scope.say("statements_contradict", name)
    if not facts.closed:
        scope.say("unfinished", name)
    if not facts.closed or (manifest and manifest["recovered"]):
        _tail(scope, name, facts, len(data))
    if manifest and len(scope.findings.bad) == bad:
        if manifest["lost_packets"]:
            scope.say("packets_lost", name)
        scope.say("segment_recovered" if manifest["recovered"] else "segment_intact", name)


def _header(scope: Scope, name: str, facts: Facts, header: Header) -> None:
    opening = facts.opening
    assert opening is not None
    if digest(header.raw) != opening["header"]:
        scope.say("segment_forged", name)
        return
    expected = {key: opening[key] for key in ("agency", "device", "recording", "recipients", "policy")}
    expected |= {"bwc-format": opening["format"], "segment": str(opening["segment"])}
    context = {key: value for key, value in header.context.items() if key != "journal"}
    if context != expected or header.frame_length != opening["frame_length"]:
        scope.say("statements_contradict", name)
    line = header.context.get("journal")
    if line and scope.journal is not None and facts.told.opened and line not in scope.journal.hashes:
        scope.say("journal_contradicts", name)
    listed = {kid.encode() for kid in scope.authority.trust.recipients}
    if facts.segment == 1 and any(info not in listed for _, info, _ in header.keys):
        scope.say("recipients_unlisted", name)


def _wrong_bytes(facts: Facts, data: bytes) -> str:
    manifest, last = facts.manifest, facts.told.last
    if len(data) < last or (manifest and manifest["bytes"] < last):
        return "cut_below_attested"
    marks = list(facts.told.attested)
    if manifest:
        marks.append((manifest["bytes"], manifest["sha256"]))
    running, at = hashlib.sha256(), 0
    for size, sha256 in marks:
        if size > len(data):
            break
        running.update(data[at:size])
        at = size
        if running.hexdigest() != sha256:
            return "segment_altered"
    if manifest and manifest.get("unread_bytes"):
        return "segment_extended"
    if manifest and len(data) != manifest["bytes"]:
        return "segment_cut" if len(data) < manifest["bytes"] else "segment_extended"
    return ""


def _tail(scope: Scope, name: str, facts: Facts, size: int) -> None:
    attested = facts.told.last
    if scope.journal is None and facts.manifest:
        attested = facts.manifest["attested_bytes"]
    if size <= attested:
        return
    scope.say("unattested_tail", name)
    sizes = [0, *(each for each, _ in facts.told.attested)]
    widest = max((after - before for before, after in pairwise(sizes)), default=0)
    if len(sizes) > _ENOUGH and size - attested > max(_MUCH, _USUAL * widest):
        scope.say("finished_by_another_hand", name)
