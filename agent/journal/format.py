"""The journal: append-only JSON Lines, each chained to the one before by hash, with signed checkpoints.

The format, in order:
1. A line is canonical JSON (sorted names, no white space), ended by a line feed. Its names: `n` (counts from 1 over all
   boots), `utc`, `clock` (its source), `within_ms` (bound on its error, or null), `mono_us` (monotonic clock), `prev`,
   `entry` (see `agent.journal.entries`), and `sealed` where there are details.
2. `prev` is the SHA-256 of the line before, without its line feed; of the very first line, of the device certificate.
   The chain runs on from one boot's file to the next, so a file can't be left out.
3. The first line of a file is a `boot` entry whose certificate names the boot's signing key.
4. A `checkpoint` entry holds a JWS by that key over number and hash of the line before it, over the checkpoint line's
   own times, and, while recording, over how many bytes of the open segment were synced and their hash. So all of a
   checkpoint's line is signed, the newest one's too. What follows the last one is chained, not signed.
5. `utc` does not fall below that of the line before: a clock that was set back is held at the last journalled time, and
   then its source is `held`. One exception: a synchronised clock corrects the time of an unsynchronised one, but never
   to before the lower bound of `agent.journal.time_lower_bound`; a `clock_taken_back` entry says so.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from agent.clock import Clocks, WallReading, parse_utc, utc_text
from agent.encoding.strict_json import encode_json, sha256_hex, strict_json
from agent.errors import EvidenceError
from agent.evidence.details import Details, DetailsKey
from agent.evidence.names import NoRecording
from agent.journal.entries import AnyEntry, Checkpoint, ClockTakenBack, Entry
from agent.journal.time_lower_bound import TimeLowerBound
from agent.keys import jws
from agent.keys.signer import Signer

CHECKPOINT_TYPE = "bwc-checkpoint+jws"
MAX_LINE = 1 << 16
HELD = "held"


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """What is attested of a segment under writing: `bytes` were synced, and `sha256` is their hash."""

    recording: str
    segment: int
    bytes: int
    sha256: str


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint, to be shown to others: it signs the chain up to line `n`. Empty before the first."""

    n: int = 0
    jws: str = ""


class CheckpointPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a checkpoint signs: the chain up to line `n`, its own line's times, and the open segment, if any."""

    device: str
    boot: int
    n: int
    head: str
    utc: str
    clock: str
    within_ms: int | None
    mono_us: int
    recording: NoRecording = ""
    segment: Annotated[int, msgspec.Meta(ge=0, le=999_999)] = 0
    bytes: Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)] = 0
    sha256: str = ""


_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: _Count
    utc: str
    clock: str
    within_ms: _Count | None
    mono_us: _Count
    prev: str
    entry: AnyEntry
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, read back.

    Attributes:
        utc_ns: Nanoseconds since 1970; `wall` says how far they are to be trusted.
        hash: SHA-256 of the line, which the next one names as `prev`.
        sealed: Sealed details, empty if there are none. They are bound to `public`, the line without them.
    """

    n: int
    wall: WallReading
    mono_us: int
    prev: str
    entry: AnyEntry
    sealed: str
    public: bytes
    hash: str

    @property
    def within_ms(self) -> int | None:
        """Bound on the error of the time, as it stands in the line."""
        return None if self.wall.uncertainty_s is None else round(self.wall.uncertainty_s * 1000)

    def details(self, key: DetailsKey) -> dict[str, Any]:
        """The sealed details; empty if there are none.

        Raises:
            EvidenceError: They do not open with this key.
        """
        return key.open(self.sealed, self.public) if self.sealed else {}


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def parse_line(raw: bytes) -> Line:
    """One line without its line feed.

    Raises:
        EvidenceError: It is not exactly as this module writes lines.
    """
    if len(raw) > MAX_LINE:
        raise EvidenceError(f"expected a journal line of at most {MAX_LINE} bytes, got {len(raw)}")
    value = strict_json(raw)
    if encode_json(value) != raw:
        raise EvidenceError("expected a journal line in canonical JSON, got another spelling of it")
    try:
        envelope = _decode_envelope(raw)
        utc_ns = parse_utc(envelope.utc)
    except (msgspec.MsgspecError, ValueError) as error:
        raise EvidenceError(f"expected a journal line of a known kind: {error}") from error
    sealed = value.pop("sealed", "")
    within = None if envelope.within_ms is None else envelope.within_ms / 1000
    return Line(
        n=envelope.n,
        wall=WallReading(utc_ns, envelope.clock, within),
        mono_us=envelope.mono_us,
        prev=envelope.prev,
        entry=envelope.entry,
        sealed=sealed,
        public=encode_json(value),
        hash=sha256_hex(raw),
    )


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines without their line feeds, and what follows the last line feed."""
    *lines, rest = data.split(b"\n")
    return lines, rest


