"""Keeps the device state up to date: follows the journal's lines, and saves the state that results.

The rules, in order:
1. Restrictions (latch, triggers, limits, policy) are taken over as soon as their line is appended, so that none is lost
   while a card refuses. The high-water mark and the recordings follow what is on storage: the state never claims what
   the card may lack.
2. What a boot found stands in its first line. Until that line is on storage the state stays as it was; otherwise a
   power cut in between would hide it. Rule 1 begins after that line.
3. A change is saved within `SAVE_NS`, by a thread of its own, and at most once in that time; callers never wait. One
   exception: used authorisations are on storage before `save_used` returns.
4. A state that can't be read is not replaced until it could be read: it may hold restrictions. Then the stricter of
   both counts.
5. A failed save is reported, tried again every `SAVE_NS`, and stops nothing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from agent import output
from agent.clock import NS, Clocks
from agent.device_state.record import MAX_RECORDINGS, DeviceState, HighWaterMark, Running, with_carried
from agent.device_state.store import Found, Loaded, StateStore
from agent.errors import EvidenceError, StorageError
from agent.journal import entries
from agent.journal.format import Line, parse_line, split_lines
from agent.journal.persisted_state import PersistedStateBuilder
from agent.journal.reader import claimed_checkpoint
from agent.trust.records import TimeRecord
from agent.trust.replay_guard import UsedTokens

SAVE_NS = NS
"""A change is saved within this time, and no more than once in it."""
QUIET_NS = 60 * NS
"""A problem that recurs is reported again after this time at the earliest."""
NOT_KEPT = "state_not_kept"
ANCHOR_FAILING = "anchor_failing"

OnProblem = Callable[[str, str, bool], None]
"""Takes a problem: its kind, a description, and whether it is over."""


@dataclass(frozen=True, slots=True)
class UpdaterStatus:
    """How well the state is kept.

    Attributes:
        found: In which condition it was found at this boot.
        anchor: Name of the anchor, which detects a roll-back of the state.
        problem: Why it can't be saved now; empty if it can.
        anchor_problem: What is wrong with the anchor; empty if nothing.
        counter: Of the newest save.
        saves: How many in this boot; `slowest_ns` is the longest of them.
    """

    found: Found
    anchor: str
    problem: str
    anchor_problem: str
    counter: int
    saves: int
    slowest_ns: int


class StateUpdater:
    """Keeps one device's state. For several threads.

    Args:
        store: Where it is kept.
        clocks: For the time of saves.
        on_problem: Takes problems, in whatever thread finds them.
    """

    def __init__(
        self, store: StateStore, clocks: Clocks, on_problem: OnProblem = lambda _kind, _detail, _over: None
    ) -> None:
        self._store = store
        self._clocks = clocks
        self._on_problem = on_problem
        self._loaded: Loaded | None = None
        self._kept: DeviceState | None = None
        self._next: DeviceState | None = None
        self._recordings: tuple[str, ...] = ()
        self._running: Running | None = None
        self._line: Line | None = None
        self._persisted: PersistedStateBuilder | None = None
        self._used: UsedTokens | None = None
        self._policy = (0, "")
        self._fresh = False
        self._unread: DeviceState | None = None
        self._dirty = False
        self._problem = ""
        self._reported_ns: dict[str, int] = {}
        self._reported: set[str] = set()
        self._saved_ns: int | None = None
        self._saves = self._slowest_ns = self._counter = 0
        self._lock = threading.RLock()
        self._saving = threading.Lock()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    # -- at boot ------------------------------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """The state as it was found; read once, and again while it can't be read."""
        known = self._loaded
        if known is not None and known.found is not Found.UNREADABLE:
            return known
        loaded = self._store.load()  # outside of the lock, for which the journal's thread must not wait
        with self._lock:
            if self._loaded is None or self._loaded.found is Found.UNREADABLE:
                self._loaded = loaded
                self._counter = loaded.state.counter if loaded.state is not None else 0
                if self._persisted is None:
                    self._kept = loaded.state
                else:
                    self._unread = loaded.state  # rule 4: this boot has begun without it
            return self._loaded

    def load_current(self) -> Loaded:
        """As `load`, with the authorisations that were used since."""
        loaded = self.load()
        with self._lock:
            if self._used is None or loaded.state is None:
                return loaded
            return Loaded(loaded.found, msgspec.structs.replace(loaded.state, used=self._used))

    def begin(self, state: DeviceState, *, fresh: bool = False) -> None:
        """Set the state that holds once this boot's first line is on storage; `lines_appended` begins with that line.

        Args:
            state: The result of the comparison with the card.
            fresh: This device never ran before.
        """
        with self._lock:
            self._next = state
            self._fresh = fresh
            self._recordings, self._running = state.recordings, state.running
            self._policy = (state.policy_version, state.policy_digest)
            self._persisted = PersistedStateBuilder()
            self._line = None

    # -- following the journal ----------------------------------------------------------------------------------------

    def lines_appended(self, data: bytes) -> None:
        """Take whole lines of this boot's journal, in their order, when they are made."""
        with self._lock:
            for raw in split_lines(data)[0]:
                self._follow(parse_line(raw))
            self._dirty = self._dirty or self._line is not None

    def _follow(self, line: Line) -> None:
        assert self._persisted is not None, "begun before"
        self._persisted.attested(line)
        self._line = line
        match line.entry:
            case entries.RecordingStarted() as entry if entry.cause != "recovery":
                self._running = Running(entry.recording)
            case entries.Continued() as entry if self._running is None or self._running.recording != entry.by:
                self._running = Running(entry.by)
            case entries.RecordingEnded():
                self._running = None
            case entries.SegmentOpened() as entry:
                self._on_card(entry.recording, entry.segment, 0)
            case entries.Checkpoint() as entry:
                self._attested(entry)
            case entries.PolicyChanged() as entry if entry.what == "policy_in_force" and entry.version:
                self._policy = max(self._policy, (entry.version, entry.policy), key=lambda known: known[0])
            case _:
                return

    def _attested(self, entry: entries.Checkpoint) -> None:
        payload = claimed_checkpoint(entry)
        if payload is not None and payload.recording:
            self._on_card(payload.recording, payload.segment, payload.bytes)

    def _on_card(self, recording: str, segment: int, attested: int) -> None:
        if recording not in self._recordings:
            self._recordings = (*self._recordings, recording)[-MAX_RECORDINGS:]
        if self._running is not None and self._running.recording == recording:
            self._running = Running(recording, segment, attested)

    def lines_stored(self) -> None:
        """All appended lines are on storage."""
        with self._lock:
            line, state = self._line, self._next or self._kept
            if line is None or state is None:
                return
            self._kept = msgspec.structs.replace(
                state,
                mark=HighWaterMark(state.boot, line.n, line.hash),
                time=TimeRecord.of(line.wall),
                running=self._running,
                recordings=self._recordings,
            )
            self._next = None
            self._dirty = True
        with self._changed:
            self._changed.notify_all()

    # -- saving -------------------------------------------------------------------------------------------------------

    def save_used(self, used: UsedTokens) -> None:
        """Save which authorisations were used up; they are on storage on return.

        Raises:
            StorageError: They may or may not have been saved.
        """
        with self._saving:
            with self._lock:
                good = self._loaded is not None and self._loaded.found is Found.GOOD
                if self._next is not None and not good and not self._fresh:
                    raise StorageError(0, "what was found of the device state is not in the journal yet")  # rule 2
                before, self._used = self._used, used
            try:
                self._save()
            except StorageError:
                with self._lock:
                    self._used = before
                    self._dirty = True
                raise

    def _snapshot(self) -> DeviceState:
        """The state to be saved now: what is on storage, and the restrictions that are not there yet."""
        with self._lock:
            state = self._kept or DeviceState("none", "none")
            self._dirty = False
            if self._used is not None:
                state = msgspec.structs.replace(state, used=self._used)
            if self._persisted is None or self._next is not None:
                return state
            version, digest = self._policy
            if version >= state.policy_version and digest:
                state = msgspec.structs.replace(
                    state, policy_version=version, policy_digest=digest, signed_bundle_ever=True
                )
            state = with_carried(state, self._persisted.carried)
            return state if self._unread is None else _stricter(state, self._unread)

    def _save(self) -> None:
        """Save the state. The caller holds the lock for saving, so that no older state replaces a newer one.

        Raises:
            StorageError: It may or may not have been saved.
        """
        began = self._clocks.monotonic_ns()
        self._saved_ns = began
        self._merge_unread()
        try:
            kept = self._store.save(self._snapshot())
        except EvidenceError as error:
            raise StorageError(0, f"the device state can't be encoded: {error}") from error
        self._saves += 1
        self._counter = kept.counter
        self._slowest_ns = max(self._slowest_ns, self._clocks.monotonic_ns() - began)

    def _merge_unread(self) -> None:
        """Rule 4.

        Raises:
            StorageError: It still can't be read.
        """
        if self._loaded is None or self._loaded.found is not Found.UNREADABLE:
            return
        loaded = self.load()
        if loaded.found is Found.UNREADABLE:
            raise StorageError(0, f"the device state {loaded.detail}")

    @property
    def due_ns(self) -> int | None:
        """When the next save is due, by the monotonic clock; None if nothing has changed."""
        if not self._dirty or self._next is not None or self._kept is None:
            return None
        return self._clocks.monotonic_ns() if self._saved_ns is None else self._saved_ns + SAVE_NS

    def step(self, *, at_once: bool = False) -> None:
        """Save what has changed, if it is due. Never raises."""
        due = self.due_ns
        if due is None or (not at_once and due > self._clocks.monotonic_ns()):
            return
        with self._saving:
            try:
                self._save()
            except StorageError as error:
                self._dirty = True
                self._problem = error.strerror or str(error)
            except Exception as error:  # noqa: BLE001 - rule 5; the thread that saves survives every error
                self._dirty = True
                self._problem = f"{type(error).__name__}: {error}"
            else:
                self._problem = ""
        self._report(NOT_KEPT, self._problem)
        self._report(ANCHOR_FAILING, self._store.anchor_problem)

    def _report(self, kind: str, problem: str) -> None:
        """Report a problem when it appears and when it is over, at most once in `QUIET_NS`."""
        now = self._clocks.monotonic_ns()
        since = self._reported_ns.get(kind)
        if bool(problem) == (kind in self._reported) or (since is not None and now - since < QUIET_NS):
            return
        self._reported_ns[kind] = now
        if problem:
            self._reported.add(kind)
            output.warn(f"bwc-agent: {kind}: {problem}")
        else:
            self._reported.discard(kind)
        self._on_problem(kind, problem, not problem)

    def start(self) -> None:
        """Save in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                due = self.due_ns
                if not self._stopping:
                    wait_s = None if due is None else max(0.0, (due - self._clocks.monotonic_ns()) / NS)
                    self._changed.wait(wait_s)
            self.step()

    def close(self, timeout_s: float = 5.0) -> None:
        """Save what has changed, and end the thread."""
        self._stopping = True
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return  # it waits for storage; what it saved before is whole
        self.step(at_once=True)

    @property
    def policy_digest(self) -> str:
        """Digest of the newest bundle that was ever in force on this device; empty if that is unknown."""
        return self._policy[1]

    @property
    def signed_bundle_ever(self) -> bool:
        """True if a signed bundle was ever in force on this device, by its own memory."""
        known = self._next or self._kept
        return bool(self._policy[1]) or (known is not None and known.signed_bundle_ever)

    @property
    def fresh(self) -> bool:
        """True if this device never ran before."""
        return self._fresh

    @property
    def status(self) -> UpdaterStatus:
        """How well the state is kept now."""
        return UpdaterStatus(
            found=self._loaded.found if self._loaded is not None else Found.UNREADABLE,
            anchor=self._store.anchor.name,
            problem=self._problem,
            anchor_problem=self._store.anchor_problem,
            counter=self._counter,
            saves=self._saves,
            slowest_ns=self._slowest_ns,
        )


def _stricter(now: DeviceState, before: DeviceState) -> DeviceState:
    """The stricter of the state of this boot and the one from before, which could not be read when it began."""
    carried = entries.PersistedState(
        latched=now.latched or before.latched,
        policy_version=max(now.policy_version, before.policy_version),
        triggers={**before.triggers, **now.triggers},
        withheld_ms=dict(now.withheld_ms),
        asked=dict(now.asked),
        classified=now.classified,
        passed_us=max(now.passed_us, before.passed_us),
    )
    newer = now if now.policy_version >= before.policy_version else before
    merged = msgspec.structs.replace(
        now,
        boot=max(now.boot, before.boot),
        policy_digest=newer.policy_digest,
        signed_bundle_ever=now.signed_bundle_ever or before.signed_bundle_ever,
        used=now.used or before.used,
        recordings=tuple(dict.fromkeys((*before.recordings, *now.recordings)))[-MAX_RECORDINGS:],
    )
    return with_carried(merged, carried)


class UsedTokensInState:
    """`agent.trust.replay_guard.UsedRecord` over the device state.

    Args:
        updater: Keeps the state.
    """

    def __init__(self, updater: StateUpdater) -> None:
        self._updater = updater

    def load(self) -> UsedTokens | None:
        """The used authorisations that the state knows; None if it knows nothing about them.

        Raises:
            StorageError: The state can't be read now.
            EvidenceError: It was altered, or is older than the save that its anchor remembers.
        """
        loaded = self._updater.load_current()
        match loaded.found:
            case Found.UNREADABLE:
                raise StorageError(0, f"the device state {loaded.detail}")
            case Found.ALTERED | Found.ROLLED_BACK:
                raise EvidenceError(f"the device state {loaded.detail}")
            case _:
                return None if loaded.state is None else loaded.state.used

    def save(self, used: UsedTokens) -> None:
        """Save them at once: a token takes effect only after that.

        Raises:
            StorageError: They may or may not have been saved.
        """
        self._updater.save_used(used)
