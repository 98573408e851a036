"""The ledger of a shift: every second in one state, what was requested and refused, what can't be accounted for.

It is read from the journal. Without a key it shows what the camera did; with a key of the agency also who asked, why,
and under which rules. It follows the chain and names where it is broken. A line that ends, permits or releases
something and that no checkpoint signs is named and left out (`agent.audit.journal_lines`). The ledger does not check
whether the device has certified the keys that sign; `verified` is therefore false. `agent.verify.verifier` does.

`Ledger.as_json` is a stable format, for programs. Every time is a *moment* `{"utc", "clock", "within_ms", "boot",
"mono_us"}`: time of day (null where a line names one that no calendar holds), its source and the bound on its error
(null where nobody can state one), and the monotonic clock of that boot. Every duration is a whole number of
microseconds, in names that end in `_us`. Times that no recorder can mean are not in any sum, and are named in
`unaccounted`: see `agent.audit.timekeeping`, rule 4.

    verified            always false
    agency, device      as the device certificate names them; empty if there is none
    shift               {"from", "to": moments, "length_us", "unknown_gaps": dark times of unknown length, not in it}
    states              microseconds by state: off, standby, recording, privacy, muted, fault; they add up to length_us
    post_roll_us        of recording: seconds in which a granted stop could be cancelled
    docked_us           of all states: docked, by contact and attestation
    spans               [{"state", "phase": "" or "post_roll", "recording", "from": moment, "length_us", "known",
                        "basis", "uncertainty_us"}]; the last three are about `off`: see `agent.audit.timekeeping`
    requests            [{"at": moment, "number", "action", "again", "recording", "outcome", "why", "declared_only",
                        "policy", "sealed"}]; see `agent.audit.rows.Request`
    events              [{"at": moment, "kind", "text", "stands_out", "since": moment or null, "sealed"}]
    unaccounted         [{"kind", "boot", "text"}]: what this ledger can't vouch for
    without_picture     ids of recordings in which nothing is to be seen, by what their segments' statements count;
                        empty if they can't be listed: `unaccounted` has the kind `recordings_unreadable` then
    replay              only with `--replay`: {"boots", "lines", "requests", "redecided", "unknown", "differences"}; see
                        `agent.audit.replay.Replay`
    details             {"sealed": lines with sealed details, "opened": those that a key opened, "problem"}

`sealed` is {} without a key, and where nothing is sealed.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.audit.journal_lines import BootBegun, ChainBroken, attested_only, chained_lines
from agent.audit.rows import Event, Request, Rows
from agent.audit.timekeeping import POST_ROLL, Span, State, Timekeeper
from agent.clock import utc_text_or_empty
from agent.encoding.strict_json import unb64
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.details import DetailsKey
from agent.evidence.manifest import without_picture
from agent.export.recorded import Place, load
from agent.journal import entries
from agent.journal.format import Line
from agent.keys import jws
from agent.seal.reader import open_bytes
from agent.seal.recipients import RecipientKey
from agent.trust.records import BOOT_TYP, DEVICE_TYP
from agent.verify.findings import number
from agent.verify.tree import Kind, Tree, below

NOTICE = "not verified; run bwc-agent verify"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a boot, and the line whose clock readings give its time of day."""

    line: Line
    boot: int
    mono_us: int

    @property
    def utc_ns(self) -> int:
        """Time of day by the line's reading, in nanoseconds since 1970."""
        return self.line.wall.utc_ns + (self.mono_us - self.line.mono_us) * 1000

    def as_json(self) -> dict[str, Any]:
        """See the top of this module."""
        wall = self.line.wall
        return {
            "utc": utc_text_or_empty(self.utc_ns) or None,
            "clock": wall.source,
            "within_ms": self.line.within_ms,
            "boot": self.boot,
            "mono_us": self.mono_us,
        }


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of a shift. Spans, requests and events are in order.

    Attributes:
        first, last: Its first and its last line's moments.
        length_us: From the one to the other, by the clocks; what all spans add up to.
        docked_us: For how long of it the camera was docked.
        unaccounted: What this account can't vouch for.
        without_picture: Ids of recordings in which nothing is to be seen.
        sealed, opened: Lines with sealed details, and those that were opened.
        problem: Why others were not; empty for nothing.
    """

    agency: str
    device: str
    first: Moment
    last: Moment
    length_us: int
    docked_us: int
    spans: Sequence[Span]
    requests: Sequence[Request]
    events: Sequence[Event]
    unaccounted: Sequence[ChainBroken]
    without_picture: Sequence[str]
    sealed: int
    opened: int
    problem: str

    @property
    def states(self) -> Mapping[State, int]:
        """Microseconds in each state."""
        total: Counter[State] = Counter(dict.fromkeys(State, 0))
        for span in self.spans:
            total[span.state] += span.us
        return total

    @property
    def refused(self) -> list[Request]:
        """Requests that were refused, and grants that came to nothing."""
        return [row for row in self.requests if row.outcome in {"refused", "void"} and row.again]

    def moment(self, of: Span | Request | Event) -> Moment:
        """When that began, or happened."""
        if isinstance(of, Span):
            off = of.state is State.OFF
            return Moment(of.line, of.boot - off, of.line.mono_us if off else of.from_us)
        return Moment(of.line, of.boot, of.at_us)

    def as_json(self) -> dict[str, Any]:
        """See the top of this module."""
        return {
            "verified": False,
            "notice": NOTICE,
            "agency": self.agency,
            "device": self.device,
            "shift": {
                "from": self.first.as_json(),
                "to": self.last.as_json(),
                "length_us": self.length_us,
                "unknown_gaps": sum(not span.known for span in self.spans),
            },
            "states": {state.value: us for state, us in self.states.items()},
            "post_roll_us": sum(span.us for span in self.spans if span.phase == POST_ROLL),
            "docked_us": self.docked_us,
            "spans": [self._span(span) for span in self.spans],
            "requests": [self._request(row) for row in self.requests],
            "events": [self._event(event) for event in self.events],
            "unaccounted": [
                {"kind": broken.kind, "boot": broken.boot, "text": broken.sentence} for broken in self.unaccounted
            ],
            "without_picture": list(self.without_picture),
            "details": {"sealed": self.sealed, "opened": self.opened, "problem": self.problem},
        }

    def _span(self, span: Span) -> dict[str, Any]:
        return {
            "state": span.state.value,
            "phase": span.phase,
            "recording": span.recording,
            "from": self.moment(span).as_json(),
            "length_us": span.us,
            "known": span.known,
            "basis": span.basis,
            "uncertainty_us": span.uncertainty_us,
        }

    def _request(self, row: Request) -> dict[str, Any]:
        return {
            "at": self.moment(row).as_json(),
            "number": row.number,
            "action": row.action,
            "again": row.again,
            "recording": row.recording,
            "outcome": row.outcome,
            "why": row.why,
            "declared_only": row.declared_only,
            "policy": row.policy,
            "review": row.review,
            "sealed": row.sealed,
        }

    def _event(self, event: Event) -> dict[str, Any]:
        since = None if event.from_us is None else Moment(event.line, event.boot, event.from_us).as_json()
        return {
            "at": self.moment(event).as_json(),
            "kind": event.kind,
            "text": event.text,
            "stands_out": event.stands_out,
            "since": since,
            "sealed": dict(event.sealed),
        }


def read_ledger(tree: Tree, folder: str, key: RecipientKey | None = None) -> Ledger:
    """The ledger of one device.

    Args:
        tree: Where its evidence lies.
        folder: Its folder there.
        key: A private key of one of the agency's recipients.

    Raises:
        EvidenceError: There is no journal, or no line in it.
    """
    builder = _LedgerBuilder(key)
    for item in attested_only(chained_lines(tree, folder)):
        builder.take(item)
    unseen: list[str] = []
    try:
        unseen = _without_picture(tree, folder)
    except StorageError as error:  # the account itself rests on the journal alone
        text = f"which recordings are without a picture is not known: {error.strerror}"
        builder.take(ChainBroken("recordings_unreadable", 0, text))
    return builder.finish(*_names(tree, folder), unseen)


def _without_picture(tree: Tree, folder: str) -> list[str]:
    """Ids of the recordings in which nothing is to be seen; not of those whose statements can't be read.

    Raises:
        StorageError: The recordings can't be listed.
    """
    found = []
    path = below(folder, layout.RECORDINGS)
    for entry in tree.entries(path):
        if entry.kind is Kind.FOLDER and layout.is_recording_id(entry.name):
            with contextlib.suppress(EvidenceError, StorageError):
                segments = load(Place(tree, below(path, entry.name), folder, entry.name)).segments
                if segments and all(without_picture(said.opening, said.manifest) for said in segments):
                    found.append(entry.name)
    return found


def _names(tree: Tree, folder: str) -> tuple[str, str]:
    try:
        token = tree.read(below(folder, layout.DEVICE)).decode("ascii").strip()
        said = jws.unverified_payload(token, DEVICE_TYP)
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return "", ""
    return str(said.get("agency", "")), str(said.get("device", ""))


def details_key(entry: entries.Boot, key: RecipientKey) -> DetailsKey:
    """The key of a boot's sealed details, opened with a recipient's.

    Raises:
        EvidenceError: It is not sealed to this recipient, or the certificate is malformed.
    """
    said = jws.unverified_payload(entry.certificate, BOOT_TYP)
    return DetailsKey(open_bytes(unb64(str(said.get("details_key", ""))), [key])[1])


class _LedgerBuilder:
    """Puts the account together, line by line."""

    def __init__(self, key: RecipientKey | None) -> None:
        self._key = key
        self._time = Timekeeper()
        self._rows = Rows()
        self._broken: list[ChainBroken] = []
        self._first: Moment | None = None
        self._boot = 0
        self._begun = False
        self._unsigned = 0
        self._ended = False
        self._docked_since: int | None = None
        self._docked_us = 0
        self._problem = ""

    def take(self, item: BootBegun | Line | ChainBroken) -> None:
        """The next line, or what stands between two."""
        match item:
            case BootBegun():
                self._close_boot()
                self._boot, self._begun = item.boot, True
                self._time.begin(item.boot)
            case ChainBroken():
                self._broken.append(item)
            case Line():
                self._line(item)

    def _line(self, line: Line) -> None:
        if self._begun:
            self._begun = False
            self._rows.begin(self._boot, self._opened(line))
        self._first = self._first or Moment(line, self._boot, line.mono_us)
        self._time.follow(line)
        self._rows.follow(line, self._time.recording)
        entry = line.entry
        self._unsigned = 0 if isinstance(entry, entries.Checkpoint) else self._unsigned + 1
        if not isinstance(entry, entries.Checkpoint):
            self._ended = isinstance(entry, entries.ShutDown)
        if isinstance(entry, entries.Docked):
            at_us = self._time.within_us(entry.at_us)
            self._dock(at_us if entry.docked else None, at_us)
        self._last = line

    def _opened(self, line: Line) -> DetailsKey | None:
        if self._key is None:
            return None
        try:
            if isinstance(line.entry, entries.Boot):
                return details_key(line.entry, self._key)
            self._problem = self._problem or f"boot {self._boot} has no certificate in its first line"
        except EvidenceError as error:
            self._problem = self._problem or f"boot {self._boot}: {error}"
        return None

    def _dock(self, since_us: int | None, at_us: int) -> None:
        if self._docked_since is not None:
            self._docked_us += max(0, at_us - self._docked_since)
        self._docked_since = since_us

    def _close_boot(self, *, newest: bool = False) -> None:
        """Report what the end of a boot's lines shows."""
        if self._first is None or self._begun:
            return
        self._dock(None, self._time.now_us)
        if self._time.beyond:
            said = (
                f"{number(self._time.beyond, 'line')} of boot {self._boot} say that more than a day passed without a "
                "line, which no recorder lets pass: that time is not counted"
            )
            self._broken.append(ChainBroken("time_beyond", self._boot, said))
        if self._unsigned:
            said = f"{number(self._unsigned, 'line')} after boot {self._boot}'s last checkpoint: chained, not signed"
            self._broken.append(ChainBroken("unsigned", self._boot, said))
        if not self._ended:
            how = "is still running, or ended" if newest else "ended"
            said = f"boot {self._boot} {how} without closing its journal: what it did after its last line is not known"
            self._broken.append(ChainBroken("open_end", self._boot, said))
        self._unsigned = 0

    def finish(self, agency: str, device: str, without_picture: Sequence[str]) -> Ledger:
        """There are no more lines."""
        self._close_boot(newest=True)
        if self._first is None:
            raise EvidenceError(
                "expected a journal with lines, found none that can be read: there is nothing to account for"
            )
        spans = self._time.finish()
        for span in spans:
            if not span.known:
                said = f"how long it was off before boot {span.boot} is not known: no clock measured it"
                self._broken.append(ChainBroken("dark_unknown", span.boot, said))
        for event in self._rows.events:
            self._missing(event)
        if self._rows.left_out:
            said = f"{number(self._rows.left_out, 'event')} more are left out here: read the journal itself"
            self._broken.append(ChainBroken("left_out", 0, said))
        return Ledger(
            agency=agency,
            device=device,
            first=self._first,
            last=Moment(self._last, self._boot, self._last.mono_us),
            length_us=self._time.length_us,
            docked_us=self._docked_us,
            spans=spans,
            requests=self._rows.requests,
            events=self._rows.events,
            unaccounted=self._broken,
            without_picture=without_picture,
            sealed=self._rows.sealed,
            opened=self._rows.opened,
            problem=self._problem or self._rows.unopened,
        )

    def _missing(self, event: Event) -> None:
        """Report what should have been recorded and was not, for another reason than a suppression."""
        if event.from_us is None or event.kind not in {"source_gap", "packets_lost"}:
            return
        seconds = (event.at_us - event.from_us) / 1_000_000
        self._broken.append(ChainBroken(event.kind, event.boot, f"{seconds:.3f} s: {event.text}"))
