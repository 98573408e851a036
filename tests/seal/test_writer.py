import hashlib
import io
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.errors import EvidenceError
from agent.seal import message
from agent.seal.message import parse_header, scan
from agent.seal.reader import open_bytes
from agent.seal.recipients import HpkeRecipientKey
from agent.seal.writer import Sealer, message_keys, seal_bytes, wipe
from tests.support.sealing import CONTEXT, ClearRecipient

KEY = ClearRecipient()


def sealer(frame_length: int = 64) -> Sealer:
    return Sealer([KEY], CONTEXT, frame_length, os.urandom)


def test_frames_may_be_sealed_in_any_number_of_calls() -> None:
    one, many = Sealer([KEY], CONTEXT, 64, bytes), Sealer([KEY], CONTEXT, 64, bytes)
    plaintext = os.urandom(64 * 9)
    at_once = bytes(one.seal(plaintext))
    piecewise = b"".join(bytes(many.seal(plaintext[i : i + 192])) for i in range(0, len(plaintext), 192))
    assert at_once == piecewise
    assert one.finish() == many.finish()
    assert one.frames == many.frames == 10


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_sealed(kind: type) -> None:
    made = sealer()
    assert open_bytes(made.header + bytes(made.seal(kind(b"x" * 128))) + made.finish(kind(b"y")), [KEY])[1] == (
        b"x" * 128 + b"y"
    )


def test_each_call_returns_a_buffer_of_its_own() -> None:
    made = sealer()
    first = made.seal(b"a" * 64)
    kept = bytes(first)
    made.seal(b"b" * 64)
    assert first == kept


def test_a_frame_is_laid_out_and_authenticated_as_the_specification_says() -> None:
    made = Sealer([KEY], CONTEXT, 64, lambda n: bytes(range(n)))
    frame = bytes(made.seal(b"p" * 64))
    final = made.finish(b"rest")
    message_id = bytes(range(32))
    cipher, commitment = message_keys(bytes(range(32)), message_id)
    aad = message_id + b"AWSKMSEncryptionClient Frame" + (1).to_bytes(4, "big") + (64).to_bytes(8, "big")
    assert frame[:16] == (1).to_bytes(4, "big") + (1).to_bytes(12, "big")
    assert cipher.decrypt(frame[4:16], frame[16:], aad) == b"p" * 64
    aad = message_id + b"AWSKMSEncryptionClient Final Frame" + (2).to_bytes(4, "big") + (4).to_bytes(8, "big")
    assert final[:24] == b"\xff" * 4 + (2).to_bytes(4, "big") + (2).to_bytes(12, "big") + (4).to_bytes(4, "big")
    assert cipher.decrypt(final[8:20], final[24:], aad) == b"rest"
    assert parse_header(made.header).commitment == commitment


def test_key_and_commitment_are_derived_as_the_specification_says() -> None:
    """HKDF (RFC 5869) written out with HMAC, so that a wrong label or hash cannot hide in the library's call."""
    import hmac

    def hkdf(info: bytes) -> bytes:
        secret = hmac.digest(b"m" * 32, b"k" * 32, "sha512")
        return hmac.digest(secret, info + b"\x01", "sha512")[:32]

    cipher, commitment = message_keys(b"k" * 32, b"m" * 32)
    assert commitment == hkdf(b"COMMITKEY")
    sealed_by_hand = AESGCM(hkdf(b"\x04\x78DERIVEKEY")).encrypt(bytes(12), b"same key", None)
    assert cipher.encrypt(bytes(12), b"same key", None) == sealed_by_hand


def test_message_without_its_final_frame_is_reported_as_unfinished() -> None:
    made = sealer()
    assert not scan(io.BytesIO(made.header + bytes(made.seal(bytes(64))))).final


def test_nothing_is_sealed_after_the_final_frame() -> None:
    made = sealer()
    made.finish()
    assert made.finished
    with pytest.raises(ValueError, match="final frame was already made"):
        made.seal(bytes(64))
    with pytest.raises(ValueError, match="final frame was already made"):
        made.finish()


def test_the_frame_counter_never_wraps() -> None:
    made = sealer()
    made._sequence = message.MAX_FRAMES - 1
    with pytest.raises(ValueError, match="start another one"):
        made.seal(bytes(128))
    made.seal(bytes(64))
    with pytest.raises(ValueError, match="start another one"):
        made.seal(bytes(64))
    assert made.finish()[:8] == b"\xff" * 8
    assert made.frames == message.MAX_FRAMES


@pytest.mark.parametrize("length", [1, 63, 65])
def test_only_whole_frames_are_sealed_before_the_final_one(length: int) -> None:
    made = sealer()
    with pytest.raises(ValueError, match="whole number of frames"):
        made.seal(bytes(length))
    assert made.frames == 0


def test_a_final_frame_longer_than_a_frame_is_refused_and_the_message_stays_open() -> None:
    made = sealer()
    with pytest.raises(ValueError, match="at most 64 bytes"):
        made.finish(bytes(65))
    assert not made.finished
    assert made.finish(bytes(64))


@pytest.mark.parametrize(("recipients", "frame_length"), [(0, 64), (17, 64), (1, 0), (1, (1 << 20) + 1)])
def test_message_outside_of_the_limits_is_refused(recipients: int, frame_length: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sealer([KEY] * recipients, CONTEXT, frame_length, os.urandom)


def test_a_reserved_context_key_is_not_written() -> None:
    with pytest.raises(EvidenceError):
        Sealer([KEY], {"aws-crypto-public-key": "x"}, 64, os.urandom)


def test_sealer_does_not_keep_the_data_key() -> None:
    drawn: list[bytes] = []

    def random_bytes(count: int) -> bytes:
        drawn.append(os.urandom(count))
        return drawn[-1]

    made = Sealer([HpkeRecipientKey.generate().recipient], CONTEXT, 64, random_bytes)
    for value in vars(made).values():
        assert drawn[1] not in (value if isinstance(value, bytes | bytearray) else b"")
    assert drawn[0] in made.header


def test_wiping_overwrites_in_place() -> None:
    secret = bytearray(b"secret")
    wipe(secret)
    assert secret == bytes(6)


def test_equal_plaintexts_give_different_messages() -> None:
    one, two = (seal_bytes([KEY], {}, b"x" * 1000, os.urandom) for _ in range(2))
    assert hashlib.sha256(one[-900:]).digest() != hashlib.sha256(two[-900:]).digest()
    assert open_bytes(one, [KEY])[1] == open_bytes(two, [KEY])[1] == b"x" * 1000


def test_small_message_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        seal_bytes([KEY], {}, bytes(4097), os.urandom)