def checkpoint_payload(payload: dict[str, Any]) -> CheckpointPayload:
    """A checkpoint's typed payload.

    Raises:
        EvidenceError: It has not this form.
    """
    try:
        return msgspec.convert(payload, CheckpointPayload)
    except msgspec.MsgspecError as error:
        raise EvidenceError(f"expected a checkpoint: {error}") from error


class Journal:
    """Makes the lines of one boot. The caller stores each of them, in order, before the next sync.

    Args:
        device, boot: Whose journal this is.
        signer: The boot's signing key.
        details: The boot's details key.
        clocks: Both clocks.
        head: Hash of the last line so far, or of the device certificate.
        number: Number of the last line so far, 0 if there is none.
        floor: Time of the last line so far; None if there is none.
        sure_utc_ns: A time that had certainly passed by then; 0 if unknown.
    """

    def __init__(
        self,
        *,
        device: str,
        boot: int,
        signer: Signer,
        details: DetailsKey,
        clocks: Clocks,
        head: str,
        number: int = 0,
        floor: WallReading | None = None,
        sure_utc_ns: int = 0,
    ) -> None:
        self._device = device
        self._boot = boot
        self._signer = signer
        self._details = details
        self._clocks = clocks
        self._head = head
        self._number = number
        self._floor = floor.utc_ns if floor is not None else 0
        self._floor_sure = floor is None or floor.trusted
        self._sure = TimeLowerBound(sure_utc_ns, clocks.monotonic_ns())
        self._newest = Signed()

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self._head

    @property
    def number(self) -> int:
        """Number of the last line."""
        return self._number

    @property
    def newest(self) -> "Signed":
        """The newest checkpoint that was made."""
        return self._newest

    def wall(self) -> WallReading:
        """The wall clock, held at the last journalled time if it lies before that (rule 5)."""
        reading = self._clocks.wall()
        takes_back = reading.trusted and not self._floor_sure
        if reading.trusted and self._sure.contradicts(reading, self._clocks.monotonic_ns()):
            return WallReading(max(self._floor, reading.utc_ns), HELD, None)
        if reading.utc_ns < self._floor and not takes_back:
            return WallReading(self._floor, HELD, None)
        return reading

    def line(self, entry: Entry, details: Details | None = None) -> bytes:
        """The next line, ended by a line feed. It must be stored, because the chain continues from it.

        Raises:
            EvidenceError: The entry or its details can't be written as a line; the chain is unchanged.
        """
        times, taken_back = self._times()
        line = self._line(entry, details, times)
        return line + self._line(taken_back, None, times) if taken_back is not None else line

    def _times(self) -> tuple[dict[str, Any], ClockTakenBack | None]:
        """The times of a line, and what is to be journalled of the clock."""
        wall = self.wall()
        taken_back_ms = (self._floor - wall.utc_ns) // 1_000_000
        if wall.source != HELD:
            self._floor_sure = wall.trusted
        self._floor = wall.utc_ns
        self._sure.learn(wall, self._clocks.monotonic_ns())
        times = {
            "utc": utc_text(wall.utc_ns),
            "clock": wall.source,
            "within_ms": None if wall.uncertainty_s is None else int(wall.uncertainty_s * 1000) + 1,
            "mono_us": self._clocks.monotonic_ns() // 1000,
        }
        return times, ClockTakenBack(taken_back_ms) if taken_back_ms > 0 else None

    def _line(self, entry: Entry, details: Details | None, times: dict[str, Any]) -> bytes:
        public = {
            "n": self._number + 1,
            **times,
            "prev": self._head,
            "entry": msgspec.to_builtins(entry),
        }
        if details:
            public["sealed"] = self._details.seal(details, encode_json(public))
        raw = encode_json(public)
        if len(raw) > MAX_LINE:
            raise EvidenceError(f"expected a journal line of at most {MAX_LINE} bytes, made one of {len(raw)}")
        self._number += 1
        self._head = sha256_hex(raw)
        return raw + b"\n"

    def checkpoint(self, segment: OpenSegment | None = None) -> bytes:
        """A line that signs the chain so far, and the open segment's synced bytes."""
        times, taken_back = self._times()
        said = self._line(taken_back, None, times) if taken_back is not None else b""
        payload = CheckpointPayload(device=self._device, boot=self._boot, n=self._number, head=self._head, **times)
        if segment is not None:
            payload = msgspec.structs.replace(
                payload,
                recording=segment.recording,
                segment=segment.segment,
                bytes=segment.bytes,
                sha256=segment.sha256,
            )
        entry = Checkpoint(jws.sign(self._signer, CHECKPOINT_TYPE, msgspec.to_builtins(payload)))
        self._newest = Signed(payload.n, entry.jws)
        return said + self._line(entry, None, times)
