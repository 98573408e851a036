"""Signed JSON: compact JWS (RFC 7515) with ES256 (RFC 7518, 3.4), and nothing else.

The rules, in order:
1. The algorithm is ES256 because this module says so; what a message claims is compared, never believed.
2. `typ` must be exactly the one that the caller expects (RFC 8725, 3.11): a token made for one purpose is void for another.
3. The header holds `alg`, `typ` and `kid`, no more: no `jku`, `x5u`, `crit`, `b64`, `zip`.
4. The payload is one JSON object (RFC 8259) without duplicate names, at most `MAX_BYTES` long.
5. The key is the one the caller gives; `kid` only helps to find it.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws as _jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from agent.errors import EvidenceError
from agent.keys.signer import Signer

MAX_BYTES = 1 << 20
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_HEADER_NAMES = {"alg", "typ", "kid"}

Payload = dict[str, Any]


def b64(data: bytes) -> str:
    """Base64url without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64(text: str) -> bytes:
    """The bytes of a `b64` text.

    Raises:
        EvidenceError: The text is not canonical base64url without padding.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise EvidenceError(f"expected base64url without padding, got {text[:40]!r}") from error
    if b64(data) != text:
        raise EvidenceError(f"expected canonical base64url without padding, got {text[:40]!r}")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Payload:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise EvidenceError(f"expected each JSON name once, got {repeated!r} twice: two readers could read two things")
    return dict(pairs)


def _no_constants(text: str) -> Any:
    raise EvidenceError(f"expected JSON numbers (RFC 8259), got {text}")


def strict_json(data: bytes) -> Payload:
    """One JSON object without duplicate names, NaN or infinities.

    Raises:
        EvidenceError: It is anything else, or longer than `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"expected at most {MAX_BYTES} bytes of JSON, got {len(data)}")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except EvidenceError:
        raise
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"expected a JSON object, got {data[:40]!r}: {error}") from error
    if not isinstance(value, dict):
        raise EvidenceError(f"expected a JSON object, got {type(value).__name__}")
    return value


def encode_json(value: Mapping[str, Any]) -> bytes:
    """Compact JSON in a stable order, as it is signed, hashed and stored here."""
    return msgspec.json.encode(value, order="sorted")


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
    try:
        _jws.deserialize_compact(token, ECKey.import_key(jwk_of(key)), algorithms=["ES256"])
    except (JoseError, ValueError) as error:
        raise EvidenceError(f"the signature of this {typ} does not fit the key: it was altered or made by another") from error
    return payload


def jwk_of(key: ec.EllipticCurvePublicKey) -> dict[str, str | list[str]]:
    """The public JSON Web Key (RFC 7517; RFC 7518, 6.2) of a P-256 key: `kty`, `crv`, `x`, `y`."""
    numbers = key.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(numbers.x.to_bytes(32, "big")),
        "y": b64(numbers.y.to_bytes(32, "big")),
    }


def public_key(jwk: Any) -> ec.EllipticCurvePublicKey:
    """The key of a public P-256 JWK.

    Raises:
        EvidenceError: It is not one, or its point is not on the curve.
    """
    if not isinstance(jwk, dict) or set(jwk) != {"kty", "crv", "x", "y"} or jwk["kty"] != "EC" or jwk["crv"] != "P-256":
        raise EvidenceError("expected a public JWK with kty EC, crv P-256, x and y and nothing else")
    if not isinstance(jwk["x"], str) or not isinstance(jwk["y"], str):
        raise EvidenceError("expected a JWK with x and y as base64url texts")
    x, y = (int.from_bytes(unb64(jwk[name]), "big") for name in "xy")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError as error:
        raise EvidenceError("expected a JWK whose point lies on P-256, got one that does not") from error


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """JWK thumbprint (RFC 7638) with SHA-256, base64url: the `kid` of every key here."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(encode_json(jwk_of(key)))
    return b64(digest.finalize())
