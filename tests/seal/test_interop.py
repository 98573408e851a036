"""Our messages and those of the unmodified Encryption SDK: each opens what the other wrote."""

import io
import os

import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite

from agent.errors import EvidenceError
from agent.seal.message import parse_header
from agent.seal.reader import open_bytes, open_message
from agent.seal.recipients import HpkeRecipientKey, RsaRecipientKey
from agent.seal.writer import Sealer
from tests.support.esdk import CLIENT, hpke_provider, open_frames, open_whole, rsa_provider

CONTEXT = {"agency": "Ex", "segment": "1", "wörter": "auch solche"}
PLAINTEXT = os.urandom(5 * 512 + 77)


@pytest.fixture(scope="module")
def rsa() -> RsaRecipientKey:
    return RsaRecipientKey.generate()


@pytest.fixture(scope="module")
def hybrid() -> HpkeRecipientKey:
    return HpkeRecipientKey.generate()


def ours(rsa: RsaRecipientKey, hybrid: HpkeRecipientKey, plaintext: bytes = PLAINTEXT) -> bytes:
    sealer = Sealer([hybrid.recipient, rsa.recipient], CONTEXT, 512, os.urandom)
    whole = len(plaintext) // 512 * 512
    return sealer.header + bytes(sealer.seal(plaintext[:whole])) + sealer.finish(plaintext[whole:])


@pytest.mark.parametrize("length", [0, 1, 512, 513, 1024, len(PLAINTEXT)])
def test_the_sdk_opens_our_messages_with_its_raw_rsa_provider(
    rsa: RsaRecipientKey, hybrid: HpkeRecipientKey, length: int
) -> None:
    message = ours(rsa, hybrid, PLAINTEXT[:length])
    plaintext, header = CLIENT.decrypt(source=message, key_provider=rsa_provider(rsa))
    assert plaintext == PLAINTEXT[:length]
    assert header.encryption_context == CONTEXT
    assert header.algorithm is AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY


def test_the_sdk_opens_our_messages_with_a_hybrid_key(rsa: RsaRecipientKey, hybrid: HpkeRecipientKey) -> None:
    plaintext, header = CLIENT.decrypt(source=ours(rsa, hybrid), key_provider=hpke_provider(hybrid))
    assert plaintext == PLAINTEXT
    assert header.encryption_context == CONTEXT


@pytest.mark.parametrize("torn", [b"", b"\0" * 3, b"\xff" * 700], ids=["within a frame", "zeros", "rubbish"])
def test_the_sdk_reads_all_whole_frames_of_a_truncated_message(
    rsa: RsaRecipientKey, hybrid: HpkeRecipientKey, torn: bytes
) -> None:
    """As docs/evidence-format.md tells others to open what lost power."""
    sealer = Sealer([hybrid.recipient, rsa.recipient], CONTEXT, 512, os.urandom)
    frames = bytes(sealer.seal(PLAINTEXT[: 5 * 512]))
    whole = sealer.header + frames[: 4 * len(frames) // 5]
    cut = whole + (torn or frames[4 * len(frames) // 5 : -100])
    for provider in (rsa_provider(rsa), hpke_provider(hybrid)):
        given = open_frames(cut, provider)
        assert given.error
        assert given.plaintext == PLAINTEXT[: 4 * 512]


def test_the_sdk_refuses_our_message_with_a_flipped_bit(rsa: RsaRecipientKey, hybrid: HpkeRecipientKey) -> None:
    message = bytearray(ours(rsa, hybrid))
    message[-100] ^= 1
    assert open_whole(bytes(message), rsa_provider(rsa)).error == "InvalidTag"


@pytest.mark.parametrize("length", [0, 1, 512, 1024, len(PLAINTEXT)])
@pytest.mark.parametrize("opener", ["rsa", "hybrid"])
def test_our_reader_opens_what_the_sdk_wrote_for_several_recipients(
    rsa: RsaRecipientKey, hybrid: HpkeRecipientKey, length: int, opener: str
) -> None:
    provider = rsa_provider(rsa)
    provider.add_master_key_provider(hpke_provider(hybrid))
    message, _ = CLIENT.encrypt(
        source=PLAINTEXT[:length],
        key_provider=provider,
        encryption_context=CONTEXT,
        frame_length=512,
        algorithm=AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
    )
    opened = open_message(io.BytesIO(message), [rsa if opener == "rsa" else hybrid])
    assert b"".join(opened) == PLAINTEXT[:length]
    assert dict(opened.context) == CONTEXT
    assert len(opened.header.recipients) == 2
    assert (opened.report.ended, opened.report.message_bytes) == ("whole", len(message))
    assert opened.header.serialize() == message[: len(opened.header.serialize())]
    assert parse_header(opened.header.serialize()) == opened.header


def test_sdk_message_in_another_suite_is_refused(rsa: RsaRecipientKey) -> None:
    message, _ = CLIENT.encrypt(source=PLAINTEXT, key_provider=rsa_provider(rsa), frame_length=512)
    with pytest.raises(EvidenceError, match="algorithm suite 0x0478"):
        open_bytes(message, [rsa])
