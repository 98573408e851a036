"""Opens a message: verifies its header, then yields its plaintext in pieces, in constant memory.

The rules, in order:
1. Nothing is returned before the key commitment and the header's tag are verified, and no frame before its own tag is.
2. If a message ends anywhere before its final frame, all whole frames are returned and it is reported as cut.
3. Everything else that is not exactly what a sealer wrote is refused: another key, a flipped bit, a frame that was
   dropped, repeated or moved, bytes after the final frame, arbitrary bytes. The frames before it are returned first.
4. The torn bytes at the end of a cut message can't be authenticated and are not returned. If they do not begin like the
   next frame, or are a whole final frame with an altered length, the message is refused, not reported as cut.
5. After a loss of power a file may have its new length but not all of its new bytes: frames with holes of zeros. If the
   caller passes the offset after which nothing was synced, an invalid frame from there on counts as torn, not altered.

Source: aws-encryption-sdk-specification, `client-apis/decrypt.md`, `data-format/message-body.md`.
"""

import hmac
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.errors import EvidenceError
from agent.seal import message
from agent.seal.message import Header, Readable
from agent.seal.recipients import RecipientKey
from agent.seal.writer import message_keys

_BLOCK = 256 * 1024
"""Approximate number of bytes read and returned at once; one frame if that is longer."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was read from a message, and how it ended.

    Attributes:
        frames: Whole frames, including the final one.
        plaintext_bytes: Bytes of plaintext in them.
        message_bytes: Bytes of the header and the whole frames.
        ended: `whole` if the final frame was present, else `cut`.
        torn_bytes: Bytes after the last whole frame of a cut message.
        fault: Why they are not a frame although there are enough of them (rule 5); empty if there are too few.
    """

    frames: int
    plaintext_bytes: int
    message_bytes: int
    ended: Literal["whole", "cut"]
    torn_bytes: int
    fault: str = ""


