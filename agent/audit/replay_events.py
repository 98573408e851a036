"""From journal lines back to the core's inputs: for each line that begins something, the event that led to it.

Not every event leaves a line, and only those that leave one can change what follows. A tick, and a line's becoming
durable, are item by what they led to.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from agent.clock import NS, US
from agent.core.recording import events
from agent.core.recording.situation import SPOOF_NS
from agent.core.recording.state import State
from agent.core.recording.suppression import KINDS
from agent.domain.policy_settings import PolicySettings
from agent.errors import EvidenceError
from agent.journal import entries
from agent.journal.format import Line
from agent.policy.request import Authorization, Fact
from agent.policy.schema import ATTRIBUTES, Kind, Provenance

_START = "start by "
Lines = deque["CoreInput"]
NO_ANSWER = "the policy did not answer"


@dataclass(frozen=True, slots=True)
class CoreInput:
    """A line with its details opened."""

    line: Line
    details: Mapping[str, Any]

    @property
    def entry(self) -> entries.AnyEntry:
        """What it says."""
        return self.line.entry


def from_the_core(entry: entries.Entry) -> bool:
    """True of lines that only the core writes; others are about storage, or about what never reached it."""
    return not isinstance(
        entry,
        entries.Boot
        | entries.Checkpoint
        | entries.SegmentOpened
        | entries.SegmentClosed
        | entries.SegmentRecovered
        | entries.PacketsLost
        | entries.SlowSync
        | entries.Strained
        | entries.BitRateSet
        | entries.ConfigurationUsed
        | entries.ClockChanged
        | entries.ClockTakenBack
        | entries.Refused
        | entries.ShutDown,
    )


def leading_to(lines: Lines, state: State, boot: entries.Boot) -> events.Event | None:
    """The event that led to the first of these lines; None if no event leads to it.

    Args:
        lines: Those that are left, only of the core's.
        state: What the core knows.
        boot: The boot line, for what was carried over.

    Raises:
        EvidenceError: Details are missing, or not of the form that they should have.
    """
    item = lines[0]
    try:
        return _leading_to(item, lines, state, boot)
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.MsgspecError) as error:
        raise EvidenceError(f"line {item.line.n}: its details are not what they should be: {error!r:.200}") from error


def _leading_to(item: CoreInput, lines: Lines, state: State, boot: entries.Boot) -> events.Event | None:
    match item.entry:
        case entries.RecordingStarted(cause="recovery") as entry if state.recording:
            return events.RecordingBlocked(entry.at_us * US, state.recording)
        case entries.RecordingStarted(cause="recovery") as entry:
            return events.Booted(entry.at_us * US, entry.recording, boot.carried)
        case entries.RecordingStarted() as entry:
            return events.StartRequested(entry.at_us * US, events.Cause(entry.cause))
        case entries.StandbyEntered() | entries.StorageRead() as entry:
            return events.Booted(entry.at_us * US, "", boot.carried)
        case entries.Continued() as entry:
            return events.Booted(entry.at_us * US, entry.recording, boot.carried)
        case entries.Marked() as entry:
            return events.MarkRequested(entry.at_us * US)
        case entries.StealthSet():
            return events.StealthRequested(state.now_ns)
        case entries.Interrupted():
            return events.TerminationRequested(state.now_ns)
        case entries.PowerFailing() as entry:
            return events.PowerFailing(entry.at_us * US, entry.left)
        case entries.PolicyChanged() as entry:
            settings = msgspec.convert(item.details["setup"], PolicySettings)
            return events.PolicyChanged(entry.at_us * US, entry.what, entry.version, entry.policy, settings, entry.why)
        case (
            entries.Requested()
            | entries.Decided()
            | entries.Voided()
            | entries.PostRollBegan()
            | entries.PoweringOff()
            | entries.StopTakenBack()
            | entries.RecordingEnded()
            | entries.Withheld()
            | entries.Released()
        ):
            return _of_a_request(item, lines, state)
        case _:
            return _of_the_situation(item, lines, state)


def _of_a_request(item: CoreInput, lines: Lines, state: State) -> events.Event | None:
    match item.entry:
        case entries.Requested(again=again) as entry if again:
            principal = events.Principal(item.details["principal"])
            return events.ActionRequested(entry.at_us * US, events.Action(entry.action), principal)
        case entries.Decided() as entry:
            if not entry.policy and item.details.get("error") == NO_ANSWER:
                return events.Tick(entry.at_us * US)
            return decided(item)
        case entries.Voided() as entry:
            at_ns = entry.at_us * US
            if entry.why == "late":
                return events.Tick(at_ns)
            return _start(at_ns, entry.why) or events.Durable(at_ns, entry.request)
        case entries.PostRollBegan() as entry:
            return events.Durable(entry.until_us * US - state.settings.limits.post_roll_s * NS, entry.request)
        case entries.PoweringOff() as entry:
            return events.Durable(entry.at_us * US, entry.request)
        case entries.Withheld() as entry:
            return events.Durable(entry.from_us * US, entry.request)
        case entries.StopTakenBack() as entry:
            return _start(entry.at_us * US, str(item.details.get("why", "")))
        case entries.RecordingEnded() as entry:
            at_ns = entry.at_us * US
            rolling = state.post_roll
            due = rolling is not None and rolling.request == entry.request
            return events.Tick(at_ns) if due else events.Durable(at_ns, entry.request)
        case entries.Released() as entry:
            return _released(entry, lines, state)
        case _:
            return None


def _start(at_ns: int, why: str) -> events.Event | None:
    """A start, if that is why; a trigger's has a line of its own before."""
    if not why.startswith(_START):
        return None
    return events.StartRequested(at_ns, events.Cause(why.removeprefix(_START)))


