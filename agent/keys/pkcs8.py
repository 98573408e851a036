"""Private keys as PEM, protected by a passphrase with scrypt, which makes guessing expensive.

`cryptography` writes PKCS #8 with 2048 rounds of PBKDF2, which hardly protects a passphrase, and has no option for
more. This module writes the same standard form, which it and OpenSSL read: EncryptedPrivateKeyInfo
(RFC 5958, 3) with PBES2 (RFC 8018, A.4), scrypt (RFC 7914, 7) and AES-256-CBC (RFC 8018, B.2.5).

`cryptography.hazmat.asn1` would encode the same bytes. It takes six classes, twice the lines that `_der` and its use
take, and its interface is declared unstable (cryptography 50), so that it is not used.
"""

import base64
import re
import textwrap
from collections.abc import Callable
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agent.errors import KeyFileError

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | mlkem.MLKEM1024PrivateKey

SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 14, 8, 5
"""OWASP's recommendation for 16 MiB: OpenSSL refuses to read keys that need more than 32 MiB."""

_PLAIN, _ENCRYPTED = "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n([A-Za-z0-9+/=\n]+)-----END \1-----\n*", re.ASCII)

_SEQUENCE, _INTEGER, _OCTETS, _OID = 0x30, 0x02, 0x04, 0x06
_PBES2 = bytes.fromhex("2a864886f70d01050d")  # 1.2.840.113549.1.5.13
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
_AES_256_CBC = bytes.fromhex("60864801650304012a")  # 2.16.840.1.101.3.4.1.42
_LONG_FORM = 0x80


def _der(tag: int, *parts: bytes) -> bytes:
    """One value in DER (X.690): tag, length, content."""
    content = b"".join(parts)
    if len(content) < _LONG_FORM:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(length))) + length + content


def _der_integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _encrypt(key: bytes, passphrase: str, random_bytes: Callable[[int], bytes]) -> bytes:
    salt, iv = random_bytes(16), random_bytes(16)
    derived = Scrypt(salt, 32, SCRYPT_N, SCRYPT_R, SCRYPT_P).derive(passphrase.encode())
    padder = padding.PKCS7(128).padder()
    padded = padder.update(key) + padder.finalize()
    encryptor = Cipher(algorithms.AES256(derived), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    cost = b"".join(_der_integer(value) for value in (SCRYPT_N, SCRYPT_R, SCRYPT_P))
    derivation = _der(_SEQUENCE, _der(_OID, _SCRYPT), _der(_SEQUENCE, _der(_OCTETS, salt), cost))
    scheme = _der(_SEQUENCE, _der(_OID, _AES_256_CBC), _der(_OCTETS, iv))
    algorithm = _der(_SEQUENCE, _der(_OID, _PBES2), _der(_SEQUENCE, derivation, scheme))
    return _der(_SEQUENCE, algorithm, _der(_OCTETS, ciphertext))


def to_pem(key: PrivateKey, passphrase: str | None, random_bytes: Callable[[int], bytes]) -> str:
    """A private key as one PEM block (RFC 7468, 10 and 11), ended by a line feed.

    Raises:
        KeyFileError: The passphrase is empty.
    """
    if passphrase == "":
        raise KeyFileError("expected a passphrase that is not empty, or none at all")
    data = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    label = _PLAIN
    if passphrase is not None:
        label, data = _ENCRYPTED, _encrypt(data, passphrase, random_bytes)
    body = "\n".join(textwrap.wrap(base64.b64encode(data).decode("ascii"), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


def _blocks(pem: str) -> list[re.Match[str]]:
    blocks, at = [], 0
    while match := _BLOCK.match(pem, at):
        blocks.append(match)
        at = match.end()
    if not blocks or at != len(pem) or {block[1] for block in blocks} - {_PLAIN, _ENCRYPTED}:
        raise KeyFileError(f"expected PEM blocks with the label {_PLAIN} or {_ENCRYPTED} and nothing else")
    return blocks


def is_encrypted(pem: str) -> bool:
    """True if a passphrase is needed for a file of private keys.

    Raises:
        KeyFileError: It is no such file.
    """
    return any(block[1] == _ENCRYPTED for block in _blocks(pem))


def from_pem(pem: str, passphrase: str | None) -> list[PrivateKey]:
    """The private keys in a file of PEM blocks, in their order.

    Raises:
        KeyFileError: It is no such file, has keys of a kind that is not used here, or the passphrase does not fit.
    """
    keys: list[PrivateKey] = []
    for block in _blocks(pem):
        encrypted = block[1] == _ENCRYPTED
        if encrypted and passphrase is None:
            raise KeyFileError("expected a passphrase for this key file, got none")
        if not encrypted and passphrase is not None:
            raise KeyFileError("expected a key file that is protected by a passphrase, got one that is not")
        password = passphrase.encode() if passphrase is not None else None
        try:
            key = serialization.load_pem_private_key(block[0].encode("ascii"), password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            hint = "the passphrase is wrong, or the file is damaged" if encrypted else "the file is damaged"
            raise KeyFileError(f"expected a private key in PKCS #8: {hint}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | mlkem.MLKEM1024PrivateKey):
            raise KeyFileError(f"expected an EC, RSA or ML-KEM-1024 private key, got {type(key).__name__}")
        keys.append(key)
    return keys
