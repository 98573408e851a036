"""Checks one recording: the files in its folder, in order, against each other and against the journal.

The rules, in order:
1. The folder holds segments, statements about them, copies of the certificates of the keys that signed these, and
   annotations (see `annotations`); nothing else.
2. Segments are counted from 1 without gaps. Each statement names the hash of the manifest before it, or, where that
   segment was interrupted and not closed yet, of the opening statement before it; a manifest names its opening
   statement; both agree.
3. `final` marks the last segment. A recording that ends without it must be explained by the journal.
4. Journal and folder agree both ways: each has what the other names, with the same hash. Only the last statements of a
   boot that lost power may be missing from its journal: at most one opening statement and one manifest of its own, and
   the manifests of what it recovered.
5. A recording whose statements count no picture in any segment is still intact, but is reported.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.manifest import Manifest, Opening, without_picture
from agent.journal.entries import SegmentRecovered
from agent.trust.records import utc_ns
from agent.verify.annotations import verify_annotations
from agent.verify.findings import Code, number
from agent.verify.journal_index import BootIndex, SegmentIndex
from agent.verify.segments import Statements, verify_sealed
from agent.verify.statements import MANIFEST, OPENING, Scope, SignedStatement, read_statement
from agent.verify.tree import Kind

_BOOT_COPY = re.compile(r"boot-(\d{8})\.jws", re.ASCII)
_SEG, _OPENING, _MANIFEST = "seg", "opening.jws", "manifest.jws"
_CUT_OFF = frozenset({"interrupted", "power_loss", "storage_full", "fault"})


@dataclass(slots=True)
class Lag:
    """The statements of each boot that its journal does not name, over all recordings (rule 4).

    Attributes:
        openings, manifests: Counts by boot.
        missing: Boots that signed a statement, but are newer than the newest journal.
    """

    openings: Counter[int] = field(default_factory=Counter)
    manifests: Counter[int] = field(default_factory=Counter)
    missing: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a recording."""

    segments: int
    bytes: int


def verify_recording(scope: Scope, lag: Lag) -> Size:
    """Check all files in a recording's folder.

    Raises:
        StorageError: The folder can't be read.
    """
    return _Recording(scope, lag).check()


