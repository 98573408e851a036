"""`bwc-agent dock`: one loop round the session, with files on one side and the connection on the other.

It is silent while the recorder says that the dock's contact is open, or says nothing: a snapshot that does not change
for `STALE_NS` is that of a recorder that is gone. Nothing here can do more than withhold.
"""

import contextlib
import itertools
import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent import output
from agent.clock import NS, Monotonic, SystemClocks
from agent.dock import journal
from agent.dock.config import DockConfig, resolve, with_absolute_paths
from agent.dock.evidence import held, temperature_c
from agent.dock.messages import (
    MAX_ATTESTATION,
    Ack,
    Checkpoint,
    Clock,
    Confirmed,
    Evidence,
    Policy,
    SelfTest,
    SinceDock,
    Status,
    Storage,
    Topics,
    decode,
)
from agent.dock.mqtt import Connection, Received
from agent.dock.session import Cursor, Session
from agent.encoding.strict_json import strict_json
from agent.errors import ConfigError, EvidenceError, StorageError
from agent.storage.disk import DiskStorage, WholeFile

STALE_NS = 10 * NS
TURN_S = 0.1
EVIDENCE_NS = 60 * NS
MAX_SNAPSHOT = 1 << 16
MAX_PROBLEMS = 64
_RANDOM = random.SystemRandom()


