"""Seals a message as a stream: the header, then whole frames as data arrives, then the final frame.

Every frame is authenticated separately, so that a file cut anywhere can be opened up to its last whole frame.
`Sealer.seal` is on the recorder's hottest path: one buffer for all frames of a call, and AES-GCM writes into it.

Sources: aws-encryption-sdk-specification, `client-apis/encrypt.md`, `data-format/message-body.md`;
`framework/algorithm-suites.md` ("Algorithm Suites Encryption Key Derivation Settings") for key derivation.
"""

from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.seal import message
from agent.seal.message import Header
from agent.seal.recipients import Recipient

RandomBytes = Callable[[int], bytes]
"""Returns the given number of unpredictable bytes; `os.urandom` outside of tests."""

_SMALL_FRAME = 4096


def message_keys(data_key: bytes | bytearray, message_id: bytes) -> tuple[AESGCM, bytes]:
    """The content cipher and the commitment that suite 0x0478 derives from a data key (HKDF-SHA-512, RFC 5869)."""
    derived = bytearray(message.KEY_LENGTH)
    hkdf = HKDF(hashes.SHA512(), message.KEY_LENGTH, salt=message_id, info=message.DERIVE_LABEL)
    hkdf.derive_into(data_key, derived)
    cipher = AESGCM(derived)
    wipe(derived)
    hkdf = HKDF(hashes.SHA512(), message.COMMITMENT_LENGTH, salt=message_id, info=message.COMMIT_LABEL)
    return cipher, hkdf.derive(data_key)


def wipe(secret: bytearray) -> None:
    """Overwrites a secret in place. Copies made by libraries can't be erased; this removes one."""
    secret[:] = bytes(len(secret))


class Sealer:
    """A message being written. Not thread-safe.

    Attributes:
        header: The message's header, to be written before any frame.
        frame_length: Bytes of plaintext in each frame but the last.
    """

    def __init__(
        self,
        recipients: Sequence[Recipient],
        context: Mapping[str, str],
        frame_length: int,
        random_bytes: RandomBytes,
    ) -> None:
        """Generates a data key, wraps it for each recipient, wipes it, and keeps the cipher derived from it.

        Raises:
            EvidenceError: The encryption context does not fit the format.
            ValueError: The number of recipients or the frame length is outside of the format's limits.
        """
        if not 1 <= len(recipients) <= message.MAX_RECIPIENTS:
            raise ValueError(f"expected 1 to {message.MAX_RECIPIENTS} recipients, got {len(recipients)}")
        if not 1 <= frame_length <= message.MAX_FRAME_LENGTH:
            raise ValueError(f"expected frames of 1 to {message.MAX_FRAME_LENGTH} bytes, got {frame_length}")
        context_bytes = message.serialize_context(context)
        message_id = random_bytes(message.MESSAGE_ID_LENGTH)
        data_key = bytearray(random_bytes(message.KEY_LENGTH))
        try:
            wrapped = tuple(recipient.wrap(data_key, context_bytes) for recipient in recipients)
            cipher, commitment = message_keys(data_key, message_id)
        finally:
            wipe(data_key)
        assert len(message_id) == message.MESSAGE_ID_LENGTH
        body = Header(message_id, dict(context), wrapped, frame_length, commitment, b"").body()
        self.header = body + cipher.encrypt(message.HEADER_IV, b"", body)
        self.frame_length = frame_length
        self._cipher: AESGCM | None = cipher
        self._message_id = message_id
        self._sequence = 1
        self._aad = bytearray(message_id + message.REGULAR_FRAME + message.BODY_AAD_TAIL.pack(0, frame_length))
        self._aad_sequence_at = len(self._aad) - message.BODY_AAD_TAIL.size

    @property
    def frames(self) -> int:
        """Frames sealed so far, including the final one."""
        return self._sequence - 1

    @property
    def finished(self) -> bool:
        """True once the final frame was written."""
        return self._cipher is None

    def _open_cipher(self, frames: int) -> AESGCM:
        if self._cipher is None:
            raise ValueError("expected a message that is still open, got one whose final frame was already made")
        # The final frame always needs a number of its own (message-body.md: at most 2^32 - 1 frames).
        if self._sequence + frames > message.MAX_FRAMES + 1:
            raise ValueError(f"expected at most {message.MAX_FRAMES} frames in a message: start another one")
        return self._cipher

    def seal(self, data: bytes | bytearray | memoryview) -> bytearray:
        """Seals `data`, a whole number of frames, into that many regular frames; the caller owns the result.

        Raises:
            ValueError: It is not a whole number of frames, the message is finished, or it would have too many frames.
        """
        frame_length = self.frame_length
        source = memoryview(data)
        count, rest = divmod(source.nbytes, frame_length)
        if rest:
            raise ValueError(f"expected a whole number of frames of {frame_length} bytes, got {source.nbytes} bytes")
        encrypt_into = self._open_cipher(count + 1).encrypt_into
        step = frame_length + message.FRAME_OVERHEAD
        frames = bytearray(count * step)
        target = memoryview(frames)
        pack_head, pack_tail = message.REGULAR_HEAD.pack_into, message.BODY_AAD_TAIL.pack_into
        aad, tail_at = self._aad, self._aad_sequence_at
        sequence, at = self._sequence, 0
        for start in range(0, count * frame_length, frame_length):
            pack_head(frames, at, sequence, 0, sequence)
            pack_tail(aad, tail_at, sequence, frame_length)
            encrypt_into(
                target[at + 4 : at + 16], source[start : start + frame_length], aad, target[at + 16 : at + step]
            )
            sequence += 1
            at += step
        self._sequence = sequence
        return frames

    def finish(self, data: bytes | bytearray | memoryview = b"") -> bytes:
        """The final frame, with the remaining data: at most one frame's length, possibly none. It ends the message.

        Raises:
            ValueError: It is longer than a frame, or the message is finished already.
        """
        length = memoryview(data).nbytes
        if length > self.frame_length:
            raise ValueError(f"expected at most {self.frame_length} bytes in the final frame, got {length}")
        cipher = self._open_cipher(1)
        head = message.FINAL_HEAD.pack(message.END_FRAME, self._sequence, 0, self._sequence, length)
        tail = message.BODY_AAD_TAIL.pack(self._sequence, length)
        frame = head + cipher.encrypt(head[8:20], data, self._message_id + message.FINAL_FRAME + tail)
        self._cipher = None
        self._sequence += 1
        return frame


def seal_bytes(
    recipients: Sequence[Recipient], context: Mapping[str, str], data: bytes, random_bytes: RandomBytes
) -> bytes:
    """A whole message with a few bytes of data, such as a key, in one final frame.

    Raises:
        EvidenceError, ValueError: As `Sealer`; or `data` is longer than 4 KiB.
    """
    sealer = Sealer(recipients, context, _SMALL_FRAME, random_bytes)
    return sealer.header + sealer.finish(data)