class _Recording:
    def __init__(self, scope: Scope, lag: Lag) -> None:
        self._scope = scope
        self._lag = lag
        self._parts: dict[int, dict[str, str]] = {}
        self._copies: dict[int, str] = {}
        self._device_copy = ""
        self._previous: str | None = ""
        self._opening_before: str | None = ""
        self._openings: dict[int, SignedStatement[Opening] | None] = {}
        self._boots: set[int] = set()
        self._manifests: set[str] = set()
        self._annotated = False
        self._final = 0
        self._pictures = False
        self._first: Opening | None = None
        self._last: Manifest | None = None
        self._bytes = 0

    def check(self) -> Size:
        scope = self._scope
        bad = scope.findings.bad
        self._sort()
        if not self._parts:
            scope.add(Code.RECORDING_EMPTY, scope.folder, "nothing of this recording reached storage")
        expected = 1
        for segment in sorted(self._parts):
            if segment > expected:
                self._gap(expected, segment - 1)
            self._check_segment(segment, last=segment == max(self._parts))
            expected = segment + 1
        self._check_missing()
        self._check_copies()
        if self._annotated:
            verify_annotations(scope, self._manifests)
        if self._parts:
            self._check_end(max(self._parts))
            if not self._pictures:
                text = "holds no picture: no segment of it counts any, so that there is nothing to be seen"
                scope.add(Code.NO_PICTURE, scope.folder, text)
        if scope.findings.bad == bad and self._parts:
            self._report_intact()
        return Size(len(self._parts), self._bytes)

    # -- rule 1 -------------------------------------------------------------------------------------------------------

    def _sort(self) -> None:
        """Sort the folder's files by their kind; report those that do not belong into it."""
        scope = self._scope
        for entry in scope.tree.entries(scope.folder):
            part, boot = layout.segment_part(entry.name), _BOOT_COPY.fullmatch(entry.name)
            path = scope.path(entry.name)
            if entry.name == layout.ANNOTATIONS and entry.kind is Kind.FOLDER:
                self._annotated = True
            elif entry.kind is not Kind.FILE:
                scope.add(Code.FOREIGN_FILE, path, f"a {entry.kind.value} does not belong into a recording's folder")
            elif part is not None and part[0] > 0 and entry.name == f"{part[0]:04d}.{part[1]}":
                self._parts.setdefault(part[0], {})[part[1]] = entry.name
            elif boot is not None:
                self._copies[int(boot[1])] = entry.name
            elif entry.name == layout.DEVICE:
                self._device_copy = entry.name
            elif entry.name.endswith(".unfinished"):
                scope.add(Code.LEFTOVER, path, "the rest of a cut write; nothing counts on it")
            else:
                scope.add(Code.FOREIGN_FILE, path, "does not belong into a recording's folder: nothing signed names it")

    def _check_copies(self) -> None:
        scope = self._scope
        if self._device_copy:
            self._check_copy(self._device_copy, scope.authority.certificate, "the device certificate")
        elif self._boots:
            text = "the copy of the device certificate is missing"
            scope.add(Code.CERTIFICATE_MISSING, scope.path(layout.DEVICE), text)
        for boot, name in self._copies.items():
            certificate = scope.authority.boot(boot)
            if certificate is None:
                text = f"is no certificate of a boot {boot} of this device"
                scope.add(Code.CERTIFICATE_REFUSED, scope.path(name), text)
            else:
                self._check_copy(name, certificate.token.encode("ascii"), f"the certificate of boot {boot}")
        for boot in sorted(self._boots - self._copies.keys()):
            name = layout.boot_certificate(scope.recording, boot).rpartition("/")[2]
            text = f"the copy of the certificate of boot {boot}, which signed here, is missing"
            scope.add(Code.CERTIFICATE_MISSING, scope.path(name), text)

    def _check_copy(self, name: str, expected: bytes, what: str) -> None:
        path = self._scope.path(name)
        try:
            raw = self._scope.tree.read(path)
        except StorageError as error:
            self._scope.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
            return
        if raw != expected:
            self._scope.add(Code.CERTIFICATE_COPY_DIFFERS, path, f"is not {what}, of which it should be a copy")

    # -- rule 2 -------------------------------------------------------------------------------------------------------

    def _gap(self, first: int, last: int) -> None:
        which = f"segment {first} is" if first == last else f"segments {first} to {last} are"
        path = self._scope.path(f"{first:04d}.{_SEG}")
        self._scope.add(Code.SEGMENT_MISSING, path, f"{which} missing")
        self._previous = self._opening_before = None

    def _check_segment(self, segment: int, *, last: bool) -> None:
        scope, names = self._scope, self._parts[segment]
        path = scope.path(names.get(_SEG, f"{segment:04d}.{_SEG}"))
        index = self._segment_index(segment)
        opening = self._opening(segment)
        manifest = read_statement(scope, names[_MANIFEST], MANIFEST, segment) if _MANIFEST in names else None
        if self._final:
            text = f"segment {segment} follows segment {self._final}, which was the recording's last one"
            scope.add(Code.AFTER_FINAL, path, text)
        self._check_statements(segment, opening, manifest)
        closed = self._check_presence(segment, path, index, last=last)
        if _SEG in names:
            statements = Statements(
                segment,
                opening.value if opening else None,
                manifest.value if manifest else None,
                closed,
                index.attestations,
                opened_in_journal=index.opened is not None,
                last=last,
            )
            self._bytes += verify_sealed(scope, path, statements)
        self._check_journal(segment, index, opening, manifest)
        trusted = opening.value if opening else None, manifest.value if manifest else None
        self._pictures = self._pictures or not without_picture(*trusted)
        # If a manifest is not trusted, the finding about it covers the next one's broken chain.
        self._previous = manifest.sha256 if manifest and manifest.value else None
        self._opening_before = opening.sha256 if opening and opening.value else None
        if manifest and manifest.value:
            self._last = manifest.value
            self._manifests.add(manifest.sha256)
            self._boots.add(manifest.value.boot)
        if opening and opening.value:
            self._first = self._first or opening.value
            self._boots.add(opening.value.boot)
            self._note_opening_time(opening.path, opening.value)

    def _opening(self, segment: int) -> SignedStatement[Opening] | None:
        """A segment's opening statement; None if it is missing or unreadable, which is reported once."""
        if segment not in self._openings:
            name = self._parts.get(segment, {}).get(_OPENING)
            self._openings[segment] = read_statement(self._scope, name, OPENING, segment) if name else None
        return self._openings[segment]

    def _left_open(self, segment: int) -> bool:
        """True if the next segment's opening statement marks this one as interrupted and not closed then."""
        following = self._opening(segment + 1)
        return following is not None and following.value is not None and following.value.interrupted

    def _note_opening_time(self, path: str, opening: Opening) -> None:
        try:
            at_ns = utc_ns(opening.start.utc)
        except EvidenceError as error:
            self._scope.add(Code.STATEMENTS_CONTRADICT, path, f"it does not say when it began: {error}")
            return
        if opening.start.within_ms is not None:
            self._scope.authority.note_trusted_time(opening.boot, at_ns)

    def _segment_index(self, segment: int) -> SegmentIndex:
        recording = self._scope.index
        return (recording.segments.get(segment) if recording else None) or SegmentIndex()

    def _check_presence(self, segment: int, path: str, index: SegmentIndex, *, last: bool) -> bool:
        """Report missing statements; True if the segment was closed, so that it can't be unfinished."""
        scope, names = self._scope, self._parts[segment]
        closed = _MANIFEST in names or index.closed is not None or not (last or self._left_open(segment))
        if _OPENING not in names:
            if _MANIFEST in names or index.opened is not None:
                text = "the opening statement is missing"
                scope.add(Code.OPENING_MISSING, scope.path(f"{segment:04d}.{_OPENING}"), text)
            else:
                text = "foreign: the camera signed no opening statement for it, and nothing else names it"
                scope.add(Code.SEGMENT_FOREIGN, path, text)
                return True
        if _MANIFEST not in names and closed:
            why = f"line of boot {index.closed_boot} says that it was closed" if index.closed else "it is not the last"
            text = f"the manifest of segment {segment} is missing: {why}"
            scope.add(Code.MANIFEST_MISSING, scope.path(f"{segment:04d}.{_MANIFEST}"), text)
        return closed

    def _check_statements(
        self, segment: int, opening: SignedStatement[Opening] | None, manifest: SignedStatement[Manifest] | None
    ) -> None:
        scope = self._scope
        for signed in (opening, manifest):
            if signed is not None and signed.value is not None:
                self._check_previous(segment, signed)
        if manifest is None or manifest.value is None:
            return
        value = manifest.value
        if opening is not None and opening.value is not None:
            if value.opening != opening.sha256:
                text = "it names another opening statement than the one that is there: one of the two was replaced"
                scope.add(Code.STATEMENTS_CONTRADICT, manifest.path, text)
            self._check_boots(opening.value.boot, value, manifest.path)
        if value.final and value.ended not in ("stopped", "power_loss", "storage_full", "fault"):
            text = f"it says that the recording ended with it, and that it ended by {value.ended}"
            scope.add(Code.STATEMENTS_CONTRADICT, manifest.path, text)
        if value.final:
            self._final = segment

    def _check_previous(self, segment: int, signed: SignedStatement[Opening] | SignedStatement[Manifest]) -> None:
        assert signed.value is not None
        interrupted = signed.value.interrupted
        expected = self._opening_before if interrupted else self._previous
        if expected is None:
            return  # what it should follow is missing or not trusted, which is reported already
        if signed.value.previous != expected or (interrupted and not expected):
            what = "opening statement" if interrupted else "manifest"
            before = f"the {what} of segment {segment - 1} as it stands" if expected else "nothing, as the first"
            text = f"the chain is broken: it does not follow {before}"
            self._scope.add(Code.CHAIN_BROKEN, signed.path, text)

    def _check_boots(self, opened: int, manifest: Manifest, path: str) -> None:
        """Check that a later boot closed the segment if, and only if, the manifest states a recovery."""
        if manifest.boot == opened and not manifest.recovered:
            return
        if manifest.boot > opened and manifest.recovered:
            return
        text = f"opened by boot {opened}, closed by boot {manifest.boot} "
        text += "as a recovery" if manifest.recovered else "as if it had written it"
        self._scope.add(Code.FINISHED_BY_ANOTHER_HAND, path, text)

    # -- rule 4 -------------------------------------------------------------------------------------------------------

    def _check_journal(
        self,
        segment: int,
        index: SegmentIndex,
        opening: SignedStatement[Opening] | None,
        manifest: SignedStatement[Manifest] | None,
    ) -> None:
        if self._scope.journal is None:
            return
        if opening is not None and opening.value is not None:
            self._check_opened(opening, opening.value, index, manifest)
        if manifest is not None and manifest.value is not None:
            self._check_closed(segment, manifest, manifest.value, index)

    def _check_opened(
        self,
        opening: SignedStatement[Opening],
        value: Opening,
        index: SegmentIndex,
        manifest: SignedStatement[Manifest] | None,
    ) -> None:
        if index.opened is None:
            own = manifest is not None and manifest.value is not None and manifest.value.boot == value.boot
            self._lag.openings[value.boot] += 1
            self._unnamed(opening.path, value.boot, allowed=not own and self._lag.openings[value.boot] == 1)
        elif (index.opened.opening, index.opened_boot) != (opening.sha256, value.boot):
            text = "the journal names another opening statement for this segment"
            self._scope.add(Code.JOURNAL_CONTRADICTS, opening.path, text)

    def _check_closed(
        self, segment: int, manifest: SignedStatement[Manifest], value: Manifest, index: SegmentIndex
    ) -> None:
        closed = index.closed
        if closed is None:
            if not value.recovered:
                self._lag.manifests[value.boot] += 1
            last = segment == max(self._parts) or value.recovered or self._later_boot(segment, value.boot)
            self._unnamed(manifest.path, value.boot, allowed=last and self._lag.manifests[value.boot] <= 1)
            return
        same = (closed.manifest, closed.ended, index.closed_boot) == (manifest.sha256, value.ended, value.boot)
        if isinstance(closed, SegmentRecovered):
            torn = value.bytes - value.whole_bytes
            same = same and value.recovered and (closed.whole_bytes, closed.torn_bytes) == (value.whole_bytes, torn)
        else:
            same = same and closed.final == value.final
        if not same:
            text = "the journal names another manifest for this segment, or says something else of it"
            self._scope.add(Code.JOURNAL_CONTRADICTS, manifest.path, text)

    def _later_boot(self, segment: int, boot: int) -> bool:
        """True if the same boot opened no further segment, so that this one may be its last."""
        following = self._segment_index(segment + 1)
        return following.opened is None or following.opened_boot > boot

    def _unnamed(self, path: str, boot: int, *, allowed: bool) -> None:
        """Report a statement that no line names; `allowed` if a loss of power can explain it."""
        assert self._scope.journal is not None
        journal = self._scope.journal.boots.get(boot)
        if journal is None:
            newest = max(self._scope.journal.boots, default=0)
            if boot > newest:  # a gap between two boots' files is reported already
                self._lag.missing.add(boot)
            return
        if journal.shut_down:
            text = f"boot {boot} signed it, but its journal, which ends in order, does not name it"
            self._scope.add(Code.JOURNAL_CONTRADICTS, path, text)
        elif allowed:
            text = f"boot {boot} signed it, and lost power (or still runs) before its journal could name it"
            self._scope.add(Code.JOURNAL_BEHIND, path, text)
        else:
            text = (
                f"boot {boot} signed it, but its journal ends with line {journal.last}, before that: lines were cut off"
            )
            self._scope.add(Code.JOURNAL_TRUNCATED, path, text)

    def _check_missing(self) -> None:
        """Report what the journal names and the folder lacks."""
        scope, index = self._scope, self._scope.index
        for segment in self._parts:
            self._check_missing_file(segment)
        for segment in sorted(index.segments) if index else ():
            if segment > max(self._parts, default=0):
                path = scope.path(f"{segment:04d}.{_SEG}")
                scope.add(Code.SEGMENT_MISSING, path, f"segment {segment}, which the journal names, is missing")
        if index is None and scope.journal is not None and self._parts and self._first is None:
            text = "no line of the journal names this recording, and nothing in it is signed by this camera"
            scope.add(Code.RECORDING_UNNAMED, scope.folder, text)

    def _check_missing_file(self, segment: int) -> None:
        """Report a segment that has statements but no sealed file."""
        scope, names = self._scope, self._parts[segment]
        if _SEG in names:
            return
        path = scope.path(f"{segment:04d}.{_SEG}")
        index = self._segment_index(segment)
        if index.attestations.last:
            text = f"the sealed file is missing, of which {index.attestations.last:,} bytes were attested on storage"
            scope.add(Code.SEGMENT_MISSING, path, text)
        elif _MANIFEST in names:
            self._check_empty(segment, path)
        elif index.closed is None:
            scope.add(Code.UNFINISHED, path, "not finished: opened, and nothing of it has reached storage yet")
        else:
            scope.add(Code.SEGMENT_MISSING, path, "the sealed file is missing")

    def _check_empty(self, segment: int, path: str) -> None:
        signed = read_statement(self._scope, self._parts[segment][_MANIFEST], MANIFEST, segment)
        if signed is not None and signed.value is not None and signed.value.bytes == 0:
            text = "the power was lost before its first byte: its manifest counts none"
            self._scope.add(Code.SEGMENT_EMPTY, path, text)
        else:
            self._scope.add(Code.SEGMENT_MISSING, path, "the sealed file is missing")

    # -- rule 3 -------------------------------------------------------------------------------------------------------

    def _check_end(self, segment: int) -> None:
        scope, last = self._scope, self._last
        if last is None or last.segment != segment:
            return  # unfinished, missing or altered, which is reported already
        path = scope.path(f"{segment:04d}.{_MANIFEST}")
        if scope.journal is None:
            if not last.final:
                text = "what is here does not end the recording, and without the journal what is missing can't be known"
                scope.add(Code.RECORDING_NOT_FINAL, path, text)
        elif last.final:
            self._check_grant(last, path)
        else:
            self._explain(last, path)

    def _check_grant(self, last: Manifest, path: str) -> None:
        """Check that the journal explains the end of a recording, or that it was cut off just before that line."""
        assert self._scope.journal is not None
        index, boot = self._scope.index, self._scope.journal.boots.get(last.boot)
        if boot is None or (index is not None and (index.ended_line or index.continued_by)):
            return
        if not boot.shut_down and boot.grants.may_end(last.recording) and not last.recovered:
            text = f"ended by a stop that boot {boot.boot} granted; it lost power before its journal could say so"
            self._scope.add(Code.JOURNAL_BEHIND, path, text)
        else:
            text = "its last segment says that it was ended, but no line of the journal does"
            self._scope.add(Code.ENDED_WITHOUT_GRANT, path, text)

    def _explain(self, last: Manifest, path: str) -> None:
        """Explain by the journal why the last segment does not end the recording (rule 3)."""
        scope, index = self._scope, self._scope.index
        assert scope.journal is not None
        if index is None:
            return  # reported with the statements that the journal does not name
        if index.ended_line:
            why = f"line {index.ended_line} ends it; its last segment was closed before that, or by recovery"
        elif index.continued_by:
            why = f"it was not resumed, because recording {index.continued_by} had begun"
        elif later := self._boot_without(last, scope.journal.boots):
            text = f"nothing ends it, and boot {later} did not go on with it: segments or journal lines are missing"
            scope.add(Code.RECORDING_NOT_FINAL, path, text)
            return
        elif last.ended in _CUT_OFF or not scope.journal.boots.get(last.boot, BootIndex(0)).shut_down:
            why = f"no stop ends it yet: line {index.last_line} is the last of it, and it continues at the next start"
        else:
            text = f"nothing ends it, and its last segment says that another follows ({last.ended}): that is missing"
            scope.add(Code.RECORDING_NOT_FINAL, path, text)
            return
        scope.add(Code.RECORDING_OPEN_END, path, f"has no final segment: {why}")

    def _boot_without(self, last: Manifest, boots: dict[int, BootIndex]) -> int:
        """A later boot that shut down in order without resuming this recording; 0 if there is none."""
        index = self._scope.index
        continued = set(index.boots) if index else set()
        candidates = (b.boot for b in boots.values() if b.boot > last.boot and b.shut_down and b.boot not in continued)
        return min(candidates, default=0)

    # -- what is fine -------------------------------------------------------------------------------------------------

    def _report_intact(self) -> None:
        first, last = self._first, self._last
        time = f" from {first.start.utc} ({_provenance(first.start.clock, first.start.within_ms)})" if first else ""
        if last is not None and last.stop is not None:
            time += f" to {last.stop.utc} ({_provenance(last.stop.clock, last.stop.within_ms)})"
        boots = "boot " if len(self._boots) == 1 else "boots "
        boots += ", ".join(map(str, sorted(self._boots)))
        segments = number(len(self._parts), "segment")
        text = f"{segments}, {number(self._bytes, 'byte')}{time}, signed by {boots}: intact, in order, none missing"
        self._scope.add(Code.RECORDING_INTACT, self._scope.folder, text)


def _provenance(clock: str, within_ms: int | None) -> str:
    return f"{clock}, within {within_ms} ms" if within_ms is not None else f"{clock}, not synchronised"
