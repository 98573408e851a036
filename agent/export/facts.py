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
    """Key ids of a sealed file's recipients; none if its header is not whole. The stream is at its beginning."""
    try:
        header = message.read_header(stream)
    except EvidenceError:
        return []
    finally:
        stream.seek(0)
    return [wrapped.provider_info.decode("utf-8", "replace") for wrapped in header.recipients]


def names(kids: Iterable[str], place: Place) -> str:
    """Kids with what the trust document beside the evidence calls their holders; only to help to find the key."""
    labels: dict[str, str] = {}
    if place.device is not None:
        try:
            token = place.tree.read(below(place.device, layout.TRUST)).decode("ascii").removesuffix("\n")
            labels = {entry.kid: entry.label for entry in read_unpinned(token).recipient_keys}
        except (EvidenceError, StorageError, UnicodeDecodeError):
            labels = {}
    return ", ".join(escaped(f"{labels[kid]} ({kid})" if kid in labels else kid) for kid in kids)


def refuse_others(stream: BinaryIO, place: Place, key: RecipientKey) -> None:
    """See whether a key is one of those that a segment is sealed to; the stream stands at its beginning, then too.

    Raises:
        EvidenceError: It is not.
    """
    kids = sealed_to(stream)
    if kids and key.recipient.kid not in kids:
        raise EvidenceError(f"it is sealed to others than the holder of this key: {names(kids, place)}")


def details_keys(boots: Mapping[int, BootFacts], key: RecipientKey) -> dict[int, DetailsKey]:
    """The details keys of those boots whose sealed one opens with this key."""
    keys = {}
    for boot, facts in boots.items():
        try:
            keys[boot] = DetailsKey(open_bytes(facts.details_key, [key])[1])
        except EvidenceError:
            continue  # each event says that its details did not open
    return keys


def timeline(recorded: Recorded, journal: RecordingEvents) -> Timeline:
    """The line of a recording, with all that statements and journals know of its boots' clocks."""
    readings = merged([recorded.readings(), journal.readings])
    kernels = {boot: facts.kernel for boot, facts in recorded.boots.items()}
    return Timeline({boot: BootClock(kernels.get(boot, ""), known) for boot, known in readings.items()})


def withheld(segments: Sequence[SegmentStatements]) -> list[Span]:
    """What was withheld on purpose, as the manifests say, for where there is no journal."""
    spans = []
    for segment in segments:
        if segment.manifest is not None:
            # Times of what an earlier boot wrote are on that boot's clock.
            wrote = segment.opening if segment.manifest.recovered else None
            boot = segment.manifest.boot if wrote is None else wrote.boot
            for span in segment.manifest.withheld:
                until_us = span.from_us if span.to_us is None else span.to_us
                cause = withheld_text(span.request)
                spans.append(Span(boot, span.from_us, until_us, span.kind.value, cause))
    return spans


def repeats_from(segments: Sequence[SegmentStatements]) -> list[int | None]:
    """For each segment, from when on, on its boot's monotonic clock, later ones may repeat it; None if none does."""
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
    """From where on a sealed file may hold whatever storage left there at a loss of power; None if nowhere.

    The bytes that the manifest counts as attested were on storage. For a segment without a manifest the journal alone
    says which were.
    """
    if statements.manifest is None:
        return 0
    closed_in_order = bool(statements.manifest.written)
    return None if closed_in_order else max(0, statements.manifest.attested_bytes)


def whole_bytes(statements: SegmentStatements, stream: BinaryIO) -> int:
    """Where the last whole frame of a sealed file ends: as its manifest says, else as its frames' heads look.

    Raises:
        EvidenceError: Its header is not whole.
    """
    if statements.manifest is not None:
        return max(0, statements.manifest.whole_bytes)
    whole = message.scan(stream, recovering=True).whole_bytes
    stream.seek(0)
    return whole
