"""What is known of a recording before it is opened: its recipients, clocks, and what was suppressed or repeated."""

from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.details import DetailsKey
from agent.export.journal_events import RecordingEvents, Span, merged, withheld_text
from agent.export.placing import BootClock, Timeline
from agent.export.recorded import BootFacts, Place, Recorded, SegmentStatements
from agent.output import escaped
from agent.seal import message
from agent.seal.reader import open_bytes
from agent.seal.recipients import RecipientKey
from agent.trust.document import read_unpinned
from agent.verify.tree import below


def sealed_to(stream: BinaryIO) -> list[str]:
    """Key ids of a sealed file's recipients, none if its header is incomplete. Rewinds the stream."""
    try:
        header = message.read_header(stream)
    except EvidenceError:
        return []
    finally:
        stream.seek(0)
    return [wrapped.provider_info.decode("utf-8", "replace") for wrapped in header.recipients]


def names(kids: Iterable[str], place: Place) -> str:
    """Key ids with their labels from the trust document beside the evidence, which is unverified: only a hint."""
    labels: dict[str, str] = {}
    if place.device is not None:
        try:
            token = place.tree.read(below(place.device, layout.TRUST)).decode("ascii").removesuffix("\n")
            labels = {entry.kid: entry.label for entry in read_unpinned(token).recipient_keys}
        except (EvidenceError, StorageError, UnicodeDecodeError):
            labels = {}
    return ", ".join(escaped(f"{labels[kid]} ({kid})" if kid in labels else kid) for kid in kids)


def refuse_others(stream: BinaryIO, place: Place, key: RecipientKey) -> None:
    """Check that a segment is sealed to a key. Rewinds the stream.

    Raises:
        EvidenceError: It is not sealed to it.
    """
    kids = sealed_to(stream)
    if kids and key.recipient.kid not in kids:
        raise EvidenceError(f"it is sealed to others than the holder of this key: {names(kids, place)}")


def details_keys(boots: Mapping[int, BootFacts], key: RecipientKey) -> dict[int, DetailsKey]:
    """The details keys of the boots whose sealed details key opens with this key."""
    keys = {}
    for boot, facts in boots.items():
        try:
            keys[boot] = DetailsKey(open_bytes(facts.details_key, [key])[1])
        except EvidenceError:
            continue  # each event says that its details did not open
    return keys


def timeline(recorded: Recorded, journal: RecordingEvents) -> Timeline:
    """The time line of a recording, with the clock readings in its statements and journals."""
    readings = merged([recorded.readings(), journal.readings])
    kernels = {boot: facts.kernel for boot, facts in recorded.boots.items()}
    return Timeline({boot: BootClock(kernels.get(boot, ""), known) for boot, known in readings.items()})


def withheld(segments: Sequence[SegmentStatements]) -> list[Span]:
    """Suppressed time spans by the manifests, for recordings without a journal."""
    spans = []
    for segment in segments:
        if segment.manifest is not None:
            # A recovered segment's times are on the clock of the boot that wrote it.
            wrote = segment.opening if segment.manifest.recovered else None
            boot = segment.manifest.boot if wrote is None else wrote.boot
            for span in segment.manifest.withheld:
                until_us = span.from_us if span.to_us is None else span.to_us
                cause = withheld_text(span.request)
                spans.append(Span(boot, span.from_us, until_us, span.kind.value, cause))
    return spans


def repeats_from(segments: Sequence[SegmentStatements]) -> list[int | None]:
    """For each segment, the time on its boot's monotonic clock from which later ones may repeat it; None if none do."""
    repeats: list[int | None] = []
    earliest: dict[int, int] = {}
    for segment in reversed(segments):
        if segment.opening is None:
            repeats.append(None)
            continue
        boot, start_us = segment.opening.boot, segment.opening.start.mono_us
        repeats.append(earliest.get(boot))
        if segment.opening.overlap:
            earliest[boot] = min(start_us, earliest.get(boot, start_us))
    return repeats[::-1]


def torn_from(statements: SegmentStatements) -> int | None:
    """The offset after which a loss of power may have left arbitrary bytes in a sealed file; None if it can't have.

    Bytes that the manifest counts as attested were synced. Without a manifest only the journal knows which were, so
    none count.
    """
    if statements.manifest is None:
        return 0
    closed_in_order = bool(statements.manifest.written)
    return None if closed_in_order else max(0, statements.manifest.attested_bytes)


def whole_bytes(statements: SegmentStatements, stream: BinaryIO) -> int:
    """The offset at which a sealed file's last whole frame ends: from its manifest, else from its frame heads.

    Raises:
        EvidenceError: Its header is incomplete.
    """
    if statements.manifest is not None:
        return max(0, statements.manifest.whole_bytes)
    whole = message.scan(stream, recovering=True).whole_bytes
    stream.seek(0)
    return whole
