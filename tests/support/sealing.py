"""Small sealed messages for tests, and a recipient that costs no public-key operation."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from agent.seal.message import EncryptedDataKey
from agent.seal.recipients import Recipient
from agent.seal.writer import Sealer

CONTEXT = {"agency": "Ex", "device": "cam1", "segment": "1"}


@dataclass(frozen=True)
class ClearRecipient:
    """Recipient and key in one whose wrapped data key is the data key itself. For tests of everything around it."""

    kid: str = "clear"

    @property
    def recipient(self) -> "ClearRecipient":
        return self

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> EncryptedDataKey:
        del context
        return EncryptedDataKey("test-clear", self.kid.encode(), bytes(data_key))

    def unwrap(self, key: EncryptedDataKey, context: bytes) -> bytes | None:
        del context
        named = (key.provider_id, key.provider_info) == ("test-clear", self.kid.encode())
        return key.ciphertext if named and len(key.ciphertext) == 32 else None

    def public(self) -> dict[str, str]:
        return {"kid": self.kid}


@dataclass(frozen=True)
class Sealed:
    """A message, and where its parts end."""

    data: bytes
    header_length: int
    frame_length: int
    plaintext: bytes

    @property
    def step(self) -> int:
        """Bytes of a regular frame."""
        return self.frame_length + 32

    def frames(self) -> list[bytes]:
        """Its frames, the final one last."""
        body = self.data[self.header_length :]
        regular = len(self.plaintext) // self.frame_length
        return [body[i * self.step : (i + 1) * self.step] for i in range(regular)] + [body[regular * self.step :]]

    def with_frames(self, frames: Sequence[bytes]) -> bytes:
        """The message with other frames in it."""
        return self.data[: self.header_length] + b"".join(frames)


def sealed(
    recipients: Sequence[Recipient] = (ClearRecipient(),), frame_length: int = 32, plaintext: bytes = bytes(range(170))
) -> Sealed:
    """A message over `plaintext`, whose rest beyond whole frames is in the final one."""
    sealer = Sealer(recipients, CONTEXT, frame_length, os.urandom)
    whole = len(plaintext) // frame_length * frame_length
    data = sealer.header + bytes(sealer.seal(plaintext[:whole])) + sealer.finish(plaintext[whole:])
    return Sealed(data, len(sealer.header), frame_length, plaintext)
