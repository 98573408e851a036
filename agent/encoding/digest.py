"""SHA-256 (FIPS 180-4) by the OpenSSL that `cryptography` brings.

The standard library's `hashlib` does the same at the same speed, but loads the system's OpenSSL beside it: 4 MB of a
recorder's memory for one function.
"""

from cryptography.hazmat.primitives import hashes


class Sha256:
    """An incremental hash."""

    def __init__(self) -> None:
        self._hash = hashes.Hash(hashes.SHA256())

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        self._hash.update(data)

    def hexdigest(self) -> str:
        """The hash of all bytes so far, in lower-case hexadecimal; more may follow."""
        return self._hash.copy().finalize().hex()


def sha256(data: bytes) -> bytes:
    """The hash of some bytes."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()
