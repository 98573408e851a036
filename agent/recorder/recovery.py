"""Recovery: what an earlier boot left open is closed, in the writer's thread, before anything new is written."""

from collections.abc import Callable
from functools import partial

from agent.evidence.closing import certify, close_unfinished
from agent.evidence.entries import Entry, SegmentRecovered
from agent.evidence.history import Progress
from agent.evidence.manifest import Ended
from agent.evidence.segment import Identity, Place
from agent.recorder.boot import ThisBoot
from agent.recorder.job import Job
from agent.strict_json import sha256_hex


class Recovery:
    """Closes what earlier boots left open.

    Args:
        boot: This boot, who signs for it.
        identity: Whose evidence a recording is.
        first: Has work done by the writer before its next recording.
        post: Journals an entry.
    """

    def __init__(
        self,
        boot: ThisBoot,
        identity: Callable[[str], Identity],
        first: Callable[[str, Callable[[], object]], None],
        post: Callable[[Entry], None],
    ) -> None:
        self._boot = boot
        self._identity = identity
        self._first = first
        self._post = post

    def schedule(self, progress: Progress, *, final: bool) -> None:
        """Have a recording's last segment closed; `final` if the recording ends with it."""
        self._first(_recovery_of(progress), partial(self._close, progress, final=final))

    def resume(self, progress: Progress, job: Job) -> None:
        """Have it closed, and let a job go on from there."""
        job.segment = max(progress.segment, self._boot.ready().takeover.resume_after)
        job.previous = progress.previous

        def resume() -> None:
            job.previous = self._close(progress, final=False)

        self._first(_recovery_of(progress), resume)

    def _close(self, progress: Progress, *, final: bool) -> str:
        """Close what an earlier boot left open; the hash of its manifest, for the next one to name.

        Raises:
            StorageError: Storage refuses; to be asked again.
        """
        if not progress.unfinished:
            return progress.previous
        ready = self._boot.ready()
        ended: Ended = "storage_full" if ready.left.storage_full else "power_loss"
        certify(self._boot.storage, progress.recording, ready.boot, self._boot.certificates())
        closed = close_unfinished(
            self._boot.storage,
            self._identity(progress.recording),
            Place(progress.recording, progress.segment, progress.previous),
            ended=ended,
            attested_bytes=progress.attested_bytes,
            recovered=True,
            final=final,
            withheld=progress.withheld,
        )
        self._post(
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


def _recovery_of(progress: Progress) -> str:
    return f"recovery of {progress.recording}, segment {progress.segment:04d},"
