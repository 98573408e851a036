"""A segment being made: packets in, sealed bytes and signed statements out. No storage, no clock, no thread.

A segment's plaintext is the initialisation segment, then fragments of at most `FRAGMENT_NS` of media, each padded by a
`free` box to whole frames of the sealed message, so that each can be sealed, written and synced at once. Its time 0 is
the earliest time in its first fragment; each track's decode times count from there in the track's own ticks, and
`base_ticks` in the opening statement leads back to the source's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from agent.clock import NS
from agent.encoding.digest import Sha256
from agent.encoding.strict_json import encode_json, sha256_hex
from agent.evidence.details import Details, DetailsKey
from agent.evidence.manifest import (
    FORMAT,
    MANIFEST_TYPE,
    OPENING_TYPE,
    SECOND_VERSION,
    Ended,
    Gap,
    Manifest,
    Moment,
    Opening,
    PreEventLength,
    Span,
    Track,
    Written,
    track,
)
from agent.keys import jws
from agent.keys.signer import Signer
from agent.media import fmp4
from agent.media.packet import Kind, Packet, Stream, StreamParameters
from agent.media.ring import GAP_NS
from agent.seal.recipients import Recipient
from agent.seal.writer import RandomBytes, Sealer

FRAGMENT_NS = NS // 5


class Streams(NamedTuple):
    """The streams that a source delivers; either may be missing."""

    video: Stream | None
    audio: Stream | None

    @property
    def parameters(self) -> tuple[StreamParameters | None, StreamParameters | None]:
        """How to decode them: a segment lasts as long as this does not change."""
        return (self.video.parameters if self.video else None, self.audio.parameters if self.audio else None)


@dataclass(frozen=True, slots=True)
class Identity:
    """Agency, device and boot of a segment, its signer and its recipients.

    Attributes:
        boot_certificate: SHA-256 of the boot certificate of `signer`.
        recipients: Those for whom the segment's data key is wrapped; `recipient_set` is their opaque id.
        policy: SHA-256 of the policy in force.
    """

    agency: str
    device: str
    boot: int
    boot_certificate: str
    signer: Signer
    details: DetailsKey
    recipients: Sequence[Recipient]
    recipient_set: str
    policy: str


@dataclass(frozen=True, slots=True)
class Place:
    """A segment's place in its recording.

    Attributes:
        segment: Its number, from 1.
        previous: SHA-256 of the manifest before it, or of the opening statement before it if that one was
            `interrupted`.
    """

    recording: str
    segment: int
    previous: str
    interrupted: bool = False


@dataclass(slots=True)
class _TrackState:
    parameters: StreamParameters
    base_ticks: int
    stream: Stream
    shift: int = 0
    packets: int = 0
    first: int = 0
    end: int = 0
    gaps: list[Gap] = field(default_factory=list)


class SegmentBuilder:
    """One segment from its opening statement to its manifest.

    Args:
        identity, place: Of the segment.
        streams: What the source delivers; packets of other parameters belong into another segment.
        first_ns: The earliest time in the first fragment: the segment's time 0.
        start: The same moment on both clocks.
        journal_head: Hash of the newest journal line.
        frame_length: Of the sealed message.
        random_bytes: Source of the data key.
        pre_event: Of a recording's first segment.
        overlap: True if it repeats pictures of the segment before.

    Attributes:
        opening: The opening statement, a JWS, to be stored before anything else.
        prologue: The first sealed bytes: header and initialisation segment.
    """

    def __init__(
        self,
        identity: Identity,
        place: Place,
        streams: Streams,
        *,
        first_ns: int,
        start: Moment,
        journal_head: str,
        frame_length: int,
        random_bytes: RandomBytes,
        pre_event: PreEventLength | None = None,
        overlap: bool = False,
    ) -> None:
        self._identity = identity
        self.place = place
        self.parameters = streams.parameters
        self.first_ns = first_ns
        context = {
            "bwc-format": FORMAT,
            "agency": identity.agency,
            "device": identity.device,
            "recording": place.recording,
            "segment": str(place.segment),
            "recipients": identity.recipient_set,
            "policy": identity.policy,
            "journal": journal_head,
        }
        self._sealer = Sealer(identity.recipients, context, frame_length, random_bytes)
        self._tracks = {
            stream.parameters.kind: _TrackState(stream.parameters, _ticks_at(stream, first_ns), stream)
            for stream in streams
            if stream is not None
        }
        statement = Opening(
            format=FORMAT,
            agency=identity.agency,
            device=identity.device,
            boot=identity.boot,
            boot_certificate=identity.boot_certificate,
            recording=place.recording,
            segment=place.segment,
            previous=place.previous,
            header=sha256_hex(self._sealer.header),
            frame_length=frame_length,
            tracks=[track(state.parameters, state.base_ticks) for state in self._tracks.values()],
            start=start,
            recipients=identity.recipient_set,
            policy=identity.policy,
            pre_event=pre_event,
            overlap=overlap,
            interrupted=place.interrupted,
        )
        self.opening = jws.sign(identity.signer, OPENING_TYPE, msgspec.to_builtins(statement)).encode()
        self._fragments = 0
        self._hash = Sha256()
        self.bytes = 0
        init = fmp4.init_segment(*self.parameters, multiple_of=frame_length)
        self.prologue = self._count(self._sealer.header + self._sealer.seal(init))

    @property
    def tracks(self) -> list[Track]:
        """The tracks as the opening statement declares them."""
        return [track(state.parameters, state.base_ticks) for state in self._tracks.values()]

    @property
    def sha256(self) -> str:
        """Hash of all bytes given out so far; `bytes` is their number."""
        return self._hash.hexdigest()

    def _count(self, sealed: bytes | bytearray) -> bytes | bytearray:
        self._hash.update(sealed)
        self.bytes += len(sealed)
        return sealed

    def fragment(self, packets: Sequence[Packet]) -> bytes | bytearray:
        """The sealed bytes of one fragment of at most `FRAGMENT_NS`, for storage at once.

        Raises:
            SourceError: The packets' times do not fit the container; nothing was added.
        """
        runs = []
        for kind, state in self._tracks.items():
            own = [packet for packet in packets if packet.stream.parameters.kind is kind]
            if own:
                runs.append(self._run(kind, state, own))
        data = fmp4.fragment(self._fragments + 1, runs, multiple_of=self._sealer.frame_length)
        self._fragments += 1
        for run in runs:
            self._note(run)
        return self._count(self._sealer.seal(data))

    def _run(self, kind: Kind, state: _TrackState, own: list[Packet]) -> fmp4.Run:
        first = own[0]
        if first.stream is not state.stream:
            # The source was reopened with equal parameters: convert its ticks to this segment's time line.
            state.stream = first.stream
            state.shift = _ticks_at(first.stream, self.first_ns) - state.base_ticks
        own, base = _not_before_zero(own, first.ticks - state.shift - state.base_ticks)
        return fmp4.Run(fmp4.TRACK_IDS[kind], base, own)

    def _note(self, run: fmp4.Run) -> None:
        kind = run.packets[0].stream.parameters.kind
        state = self._tracks[kind]
        start = state.base_ticks + run.base_decode_time
        if not state.packets:
            state.first = start
        elif (start - state.end) * NS > GAP_NS * state.parameters.timescale:
            state.gaps.append(Gap(kind, state.end, start))
        state.packets += len(run.packets)
        state.end = start + run.packets[-1].ticks - run.packets[0].ticks + run.packets[-1].duration

    def finish(self) -> bytes:
        """The message's final frame; nothing can be added after it."""
        return bytes(self._count(self._sealer.finish()))

    @property
    def finished(self) -> bool:
        """True once the final frame was made."""
        return self._sealer.finished

    @property
    def frames(self) -> int:
        """Sealed frames so far, the final one included."""
        return self._sealer.frames

    def manifest(
        self,
        ended: Ended,
        *,
        stop: Moment | None = None,
        lost_packets: int = 0,
        withheld: Sequence[Span] = (),
        details: Details | None = None,
        before: str = "",
    ) -> bytes:
        """The manifest over all that was given out: a JWS, to be stored after the last byte.

        Args:
            ended: Why the segment ended; `stopped` makes it the recording's final one.
            stop: When the recording ended, if it did.
            lost_packets: That fell out of memory while this segment was written.
            withheld: What was kept out of it on purpose.
            details: Who permitted that; sealed.
            before: SHA-256 of the manifest by which the interrupted segment before was closed meanwhile; empty if it
                was not, or was not interrupted.
        """
        statement = Manifest(
            format=FORMAT,
            agency=self._identity.agency,
            device=self._identity.device,
            boot=self._identity.boot,
            boot_certificate=self._identity.boot_certificate,
            recording=self.place.recording,
            segment=self.place.segment,
            previous=before or self.place.previous,
            opening=sha256_hex(self.opening),
            ended=ended,
            final=ended == "stopped",
            recovered=False,
            bytes=self.bytes,
            sha256=self.sha256,
            whole_frames=self.frames,
            whole_bytes=self.bytes,
            attested_bytes=self.bytes,
            written=[Written(k, s.packets, s.first, s.end) for k, s in self._tracks.items() if s.packets],
            gaps=[gap for state in self._tracks.values() for gap in state.gaps],
            lost_packets=lost_packets,
            stop=stop,
            withheld=list(withheld),
            interrupted=self.place.interrupted and not before,
        )
        return signed_manifest(self._identity, statement, details)


