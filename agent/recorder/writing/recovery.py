"""Recovery: what earlier boots left open is closed in a thread of its own, beside the recording, never before it.

The rules, in order:
1. A recording that was interrupted goes on at once, from what its folder and the journal say (`resume`): the next
   segment's opening statement names that of the interrupted one (`agent.evidence.manifest`).
2. Repair begins once the first bytes of the running recording are durable, or nothing runs; where nothing comes to be
   stored, as without a camera, after `PATIENCE_NS`. It reads in pieces with pauses between, at low priority.
3. What storage refuses is tried again, further and further apart. What it refuses `MOST_TRIES` times while it takes
   all else is given up for this boot, and said. The next boot tries anew.
4. A repair that hangs holds up nothing but the repairs after it. Only, an end is not called one in order while it may
   still sign something.
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
from agent.recorder.writing.job import Job, JournalSink
from agent.recorder.writing.retries import MOST_TRIES, NO_ROOM

PATIENCE_NS = 10 * NS
"""So long repair waits for a running recording's first bytes."""
RETRY_NS = NS // 2
"""Until the next attempt; doubled with each one that was in vain."""
LOOK_S = 0.25
"""How often it is looked whether a repair may begin, while one waits."""
PAUSE_S = 0.02
"""Between two pieces of 1 MiB: repair reads at most 50 MB a second."""
NICE = 10


class Recovery:
    """Closes what earlier boots left open.

    Args:
        boot: This boot, who signs for it.
        identity: Whose evidence a recording is.
        ledger: The journal.
        clocks: Both clocks.
        may_begin: True once the running recording is being stored, or none runs.
        given_up: Told in words what was given up.
    """

    def __init__(
        self,
        *,
        boot: CurrentBoot,
        identity: Callable[[str], Identity],
        ledger: JournalSink,
        clocks: Clocks,
        may_begin: Callable[[], bool],
        given_up: Callable[[str], None],
    ) -> None:
        self._boot = boot
        self._identity = identity
        self._ledger = ledger
        self._clocks = clocks
        self._may_begin = may_begin
        self._given_up = given_up
        self._waiting: deque[Unfinished] = deque()
        self._scheduled_ns = 0
        self._due_ns = 0
        self._tries = 0
        self._closed: dict[tuple[str, int], str] = {}
        self._bell = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def schedule(self, unfinished: tuple[Unfinished, ...]) -> None:
        """Have these segments closed, when it is time."""
        self._scheduled_ns = self._clocks.monotonic_ns()
        self._waiting.extend(unfinished)
        self._bell.set()

    def resume(self, progress: Progress, job: Job) -> None:
        """Let a job go on where a recording was interrupted, whether that was repaired yet or not."""
        job.segment = max(progress.segment, self._boot.ready().takeover.resume_after)
        job.previous, job.interrupted = progress.previous, progress.interrupted
        job.repaired = partial(self._manifest_of, progress.recording, progress.segment)

    def _manifest_of(self, recording: str, segment: int) -> str:
        """Hash of the manifest by which a segment was closed here; empty if it was not yet."""
        return self._closed.get((recording, segment), "")

    @property
    def waiting(self) -> int:
        """So many segments are still to be closed."""
        return len(self._waiting)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread, if there is one; what it has not begun is left to the next boot.

        Returns:
            False if a repair still hangs: it may sign something more.
        """
        self._closing.set()
        self._bell.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # of this thread alone, on Linux (setpriority(2), NOTES)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._closing.is_set():
            self._bell.wait(LOOK_S if self._waiting else None)
            self._bell.clear()
            self.step()

    def step(self) -> None:
        """Close what is to be closed and may be now."""
        while self._waiting and not self._closing.is_set():
            now = self._clocks.monotonic_ns()
            patient = now - self._scheduled_ns < PATIENCE_NS
            if now < self._due_ns or (patient and not self._may_begin()):
                return
            unfinished = self._waiting[0]
            try:
                self._close(unfinished)
            except StorageError as error:
                if not self._gives_up(error):
                    return
                self._say_given_up(unfinished, error)
            except Exception as error:  # noqa: BLE001 - no error in what is past may end the thread
                self._say_given_up(unfinished, error)
            self._waiting.popleft()
            self._tries = 0

    def _gives_up(self, error: StorageError) -> bool:
        """True if this segment alone is refused, and was for often enough; else it is tried again later."""
        self._due_ns = self._clocks.monotonic_ns() + (RETRY_NS << self._tries)
        if self._ledger.failing or error.errno in NO_ROOM:
            return False  # it is storage as a whole
        self._tries += 1
        return self._tries >= MOST_TRIES

    def _say_given_up(self, unfinished: Unfinished, error: Exception) -> None:
        what = f"recovery of {unfinished.recording}, segment {unfinished.segment:04d},"
        self._given_up(f"{what} was given up: {type(error).__name__}: {error}")

    def _pause(self) -> None:
        if self._thread is not None:
            self._closing.wait(PAUSE_S)

    def _close(self, unfinished: Unfinished) -> None:
        """Close what an earlier boot left open.

        Raises:
            StorageError: Storage refuses; to be asked again.
        """
        ready = self._boot.ready()
        storage, recording, segment = self._boot.storage, unfinished.recording, unfinished.segment
        ended: Ended = "storage_full" if ready.left.storage_full else "power_loss"
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
        self._ledger.post(entry)
        if closed.unread_bytes:
            self._boot.suspect(
                "segment_lengthened", f"{recording}/{segment:04d}.seg claims {closed.unread_bytes} bytes more"
            )
