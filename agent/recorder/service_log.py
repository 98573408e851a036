"""The service's log: one plain line for what an operator has to know, in the words of docs/device.md.

The rules, in order:
1. A line is made of the public part of a journal entry, which names no person, reason, place or declaration. Of the
   sealed details only two are added, and only to a refusal: the ids of the policy rules that refuse it, and which
   procedure is missing (`speak`, `capture`, `authorise`, `give_reason`). The status shows the latter too.
2. Entries that are written continually (segments, checkpoints) or describe a situation (declarations, measurements,
   classifications, marks) are not logged: they are in the journal.
3. Entries are logged when they are posted, before storage has taken them: a card that hangs shows in the log.

`agent.output` escapes the lines and ensures that logging never blocks the recorder.
"""

from collections.abc import Callable, Mapping

from agent.journal import entries
from agent.journal.entries import Entry

PREFIX = "bwc-agent: "
INTERNAL = frozenset({"control", "journal", "recovery", "writer"})
"""What `Refused.what` names where something failed in the recorder itself, and no message came from outside."""
UNLOGGED: tuple[type[Entry], ...] = (
    entries.Checkpoint,
    entries.SegmentOpened,
    entries.SegmentClosed,
    entries.Requested,
    entries.TriggerLevel,
    entries.Declared,
    entries.Measured,
    entries.SpeechMeasured,
    entries.Classified,
    entries.StealthSet,
    entries.DockContact,
    entries.BitRateSet,
    entries.Marked,
    entries.SlowSync,
    entries.ClockTakenBack,
)
"""Kinds without a line (rule 2)."""


class ServiceLog:
    """Writes the lines of journal entries.

    Args:
        write: Takes a line; must not block.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def entry_posted(self, entry: Entry, details: Mapping[str, object] | None = None) -> None:
        """Write the entry's line, if it has one. Never raises."""
        try:
            line = log_line(entry, details)
        except Exception as error:  # noqa: BLE001 - an error in wording must not keep an entry from the journal
            line = f"{PREFIX}{type(entry).__name__} could not be described: {type(error).__name__}"
        if line is not None:
            self._write(line)


def log_line(entry: Entry, details: Mapping[str, object] | None = None) -> str | None:
    """The log's line for a journal entry; None if it has none.

    Args:
        entry: What is journalled.
        details: Its sealed details, of which only a refusal's rules and what it lacks are used.
    """
    text = _text(entry, details or {})
    return None if text is None else PREFIX + text


def _text(entry: Entry, details: Mapping[str, object]) -> str | None:
    for describe in (_recording, _decision, _device):
        text = describe(entry, details)
        if text is not None:
            return text
    return None


def _recording(entry: Entry, _details: Mapping[str, object]) -> str | None:
    match entry:
        case entries.RecordingStarted(cause="recovery"):
            return f"recording {entry.recording} continues after an interruption"
        case entries.RecordingStarted():
            kept = f"{entry.pre_event_kept_ms / 1000:.1f} s from before it are kept"
            return f"recording {entry.recording} started by {entry.cause}; {kept}"
        case entries.RecordingEnded():
            alone = ", on the wearer's declaration alone" if entry.declared_only else ""
            return f"recording {entry.recording} stopped by request {entry.request}{alone}"
        case entries.Continued():
            return f"recording {entry.recording} continues as {entry.by}"
        case entries.Interrupted():
            return f"recording {entry.recording} interrupted: the process ends; it continues after the next start"
        case entries.SegmentRecovered():
            return f"recording {entry.recording}: segment {entry.segment:04d} of an earlier boot closed"
        case entries.PacketsLost():
            return (
                f"recording {entry.recording}: {entry.packets} packets lost, memory was full before storage took them"
            )
        case entries.StandbyEntered():
            return "standby: nothing is stored"
    return None


