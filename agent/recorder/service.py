"""The recorder's process: built from a configuration, it runs the threads and reports to the service manager.

Keys are read first, since without them nothing can be signed; sources are opened in threads of their own, while storage
is read.
"""

import contextlib
import errno
import os
import pwd
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import sdnotify

from agent import output
from agent.clock import NS, Clocks, SystemClocks
from agent.config.recorder import Config, resolve
from agent.core.inputs.inputs import Inputs
from agent.core.recording import events
from agent.decisions.interface import Policy
from agent.decisions.signed import SignedPolicy
from agent.decisions.unsafe import REFUSED_BY_PINS, UNSAFE_REFUSED, WARNING, UnsafeUntilSigned
from agent.device_state import store
from agent.device_state.anchor import make_anchor
from agent.device_state.protection import protection_of
from agent.device_state.store import Found, SignedStateStore
from agent.errors import ConfigError, ControlError, StorageError
from agent.evidence import layout
from agent.gpio.controls import HardwareControls
from agent.gpio.power_key import PowerKey
from agent.media.packet import Kind
from agent.monitoring.measurements import Fact
from agent.monitoring.measurer import Measurer
from agent.policy.store import BundleFiles, PolicyEventKind, PolicyStore
from agent.power.monitor import PowerMonitor
from agent.recorder.configuration import LoadedConfiguration, Origin, last_good_store
from agent.recorder.configuration_in_force import ConfigurationInForce, Observations
from agent.recorder.hardening import harden, kernel_boot_id, share_one_heap
from agent.recorder.health import Heartbeat, self_test
from agent.recorder.identity import DeviceIdentity, load_device_identity
from agent.recorder.interface import Environment, Options
from agent.recorder.ipc import inbox
from agent.recorder.ipc.flag import RecordingFlag
from agent.recorder.ipc.local_socket import LocalServer
from agent.recorder.ipc.status import write_snapshot
from agent.recorder.measuring import MeasurementReporter
from agent.recorder.recorder import Recorder
from agent.recorder.sources import INTERLEAVE_NS, sources
from agent.recorder.supervisor import Supervisor
from agent.recorder.writing.task import Settings
from agent.seal.framing import frame_length_for
from agent.storage.disk import DiskStorage, WholeFile, make_folders

HOUSEKEEPING_S = 0.1
INBOX_S = 0.5
SIGNALS_S = 0.25
SNAPSHOT_EVERY = 10
"""Rounds of the report thread between two snapshots."""
ANSWER_S = 2.0
"""How long a request waits for the control thread."""


def state_store(config: Config, config_file: Path, identity: DeviceIdentity) -> SignedStateStore:
    """The store of the device state that a configuration names.

    Raises:
        ConfigError: There is no such kind of anchor.
    """
    folder = resolve(config_file, config.device.state)
    file = WholeFile(folder / store.FILE, store.LIMIT)
    anchor = make_anchor(config.device.anchor, identity.signer)
    return SignedStateStore(file, identity.signer, identity.agency, identity.device, anchor)


