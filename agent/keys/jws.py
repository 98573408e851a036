"""Signed JSON: compact JWS (RFC 7515) with ES256 (RFC 7518, 3.4), and nothing else.

The rules, in order:
1. The algorithm is ES256 because this module says so; what a message claims is compared, never believed.
2. `typ` must be exactly the one that the caller expects (RFC 8725, 3.11): a token for one purpose is void for others.
3. The header holds `alg`, `typ` and `kid`, no more: no `jku`, `x5u`, `crit`, `b64`, `zip`.
4. The payload is one JSON object (RFC 8259) without duplicate names, at most `MAX_BYTES` long.
5. The key is the one the caller gives; `kid` only helps to find it.
"""

import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.errors import EvidenceError
from agent.keys.signer import Signer
from agent.strict_json import MAX_BYTES, b64, encode_json, strict_json, unb64

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_HEADER_NAMES = {"alg", "typ", "kid"}
_NUMBER = 32
"""Bytes of a number on P-256."""

Payload = dict[str, Any]


def sign(signer: Signer, typ: str, payload: Mapping[str, Any]) -> str:
    """A compact JWS over `payload` by `signer`, for the purpose `typ`."""
    header = encode_json({"alg": "ES256", "typ": typ, "kid": signer.kid})
    signing_input = f"{b64(header)}.{b64(encode_json(payload))}"
    return f"{signing_input}.{b64(signer.sign(signing_input.encode('ascii')))}"


def peek(token: str, typ: str) -> Payload:
    """The payload of a token whose signature is NOT checked; only to find the key that must then verify it.

    Raises:
        EvidenceError: The token is not a compact JWS of this `typ` with exactly the header this package writes.
    """
    return _parse(token, typ)[1]


def kid_of(token: str, typ: str) -> str:
    """The key id that a token claims; unchecked, only to find the key.

    Raises:
        EvidenceError: As `peek`.
    """
    return str(_parse(token, typ)[0]["kid"])


def typ_of(token: str) -> str:
    """The purpose that a token claims; unchecked, only to know what it must then be verified as.

    Raises:
        EvidenceError: It is not a compact JWS that names one.
    """
    if len(token) > 2 * MAX_BYTES or not _COMPACT.fullmatch(token):
        raise EvidenceError(f"expected a compact JWS, got {token[:40]!r}")
    typ = strict_json(unb64(token.split(".", 1)[0])).get("typ")
    if not isinstance(typ, str):
        raise EvidenceError("expected a JWS header with a text as typ")
    return typ


def _parse(token: str, typ: str) -> tuple[Payload, Payload]:
    if len(token) > 2 * MAX_BYTES or not _COMPACT.fullmatch(token):
        raise EvidenceError(f"expected a compact JWS of type {typ}, got {token[:40]!r}")
    head, body, signature = token.split(".")
    header = strict_json(unb64(head))
    if set(header) != _HEADER_NAMES:
        raise EvidenceError(f"expected the JWS header names alg, kid, typ, got {', '.join(sorted(header)) or 'none'}")
    if header["alg"] != "ES256":
        raise EvidenceError(f"expected a JWS signed with ES256, got alg {header['alg']!r}: nothing else is accepted")
    if header["typ"] != typ:
        raise EvidenceError(f"expected a JWS of type {typ}, got {header['typ']!r}: it was made for another purpose")
    if not isinstance(header["kid"], str):
        raise EvidenceError("expected a JWS header with a text as kid")
    unb64(signature)
    return header, strict_json(unb64(body))


def verify(token: str, typ: str, key: ec.EllipticCurvePublicKey) -> Payload:
    """The payload of a token that `key` signed for the purpose `typ`.

    Raises:
        EvidenceError: Anything about it is not as the rules at the top of this module say.
    """
    _, payload = _parse(token, typ)
    signing_input, _, signature = token.rpartition(".")
    if not isinstance(key.curve, ec.SECP256R1) or not _fits(unb64(signature), signing_input.encode("ascii"), key):
        raise EvidenceError(f"the signature of this {typ} does not fit the key: it was altered or made by another")
    return payload


def _fits(signature: bytes, signed: bytes, key: ec.EllipticCurvePublicKey) -> bool:
    """True if it is one by the key (RFC 7518, 3.4): r and s as big-endian numbers of `_NUMBER` bytes each."""
    if len(signature) != 2 * _NUMBER:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:_NUMBER], signature[_NUMBER:]))
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
