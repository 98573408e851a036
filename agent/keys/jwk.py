"""Public keys as JSON Web Keys (RFC 7517), and their names (RFC 7638)."""

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.encoding.strict_json import b64, encode_json, unb64
from agent.errors import EvidenceError

_COORDINATE = 32
"""Bytes of a coordinate on P-256."""


def jwk_of(key: ec.EllipticCurvePublicKey) -> dict[str, str | list[str]]:
    """The public JSON Web Key (RFC 7517; RFC 7518, 6.2) of a P-256 key: `kty`, `crv`, `x`, `y`."""
    numbers = key.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(numbers.x.to_bytes(_COORDINATE, "big")),
        "y": b64(numbers.y.to_bytes(_COORDINATE, "big")),
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
    x, y = (unb64(jwk[name]) for name in "xy")
    if (len(x), len(y)) != (_COORDINATE, _COORDINATE):  # RFC 7518, 6.2.1.2: one key, one JWK
        raise EvidenceError(f"expected {_COORDINATE} bytes each as x and y of a JWK, got {len(x)} and {len(y)}")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return numbers.public_key()
    except ValueError as error:
        raise EvidenceError("expected a JWK whose point lies on P-256, got one that does not") from error


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """JWK thumbprint (RFC 7638) with SHA-256, base64url: the `kid` of every key here."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(encode_json(jwk_of(key)))
    return b64(digest.finalize())
