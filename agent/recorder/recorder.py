"""The recorder: its parts, what happens once storage was read, and what other threads may call.

No thread, file or clock is created here: all are passed in, so that tests run a whole recorder step by step.
"""

from collections.abc import Callable
from functools import partial

from agent import __version__
from agent.clock import MS, NS
from agent.core.recording import events
from agent.core.recording.state import State
from agent.device_state.updater import StateUpdater, UsedTokensInState
from agent.errors import EvidenceError
from agent.evidence.segment import Identity
from agent.journal.entries import Refused, ShutDown
from agent.journal.format import Journal
from agent.media.ring import Ring
from agent.policy.request import Authorization
from agent.power.status import PowerStatus
from agent.recorder.boot import BootContext, CurrentBoot
from agent.recorder.clock_watch import ClockWatch
from agent.recorder.control import Control
from agent.recorder.effects import RecorderEffects
from agent.recorder.feed import Feed
from agent.recorder.interface import Environment
from agent.recorder.ipc.deliveries import Deliveries
from agent.recorder.ipc.status import ConfigurationStatus, DeviceStateStatus, Status, TrackStatus
from agent.recorder.policy_in_force import PolicyInForce
from agent.recorder.recipients import Classifications
from agent.recorder.service_log import ServiceLog
from agent.recorder.storage_watch import FreeSpace, StorageOutages, StorageWatch
from agent.recorder.supervisor import Supervisor
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.recovery import Recovery
from agent.recorder.writing.task import (
    FirstStored,
    RecordingBlocked,
    RecordingClosed,
    StorageFailed,
    StorageRecovered,
    WriterContext,
    WriterEvent,
    WriterFault,
)
from agent.recorder.writing.writer import Writer
from agent.storage.interface import GrowingFile
from agent.trust.authorization import check
from agent.trust.replay_guard import ReplayGuard

LOW_STORAGE_S = (3600, 1800, 600, 120)
"""The wearer is warned when storage has room for this many seconds of recording."""
LATE_NS = 2 * NS
"""A double press is recognised up to this long after its first contact, which is the moment it means."""


