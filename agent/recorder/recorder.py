"""The recorder put together: what the core commands, done with ring, writer, journal and signals.

No thread, file or clock is made here: all come in, so that tests run a whole recorder step by step.
"""

import contextlib
import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from agent import __version__
from agent.buffer.ring import Ring
from agent.clock import NS, Clocks
from agent.core import commands as do
from agent.core import events as on
from agent.core.gestures_layout import Layout
from agent.core.inputs import Inputs
from agent.core.setup import Setup
from agent.core.signals import Background, Signal
from agent.core.state import State, background
from agent.errors import EvidenceError, StorageError
from agent.evidence.closing import certify, close_unfinished
from agent.evidence.entries import (
    Continued,
    DockContact,
    Entry,
    Refused,
    SegmentRecovered,
    SelfTested,
    ShutDown,
    Tampered,
)
from agent.evidence.history import Progress
from agent.evidence.journal import Journal
from agent.evidence.layout import journal as journal_path
from agent.evidence.manifest import Ended, PreEventLength
from agent.evidence.mark import JournalMark
from agent.evidence.segment import Identity, Place
from agent.keys.authorization import check
from agent.keys.replay_guard import ReplayGuard
from agent.policy.keeper import Event as PolicyEvent
from agent.policy.request import Authorization
from agent.policy.terms import Configured, Terms, deviations
from agent.power.status import PowerStatus
from agent.recorder.boot import Owner, Prepared, prepare
from agent.recorder.clock_watch import ClockWatch
from agent.recorder.control import Control
from agent.recorder.deliveries import Deliveries
from agent.recorder.feed import Feed
from agent.recorder.keeper import Keeper
from agent.recorder.status import SelfTestStatus, Status, TrackStatus
from agent.recorder.supervisor import Supervisor
from agent.recorder.writer import (
    FirstStored,
    Job,
    RecordingClosed,
    Settings,
    StorageRefused,
    StorageTakes,
    Writer,
    WriterEvent,
    WriterFault,
)
from agent.seal.writer import RandomBytes
from agent.storage.anchored import AnchoredStorage
from agent.storage.interface import GrowingFile, Storage
from agent.strict_json import sha256_hex

MS = 1_000_000
LOW_STORAGE_S = (3600, 1800, 600, 120)
"""The wearer is warned when this many seconds of recording are left."""
WEAKER = "configuration_weaker"
MOST_STRANGE = 8
"""Names of files that are not ours, as many as are journalled."""
MOST_STUMBLES = 64
"""Kinds of mistakes that are journalled: some texts hold a number, and are new each time."""
LATE_NS = 2 * NS
"""A double press is recognised up to this long after its first contact, which is the moment it means."""