def _released(entry: entries.Released, lines: Lines, state: State) -> events.Event | None:
    at_ns = entry.to_us * US
    if entry.why == "limit":
        return events.Tick(at_ns)
    if entry.why in {"replaced", "stop"}:
        granted = (entries.Withheld, entries.PostRollBegan, entries.RecordingEnded)
        following = next((item.entry.request for item in lines if isinstance(item.entry, granted)), None)
        # Where the journal ends here, it is the grant that has waited longest: lines become durable in order.
        withholds = entry.why == "replaced"
        waiting = (n for n, asked in state.pending.items() if (asked.requested.action in KINDS) == withholds)
        number = following if following is not None else min(waiting, default=None)
        return None if number is None else events.Durable(at_ns, number)
    return _start(at_ns, entry.why)


def decided(item: CoreInput) -> events.Decided:
    """The policy's answer as its line has it."""
    entry, details = item.entry, item.details
    assert isinstance(entry, entries.Decided)
    return events.Decided(
        at_ns=entry.at_us * US,
        request=entry.request,
        allowed=entry.allowed,
        policy=entry.policy,
        rules=tuple(details.get("rules", ())),
        obligations=tuple(details.get("obligations", ())),
        missing=tuple(details.get("missing", ())),
        declared_only=entry.declared_only,
        error=str(details.get("error", "")),
        unknown=tuple(details.get("unknown", ())),
    )


def _of_the_situation(item: CoreInput, lines: Lines, state: State) -> events.Event | None:
    details = item.details
    match item.entry:
        case entries.TriggerRaised() as entry:
            return events.TriggerActivated(entry.at_us * US, entry.name)
        case entries.TriggerLevel() as entry:
            return events.TriggerLevel(entry.at_us * US, entry.name, entry.raised)
        case entries.Declared() as entry:
            return events.Declared(entry.at_us * US, {name: _value(name, value) for name, value in details.items()})
        case entries.Measured() as entry:
            facts = {
                name: Fact(_value(name, said["value"]), Provenance(said["provenance"]))
                for name, said in details.items()
            }
            return events.Measured(entry.at_us * US, facts)
        case entries.SpeechMeasured() as entry:
            return events.SpeechMeasured(entry.at_us * US, state.prompted_ns, entry.heard, entry.confidence_pct / 100)
        case entries.Authorised() as entry:
            leave = msgspec.convert(details["authorization"], Authorization)
            return events.Authorised(entry.at_us * US, entry.action, str(details["recording"]), leave, details["who"])
        case entries.Classified() as entry:
            return events.Classified(entry.at_us * US, str(details["classification"]))
        case entries.KeySwitched() as entry:
            return events.KeySwitched(entry.at_us * US, entry.on)
        case entries.DockContact() as entry:
            return events.DockContact(entry.at_us * US, entry.closed)
        case entries.Docked(docked=True) as entry:
            return attested(entry.at_us * US, entry.station, islice(lines, 1, None))
        case entries.Docked() as entry:
            return events.Tick(entry.at_us * US)
        case _:
            return _of_what_happened(item, state)


def attested(at_ns: int, station: str, lines: Iterable[CoreInput]) -> events.Attested:
    """An attestation. Those that only renew one leave no line: this one ends when the journal says that it did."""
    until_ns = at_ns + SPOOF_NS
    for item in lines:
        if isinstance(item.entry, entries.DockContact):
            break  # it ended because the contact opened, not by itself
        if isinstance(item.entry, entries.Docked):
            until_ns = min(until_ns, item.entry.at_us * US)
            break
    return events.Attested(at_ns, until_ns, station)


def _of_what_happened(item: CoreInput, state: State) -> events.Event | None:
    match item.entry:
        case entries.Tampered(what="dock_without_station") as entry if not item.details:
            return events.Tick(entry.at_us * US)
        case entries.Tampered() as entry:
            return events.Tampered(entry.at_us * US, entry.what, str(item.details.get("detail", "")), entry.ended)
        case entries.SourceFailed() as entry:
            return events.SourceFailed(entry.at_us * US, entry.track, entry.problem)
        case entries.SourceGap() as entry:
            return events.SourceRecovered(entry.to_us * US, entry.track, entry.from_us * US)
        case entries.StorageFailed() as entry:
            return events.StorageFailed(entry.at_us * US, entry.problem)
        case entries.StorageBack() as entry:
            return events.StorageRecovered(state.now_ns, entry.outage_ms * 1_000_000)
        case entries.InputFault() as entry:
            return events.LineFaulty(state.now_ns, entry.line, entry.fault)
        case entries.InputRecovered() as entry:
            return events.LineRecovered(state.now_ns, entry.line, entry.presses)
        case entries.RunningLow() as entry:
            return events.RunningLow(entry.at_us * US, entry.what, entry.left)
        case entries.SelfTested() as entry:
            failed = {name: str(item.details.get(name, "")) for name in entry.failed}
            return events.SelfTested(state.now_ns, tuple(entry.passed), failed)
        case _:
            return None


def _value(name: str, value: object) -> object:
    """A value as the core has it: sets are frozen."""
    attribute = ATTRIBUTES.get(name)
    if attribute is not None and attribute.kind is Kind.SET and isinstance(value, list):
        return frozenset(map(str, value))
    return value
