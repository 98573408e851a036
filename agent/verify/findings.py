"""The results of checking evidence: a closed list of finding codes, each with one severity, and the report.

A finding's sentence tells an auditor in plain words what is intact, missing, cut or altered, and where. Its code is for
programs and never changes its meaning.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from agent.output import escaped


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


class Code(StrEnum):
    """What was found. The comments group them; `severity` says how much each matters."""

    # trust document and certificates
    TRUST_PINNED = "trust_pinned"
    TRUST_UNPINNED = "trust_unpinned"
    TRUST_COPY_DIFFERS = "trust_copy_differs"
    TRUST_MISSING = "trust_missing"
    TRUST_ALTERED = "trust_altered"
    DEVICE_CERTIFIED = "device_certified"
    CERTIFICATE_MISSING = "certificate_missing"
    CERTIFICATE_REFUSED = "certificate_refused"
    CERTIFICATE_COPY_DIFFERS = "certificate_copy_differs"
    KEY_NOT_VALID = "key_not_valid"
    RECIPIENTS_UNLISTED = "recipients_unlisted"

    # policies
    POLICY_ALTERED = "policy_altered"
    POLICY_MISSING = "policy_missing"
    POLICY_UNVERIFIED = "policy_unverified"
    POLICY_UNSAFE = "policy_unsafe"

    # the journal
    BOOT_INTACT = "boot_intact"
    BOOT_EMPTY = "boot_empty"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    JOURNAL_MISSING = "journal_missing"
    JOURNAL_OPEN = "journal_open"
    JOURNAL_CUT = "journal_cut"
    JOURNAL_TORN = "journal_torn"
    JOURNAL_TORN_UNEXPLAINED = "journal_torn_unexplained"
    JOURNAL_TRUNCATED = "journal_truncated"
    JOURNAL_BEHIND = "journal_behind"
    JOURNAL_LINE_ALTERED = "journal_line_altered"
    JOURNAL_LINE_MISSING = "journal_line_missing"
    JOURNAL_LINE_MOVED = "journal_line_moved"
    CARD_ROLLED_BACK = "card_rolled_back"
    CARD_REPLACED = "card_replaced"
    STATE_LOST = "state_lost"
    STATE_UNREADABLE = "state_unreadable"
    STATE_ROLLED_BACK = "state_rolled_back"
    LINES_UNSIGNED = "lines_unsigned"
    LINE_NOT_BELIEVED = "line_not_believed"
    LINE_TORN_FROM_SIGNATURE = "line_torn_from_signature"
    CHECKPOINT_FORGED = "checkpoint_forged"
    CHECKPOINT_CONTRADICTS = "checkpoint_contradicts"
    TIME_WENT_BACK = "time_went_back"
    CLOCK_UNTRUSTED = "clock_untrusted"

    # statements about segments
    STATEMENT_ALTERED = "statement_altered"
    STATEMENT_FORGED = "statement_forged"
    STATEMENT_MISPLACED = "statement_misplaced"
    STATEMENTS_CONTRADICT = "statements_contradict"
    CHAIN_BROKEN = "chain_broken"
    OPENING_MISSING = "opening_missing"
    MANIFEST_MISSING = "manifest_missing"

    # sealed segments
    SEGMENT_INTACT = "segment_intact"
    SEGMENT_RECOVERED = "segment_recovered"
    SEGMENT_EMPTY = "segment_empty"
    SEGMENT_MISSING = "segment_missing"
    SEGMENT_FOREIGN = "segment_foreign"
    SEGMENT_FORGED = "segment_forged"
    SEGMENT_ALTERED = "segment_altered"
    SEGMENT_CUT = "segment_cut"
    SEGMENT_EXTENDED = "segment_extended"
    CUT_BELOW_ATTESTED = "cut_below_attested"
    FINISHED_BY_ANOTHER_HAND = "finished_by_another_hand"
    UNATTESTED_TAIL = "unattested_tail"
    UNFINISHED = "unfinished"
    PACKETS_LOST = "packets_lost"

    # recordings
    RECORDING_INTACT = "recording_intact"
    RECORDING_EMPTY = "recording_empty"
    RECORDING_OPEN_END = "recording_open_end"
    RECORDING_NOT_FINAL = "recording_not_final"
    RECORDING_MISSING = "recording_missing"
    RECORDING_STALLED = "recording_stalled"
    RECORDING_UNNAMED = "recording_unnamed"
    NO_PICTURE = "no_picture"
    AFTER_FINAL = "after_final"
    ENDED_WITHOUT_GRANT = "ended_without_grant"
    JOURNAL_CONTRADICTS = "journal_contradicts"

    # annotations
    ANNOTATION_SIGNED = "annotation_signed"
    ANNOTATION_MISSING = "annotation_missing"
    ANNOTATION_REFUSED = "annotation_refused"

    # files
    LEFTOVER = "leftover"
    OTHER_FILE = "other_file"
    FOREIGN_FILE = "foreign_file"
    UNREADABLE = "unreadable"

    @property
    def severity(self) -> Severity:
        """How much this finding matters: what is neither fine nor a note is bad."""
        if self in _OK:
            return Severity.OK
        return Severity.NOTE if self in _NOTES else Severity.BAD


_OK = frozenset(
    {
        Code.TRUST_PINNED,
        Code.DEVICE_CERTIFIED,
        Code.BOOT_INTACT,
        Code.SEGMENT_INTACT,
        Code.RECORDING_INTACT,
        Code.ANNOTATION_SIGNED,
    }
)
_NOTES = frozenset(
    {
        Code.TRUST_UNPINNED,
        Code.TRUST_COPY_DIFFERS,
        Code.RECIPIENTS_UNLISTED,
        Code.POLICY_UNVERIFIED,
        Code.BOOT_EMPTY,
        Code.JOURNAL_UNAVAILABLE,
        Code.JOURNAL_TORN,
        Code.JOURNAL_BEHIND,
        Code.LINES_UNSIGNED,
        Code.LINE_TORN_FROM_SIGNATURE,
        Code.CLOCK_UNTRUSTED,
        Code.SEGMENT_RECOVERED,
        Code.SEGMENT_EMPTY,
        Code.UNATTESTED_TAIL,
        Code.PACKETS_LOST,
        Code.RECORDING_EMPTY,
        Code.RECORDING_OPEN_END,
        Code.NO_PICTURE,
        Code.LEFTOVER,
        Code.OTHER_FILE,
    }
)
_ELSEWHERE = frozenset({Code.CARD_REPLACED, Code.STATE_LOST, Code.STATE_UNREADABLE})
_UNFINISHED = frozenset({Code.UNFINISHED, Code.JOURNAL_CUT, Code.JOURNAL_OPEN}) | _ELSEWHERE
"""Bad, because unclosed files can still be cut without a trace, and lines on another card, or cut off before the device
lost its state, can't be seen here; but none of them shows that the evidence at hand was altered."""

