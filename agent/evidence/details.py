"""Sealed details: what a journal line or a manifest says about people, reasons and places, readable by the agency only.

A key is made in memory at each boot, wrapped to the agency's recipients as an Encryption SDK message in the boot
certificate, and forgotten with the process. Each text is AES-256-GCM (NIST SP 800-38D) under a random 96-bit nonce with
the public part beside it as associated data, so that details can't be moved to another line.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.encoding.strict_json import b64, encode_json, strict_json, unb64
from agent.errors import EvidenceError

KEY_BYTES = 32
_NONCE_BYTES = 12

Details = Mapping[str, Any]


class DetailsKey:
    """The details key of one boot.

    Args:
        key: 32 bytes.
        random_bytes: Gives that many unpredictable bytes.
    """

    def __init__(self, key: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        if len(key) != KEY_BYTES:
            raise EvidenceError(f"expected a details key of {KEY_BYTES} bytes, got {len(key)}")
        self._aead = AESGCM(key)
        self._random_bytes = random_bytes

    def seal(self, details: Details, public: bytes) -> str:
        """Base64url of nonce ‖ ciphertext ‖ tag, bound to the bytes of the public part."""
        nonce = self._random_bytes(_NONCE_BYTES)
        return b64(nonce + self._aead.encrypt(nonce, encode_json(details), public))

    def open(self, sealed: str, public: bytes) -> dict[str, Any]:
        """The details that were sealed beside `public`.

        Raises:
            EvidenceError: They were altered, moved, or belong to another boot.
        """
        data = unb64(sealed)
        try:
            plain = self._aead.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], public)
        except (InvalidTag, ValueError) as error:
            raise EvidenceError("sealed details do not open: altered, moved, or of another boot") from error
        return strict_json(plain)
