"""The unmodified Encryption SDK for Python (`aws-encryption-sdk`), given our recipients' keys.

`rsa_provider` is its own raw RSA provider. `HpkeMasterKey` is a master key of ours behind the SDK's interface, as
somebody would write it who opens our segments with the SDK and has nothing of this package but the format's text.
"""

import io
import os
from dataclasses import dataclass, field
from typing import Any

import aws_encryption_sdk
from aws_encryption_sdk.exceptions import DecryptKeyError
from aws_encryption_sdk.identifiers import CommitmentPolicy, EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.internal.formatting.encryption_context import serialize_encryption_context
from aws_encryption_sdk.key_providers.base import MasterKey, MasterKeyConfig
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider
from aws_encryption_sdk.structures import DataKey, EncryptedDataKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM1024P384PrivateKey, MLKEM1024P384PublicKey, Suite

from agent.seal.recipients import HpkeRecipientKey, RsaRecipientKey

SUITE = Suite(KEM.MLKEM1024_P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM)
CLIENT = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)


class RsaProvider(RawMasterKeyProvider):  # type: ignore[misc]  # the SDK has no types
    """The SDK's raw RSA provider; all that its documentation asks for is where the key comes from."""

    provider_id = "bwc-rsa"
    pem = b""

    def _get_raw_key(self, key_id: bytes) -> Any:
        del key_id
        return WrappingKey(WrappingAlgorithm.RSA_OAEP_SHA384_MGF1, self.pem, EncryptionKeyType.PRIVATE)


def raw_rsa_provider(pem: bytes, kid: str) -> RsaProvider:
    """The SDK's raw RSA provider over a private key file: namespace `bwc-rsa`, the kid as the key's name."""
    provider = RsaProvider()
    provider.pem = pem
    provider.add_master_key(kid.encode())
    return provider


def rsa_provider(key: RsaRecipientKey) -> RsaProvider:
    """As `raw_rsa_provider`, over a key in memory."""
    pem = key.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return raw_rsa_provider(pem, key.recipient.kid)


class HpkeMasterKeyConfig(MasterKeyConfig):  # type: ignore[misc]  # the SDK has no types
    """What the SDK wants to know of a master key."""

    provider_id = "bwc-hpke"


class HpkeMasterKey(MasterKey):  # type: ignore[misc]  # the SDK has no types
    """A master key, and with it a provider of one, over one hybrid key of ours."""

    provider_id = "bwc-hpke"
    _config_class = HpkeMasterKeyConfig
    pair: HpkeRecipientKey

    @staticmethod
    def _info(algorithm: Any, encryption_context: dict[str, str]) -> bytes:
        suite = algorithm.algorithm_id.to_bytes(2, "big")
        context: bytes = serialize_encryption_context(encryption_context)
        return b"bwc-agent data key v1\0" + bytes(suite) + context

    def _encrypt_data_key(self, data_key: Any, algorithm: Any, encryption_context: dict[str, str]) -> Any:
        public = MLKEM1024P384PublicKey(self.pair.kem_key.public_key(), self.pair.ec_key.public_key())
        sealed = SUITE.encrypt(data_key.data_key, public, self._info(algorithm, encryption_context))
        return EncryptedDataKey(key_provider=self.key_provider, encrypted_data_key=sealed)

    def _generate_data_key(self, algorithm: Any, encryption_context: dict[str, str]) -> Any:
        plain = DataKey(self.key_provider, os.urandom(algorithm.kdf_input_len), b"")
        sealed = self._encrypt_data_key(plain, algorithm, encryption_context)
        return DataKey(self.key_provider, plain.data_key, sealed.encrypted_data_key)

    def _decrypt_data_key(self, encrypted_data_key: Any, algorithm: Any, encryption_context: dict[str, str]) -> Any:
        private = MLKEM1024P384PrivateKey(self.pair.kem_key, self.pair.ec_key)
        try:
            plain = SUITE.decrypt(
                encrypted_data_key.encrypted_data_key, private, self._info(algorithm, encryption_context)
            )
        except InvalidTag as error:
            raise DecryptKeyError("the data key does not open") from error
        return DataKey(self.key_provider, plain, encrypted_data_key.encrypted_data_key)


def hpke_provider(key: HpkeRecipientKey) -> HpkeMasterKey:
    """A provider for the SDK over a hybrid key of ours."""
    provider = HpkeMasterKey(config=HpkeMasterKeyConfig(key_id=key.recipient.kid))
    provider.pair = key
    return provider


@dataclass(frozen=True)
class Given:
    """What an SDK gave back of a message.

    Attributes:
        plaintext: All that it gave before it ended or failed.
        error: Empty, or how it failed.
        context: The encryption context, if the SDK told it.
    """

    plaintext: bytes = b""
    error: str = ""
    context: dict[str, str] = field(default_factory=dict)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def open_whole(message: bytes, provider: Any) -> Given:
    """Decrypt in one call."""
    try:
        plaintext, header = CLIENT.decrypt(source=message, key_provider=provider)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is its refusal
        return Given(error=_told(error))
    return Given(plaintext, context=header.encryption_context)


def open_frames(message: bytes, provider: Any) -> Given:
    """Decrypt as a stream, read by one frame length at a time, as docs/evidence-format.md says for what was cut."""
    kept, context = bytearray(), {}
    stream = CLIENT.stream(mode="d", source=io.BytesIO(message), key_provider=provider)
    try:
        context = stream.header.encryption_context
        while piece := stream.read(stream.header.frame_length):
            kept += piece
        stream.close()
    except Exception as error:  # noqa: BLE001 - as above
        return Given(bytes(kept), _told(error), context)
    return Given(bytes(kept), context=context)