def read_snapshot(path: Path) -> dict[str, Any]:
    """The recorder's snapshot.

    Raises:
        OSError: It is not there.
        EvidenceError: It is no snapshot.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EvidenceError(f"expected a regular file at {path}")
        return strict_json(os.read(handle, MAX_SNAPSHOT))
    finally:
        os.close(handle)


def write_to_inbox(inbox: Path, name: str, data: bytes) -> None:
    """Lay a message into the recorder's inbox, whole or not at all.

    Raises:
        OSError: The inbox is not there, or full, or a message of that name is.
    """
    folder = os.open(inbox, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        handle = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=folder)
        try:
            os.fchmod(handle, 0o644)  # signed, not secret; the recorder is another user
            if os.write(handle, data) != len(data):
                raise OSError(28, "the inbox takes no more")
            os.link(f"/proc/self/fd/{handle}", name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(handle)
    finally:
        os.close(folder)


class DockService:
    """The running service.

    Args:
        config: Its configuration.
        config_file: Where it came from; relative paths start there.
        monotonic: The clock.
        uniform: A random number between two.
        random_bytes: Names of connections.
        say: Told what happened, in a line.

    Raises:
        ConfigError: A certificate is missing, malformed or another device's.
    """

    def __init__(
        self,
        config: DockConfig,
        config_file: Path,
        *,
        monotonic: Monotonic | None = None,
        uniform: Callable[[float, float], float] = _RANDOM.uniform,
        random_bytes: Callable[[int], bytes] = os.urandom,
        say: Callable[[str], None] = output.log,
    ) -> None:
        dock = config.dock
        self._topics = Topics(dock.agency, dock.device)
        run = resolve(config_file, dock.run)
        self._snapshot_path, self._inbox = run / "status.json", run / "inbox"
        self._storage = DiskStorage(resolve(config_file, dock.evidence))
        self._file = WholeFile(resolve(config_file, dock.state) / "cursor.json")
        self._monotonic = monotonic or SystemClocks().monotonic_ns
        self._random_bytes = random_bytes
        self._say = output.escaping(say)
        cursor = self._load()
        self.session = Session(self._topics, cursor)
        self._reader = journal.JournalReader(self._storage, cursor.line, cursor.hash)
        topics = self._topics
        self.connection = Connection(
            with_absolute_paths(config_file, config.broker),
            (topics.ack, topics.dock, topics.policy, topics.agency_policy),
            self._monotonic,
            uniform,
        )
        if self.connection.name != dock.device:
            raise ConfigError(
                f"expected a certificate of device {dock.device}, got one of {self.connection.name}: the broker would "
                "take this device for the other one"
            )
        self._name = ""
        self._snapshot: dict[str, Any] = {}
        self._fresh_ns: int | None = None
        self._up = False
        self._bundles: dict[str, bytes] = {}
        self._clock_known = False
        self._problems: set[str] = set()
        self._evidence: tuple[int, Evidence] | None = None
        self._certificates = (0, "", "")
        self._confirmed: dict[int, str | None] = {}
        self._numbers = itertools.count(int.from_bytes(random_bytes(4), "big"))

    def _load(self) -> Cursor:
        try:
            data = self._file.load()
            return Cursor() if data is None else msgspec.json.decode(data, type=Cursor)
        except (StorageError, msgspec.MsgspecError) as error:
            self._say(f"the cursor can't be read, all is told again: {error}")
            return Cursor()

    def _keep(self) -> None:
        try:
            self._file.save(msgspec.json.encode(self.session.cursor))
        except StorageError as error:
            self._note(f"the cursor can't be kept, after a restart some is told again: {error}")

    def _note(self, problem: str) -> None:
        """Say what is wrong; the same again only after a connection was made, for attempts go on and on."""
        if problem and problem not in self._problems and len(self._problems) < MAX_PROBLEMS:
            self._problems.add(problem)
            self._say(problem)

    def run(self, ending: threading.Event) -> None:
        """Run until told to end; then leave in order."""
        while not ending.is_set():
            self.turn()
            if not self.connection.connected:
                ending.wait(TURN_S)
        self._leave()

    @property
    def in_dock(self) -> bool:
        """The recorder says, and said so a short while ago, that the dock's contact is closed."""
        fresh = self._fresh_ns is not None and self._monotonic() - self._fresh_ns < STALE_NS
        return fresh and bool(self._snapshot.get("dock_contact"))

    def turn(self, wait_s: float = TURN_S) -> None:
        """Look at everything once, and wait for the network for at most so long."""
        self._look()
        if not self.in_dock:
            self._leave()
            return
        self.connection.turn(wait_s, lambda: self.session.will(self._begin()))
        now = self._monotonic()
        if self.connection.connected and not self._up:
            host, port = self.connection.place
            self._say(f"connected to {host}:{port}, MQTT {self.connection.version}")
            self._problems.clear()
            self._confirmed.clear()  # by now it may be another card
            self.session.connected(self._name, now)
        self._up = self.connection.connected
        if self.connection.problem:
            self._note(self.connection.problem)
        while self.connection.received:
            message = self.connection.received.popleft()
            try:
                self._receive(message, now)
            except Exception as error:  # noqa: BLE001 - no message from a network ends a device's dock service
                self._note(f"a message on {message.topic[:100]} was passed over: {type(error).__name__}: {error}")
        if self._up:
            self._read()
            with contextlib.suppress(EvidenceError):
                for publication in self.session.say(self._status(now), now):
                    self.connection.publish(publication)

    def _begin(self) -> str:
        self._name = self._random_bytes(8).hex()
        return self._name

    def _leave(self) -> None:
        if self._up:
            self.connection.end(self.session.farewell())
            self._keep()
            self._say("left the dock")
        else:
            self.connection.end()
        self._up = False
        self._bundles.clear()

    def _look(self) -> None:
        try:
            snapshot = read_snapshot(self._snapshot_path)
        except (OSError, EvidenceError):
            return  # it becomes stale, and then nobody is docked
        if snapshot != self._snapshot:
            self._snapshot, self._fresh_ns = snapshot, self._monotonic()
            self._give_again()

    def _read(self) -> None:
        until = self._snapshot.get("durable_line")
        if not isinstance(until, int) or not self.session.room:
            return
        try:
            self.session.take(list(self._reader.lines(until, self.session.room)))
        except StorageError as error:
            self._note(f"the journal can't be read: {error}")

    def _receive(self, message: Received, now: int) -> None:
        if message.dropped:
            self._note(f"a message of {message.size} bytes was passed over")
            return
        if message.topic == self._topics.dock and message.size > MAX_ATTESTATION:
            self._note(f"expected an attestation of at most {MAX_ATTESTATION} bytes, got {message.size}: passed over")
            return
        if message.topic == self._topics.ack:
            try:
                moved = self.session.acknowledged(decode(message.payload, Ack), now)
            except EvidenceError as error:
                self._note(f"an acknowledgement was passed over: {error}")
                return
            if moved:
                self._keep()
            return
        if message.topic not in {self._topics.dock, self._topics.policy, self._topics.agency_policy}:
            self._note(f"a message on {message.topic[:100]}, which nobody asked for, was passed over")
            return
        if message.topic != self._topics.dock:
            self._bundles[message.topic] = message.payload
        self._give(message.payload)

    def _give(self, message: bytes) -> None:
        try:
            write_to_inbox(self._inbox, f"{next(self._numbers):012d}.jws", message)
        except OSError as error:
            self._note(f"a message could not be given to the recorder: {error}")

    def _give_again(self) -> None:
        """A camera often gets the time in its dock: what it could not judge without, it is given once more."""
        known = self._snapshot.get("clock_within_ms") is not None
        if known and not self._clock_known:
            for bundle in self._bundles.values():
                self._give(bundle)
        self._clock_known = known

    def _confirm(self) -> list[Confirmed]:
        asked = self.session.asked
        with contextlib.suppress(StorageError):
            self._confirmed = {
                line: self._confirmed[line] if line in self._confirmed else self._reader.hash_of(line) for line in asked
            }
        return [Confirmed(line=line, hash=digest) for line, digest in self._confirmed.items()]

    def _checkpoint(self, snapshot: dict[str, Any]) -> Checkpoint | None:
        boot = snapshot.get("boot", 0)
        if boot != self._certificates[0]:
            with contextlib.suppress(StorageError):
                own = journal.device_certificate(self._storage)
                of_boot = self._reader.boot_certificate(boot)
                if own and of_boot:
                    self._certificates = (boot, own, of_boot)
        if boot != self._certificates[0] or not snapshot.get("checkpoint"):
            return None
        return Checkpoint(
            line=snapshot["checkpoint_line"],
            jws=snapshot["checkpoint"],
            device_certificate=self._certificates[1],
            boot_certificate=self._certificates[2],
        )

    def _status(self, now: int) -> Status:
        """The snapshot as a station sees it.

        Raises:
            EvidenceError: It is no snapshot of a recorder of this version.
        """
        if self._evidence is None or now - self._evidence[0] >= EVIDENCE_NS:
            self._evidence = (now, held(self._storage))
        told = self._snapshot
        try:
            test = told["self_test"]
            status = Status(
                agency=self._topics.agency,
                device=self._topics.device,
                session=self._name,
                version=told["version"],
                mode=told["mode"],
                contact=told["dock_contact"],
                docked=told["docked"],
                nonce=told["dock_nonce"],
                policy=Policy(
                    name=told["policy"],
                    version=told["policy_version"],
                    digest=told["policy_digest"],
                    unsafe=told["policy_unsafe"],
                ),
                clock=Clock(source=told["clock"], within_ms=told["clock_within_ms"]),
                storage=Storage(
                    free_bytes=told["storage_free_bytes"],
                    time_left_s=told["time_left_s"],
                    failing=told["storage_failing"],
                ),
                evidence=self._evidence[1],
                since_dock=SinceDock(refused=0, tampered=0),
                self_test=None if test is None else SelfTest(passed=test["passed"], failed=test["failed"]),
                checkpoint=self._checkpoint(told),
                confirms=self._confirm(),
                battery_pct=battery_pct(told),
                temperature_c=temperature_c() if (celsius := _measured(told, "celsius")) is None else celsius,
                uptime_s=int(told["uptime_s"]),
                boots=told["boot"],
            )
            return msgspec.convert(msgspec.to_builtins(status), Status)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            self._note(f"the recorder's snapshot is not one of this version: {error}")
            raise EvidenceError(f"expected a snapshot of this version: {error}") from error


def _measured(snapshot: dict[str, Any], name: str) -> float | None:
    """What the recorder measures of battery and board, by its name in `power`; None where it does not."""
    power = snapshot.get("power")
    value = power.get(name) if isinstance(power, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def battery_pct(snapshot: dict[str, Any]) -> int | None:
    """How full the battery is, in per cent; None where nothing measures it."""
    percent = _measured(snapshot, "battery_percent")
    return None if percent is None else min(100, max(0, round(percent)))