def _decision(entry: Entry, details: Mapping[str, object]) -> str | None:
    match entry:
        case entries.Decided(allowed=True):
            alone = ", on the wearer's declaration alone" if entry.declared_only else ""
            return f"request {entry.request}: {entry.action} granted{alone}"
        case entries.Decided():
            return f"request {entry.request}: {entry.action} refused by {_refusal(details)}"
        case entries.Voided():
            return f"request {entry.request}: void ({entry.why})"
        case entries.PostRollBegan():
            return f"request {entry.request}: stop pending, it can still be cancelled"
        case entries.StopTakenBack():
            return f"request {entry.request}: stop cancelled, the recording continues"
        case entries.PoweringOff():
            return f"request {entry.request}: powering off"
        case entries.Withheld():
            what = "pause" if "video" in entry.kinds else "mute"
            limit_s = (entry.until_us - entry.from_us) / 1e6
            return f"request {entry.request}: {what} of {entry.recording} began, {limit_s:.0f} s at most"
        case entries.Released():
            what = "pause" if "video" in entry.kinds else "mute"
            return f"request {entry.request}: {what} of {entry.recording} ended ({entry.why})"
        case entries.Authorised():
            late = ", too late: its recording had ended" if entry.too_late else ""
            return f"signed authorisation for {entry.action} accepted{late}"
        case entries.PolicyChanged():
            why = f": {entry.why}" if entry.why else ""
            return f"policy: {entry.what}, version {entry.version}, {entry.policy[:12] or 'none'}{why}"
    return None


def _refusal(details: Mapping[str, object]) -> str:
    rules = _words(details.get("rules")) or "default, no rule permits it"
    missing = _words(details.get("missing"))
    return f"{rules}; missing: {missing}" if missing else rules


def _words(value: object) -> str:
    return ", ".join(str(word) for word in value) if isinstance(value, list | tuple) else ""


def _device(entry: Entry, _details: Mapping[str, object]) -> str | None:
    match entry:
        case entries.Boot():
            dark = "" if entry.dark_ms is None else f", {entry.dark_ms / 1000:.1f} s after the last journal line"
            return f"boot {entry.boot}: version {entry.version}{dark}"
        case entries.StorageRead():
            return "storage read; a recording runs already"
        case entries.SelfTested():
            failed = ", ".join(entry.failed)
            return f"self-test: failed: {failed}" if failed else "self-test: passed"
        case entries.ConfigurationUsed():
            why = f": {entry.why}" if entry.why else ""
            pending = f"; after a restart: {', '.join(entry.pending)}" if entry.pending else ""
            return f"configuration: {entry.what}{why}{pending}"
        case entries.StorageFailed():
            return f"storage failed: {entry.problem}; recording continues in memory"
        case entries.StorageBack():
            return f"storage recovered after {entry.outage_ms / 1000:.1f} s"
        case entries.SourceFailed():
            return f"{entry.track} failed: {entry.problem}"
        case entries.SourceGap():
            return f"{entry.track} recovered after {(entry.to_us - entry.from_us) / 1e6:.1f} s"
        case entries.InputFault():
            return f"input {entry.line} faulty: {entry.fault}"
        case entries.InputRecovered():
            return f"input {entry.line} recovered, {entry.presses} presses were ignored"
        case entries.TriggerRaised():
            return f"trigger {entry.name}"
        case entries.KeySwitched():
            return f"supervisor's key switch {'on' if entry.on else 'off'}"
        case entries.Docked():
            return f"docked, attested by {entry.station}" if entry.docked else "undocked"
        case entries.Tampered():
            return f"tamper: {entry.what} ended" if entry.ended else f"tamper: {entry.what}"
        case entries.RunningLow():
            return f"{entry.what} low: {entry.left}"
        case entries.PowerFailing():
            return f"battery critical ({entry.left}): powering off"
        case entries.Strained():
            return f"board: {entry.what} {'ended' if entry.ended else 'began'}"
        case entries.ClockChanged():
            bound = "unsynchronised" if entry.uncertainty_ms is None else f"within {entry.uncertainty_ms} ms"
            return f"wall clock changed by {entry.step_ms} ms, now {entry.source}, {bound}"
        case entries.Refused() if entry.what in INTERNAL:
            return f"error in {entry.what}: {entry.why}"
        case entries.Refused():
            return f"{entry.what} refused: {entry.why}"
        case entries.ShutDown():
            return "recorder ended in order"
    return None