class Recorder:
    """One boot of the recorder.

    Attributes:
        state: Keeps the device state up to date.
        feed: Takes what sources deliver.
        journal, writer, recovery, control: Each runs in a thread of its own, or step by step.
        effects: Carries out the core's commands.
        policy: The policy in force.
        deliveries: Takes what the dock service brings.
        supervisors: Of the sources, the camera first.
        locked_memory: This process is never swapped out.
        power: Returns the state of the power supply.
        configuration: Returns the configuration in force.
        protection: Returns the row of SECURITY.md's table that this build is in.
    """

    def __init__(self, environment: Environment) -> None:
        clocks, options = environment.clocks, environment.options
        self._device = environment.device
        self._clocks = clocks
        self._options = options
        self._policy = environment.policy
        self._log = ServiceLog(environment.log)
        self._guard: ReplayGuard | None = None
        self._warned: set[int] = set()
        self._started_ns = clocks.monotonic_ns()
        self._tag = environment.random_bytes(6).hex()
        self._clock_watch = ClockWatch(clocks)
        self._policy_read = False
        self.locked_memory = False
        self.power: Callable[[], PowerStatus] = PowerStatus
        self.configuration: Callable[[], ConfigurationStatus] = ConfigurationStatus
        self.protection: Callable[[], str] = str
        self.supervisors: list[Supervisor] = []
        self.state = StateUpdater(environment.state, clocks, self._state_problem)
        self._boot = CurrentBoot(
            BootContext(
                device=environment.device,
                storage=environment.storage,
                clocks=clocks,
                random_bytes=environment.random_bytes,
                state=self.state,
                tag=self._tag,
                kernel_boot_id=environment.kernel_boot_id,
                configuration=options.configuration,
            )
        )
        self._boot.report_tampering = self._report_tampering
        self._classifications = Classifications(environment.device.trust, lambda: self.policy.classification)
        self._outages = StorageOutages(clocks, lambda event: self.control.put(event))  # noqa: PLW0108 - made below
        ring = Ring(options.pre_event_ns, options.max_bytes, late_ns=LATE_NS)
        self.feed = Feed(ring, silent_pre_event=not options.pre_event_audio, interleave_ns=options.interleave_ns)
        self.journal = JournalWriter(
            self._prepare,
            clocks,
            report=partial(self._outages.report, "journal"),
            reopen=self._boot.reopen_journal,
            appended=lambda line: self._guarded(partial(self.state.lines_appended, line)),
            stored=lambda: self._guarded(self.state.lines_stored),
            posted=self._log.entry_posted,
        )
        self.writer = Writer(
            WriterContext(
                feed=self.feed,
                storage=self._boot.storage,
                journal=self.journal,
                identity=self._identity,
                certify=self._boot.certify,
                clocks=clocks,
                random_bytes=environment.random_bytes,
                frame_length=environment.frame_length,
                notify=self._on_writer_event,
                settings=options.settings,
            )
        )
        self._storage_watch = StorageWatch(
            feed=self.feed,
            journal=self.journal,
            tasks=lambda: self.writer.tasks,
            clocks=clocks,
            report=self._outages.report,
        )
        self._free_space = FreeSpace(self._boot.storage.free_bytes)
        self.recovery = Recovery(
            boot=self._boot,
            identity=self._identity,
            journal=self.journal,
            clocks=clocks,
            may_begin=self._may_repair,
            given_up=lambda problem: self.journal.post(Refused("recovery", problem[:300])),
        )
        self.effects = RecorderEffects(
            environment,
            feed=self.feed,
            writer=self.writer,
            journal=self.journal,
            boot=self._boot,
            recovery=self.recovery,
            classifications=self._classifications,
            contact_moved=lambda: self.deliveries.contact_moved(),  # noqa: PLW0108 - made below
        )
        state = State(settings=environment.policy.settings, tag=self._tag)
        self.control = Control(clocks, state, environment.inputs, environment.layout, self.effects)
        self.policy = PolicyInForce(environment.policy, options, clocks, self.control, self.feed)
        self.deliveries = Deliveries(
            identity=environment.device,
            clocks=clocks,
            random_bytes=environment.random_bytes,
            put=self.control.put,
            offer_policy=self.policy.offer,
            in_force=lambda: environment.policy.digest,
        )

    # -- what waits for storage ---------------------------------------------------------------------------------------

    def _prepare(self) -> tuple[Journal, GrowingFile, bytes]:
        prepared = self._boot.prepared
        if prepared is None:
            prepared = self._boot.prepare()
            self._log.entry_posted(prepared.first)
            self.recovery.schedule(prepared.recovery_state.unfinished)
            for event in self._boot.tamper_events():
                self.control.put(events.Tampered(self._clocks.monotonic_ns(), event.kind, event.detail))
        guard = ReplayGuard(UsedTokensInState(self.state), fresh=self.state.fresh)
        lost = guard.load()
        if lost:
            self.control.put(events.MessageRejected(self._clocks.monotonic_ns(), "authorisation", lost))
        self._guard = guard
        running = prepared.recovery_state.running
        carried = prepared.recovery_state.carried
        self.policy.load(carried.policy_version, self.state.policy_digest, carried.passed_us * 1000)
        self._policy_read = True
        self.control.put(
            events.Booted(
                self._clocks.monotonic_ns(),
                running.recording if running else "",
                carried=prepared.recovery_state.carried,
            )
        )
        self.feed.wake_writer()
        return prepared.journal, prepared.file, prepared.first_line

    def _may_repair(self) -> bool:
        """Repair waits for the running recording, and for an interrupted one that is about to continue."""
        resuming = self._boot.ready().recovery_state.running is not None and not self.control.state.recording
        return not resuming and self.writer.has_stored

    def _report_tampering(self, kind: str, what: str) -> None:
        self.control.put(events.Tampered(self._clocks.monotonic_ns(), kind, what))

    def _identity(self, recording: str) -> Identity:
        return self._boot.ready().identity(self._classifications.of(recording), self._policy.digest)

    def _state_problem(self, kind: str, detail: str, over: bool) -> None:  # noqa: FBT001 - as `OnProblem` has it
        self.control.put(events.Tampered(self._clocks.monotonic_ns(), kind, detail, ended=over))

    def _guarded(self, work: Callable[[], None]) -> None:
        """An error in following the journal must not keep the journal from being written."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - journalled, each kind once
            self.effects.report_internal_error(f"{type(error).__name__}: {error}")

    # -- called by other threads -------------------------------------------------------------------------------------

    def authorize(self, token: str) -> str:
        """Accept a supervisor's signed authorisation; returns the action that it is for.

        From any thread but the control thread, for it waits for storage: the token is used up before it takes effect.

        Raises:
            EvidenceError: It is refused; that is journalled.
        """
        now = self._clocks.monotonic_ns()
        if self._guard is None:
            raise EvidenceError("storage has not been read yet: no authorisation can be used up; try again")
        try:
            authorisation = check(
                token,
                trust=self._device.trust,
                device=self._device.device,
                recording=self.control.state.recording,
                # The journal's clock never goes back; the guard relies on that after its record was lost.
                wall=self._boot.ready().journal.wall(),
                used=self._guard,
            )
        except EvidenceError as error:
            self.control.put(events.MessageRejected(now, "authorisation", str(error)))
            raise
        given = Authorization(
            authorisation.type, authorisation.rank, signed=True, expires_in_s=authorisation.remaining_ns // NS
        )
        who = {
            "authoriser": authorisation.authoriser,
            "office": authorisation.office,
            "kid": authorisation.kid,
            "jti": authorisation.jti,
        }
        self.control.put(events.Authorised(now, authorisation.action, authorisation.recording, given, who))
        return authorisation.action

    def warn(self) -> None:
        """Warn the wearer, once for each step, when storage runs low; to be called about once a second."""
        left_s = self.status().time_left_s
        if left_s is None or left_s > max(LOW_STORAGE_S):
            self._warned.clear()
            return
        step = min(limit for limit in LOW_STORAGE_S if left_s <= limit)
        if step not in self._warned:
            self._warned.add(step)
            self.control.put(
                events.RunningLow(self._clocks.monotonic_ns(), "storage", f"{left_s // 60} min of recording")
            )

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Set the bit rate of all sources' pictures, 0 for the configured one; False if none of them can do that."""
        changed = [supervisor.set_bit_rate(bits_per_second) for supervisor in self.supervisors]
        return any(changed)

    def watch_clock(self) -> None:
        """Detect that the wall clock was set; to be called a few times a second."""
        change = self._clock_watch.look()
        if change is not None:
            self.journal.post(change)

    def watch_storage(self) -> None:
        """Detect that storage hangs or is too slow; to be called a few times a second, by a thread without storage."""
        self._storage_watch.look()

    def _on_writer_event(self, event: WriterEvent) -> None:
        match event:
            case StorageFailed():
                self._outages.report("segments", event.error)
            case StorageRecovered():
                self._outages.report("segments", None)
            case WriterFault():
                self.journal.post(Refused("writer", event.problem[:300]))
            case RecordingBlocked():
                self.control.put(events.RecordingBlocked(self._clocks.monotonic_ns(), event.recording))
            case RecordingClosed():
                self._classifications.forget(event.recording)
            case FirstStored():
                return

    @property
    def storage_read(self) -> bool:
        """True once it is known whether a recording of an earlier boot is to be continued."""
        return self._policy_read

    @property
    def has_lost(self) -> bool:
        """True once packets of a recording were dropped from memory before they could be stored."""
        return self._storage_watch.has_lost

    @property
    def standing_by(self) -> bool:
        """True once storage was read, its policy is in force, and the camera delivers: a start would lose nothing."""
        delivers = self.feed.packets > 0 and (not self.supervisors or self.supervisors[0].delivering)
        return self._policy_read and delivers

    def close(self, timeout_s: float = 5.0) -> None:
        """Close the sources, store what is in memory, and close the journal."""
        for supervisor in self.supervisors:
            supervisor.close()
        self.feed.flush()
        repaired = self.recovery.close(timeout_s)
        if self.writer.close(timeout_s) and repaired:
            # Otherwise the writer might still sign something after the line that says the process ended in order.
            self.journal.post(ShutDown())
        self.journal.close()
        self.state.close()

    def status(self) -> Status:
        """A snapshot, from any thread."""
        now = self._clocks.monotonic_ns()
        wall = self._clocks.wall()
        state = self.control.state
        task = self.effects.task
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
        durable_line, checkpoint = self.journal.durable
        room = None if free is None else max(0, free - self._options.settings.reserve_bytes)
        return Status(
            version=__version__,
            agency=self._device.agency,
            device=self._device.device,
            mode=state.mode,
            recording=state.recording,
            recording_s=(now - task.at_ns) / NS if task is not None else 0.0,
            boot=self._boot.prepared.boot if self._boot.prepared and self._policy_read else 0,
            boot_tag=self._tag,
            uptime_s=(now - self._started_ns) / NS,
            policy=self._policy.name,
            tracks=tracks,
            source=", ".join(supervisor.name for supervisor in self.supervisors),
            source_delivering=bool(self.supervisors) and all(s.delivering for s in self.supervisors),
            openings=sum(supervisor.generation for supervisor in self.supervisors),
            memory_bytes=self.feed.bytes,
            backlog_ms=self.feed.backlog_ns(task.cursor) // MS if task is not None else 0,
            storage_free_bytes=free,
            time_left_s=int(room / rate) if room is not None and rate else None,
            storage_failing=self.writer.failing or state.storage_failing,
            slowest_sync_ms=self.writer.slowest_sync_ns // MS,
            sync_ms=self.writer.sync_times.latency(),
            journal_line=self.journal.number,
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
