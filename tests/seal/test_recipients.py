import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM1024P384PrivateKey, Suite
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.encoding.strict_json import b64
from agent.errors import EvidenceError
from agent.seal import recipients
from agent.seal.message import EncryptedDataKey
from agent.seal.recipients import (
    HPKE_PROVIDER,
    RSA_PROVIDER,
    AnyRecipientKey,
    HpkeRecipient,
    HpkeRecipientKey,
    RsaRecipient,
    RsaRecipientKey,
    hpke_info,
    parse_recipient,
)

VECTOR = json.loads((Path(recipients.__file__).parent / "vectors" / "hpke_mlkem1024_p384.json").read_text())
DATA_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def hybrid() -> HpkeRecipientKey:
    return HpkeRecipientKey.generate()


@pytest.fixture(scope="module")
def rsa_key() -> RsaRecipientKey:
    return RsaRecipientKey.generate()


@pytest.fixture(params=["hybrid", "rsa"])
def key(request: pytest.FixtureRequest, hybrid: HpkeRecipientKey, rsa_key: RsaRecipientKey) -> AnyRecipientKey:
    return hybrid if request.param == "hybrid" else rsa_key


def vector_key() -> HpkeRecipientKey:
    """The recipient's pair of the draft's vector, from its seed (draft-ietf-hpke-pq, DeriveKeyPair of hybrid KEMs)."""
    seeds = hashlib.shake_256(bytes.fromhex(VECTOR["skRm"])).digest(64 + 48)
    kem_key = mlkem.MLKEM1024PrivateKey.from_seed_bytes(seeds[:64])
    return HpkeRecipientKey(kem_key, ec.derive_private_key(int.from_bytes(seeds[64:], "big"), ec.SECP384R1()))


def test_public_key_matches_the_drafts_test_vector() -> None:
    assert vector_key().recipient.public_bytes.hex() == VECTOR["pkRm"]


def test_data_key_of_the_drafts_test_vector_opens() -> None:
    """Its encapsulation and `info` lead to its key and nonce: what is sealed with those opens.

    The vector's own ciphertexts carry associated data, for which the library has no public interface.
    """
    info, enc = bytes.fromhex(VECTOR["info"]), bytes.fromhex(VECTOR["enc"])
    key, nonce = bytes.fromhex(VECTOR["key"]), bytes.fromhex(VECTOR["base_nonce"])
    encryption = VECTOR["encryptions"][0]
    plaintext = bytes.fromhex(encryption["pt"])
    assert AESGCM(key).encrypt(nonce, plaintext, bytes.fromhex(encryption["aad"])).hex() == encryption["ct"]
    pair = vector_key()
    private = MLKEM1024P384PrivateKey(pair.kem_key, pair.ec_key)
    suite = Suite(KEM.MLKEM1024_P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM)
    assert suite.decrypt(enc + AESGCM(key).encrypt(nonce, plaintext, None), private, info) == plaintext


def test_data_key_round_trip(key: AnyRecipientKey) -> None:
    wrapped = key.recipient.wrap(DATA_KEY, b"context")
    assert wrapped.provider_info == key.recipient.kid.encode()
    assert wrapped.provider_id in (HPKE_PROVIDER, RSA_PROVIDER)
    assert DATA_KEY not in wrapped.ciphertext
    assert key.unwrap(wrapped, b"context") == DATA_KEY


def test_a_hybrid_data_key_has_the_stated_length(hybrid: HpkeRecipientKey) -> None:
    assert len(hybrid.recipient.wrap(DATA_KEY, b"").ciphertext) == 1665 + 32 + 16


def test_info_is_label_suite_and_context() -> None:
    assert hpke_info(b"context") == b"bwc-agent data key v1\x00\x04\x78context"


def test_a_hybrid_data_key_moved_to_another_context_does_not_open(hybrid: HpkeRecipientKey) -> None:
    assert hybrid.unwrap(hybrid.recipient.wrap(DATA_KEY, b"one"), b"two") is None


def test_data_key_for_another_recipient_does_not_open(key: AnyRecipientKey) -> None:
    other = HpkeRecipientKey.generate().recipient.wrap(DATA_KEY, b"")
    assert key.unwrap(other, b"") is None
    relabelled = EncryptedDataKey(other.provider_id, key.recipient.kid.encode(), other.ciphertext)
    assert key.unwrap(relabelled, b"") is None


