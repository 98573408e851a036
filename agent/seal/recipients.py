"""Recipients: a message's data key is wrapped once for each of them, in one of two ways.

`HPKE` (the default): RFC 9180 base mode with the KEM ML-KEM-1024 + P-384 (draft-ietf-hpke-pq), HKDF-SHA-384 and
AES-256-GCM, so that a future quantum computer can't open what is sealed today. `info` is a label, the message's
algorithm suite and its encryption context: a wrapped key moved into another message's header does not open.

`RSA`: RSAES-OAEP with SHA-384 and MGF1 (RFC 8017, 7.1), as the Encryption SDK's own raw RSA provider does it
(framework/raw-rsa-keyring.md): the provider id is the key's namespace, the provider information its name.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM1024P384PrivateKey,
    MLKEM1024P384PublicKey,
    Suite,
)

from agent.encoding.digest import sha256
from agent.encoding.strict_json import b64, unb64
from agent.errors import EvidenceError
from agent.seal.message import KEY_LENGTH, SUITE, EncryptedDataKey

HPKE = "HPKE-MLKEM1024-P384-HKDF-SHA384-AES-256-GCM"
"""`alg` of a hybrid recipient."""
RSA = "RSA-OAEP-384"
"""`alg` of an RSA recipient (W3C Web Cryptography's registration in the JOSE registry)."""

HPKE_PROVIDER = "bwc-hpke"
"""Key provider id of data keys wrapped with HPKE."""
RSA_PROVIDER = "bwc-rsa"
"""Key provider id (key namespace) of data keys wrapped with RSA-OAEP."""

MIN_RSA_BITS = 3072
"""128 bits of security (NIST SP 800-57 part 1, table 2)."""
MAX_RSA_BITS = 8192

_INFO_LABEL = b"bwc-agent data key v1\0" + struct.pack(">H", SUITE)
_MLKEM_PUBLIC_LENGTH = 1568
_P384_POINT_LENGTH = 97
_HPKE_SUITE = Suite(KEM.MLKEM1024_P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM)
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA384()), algorithm=hashes.SHA384(), label=None)


class Recipient(Protocol):
    """A recipient's public key, for which data keys can be wrapped."""

    @property
    def kid(self) -> str:
        """Base64url SHA-256 over `alg`, a zero byte and the public key: its name in key files and messages."""

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> EncryptedDataKey:
        """The data key, wrapped; `context` is the serialised encryption context of the message."""

    def public(self) -> dict[str, str]:
        """The recipient as the trust document lists it: `alg`, `kid`, `pub`."""


class RecipientKey(Protocol):
    """A recipient's private key, which unwraps data keys."""

    @property
    def recipient(self) -> Recipient:
        """The public half."""

    def unwrap(self, key: EncryptedDataKey, context: bytes) -> bytes | None:
        """The data key; None if it was wrapped for another key or does not open, since a header may have several."""


def hpke_info(context: bytes) -> bytes:
    """HPKE's `info` for a message with this serialised encryption context: label, zero byte, suite id, context."""
    return _INFO_LABEL + context


def _kid(alg: str, public: bytes) -> str:
    return b64(sha256(alg.encode() + b"\0" + public))


@dataclass(frozen=True)
class HpkeRecipient:
    """A hybrid public key: an attacker has to break both parts.

    Attributes:
        kem_key: ML-KEM-1024 (FIPS 203).
        ec_key: P-384.
    """

    kem_key: mlkem.MLKEM1024PublicKey
    ec_key: ec.EllipticCurvePublicKey

    @cached_property
    def public_bytes(self) -> bytes:
        """The encapsulation key, 1568 bytes, then the uncompressed point, 97 bytes (draft-ietf-hpke-pq)."""
        point = self.ec_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return self.kem_key.public_bytes_raw() + point

    @cached_property
    def kid(self) -> str:
        """As `Recipient.kid`."""
        return _kid(HPKE, self.public_bytes)

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> EncryptedDataKey:
        """As `Recipient.wrap`: the ciphertext is HPKE's encapsulation, 1665 bytes, then its sealed data key."""
        public_key = MLKEM1024P384PublicKey(self.kem_key, self.ec_key)
        ciphertext = _HPKE_SUITE.encrypt(data_key, public_key, hpke_info(context))
        return EncryptedDataKey(HPKE_PROVIDER, self.kid.encode(), ciphertext)

    def public(self) -> dict[str, str]:
        """As `Recipient.public`."""
        return {"alg": HPKE, "kid": self.kid, "pub": b64(self.public_bytes)}


@dataclass(frozen=True)
class RsaRecipient:
    """An RSA public key, for recipients who open segments with an unmodified Encryption SDK.

    Attributes:
        key: 3072 to 8192 bits.
    """

    key: rsa.RSAPublicKey

    @cached_property
    def public_bytes(self) -> bytes:
        """SubjectPublicKeyInfo, DER (RFC 5280, 4.1.2.7)."""
        return self.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    @cached_property
    def kid(self) -> str:
        """As `Recipient.kid`; also the key name to configure in the Encryption SDK's raw RSA provider."""
        return _kid(RSA, self.public_bytes)

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> EncryptedDataKey:  # noqa: ARG002
        """As `Recipient.wrap`; OAEP does not bind the context; the message's commitment and header tag do."""
        return EncryptedDataKey(RSA_PROVIDER, self.kid.encode(), self.key.encrypt(bytes(data_key), _OAEP))

    def public(self) -> dict[str, str]:
        """As `Recipient.public`."""
        return {"alg": RSA, "kid": self.kid, "pub": b64(self.public_bytes)}


