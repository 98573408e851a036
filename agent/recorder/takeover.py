"""What a boot takes over from card and device state, once the two were compared."""

from dataclasses import dataclass, replace

import msgspec

from agent.device_state.compare import Comparison, TamperEvent
from agent.device_state.record import DeviceState, Running, with_card, with_carried
from agent.errors import StorageError
from agent.evidence import layout
from agent.journal.boot_recovery import Progress, RecoveryState, Unfinished
from agent.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Takeover:
    """What the comparison adds to what the card tells.

    Attributes:
        resume_after: The interrupted recording goes on after this segment; 0 where the card's newest one counts.
        events: How card and state differed.
    """

    resume_after: int = 0
    events: tuple[TamperEvent, ...] = ()


def take_over(storage: Storage, left: RecoveryState, comparison: Comparison) -> tuple[Takeover, RecoveryState]:
    """What was left behind, by both.

    Raises:
        StorageError: Storage can't be read.
    """
    left = replace(left, carried=comparison.carried)
    running = comparison.running
    if running is None:
        return Takeover(events=comparison.events), left
    on_card = left.running
    if on_card is not None and on_card.recording == running.recording:
        progress = on_card
        if on_card.segment == running.segment:
            progress = replace(on_card, attested_bytes=max(on_card.attested_bytes, running.attested_bytes))
    else:
        # One that only the card calls interrupted is not gone on with; what it left open is closed all the same.
        progress = Progress(running.recording)
    after = _free_after(storage, running.recording, max(running.segment, progress.segment))
    unfinished = tuple(_attested(segment, running) for segment in left.unfinished)
    return Takeover(after, comparison.events), replace(left, running=progress, unfinished=unfinished)


def _attested(segment: Unfinished, running: Running) -> Unfinished:
    """A segment that is to be closed, with as much attested as either the card or the device knows of it."""
    if (segment.recording, segment.segment) != (running.recording, running.segment):
        return segment
    return replace(segment, attested_bytes=max(segment.attested_bytes or 0, running.attested_bytes))


def _free_after(storage: Storage, recording: str, segment: int) -> int:
    """The segment after which nothing lies in the next one's place: what is there is never overwritten."""
    try:
        names = storage.names(layout.recording(recording))
    except StorageError:
        return segment  # no folder: the writer says so, and signals it
    taken = {part[0] for name in names if (part := layout.segment_part(name)) is not None}
    while segment + 1 in taken:
        segment += 1
    return segment


def state_of(
    before: DeviceState, comparison: Comparison, left: RecoveryState, takeover: Takeover, *, boot: int, card: str
) -> DeviceState:
    """What the device has to remember from this boot's first line on."""
    known = comparison.goes_on_from is None or card == before.card
    progress = left.running
    running = None
    if progress is not None:
        segment = max(progress.segment, takeover.resume_after)
        running = Running(progress.recording, segment, progress.attested_bytes if segment == progress.segment else 0)
    missing = set(comparison.missing_recordings)
    return with_carried(
        msgspec.structs.replace(
            with_card(before, card),
            boot=boot,
            policy_digest=before.policy_digest if before.policy_version >= comparison.carried.policy_version else "",
            running=running,
            recordings=tuple(name for name in before.recordings if name not in missing) if known else (),
        ),
        comparison.carried,
    )
