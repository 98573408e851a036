"""Topics and messages between a device and a station, version 1.

Below `bwc/v1/{agency}/{device}/` a device writes `state`, `status` and `event`, and reads `inbox/ack`, `inbox/dock`
and `inbox/policy`; besides these it reads `bwc/v1/{agency}/policy`, and nothing else. `inbox/dock` and the two policy
topics carry a compact JWS as it is, which the recorder itself checks; all else is JSON of the types below. `event` is a
CloudEvents 1.0 event in JSON, structured mode (CloudEvents MQTT binding 1.0.2, 3.2).

Over MQTT 5 each message carries its media type as the property Content Type (MQTT 5.0, 3.3.2.3.9; CloudEvents MQTT
binding, 3.2.1). MQTT 3.1.1 has no properties, and earlier versions of this package set none: a message without one is
accepted, one with another media type is not.

No message starts, stops, pauses or mutes anything; none holds a position, a person's name or anything of the pictures.

Each side treats the other as hostile. Every field has a bound that the published schemas state: texts and lists a
length, integers 2^53 - 1 (RFC 8259, 6: what every JSON reader can represent), and a message of a device or a station is
at most `MAX_JSON` bytes, nested at most `agent.encoding.strict_json.MAX_DEPTH` deep. A message beyond a bound is
refused as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from agent.encoding.strict_json import encode_json, strict_json
from agent.errors import EvidenceError

ROOT = "bwc/v1"
MAX_MESSAGE = (1 << 20) + (1 << 12)
"""Bytes of the largest message of all: a policy bundle."""
MAX_JSON = 1 << 16
"""Bytes of the largest state, status, event or acknowledgement."""
MAX_ATTESTATION = 2048
"""Bytes of the largest attestation: it holds two names and a nonce, some 450 bytes."""
JSON, CLOUDEVENT, JOSE = "application/json", "application/cloudevents+json", "application/jose"
"""RFC 8259, 11; CloudEvents JSON format 1.0.2, 3; RFC 7515, 9.2.1."""
CONTENT_TYPES: Mapping[str, str] = MappingProxyType(
    {"state": JSON, "status": JSON, "event": CLOUDEVENT, "ack": JSON, "dock": JOSE, "policy": JOSE}
)
"""The media type of a message, by the last level of its topic."""
SPECVERSION: Literal["1.0"] = "1.0"
MAX_ACKS = 256
MAX_CHECKS = 64
MAX_FIELDS = 64

_END = r"$(?!\n)"
"""`$` alone matches before a final line feed in Python; in ECMA 262 this equals `$`."""
Name = Annotated[str, msgspec.Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}", max_length=64)]
Uint53 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
Sha256 = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{64}}{_END}", max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
_TOKEN = rf"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+{_END}"
"""A compact JWS (RFC 7515, 3.1)."""
Token = Annotated[str, msgspec.Meta(pattern=_TOKEN, max_length=4096)]
BootToken = Annotated[str, msgspec.Meta(pattern=_TOKEN, max_length=1 << 15)]
"""It holds a sealed key for each recipient, of 1.6 KB with ML-KEM."""
Session = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{16}}{_END}", max_length=16)]
Utc = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^[0-9]{{4}}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{{6}}Z{_END}", max_length=27
    ),
]
CheckName = Annotated[str, msgspec.Meta(max_length=64)]
EntryName = Annotated[str, msgspec.Meta(max_length=64)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages. Readers ignore unknown fields, which later versions may add."""


class State(Message, frozen=True, kw_only=True):
    """Retained. `undocked` is published on leaving, `lost` by the broker if a device did not leave (the will).

    Attributes:
        session: Names one connection, to recognise a late `lost` of an earlier one.
    """

    v: Literal[1] = 1
    state: Literal["docked", "undocked", "lost"]
    session: Session


class Clock(Message, frozen=True, kw_only=True):
    """The recorder's wall clock: its source, and the bound on its error in ms, null if it is unknown."""

    source: Text
    within_ms: Uint53 | None


class Policy(Message, frozen=True, kw_only=True):
    """The policy in force: pack's name, bundle's version (0: built in) and SHA-256.

    Attributes:
        unsafe: It permits every request: the development policy of a bench.
    """

    name: Text
    version: Uint53
    digest: Sha256
    unsafe: bool = False


class SelfTest(Message, frozen=True, kw_only=True):
    """The test at the start of the shift: names of checks."""

    passed: Annotated[list[CheckName], msgspec.Meta(max_length=MAX_CHECKS)]
    failed: Annotated[list[CheckName], msgspec.Meta(max_length=MAX_CHECKS)]


class Storage(Message, frozen=True, kw_only=True):
    """Storage, as the recorder sees it; null where it is not known."""

    free_bytes: Uint53 | None
    time_left_s: Uint53 | None
    failing: bool


class Evidence(Message, frozen=True, kw_only=True):
    """What is on the card: recordings, segments, their sealed bytes, and how many segments have no receipt."""

    recordings: Uint53
    segments: Uint53
    bytes: Uint53
    pending_segments: Uint53


class SinceDock(Message, frozen=True, kw_only=True):
    """Counts since the previous docking, as far as the journal was read.

    Attributes:
        refused: Requests that were refused.
        tampered: Tamper events.
        declared_only: Grants on the wearer's word alone.
        pauses, mutes: How often pictures and sound, and sound alone, were suppressed.
    """

    refused: Uint53
    tampered: Uint53
    declared_only: Uint53 = 0
    pauses: Uint53 = 0
    mutes: Uint53 = 0


