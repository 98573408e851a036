"""Signed JSON: compact JWS (RFC 7515) with ES256 (RFC 7518, 3.4), and nothing else.

The rules, in order:
1. The algorithm is always ES256; the message's `alg` is compared with that, never used.
2. `typ` must be exactly the expected one (RFC 8725, 3.11): a token for one purpose is invalid for others.
3. The header holds `alg`, `typ` and `kid`, no more: no `jku`, `x5u`, `crit`, `b64`, `zip`.
4. The payload is one JSON object (RFC 8259) without duplicate names, at most `MAX_BYTES` long.
5. The key is the one the caller gives; `kid` only helps to find it.
6. ECDSA is malleable: from a signature (r, s) anybody can make (r, n - s), which is valid for the same key and message
   (FIPS 186-5, 6.4.2; SEC 1, 4.1.4). Signatures made here always have the lower s ("low s", as in BIP 146), whichever
   the signer returns. Both are accepted, because evidence from before this rule has either. So a digest that *names* a
   document is taken over its `canonical` form, and is the same for both.

Digests that chain evidence (manifests, openings, certificates, annotations) are over the bytes of the files instead:
there the other signature is an alteration like any other, and is found as one. Whether a token was used before is
decided by its `jti` or nonce, which is signed, and not by a digest.
"""

import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.encoding.strict_json import MAX_BYTES, b64, encode_json, strict_json, unb64
from agent.errors import EvidenceError
from agent.keys.signer import Signer

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_HEADER_NAMES = {"alg", "typ", "kid"}
_NUMBER = 32
"""Bytes of a number on P-256."""
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""n of P-256 (SP 800-186, 3.2.1.3)."""
_MAX_HEADER = 1024
"""Characters of a header: it has three short members, and is parsed before the sender is known."""

Payload = dict[str, Any]


def sign(signer: Signer, typ: str, payload: Mapping[str, Any]) -> str:
    """A compact JWS over `payload` by `signer`, for the purpose `typ`."""
    header = encode_json({"alg": "ES256", "typ": typ, "kid": signer.kid})
    signing_input = f"{b64(header)}.{b64(encode_json(payload))}"
    return f"{signing_input}.{b64(_low_s(signer.sign(signing_input.encode('ascii'))))}"


def _low_s(signature: bytes) -> bytes:
    """The signature with the lower s; one of another length unchanged."""
    s = int.from_bytes(signature[_NUMBER:], "big")
    return signature if len(signature) != 2 * _NUMBER or s <= _ORDER // 2 else _negated_s(signature)


def _negated_s(signature: bytes) -> bytes:
    s = int.from_bytes(signature[_NUMBER:], "big")
    return signature[:_NUMBER] + ((_ORDER - s) % _ORDER).to_bytes(_NUMBER, "big")


def canonical(token: str) -> str:
    """The token with the lower s: digests that name a token are taken over this form.

    Raises:
        EvidenceError: It is no compact JWS.
    """
    signing_input, signature = _split(token)
    return f"{signing_input}.{b64(_low_s(signature))}"


def forms(token: str) -> tuple[str, str]:
    """The canonical form and the other one: evidence from before rule 6 may name either.

    Raises:
        EvidenceError: It is no compact JWS with a signature of ES256's length.
    """
    signing_input, signature = _split(token)
    if len(signature) != 2 * _NUMBER:
        raise EvidenceError(f"expected an ES256 signature of {2 * _NUMBER} bytes, got {len(signature)}")
    low = _low_s(signature)
    return f"{signing_input}.{b64(low)}", f"{signing_input}.{b64(_negated_s(low))}"


def _split(token: str) -> tuple[str, bytes]:
    if len(token) > 2 * MAX_BYTES or not _COMPACT.fullmatch(token):
        raise EvidenceError(f"expected a compact JWS, got {token[:40]!r}")
    signing_input, _, signature = token.rpartition(".")
    return signing_input, unb64(signature)


def unverified_payload(token: str, typ: str) -> Payload:
    """The payload of a token whose signature is NOT verified; only to find the key that must then verify it.

    Raises:
        EvidenceError: The token is not a compact JWS of this `typ` with exactly the header this package writes.
    """
    return _parse(token, typ)[1]


def unverified_kid(token: str, typ: str) -> str:
    """The key id in a token's header, unverified; only to find the key.

    Raises:
        EvidenceError: As `unverified_payload`.
    """
    return str(_parse(token, typ)[0]["kid"])


def unverified_typ(token: str) -> str:
    """The `typ` in a token's header, unverified; only to know what it must then be verified as.

    Raises:
        EvidenceError: It is not a compact JWS that names one.
    """
    if len(token) > 2 * MAX_BYTES or not _COMPACT.fullmatch(token):
        raise EvidenceError(f"expected a compact JWS, got {token[:40]!r}")
    typ = _header(token.split(".", 1)[0]).get("typ")
    if not isinstance(typ, str):
        raise EvidenceError("expected a JWS header with a text as typ")
    return typ


def _header(head: str) -> Payload:
    if len(head) > _MAX_HEADER:
        raise EvidenceError(f"expected a JWS header of at most {_MAX_HEADER} characters, got {len(head)}")
    return strict_json(unb64(head))


def _parse(token: str, typ: str) -> tuple[Payload, Payload]:
    if len(token) > 2 * MAX_BYTES or not _COMPACT.fullmatch(token):
        raise EvidenceError(f"expected a compact JWS of type {typ}, got {token[:40]!r}")
    head, body, signature = token.split(".")
    header = _header(head)
    if set(header) != _HEADER_NAMES:
        names = ", ".join(sorted(header))[:80] or "none"
        raise EvidenceError(f"expected the JWS header names alg, kid, typ, got {names}")
    if header["alg"] != "ES256":
        raise EvidenceError(f"expected a JWS signed with ES256, got {header['alg']!r:.40}: nothing else is accepted")
    if header["typ"] != typ:
        raise EvidenceError(f"expected a JWS of type {typ}, got {header['typ']!r:.60}: it was made for another purpose")
    if not isinstance(header["kid"], str):
        raise EvidenceError("expected a JWS header with a text as kid")
    unb64(signature)
    return header, strict_json(unb64(body))


def verify(token: str, typ: str, key: ec.EllipticCurvePublicKey) -> Payload:
    """The payload of a token that `key` signed for the purpose `typ`.

    Raises:
        EvidenceError: It breaks a rule at the top of this module.
    """
    _, payload = _parse(token, typ)
    signing_input, _, signature = token.rpartition(".")
    if not isinstance(key.curve, ec.SECP256R1) or not _is_valid(unb64(signature), signing_input.encode("ascii"), key):
        raise EvidenceError(f"the signature of this {typ} does not fit the key: it was altered or made by another")
    return payload


def _is_valid(signature: bytes, signed: bytes, key: ec.EllipticCurvePublicKey) -> bool:
    """True if the signature is valid (RFC 7518, 3.4): r and s as big-endian numbers of `_NUMBER` bytes each."""
    if len(signature) != 2 * _NUMBER:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:_NUMBER], signature[_NUMBER:]))
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