class Service:
    """The running process.

    Args:
        config: What to run.
        config_file: The file that it comes from; relative paths start there.
        clocks: Both clocks.
        loaded: The same configuration, with its text and origin.

    Attributes:
        restart_reason: Digest of the configuration and why it is given up, if that is why the recorder ended; or empty.
        was_recording: A recording ran then.
    """

    def __init__(
        self,
        config: Config,
        config_file: Path,
        clocks: Clocks | None = None,
        *,
        loaded: LoadedConfiguration | None = None,
    ) -> None:
        self._clocks = clocks or SystemClocks()
        loaded = loaded or LoadedConfiguration(config, config_file)
        self.restart_reason = ""
        self.was_recording = False
        self._starts_recording = loaded.starts_recording
        self._claimed = False
        self._run_directory = resolve(config_file, config.run.directory)
        self._allowed_senders, self._unknown_user = _users(config.run.dock_user)
        self._unsafe_refused = ""
        self._ending = threading.Event()
        self._heartbeat = Heartbeat(self._clocks.monotonic_ns())
        self._reporter = MeasurementReporter()
        self._microphone = config.source.microphone is not None
        small_pictures = config.source.camera == "picamera2"
        self._measurer = Measurer(self._measured, self._clocks.monotonic_ns, decode_pictures=not small_pictures)
        share_one_heap()
        hardening = harden()
        storage_path = resolve(config_file, config.storage.path)
        with contextlib.suppress(OSError):  # a missing card is reported by the first attempt to use it
            make_folders(storage_path)
        identity = load_device_identity(config, config_file)
        storage = self._disk = DiskStorage(storage_path, group_reads=config.storage.readers == "group")
        policy = self._policy(config, identity, storage)
        named = sources(config, config_file, self._clocks.monotonic_ns, self._look)
        # Last of everything that may fail: pins that were claimed would have to be released.
        self.hardware = HardwareControls(config.controls, self._clocks)
        self._options = Options(
            pre_event_ns=round(config.buffer.pre_event_s * NS),
            pre_event_audio=config.buffer.pre_event_audio,
            max_bytes=config.buffer.max_mb << 20,
            classification=config.recording.classification,
            settings=Settings(
                segment_ns=round(config.recording.segment_s * NS), reserve_bytes=config.storage.reserve_mb << 20
            ),
            interleave_ns=INTERLEAVE_NS if len(named) > 1 else 0,
            simulated_pins=bool(config.controls.inputs) and config.controls.pin_factory == "mock",
            triggers=tuple(trigger.name for trigger in config.controls.triggers),
            configuration=loaded.digest,
        )
        environment = Environment(
            device=identity,
            storage=storage,
            clocks=self._clocks,
            random_bytes=os.urandom,
            frame_length=frame_length_for,
            options=self._options,
            policy=policy,
            signals=self.hardware,
            inputs=Inputs(self.hardware.lines, self.hardware.layout.patterns),
            layout=self.hardware.layout,
            kernel_boot_id=kernel_boot_id(),
            end=self._ending.set,
            listen=lambda prompt: self._measurer.listen(prompt.prompt_ns, prompt.prompt_ns + prompt.window_ns),
            state=state_store(config, config_file, identity),
            log=output.warn,
        )
        self.recorder = Recorder(environment)
        self.recorder.locked_memory = hardening.locked
        for one in named:
            supervisor = Supervisor(
                one.source,
                self.recorder.feed,
                self._clocks.monotonic_ns,
                self.recorder.control.put,
                tap=self._measurer.put,
                track=one.track,
            )
            self.recorder.supervisors.append(supervisor)
        self._power = PowerMonitor(
            config.power,
            self._clocks,
            self.recorder.control.put,
            self.recorder.journal.post,
            self.recorder.set_bit_rate,
        )
        self.recorder.power = lambda: self._power.status
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            self._notifier.socket.settimeout(0)  # a service manager that does not read must delay nothing
        last_good = last_good_store(resolve(config_file, config.device.state), identity)
        self._configuration = ConfigurationInForce(
            loaded, last_good, self._clocks, self.recorder.journal.post, self._apply
        )
        self.recorder.configuration = lambda: self._configuration.status
        self.recorder.protection = partial(
            protection_of, storage_path, resolve(config_file, config.device.state), config.device.anchor
        )
        self._server = LocalServer(self._run_directory, self._answer, self._connection_rejected)
        self._flag = RecordingFlag(self._run_directory)
        self._power_key: PowerKey | None = None
        if config.controls.power_key:
            key = Path(config.controls.power_key)
            self._power_key = PowerKey(key, self._clocks.monotonic_ns, self.recorder.control.put)

    def _policy(self, config: Config, identity: DeviceIdentity, storage: DiskStorage) -> Policy:
        keys = identity.trust.keys_of("policy")

        def make(seen_version: int) -> PolicyStore:
            return PolicyStore(BundleFiles(storage, layout.POLICY), keys, identity.agency, seen_version)

        buffer = config.buffer
        signed = SignedPolicy(
            make, self._clocks, pre_event_s=buffer.pre_event_s, pre_event_audio=buffer.pre_event_audio
        )
        if not config.policy.unsafe_permit_everything:
            return signed
        if config.controls.pin_factory != "mock":
            self._unsafe_refused = REFUSED_BY_PINS
            output.warn(f"bwc-agent: WARNING: {REFUSED_BY_PINS}")
            return signed
        output.warn(f"bwc-agent: WARNING: {WARNING}")
        return UnsafeUntilSigned(signed, self._signed_ever, self._report_unsafe_refused)

    def _signed_ever(self) -> bool:
        """True if a signed bundle was ever in force on this device, or if its state can't tell."""
        loaded = self.recorder.state.load()
        known = loaded.found in {Found.GOOD, Found.MISSING}
        return not known or (loaded.state is not None and loaded.state.signed_bundle_ever)

    def _report_unsafe_refused(self, why: str) -> None:
        """Report to the core and in the log that the signed policy decides all the same."""
        output.warn(f"bwc-agent: WARNING: {why}")
        self.recorder.control.put(events.Tampered(self._clocks.monotonic_ns(), UNSAFE_REFUSED, why))

    def _apply(self, config: Config) -> None:
        """Apply the values that may change while recording."""
        settings = self._options.settings
        settings.segment_ns = round(config.recording.segment_s * NS)
        settings.reserve_bytes = config.storage.reserve_mb << 20
        self._options.classification = config.recording.classification
        self._power.use(config.power)
        self._allowed_senders, unknown_user = _users(config.run.dock_user)
        self.recorder.policy.apply_terms()
        if unknown_user:
            self.recorder.control.put(
                events.MessageRejected(self._clocks.monotonic_ns(), "configuration", unknown_user)
            )

    def claim(self) -> None:
        """Claim the run directory and the evidence folder for this process, before anything else is begun.

        Raises:
            ControlError: Another recorder has them, or the run directory can't be used.
        """
        if not self._claimed:
            self._server.start()
            self._claim_evidence()
            self._claimed = True

    def discard(self) -> None:
        """Release what a recorder that is not to run has claimed."""
        self.hardware.close()
        self._server.close()
        if self._notifier.socket is not None:
            self._notifier.socket.close()

    def run(self) -> bool:
        """Run until SIGTERM, SIGINT or a granted power-off; returns once everything is stored.

        Returns:
            True if the machine is to be powered off, because such a request was granted.

        Raises:
            ControlError: Another recorder runs in this directory, or writes this evidence.
        """
        recorder = self.recorder
        self.claim()
        self._configuration.announce()
        if self._unsafe_refused:
            recorder.control.put(events.Tampered(self._clocks.monotonic_ns(), UNSAFE_REFUSED, self._unsafe_refused))
        if self._unknown_user:
            recorder.control.put(
                events.MessageRejected(self._clocks.monotonic_ns(), "configuration", self._unknown_user)
            )
        threads = [
            threading.Thread(target=self._housekeeping, name="housekeeping", daemon=True),
            threading.Thread(target=self._report, name="report", daemon=True),
            threading.Thread(target=self._read_inbox, name="inbox", daemon=True),
            threading.Thread(target=recorder.control.run, name="control", daemon=True),
        ]
        self._measurer.start()
        self._power.start()
        recorder.state.start()
        recorder.journal.start()
        recorder.writer.start()
        recorder.recovery.start()
        for thread in threads:
            thread.start()
        self.hardware.open(recorder.control.put)
        if self._power_key is not None:
            self._power_key.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(
                number,
                lambda _number, _frame: recorder.control.put(events.TerminationRequested(self._clocks.monotonic_ns())),
            )
        # SIGHUP must not end a recording when a terminal goes away.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Python handles signals in this thread, and only while it runs: a signal that the kernel delivers to another
        # thread does not wake it.
        while not self._ending.wait(SIGNALS_S):
            continue
        if not self.restart_reason:  # otherwise the service manager would wait for an end that does not come
            self._notifier.notify("STOPPING=1")
        self._measurer.close()
        self._power.close()
        recorder.close()
        recorder.control.stop()
        self.hardware.close()
        self._server.close()
        self._try(self._show_recording)
        return recorder.effects.power_off

    def _claim_evidence(self) -> None:
        """Lock the evidence folder: two recorders that write one journal would contradict each other."""
        try:
            self._disk.claim()
        except StorageError as error:
            if error.errno == errno.EWOULDBLOCK:
                self._server.close()
                raise ControlError(
                    errno.EWOULDBLOCK,
                    f"another recorder writes to {self._disk.root}; end it, or name another folder in [storage] path",
                ) from error
            # Otherwise it does not exist yet, or its file system has no locks: that keeps no camera from recording.

    def _read_inbox(self) -> None:
        """Check what the dock service delivered; in a thread of its own, for a bundle waits for storage."""
        folder: Path | None = None
        stuck: set[str] = set()
        while not self._ending.wait(INBOX_S):
            try:
                folder = folder or inbox.make_folder(self._run_directory)
            except OSError:
                continue  # there is no inbox, and so no message
            for message in inbox.take(folder, self._allowed_senders, stuck):
                self._try(partial(self.recorder.deliveries.deliver, message))

    def _housekeeping(self) -> None:
        """What must run whatever storage does: nothing here waits for it, or a dead card would look like a hang."""
        recorder = self.recorder
        while not self._ending.wait(HOUSEKEEPING_S):
            for supervisor in recorder.supervisors:
                self._try(supervisor.watch)
            self._try(recorder.watch_clock)
            self._try(recorder.watch_storage)
            self._try(self._beat)
            self._try(self._show_recording)

    def _beat(self) -> None:
        recorder, now = self.recorder, self._clocks.monotonic_ns()
        for message in self._heartbeat.beat(now, turns=recorder.control.turns, standing_by=recorder.standing_by):
            self._notifier.notify(message)

    def _show_recording(self) -> None:
        recording = bool(self.recorder.control.state.recording)
        if recording or self.recorder.storage_read:  # before that it is unknown whether one is to be continued
            self._flag.show(up=recording)

    def _report(self) -> None:
        """What queries storage, and may have to wait for it."""
        recorder = self.recorder
        dock = (False, False)
        tested, count = False, 0
        while not self._ending.wait(HOUSEKEEPING_S):
            now = self._clocks.monotonic_ns()
            count += 1
            state = recorder.control.state
            moved = (state.contact, state.docked(now)) != dock
            dock = (state.contact, state.docked(now))
            if count % SNAPSHOT_EVERY == 0:
                self._try(recorder.policy.check)
                self._try(recorder.warn)
                self._try(self._evaluate_configuration)
                if self._heartbeat.ready and not tested:
                    tested = True
                    self._try(self._run_self_test)
                    self._try(self._log_ready)
            if moved or count % SNAPSHOT_EVERY == 0:  # at once when the dock's contact moves: the session must end
                self._try(self._snapshot)

    def _try(self, work: Callable[[], object]) -> None:
        """An error in one task must not end the thread that reopens cameras and answers the watchdog."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - journalled, each kind once
            self.recorder.effects.report_internal_error(f"{type(error).__name__}: {error}")

    def _evaluate_configuration(self) -> None:
        """Save a configuration that works; end in order, to restart, if another one would work better."""
        recorder = self.recorder
        recording = bool(recorder.control.state.recording)
        if self._starts_recording and (recorder.storage_read or self._heartbeat.ready):
            self._starts_recording = False
            recorder.control.put(events.StartRequested(self._clocks.monotonic_ns(), events.Cause.CONFIGURATION))
        why = self._configuration.evaluate(
            Observations(
                recorder.standing_by, recorder.feed.packets > 0, recorder.storage_read, recording, recorder.has_lost
            )
        )
        if why and not self._ending.is_set():
            self.was_recording = recording
            self.restart_reason = f"{self._configuration.status.digest} {why}"
            recorder.control.put(events.TerminationRequested(self._clocks.monotonic_ns()))

    def _run_self_test(self) -> None:
        status = self.recorder.status()
        now = self._clocks.monotonic_ns()
        self.recorder.control.put(self_test(status, now, microphone=self._microphone or "audio" in status.tracks))

    def _log_ready(self) -> None:
        """Log that the recorder is ready, with its camera and evidence folder."""
        status = self.recorder.status()
        camera = f"{status.source} {'delivers' if status.source_delivering else 'DELIVERS NOTHING'}"
        camera += "; UNSAFE POLICY: everything is permitted" if status.policy_unsafe else ""
        line = f"bwc-agent: ready in {status.mode}, boot {status.boot}; {camera}; evidence in {self._disk.root}"
        if status.configuration.origin != Origin.FILE:
            line += f"; configuration: {status.configuration.origin}"
        output.warn(line)

    def _snapshot(self) -> None:
        with contextlib.suppress(OSError):  # the old snapshot stays, and shows its age
            write_snapshot(self._run_directory, self.recorder.status())

    def _look(self, luma: memoryview, width: int, height: int, at_ns: int, stride: int) -> None:
        """Measure a small picture of the camera, unless pictures are suppressed.

        In the camera's thread: an error in measuring must not make the camera be reopened.
        """
        if self.recorder.feed.accepts(Kind.VIDEO):
            self._try(partial(self._measurer.look, luma, width, height, at_ns, stride=stride))

    def _measured(self, fact: Fact) -> None:
        for event in self._reporter.events(fact, self._clocks.monotonic_ns()):
            self.recorder.control.put(event)

    def _connection_rejected(self, why: str) -> None:
        self.recorder.control.put(events.MessageRejected(self._clocks.monotonic_ns(), "socket", why))

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer a request over the local socket. No request stops a recording."""
        import msgspec

        control = self.recorder.control
        now = self._clocks.monotonic_ns()
        match request:
            case {"ask": "start"}:
                control.put(events.StartRequested(now, events.Cause.SOCKET))
                return control.call(lambda: {"recording": control.state.recording}).result(ANSWER_S)
            case {"ask": "mark"}:
                control.put(events.MarkRequested(now))
                return control.call(lambda: {"recording": control.state.recording}).result(ANSWER_S)
            case {"ask": "reload"}:
                try:
                    return self._configuration.reload()
                except ConfigError as error:
                    raise ControlError(errno.EINVAL, str(error)) from error
            case {"ask": "status"}:
                return dict(msgspec.to_builtins(self.recorder.status()))
            case {"ask": "authorize", "token": str(token)}:
                return {"action": self.recorder.authorize(token)}
            case {"ask": "policy", "token": str(token)}:
                event = self.recorder.policy.offer(token)
                if event.kind is PolicyEventKind.REFUSED:
                    raise ControlError(errno.EPERM, f"refused: {event.detail}")
                return {"version": event.version, "policy": self.recorder.status().policy}
            case {"ask": "recent", "after": int(after)}:
                if not self.recorder.policy.allows_simulated_presses:
                    raise ControlError(errno.EPERM, "only a recorder with simulated buttons tells what it journals")
                return control.call(lambda: self.recorder.effects.recent.after(after)).result(ANSWER_S)
            case {"ask": "press", "name": str(name), "hold_s": (int() | float()) as hold_s, "times": int(times)}:
                if not self.recorder.policy.allows_simulated_presses:
                    raise ControlError(errno.EPERM, "the signed policy forbids simulated buttons on this device")
                return {"presses": self.hardware.press(name, float(hold_s), times)}
            case _:
                raise ControlError(
                    errno.EINVAL,
                    "expected start, mark, status, reload, policy, authorize, press or recent; "
                    "nothing else is done here",
                )


def _users(dock_user: str) -> tuple[frozenset[int], str]:
    """The users whose messages in the inbox are read, and what is wrong with the configured one; empty for nothing."""
    own = {0, os.geteuid()}
    if not dock_user:
        return frozenset(own), ""
    try:
        return frozenset({*own, pwd.getpwnam(dock_user).pw_uid}), ""
    except KeyError:
        # No reason not to record: messages of the dock service may be missing at any time.
        return frozenset(
            own
        ), f"expected a user of this machine as [run] dock_user, got {dock_user!r}: no user's messages are read"
