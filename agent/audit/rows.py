"""What stands out in a shift: who asked for what and what came of it, and everything that happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import EvidenceError
from agent.evidence.details import DetailsKey
from agent.journal import entries
from agent.journal.format import Line
from agent.verify.findings import number

MOST_EVENTS = 100_000
"""A shift has some hundreds; a journal that was made to flood its reader is cut off, which is reported."""

_RESUME = "ResumeRecording"
_NEEDS_RECORDING = frozenset({"StopRecording", "PrivacyPause", "Mute"})
"""Actions that are not decided in standby: the core journals the request, and nothing follows."""
_ONE_LOSS_US = 1_000_000


@dataclass(slots=True)
class Request:
    """A request and what came of it.

    Attributes:
        line: The line of the request.
        at_us: When, on the boot's monotonic clock.
        action: The requested action.
        again: Requests for this action in this recording so far; 0 if the recorder itself asked the policy again.
        recording: Id of the recording that ran; empty for none.
        outcome: `granted`, `refused`, `void`, `taken_back`, `not_carried_out` (granted, and then the lines end),
            `carried_out` (a resume, which needs no permit), `undecided` (the lines end before a decision).
        why: Of `void`: why; `standby` if nothing that it could end was running.
        declared_only: The permit rests on the wearer's word alone.
        policy: SHA-256 of the policy that decided.
        review: People are to review the decision.
        sealed: Its sealed details: principal, facts with their provenance, rules, obligations, what was missing.
    """

    line: Line
    boot: int
    number: int
    at_us: int
    action: str
    again: int
    recording: str
    outcome: str = "undecided"
    why: str = ""
    declared_only: bool = False
    policy: str = ""
    review: bool = False
    sealed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        kind: As in the journal.
        at_us: When, on the boot's monotonic clock.
        text: In words.
        stands_out: True if an auditor should look at it.
        from_us: Of what lasted: since when; None of what did not.
        sealed: What is sealed of it.
    """

    line: Line
    boot: int
    kind: str
    at_us: int
    text: str
    stands_out: bool = False
    from_us: int | None = None
    sealed: Mapping[str, Any] = field(default_factory=dict)


