"""The interface of signing keys, so that a TPM or PKCS#11 token can take the place of a file.

A signer is chosen by URI, as in securesystemslib: `file:/path/device.pem`.
"""

from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.keys.jwk import thumbprint


class Signer(Protocol):
    """A P-256 key that signs, and does not reveal its private half."""

    @property
    def kid(self) -> str:
        """The public key's JWK thumbprint (RFC 7638)."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """ES256 signature over `message`: r ‖ s, 64 bytes (RFC 7518, 3.4)."""

    def derive(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose, the same each time: a MAC key of this device."""


class KeySigner:
    """A signer with a private key in this process's memory: the boot key, or an identity key read from a file."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._private_key = private_key
        self._public_key = private_key.public_key()
        self._kid = thumbprint(self._public_key)

    @classmethod
    def generate(cls) -> "KeySigner":
        """A new key, in memory only."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def kid(self) -> str:
        """The public key's JWK thumbprint (RFC 7638)."""
        return self._kid

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """ES256 signature over `message`: r ‖ s, 64 bytes (RFC 7518, 3.4)."""
        r, s = decode_dss_signature(self._private_key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def derive(self, purpose: str) -> bytes:
        """HKDF-SHA-256 (RFC 5869) of the private number, with the purpose as `info`."""
        number = self._private_key.private_numbers().private_value.to_bytes(32, "big")
        return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode("utf-8")).derive(number)
