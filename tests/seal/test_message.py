import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EvidenceError
from agent.seal import message
from agent.seal.message import EncryptedDataKey, Header, parse_header, read_header, scan, serialize_context
from tests.support.sealing import Sealed, sealed

KEYS = (EncryptedDataKey("p", b"key", b"wrapped"),)


def header(**changes: Any) -> Header:
    fields: dict[str, Any] = {
        "message_id": bytes(32),
        "context": {"a": "1", "b": "2"},
        "recipients": KEYS,
        "frame_length": 4096,
        "commitment": b"c" * 32,
        "tag": b"t" * 16,
    }
    return Header(**(fields | changes))


def test_header_bytes_match_the_specification() -> None:
    expected = (
        b"\x02\x04\x78" + bytes(32)
        + b"\x00\x0e" + b"\x00\x02" + b"\x00\x01a\x00\x011" + b"\x00\x01b\x00\x012"
        + b"\x00\x01" + b"\x00\x01p" + b"\x00\x03key" + b"\x00\x07wrapped"
        + b"\x02" + b"\x00\x00\x10\x00" + b"c" * 32 + b"t" * 16
    )  # fmt: skip
    assert header().serialize() == expected
    assert parse_header(expected) == header()


def test_an_empty_encryption_context_has_no_count() -> None:
    data = header(context={}).serialize()
    assert data[35:37] == b"\x00\x00"
    assert parse_header(data).context == {}


@given(
    context=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=5),
    recipients=st.lists(
        st.builds(EncryptedDataKey, st.text(max_size=5), st.binary(max_size=9), st.binary(max_size=40)),
        min_size=1,
        max_size=16,
    ),
    frame_length=st.integers(1, 1 << 20),
)
def test_header_round_trip(context: dict[str, str], recipients: list[EncryptedDataKey], frame_length: int) -> None:
    made = header(context=context, recipients=tuple(recipients), frame_length=frame_length)
    assert parse_header(made.serialize()) == made


@given(st.data())
@settings(max_examples=300)
def test_header_encoding_is_canonical(data: st.DataObject) -> None:
    """Whatever is accepted as a header is exactly what its fields are written as."""
    original = bytearray(header().serialize())
    for _ in range(data.draw(st.integers(1, 3))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = read_header(stream := io.BytesIO(original))
    except EvidenceError:
        return
    assert parsed.serialize() == bytes(original[: stream.tell()])


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300)
def test_arbitrary_bytes_raise_only_evidence_errors(data: bytes, prefixed: bool) -> None:
    stream = io.BytesIO(b"\x02\x04\x78" + bytes(32) + data if prefixed else data)
    with pytest.raises(EvidenceError):
        scan(stream)


def context_bytes(*pairs: tuple[bytes, bytes], count: int | None = None) -> bytes:
    data = struct.pack(">H", len(pairs) if count is None else count)
    for pair in pairs:
        data += b"".join(struct.pack(">H", len(text)) + text for text in pair)
    return data


def with_context(data: bytes) -> bytes:
    whole = header(context={}).serialize()
    return whole[:35] + struct.pack(">H", len(data)) + data + whole[37:]


@pytest.mark.parametrize(
    "context",
    [
        context_bytes((b"a", b"1"), (b"a", b"2")),
        context_bytes((b"b", b"1"), (b"a", b"2")),
        context_bytes((b"aws-crypto-public-key", b"x")),
        context_bytes((b"\xff", b"1")),
        context_bytes((b"a", b"\xc3")),
        context_bytes((b"a", b"1"), count=2),
        context_bytes((b"a", b"1"), count=0),
        context_bytes(),
        context_bytes((b"a", b"1")) + b"x",
    ],
    ids=["duplicate", "unsorted", "reserved", "key", "value", "count", "none", "empty", "trailing"],
)
def test_a_malformed_encryption_context_is_refused(context: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_header(with_context(context))


def test_the_context_in_use_is_accepted() -> None:
    assert parse_header(with_context(context_bytes((b"a", b"1"), (b"b", b"2")))).context == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("at", "replacement", "expected"),
    [
        (0, b"\x01", "version 1"),
        (1, b"\x05\x78", "0x0578"),
        (1, b"\x01\x78", "0x0178"),
        (51, b"\x00\x00", "recipients, got 0"),
        (51, b"\x00\x11", "recipients, got 17"),
        (70, b"\x01", "content type 1"),
        (71, b"\x00\x00\x00\x00", "got 0"),
        (71, b"\x00\x10\x00\x01", "got 1048577"),
    ],
)
def test_unsupported_header_is_refused(at: int, replacement: bytes, expected: str) -> None:
    data = bytearray(header().serialize())
    data[at : at + len(replacement)] = replacement
    with pytest.raises(EvidenceError, match=expected):
        parse_header(bytes(data))


