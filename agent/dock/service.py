"""`bwc-agent dock`: a loop that connects the session, the recorder's files and the broker.

It sends nothing while the recorder reports that the dock's contact is open, or reports nothing: a snapshot that is
unchanged for `STALE_NS` is that of a recorder that no longer runs. The worst that this service can do is withhold.
"""

import itertools
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent import output
from agent.clock import NS, Monotonic, SystemClocks
from agent.dock.config import DockConfig, resolve, with_absolute_paths
from agent.dock.journal import JournalReader
from agent.dock.messages import MAX_ATTESTATION, Ack, Topics, decode
from agent.dock.mqtt import Connection, Received
from agent.dock.session import Cursor, Session
from agent.dock.status import StatusBuilder, read_snapshot
from agent.errors import ConfigError, EvidenceError, StorageError
from agent.storage.disk import DiskStorage, WholeFile

STALE_NS = 10 * NS
TURN_S = 0.1
MAX_PROBLEMS = 64
"""Different problems that are logged during one connection."""
_RANDOM = random.SystemRandom()


def write_to_inbox(inbox: Path, name: str, data: bytes) -> None:
    """Write a message atomically to the recorder's inbox.

    Raises:
        OSError: The inbox is missing or full, or has a message of that name.
    """
    folder = os.open(inbox, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        handle = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=folder)
        try:
            os.fchmod(handle, 0o644)  # signed, not secret; the recorder is another user
            if os.write(handle, data) != len(data):
                raise OSError(28, "the inbox is full")
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
        random_bytes: For names of connections and messages.
        log: Receives one line for each thing that happened.

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
        log: Callable[[str], None] = output.log,
    ) -> None:
        dock = config.dock
        self._topics = Topics(dock.agency, dock.device)
        run = resolve(config_file, dock.run)
        self._snapshot_path, self._inbox = run / "status.json", run / "inbox"
        self._cursor_file = WholeFile(resolve(config_file, dock.state) / "cursor.json")
        self._monotonic = monotonic or SystemClocks().monotonic_ns
        self._random_bytes = random_bytes
        self._log = output.escaping(log)
        cursor = self._load_cursor()
        self.session = Session(self._topics, cursor)
        storage = DiskStorage(resolve(config_file, dock.evidence))
        self._reader = JournalReader(storage, cursor.line, cursor.hash)
        self._status = StatusBuilder(self._topics, storage, self._reader)
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
        self._session_name = ""
        self._snapshot: dict[str, Any] = {}
        self._snapshot_ns: int | None = None
        self._connected = False
        self._policies: dict[str, bytes] = {}
        self._clock_known = False
        self._logged: set[str] = set()
        self._numbers = itertools.count(int.from_bytes(random_bytes(4), "big"))

    def _load_cursor(self) -> Cursor:
        try:
            data = self._cursor_file.load()
            return Cursor() if data is None else msgspec.json.decode(data, type=Cursor)
        except (StorageError, msgspec.MsgspecError) as error:
            self._log(f"the cursor can't be read, all events are sent again: {error}")
            return Cursor()

    def _save_cursor(self) -> None:
        try:
            self._cursor_file.save(msgspec.json.encode(self.session.cursor))
        except StorageError as error:
            self._log_once(f"the cursor can't be stored, after a restart some events are sent again: {error}")

    def _log_once(self, problem: str) -> None:
        """Log a problem, and the same one again only after the next connection: attempts are endless."""
        if problem and problem not in self._logged and len(self._logged) < MAX_PROBLEMS:
            self._logged.add(problem)
            self._log(problem)

    def run(self, ending: threading.Event) -> None:
        """Run until `ending` is set; then leave in order."""
        while not ending.is_set():
            self.turn()
            if not self.connection.connected:
                ending.wait(TURN_S)
        self._leave()

    @property
    def in_dock(self) -> bool:
        """True if the recorder reports, not longer than `STALE_NS` ago, that the dock's contact is closed."""
        fresh = self._snapshot_ns is not None and self._monotonic() - self._snapshot_ns < STALE_NS
        return fresh and bool(self._snapshot.get("dock_contact"))

    def turn(self, wait_s: float = TURN_S) -> None:
        """Run the loop once, waiting for the network for at most `wait_s`."""
        self._read_snapshot()
        if not self.in_dock:
            self._leave()
            return
        self.connection.turn(wait_s, lambda: self.session.will(self._new_session_name()))
        now = self._monotonic()
        if self.connection.connected and not self._connected:
            host, port = self.connection.place
            self._log(f"connected to {host}:{port}, MQTT {self.connection.version}")
            self._logged.clear()
            self._status.forget_confirmed()
            self.session.connected(self._session_name, now)
        self._connected = self.connection.connected
        if self.connection.problem:
            self._log_once(self.connection.problem)
        while self.connection.received:
            message = self.connection.received.popleft()
            try:
                self._receive(message, now)
            except Exception as error:  # noqa: BLE001 - no message from a network ends a device's dock service
                self._log_once(f"a message on {message.topic[:100]} was ignored: {type(error).__name__}: {error}")
        if self._connected:
            self._read_journal()
            self._publish(now)

    def _publish(self, now: int) -> None:
        lines = list(self.session.lines_to_confirm)
        try:
            status = self._status.build(self._snapshot, self._session_name, lines, now)
        except EvidenceError as error:
            self._log_once(str(error))
            return
        for publication in self.session.publications_due(status, now):
            self.connection.publish(publication)

    def _new_session_name(self) -> str:
        self._session_name = self._random_bytes(8).hex()
        return self._session_name

    def _leave(self) -> None:
        if self._connected:
            self.connection.end(self.session.farewell())
            self._save_cursor()
            self._log("left the dock")
        else:
            self.connection.end()
        self._connected = False
        self._policies.clear()

    def _read_snapshot(self) -> None:
        try:
            snapshot = read_snapshot(self._snapshot_path)
        except (OSError, EvidenceError):
            return  # it becomes stale, and then nobody is docked
        if snapshot != self._snapshot:
            self._snapshot, self._snapshot_ns = snapshot, self._monotonic()
            self._deliver_policies_again()

    def _read_journal(self) -> None:
        until = self._snapshot.get("durable_line")
        if not isinstance(until, int) or not self.session.capacity:
            return
        try:
            self.session.add_lines(list(self._reader.lines(until, self.session.capacity)))
        except StorageError as error:
            self._log_once(f"the journal can't be read: {error}")

    def _receive(self, message: Received, now: int) -> None:
        if message.dropped:
            self._log_once(f"a message of {message.size} bytes was ignored")
            return
        match message.topic:
            case self._topics.ack:
                self._acknowledge(message.payload, now)
            case self._topics.dock if message.size > MAX_ATTESTATION:
                self._log_once(
                    f"expected an attestation of at most {MAX_ATTESTATION} bytes, got {message.size}: ignored"
                )
            case self._topics.dock:
                self._deliver(message.payload)
            case self._topics.policy | self._topics.agency_policy:
                self._policies[message.topic] = message.payload
                self._deliver(message.payload)
            case topic:
                self._log_once(f"a message on {topic[:100]}, which is not subscribed to, was ignored")

    def _acknowledge(self, payload: bytes, now: int) -> None:
        try:
            moved = self.session.acknowledge(decode(payload, Ack), now)
        except EvidenceError as error:
            self._log_once(f"an acknowledgement was ignored: {error}")
            return
        if moved:
            self._save_cursor()

    def _deliver(self, message: bytes) -> None:
        try:
            write_to_inbox(self._inbox, f"{next(self._numbers):012d}.jws", message)
        except OSError as error:
            self._log_once(f"a message could not be given to the recorder: {error}")

    def _deliver_policies_again(self) -> None:
        """A camera often gets the time in its dock: deliver again what it could not check without."""
        known = self._snapshot.get("clock_within_ms") is not None
        if known and not self._clock_known:
            for policy in self._policies.values():
                self._deliver(policy)
        self._clock_known = known