MOST_OF_A_KIND = 40
"""Findings of one code about one recording or journal that are listed; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result.

    Attributes:
        subject: A path below the folder that was checked, and for a journal the line.
        sentence: The finding in words, for an auditor; printable text without control characters.
        recording: Id of the recording it concerns; empty if none.
    """

    code: Code
    subject: str
    sentence: str
    recording: str = ""

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return self.code.severity


@dataclass(frozen=True, slots=True)
class Anchor:
    """What trust in the evidence of a device rests on.

    Attributes:
        subject: The device's folder.
        agency: The agency that the trust document names.
        root: The root key's JWK thumbprint (RFC 7638), to be compared with what the agency publishes.
        pinned: True if the caller supplied the trust document, False if it was found beside the evidence.
    """

    subject: str
    agency: str
    root: str
    pinned: bool


class Verdict(StrEnum):
    """The overall result."""

    INTACT = "intact"
    UNFINISHED = "unfinished"
    UNSAFE_POLICY = "unsafe_policy"
    """Nothing is altered, but an unsafe policy permitted whatever was asked for: what is missing proves nothing."""
    NOT_INTACT = "not_intact"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much was checked."""

    devices: int = 0
    recordings: int = 0
    segments: int = 0
    journal_lines: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of checking evidence.

    Attributes:
        findings: In reading order.
        anchors: One for each device whose trust document was read.
        counts: How much was checked.
    """

    findings: tuple[Finding, ...]
    anchors: tuple[Anchor, ...]
    counts: Counts

    @property
    def bad(self) -> tuple[Finding, ...]:
        """The findings of severity `bad`."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.BAD)

    @property
    def verdict(self) -> Verdict:
        """`intact` if no finding is bad; `unfinished` if the bad ones only say that something is not closed yet.

        `unsafe_policy` if, beyond that, the only fault is that an unsafe policy was in force.
        """
        return verdict_of(self.findings)

    def of_recording(self, recording: str) -> tuple[Finding, ...]:
        """Findings about one recording, with those about journals and certificates, which concern all recordings."""
        return tuple(finding for finding in self.findings if finding.recording in ("", recording))

    @property
    def summary(self) -> str:
        """The report in one line."""
        counts = self.counts
        what = (
            f"{number(counts.segments, 'segment')} in {number(counts.recordings, 'recording')}, "
            f"{number(counts.journal_lines, 'journal line')}"
        )
        match self.verdict:
            case Verdict.INTACT:
                result = "all intact"
            case Verdict.UNFINISHED:
                elsewhere = any(finding.code in _ELSEWHERE for finding in self.bad)
                result = f"nothing is altered, but not all is closed{' or here' if elsewhere else ''}"
            case Verdict.UNSAFE_POLICY:
                result = "UNSAFE POLICY: nothing is altered, but the camera permitted whatever was asked for"
            case _:
                result = f"NOT INTACT, {number(len(self.bad), 'finding')}"
        pinned = all(anchor.pinned for anchor in self.anchors)
        basis = "" if pinned else " (consistent with the trust document found beside it; its origin is not proved)"
        blind = sum(finding.code is Code.NO_PICTURE for finding in self.findings)
        seen = f"; {number(blind, 'recording')} WITHOUT ANY PICTURE" if blind else ""
        return f"{what}: {result}{basis}{seen}"


def verdict_of(findings: tuple[Finding, ...]) -> Verdict:
    """The verdict that follows from these findings; see `Report.verdict`."""
    bad = {finding.code for finding in findings if finding.severity is Severity.BAD}
    if not bad:
        return Verdict.INTACT
    if not bad <= _UNFINISHED | {Code.POLICY_UNSAFE}:
        return Verdict.NOT_INTACT
    return Verdict.UNSAFE_POLICY if Code.POLICY_UNSAFE in bad else Verdict.UNFINISHED


def number(count: int, noun: str) -> str:
    """A count with its noun: `1 segment`, `1,204 segments`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Findings:
    """Collects findings. Of each kind the first `MOST_OF_A_KIND` are kept and the rest is counted.

    Attributes:
        bad: Number of bad findings so far.
    """

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._kinds: Counter[tuple[Code, str, str]] = Counter()
        self.bad = 0

    def add(self, code: Code, subject: str, sentence: str, *, recording: str = "") -> None:
        """Add a finding; its texts are escaped here."""
        kind = (code, recording, subject.partition(" line ")[0])
        self._kinds[kind] += 1
        self.bad += code.severity is Severity.BAD
        if self._kinds[kind] <= MOST_OF_A_KIND:
            self._findings.append(Finding(code, escaped(subject), escaped(sentence), escaped(recording)))

    def finish(self) -> tuple[Finding, ...]:
        """All findings; the counts of those that were not kept come last."""
        more = [
            Finding(code, escaped(subject), f"and {number(count - MOST_OF_A_KIND, 'finding')} more like these", where)
            for (code, where, subject), count in self._kinds.items()
            if count > MOST_OF_A_KIND
        ]
        return (*self._findings, *more)


def short(digest: str) -> str:
    """The beginning of a hash, for display."""
    return f"{digest[:12]}…"