def signed_manifest(identity: Identity, statement: Manifest, details: Details | None) -> bytes:
    """The JWS of a manifest, its details sealed and bound to all its other fields."""
    if details:
        statement = msgspec.structs.replace(statement, sealed=identity.details.seal(details, _public(statement)))
    return jws.sign(identity.signer, MANIFEST_TYPE, msgspec.to_builtins(statement)).encode()


def manifest_details(statement: Manifest, key: DetailsKey) -> dict[str, object]:
    """What `signed_manifest` sealed; empty if nothing.

    Raises:
        EvidenceError: The details do not open with this key.
    """
    if not statement.sealed:
        return {}
    return key.open(statement.sealed, _public(statement))


def _public(statement: Manifest) -> bytes:
    """The bytes that a manifest's details are bound to: all its other fields that its version has."""
    public = msgspec.to_builtins(msgspec.structs.replace(statement, sealed=""))
    if statement.format != FORMAT:
        for name in SECOND_VERSION:
            del public[name]
    return encode_json(public)


def _ticks_at(stream: Stream, time_ns: int) -> int:
    """The first tick of a stream at or after a monotonic time."""
    return -((stream.epoch_ns - time_ns) * stream.parameters.timescale // NS)


def _not_before_zero(own: list[Packet], base: int) -> tuple[list[Packet], int]:
    """Move packets before the segment's time 0 to it.

    That is rounding by less than a tick after a source was opened again; more only if a source delivers packets over
    a fragment's length out of order. A packet at a wrong time is better than a lost one.
    """
    if base >= 0:
        return own, base
    zero = own[0].ticks - base
    return [replace(packet, ticks=max(packet.ticks, zero)) for packet in own], 0
