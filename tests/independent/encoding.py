"""Section 2: base64url, JSON, canonical JSON, times, and the shapes of objects."""

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Check = Callable[[Any], None]
"""Raises `RefusedError` for a value that is not of some shape."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
LABEL = r"[^\x00-\x1f\x7f-\x9f]{1,64}"
KID = r"[A-Za-z0-9_-]{43}"
SHA256 = r"[0-9a-f]{64}"
UTC_TEXT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
MOST_JSON = 1 << 20
DEEPEST = 32
LARGEST = (1 << 53) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_REST_OF_ONE = 1


class RefusedError(ValueError):
    """Something is not as the specification says."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise RefusedError(what)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def from_base64url(text: str) -> bytes:
    """Section 2.1."""
    need(_BASE64URL.fullmatch(text) and len(text) % 4 != _REST_OF_ONE, "not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise RefusedError("not base64url") from error
    need(to_base64url(data) == text, "not canonical base64url")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    need(len(names) == len(pairs), "a name twice")
    return names


def _constant(text: str) -> Any:
    raise RefusedError(f"{text} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    need(math.isfinite(value), "a number that overflows")
    return value


def _integer(text: str) -> int:
    value = int(text)
    need(-(1 << 63) <= value < 1 << 63, "an integer beyond 64 bits")
    return value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def read_json(data: bytes) -> dict[str, Any]:
    """Section 2.2."""
    need(len(data) <= MOST_JSON, "more than 1 MiB of JSON")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
    except RefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefusedError("not JSON") from error
    need(isinstance(value, dict), "not an object")
    need(_depth(value) <= DEEPEST, "nested too deep")
    return dict(value)


def canonical(value: Any) -> bytes:
    """Section 2.3."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def utc_us(text: str) -> int:
    """Section 2.4: microseconds since 1970."""
    need(re.fullmatch(UTC_TEXT, text, re.ASCII), "not a UTC text")
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError as error:
        raise RefusedError("no such time") from error
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# -- shapes -----------------------------------------------------------------------------------------------------------


def text(pattern: str = "") -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, str), "not a string")
        if pattern:
            need(re.fullmatch(pattern, value), f"not of the form {pattern}")

    return check


def integer(least: int | None = None, most: int | None = None) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, int) and not isinstance(value, bool), "not an integer")
        need(least is None or value >= least, "too small")
        need(most is None or value <= most, "too large")

    return check


def number(least: float) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, int | float) and not isinstance(value, bool) and value >= least, "not a number")

    return check


def boolean(value: Any) -> None:
    need(isinstance(value, bool), "not true or false")


def either(*checks: Check) -> Check:
    def check(value: Any) -> None:
        for each in checks:
            try:
                each(value)
            except RefusedError:
                continue
            return
        raise RefusedError("of none of the allowed types")

    return check


def null(value: Any) -> None:
    need(value is None, "not null")


def one_of(*values: str) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, str) and value in values, f"not one of {values}")

    return check


def array(items: Check, most: int | None = None) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, list) and (most is None or len(value) <= most), "not an array")
        for item in value:
            items(item)

    return check


def mapping(names: Check, values: Check) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, dict), "not an object")
        for name, item in value.items():
            names(name)
            values(item)

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with exactly these fields."""
    allowed = {**required, **(optional or {})}

    def check(value: Any) -> None:
        need(isinstance(value, dict), "not an object")
        need(required.keys() <= value.keys() <= allowed.keys(), "missing or unknown fields")
        for name, item in value.items():
            allowed[name](item)

    return check


UTC_FIELD = text(UTC_TEXT)
TIME_RECORD = fields({"utc": UTC_FIELD, "source": text(LABEL), "uncertainty_s": either(null, number(0))})