class Checkpoint(Message, frozen=True, kw_only=True):
    """The newest signed checkpoint on storage, which signs the journal up to `line`, and its certificates."""

    line: Uint53
    jws: Token
    device_certificate: Token
    boot_certificate: BootToken


class Confirmed(Message, frozen=True, kw_only=True):
    """The hash of a journal line that a station asked for; null if this journal has no such line."""

    line: Uint53
    hash: Sha256 | None


class Status(Message, frozen=True, kw_only=True):
    """Retained: the state of a device.

    Attributes:
        mode: `standby`, `recording`, `post_roll`, `privacy`, `muted` or `fault`.
        contact: The dock's contact is closed. `docked`: and a station attests it.
        nonce: What a station signs to attest the dock.
        battery_pct, temperature_c: Null where nothing measures it.
        boots: Boots of this device so far.
        confirms: Lines that stations asked for, which show whether the journal was exchanged.
    """

    v: Literal[1] = 1
    agency: Name
    device: Name
    session: Session
    version: Text
    mode: Literal["standby", "recording", "post_roll", "privacy", "muted", "fault"]
    contact: bool
    docked: bool
    nonce: Annotated[str, msgspec.Meta(pattern=rf"^[A-Za-z0-9_-]{{22}}{_END}", max_length=22)]
    policy: Policy
    clock: Clock
    storage: Storage
    evidence: Evidence
    since_dock: SinceDock
    self_test: SelfTest | None
    checkpoint: Checkpoint | None
    confirms: Annotated[list[Confirmed], msgspec.Meta(max_length=8)]
    battery_pct: Annotated[int, msgspec.Meta(ge=0, le=100)] | None
    temperature_c: Annotated[float, msgspec.Meta(ge=-274, le=1000)] | None
    uptime_s: Uint53
    boots: Uint53


class EventData(Message, frozen=True, kw_only=True):
    """A journal line's public part: number, hash, time with provenance, and the entry (`agent.journal.entries`).

    A boot's entry comes without its certificate. Of an entry with which the event would exceed `MAX_JSON` only the kind
    is sent, with `left_out` true.
    """

    line: Uint53
    hash: Sha256
    clock: Text
    within_ms: Uint53 | None
    mono_us: Uint53
    entry: Annotated[dict[EntryName, Any], msgspec.Meta(max_length=MAX_FIELDS)]


class Event(Message, frozen=True, kw_only=True):
    """A CloudEvents 1.0 event. `id` is the journal line's hash: the same event again has the same one."""

    specversion: Literal["1.0"]
    id: Sha256
    source: Annotated[str, msgspec.Meta(pattern=rf"^/bwc/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+{_END}", max_length=134)]
    type: Annotated[str, msgspec.Meta(pattern=rf"^bwc\.v1\.[a-z_]+{_END}", max_length=64)]
    time: Utc
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Literal["urn:bwc:v1:event"] = "urn:bwc:v1:event"
    data: EventData


class Ack(Message, frozen=True, kw_only=True):
    """A station has these events on storage.

    Attributes:
        station: Which one.
        ids: Of the events.
        seen: The newest journal line of this device whose hash the station knows, to be confirmed; 0 for none.
        began: The station has just begun to listen, and may have missed earlier messages.
    """

    v: Literal[1] = 1
    station: Text
    ids: Annotated[list[Sha256], msgspec.Meta(max_length=MAX_ACKS)]
    seen: Uint53 = 0
    began: bool = False


_M = TypeVar("_M", bound=Message)


def encode(message: Message) -> bytes:
    """A message as JSON."""
    return encode_json(msgspec.to_builtins(message))


def decode(data: bytes, kind: type[_M]) -> _M:
    """A message of a kind; unknown fields are ignored.

    Raises:
        EvidenceError: It is longer than `MAX_JSON`, no strict JSON object, not of this kind, or an event whose
            `specversion` is missing or another one.
    """
    if len(data) > MAX_JSON:
        raise EvidenceError(f"expected at most {MAX_JSON} bytes of {kind.__name__}, got {len(data)}")
    fields = strict_json(data)
    if kind is Event and fields.get("specversion") != SPECVERSION:
        found = "none" if "specversion" not in fields else f"{fields['specversion']!r:.40}"
        raise EvidenceError(f"expected a CloudEvents event with specversion {SPECVERSION!r}, got {found}")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise EvidenceError(f"expected a message of kind {kind.__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device."""

    agency: str
    device: str

    def _of(self, rest: str) -> str:
        return f"{ROOT}/{self.agency}/{self.device}/{rest}"

    @property
    def state(self) -> str:
        """Device to station."""
        return self._of("state")

    @property
    def status(self) -> str:
        """Device to station."""
        return self._of("status")

    @property
    def event(self) -> str:
        """Device to station."""
        return self._of("event")

    @property
    def ack(self) -> str:
        """Station to device."""
        return self._of("inbox/ack")

    @property
    def dock(self) -> str:
        """Station to device: an attestation."""
        return self._of("inbox/dock")

    @property
    def policy(self) -> str:
        """Publisher to this device: a bundle."""
        return self._of("inbox/policy")

    @property
    def agency_policy(self) -> str:
        """Publisher to all devices of the agency: a bundle, retained."""
        return f"{ROOT}/{self.agency}/policy"


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to be sent, at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False

    @property
    def content_type(self) -> str:
        """Its media type, derived from the topic so that no message is sent without one."""
        return CONTENT_TYPES[self.topic.rpartition("/")[2]]
