"""The recorder put together: its parts, what is done once storage was read, and what other threads ask of it.

No thread, file or clock is made here: all come in, so that tests run a whole recorder step by step.
"""

from collections.abc import Callable
from functools import partial

from agent import __version__
from agent.clock import NS, Clocks
from agent.core.inputs.inputs import Inputs
from agent.core.recording import commands, events
from agent.core.recording.state import State
from agent.decisions.interface import Policy
from agent.device_state.store import StateStore
from agent.device_state.updater import StateUpdater
from agent.device_state.used import UsedTokensInState
from agent.domain.layout import Layout
from agent.errors import EvidenceError
from agent.evidence.details import Details
from agent.evidence.segment import Identity
from agent.journal.entries import Entry, Refused, ShutDown
from agent.journal.format import Journal
from agent.media.ring import Ring
from agent.policy.request import Authorization
from agent.power.status import PowerStatus
from agent.recorder.boot import CurrentBoot, DeviceIdentity
from agent.recorder.classifications import Classifications
from agent.recorder.clock_watch import ClockWatch
from agent.recorder.control import Control
from agent.recorder.effects import MS, RecorderEffects
from agent.recorder.feed import Feed
from agent.recorder.free_space import FreeSpace
from agent.recorder.interface import Options, Signals
from agent.recorder.ipc.deliveries import Deliveries
from agent.recorder.ipc.status import ConfigurationStatus, DeviceStateStatus, Status, TrackStatus
from agent.recorder.policy_in_force import PolicyInForce
from agent.recorder.service_log import PREFIX, log_line
from agent.recorder.storage_watch import StorageWatch
from agent.recorder.supervisor import Supervisor
from agent.recorder.writing.job import (
    FirstStored,
    RecordingBlocked,
    RecordingClosed,
    StorageFailed,
    StorageRecovered,
    WriterEvent,
    WriterFault,
)
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.outages import Outages
from agent.recorder.writing.recovery import Recovery
from agent.recorder.writing.writer import Writer
from agent.seal.writer import RandomBytes
from agent.storage.interface import GrowingFile, Storage
from agent.trust.authorization import check
from agent.trust.replay_guard import ReplayGuard

