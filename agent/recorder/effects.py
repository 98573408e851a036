"""What the core's commands do to the world: ring, writer, journal, signals, policy.

All of it in the control thread; only `stumbled` may be called from any.
"""

from collections.abc import Callable

from agent.clock import Clocks
from agent.core.recording import commands, events
from agent.core.recording.state import State, background
from agent.decisions.interface import Policy
from agent.evidence.manifest import PreEventLength
from agent.journal.entries import Decided, DockContact, Entry, Refused, SelfTested, Tampered, Withheld
from agent.media.packet import Kind
from agent.recorder.boot import CurrentBoot
from agent.recorder.classifications import Classifications
from agent.recorder.feed import Feed
from agent.recorder.interface import Options, Signals
from agent.recorder.ipc.status import SelfTestStatus
from agent.recorder.writing.job import Job
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.recovery import Recovery
from agent.recorder.writing.writer import Writer

MS = 1_000_000
MOST_STUMBLES = 64
"""Kinds of mistakes that are journalled: some texts hold a number, and are new each time."""


class RecorderEffects:
    """Carries out what the core commands; `agent.recorder.control.Effects`.

    Args:
        clocks: Both clocks.
        options: How this recorder works.
        feed: Gives recordings their place in the ring.
        writer: Writes recordings.
        keeper: Keeps the journal.
        boot: Knows what the boot before left behind.
        recovery: Lets a recording go on that was interrupted.
        classifications: What recordings are sealed as.
        policy: Decides requests.
        signals: Shows signals.
        moved: Told when the dock's contact moves.
        listen: Has speech measured; answers with `events.SpeechMeasured`.
        ended: Called once when the process is to end.

    Attributes:
        job: The recording that runs; None in standby.
        refused: So many requests were refused, and `missing` is what the newest one lacked.
        declared_only: So many were granted on the wearer's word alone. `pauses`, `mutes`: so often pictures and sound,
            and sound alone, were suppressed.
        tampered: So many times somebody was at this device.
        self_test: Outcome of the newest self-test; None before there was one.
        power_off: The machine is to be powered off once the process has ended.
    """

    def __init__(
        self,
        *,
        clocks: Clocks,
        options: Options,
        feed: Feed,
        writer: Writer,
        keeper: JournalWriter,
        boot: CurrentBoot,
        recovery: Recovery,
        classifications: Classifications,
        policy: Policy,
        signals: Signals,
        moved: Callable[[], None],
        listen: Callable[[commands.MeasureSpeech], None],
        ended: Callable[[], None],
    ) -> None:
        self._clocks = clocks
        self._options = options
        self._feed = feed
        self._writer = writer
        self._keeper = keeper
        self._boot = boot
        self._recovery = recovery
        self._classifications = classifications
        self._policy = policy
        self._signals = signals
        self._moved = moved
        self._listen = listen
        self._ended = ended
        self._stumbles: set[str] = set()
        self.job: Job | None = None
        self.refused = 0
        self.declared_only = self.pauses = self.mutes = 0
        self.missing: tuple[str, ...] = ()
        self.tampered = 0
        self.self_test: SelfTestStatus | None = None
        self.power_off = False

    def carry_out(self, command: commands.Command, durable: Callable[[], None]) -> events.Event | None:
        """Do what the core commands."""
        now = self._clocks.monotonic_ns()
        match command:
            case commands.OpenRecording():
                return self._open(command)
            case commands.MoveRecording():
                self._classifications.classify(command.by, self._classifications.of(command.recording))
                self._writer.move(command.recording, command.by)
            case commands.CloseRecording():
                self.job = None
                self._feed.ends(command.end_ns)
                self._writer.end(command.recording, command.end_ns, command.details)
            case commands.Suppress():
                self._feed.withhold(command.kinds)
                self._writer.withhold(command.recording, command.kinds, command.request, command.at_ns)
            case commands.EndSuppression():
                self._feed.withhold(frozenset())
                self._writer.release(command.recording, command.request, command.at_ns)
            case commands.Decide():
                decided = self._policy.decide(command)
                if not decided.allowed:
                    self.refused += 1
                    self.missing = decided.missing
                return decided
            case commands.AppendEntry():
                self._count(command.entry)
                self._keeper.post(command.entry, command.details, synced=self._synced(command, durable))
            case commands.ShowSignal():
                self._signals.show(command.signal, now)
            case commands.SetStealth():
                self._signals.stealth(now, on=command.on)
            case commands.MeasureSpeech():
                self._listen(command)
            case commands.Reclassify():
                self._classifications.classify(command.recording, command.classification)
                self._writer.roll(command.recording)
            case commands.ShutDown():
                self.power_off = command.power_off
                self._ended()
        return None

    @staticmethod
    def _synced(command: commands.AppendEntry, durable: Callable[[], None]) -> Callable[[], None] | None:
        """Who is told once the line is durable. A dock's contact is signed at once: a station asks for the newest."""
        if command.token:
            return durable
        return (lambda: None) if isinstance(command.entry, DockContact) else None

    def _count(self, entry: Entry) -> None:
        """What status tells of the journal."""
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
                self._moved()
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
            silent=not self._options.pre_event_audio,
        )
        job = Job(command.recording, cursor, command.at_ns, length)
        if command.cause is events.Cause.RECOVERY:
            progress = self._boot.ready().left.running
            assert progress is not None
            self._classifications.classify(command.recording, self._classifications.found(progress))
            self._recovery.resume(progress, job)
        self.job = job
        self._writer.begin(job)
        return events.RecordingOpened(
            command.at_ns, command.recording, command.cause, asked_ms, kept_ms, gap_ms, found.short
        )

    def turned(self, state: State, now_ns: int) -> float:
        """Bring the outputs up to date."""
        self._signals.background(background(state), now_ns)
        return self._signals.turn(now_ns)

    def report_internal_error(self, problem: str) -> None:
        """Journal an exception, each kind once: a mistake that repeats must not fill the storage."""
        if problem not in self._stumbles and len(self._stumbles) < MOST_STUMBLES:
            self._stumbles.add(problem)
            self._keeper.post(Refused("control", problem[:300]))
