"""The two signed statements about a segment: the opening statement before its first byte, the manifest after its last.

Both are JWS by the boot's key. The opening statement binds the sealed header, so that knowing the recipients' public
keys is not enough to make or finish a segment. Each manifest names its opening statement and the manifest before
it, so that the segments of a recording form a chain whose end is marked `final`.

A recording that a power cut interrupted continues at once, before its last segment is closed. The next segment then
names the *opening statement* of the interrupted one (`interrupted`), and so does the manifest by which recovery closes
that one later (`opening`): the chain leads through the opening statement, and nothing waits for the repair. A manifest
names the manifest before it as soon as there is one.

Versions: `bwc-segment/1` had neither `interrupted` nor `unread_bytes`, and closed an interrupted segment before the
next one began. Both are read; the second one is written.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from agent.clock import WallReading, utc_text
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError
from agent.evidence.names import RecordingId
from agent.media.packet import Kind, StreamParameters

OPENING_TYPE = "bwc-opening+jws"
MANIFEST_TYPE = "bwc-manifest+jws"
FORMAT = "bwc-segment/2"
FORMATS = ("bwc-segment/1", FORMAT)
"""The versions that are read; the last one is written."""
SECOND_VERSION = ("interrupted", "unread_bytes")
"""Fields of a manifest that the first version does not have."""

Ended = Literal["rolled", "stopped", "interrupted", "power_loss", "storage_full", "fault"]
"""Why a segment ended: the recording continues in the next one (`rolled`), a granted stop, SIGTERM, loss of power or
end of the process, no space left, or failure of storage or source."""


class Moment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A point in time on both clocks, the wall clock with its provenance (see `agent.clock.WallReading`)."""

    utc: str
    clock: str
    within_ms: int | None
    mono_us: int


