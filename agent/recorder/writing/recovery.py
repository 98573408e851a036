"""Recovery: segments that earlier boots left open are closed in a thread of its own, while the recording continues.

The rules, in order:
1. An interrupted recording continues at once, from what its folder and the journal say (`resume`): the next segment's
   opening statement names that of the interrupted one (`agent.evidence.manifest`).
2. Repair begins once the first bytes of the running recording are durable, or if nothing runs; if nothing is stored, as
   without a camera, after `WAIT_NS`. It reads in pieces with pauses between them, at low priority.
3. What storage refuses is tried again, at growing intervals. What it refuses `MAX_TRIES` times while it takes
   everything else is given up for this boot, and journalled. The next boot tries again.
4. A repair that hangs delays only the repairs after it. But while it may still sign something, the process does not
   state that it ended in order.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from agent.clock import NS, Clocks
from agent.encoding.strict_json import sha256_hex
from agent.errors import StorageError
from agent.evidence.closing import close_unfinished, place_of
from agent.evidence.manifest import Ended
from agent.evidence.segment import Identity
from agent.journal.boot_recovery import Progress, Unfinished
from agent.journal.entries import Entry, SegmentRecovered
from agent.recorder.boot import CurrentBoot
from agent.recorder.writing.retries import MAX_TRIES, NO_ROOM
from agent.recorder.writing.task import JournalSink, RecordingTask

WAIT_NS = 10 * NS
"""How long repair waits for a running recording's first bytes."""
RETRY_NS = NS // 2
"""Until the next attempt; doubled with each failed one."""
POLL_S = 0.25
"""How often to check whether a waiting repair may begin."""
PAUSE_S = 0.02
"""Between two pieces of 1 MiB: repair reads at most 50 MB a second."""
NICE = 10


class Recovery:
    """Closes segments that earlier boots left open.

    Args:
        boot: This boot, which signs.
        identity: Returns a recording's signer and recipients.
        journal: Takes the entries.
        clocks: Both clocks.
        may_begin: True once the running recording is being stored, or none runs.
        given_up: Takes the description of a repair that was given up.
    """

    def __init__(
        self,
        *,
        boot: CurrentBoot,
        identity: Callable[[str], Identity],
        journal: JournalSink,
        clocks: Clocks,
        may_begin: Callable[[], bool],
        given_up: Callable[[str], None],
    ) -> None:
        self._boot = boot
        self._identity = identity
        self._journal = journal
        self._clocks = clocks
        self._may_begin = may_begin
        self._given_up = given_up
        self._waiting: deque[Unfinished] = deque()
        self._scheduled_ns = 0
        self._due_ns = 0
        self._tries = 0
        self._closed: dict[tuple[str, int], str] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def schedule(self, unfinished: tuple[Unfinished, ...]) -> None:
        """Schedule these segments to be closed."""
        self._scheduled_ns = self._clocks.monotonic_ns()
        self._waiting.extend(unfinished)
        self._wake.set()

    def resume(self, progress: Progress, task: RecordingTask) -> None:
        """Set a task to continue an interrupted recording, whether its last segment is closed yet or not."""
        task.segment = max(progress.segment, self._boot.ready().takeover.resume_after)
        task.previous, task.interrupted = progress.previous, progress.interrupted
        task.closed_by = partial(self._manifest_of, progress.recording, progress.segment)

    def _manifest_of(self, recording: str, segment: int) -> str:
        """Hash of the manifest by which a segment was closed here; empty if it was not."""
        return self._closed.get((recording, segment), "")

    @property
    def waiting(self) -> int:
        """How many segments are still to be closed."""
        return len(self._waiting)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread, if there is one; repairs that have not begun are left to the next boot.

        Returns:
            False if a repair still hangs: it may sign something more.
        """
        self._closing.set()
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # of this thread alone, on Linux (setpriority(2), NOTES)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._closing.is_set():
            self._wake.wait(POLL_S if self._waiting else None)
            self._wake.clear()
            self.step()

    def step(self) -> None:
        """Close the scheduled segments, as far as that may be done now."""
        while self._waiting and not self._closing.is_set():
            now = self._clocks.monotonic_ns()
            waiting = now - self._scheduled_ns < WAIT_NS
            if now < self._due_ns or (waiting and not self._may_begin()):
                return
            unfinished = self._waiting[0]
            try:
                self._close(unfinished)
            except StorageError as error:
                if not self._is_given_up(error):
                    return
                self._report_given_up(unfinished, error)
            except Exception as error:  # noqa: BLE001 - no error in old evidence may end the thread
                self._report_given_up(unfinished, error)
            self._waiting.popleft()
            self._tries = 0

    def _is_given_up(self, error: StorageError) -> bool:
        """True if this segment alone was refused `MAX_TRIES` times; otherwise it is tried again later."""
        self._due_ns = self._clocks.monotonic_ns() + (RETRY_NS << self._tries)
        if self._journal.failing or error.errno in NO_ROOM:
            return False  # storage as a whole refuses
        self._tries += 1
        return self._tries >= MAX_TRIES

    def _report_given_up(self, unfinished: Unfinished, error: Exception) -> None:
        what = f"recovery of {unfinished.recording}, segment {unfinished.segment:04d},"
        self._given_up(f"{what} was given up: {type(error).__name__}: {error}")

    def _pause(self) -> None:
        if self._thread is not None:
            self._closing.wait(PAUSE_S)

    def _close(self, unfinished: Unfinished) -> None:
        """Close a segment that an earlier boot left open.

        Raises:
            StorageError: Storage refuses; to be tried again.
        """
        ready = self._boot.ready()
        storage, recording, segment = self._boot.storage, unfinished.recording, unfinished.segment
        ended: Ended = "storage_full" if ready.recovery_state.storage_full else "power_loss"
        attested_bytes, withheld = unfinished.attested_bytes, unfinished.withheld
        if attested_bytes is None:
            attested_bytes, withheld = self._boot.attested(unfinished.boot, recording, segment)
        self._boot.certify(recording)
        closed = close_unfinished(
            storage,
            self._identity(recording),
            place_of(storage, recording, segment),
            ended=ended,
            attested_bytes=attested_bytes,
            recovered=True,
            final=unfinished.final,
            withheld=withheld,
            pause=self._pause,
        )
        manifest = sha256_hex(closed.manifest)
        self._closed[recording, segment] = manifest
        entry: Entry = SegmentRecovered(
            recording, segment, manifest, ended, attested_bytes, closed.whole_bytes, closed.torn_bytes
        )
        self._journal.post(entry)
        if closed.unread_bytes:
            self._boot.report_tampering(
                "segment_lengthened", f"{recording}/{segment:04d}.seg claims {closed.unread_bytes} bytes more"
            )