class Opened:
    """A message whose header was verified. Iterate over it once for the plaintext, then read `report`.

    Each piece is a new, non-empty `bytearray` that belongs to the caller.

    Attributes:
        header: The verified header.
    """

    def __init__(self, stream: Readable, header: Header, cipher: AESGCM, torn_from: int | None) -> None:
        self.header = header
        self._stream = stream
        self._cipher = cipher
        self._sequence = 1
        self._plaintext_bytes = 0
        self._message_bytes = self._taken = len(header.serialize())
        self._torn_from = torn_from
        self._report: Report | None = None
        self._pieces = self._read()

    @property
    def context(self) -> Mapping[str, str]:
        """The verified encryption context."""
        return self.header.context

    @property
    def report(self) -> Report:
        """The report; available after the last piece.

        Raises:
            ValueError: The iteration has not finished.
        """
        if self._report is None:
            raise ValueError("expected the whole message to have been read before its report is asked for")
        return self._report

    def __iter__(self) -> Iterator[bytearray]:
        """The plaintext, piece by piece.

        Raises:
            EvidenceError: The message is neither whole nor merely cut.
            OSError: Reading the stream failed.
        """
        return self._pieces

    def _read(self) -> Iterator[bytearray]:
        try:
            yield from self._frames()
        except EvidenceError as error:
            if self._torn_from is None or self._message_bytes < self._torn_from:
                raise
            while self._take(_BLOCK):
                continue
            self._report = self._report_of("cut", self._taken - self._message_bytes, str(error))

    def _take(self, length: int) -> bytes:
        data = message.read_exactly(self._stream, length)
        self._taken += len(data)
        return data

    def _frames(self) -> Iterator[bytearray]:
        step = self.header.frame_length + message.FRAME_OVERHEAD
        block_length = max(1, _BLOCK // step) * step
        while True:
            block = memoryview(self._take(block_length))
            piece, used, fault = self._open_regular(block)
            if piece:
                yield piece
            if fault is not None:
                raise fault
            if used < block_length:
                break
        # The rest begins with the final frame, a torn frame or something else. One byte more than the longest final
        # frame shows whether anything follows it.
        rest = bytes(block[used:])
        longest = message.FINAL_HEAD.size + self.header.frame_length + message.TAG_LENGTH
        rest += self._take(max(0, longest + 1 - len(rest)))
        if last := self._open_rest(rest):
            yield bytearray(last)

    def _open_regular(self, block: memoryview) -> tuple[bytearray, int, EvidenceError | None]:
        """Opens the regular frames at the start of `block`: plaintext, bytes used, error if one is altered."""
        frame_length = self.header.frame_length
        step = frame_length + message.FRAME_OVERHEAD
        count = len(block) // step
        plaintext = bytearray(count * frame_length)
        target = memoryview(plaintext)
        aad = bytearray(self.header.message_id + message.REGULAR_FRAME + message.BODY_AAD_TAIL.pack(0, frame_length))
        tail_at = len(aad) - message.BODY_AAD_TAIL.size
        unpack_head, pack_tail = message.REGULAR_HEAD.unpack_from, message.BODY_AAD_TAIL.pack_into
        decrypt_into = self._cipher.decrypt_into
        first = sequence = self._sequence
        fault, at, out = None, 0, 0
        try:
            for at in range(0, count * step, step):
                if unpack_head(block, at) != (sequence, 0, sequence):
                    break
                pack_tail(aad, tail_at, sequence, frame_length)
                decrypt_into(block[at + 4 : at + 16], block[at + 16 : at + step], aad, target[out : out + frame_length])
                out += frame_length
                sequence += 1
        except InvalidTag:
            fault = _altered(sequence)
        target.release()
        del plaintext[out:]
        used = (sequence - first) * step
        self._sequence = sequence
        self._plaintext_bytes += out
        self._message_bytes += used
        return plaintext, used, fault

    def _open_rest(self, rest: bytes) -> bytes | None:
        """Opens the final frame; None if the message was cut. `rest`: all that is left, or more than one frame."""
        head = message.frame_head(rest, self._sequence, self.header.frame_length)
        if head is None or len(rest) < head.length:
            # A whole final frame that claims a greater length looks like a torn one; its tag shows that it is altered.
            claimed = len(rest) - message.FINAL_HEAD.size - message.TAG_LENGTH
            if head is not None and head.final and claimed >= 0 and self._open_final(rest) is not None:
                raise _altered(self._sequence)
            self._report = self._report_of("cut", len(rest))
            return None
        plaintext = self._open_final(rest[: head.length])
        if plaintext is None:
            raise _altered(self._sequence)
        if len(rest) > head.length:
            raise EvidenceError("expected nothing after the message's final frame, got more bytes")
        self._sequence += 1
        self._plaintext_bytes += len(plaintext)
        self._message_bytes += head.length
        self._report = self._report_of("whole", 0)
        return plaintext

    def _open_final(self, frame: bytes) -> bytes | None:
        """The plaintext of a final frame, assuming its actual length; None if its tag does not verify."""
        length = len(frame) - message.FINAL_HEAD.size - message.TAG_LENGTH
        tail = message.BODY_AAD_TAIL.pack(self._sequence, length)
        iv = self._sequence.to_bytes(message.IV_LENGTH, "big")
        try:
            return self._cipher.decrypt(
                iv, frame[message.FINAL_HEAD.size :], self.header.message_id + message.FINAL_FRAME + tail
            )
        except InvalidTag:
            return None

    def _report_of(self, ended: Literal["whole", "cut"], torn_bytes: int, fault: str = "") -> Report:
        return Report(self._sequence - 1, self._plaintext_bytes, self._message_bytes, ended, torn_bytes, fault)


def _altered(sequence: int) -> EvidenceError:
    return EvidenceError(f"frame {sequence} does not fit its authentication tag: it was altered")


def _data_key(header: Header, keys: Sequence[RecipientKey]) -> bytes:
    context = message.serialize_context(header.context)
    for wrapped in header.recipients:
        for key in keys:
            data_key = key.unwrap(wrapped, context)
            if data_key is not None:
                return data_key
    given = ", ".join(key.recipient.kid for key in keys) or "none"
    named = ", ".join(wrapped.provider_info.decode("utf-8", "replace") for wrapped in header.recipients)
    raise EvidenceError(f"expected a key that the message is sealed to ({named}), got {given}")


def open_message(stream: Readable, keys: Sequence[RecipientKey], *, torn_from: int | None = None) -> Opened:
    """Verifies a message's header with the first key that it is sealed to, and prepares to read the rest.

    Args:
        stream: Positioned at the message's first byte; need not be seekable. Nothing may follow the message.
        keys: Private keys, in any order.
        torn_from: Offset from which the file may hold arbitrary bytes, because power was lost before a sync (rule 5);
            None if the file was closed properly.

    Raises:
        EvidenceError: It is not a message of this format, is cut within its header, altered, or for none of the keys.
        OSError: Reading the stream failed.
    """
    header = message.read_header(stream)
    cipher, commitment = message_keys(_data_key(header, keys), header.message_id)
    if not hmac.compare_digest(commitment, header.commitment):
        raise EvidenceError("the key commitment does not fit the data key: the message was altered")
    try:
        cipher.decrypt(message.HEADER_IV, header.tag, header.body())
    except InvalidTag as error:
        raise EvidenceError("the header does not fit its authentication tag: it was altered") from error
    return Opened(stream, header, cipher, torn_from)


def open_bytes(data: bytes, keys: Sequence[RecipientKey]) -> tuple[Header, bytes]:
    """The verified header and the plaintext of a small, whole message.

    Raises:
        EvidenceError: As `open_message`; or the message is cut.
    """
    opened = open_message(io.BytesIO(data), keys)
    plaintext = b"".join(opened)
    if opened.report.ended != "whole":
        raise EvidenceError(f"expected a whole message, got one that was cut after {len(data)} bytes")
    return opened.header, plaintext