def moment_at(reading: WallReading, now_ns: int, at_ns: int) -> Moment:
    """The moment of the monotonic time `at_ns`, by a wall-clock reading taken at `now_ns`."""
    within = None if reading.uncertainty_s is None else int(reading.uncertainty_s * 1000) + 1
    return Moment(utc_text(reading.utc_ns + at_ns - now_ns), reading.source, within, at_ns // 1000)


class Track(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A track as the segment declares it.

    Attributes:
        base_ticks: What to add to a sample's decode time to get the source's own ticks.
        parameters: SHA-256 over codec and decoder configuration: equal means that segments join without a seam.
    """

    kind: Kind
    codec: str
    timescale: int
    base_ticks: int
    parameters: str
    width: int
    height: int
    sample_rate: int
    channels: int


def track(parameters: StreamParameters, base_ticks: int) -> Track:
    """The declaration of a stream."""
    return Track(
        kind=parameters.kind,
        codec=parameters.codec,
        timescale=parameters.timescale,
        base_ticks=base_ticks,
        parameters=sha256_hex(parameters.codec.encode() + b"\0" + parameters.extradata),
        width=parameters.width,
        height=parameters.height,
        sample_rate=parameters.sample_rate,
        channels=parameters.channels,
    )


class PreEventLength(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much was kept from before the start; `short` says why it was less than asked, empty if it was not."""

    asked_ms: int
    kept_ms: int
    excess_ms: int
    gap_ms: int
    short: str
    silent: bool


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The opening statement of a segment.

    Attributes:
        boot_certificate: SHA-256 of the boot certificate whose key signs this.
        previous: SHA-256 of the manifest before, or of the opening statement before if that segment was `interrupted`
            and not closed yet; empty for a recording's first segment.
        header: SHA-256 of the sealed message's header, up to and with its authentication tag.
        frame_length: Of the sealed message, in bytes.
        start: When the segment's time 0 was captured.
        recipients: Opaque id of the set of recipients.
        policy: SHA-256 of the policy in force.
        pre_event: Of a recording's first segment, else null.
        overlap: True if it begins with pictures that the segment before may hold too, as after a storage fault.
        interrupted: The segment before was interrupted and not closed yet when this one began.
    """

    format: str
    agency: str
    device: str
    boot: int
    boot_certificate: str
    recording: RecordingId
    segment: int
    previous: str
    header: str
    frame_length: int
    tracks: list[Track]
    start: Moment
    recipients: str
    policy: str
    pre_event: PreEventLength | None
    overlap: bool
    interrupted: bool = False


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No packets of a track between two of the source's ticks, for longer than a frame should take."""

    kind: Kind
    from_ticks: int
    to_ticks: int


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time in which a track was withheld for a granted request; `to_us` is null if it went on when this was signed.

    Times are microseconds of the monotonic clock.
    """

    kind: Kind
    request: int
    from_us: int
    to_us: int | None


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was written of a track: packets, and the source's ticks of the first and after the last of them."""

    kind: Kind
    packets: int
    first_ticks: int
    end_ticks: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of a segment.

    Attributes:
        opening: SHA-256 of the opening statement; empty if there was none to be found.
        boot: The boot that signs this: another than the opening's if the segment was recovered.
        ended: Why the segment ended.
        final: True if the recording ended with it, by a granted stop.
        recovered: True if a later boot closed it.
        previous: As in the opening statement; the manifest before, if there is one by now.
        bytes: Size of the sealed file, all of it; of a recovered one, as much of it as was read.
        sha256: Hash of those bytes.
        whole_frames: Frames of the sealed message that are whole, the final one included.
        whole_bytes: Where the last of them ends; `bytes` less this is torn.
        attested_bytes: Of a recovered segment: what the journal last attested; beyond it lies the unattested tail.
        written: What is in it; empty if the segment was recovered, because the device can't look into it.
        gaps: Within it.
        lost_packets: That fell out of memory while it was written.
        stop: When the recording ended, on both clocks, if `final`.
        withheld: What was kept out of it on purpose.
        sealed: Sealed details: who permitted that; empty if there are none.
        interrupted: `previous` is the hash of an opening statement: that segment is not closed yet.
        unread_bytes: Of a recovered segment: by so much the file was longer than what recovery reads at the most
            (`agent.evidence.closing`). No recorder leaves such a file: it was lengthened later.
    """

    format: str
    agency: str
    device: str
    boot: int
    boot_certificate: str
    recording: RecordingId
    segment: int
    previous: str
    opening: str
    ended: Ended
    final: bool
    recovered: bool
    bytes: int
    sha256: str
    whole_frames: int
    whole_bytes: int
    attested_bytes: int
    written: list[Written]
    gaps: list[Gap]
    lost_packets: int
    stop: Moment | None
    withheld: list[Span] = []
    sealed: str = ""
    interrupted: bool = False
    unread_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


_Statement = TypeVar("_Statement", Opening, Manifest)


def opening(payload: dict[str, Any]) -> Opening:
    """A typed opening statement.

    Raises:
        EvidenceError: The payload is not one.
    """
    return _typed(payload, Opening)


def manifest(payload: dict[str, Any]) -> Manifest:
    """A typed manifest.

    Raises:
        EvidenceError: The payload is not one.
    """
    return _typed(payload, Manifest)


def without_picture(opened: Opening | None, closed: Manifest | None) -> bool:
    """True if by its statements a segment has no picture; False also if they can't show it.

    Args:
        opened: Its opening statement; None if there is none.
        closed: Its manifest; None if there is none.
    """
    if opened is not None and all(track.kind is not Kind.VIDEO for track in opened.tracks):
        return True
    if closed is None:
        return False
    counted = not closed.recovered and all(written.kind is not Kind.VIDEO for written in closed.written)
    return counted or not closed.bytes


def _typed(payload: dict[str, Any], kind: type[_Statement]) -> _Statement:
    try:
        value = msgspec.convert(payload, kind)
    except msgspec.MsgspecError as error:
        raise EvidenceError(f"expected {kind.__name__.lower()} of a segment: {error}") from error
    if value.format not in FORMATS:
        known = " or ".join(FORMATS)
        raise EvidenceError(f"expected the format {known}, got {value.format[:40]!r}; a newer bwc-agent may read it")
    if value.format != FORMAT and (value.interrupted or (isinstance(value, Manifest) and value.unread_bytes)):
        raise EvidenceError(f"expected no statement of the format {FORMAT} in one of {value.format}")
    return value