class Rows:
    """Follows lines and makes rows of them.

    Attributes:
        sealed: Lines with sealed details.
        opened: Those that were opened.
        unopened: Why others were not: the first reason.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.events: list[Event] = []
        self.left_out = 0
        self.sealed = self.opened = 0
        self.unopened = ""
        self._boot = 0
        self._key: DetailsKey | None = None
        self._asked: dict[int, Request] = {}
        self._withheld: dict[int, entries.Withheld] = {}
        self._outage: tuple[int, str] | None = None
        self._lost_packets = 0

    def begin(self, boot: int, key: DetailsKey | None) -> None:
        """Begins the lines of a boot, in which request numbers restart."""
        self._boot, self._key = boot, key
        self._asked, self._withheld, self._outage = {}, {}, None

    def follow(self, line: Line, recording: str) -> None:
        """The next line; `recording` is the one that runs."""
        details = self._details(line)
        match line.entry:
            case entries.Requested() as entry:
                self._requested(line, entry, recording, details)
            case entries.Decided() as entry:
                self._decided(entry, details)
            case entries.Voided() as entry:
                self._came_to(entry.request, "void", entry.why or str(details.get("why", "")))
            case entries.PostRollBegan() as entry:
                self._came_to(entry.request, "granted")
            case entries.StopTakenBack() as entry:
                self._came_to(entry.request, "taken_back")
                why = f": {details['why']}" if "why" in details else ""
                self._event(line, f"the stop is cancelled{why}", entry.at_us, details)
            case entries.RecordingEnded() as entry:
                self._came_to(entry.request, "granted")
                self._event(line, f"recording {entry.recording} ends on request {entry.request}", entry.at_us, details)
            case entries.PoweringOff() as entry:
                self._came_to(entry.request, "granted")
                self._event(line, f"power-off on request {entry.request}", entry.at_us, details)
            case entries.ShutDown():
                self._event(line, "the recorder shut down in order", line.mono_us, details)
            case _:
                self._happened(line, details)

    def _details(self, line: Line) -> dict[str, Any]:
        if not line.sealed:
            return {}
        self.sealed += 1
        if self._key is None:
            return {}
        try:
            details = line.details(self._key)
        except EvidenceError as error:
            self.unopened = self.unopened or f"line {line.n}: {error}"
            return {}
        self.opened += 1
        return details

    # -- requests -----------------------------------------------------------------------------------------------------

    def _requested(self, line: Line, entry: entries.Requested, recording: str, details: dict[str, Any]) -> None:
        row = Request(line, self._boot, entry.request, entry.at_us, entry.action, entry.again, recording)
        row.sealed = details
        if entry.action == _RESUME:
            row.outcome = "carried_out"
        elif entry.action in _NEEDS_RECORDING and not recording:
            row.outcome, row.why = "void", "standby"
        self.requests.append(row)
        self._asked[entry.request] = row

    def _decided(self, entry: entries.Decided, details: dict[str, Any]) -> None:
        row = self._asked.get(entry.request)
        if row is None:
            return
        row.outcome = "not_carried_out" if entry.allowed and row.again else "granted" if entry.allowed else "refused"
        row.declared_only = entry.declared_only
        row.policy = entry.policy
        row.review = entry.review
        row.sealed = {**row.sealed, **details}

    def _came_to(self, request: int, outcome: str, why: str = "") -> None:
        row = self._asked.get(request)
        if row is not None:
            row.outcome, row.why = outcome, why

    # -- events -------------------------------------------------------------------------------------------------------

    def _event(
        self,
        line: Line,
        text: str,
        at_us: int,
        details: Mapping[str, Any],
        *,
        stands_out: bool = False,
        from_us: int | None = None,
    ) -> None:
        if len(self.events) >= MOST_EVENTS:
            self.left_out += 1
            return
        kind = str(type(line.entry).__struct_config__.tag)
        self.events.append(Event(line, self._boot, kind, at_us, text, stands_out, from_us, details))

    def _happened(self, line: Line, details: dict[str, Any]) -> None:
        match line.entry:
            case entries.Boot() as entry:
                self._booted(line, entry)
            case entries.RecordingStarted() as entry:
                text = f"recording {entry.recording} starts by {entry.cause}"
                kept = f", {entry.pre_event_kept_ms / 1000:.3f} s of before are kept"
                short = entry.pre_event_short
                self._event(line, text + kept + (f" ({short})" if short else ""), entry.at_us, details)
            case entries.Withheld() as entry:
                self._came_to(entry.request, "granted")
                self._withheld[entry.request] = entry
                text = f"{_kinds(entry.kinds)} withheld on request {entry.request}"
                self._event(line, text, entry.from_us, details)
            case entries.Released() as entry:
                begun = self._withheld.pop(entry.request, None)
                text = f"{_kinds(entry.kinds)} recorded again: {entry.why}"
                self._event(line, text, entry.to_us, details, from_us=begun.from_us if begun else None)
            case entries.Interrupted() as entry:
                text = f"the recorder's process was stopped while {entry.recording} runs"
                self._event(line, text, line.mono_us, details, stands_out=True)
            case entries.Continued() as entry:
                text = f"recording {entry.recording} continues as {entry.by}"
                self._event(line, text, line.mono_us, details, stands_out=True)
            case entries.SegmentRecovered() as entry:
                text = f"segment {entry.segment} of {entry.recording} was closed after {entry.ended.replace('_', ' ')}"
                self._event(line, text, line.mono_us, details)
            case entries.StorageFailed() as entry:
                self._outage = (entry.at_us, entry.problem)
                text = f"writing to storage fails ({entry.problem}): recorded in memory"
                self._event(line, text, entry.at_us, details, stands_out=True)
            case entries.StorageBack() as entry:
                begun_us = self._outage[0] if self._outage else line.mono_us - entry.outage_ms * 1000
                self._outage = None
                text = f"writing to storage works again after {entry.outage_ms / 1000:.3f} s"
                self._event(line, text, line.mono_us, details, from_us=begun_us)
            case entries.SourceFailed() as entry:
                text = f"{_source(entry.track)}: {entry.problem}"
                self._event(line, text, entry.at_us, details, stands_out=True)
            case entries.SourceGap() as entry:
                text = f"{_source(entry.track)} delivers again"
                self._event(line, text, entry.to_us, details, from_us=entry.from_us)
            case entries.PacketsLost() as entry:
                self._lost(line, entry)
            case _:
                self._noticed(line, details)

    def _lost(self, line: Line, entry: entries.PacketsLost) -> None:
        """Packets that were lost one after the other are one loss."""
        before = self.events[-1] if self.events else None
        from_us = entry.from_us
        again = before is not None and (before.kind, before.boot) == ("packets_lost", self._boot)
        if again and before is not None and before.from_us is not None and from_us - before.at_us <= _ONE_LOSS_US:
            from_us = before.from_us
            self.events.pop()
        else:
            self._lost_packets = 0
        self._lost_packets += entry.packets
        text = f"{number(self._lost_packets, 'packet')} fell out of memory before storage took them"
        self._event(line, text, entry.to_us, {}, stands_out=True, from_us=from_us)

    def _booted(self, line: Line, entry: entries.Boot) -> None:
        text = f"boot {entry.boot}"
        if entry.interrupted:
            text += f": recording {entry.interrupted} was running when the boot before it ended"
        if entry.torn_bytes:
            text += f"; {number(entry.torn_bytes, 'byte')} of an unfinished line before it"
        if entry.carried.latched:
            text += "; a critical incident is latched"
        self._event(line, text, line.mono_us, {}, stands_out=bool(entry.interrupted or entry.torn_bytes))

    def _noticed(self, line: Line, details: dict[str, Any]) -> None:
        """Events without a duration, in a few words."""
        entry = line.entry
        words = _in_words(entry, details)
        if words is not None:
            text, stands_out = words
            at_us = getattr(entry, "at_us", 0) or line.mono_us
            self._event(line, text, at_us, details, stands_out=stands_out)


def _in_words(entry: entries.AnyEntry, details: Mapping[str, Any]) -> tuple[str, bool] | None:
    """An entry in words, and whether it stands out; None of what is of no interest to who reads an account."""
    match entry:
        case entries.TriggerRaised():
            return f"trigger {entry.name}", False
        case entries.TriggerLevel():
            return f"trigger line {entry.name} {'is raised' if entry.raised else 'is low again'}", False
        case entries.Tampered():
            detail = f" ({details['detail']})" if details.get("detail") else ""
            return f"{entry.what.replace('_', ' ')}{detail}{', no longer' if entry.ended else ''}", not entry.ended
        case entries.Authorised():
            return f"authorisation of {entry.action} used", False
        case entries.PolicyChanged():
            version = f" (version {entry.version})" if entry.version else ""
            if entry.what == "policy_unsafe":
                return "UNSAFE POLICY: everything that is asked for is permitted; for a bench, never for evidence", True
            quiet = entry.what in {"policy_in_force", "policy_built_in"}
            why = f" ({entry.why})" if entry.why else ""
            return f"{entry.what.replace('_', ' ')}{version}: {entry.policy[:12]}…{why}", not quiet
        case entries.ConfigurationUsed():
            waits = f"; a restart puts {', '.join(entry.pending)} in force" if entry.pending else ""
            why = f": {entry.why}" if entry.why else ""
            return f"configuration {entry.what.replace('_', ' ')}{why}{waits}", entry.what != "reloaded"
        case entries.SelfTested():
            failed = f"; failed: {', '.join(entry.failed)}" if entry.failed else ""
            return f"self-test: {', '.join(entry.passed) or 'nothing'} passed{failed}", bool(entry.failed)
        case entries.ClockChanged():
            return f"clock stepped by {entry.step_ms / 1000:+.3f} s ({entry.source})", bool(entry.step_ms)
        case entries.ClockTakenBack():
            return f"times before are too late by {entry.by_ms / 1000:.3f} s: the clock was not synchronised then", True
        case entries.InputFault():
            return f"input {entry.line}: {entry.fault}", True
        case entries.InputRecovered():
            return f"input {entry.line} behaves again; presses not read meanwhile: {entry.presses}", False
        case entries.Refused():
            return f"refused from {entry.what}: {entry.why}", True
        case entries.Marked():
            return "mark", False
        case entries.Declared():
            said = ", ".join(f"{name}={value}" for name, value in sorted(details.items()))
            return f"declaration{': ' if said else ''}{said}", False
        case entries.Classified():
            return f"classified{': ' + str(details['classification']) if details else ''}", False
        case entries.SpeechMeasured():
            return f"speech {'heard' if entry.heard else 'not heard'} ({entry.confidence_pct} %)", False
        case entries.KeySwitched():
            return f"supervisor's key switch {'on' if entry.on else 'off'}", False
        case entries.Docked():
            return f"docked at {entry.station}" if entry.docked else "undocked", False
        case entries.DockContact():
            return f"dock contact {'closed' if entry.closed else 'open'}", False
        case entries.RunningLow():
            return f"{entry.what} runs low: {entry.left}", True
        case entries.Strained():
            return f"{entry.what}{' is over' if entry.ended else ''}", not entry.ended
        case entries.BitRateSet():
            rate = f"{entry.bits_per_second / 1e6:g} Mbit/s" if entry.bits_per_second else "as configured"
            return f"bit rate {rate}: {entry.why}{'' if entry.taken else '; this source can not'}", False
        case entries.PowerFailing():
            return f"battery critical ({entry.left}): powered off before the power is lost", True
        case entries.StealthSet():
            return f"lights and tone {'off' if entry.on else 'on again'}", False
        case entries.SlowSync():
            return f"storage took {entry.took_ms} ms for one sync", False
        case _:
            return None


def _kinds(kinds: list[str]) -> str:
    return " and ".join({"video": "pictures", "audio": "sound"}.get(kind, kind) for kind in reversed(kinds))


def _source(track: str) -> str:
    return {"video": "camera", "audio": "microphone"}.get(track, "camera and microphone")
