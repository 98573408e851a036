"""Carries out the core's commands on ring, writer, journal, signals and policy.

All of it runs in the control thread; only `report_internal_error` may be called from any.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from agent.clock import MS
from agent.core.recording import commands, events
from agent.core.recording.state import State, background
from agent.evidence.details import Details
from agent.evidence.manifest import PreEventLength
from agent.journal.entries import Decided, DockContact, Entry, Refused, SelfTested, Tampered, Withheld
from agent.media.packet import Kind
from agent.recorder.boot import CurrentBoot
from agent.recorder.feed import Feed
from agent.recorder.interface import Environment
from agent.recorder.ipc.status import SelfTestStatus
from agent.recorder.recipients import Classifications
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.recovery import Recovery
from agent.recorder.writing.task import RecordingTask
from agent.recorder.writing.writer import Writer

MAX_ERROR_KINDS = 64
"""Internal errors that are journalled: some texts hold a number, and are new each time."""

MAX_RECENT = 64


class RecentEntries:
    """The newest journal entries of the core, so that `bwc-agent press` can say what a simulated press led to.

    Not locked: it is written and read in the control thread.
    """

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=MAX_RECENT)
        self._count = 0

    def add(self, entry: Entry, details: Details) -> None:
        """Keep an entry and its details."""
        self._count += 1
        self._entries.append({"n": self._count, "entry": msgspec.to_builtins(entry), "details": dict(details)})

    def after(self, number: int) -> dict[str, Any]:
        """`n`, the number of the newest entry, and `entries`, those above `number`."""
        return {"n": self._count, "entries": [entry for entry in self._entries if entry["n"] > number]}


class RecorderEffects:
    """Carries out what the core commands; `agent.recorder.control.Effects`.

    Args:
        environment: Clocks, options, policy, signals and speech measurement of this recorder.
        feed: Gives recordings their place in the ring.
        writer: Writes recordings.
        journal: Writes the journal.
        boot: Knows what earlier boots left unfinished.
        recovery: Continues an interrupted recording.
        classifications: The classification of each recording.
        contact_moved: Called when the dock's contact moves.

    Attributes:
        task: The recording that runs; None in standby.
        refused: How many requests were refused; `missing` is what the newest one lacked.
        declared_only: How many were granted on the wearer's declaration alone. `pauses`, `mutes`: how many there were.
        tampered: How many tamper events there were.
        self_test: Outcome of the newest self-test; None before there was one.
        power_off: The machine is to be powered off once the process has ended.
        recent: What the core has journalled lately, with its details in clear: on a bench with simulated pins only.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        feed: Feed,
        writer: Writer,
        journal: JournalWriter,
        boot: CurrentBoot,
        recovery: Recovery,
        classifications: Classifications,
        contact_moved: Callable[[], None],
    ) -> None:
        self._environment = environment
        self._clocks = environment.clocks
        self._policy = environment.policy
        self._signals = environment.signals
        self._feed = feed
        self._writer = writer
        self._journal = journal
        self._boot = boot
        self._recovery = recovery
        self._classifications = classifications
        self._contact_moved = contact_moved
        self._errors: set[str] = set()
        self.task: RecordingTask | None = None
        self.refused = 0
        self.declared_only = self.pauses = self.mutes = 0
        self.missing: tuple[str, ...] = ()
        self.tampered = 0
        self.self_test: SelfTestStatus | None = None
        self.power_off = False
        self.recent = RecentEntries()

    def carry_out(self, command: commands.Command, durable: Callable[[], None]) -> events.Event | None:
        """Do what the core commands."""
        now = self._clocks.monotonic_ns()
        match command:
            case commands.OpenRecording():
                return self._open(command)
            case commands.MoveRecording():
                self._classifications.classify(command.by, self._classifications.of(command.recording))
                self._writer.continue_as(command.recording, command.by)
            case commands.CloseRecording():
                self.task = None
                self._feed.end_at(command.end_ns)
                self._writer.end(command.recording, command.end_ns, command.details)
            case commands.Suppress():
                self._feed.suppress(command.kinds)
                self._writer.suppress(command.recording, command.kinds, command.request, command.at_ns)
            case commands.EndSuppression():
                self._feed.suppress(frozenset())
                self._writer.end_suppression(command.recording, command.request, command.at_ns)
            case commands.Decide():
                decided = self._policy.decide(command)
                if not decided.allowed:
                    self.refused += 1
                    self.missing = decided.missing
                return decided
            case commands.AppendEntry():
                self._count(command.entry)
                if self._environment.options.simulated_pins:
                    self.recent.add(command.entry, command.details)
                self._journal.post(command.entry, command.details, synced=self._synced(command, durable))
            case commands.ShowSignal():
                self._signals.show(command.signal, now)
            case commands.SetStealth():
                self._signals.stealth(now, on=command.on)
            case commands.MeasureSpeech():
                self._environment.listen(command)
            case commands.Reclassify():
                self._classifications.classify(command.recording, command.classification)
                self._writer.roll(command.recording)
            case commands.ShutDown():
                self.power_off = command.power_off
                self._environment.end()
        return None

    @staticmethod
    def _synced(command: commands.AppendEntry, durable: Callable[[], None]) -> Callable[[], None] | None:
        """What to call once the line is durable. A dock's contact is signed at once: a station asks for the newest."""
        if command.token:
            return durable
        return (lambda: None) if isinstance(command.entry, DockContact) else None

    def _count(self, entry: Entry) -> None:
        """Count what the status reports."""
        match entry:
            case Tampered():
                self.tampered += 1
            case Decided():
                self.declared_only += entry.allowed and entry.declared_only
            case Withheld():
                pause = Kind.VIDEO in entry.kinds
                self.pauses += pause
                self.mutes += not pause
            case DockContact():
                self._contact_moved()
            case SelfTested():
                self.self_test = SelfTestStatus(entry.passed, entry.failed)

    def _open(self, command: commands.OpenRecording) -> events.RecordingOpened:
        """Give a recording its place in the ring and have it written."""
        cursor = self._feed.start(command.at_ns)
        found = cursor.pre_event
        asked_ms, kept_ms, gap_ms = (ns // MS for ns in (found.asked_ns, found.kept_ns, found.gap_ns))
        length = PreEventLength(
            asked_ms=asked_ms,
            kept_ms=kept_ms,
            excess_ms=found.excess_ns // MS,
            gap_ms=gap_ms,
            short=found.short,
            silent=not self._environment.options.pre_event_audio,
        )
        task = RecordingTask(command.recording, cursor, command.at_ns, length)
        if command.cause is events.Cause.RECOVERY:
            progress = self._boot.ready().recovery_state.running
            assert progress is not None
            self._classifications.classify(command.recording, self._classifications.found(progress))
            self._recovery.resume(progress, task)
        self.task = task
        self._writer.begin(task)
        return events.RecordingOpened(
            command.at_ns, command.recording, command.cause, asked_ms, kept_ms, gap_ms, found.short
        )

    def update_outputs(self, state: State, now_ns: int) -> float:
        """Show the state to the wearer; returns the seconds until the next call at the latest."""
        self._signals.background(background(state), now_ns)
        return self._signals.turn(now_ns)

    def report_internal_error(self, problem: str) -> None:
        """Journal an exception, each kind once: an error that repeats must not fill the storage."""
        if problem not in self._errors and len(self._errors) < MAX_ERROR_KINDS:
            self._errors.add(problem)
            self._journal.post(Refused("control", problem[:300]))