class Policy(Protocol):
    """Where a request is decided."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def digest(self) -> str:
        """SHA-256 of it."""

    @property
    def version(self) -> int:
        """Of its bundle; 0 where there is none."""

    @property
    def setup(self) -> Setup:
        """What it says once and for all."""

    @property
    def layout(self) -> Layout | None:
        """What gestures mean by it; None if it says nothing about them."""

    @property
    def terms(self) -> Terms:
        """What it demands of the device itself."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """Names of triggers that its rules know."""

    def load(self, seen_version: int) -> list[PolicyEvent]:
        """Put the newest good bundle in force, none older than one that was seen."""

    def offer(self, token: str) -> PolicyEvent:
        """Take a new bundle, or say why not."""

    def check(self) -> PolicyEvent | None:
        """The event that the bundle has expired, once."""

    def decide(self, command: do.Decide) -> on.Decided:
        """The decision. Never raises."""


class Signals(Protocol):
    """What the wearer sees, hears and feels."""

    def show(self, signal: Signal, now_ns: int) -> None:
        """Begin to show a signal."""

    def background(self, state: Background, now_ns: int) -> None:
        """What the lights say from now on while no signal is shown."""

    def stealth(self, now_ns: int, *, on: bool) -> None:
        """Lights and tone off, or on again."""

    def turn(self, now_ns: int) -> float:
        """Bring the outputs to what they should be now; seconds until the next change."""


@dataclass(frozen=True, slots=True)
class Options:
    """How this recorder works.

    Attributes:
        pre_event_ns: Length kept before a start.
        pre_event_audio: False for a silent buffer.
        max_bytes: Bound of the ring.
        classification: Recipient set.
        settings: Of the writer.
        interleave_ns: How long packets of one source wait for older ones of another; 0 for one source.
        simulated_pins: The buttons are simulated.
        triggers: Names of the trigger lines.
        configuration: SHA-256 of the configuration file; empty if there is none.
    """

    pre_event_ns: int
    pre_event_audio: bool
    max_bytes: int
    classification: str
    settings: Settings
    interleave_ns: int = 0
    simulated_pins: bool = False
    triggers: tuple[str, ...] = ()
    configuration: str = ""

    @property
    def configured(self) -> Configured:
        """What a policy may demand otherwise."""
        return Configured(self.pre_event_ns / NS, self.simulated_pins, self.classification, self.triggers)


class Recorder:
    """One boot of the recorder.

    Args:
        owner: Who this device is.
        storage: The evidence folder.
        clocks: Both clocks.
        random_bytes: Source of keys.
        frame_length: The frame length of sealed messages for a bit rate.
        policy: Decides requests.
        signals: Shows signals.
        inputs: Makes gestures of edges.
        layout: What gestures ask for.
        kernel_boot_id: The kernel's name for its boot.
        ended: Called once when the process is to end.
        listen: Has speech measured; answers with `events.SpeechMeasured`.
        guard: Lets each authorisation in once; given whether this device never ran before.
        mark: Remembers how far the journal came.
    """

    def __init__(
        self,
        *,
        owner: Owner,
        storage: Storage,
        clocks: Clocks,
        random_bytes: RandomBytes,
        frame_length: Callable[[int], int],
        options: Options,
        policy: Policy,
        signals: Signals,
        inputs: Inputs,
        layout: Layout,
        kernel_boot_id: str,
        ended: Callable[[], None],
        listen: Callable[[do.Listen], None],
        guard: Callable[[bool], ReplayGuard],
        mark: JournalMark | None = None,
    ) -> None:
        self._owner = owner
        self._storage = AnchoredStorage(storage, self._anchor)
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._options = options
        self._policy = policy
        self._signals = signals
        self._kernel_boot_id = kernel_boot_id
        self._ended = ended
        self._listen = listen
        self._make_guard = guard
        self._mark = mark
        self._guard: ReplayGuard | None = None
        self._warned: set[str] = set()
        self._started_ns = clocks.monotonic_ns()
        self._tag = random_bytes(6).hex()
        self._prepared: Prepared | None = None
        self._classifications: dict[str, str] = {}
        self._job: Job | None = None
        self._refused = 0
        self._offering = threading.Lock()
        self._clock_watch = ClockWatch(clocks)
        self._outage = threading.Lock()
        self._refusing: set[str] = set()
        self._refused_ns = 0
        self._missing: tuple[str, ...] = ()
        self._weaker = ""
        self._policy_read = False
        self._stumbles: set[str] = set()
        self._tampered = 0
        self._self_test: SelfTestStatus | None = None
        self.locked_memory = False
        self.power: Callable[[], PowerStatus] = PowerStatus
        ring = Ring(options.pre_event_ns, options.max_bytes, late_ns=LATE_NS)
        self.feed = Feed(ring, silent_pre_event=not options.pre_event_audio, interleave_ns=options.interleave_ns)
        self.keeper = Keeper(
            self._prepare,
            clocks,
            failed=partial(self._storage_said, "journal"),
            reopen=self._journal_again,
            stored=self._journal_stored,
        )
        self.writer = Writer(
            feed=self.feed,
            storage=self._storage,
            ledger=self.keeper,
            identity=self._identity,
            certificates=self._certificates,
            clocks=clocks,
            random_bytes=random_bytes,
            frame_length=frame_length,
            notify=self._written,
            settings=options.settings,
        )
        self.control = Control(clocks, State(setup=policy.setup, tag=self._tag), inputs, layout, self)
        self.supervisors: list[Supervisor] = []
        self.power_off = False
        self.deliveries = Deliveries(
            agency=owner.agency,
            device=owner.device,
            trust=owner.trust,
            clocks=clocks,
            random_bytes=random_bytes,
            put=self.control.put,
            offer_policy=self.offer_policy,
            in_force=lambda: self._policy.digest,
        )

    # -- what waits for storage ---------------------------------------------------------------------------------------

    def _prepare(self) -> tuple[Journal, GrowingFile, bytes]:
        prepared = self._prepared
        if prepared is None:
            prepared = self._prepared = prepare(
                self._storage,
                self._owner,
                self._clocks,
                self._random_bytes,
                kernel_boot_id=self._kernel_boot_id,
                tag=self._tag,
                configuration=self._options.configuration,
            )
            for progress in prepared.left.ended:
                self.writer.first(_recovery_of(progress), partial(self._recover, progress, final=True))
            self._judge_journal()
            if prepared.strange:
                named = ", ".join(prepared.strange[:MOST_STRANGE])
                self.control.put(on.Tampered(self._clocks.monotonic_ns(), "planted_files", named))
        guard = self._make_guard(prepared.boot == 1)
        lost = guard.load()
        if lost:
            self.control.put(on.Unheard(self._clocks.monotonic_ns(), "authorisation", lost))
        self._guard = guard
        running = prepared.left.running
        self._policy_changed(self._policy.load(prepared.left.carried.policy_version))
        self._policy_read = True
        self.control.put(
            on.Booted(self._clocks.monotonic_ns(), running.recording if running else "", carried=prepared.left.carried)
        )
        self.feed.ring_bell()
        return prepared.journal, prepared.file, prepared.first_line

    def _judge_journal(self) -> None:
        """Look whether the journal came as far as this device remembers."""
        try:
            wrong = self._mark.judge(self._storage) if self._mark is not None else ""
        except StorageError as error:  # asked for once; whoever lays a link in its place must not silence it
            wrong = f"the mark of how far the journal came, or that line, can't be read: {error.strerror}"
        if wrong:
            self.control.put(on.Tampered(self._clocks.monotonic_ns(), "journal_cut", wrong))

    def _journal_stored(self, number: int, head: str) -> None:
        """Remember how far the journal came. One that can't be remembered now is remembered a minute later."""
        with contextlib.suppress(StorageError):
            if self._mark is not None and self._storage.size(self._anchor()) is not None:
                self._mark.save(self._ready().boot, number, head)

    def _policy_changed(self, happened: list[PolicyEvent]) -> None:
        layout = self._policy.layout
        if layout is not None:
            self.control.put(partial(self.control.use, layout))
        for event in happened:
            change = on.PolicyChanged(
                self._clocks.monotonic_ns(),
                event.kind,
                event.version,
                self._policy.digest,
                self._policy.setup,
                event.detail,
            )
            self.control.put(change)
        self._hold_to_terms()

    def _hold_to_terms(self) -> None:
        """Do what the policy in force demands of the device, and say where its configuration falls short of that."""
        terms = self._policy.terms
        self.feed.keep(max(self._options.pre_event_ns, terms.pre_event_s * NS))
        weaker = "; ".join(deviations(self._options.configured, terms, self._policy.triggers))
        if weaker != self._weaker:
            self._weaker = weaker
            self.control.put(on.Tampered(self._clocks.monotonic_ns(), WEAKER, weaker, ended=not weaker))

    @property
    def takes_presses(self) -> bool:
        """False if the policy in force forbids to simulate buttons."""
        return self._policy.terms.simulated_pins is not False

    @property
    def _classification(self) -> str:
        """Of recordings that nobody classified."""
        return self._policy.terms.classification or self._options.classification

    def offer_policy(self, token: str) -> PolicyEvent:
        """Take a signed bundle, or say why not; from any thread but the control thread, for it waits for storage."""
        with self._offering:
            event = self._policy.offer(token)
            self._policy_changed([event])
        return event

    def authorize(self, token: str) -> str:
        """Take a supervisor's signed leave; the action that it is for.

        From any thread but the control thread, for it waits for storage: the token is used up before it takes effect.

        Raises:
            EvidenceError: It is refused; that is journalled.
        """
        now = self._clocks.monotonic_ns()
        if self._guard is None:
            raise EvidenceError("storage has not been read yet: no authorisation can be used up; try again")
        try:
            leave = check(
                token,
                trust=self._owner.trust,
                device=self._owner.device,
                recording=self.control.state.recording,
                # The journal's clock never goes back, which the guard relies on after its record was lost.
                wall=self._ready().journal.wall(),
                used=self._guard,
            )
        except EvidenceError as error:
            self.control.put(on.Unheard(now, "authorisation", str(error)))
            raise
        given = Authorization(leave.type, leave.rank, signed=True, expires_in_s=leave.remaining_ns // NS)
        who = {"authoriser": leave.authoriser, "office": leave.office, "kid": leave.kid, "jti": leave.jti}
        self.control.put(on.Authorised(now, leave.action, leave.recording, given, who))
        return leave.action

    def warn(self) -> None:
        """Warn the wearer, once for each step, when storage is running out; to be called now and then."""
        left_s = self.status().time_left_s
        if left_s is None or left_s > max(LOW_STORAGE_S):
            self._warned.clear()
            return
        step = min(limit for limit in LOW_STORAGE_S if left_s <= limit)
        if f"{step}" not in self._warned:
            self._warned.add(f"{step}")
            self.control.put(on.RunningLow(self._clocks.monotonic_ns(), "storage", f"{left_s // 60} min of recording"))

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Ask all sources for a bit rate of their pictures, 0 for their own; False if none of them can."""
        taken = [supervisor.set_bit_rate(bits_per_second) for supervisor in self.supervisors]
        return any(taken)

    def watch_clock(self) -> None:
        """Notice that the clock was set; to be called a few times a second."""
        change = self._clock_watch.look()
        if change is not None:
            self.keeper.post(change)

    def check_policy(self) -> None:
        """Notice that the bundle in force has expired; to be called now and then."""
        event = self._policy.check()
        if event is not None:
            self._policy_changed([event])

    def _anchor(self) -> str:
        """This boot's journal, beside which all else belongs; empty before there is one."""
        return journal_path(self._prepared.boot) if self._prepared is not None else ""

    def _ready(self) -> Prepared:
        if self._prepared is None:
            raise StorageError(errno.EAGAIN, "storage has not been read yet in this boot")
        return self._prepared

    def _identity(self, recording: str) -> Identity:
        # Of this very recording: the next one may have begun already, and may be for more people.
        classification = self._classifications.get(recording, self._classification)
        return self._ready().identity(classification, self._policy.digest)

    def _certificates(self) -> tuple[bytes, bytes]:
        return self._owner.certificate, self._ready().certificate

    def _recover(self, progress: Progress, *, final: bool) -> str:
        """Close what an earlier boot left open; the hash of its manifest, for the next one to name."""
        if not progress.unfinished:
            return progress.previous
        left = self._ready().left
        ended: Ended = "storage_full" if left.storage_full else "power_loss"
        certify(self._storage, progress.recording, self._ready().boot, self._certificates())
        closed = close_unfinished(
            self._storage,
            self._identity(progress.recording),
            Place(progress.recording, progress.segment, progress.previous),
            ended=ended,
            attested_bytes=progress.attested_bytes,
            recovered=True,
            final=final,
            withheld=progress.withheld,
        )
        self.keeper.post(
            SegmentRecovered(
                progress.recording,
                progress.segment,
                sha256_hex(closed.manifest),
                ended,
                progress.attested_bytes,
                closed.whole_bytes,
                closed.torn_bytes,
            )
        )
        return sha256_hex(closed.manifest)

    # -- effects of commands: the control thread ----------------------------------------------------------------------

    def carry_out(self, command: do.Command, durable: Callable[[], None]) -> on.Event | None:
        """Do what the core commands."""
        now = self._clocks.monotonic_ns()
        match command:
            case do.OpenRecording():
                return self._open(command)
            case do.CloseRecording():
                self._job = None
                self.feed.ends(command.end_ns)
                self.writer.end(command.recording, command.end_ns, command.details)
            case do.Withhold():
                self.feed.withhold(command.kinds)
                self.writer.withhold(command.recording, command.kinds, command.request, command.at_ns)
            case do.Release():
                self.feed.withhold(frozenset())
                self.writer.release(command.recording, command.request, command.at_ns)
            case do.Decide():
                decided = self._policy.decide(command)
                if not decided.allowed:
                    self._refused += 1
                    self._missing = decided.missing
                return decided
            case do.Journal():
                self._count(command.entry)
                self.keeper.post(command.entry, command.details, synced=self._synced(command, durable))
                if isinstance(command.entry, Continued):
                    self._close_continued()
            case do.Show():
                self._signals.show(command.signal, now)
            case do.Stealth():
                self._signals.stealth(now, on=command.on)
            case do.Listen():
                self._listen(command)
            case do.Reclassify():
                self._classifications[command.recording] = command.classification
                self.writer.roll(command.recording)
            case do.ShutDown():
                self.power_off = command.power_off
                self._ended()
        return None

    @staticmethod
    def _synced(command: do.Journal, durable: Callable[[], None]) -> Callable[[], None] | None:
        """Who is told once the line is durable. A dock's contact is signed at once: a station asks for the newest."""
        if command.token:
            return durable
        return (lambda: None) if isinstance(command.entry, DockContact) else None

    def _count(self, entry: Entry) -> None:
        """What status tells of the journal."""
        match entry:
            case Tampered():
                self._tampered += 1
            case DockContact():
                self.deliveries.moved()
            case SelfTested():
                self._self_test = SelfTestStatus(entry.passed, entry.failed)

    def _close_continued(self) -> None:
        """Close what a recording left open that goes on as another one, which began before storage was read."""
        progress = self._ready().left.running
        if progress is not None:
            self.writer.first(_recovery_of(progress), partial(self._recover, progress, final=False))

    def _open(self, command: do.OpenRecording) -> on.RecordingOpened:
        """Give a recording its place in the ring and have it written."""
        cursor = self.feed.start(command.at_ns)
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
        if command.cause is on.Cause.RECOVERY:
            progress = self._ready().left.running
            assert progress is not None
            self._classifications[command.recording] = self._classification_of(progress)

            job.segment, job.previous = progress.segment, progress.previous

            def resume() -> None:
                job.previous = self._recover(progress, final=False)

            self.writer.first(_recovery_of(progress), resume)
        self._job = job
        self.writer.begin(job)
        return on.RecordingOpened(
            command.at_ns, command.recording, command.cause, asked_ms, kept_ms, gap_ms, found.short
        )

    def _classification_of(self, progress: Progress) -> str:
        """What a recording that goes on was sealed as."""
        trust = self._owner.trust
        known = (name for name in trust.sets if trust.set_id(name) == progress.recipients)
        return next(known, self._classification)

    def turned(self, state: State, now_ns: int) -> float:
        """Bring the outputs up to date."""
        self._signals.background(background(state), now_ns)
        return self._signals.turn(now_ns)

    def stumbled(self, problem: str) -> None:
        """Journal an exception, each kind once: a mistake that repeats must not fill the storage."""
        if problem not in self._stumbles and len(self._stumbles) < MOST_STUMBLES:
            self._stumbles.add(problem)
            self.keeper.post(Refused("control", problem[:300]))

    # -- what the other threads tell ----------------------------------------------------------------------------------

    def _written(self, event: WriterEvent) -> None:
        match event:
            case StorageRefused():
                self._storage_said("segments", event.error)
            case StorageTakes():
                self._storage_said("segments", None)
            case WriterFault():
                self.keeper.post(Refused("writer", event.problem[:300]))
            case RecordingClosed():
                self._classifications.pop(event.recording, None)
            case FirstStored():
                return

    def _storage_said(self, part: str, error: StorageError | None) -> None:
        """One outage: from the first refusal, of the journal or of segments, until both are taken again."""
        now = self._clocks.monotonic_ns()
        with self._outage:
            before = bool(self._refusing)
            if error is not None:
                self._refusing.add(part)
            else:
                self._refusing.discard(part)
            if error is not None and not before:
                self._refused_ns = now
                self.control.put(on.StorageRefused(now, _name(error)))
            elif before and not self._refusing:
                self.control.put(on.StorageTakes(now, now - self._refused_ns))

    def _journal_again(self, offset: int) -> GrowingFile:
        """This boot's journal, opened anew after storage was gone: it holds what was synced, or it is another's."""
        path = journal_path(self._ready().boot)
        if (self._storage.size(path) or 0) < offset:
            raise StorageError(errno.ENODEV, f"expected {path} with what was synced; this is not the same storage")
        return self._storage.reopen(path)

    @property
    def storage_read(self) -> bool:
        """True once it is known whether a recording of before is to be gone on with."""
        return self._policy_read

    @property
    def standing_by(self) -> bool:
        """True once storage was read, its policy is in force, and the camera, the first source, delivers.

        A start would lose nothing then.
        """
        delivers = self.feed.packets > 0 and (not self.supervisors or self.supervisors[0].delivering)
        return self._policy_read and delivers

    # -- life ---------------------------------------------------------------------------------------------------------

    def close(self, timeout_s: float = 5.0) -> None:
        """Store what is in memory and close the journal; sources first, so that nothing more comes in."""
        for supervisor in self.supervisors:
            supervisor.close()
        self.feed.flush()
        if self.writer.close(timeout_s):
            # Else what the writer still signs would come after an end that was said to be in order.
            self.keeper.post(ShutDown())
        self.keeper.close()

    def status(self) -> Status:
        """A snapshot, from any thread."""
        now = self._clocks.monotonic_ns()
        wall = self._clocks.wall()
        state = self.control.state
        job = self._job
        try:
            free: int | None = self._storage.free_bytes()
        except StorageError:
            free = None
        tracks = {}
        for stream in self.feed.streams:
            if stream is not None:
                kind = stream.parameters.kind
                newest = self.feed.newest_ns(kind)
                tracks[str(kind)] = TrackStatus(
                    stream.parameters.codec, None if newest is None else max(0, now - newest) // MS
                )
        rate = self.feed.bytes_a_second()
        durable_line, checkpoint = self.keeper.durable
        room = None if free is None else max(0, free - self._options.settings.reserve_bytes)
        return Status(
            version=__version__,
            agency=self._owner.agency,
            device=self._owner.device,
            mode=state.mode,
            recording=state.recording,
            recording_s=(now - job.at_ns) / NS if job is not None else 0.0,
            boot=self._prepared.boot if self._prepared and self._policy_read else 0,
            boot_tag=self._tag,
            uptime_s=(now - self._started_ns) / NS,
            policy=self._policy.name,
            tracks=tracks,
            source=", ".join(supervisor.name for supervisor in self.supervisors),
            source_delivering=bool(self.supervisors) and all(s.delivering for s in self.supervisors),
            openings=sum(supervisor.generation for supervisor in self.supervisors),
            memory_bytes=self.feed.bytes,
            backlog_ms=self.feed.backlog_ns(job.cursor) // MS if job is not None else 0,
            storage_free_bytes=free,
            time_left_s=int(room / rate) if room is not None and rate else None,
            storage_failing=self.writer.failing or state.storage_failing,
            slowest_sync_ms=self.writer.slowest_sync_ns // MS,
            sync_ms=self.writer.sync_times.latency(),
            journal_line=self.keeper.number,
            clock=wall.source,
            clock_within_ms=None if wall.uncertainty_s is None else int(wall.uncertainty_s * 1000) + 1,
            faulty_lines=sorted(state.faulty_lines),
            requests=state.requests,
            refused=self._refused,
            missing=list(self._missing),
            locked_memory=self.locked_memory,
            policy_digest=self._policy.digest,
            policy_version=self._policy.version,
            dock_contact=state.contact,
            docked=state.docked(now),
            station=state.station if state.docked(now) else "",
            dock_nonce=self.deliveries.nonce(),
            durable_line=durable_line,
            checkpoint=checkpoint.jws,
            checkpoint_line=checkpoint.n,
            tampered=self._tampered,
            self_test=self._self_test,
            power=self.power(),
        )


def _recovery_of(progress: Progress) -> str:
    return f"recovery of {progress.recording}, segment {progress.segment:04d},"


def _name(error: StorageError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")