def test_truncated_header_is_refused() -> None:
    whole = header().serialize()
    for length in range(len(whole)):
        with pytest.raises(EvidenceError, match="within its header"):
            parse_header(whole[:length])


def test_bytes_after_a_header_are_refused() -> None:
    with pytest.raises(EvidenceError, match="1 bytes more"):
        parse_header(header().serialize() + b"x")


@pytest.mark.parametrize("context", [{"aws-crypto-public-key": "x"}, {"a": "x" * 65536}, {"\ud800": "x"}])
def test_a_context_that_does_not_fit_the_format_is_not_written(context: dict[str, str]) -> None:
    with pytest.raises(EvidenceError):
        serialize_context(context)


def test_a_context_of_too_many_pairs_is_not_written() -> None:
    with pytest.raises(EvidenceError, match="at most 65535 bytes"):
        serialize_context({str(n): "x" * 60 for n in range(1000)})


@pytest.fixture(scope="module")
def whole() -> Sealed:
    return sealed()


def test_a_scan_finds_every_frame_without_a_key(whole: Sealed) -> None:
    found = scan(io.BytesIO(whole.data))
    assert (found.whole_frames, found.plaintext_bytes, found.final, found.torn_bytes) == (6, 170, True, 0)
    assert (found.whole_bytes, found.frame_length, found.fault) == (len(whole.data), 32, None)
    assert found.header.serialize() == whole.data[: whole.header_length]


def test_scan_finds_the_last_whole_frame_of_a_truncated_message(whole: Sealed) -> None:
    for length in range(whole.header_length, len(whole.data)):
        found = scan(io.BytesIO(whole.data[:length]))
        frames = min((length - whole.header_length) // whole.step, 5)
        assert (found.whole_frames, found.plaintext_bytes, found.final) == (frames, frames * 32, False)
        assert found.whole_bytes == whole.header_length + frames * whole.step
        assert found.torn_bytes == length - found.whole_bytes


def test_a_scan_refuses_frames_that_were_moved_dropped_or_repeated(whole: Sealed) -> None:
    one, two, three, *rest = whole.frames()
    for frames in ([two, one, three, *rest], [one, three, *rest], [one, one, two, three, *rest], [one, two, rest[-1]]):
        with pytest.raises(EvidenceError, match="altered, reordered or missing"):
            scan(io.BytesIO(whole.with_frames(frames)))


def test_a_scan_refuses_bytes_after_the_final_frame(whole: Sealed) -> None:
    with pytest.raises(EvidenceError, match="nothing after the final frame"):
        scan(io.BytesIO(whole.data + b"\0"))


def test_a_scan_refuses_a_final_frame_that_claims_more_than_a_frame(whole: Sealed) -> None:
    data = bytearray(whole.data)
    at = whole.header_length + 5 * whole.step + 20
    data[at : at + 4] = (33).to_bytes(4, "big")
    with pytest.raises(EvidenceError, match="at most 32 bytes"):
        scan(io.BytesIO(data))


@pytest.mark.parametrize("garbage", [bytes(500), b"\xff" * 500, b"x"])
def test_recovery_keeps_what_precedes_the_garbage_that_a_power_cut_left(whole: Sealed, garbage: bytes) -> None:
    good = whole.data[: whole.header_length + 3 * whole.step]
    with pytest.raises(EvidenceError):
        scan(io.BytesIO(good + garbage))
    found = scan(io.BytesIO(good + garbage), recovering=True)
    assert (found.whole_frames, found.whole_bytes, found.torn_bytes) == (3, len(good), len(garbage))
    assert found.fault is not None


class CountingStream(io.BytesIO):
    """Counts what is read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_scan_does_not_read_the_ciphertext() -> None:
    large = sealed(frame_length=8192, plaintext=bytes(8192 * 100))
    stream = CountingStream(large.data)
    assert scan(stream).whole_frames == 101
    assert stream.taken < large.header_length + 101 * message.FINAL_HEAD.size + 1


class DribblingStream(io.BytesIO):
    """Gives a byte or two at a time, as a pipe may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 2) if size and size > 0 else size)


def test_a_header_is_read_from_a_stream_that_gives_a_little_at_a_time() -> None:
    assert read_header(DribblingStream(header().serialize())) == header()
