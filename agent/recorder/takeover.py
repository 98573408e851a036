"""What a boot takes over from card and device state, after the two were compared."""

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
    """What the comparison adds to what the card says.

    Attributes:
        resume_after: The interrupted recording continues after this segment; 0 where the card's newest one counts.
        events: How card and state differ.
    """

    resume_after: int = 0
    events: tuple[TamperEvent, ...] = ()


def take_over(
    storage: Storage, recovery_state: RecoveryState, comparison: Comparison
) -> tuple[Takeover, RecoveryState]:
    """What earlier boots left unfinished, by card and device state.

    Raises:
        StorageError: Storage can't be read.
    """
    recovery_state = replace(recovery_state, carried=comparison.carried)
    running = comparison.running
    if running is None:
        return Takeover(events=comparison.events), recovery_state
    on_card = recovery_state.running
    if on_card is not None and on_card.recording == running.recording:
        progress = on_card
        if on_card.segment == running.segment:
            progress = replace(on_card, attested_bytes=max(on_card.attested_bytes, running.attested_bytes))
    else:
        # A recording that only the card calls interrupted is not continued; its open segments are closed all the same.
        progress = Progress(running.recording)
    after = _free_after(storage, running.recording, max(running.segment, progress.segment))
    unfinished = tuple(_attested(segment, running) for segment in recovery_state.unfinished)
    return Takeover(after, comparison.events), replace(recovery_state, running=progress, unfinished=unfinished)


def _attested(segment: Unfinished, running: Running) -> Unfinished:
    """A segment that is to be closed, with the larger of the attested lengths that card and device state know."""
    if (segment.recording, segment.segment) != (running.recording, running.segment):
        return segment
    return replace(segment, attested_bytes=max(segment.attested_bytes or 0, running.attested_bytes))


def _free_after(storage: Storage, recording: str, segment: int) -> int:
    """The first segment from `segment` on whose successor does not exist yet: nothing is overwritten."""
    try:
        names = storage.names(layout.recording(recording))
    except StorageError:
        return segment  # no folder: the writer reports that
    taken = {part[0] for name in names if (part := layout.segment_part(name)) is not None}
    while segment + 1 in taken:
        segment += 1
    return segment


def state_of(
    before: DeviceState,
    comparison: Comparison,
    recovery_state: RecoveryState,
    takeover: Takeover,
    *,
    boot: int,
    card: str,
) -> DeviceState:
    """The device state from this boot's first line on."""
    known = comparison.continues_from is None or card == before.card
    progress = recovery_state.running
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
