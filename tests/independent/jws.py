"""Section 3: signed documents."""

import re
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.independent.encoding import RefusedError, canonical, digest, from_base64url, need, read_json, to_base64url

PublicKey = ec.EllipticCurvePublicKey
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_MOST = 2 << 20
_NUMBER = 32
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_LONGEST_HEADER = 1024


class Parsed(NamedTuple):
    """A document whose signature is not checked yet."""

    kid: str
    payload: dict[str, Any]
    signed: bytes
    signature: bytes

    def verify(self, key: PublicKey) -> dict[str, Any]:
        """The payload, if `key` signed it."""
        need(len(self.signature) == 2 * _NUMBER, "not a signature of ES256")
        r, s = (int.from_bytes(half, "big") for half in (self.signature[:_NUMBER], self.signature[_NUMBER:]))
        try:
            key.verify(encode_dss_signature(r, s), self.signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise RefusedError("the signature does not fit") from error
        return self.payload


def parse(token: str, typ: str) -> Parsed:
    need(len(token) <= _MOST and _COMPACT.fullmatch(token), "not a compact JWS")
    head, body, signature = token.split(".")
    need(len(head) <= _LONGEST_HEADER, "a header of more than 1,024 characters")
    header = read_json(from_base64url(head))
    need(header.keys() == {"alg", "typ", "kid"}, "other header parameters")
    need(header["alg"] == "ES256" and header["typ"] == typ and isinstance(header["kid"], str), f"not a {typ}")
    payload = read_json(from_base64url(body))
    return Parsed(header["kid"], payload, f"{head}.{body}".encode("ascii"), from_base64url(signature))


def both_forms(token: str) -> tuple[str, str]:
    """The token with either of the two signatures that fit if one does."""
    signed, _, signature = token.rpartition(".")
    raw = from_base64url(signature)
    need(len(raw) == 2 * _NUMBER, "not a signature of ES256")
    other = raw[:_NUMBER] + ((_ORDER - int.from_bytes(raw[_NUMBER:], "big")) % _ORDER).to_bytes(_NUMBER, "big")
    return token, f"{signed}.{to_base64url(other)}"


def ascii_text(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise RefusedError("not ASCII") from error


def public_key(jwk: Any) -> PublicKey:
    need(isinstance(jwk, dict) and jwk.keys() == {"kty", "crv", "x", "y"}, "not a JWK")
    need((jwk["kty"], jwk["crv"]) == ("EC", "P-256"), "not a key on P-256")
    need(isinstance(jwk["x"], str) and isinstance(jwk["y"], str), "not a JWK")
    x, y = from_base64url(jwk["x"]), from_base64url(jwk["y"])
    need(len(x) == len(y) == _NUMBER, "not 32 bytes")
    try:
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        ).public_key()
    except ValueError as error:
        raise RefusedError("not on the curve") from error


def thumbprint(key: PublicKey) -> str:
    numbers = key.public_numbers()
    x, y = (to_base64url(each.to_bytes(_NUMBER, "big")) for each in (numbers.x, numbers.y))
    return to_base64url(bytes.fromhex(digest(canonical({"crv": "P-256", "kty": "EC", "x": x, "y": y}))))
