"""Sections 7.1 and 7.2: opening statements and manifests, and whether they are believed (13.10)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.independent import jws
from tests.independent.encoding import (
    Check,
    RefusedError,
    array,
    boolean,
    digest,
    either,
    fields,
    integer,
    need,
    null,
    one_of,
    text,
)
from tests.independent.findings import Findings
from tests.independent.journal import RECORDING, Journal, Recording, Segment
from tests.independent.tree import Tree, UnreadableError, below
from tests.independent.trust import Authority

FORMAT = "bwc-segment/2"
FORMATS = ("bwc-segment/1", FORMAT)
_KIND = one_of("video", "audio")
_MOMENT = fields({"utc": text(), "clock": text(), "within_ms": either(null, integer()), "mono_us": integer()})
_TRACK = fields(
    {
        "kind": _KIND,
        "codec": text(),
        "timescale": integer(),
        "base_ticks": integer(),
        "parameters": text(),
        "width": integer(),
        "height": integer(),
        "sample_rate": integer(),
        "channels": integer(),
    }
)
_PRE_EVENT = fields(
    {
        "asked_ms": integer(),
        "kept_ms": integer(),
        "excess_ms": integer(),
        "gap_ms": integer(),
        "short": text(),
        "silent": boolean,
    }
)
_BOTH: dict[str, Check] = {
    "format": one_of(*FORMATS),
    "agency": text(),
    "device": text(),
    "boot": integer(),
    "boot_certificate": text(),
    "recording": text(RECORDING),
    "segment": integer(),
    "previous": text(),
}
_OPENING = fields(
    {
        **_BOTH,
        "header": text(),
        "frame_length": integer(),
        "tracks": array(_TRACK),
        "start": _MOMENT,
        "recipients": text(),
        "policy": text(),
        "pre_event": either(null, _PRE_EVENT),
        "overlap": boolean,
    },
    {"interrupted": boolean},
)
_MANIFEST = fields(
    {
        **_BOTH,
        "opening": text(),
        "ended": one_of("rolled", "stopped", "interrupted", "power_loss", "storage_full", "fault"),
        "final": boolean,
        "recovered": boolean,
        "bytes": integer(),
        "sha256": text(),
        "whole_frames": integer(),
        "whole_bytes": integer(),
        "attested_bytes": integer(),
        "written": array(
            fields({"kind": _KIND, "packets": integer(), "first_ticks": integer(), "end_ticks": integer()})
        ),
        "gaps": array(fields({"kind": _KIND, "from_ticks": integer(), "to_ticks": integer()})),
        "lost_packets": integer(),
        "stop": either(null, _MOMENT),
    },
    {
        "withheld": array(
            fields({"kind": _KIND, "request": integer(), "from_us": integer(), "to_us": either(null, integer())})
        ),
        "sealed": text(),
        "interrupted": boolean,
        "unread_bytes": integer(0),
    },
)


class Form(NamedTuple):
    """A kind of statement."""

    typ: str
    check: Check


OPENING = Form("bwc-opening+jws", _OPENING)
MANIFEST = Form("bwc-manifest+jws", _MANIFEST)


@dataclass(frozen=True)
class Statement:
    """A statement that lies there. `said` is None if it is not believed."""

    path: str
    hash: str
    said: dict[str, Any] | None


@dataclass
class Scope:
    """What the check of one recording works with."""

    tree: Tree
    folder: str
    id: str
    authority: Authority
    journal: Journal | None
    findings: Findings

    def say(self, code: str, name: str = "") -> None:
        self.findings.say(code, below(self.folder, name) if name else self.folder)

    @property
    def told(self) -> Recording | None:
        return self.journal.recordings.get(self.id) if self.journal else None

    def segment(self, number: int) -> Segment:
        told = self.told
        return told.segments.get(number, Segment()) if told else Segment()


def read_statement(scope: Scope, name: str, form: Form, segment: int) -> Statement | None:
    """None if the file can't be read."""
    path = below(scope.folder, name)
    try:
        raw = scope.tree.read(path)
    except UnreadableError:
        scope.say("unreadable", name)
        return None
    said = None
    try:
        parsed = jws.parse(jws.ascii_text(raw), form.typ)
        boot = scope.authority.boot(parsed.payload.get("boot"))
        if boot is None or boot.kid != parsed.kid:
            scope.say("statement_forged", name)
            return Statement(path, digest(raw), None)
        said = parsed.verify(boot.key)
        form.check(said)
        newer = said["format"] == FORMAT or not (said.get("interrupted") or said.get("unread_bytes"))
        need(newer, "a newer format's fields")
        need(said["boot_certificate"] == digest(boot.token.encode()), "another boot certificate")
    except RefusedError:
        scope.say("statement_altered", name)
        return Statement(path, digest(raw), None)
    device = scope.authority.device
    if (said["agency"], said["device"], said["recording"], said["segment"]) != (
        device.agency,
        device.device,
        scope.id,
        segment,
    ):
        scope.say("statement_misplaced", name)
        said = None
    return Statement(path, digest(raw), said)
