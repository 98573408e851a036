"""JSON as it is signed, hashed and stored: one canonical way to write it, one strict way to read it."""

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from agent.encoding.digest import sha256
from agent.errors import EvidenceError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
"""Nested objects and arrays, the outermost counted. No format needs more than eight; recursive code must not reach the
interpreter's recursion limit."""
_MOST = (1 << 63) - 1
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""Integers beyond 64 bits have 19 digits or more: only then is each one checked."""


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


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # In linear time, so that many names cost no more than their bytes.
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise EvidenceError(
            f"expected each JSON name once, got {repeated[:40]!r} twice: two readers could read two things"
        )
    return value


def _no_constants(text: str) -> Any:
    raise EvidenceError(f"expected JSON numbers (RFC 8259), got {text}")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise EvidenceError(f"expected JSON numbers that fit into 64 bits, got {text[:40]}")
    return value


def _within_64_bits(text: str) -> int:
    value = int(text)
    if not -_MOST - 1 <= value <= _MOST:
        raise EvidenceError(f"expected JSON numbers that fit into 64 bits, got {text[:40]}")
    return value


def _too_deep(value: Any) -> bool:
    """True if it is nested deeper than `MAX_DEPTH`; without recursion."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def strict_json(data: bytes) -> dict[str, Any]:
    """One JSON object without duplicate names, NaN, infinities, integers beyond 64 bits, or what UTF-8 cannot express.

    Raises:
        EvidenceError: It is anything else, longer than `MAX_BYTES`, or nested deeper than `MAX_DEPTH`.
    """
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"expected at most {MAX_BYTES} bytes of JSON, got {len(data)}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constants,
            parse_float=_finite,
            parse_int=_within_64_bits if _LONG_NUMBER.search(data) else None,
        )
        if b"\\u" in data:  # only an escape can produce a lone surrogate (RFC 8259, 8.2)
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except EvidenceError:
        raise
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"expected a JSON object, got {data[:40]!r}: {error}") from error
    if not isinstance(value, dict):
        raise EvidenceError(f"expected a JSON object, got {type(value).__name__}")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _too_deep(value):
        raise EvidenceError(f"expected JSON that is nested at most {MAX_DEPTH} deep, got more")
    return value


def encode_json(value: Mapping[str, Any]) -> bytes:
    """Compact JSON in a stable order, as it is signed, hashed and stored here."""
    return msgspec.json.encode(value, order="sorted")


def sha256_hex(data: bytes) -> str:
    """SHA-256 (FIPS 180-4) in lower-case hexadecimal, as all hashes stand in JSON here."""
    return sha256(data).hex()
