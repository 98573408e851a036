import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import EvidenceError
from agent.strict_json import MAX_BYTES, b64, encode_json, strict_json, unb64

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert strict_json(encode_json(value)) == value


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
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
