"""The AWS Encryption SDK message format, version 2: header and frame layout, and a structural scan without a key.

Source: github.com/awslabs/aws-encryption-sdk-specification, `data-format/message.md`, `message-header.md`,
`message-body.md`, `message-body-aad.md` and `framework/algorithm-suites.md`. Of the options there, exactly one kind
of message is written and read here:

1. Message format version 2 and algorithm suite 0x0478: AES-256-GCM, HKDF with SHA-512, key commitment, no signature.
2. Framed content. Frames are numbered from 1; a frame's IV is its number.
3. One to 16 encrypted data keys; at most 1 MiB of plaintext a frame.
4. An encryption context whose keys are sorted by their UTF-8 bytes and differ; `aws-crypto-public-key`, reserved for
   suites with a signature, is not among them.
5. Nothing follows the final frame.
"""

import io
import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from agent.errors import EvidenceError

VERSION = 2
SUITE = 0x0478
FRAMED = 2

MAX_RECIPIENTS = 16
MAX_FRAME_LENGTH = 1 << 20
MAX_FRAMES = 0xFFFF_FFFF
MAX_SIZED = 0xFFFF
"""Largest value of a header's 16 bit lengths, in bytes."""

KEY_LENGTH = 32
MESSAGE_ID_LENGTH = 32
COMMITMENT_LENGTH = 32
IV_LENGTH = 12
TAG_LENGTH = 16

HEADER_IV = bytes(IV_LENGTH)
DERIVE_LABEL = struct.pack(">H", SUITE) + b"DERIVEKEY"
COMMIT_LABEL = b"COMMITKEY"
REGULAR_FRAME = b"AWSKMSEncryptionClient Frame"
FINAL_FRAME = b"AWSKMSEncryptionClient Final Frame"
RESERVED_CONTEXT_KEY = "aws-crypto-public-key"

END_FRAME = 0xFFFF_FFFF
"""Marks the final frame; precedes its sequence number."""

REGULAR_HEAD = struct.Struct(">IQI")
"""Head of a regular frame: sequence number, then the IV, which is the sequence number in 12 bytes."""
FINAL_HEAD = struct.Struct(">IIQII")
"""Head of the final frame: `END_FRAME`, sequence number, IV as above, length of the content in bytes."""
BODY_AAD_TAIL = struct.Struct(">IQ")
"""End of the body AAD (message-body-aad.md): sequence number, length of the content in bytes."""

FRAME_OVERHEAD = REGULAR_HEAD.size + TAG_LENGTH
"""Bytes that a regular frame adds to its content."""

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")


class Readable(Protocol):
    """A source of bytes: a file, a pipe, a `BytesIO`."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, at least one, or none at the end."""


class Seekable(Readable, Protocol):
    """A file-like object that can be scanned without reading all of it."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte; returns the new position."""


@dataclass(frozen=True, slots=True)
class EncryptedDataKey:
    """The data key, wrapped for one recipient (message-header.md, "Encrypted data key entries").

    Attributes:
        provider_id: Key provider id, which names the way of wrapping.
        provider_info: Key provider information, which names the recipient's key.
        ciphertext: The wrapped data key.
    """

    provider_id: str
    provider_info: bytes
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Header:
    """A message header (message-header.md), including its authentication tag.

    Attributes:
        message_id: 32 random bytes.
        context: The encryption context: readable without a key, authenticated by it.
        recipients: The data key, once for each recipient.
        frame_length: Bytes of plaintext in each frame but the last.
        commitment: Algorithm suite data: 32 bytes that tie the message to one data key.
        tag: Header authentication tag, 16 bytes.
    """

    message_id: bytes
    context: Mapping[str, str]
    recipients: tuple[EncryptedDataKey, ...]
    frame_length: int
    commitment: bytes
    tag: bytes

    def body(self) -> bytes:
        """The authenticated part of the header: everything but the tag itself."""
        context = serialize_context(self.context)
        parts = [struct.pack(">BH", VERSION, SUITE), self.message_id, _U16.pack(len(context)), context]
        parts.append(_U16.pack(len(self.recipients)))
        for key in self.recipients:
            parts += map(_sized, (key.provider_id.encode(), key.provider_info, key.ciphertext))
        parts += (struct.pack(">BI", FRAMED, self.frame_length), self.commitment)
        return b"".join(parts)

    def serialize(self) -> bytes:
        """The header's bytes, exactly as they were or will be written."""
        return self.body() + self.tag


def _sized(data: bytes) -> bytes:
    if len(data) > MAX_SIZED:
        raise EvidenceError(f"expected at most {MAX_SIZED} bytes in a field of a message header, got {len(data)}")
    return _U16.pack(len(data)) + data