@given(st.data())
@settings(max_examples=60)
def test_altered_data_key_gives_none_and_raises_nothing(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(_KEYS))
    wrapped = key.recipient.wrap(DATA_KEY, b"")
    altered = bytearray(wrapped.ciphertext)
    at = data.draw(st.integers(0, len(altered) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip":
            altered[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del altered[at:]
        case _:
            altered += b"\0"
    assert key.unwrap(EncryptedDataKey(wrapped.provider_id, wrapped.provider_info, bytes(altered)), b"") is None


_KEYS: list[AnyRecipientKey] = [HpkeRecipientKey.generate(), RsaRecipientKey.generate()]


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_data_key_of_another_length_does_not_open(key: AnyRecipientKey, length: int) -> None:
    assert key.unwrap(key.recipient.wrap(bytes(length), b""), b"") is None


def test_half_of_a_hybrid_key_does_not_open(hybrid: HpkeRecipientKey) -> None:
    wrapped = hybrid.recipient.wrap(DATA_KEY, b"")
    other = HpkeRecipientKey.generate()
    for half in (HpkeRecipientKey(hybrid.kem_key, other.ec_key), HpkeRecipientKey(other.kem_key, hybrid.ec_key)):
        assert half.unwrap(wrapped, b"") is None
        renamed = EncryptedDataKey(wrapped.provider_id, half.recipient.kid.encode(), wrapped.ciphertext)
        assert half.unwrap(renamed, b"") is None


def test_public_recipient_round_trip(key: AnyRecipientKey) -> None:
    public = key.recipient.public()
    assert set(public) == {"alg", "kid", "pub"}
    assert json.loads(json.dumps(public)) == public
    parsed = parse_recipient(public)
    assert parsed.kid == key.recipient.kid
    assert key.unwrap(parsed.wrap(DATA_KEY, b""), b"") == DATA_KEY


def test_secrets_do_not_show_in_a_repr(key: AnyRecipientKey) -> None:
    assert "key=" not in repr(key)


def der(public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def described(alg: str, pub: bytes) -> dict[str, str]:
    return {"alg": alg, "kid": b64(hashlib.sha256(alg.encode() + b"\0" + pub).digest()), "pub": b64(pub)}


def test_a_weak_rsa_key_is_refused() -> None:
    weak = RsaRecipient(rsa.generate_private_key(65537, 2048).public_key())
    with pytest.raises(EvidenceError, match="3072 to 8192 bits, got 2048"):
        parse_recipient(weak.public())


def test_another_kind_of_key_under_an_rsa_name_is_refused() -> None:
    with pytest.raises(EvidenceError, match="RSA public key"):
        parse_recipient(described("RSA-OAEP-384", der(ec.generate_private_key(ec.SECP256R1()).public_key())))


def test_a_point_that_is_not_on_the_curve_is_refused(hybrid: HpkeRecipientKey) -> None:
    public = bytearray(hybrid.recipient.public_bytes)
    public[-1] ^= 1
    with pytest.raises(EvidenceError, match="public key"):
        parse_recipient(described(hybrid.recipient.public()["alg"], bytes(public)))


def test_a_public_key_in_another_encoding_is_refused(hybrid: HpkeRecipientKey, rsa_key: RsaRecipientKey) -> None:
    compressed = hybrid.ec_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    alg = hybrid.recipient.public()["alg"]
    with pytest.raises(EvidenceError):
        parse_recipient(described(alg, hybrid.recipient.kem_key.public_bytes_raw() + compressed))
    with pytest.raises(EvidenceError):
        parse_recipient(described("RSA-OAEP-384", rsa_key.recipient.public_bytes + b"\0"))


def test_second_encoding_of_an_rsa_key_is_refused(rsa_key: RsaRecipientKey) -> None:
    """Its algorithm without the NULL parameters is read all the same, and would have another kid."""
    public = rsa_key.recipient.public_bytes
    content = public[4:].replace(
        bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300b06092a864886f70d010101")
    )
    twin = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    assert serialization.load_der_public_key(twin) == rsa_key.recipient.key
    with pytest.raises(EvidenceError, match="canonical"):
        parse_recipient(described("RSA-OAEP-384", twin))


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "A" * 43},
        {"alg": "RSA-OAEP"},
        {"alg": "none"},
        {"pub": "!"},
        {"pub": ""},
        {"pub": 7},
        {"extra": "x"},
    ],
    ids=str,
)
def test_a_malformed_recipient_is_refused(key: AnyRecipientKey, change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        parse_recipient(key.recipient.public() | change)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"alg": "x", "kid": "x"}])
def test_value_that_is_not_a_recipient_is_refused(value: Any) -> None:
    with pytest.raises(EvidenceError):
        parse_recipient(value)


def test_an_rsa_name_over_a_hybrid_key_is_refused(hybrid: HpkeRecipientKey, rsa_key: RsaRecipientKey) -> None:
    for mine, other in ((hybrid, rsa_key), (rsa_key, hybrid)):
        pub = mine.recipient.public_bytes
        with pytest.raises(EvidenceError):
            parse_recipient(described(other.recipient.public()["alg"], pub))


def test_kids_differ_by_kind_and_key(hybrid: HpkeRecipientKey, rsa_key: RsaRecipientKey) -> None:
    other = HpkeRecipient(hybrid.recipient.kem_key, HpkeRecipientKey.generate().recipient.ec_key)
    assert len({hybrid.recipient.kid, rsa_key.recipient.kid, other.kid}) == 3
