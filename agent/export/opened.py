"""The result of opening a recording: the files, what is missing, and the sentences that report both. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.journal.wording import details_text
from agent.media.packet import Kind
from agent.verify.findings import number


@dataclass(frozen=True, slots=True)
class OpenedGap:
    """Time without picture or sound in a file.

    Attributes:
        kind: What was missing.
        from_s, to_s: Seconds from the file's beginning.
        from_utc, to_utc: Time of day by the recorder's clock; `?` where it is unknown.
        cause: The reason, as far as manifest and journal state it.
        silent_frames: Frames of silence that were inserted.
        known: False if no clock measured how long it was; the length shown is then arbitrary.
    """

    kind: Kind
    from_s: float
    to_s: float
    from_utc: str
    to_utc: str
    cause: str
    silent_frames: int
    known: bool


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that was written.

    Attributes:
        path: The MP4.
        text: Its text as WebVTT, beside it.
        segments: Numbers of the segments in it.
        begins: UTC of its beginning, with its provenance in words; empty where it is unknown.
        packets: The recording's own, by kind; inserted silence is not among them.
        repeated: Packets that two segments held and that are in the file once.
        gaps: In order.
        index_in_front: True if it can be played while it is being downloaded.
    """

    path: Path
    text: Path
    segments: Sequence[int]
    begins: str
    seconds: float
    packets: Mapping[Kind, int]
    repeated: int
    silent_frames: int
    gaps: Sequence[OpenedGap]
    index_in_front: bool


@dataclass(slots=True)
class OpenedSegment:
    """What was opened of a sealed segment.

    Attributes:
        ended: Why it ended, by its manifest; empty if it has none.
        recovered: True if a later boot closed it.
        seconds: From its first to the end of its last packet.
        packets: By kind.
        sealed_bytes: Size of the sealed file.
        opened_bytes: Sealed bytes up to the end of the last whole frame.
        torn_bytes: Sealed bytes after that: never authenticated, and left out.
        torn_because: Why these do not open although they look like frames; empty if they do not look so.
        partial_bytes: Plaintext bytes of an incomplete fragment, left out.
        unattested_bytes: Opened bytes after the last attestation.
        complete: False if anything of it is missing.
    """

    number: int
    ended: str = ""
    recovered: bool = False
    seconds: float = 0.0
    packets: dict[Kind, int] = field(default_factory=dict)
    sealed_bytes: int = 0
    opened_bytes: int = 0
    torn_bytes: int = 0
    torn_because: str = ""
    partial_bytes: int = 0
    unattested_bytes: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class OpenedEvent:
    """Something that the journal or a manifest states about the recording.

    Attributes:
        details: Its sealed details; empty if there are none, or they do not open.
        problem: Why they do not open; empty if they do, or there are none.
    """

    utc: str
    text: str
    details: Mapping[str, Any]
    problem: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The result of opening a recording.

    Attributes:
        verified: False if it was opened without being checked.
        missing: What was recorded, or should have been, and is not in the files: one sentence each.
        notes: Further remarks for the viewer.
    """

    agency: str
    device: str
    recording: str
    verified: bool
    files: Sequence[OpenedFile]
    segments: Sequence[OpenedSegment]
    events: Sequence[OpenedEvent]
    missing: Sequence[str]
    notes: Sequence[str]

    @property
    def complete(self) -> bool:
        """True if nothing is missing."""
        return not self.missing

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        value = asdict(self)
        for file in value["files"]:
            file["path"], file["text"] = str(file["path"]), str(file["text"])
        return {**value, "complete": self.complete}


def packets_text(packets: Mapping[Kind, int]) -> str:
    """Such as `370 pictures and 578 sound frames`."""
    parts = []
    if Kind.VIDEO in packets:
        parts.append(number(packets[Kind.VIDEO], "picture"))
    if Kind.AUDIO in packets:
        parts.append(number(packets[Kind.AUDIO], "sound frame"))
    return " and ".join(parts) or "nothing"


def segments_text(first: int, last: int) -> str:
    """Such as `segment 3` and `segments 3 to 5`."""
    return f"segment {first}" if first == last else f"segments {first} to {last}"


def cut_sentence(segment: OpenedSegment, journalled_s: float) -> str:
    """What opened of an incomplete segment, and what is known of the rest.

    Args:
        segment: The segment.
        journalled_s: How long the recorder journalled after it, at least.
    """
    why = f"ended by {segment.ended.replace('_', ' ')}" if segment.ended else "never closed"
    text = f"segment {segment.number} is cut ({why}): opened up to its last whole fragment, {segment.seconds:.3f} s"
    text += f" with {packets_text(segment.packets)}"
    if segment.torn_bytes:
        text += f"; {number(segment.torn_bytes, 'byte')} after its last whole frame are torn and not given back"
        if segment.torn_because:
            text += f" (as a power cut can leave them; what does not fit: {segment.torn_because})"
    if segment.partial_bytes:
        text += f"; {number(segment.partial_bytes, 'byte')} of a fragment that is not whole are not given back"
    if segment.unattested_bytes:
        text += f"; its last {number(segment.unattested_bytes, 'byte')} were not attested before it was cut"
    if journalled_s:
        text += f"; the recorder still journalled {journalled_s:.3f} s after that"
    return text


def gap_sentence(gap: OpenedGap) -> str:
    """Such as `no picture from 12.000 s to 14.000 s (23:40:07.000 to 23:40:09.000): source gap`."""
    what = "no sound" if gap.kind is Kind.AUDIO else "no picture"
    clock = "" if "?" in (gap.from_utc, gap.to_utc) else f" ({gap.from_utc} to {gap.to_utc} UTC)"
    if not gap.known:
        return f"{what} after {gap.from_s:.3f} s for a time that no clock measured: {gap.cause}"
    return f"{what} from {gap.from_s:.3f} s to {gap.to_s:.3f} s{clock}: {gap.cause}"


def file_sentence(file: OpenedFile) -> str:
    """A file and its content in one sentence."""
    which = segments_text(file.segments[0], file.segments[-1])
    text = f"{file.path} (text in {file.text.name}): {file.seconds:.3f} s, {packets_text(file.packets)}, {which}"
    if file.begins:
        text += f", from {file.begins}"
    if file.silent_frames:
        text += f"; {number(file.silent_frames, 'frame')} of silence inserted"
    if file.repeated:
        text += f"; {number(file.repeated, 'packet')} that two segments hold are in it once"
    return text


def event_sentence(event: OpenedEvent) -> str:
    """Such as `23:40:07.123 UTC stop recording requested: wearer; declared encounter_state=concluded`."""
    when = f"{event.utc[11:23]} UTC " if event.utc else ""
    details = details_text(event.details)
    text = f"{when}{event.text}{': ' if details else ''}{details}"
    return f"{text} ({event.problem})" if event.problem else text
