"""Section 13.10: one recording's folder."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.independent.annotations import check_annotations
from tests.independent.encoding import RefusedError, utc_us
from tests.independent.journal import Segment
from tests.independent.sealed import Facts, check_sealed
from tests.independent.statements import MANIFEST, OPENING, Scope, Statement, read_statement
from tests.independent.tree import PART, UnreadableError, below

_BOOT_COPY = re.compile(r"boot-(\d{8})\.jws", re.ASCII)
_CUT_OFF = {"interrupted", "power_loss", "storage_full", "fault"}


@dataclass
class Unnamed:
    """Statements of each boot that its journal does not name, over all recordings of a device."""

    openings: Counter[int] = field(default_factory=Counter)
    manifests: Counter[int] = field(default_factory=Counter)
    journals: set[int] = field(default_factory=set)


class RecordingCheck:
    """The check of one folder."""

    def __init__(self, scope: Scope, unnamed: Unnamed) -> None:
        self._scope = scope
        self._unnamed = unnamed
        self._parts: dict[int, set[str]] = {}
        self._copies: dict[int, str] = {}
        self._previous: str | None = ""
        self._opening_before: str | None = ""
        self._openings: dict[int, Statement | None] = {}
        self._final = False
        self._blind: list[bool] = []
        self._opened = False
        self._signers: set[int] = set()
        self._manifests: set[str] = set()
        self._last: Statement | None = None

    def run(self) -> None:
        scope = self._scope
        bad = len(scope.findings.bad)
        annotated = self._sort()
        if not self._parts:
            scope.say("recording_empty")
        expected = 1
        for number in sorted(self._parts):
            if number > expected:
                scope.say("segment_missing", f"{expected:04d}.seg")
                self._previous = self._opening_before = None
            self._segment(number)
            expected = number + 1
        self._missing()
        self._certificates()
        if annotated:
            check_annotations(scope, self._manifests)
        if self._parts:
            self._end(max(self._parts))
            if all(self._blind):
                scope.say("no_picture")
            if len(scope.findings.bad) == bad:
                scope.say("recording_intact")

    # -- files --------------------------------------------------------------------------------------------------------

    def _sort(self) -> bool:
        scope = self._scope
        folders = scope.tree.folders(scope.folder)
        for name in folders:
            if name != "annotations":
                scope.say("foreign_file", name)
        for name in scope.tree.others(scope.folder):
            part, copy = PART.fullmatch(name), _BOOT_COPY.fullmatch(name)
            if not scope.tree.is_file(below(scope.folder, name)):
                scope.say("foreign_file", name)
            elif part and int(part[1]) and name == f"{int(part[1]):04d}.{part[2]}":
                self._parts.setdefault(int(part[1]), set()).add(part[2])
            elif copy:
                self._copies[int(copy[1])] = name
            elif name != "device.jws":
                scope.say("leftover" if name.endswith(".unfinished") else "foreign_file", name)
        return "annotations" in folders

    def _certificates(self) -> None:
        scope = self._scope
        if scope.tree.is_file(below(scope.folder, "device.jws")):
            self._copy("device.jws", scope.authority.device.raw)
        elif self._signers:
            scope.say("certificate_missing", "device.jws")
        for number, name in self._copies.items():
            boot = scope.authority.boot(number)
            if boot is None:
                scope.say("certificate_refused", name)
            else:
                self._copy(name, boot.token.encode())
        for number in self._signers - self._copies.keys():
            scope.say("certificate_missing", f"boot-{number:08d}.jws")

    def _copy(self, name: str, expected: bytes) -> None:
        try:
            raw = self._scope.tree.read(below(self._scope.folder, name))
        except UnreadableError:
            self._scope.say("unreadable", name)
            return
        if raw != expected:
            self._scope.say("certificate_copy_differs", name)

    # -- one segment --------------------------------------------------------------------------------------------------

    def _segment(self, number: int) -> None:
        scope, parts = self._scope, self._parts[number]
        told = scope.segment(number)
        names = {part: f"{number:04d}.{part}" for part in ("opening.jws", "seg", "manifest.jws")}
        opening, manifest = self._opening(number), None
        if "manifest.jws" in parts:
            manifest = read_statement(scope, names["manifest.jws"], MANIFEST, number)
        if self._final:
            scope.say("after_final", names["seg"])
        self._statements(opening, manifest)
        foreign = "opening.jws" not in parts and "manifest.jws" not in parts and told.opened is None
        following = self._opening(number + 1)
        left_open = bool(following and following.said and following.said.get("interrupted"))
        may_be_open = number == max(self._parts) or left_open
        closed = "manifest.jws" in parts or told.closed is not None or not may_be_open or foreign
        if foreign:
            scope.say("segment_foreign", names["seg"])
        elif "opening.jws" not in parts:
            scope.say("opening_missing", names["opening.jws"])
        if closed and not foreign and "manifest.jws" not in parts:
            scope.say("manifest_missing", names["manifest.jws"])
        said = (opening.said if opening else None), (manifest.said if manifest else None)
        self._blind.append(_without_picture(*said))
        if "seg" in parts:
            check_sealed(scope, names["seg"], Facts(number, *said, closed=closed, told=told))
        if scope.journal is not None:
            self._agree(number, told, opening, manifest)
        self._previous = manifest.hash if manifest and manifest.said else None
        self._opening_before = opening.hash if opening and opening.said else None
        if manifest and manifest.said:
            self._last = manifest
            self._final = self._final or manifest.said["final"]
            self._manifests.add(manifest.hash)
            self._signers.add(manifest.said["boot"])
        if opening and opening.said:
            self._opened = True
            self._signers.add(opening.said["boot"])
            self._start(names["opening.jws"], opening.said)

    def _opening(self, number: int) -> Statement | None:
        """A segment's opening statement, read once."""
        if number not in self._openings:
            there = "opening.jws" in self._parts.get(number, ())
            name = f"{number:04d}.opening.jws"
            self._openings[number] = read_statement(self._scope, name, OPENING, number) if there else None
        return self._openings[number]

    def _start(self, name: str, said: dict[str, Any]) -> None:
        try:
            at_us = utc_us(said["start"]["utc"])
        except RefusedError:
            self._scope.say("statements_contradict", name)
            return
        if said["start"]["within_ms"] is not None:
            self._scope.authority.vouch(said["boot"], at_us)

    def _statements(self, opening: Statement | None, manifest: Statement | None) -> None:
        findings = self._scope.findings
        for each in (opening, manifest):
            if each and each.said:
                interrupted = each.said.get("interrupted", False)
                expected = self._opening_before if interrupted else self._previous
                if expected not in (None, each.said["previous"]) or (interrupted and expected == ""):
                    findings.say("chain_broken", each.path)
        if manifest is None or manifest.said is None:
            return
        said = manifest.said
        if opening and opening.said:
            if said["opening"] != opening.hash:
                findings.say("statements_contradict", manifest.path)
            by_itself = said["boot"] == opening.said["boot"] and not said["recovered"]
            by_later = said["boot"] > opening.said["boot"] and said["recovered"]
            if not by_itself and not by_later:
                findings.say("finished_by_another_hand", manifest.path)
        if said["final"] and said["ended"] not in ("stopped", "power_loss", "storage_full", "fault"):
            findings.say("statements_contradict", manifest.path)

    # -- journal and folder -------------------------------------------------------------------------------------------

    def _agree(self, number: int, told: Segment, opening: Statement | None, manifest: Statement | None) -> None:
        findings, unnamed = self._scope.findings, self._unnamed
        if opening and opening.said:
            boot = opening.said["boot"]
            if told.opened is None:
                unnamed.openings[boot] += 1
                own = manifest and manifest.said and manifest.said["boot"] == boot
                self._rule_u(opening.path, boot, allowed=not own and unnamed.openings[boot] == 1)
            elif told.opened != (opening.hash, boot):
                findings.say("journal_contradicts", opening.path)
        if manifest and manifest.said:
            said = manifest.said
            if told.closed is None:
                if not said["recovered"]:
                    unnamed.manifests[said["boot"]] += 1
                following = self._scope.segment(number + 1).opened
                last = number == max(self._parts) or said["recovered"]
                last = last or following is None or following[1] > said["boot"]
                self._rule_u(manifest.path, said["boot"], allowed=last and unnamed.manifests[said["boot"]] <= 1)
            elif not _same(told.closed, manifest.hash, said):
                findings.say("journal_contradicts", manifest.path)

    def _rule_u(self, path: str, boot: int, *, allowed: bool) -> None:
        journal = self._scope.journal
        assert journal is not None
        told = journal.boots.get(boot)
        if told is None:
            if boot > max(journal.boots, default=0):
                self._unnamed.journals.add(boot)
        elif told.shut_down:
            self._scope.findings.say("journal_contradicts", path)
        else:
            self._scope.findings.say("journal_behind" if allowed else "journal_truncated", path)

    def _missing(self) -> None:
        scope = self._scope
        for number, parts in self._parts.items():
            if "seg" in parts:
                continue
            told, name = scope.segment(number), f"{number:04d}.seg"
            if told.last:
                scope.say("segment_missing", name)
            elif "manifest.jws" in parts:
                manifest = read_statement(scope, f"{number:04d}.manifest.jws", MANIFEST, number)
                empty = manifest and manifest.said and manifest.said["bytes"] == 0
                scope.say("segment_empty" if empty else "segment_missing", name)
            else:
                scope.say("segment_missing" if told.closed else "unfinished", name)
        told_of = scope.told
        for number in told_of.segments if told_of else ():
            if number > max(self._parts, default=0):
                scope.say("segment_missing", f"{number:04d}.seg")
        if scope.journal is not None and told_of is None and self._parts and not self._opened:
            scope.say("recording_unnamed")

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self, number: int) -> None:
        scope, last = self._scope, self._last
        if last is None or last.said is None or last.said["segment"] != number:
            return
        said, told = last.said, scope.told
        if scope.journal is None:
            if not said["final"]:
                scope.findings.say("recording_not_final", last.path)
            return
        boot = scope.journal.boots.get(said["boot"])
        if said["final"]:
            if boot is None or (told and (told.ended or told.continued)):
                return
            granted = any(boot.may_end(said["recording"], request) for request in boot.requests)
            behind = not boot.shut_down and granted and not said["recovered"]
            scope.findings.say("journal_behind" if behind else "ended_without_grant", last.path)
        elif told:
            scope.findings.say(self._open_end(said), last.path)

    def _open_end(self, said: dict[str, Any]) -> str:
        journal, told = self._scope.journal, self._scope.told
        assert journal is not None
        assert told is not None
        if told.ended or told.continued:
            return "recording_open_end"
        later = (boot for number, boot in journal.boots.items() if number > said["boot"])
        if any(boot.shut_down and boot.number not in told.boots for boot in later):
            return "recording_not_final"
        boot = journal.boots.get(said["boot"])
        cut = said["ended"] in _CUT_OFF or boot is None or not boot.shut_down
        return "recording_open_end" if cut else "recording_not_final"


def _same(closed: tuple[dict[str, Any], int], manifest: str, said: dict[str, Any]) -> bool:
    entry, boot = closed
    same: bool = (entry["manifest"], entry["ended"], boot) == (manifest, said["ended"], said["boot"])
    if entry["kind"] == "segment_closed":
        return bool(same and entry["final"] == said["final"])
    torn = said["bytes"] - said["whole_bytes"]
    found = (entry["whole_bytes"], entry["torn_bytes"]) == (said["whole_bytes"], torn)
    return bool(same and said["recovered"] and found)


def _without_picture(opening: dict[str, Any] | None, manifest: dict[str, Any] | None) -> bool:
    if opening is not None and not any(track["kind"] == "video" for track in opening["tracks"]):
        return True
    if manifest is None:
        return False
    seen = any(written["kind"] == "video" for written in manifest["written"])
    return manifest["bytes"] == 0 or (not manifest["recovered"] and not seen)
