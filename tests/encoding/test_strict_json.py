"""JSON that two readers could read in two ways, or that would end a reader, is refused; all else is read as it is."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.encoding.strict_json import MAX_BYTES, MAX_DEPTH, b64, encode_json, strict_json, unb64
from agent.errors import EvidenceError

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=20,
)


def nested(levels: int, opening: str, closing: str) -> bytes:
    """An object of that many levels, itself counted."""
    return f'{{"a":{opening * (levels - 1)}1{closing * (levels - 1)}}}'.encode()


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_what_is_written_here_is_read_back(value: dict[str, Any]) -> None:
    assert strict_json(encode_json(value)) == value


@given(st.integers())
def test_integers_are_read_within_64_bits_and_refused_beyond(value: int) -> None:
    data = json.dumps({"a": [value]}).encode()
    if -(2**63) <= value < 2**63:
        assert strict_json(data) == {"a": [value]}
    else:
        with pytest.raises(EvidenceError, match="64 bits"):
            strict_json(data)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_the_largest_integers_are_read(value: int) -> None:
    assert strict_json(json.dumps({"a": value}).encode()) == {"a": value}


@pytest.mark.parametrize("digits", [b"9223372036854775808", b"-9223372036854775809", b"1" + b"0" * 5000])
def test_an_integer_beyond_64_bits_is_refused(digits: bytes) -> None:
    for data in (b'{"a":%b}', b'{"a":1,"b":[{"c":%b}]}'):
        with pytest.raises(EvidenceError):
            strict_json(data % digits)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_read_up_to_its_bound_and_refused_beyond(opening: str, closing: str) -> None:
    assert strict_json(nested(MAX_DEPTH, opening, closing))
    for levels in (MAX_DEPTH + 1, 500, 5000, 100_000):
        with pytest.raises(EvidenceError):
            strict_json(nested(levels, opening, closing))


def test_many_objects_beside_each_other_are_not_nested() -> None:
    assert strict_json(encode_json({"a": [{} for _ in range(10_000)]}))


def test_name_repeated_at_the_end_of_very_many_is_refused_in_linear_time() -> None:
    names = ",".join(f'"{number:x}":0' for number in range(100_000))
    began = time.monotonic()
    with pytest.raises(EvidenceError, match="'z' twice"):
        strict_json(f'{{{names},"z":0,"z":0}}'.encode())
    assert time.monotonic() - began < 10, "a search for each name among all took minutes"


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_one_value_has_one_form(value: dict[str, Any]) -> None:
    assert encode_json(dict(reversed(value.items()))) == encode_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1,"\\u0061":2}',
        b'[{"x":1,"x":1}]',
    ],
)
def test_duplicate_names_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        strict_json(data)


def test_a_duplicate_name_is_named() -> None:
    with pytest.raises(EvidenceError, match="'a' twice"):
        strict_json(b'{"a":1,"a":2}')


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"{",
        b"{}x",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":"\\ud800"}',
        b'{"\\udc00":1}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000,
        b"{'a':1}",
        b'{"a":"\n"}',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_strict_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        strict_json(data)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert strict_json(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_a_text_without_end_is_refused() -> None:
    with pytest.raises(EvidenceError, match="at most"):
        strict_json(b'{"a":"' + b"x" * MAX_BYTES + b'"}')


@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_but_an_evidence_error(data: bytes) -> None:
    try:
        value = strict_json(data)
    except EvidenceError:
        return
    assert value == json.loads(data)


@given(st.binary(max_size=40))
def test_base64url_comes_back(data: bytes) -> None:
    assert unb64(b64(data)) == data
    assert "=" not in b64(data)


@pytest.mark.parametrize("text", ["=", "AA==", "A", "AB", "+/", "A A", "AA\n", "é", "A-_=", "////"])
def test_base64url_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        unb64(text)


@given(st.text(max_size=12))
def test_a_text_has_one_meaning_or_none(text: str) -> None:
    try:
        data = unb64(text)
    except EvidenceError:
        return
    assert b64(data) == text
