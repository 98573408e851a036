"""Section 8: the sealed message, without a key and with one."""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.independent.encoding import RefusedError, need, to_base64url
from tests.independent.trust import HPKE, RSA

_ID, _COMMITMENT, _TAG, _IV, _KEY = 32, 32, 16, 12, 32
_FINAL_HEAD = 24
_FINAL_MARK = b"\xff\xff\xff\xff"
_KEM_CIPHERTEXT, _POINT = 1568, 97
_SUITE_ID = b"HPKE" + bytes.fromhex("005100020002")


@dataclass(frozen=True)
class Header:
    """Section 8.1. `raw` are all of its bytes, the tag included."""

    raw: bytes
    message_id: bytes
    context: dict[str, str]
    context_bytes: bytes
    keys: tuple[tuple[str, bytes, bytes], ...]
    frame_length: int
    commitment: bytes


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        need(self.at + size <= len(self.data), "ends within the header")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        return self.take(self.number(2))


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError("not UTF-8") from error


def _context(data: bytes) -> dict[str, str]:
    if not data:
        return {}
    reader = _Reader(data)
    pairs = [(reader.sized(), reader.sized()) for _ in range(reader.number(2))]
    need(pairs and reader.at == len(data), "a context of another length")
    need(all(one[0] < other[0] for one, other in pairwise(pairs)), "context keys out of order")
    context = {_utf8(key): _utf8(value) for key, value in pairs}
    need("aws-crypto-public-key" not in context, "the reserved key")
    return context


def read_header(data: bytes) -> Header:
    reader = _Reader(data)
    need(reader.take(3) == bytes.fromhex("020478"), "another version or suite")
    message_id = reader.take(_ID)
    context_bytes = reader.sized()
    context = _context(context_bytes)
    count = reader.number(2)
    need(1 <= count <= 16, "too few or many recipients")
    keys = tuple((_utf8(reader.sized()), reader.sized(), reader.sized()) for _ in range(count))
    need(reader.number(1) == 2, "not framed")
    frame_length = reader.number(4)
    need(1 <= frame_length <= 1 << 20, "another frame length")
    commitment = reader.take(_COMMITMENT)
    reader.take(_TAG)
    return Header(data[: reader.at], message_id, context, context_bytes, keys, frame_length, commitment)


@dataclass(frozen=True)
class Frame:
    """Where a whole frame's ciphertext with its tag lies, and where the frame ends."""

    number: int
    begin: int
    end: int
    content: int
    final: bool


def walk(data: bytes, header: Header) -> Iterator[Frame]:
    """Section 8.4: the whole frames."""
    at, number = len(header.raw), 1
    while True:
        head = number.to_bytes(4, "big") + number.to_bytes(_IV, "big")
        if len(data) - at < _FINAL_HEAD:
            return
        if data[at : at + 16] == head and number < 0xFFFF_FFFF:
            begin, content, final = at + 16, header.frame_length, False
        elif data[at : at + 20] == _FINAL_MARK + head:
            content = int.from_bytes(data[at + 20 : at + 24], "big")
            if content > header.frame_length:
                return
            begin, final = at + _FINAL_HEAD, True
        else:
            return
        end = begin + content + _TAG
        if end > len(data):
            return
        yield Frame(number, begin, end, content, final)
        if final:
            return
        at, number = end, number + 1