@dataclass(frozen=True, repr=False)
class HpkeRecipientKey:
    """A hybrid private key.

    Attributes:
        kem_key: ML-KEM-1024.
        ec_key: P-384.
    """

    kem_key: mlkem.MLKEM1024PrivateKey
    ec_key: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> "HpkeRecipientKey":
        """A new key pair."""
        return cls(mlkem.MLKEM1024PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1()))

    @cached_property
    def recipient(self) -> HpkeRecipient:
        """The public half."""
        return HpkeRecipient(self.kem_key.public_key(), self.ec_key.public_key())

    def unwrap(self, key: EncryptedDataKey, context: bytes) -> bytes | None:
        """As `RecipientKey.unwrap`."""
        if (key.provider_id, key.provider_info) != (HPKE_PROVIDER, self.recipient.kid.encode()):
            return None
        private_key = MLKEM1024P384PrivateKey(self.kem_key, self.ec_key)
        try:
            data_key = _HPKE_SUITE.decrypt(key.ciphertext, private_key, hpke_info(context))
        except (InvalidTag, ValueError):
            return None
        return data_key if len(data_key) == KEY_LENGTH else None


@dataclass(frozen=True, repr=False)
class RsaRecipientKey:
    """An RSA private key.

    Attributes:
        key: 3072 to 8192 bits.
    """

    key: rsa.RSAPrivateKey

    @classmethod
    def generate(cls, bits: int = MIN_RSA_BITS) -> "RsaRecipientKey":
        """A new key with the public exponent 65537."""
        return cls(rsa.generate_private_key(65537, bits))

    @cached_property
    def recipient(self) -> RsaRecipient:
        """The public half."""
        return RsaRecipient(self.key.public_key())

    def unwrap(self, key: EncryptedDataKey, context: bytes) -> bytes | None:  # noqa: ARG002
        """As `RecipientKey.unwrap`."""
        if (key.provider_id, key.provider_info) != (RSA_PROVIDER, self.recipient.kid.encode()):
            return None
        try:
            data_key = self.key.decrypt(key.ciphertext, _OAEP)
        except ValueError:
            return None
        return data_key if len(data_key) == KEY_LENGTH else None


AnyRecipient: TypeAlias = HpkeRecipient | RsaRecipient
AnyRecipientKey: TypeAlias = HpkeRecipientKey | RsaRecipientKey


def check_rsa_size(bits: int) -> None:
    """Refuses RSA keys that are too weak, or so long that a hostile trust document could stall a device.

    Raises:
        EvidenceError: The key does not have 3072 to 8192 bits.
    """
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise EvidenceError(f"expected an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, got {bits}")


def _parse_hpke(public: bytes) -> HpkeRecipient:
    if len(public) != _MLKEM_PUBLIC_LENGTH + _P384_POINT_LENGTH:
        raise EvidenceError(f"expected {_MLKEM_PUBLIC_LENGTH + _P384_POINT_LENGTH} bytes as pub, got {len(public)}")
    kem_key = mlkem.MLKEM1024PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_LENGTH])
    ec_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), public[_MLKEM_PUBLIC_LENGTH:])
    return HpkeRecipient(kem_key, ec_key)


def _parse_rsa(public: bytes) -> RsaRecipient:
    key = serialization.load_der_public_key(public)
    if not isinstance(key, rsa.RSAPublicKey):
        raise EvidenceError(f"expected an RSA public key as pub, got {type(key).__name__}")
    check_rsa_size(key.key_size)
    return RsaRecipient(key)


def parse_recipient(value: Any) -> AnyRecipient:
    """The recipient from the form that `Recipient.public` returns.

    Raises:
        EvidenceError: It is malformed, of an unknown kind, too weak, or its `kid` does not match its key.
    """
    if not isinstance(value, dict) or set(value) != {"alg", "kid", "pub"}:
        raise EvidenceError("expected a recipient as an object with alg, kid and pub and nothing else")
    if not all(isinstance(text, str) for text in value.values()):
        raise EvidenceError("expected a recipient with texts as alg, kid and pub")
    if value["alg"] not in (HPKE, RSA):
        raise EvidenceError(f"expected a recipient with alg {HPKE} or {RSA}, got {value['alg'][:60]!r}")
    public = unb64(value["pub"])
    recipient: AnyRecipient
    try:
        recipient = _parse_hpke(public) if value["alg"] == HPKE else _parse_rsa(public)
    except EvidenceError:
        raise
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceError(f"expected a public key of {value['alg']} as pub: {error}") from error
    # Only one encoding of a public key is accepted; another one would give the same recipient a second name.
    if recipient.public_bytes != public:
        raise EvidenceError("expected a recipient's public key in its canonical encoding")
    if recipient.kid != value["kid"]:
        raise EvidenceError(f"expected {recipient.kid} as this recipient's kid, got {value['kid'][:60]!r}")
    return recipient