LOW_STORAGE_S = (3600, 1800, 600, 120)
"""The wearer is warned when this many seconds of recording are left."""
LATE_NS = 2 * NS
"""A double press is recognised up to this long after its first contact, which is the moment it means."""


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
        state: Where the device keeps what it must not forget; outside of the card.
        log: Takes a line for the service's log; must not block.

    Attributes:
        state: Keeps that up to date.
        feed: Takes what sources deliver.
        keeper, writer, recovery, control: Work in a thread of their own each, or step by step.
        effects: What the core's commands did.
        policy: The policy in force.
        deliveries: Takes what the dock service brings.
        supervisors: Of the sources, the camera first.
        locked_memory: This process is never swapped out.
        power: What is known of the power supply.
        configuration: What is known of the configuration in force.
        protection: The row of SECURITY.md's table that this build is in.
    """

    def __init__(
        self,
        *,
        owner: DeviceIdentity,
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
        listen: Callable[[commands.MeasureSpeech], None],
        state: StateStore,
        log: Callable[[str], None],
    ) -> None:
        self._owner = owner
        self._clocks = clocks
        self._options = options
        self._policy = policy
        self._log = log
        self._guard: ReplayGuard | None = None
        self._warned: set[str] = set()
        self._started_ns = clocks.monotonic_ns()
        self._tag = random_bytes(6).hex()
        self._clock_watch = ClockWatch(clocks)
        self._policy_read = False
        self.locked_memory = False
        self.power: Callable[[], PowerStatus] = PowerStatus
        self.configuration: Callable[[], ConfigurationStatus] = ConfigurationStatus
        self.protection: Callable[[], str] = str
        self.state = StateUpdater(state, clocks, self._state_trouble)
        self._boot = CurrentBoot(
            owner=owner,
            storage=storage,
            clocks=clocks,
            random_bytes=random_bytes,
            kernel_boot_id=kernel_boot_id,
            tag=self._tag,
            configuration=options.configuration,
            state=self.state,
        )
        self._classifications = Classifications(owner.trust, lambda: self.policy.classification)
        self._outages = Outages(clocks, lambda event: self.control.put(event))  # noqa: PLW0108 - control is made last
        ring = Ring(options.pre_event_ns, options.max_bytes, late_ns=LATE_NS)
        self.feed = Feed(ring, silent_pre_event=not options.pre_event_audio, interleave_ns=options.interleave_ns)
        self.keeper = JournalWriter(
            self._prepare,
            clocks,
            failed=partial(self._outages.said, "journal"),
            reopen=self._boot.journal_again,
            made=lambda line: self._observed(partial(self.state.made, line)),
            stored=lambda: self._observed(self.state.stored),
            posted=self._log_entry,
        )
        self.writer = Writer(
            feed=self.feed,
            storage=self._boot.storage,
            ledger=self.keeper,
            identity=self._identity,
            certify=self._boot.certify,
            clocks=clocks,
            random_bytes=random_bytes,
            frame_length=frame_length,
            notify=self._written,
            settings=options.settings,
        )
        self._storage_watch = StorageWatch(
            feed=self.feed,
            keeper=self.keeper,
            jobs=lambda: self.writer.jobs,
            clocks=clocks,
            said=self._outages.said,
        )
        self._free_space = FreeSpace(self._boot.storage.free_bytes)
        self.recovery = Recovery(
            boot=self._boot,
            identity=self._identity,
            ledger=self.keeper,
            clocks=clocks,
            may_begin=self._may_repair,
            given_up=lambda problem: self.keeper.post(Refused("recovery", problem[:300])),
        )
        self._boot.suspect = self._suspect
        self.effects = RecorderEffects(
            clocks=clocks,
            options=options,
            feed=self.feed,
            writer=self.writer,
            keeper=self.keeper,
            boot=self._boot,
            recovery=self.recovery,
            classifications=self._classifications,
            policy=policy,
            signals=signals,
            moved=lambda: self.deliveries.moved(),  # noqa: PLW0108 - they are made below, for they tell control
            listen=listen,
            ended=ended,
        )
        self.control = Control(clocks, State(setup=policy.setup, tag=self._tag), inputs, layout, self.effects)
        self.policy = PolicyInForce(policy, options, clocks, self.control, self.feed)
        self.supervisors: list[Supervisor] = []
        self.deliveries = Deliveries(
            agency=owner.agency,
            device=owner.device,
            trust=owner.trust,
            clocks=clocks,
            random_bytes=random_bytes,
            put=self.control.put,
            offer_policy=self.policy.offer,
            in_force=lambda: policy.digest,
        )

    # -- what waits for storage ---------------------------------------------------------------------------------------

    def _prepare(self) -> tuple[Journal, GrowingFile, bytes]:
        prepared = self._boot.prepared
        if prepared is None:
            prepared = self._boot.prepare()
            self._log_entry(prepared.first, None)
            self.recovery.schedule(prepared.left.unfinished)
            for event in self._boot.suspicions():
                self.control.put(events.Tampered(self._clocks.monotonic_ns(), event.kind, event.detail))
        guard = ReplayGuard(UsedTokensInState(self.state), fresh=self.state.fresh)
        lost = guard.load()
        if lost:
            self.control.put(events.MessageRejected(self._clocks.monotonic_ns(), "authorisation", lost))
        self._guard = guard
        running = prepared.left.running
        carried = prepared.left.carried
        self.policy.load(carried.policy_version, self.state.policy_digest, carried.passed_us * 1000)
        self._policy_read = True
        self.control.put(
            events.Booted(
                self._clocks.monotonic_ns(), running.recording if running else "", carried=prepared.left.carried
            )
        )
        self.feed.wake_writer()
        return prepared.journal, prepared.file, prepared.first_line

    def _may_repair(self) -> bool:
        """Repair comes after what is recorded now, also where the interrupted recording is only about to go on."""
        resuming = self._boot.ready().left.running is not None and not self.control.state.recording
        return not resuming and self.writer.storing

    def _suspect(self, kind: str, what: str) -> None:
        self.control.put(events.Tampered(self._clocks.monotonic_ns(), kind, what))

    def _identity(self, recording: str) -> Identity:
        return self._boot.ready().identity(self._classifications.of(recording), self._policy.digest)

    def _state_trouble(self, kind: str, detail: str, over: bool) -> None:  # noqa: FBT001 - as `updater.Told` has it
        self.control.put(events.Tampered(self._clocks.monotonic_ns(), kind, detail, ended=over))

    def _observed(self, work: Callable[[], None]) -> None:
        """A mistake in following the journal must not keep the journal from being written."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - journalled, once each
            self.effects.report_internal_error(f"{type(error).__name__}: {error}")

    def _log_entry(self, entry: Entry, details: Details | None) -> None:
        try:
            line = log_line(entry, details)
        except Exception as error:  # noqa: BLE001 - a mistake in wording must not keep an entry from the journal
            line = f"{PREFIX}{type(entry).__name__} could not be described: {type(error).__name__}"
        if line is not None:
            self._log(line)

    # -- what other threads ask and tell ------------------------------------------------------------------------------

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
                wall=self._boot.ready().journal.wall(),
                used=self._guard,
            )
        except EvidenceError as error:
            self.control.put(events.MessageRejected(now, "authorisation", str(error)))
            raise
        given = Authorization(leave.type, leave.rank, signed=True, expires_in_s=leave.remaining_ns // NS)
        who = {"authoriser": leave.authoriser, "office": leave.office, "kid": leave.kid, "jti": leave.jti}
        self.control.put(events.Authorised(now, leave.action, leave.recording, given, who))
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
            self.control.put(
                events.RunningLow(self._clocks.monotonic_ns(), "storage", f"{left_s // 60} min of recording")
            )

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Ask all sources for a bit rate of their pictures, 0 for their own; False if none of them can."""
        taken = [supervisor.set_bit_rate(bits_per_second) for supervisor in self.supervisors]
        return any(taken)

    def watch_clock(self) -> None:
        """Notice that the clock was set; to be called a few times a second."""
        change = self._clock_watch.look()
        if change is not None:
            self.keeper.post(change)

    def watch_storage(self) -> None:
        """Notice that storage hangs or falls behind; to be called a few times a second, by no thread that uses it."""
        self._storage_watch.look()

    def _written(self, event: WriterEvent) -> None:
        match event:
            case StorageFailed():
                self._outages.said("segments", event.error)
            case StorageRecovered():
                self._outages.said("segments", None)
            case WriterFault():
                self.keeper.post(Refused("writer", event.problem[:300]))
            case RecordingBlocked():
                self.control.put(events.RecordingBlocked(self._clocks.monotonic_ns(), event.recording))
            case RecordingClosed():
                self._classifications.forget(event.recording)
            case FirstStored():
                return

    @property
    def storage_read(self) -> bool:
        """True once it is known whether a recording of before is to be gone on with."""
        return self._policy_read

    @property
    def has_lost(self) -> bool:
        """True once something of a recording fell out of memory before it could be stored."""
        return self._storage_watch.has_lost

    @property
    def standing_by(self) -> bool:
        """True once storage was read, its policy is in force, and the camera, the first source, delivers.

        A start would lose nothing then.
        """
        delivers = self.feed.packets > 0 and (not self.supervisors or self.supervisors[0].delivering)
        return self._policy_read and delivers

    def close(self, timeout_s: float = 5.0) -> None:
        """Store what is in memory and close the journal; sources first, so that nothing more comes in."""
        for supervisor in self.supervisors:
            supervisor.close()
        self.feed.flush()
        repaired = self.recovery.close(timeout_s)
        if self.writer.close(timeout_s) and repaired:
            # Else what the writer still signs would come after an end that was said to be in order.
            self.keeper.post(ShutDown())
        self.keeper.close()
        self.state.close()

    def status(self) -> Status:
        """A snapshot, from any thread."""
        now = self._clocks.monotonic_ns()
        wall = self._clocks.wall()
        state = self.control.state
        job = self.effects.job
        free = self._free_space.bytes()
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
            boot=self._boot.prepared.boot if self._boot.prepared and self._policy_read else 0,
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
            refused=self.effects.refused,
            declared_only=self.effects.declared_only,
            pauses=self.effects.pauses,
            mutes=self.effects.mutes,
            missing=list(self.effects.missing),
            locked_memory=self.locked_memory,
            policy_digest=self._policy.digest,
            policy_version=self._policy.version,
            policy_unsafe=self._policy.unsafe,
            dock_contact=state.contact,
            docked=state.docked(now),
            station=state.station if state.docked(now) else "",
            dock_nonce=self.deliveries.nonce(),
            durable_line=durable_line,
            checkpoint=checkpoint.jws,
            checkpoint_line=checkpoint.n,
            tampered=self.effects.tampered,
            self_test=self.effects.self_test,
            power=self.power(),
            configuration=self.configuration(),
            device_state=self._state_status(),
        )

    def _state_status(self) -> DeviceStateStatus:
        kept = self.state.status
        prepared = self._boot.prepared
        return DeviceStateStatus(
            protection=self.protection(),
            found=kept.found,
            events=list(dict.fromkeys(event.kind for event in prepared.takeover.events)) if prepared else [],
            anchor=kept.anchor,
            anchor_problem=kept.anchor_problem,
            problem=kept.problem,
            counter=kept.counter,
            saves=kept.saves,
            slowest_save_ms=kept.slowest_ns // MS,
        )