def serialize_context(context: Mapping[str, str]) -> bytes:
    """An encryption context's bytes (message-header.md, "Key Value Pairs"): empty for an empty one.

    Raises:
        EvidenceError: It is too long for the format, or uses the reserved key.
    """
    if RESERVED_CONTEXT_KEY in context:
        raise EvidenceError(
            f"expected an encryption context without {RESERVED_CONTEXT_KEY}: this suite has no signature"
        )
    if not context:
        return b""
    try:
        pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    except UnicodeEncodeError as error:
        raise EvidenceError(f"expected an encryption context that UTF-8 can express: {error}") from error
    data = _U16.pack(len(pairs)) + b"".join(_sized(key) + _sized(value) for key, value in pairs)
    if len(data) > MAX_SIZED:
        raise EvidenceError(f"expected an encryption context of at most {MAX_SIZED} bytes, got {len(data)}")
    return data


def read_exactly(stream: Readable, size: int) -> bytes:
    """`size` bytes, or as many as there are before the end."""
    data = stream.read(size)
    if len(data) == size or not data:
        return data
    parts = bytearray(data)
    while len(parts) < size and (data := stream.read(size - len(parts))):
        parts += data
    return bytes(parts)


class _Fields:
    """Reads a header's fields in sequence and keeps the position."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def take(self, size: int, what: str) -> bytes:
        data = read_exactly(self._stream, size)
        if len(data) != size:
            raise EvidenceError(f"the message ends within its header, at its {what}: nothing of it can be opened")
        return data

    def u16(self, what: str) -> int:
        return int(_U16.unpack(self.take(2, what))[0])

    def sized(self, what: str) -> bytes:
        return self.take(self.u16(what), what)


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise EvidenceError(f"expected UTF-8 as {what} of a message, got {data[:40]!r}") from error


def _parse_context(data: bytes) -> Mapping[str, str]:
    if not data:
        return MappingProxyType({})
    stream = io.BytesIO(data)
    fields = _Fields(stream)
    pairs: list[tuple[bytes, bytes]] = []
    for _ in range(fields.u16("encryption context")):
        key = fields.sized("encryption context")
        pairs.append((key, fields.sized("encryption context")))
    if stream.read(1) or not pairs:
        raise EvidenceError("expected an encryption context as long as the message header says, got another length")
    for (key, _), (following, _) in itertools.pairwise(pairs):
        if key >= following:
            raise EvidenceError(f"expected sorted, differing encryption context keys, got {following!r} after {key!r}")
    context = {_text(key, "encryption context key"): _text(value, "encryption context") for key, value in pairs}
    if RESERVED_CONTEXT_KEY in context:
        raise EvidenceError(
            f"expected an encryption context without {RESERVED_CONTEXT_KEY}: this suite has no signature"
        )
    return MappingProxyType(context)


def read_header(stream: Readable) -> Header:
    """Reads a message's header and leaves the stream at its first frame. Nothing is verified yet.

    Raises:
        EvidenceError: The header violates the rules at the top of this module, or is truncated.
    """
    fields = _Fields(stream)
    version, suite = struct.unpack(">BH", fields.take(3, "version"))
    if version != VERSION:
        raise EvidenceError(f"expected an Encryption SDK message of version {VERSION}, got version {version}")
    if suite != SUITE:
        raise EvidenceError(f"expected a message of algorithm suite 0x{SUITE:04x}, got 0x{suite:04x}")
    message_id = fields.take(MESSAGE_ID_LENGTH, "message id")
    context = _parse_context(fields.sized("encryption context"))
    count = fields.u16("count of encrypted data keys")
    if not 1 <= count <= MAX_RECIPIENTS:
        raise EvidenceError(f"expected a message for 1 to {MAX_RECIPIENTS} recipients, got {count}")
    recipients = []
    for _ in range(count):
        provider_id = _text(fields.sized("encrypted data keys"), "key provider id")
        provider_info = fields.sized("encrypted data keys")
        recipients.append(EncryptedDataKey(provider_id, provider_info, fields.sized("encrypted data keys")))
    content_type = fields.take(1, "content type")[0]
    if content_type != FRAMED:
        raise EvidenceError(f"expected a message with framed content, got content type {content_type}")
    frame_length = int(_U32.unpack(fields.take(4, "frame length"))[0])
    if not 1 <= frame_length <= MAX_FRAME_LENGTH:
        raise EvidenceError(f"expected frames of 1 to {MAX_FRAME_LENGTH} bytes, got {frame_length}")
    commitment = fields.take(COMMITMENT_LENGTH, "key commitment")
    tag = fields.take(TAG_LENGTH, "authentication tag")
    return Header(message_id, context, tuple(recipients), frame_length, commitment, tag)


def parse_header(data: bytes) -> Header:
    """The header that these bytes consist of.

    Raises:
        EvidenceError: As `read_header`; or bytes follow it.
    """
    stream = io.BytesIO(data)
    header = read_header(stream)
    if rest := len(data) - stream.tell():
        raise EvidenceError(f"expected a message header and nothing else, got {rest} bytes more")
    return header


@dataclass(frozen=True, slots=True)
class FrameHead:
    """The fields before a frame's ciphertext.

    Attributes:
        head_length: Bytes before the ciphertext.
        content_length: Bytes of ciphertext, the tag not counted.
        final: True for the message's last frame.
    """

    head_length: int
    content_length: int
    final: bool

    @property
    def length(self) -> int:
        """Bytes of the whole frame."""
        return self.head_length + self.content_length + TAG_LENGTH


def frame_head(data: bytes | memoryview, sequence: int, frame_length: int) -> FrameHead | None:
    """The head of the frame that starts with `data` (24 bytes, or fewer at the stream's end).

    Returns None if the bytes are the beginning of frame number `sequence` but too few to tell its length.

    Raises:
        EvidenceError: The bytes are not the beginning of that frame.
    """
    regular = REGULAR_HEAD.pack(sequence, 0, sequence)
    final = _U32.pack(END_FRAME) + regular
    got = bytes(data[: FINAL_HEAD.size])
    if got[: len(regular)] == regular and sequence != END_FRAME:
        return FrameHead(len(regular), frame_length, final=False)
    if got[: len(final)] == final:
        if len(got) < FINAL_HEAD.size:
            return None
        content_length = int(_U32.unpack_from(got, len(final))[0])
        if content_length > frame_length:
            raise EvidenceError(f"expected a final frame of at most {frame_length} bytes, got {content_length}")
        return FrameHead(FINAL_HEAD.size, content_length, final=True)
    if regular.startswith(got) or final.startswith(got):
        return None
    raise EvidenceError(f"expected frame {sequence}, got {got[: len(regular)].hex()}: altered, reordered or missing")


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of a scan without a key. Structure only: no tag was checked.

    Attributes:
        header: The message's header, unverified.
        frame_length: Bytes of plaintext in each frame but the last.
        whole_frames: Complete frames, including the final one.
        whole_bytes: End of the last whole frame, counted from the header's first byte.
        plaintext_bytes: Bytes of plaintext in the whole frames.
        final: True if the final frame is among them: the message was finished.
        torn_bytes: Bytes after `whole_bytes`.
        fault: None, or why those bytes are not the beginning of the next frame; only ever set for `recovering`.
    """

    header: Header
    frame_length: int
    whole_frames: int
    whole_bytes: int
    plaintext_bytes: int
    final: bool
    torn_bytes: int
    fault: str | None = None


def _walk(stream: Seekable, start: int, size: int, frame_length: int) -> Iterator[FrameHead]:
    """The whole frames between `start` and `size`, by their heads; ends before a torn one."""
    position, sequence, final = start, 1, False
    while position < size and not final:
        stream.seek(position)
        head = frame_head(read_exactly(stream, min(FINAL_HEAD.size, size - position)), sequence, frame_length)
        if head is None or position + head.length > size:
            return
        yield head
        position += head.length
        sequence += 1
        final = head.final
    if position < size:
        raise EvidenceError(f"expected nothing after the final frame, got {size - position} bytes")


def scan(stream: Seekable, *, recovering: bool = False) -> Scan:
    """Scans a message from the stream's beginning to its end, in constant memory, skipping the ciphertext.

    Args:
        stream: An open file.
        recovering: For a file that was being written when power was lost, whose tail may hold arbitrary bytes: bytes
            that are not a frame then end the scan and are described in `fault`, instead of being refused.

    Raises:
        EvidenceError: The message violates the rules at the top of this module; a cut message does not.
        OSError: Reading the stream failed.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    header = read_header(stream)
    position = len(header.serialize())
    frames = plaintext = 0
    final, fault = False, None
    try:
        for head in _walk(stream, position, size, header.frame_length):
            frames += 1
            position += head.length
            plaintext += head.content_length
            final = head.final
    except EvidenceError as error:
        if not recovering:
            raise
        fault = str(error)
    return Scan(header, header.frame_length, frames, position, plaintext, final, size - position, fault)