# -- with a key -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RsaKey:
    """An RSA recipient."""

    key: rsa.RSAPrivateKey

    @property
    def kid(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return _kid(RSA, self.key.public_key().public_bytes(serialization.Encoding.DER, form))

    def unwrap(self, ciphertext: bytes, context_bytes: bytes) -> bytes:
        del context_bytes
        sha384 = hashes.SHA384()
        return self.key.decrypt(ciphertext, padding.OAEP(padding.MGF1(sha384), sha384, None))


@dataclass(frozen=True)
class HybridKey:
    """An HPKE recipient."""

    kem: mlkem.MLKEM1024PrivateKey
    ec: ec.EllipticCurvePrivateKey

    @property
    def point(self) -> bytes:
        form = serialization.PublicFormat.UncompressedPoint
        return self.ec.public_key().public_bytes(serialization.Encoding.X962, form)

    @property
    def kid(self) -> bytes:
        return _kid(HPKE, self.kem.public_key().public_bytes_raw() + self.point)

    def shared_secret(self, enc: bytes) -> bytes:
        """Decap of section 8.5."""
        ct_pq, ct_t = enc[:_KEM_CIPHERTEXT], enc[_KEM_CIPHERTEXT:]
        ss_pq = self.kem.decapsulate(ct_pq)
        ss_t = self.ec.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), ct_t))
        return hashlib.sha3_256(ss_pq + ss_t + ct_t + self.point + b"MLKEM1024-P384").digest()

    def unwrap(self, ciphertext: bytes, context_bytes: bytes) -> bytes:
        enc, sealed = ciphertext[: _KEM_CIPHERTEXT + _POINT], ciphertext[_KEM_CIPHERTEXT + _POINT :]
        info = b"bwc-agent data key v1\0\x04\x78" + context_bytes
        key, nonce = key_schedule(self.shared_secret(enc), info)
        return AESGCM(key).decrypt(nonce, sealed, b"")


def key_schedule(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and base nonce of section 8.5."""
    context = b"\0" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    secret = _extract(shared_secret, b"secret", b"")
    return _expand(secret, b"key", context, 32), _expand(secret, b"base_nonce", context, 12)


def _extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.new(salt or bytes(48), b"HPKE-v1" + _SUITE_ID + label + ikm, hashlib.sha384).digest()


def _expand(prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """One block of HKDF-Expand is enough for all that is needed here."""
    labelled = struct.pack(">H", length) + b"HPKE-v1" + _SUITE_ID + label + info
    return hmac.new(prk, labelled + b"\x01", hashlib.sha384).digest()[:length]


def _kid(alg: str, public: bytes) -> bytes:
    return to_base64url(hashlib.sha256(alg.encode() + b"\0" + public).digest()).encode()


def load_key(pem: bytes) -> RsaKey | HybridKey:
    """Section 8.6, without a passphrase."""
    blocks = [block + b"-----END PRIVATE KEY-----\n" for block in pem.split(b"-----END PRIVATE KEY-----\n")[:-1]]
    match [serialization.load_pem_private_key(block, None) for block in blocks]:
        case [rsa.RSAPrivateKey() as key]:
            return RsaKey(key)
        case [mlkem.MLKEM1024PrivateKey() as kem, ec.EllipticCurvePrivateKey() as curve]:
            return HybridKey(kem, curve)
    raise RefusedError("not a recipient's key")


def open_message(data: bytes, key: RsaKey | HybridKey) -> tuple[Header, bytes, bool]:
    """Header, plaintext of all whole frames that authenticate, and whether the final one is among them."""
    header = read_header(data)
    wrapped = [ciphertext for _, info, ciphertext in header.keys if info == key.kid]
    need(wrapped, "sealed to others")
    try:
        data_key = key.unwrap(wrapped[0], header.context_bytes)
    except (InvalidTag, ValueError) as error:
        raise RefusedError("the data key does not open") from error
    need(len(data_key) == _KEY, "a data key of another length")
    content_key, commitment = _derive(data_key, header.message_id)
    need(hmac.compare_digest(commitment, header.commitment), "another commitment")
    cipher = AESGCM(content_key)
    try:
        cipher.decrypt(bytes(_IV), header.raw[-_TAG:], header.raw[:-_TAG])
    except InvalidTag as error:
        raise RefusedError("the header was altered") from error
    plain, final = bytearray(), False
    for frame in walk(data, header):
        kind = b"AWSKMSEncryptionClient Final Frame" if frame.final else b"AWSKMSEncryptionClient Frame"
        associated = header.message_id + kind + struct.pack(">IQ", frame.number, frame.content)
        try:
            plain += cipher.decrypt(frame.number.to_bytes(_IV, "big"), data[frame.begin : frame.end], associated)
        except InvalidTag:
            break
        final = frame.final
    return header, bytes(plain), final


def _derive(data_key: bytes, message_id: bytes) -> tuple[bytes, bytes]:
    sha512 = hashes.SHA512()
    content_key = HKDF(sha512, _KEY, salt=message_id, info=b"\x04\x78DERIVEKEY").derive(data_key)
    return content_key, HKDF(sha512, _COMMITMENT, salt=message_id, info=b"COMMITKEY").derive(data_key)
