import io
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EvidenceError
from agent.seal.message import Header, parse_header, serialize_context
from agent.seal.reader import Report, open_bytes, open_message
from agent.seal.recipients import AnyRecipientKey, HpkeRecipientKey, RsaRecipientKey
from agent.seal.writer import Sealer, message_keys, seal_bytes
from tests.support.sealing import CONTEXT, ClearRecipient, Sealed, sealed

KEY = ClearRecipient()


def opened(data: bytes | bytearray, *, torn_from: int | None = None) -> tuple[bytes, Report]:
    message = open_message(io.BytesIO(data), [KEY], torn_from=torn_from)
    plaintext = b"".join(message)
    return plaintext, message.report


@pytest.fixture(scope="module")
def whole() -> Sealed:
    return sealed()


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 64, 170])
def test_whole_message_opens(length: int) -> None:
    made = sealed(plaintext=os.urandom(length))
    frames = length // 32 + 1
    assert opened(made.data) == (made.plaintext, Report(frames, length, len(made.data), "whole", 0))


@pytest.mark.parametrize("frame_length", [1, 4096, 100_000, 300_000, 1 << 20])
def test_frames_shorter_and_longer_than_a_block_are_read(frame_length: int) -> None:
    made = sealed(frame_length=frame_length, plaintext=os.urandom(frame_length * 3 + frame_length // 2))
    assert opened(made.data)[0] == made.plaintext
    assert opened(made.data[:-1]) == (
        made.plaintext[: 3 * frame_length],
        Report(3, 3 * frame_length, made.header_length + 3 * made.step, "cut", len(made.frames()[-1]) - 1),
    )


def test_a_full_final_frame_at_the_end_of_a_block_is_read() -> None:
    """The final frame is longer than a regular one by its length field and may straddle the reader's blocks."""
    frame_length = 4096
    for frames in range(62, 66):
        sealer = Sealer([KEY], CONTEXT, frame_length, os.urandom)
        plaintext = os.urandom(frame_length * (frames + 1))
        data = sealer.header + bytes(sealer.seal(plaintext[:-frame_length])) + sealer.finish(plaintext[-frame_length:])
        assert opened(data)[0] == plaintext


def test_truncated_message_opens_up_to_its_last_whole_frame(whole: Sealed) -> None:
    for length in range(whole.header_length, len(whole.data)):
        frames = min((length - whole.header_length) // whole.step, 5)
        end = whole.header_length + frames * whole.step
        assert opened(whole.data[:length]) == (
            whole.plaintext[: frames * 32],
            Report(frames, frames * 32, end, "cut", length - end),
        )


def test_message_truncated_within_its_header_is_refused(whole: Sealed) -> None:
    for length in range(whole.header_length):
        with pytest.raises(EvidenceError, match="within its header"):
            opened(whole.data[:length])


def test_flipped_bit_is_refused_and_not_reported_as_truncation(whole: Sealed) -> None:
    data = bytearray(whole.data)
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EvidenceError):
            opened(data)
        data[bit // 8] ^= 1 << bit % 8


def test_flipped_bit_in_a_truncated_message_is_refused(whole: Sealed) -> None:
    data = bytearray(whole.data[: whole.header_length + 3 * whole.step + 20])
    for bit in range((len(data) - 20) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EvidenceError):
            opened(data)
        data[bit // 8] ^= 1 << bit % 8


def test_torn_frame_with_a_flipped_bit_is_not_returned(whole: Sealed) -> None:
    data = bytearray(whole.data[: whole.header_length + 3 * whole.step + 40])
    for bit in range((len(data) - 40) * 8, len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        try:
            plaintext, report = opened(data)
        except EvidenceError:
            assert bit // 8 < len(data) - 40 + 16, "its sequence number or IV"
        else:
            assert (plaintext, report.ended, report.torn_bytes) == (whole.plaintext[:96], "cut", 40)
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("kept", range(0, 60, 7))
def test_tail_of_zeros_after_a_power_loss_counts_as_torn(whole: Sealed, kept: int) -> None:
    synced = whole.header_length + 3 * whole.step
    data = whole.data[: synced + kept] + bytes(5 * whole.step)
    plaintext, report = opened(data, torn_from=synced)
    assert (plaintext, report.frames, report.ended) == (whole.plaintext[:96], 3, "cut")
    assert report.torn_bytes == len(data) - synced
    assert report.fault
    with pytest.raises(EvidenceError):
        opened(data)


def test_alteration_of_synced_frames_is_refused_after_a_power_loss(whole: Sealed) -> None:
    synced = whole.header_length + 3 * whole.step
    data = bytearray(whole.data[: synced + whole.step])
    for at in range(whole.header_length, synced):
        data[at] ^= 1
        with pytest.raises(EvidenceError):
            opened(data, torn_from=synced)
        data[at] ^= 1
    assert opened(data, torn_from=synced)[1].fault == ""


def test_raised_length_of_the_final_frame_is_refused(whole: Sealed) -> None:
    length_at = whole.header_length + 5 * whole.step + 20
    for claimed in range(11, 33):
        data = bytearray(whole.data)
        data[length_at : length_at + 4] = claimed.to_bytes(4, "big")
        with pytest.raises(EvidenceError, match="altered"):
            opened(data)


@given(st.permutations(range(6)))
@settings(max_examples=100)
def test_reordered_frames_are_refused(order: list[int]) -> None:
    made = sealed()
    frames = made.frames()
    reordered = made.with_frames([frames[i] for i in order])
    if order == sorted(order):
        assert opened(reordered)[0] == made.plaintext
    else:
        with pytest.raises(EvidenceError):
            opened(reordered)


@given(st.lists(st.integers(0, 5), max_size=9))
@settings(max_examples=200)
def test_dropped_and_repeated_frames_are_refused(chosen: list[int]) -> None:
    made = sealed()
    frames = made.frames()
    data = made.with_frames([frames[i] for i in chosen])
    if chosen == list(range(6)):
        assert opened(data)[1].ended == "whole"
    elif chosen == list(range(len(chosen))):
        assert opened(data)[1] == Report(len(chosen), 32 * len(chosen), len(data), "cut", 0)
    else:
        with pytest.raises(EvidenceError):
            opened(data)


def test_frame_of_another_message_is_refused(whole: Sealed) -> None:
    mine, other = whole.frames(), sealed().frames()
    with pytest.raises(EvidenceError, match="frame 2"):
        opened(whole.with_frames([mine[0], other[1], *mine[2:]]))


def test_final_frame_moved_forward_is_refused(whole: Sealed) -> None:
    frames = whole.frames()
    with pytest.raises(EvidenceError):
        opened(whole.with_frames([*frames[:2], frames[-1]]))


@pytest.mark.parametrize("tail", [b"\0", b"x" * 10_000])
def test_bytes_after_the_final_frame_are_refused(whole: Sealed, tail: bytes) -> None:
    with pytest.raises(EvidenceError, match="nothing after"):
        opened(whole.data + tail)


def test_garbage_in_place_of_the_next_frame_is_refused(whole: Sealed) -> None:
    good = whole.data[: whole.header_length + 2 * whole.step]
    for garbage in (b"\1", bytes(4), bytes(1000)):
        with pytest.raises(EvidenceError):
            opened(good + garbage)


@given(st.data())
@settings(max_examples=200)
def test_arbitrary_changes_raise_only_evidence_errors(data: st.DataObject) -> None:
    original = sealed()
    changed = bytearray(original.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    try:
        plaintext, report = opened(changed)
    except EvidenceError:
        return
    assert original.plaintext.startswith(plaintext)
    assert bytes(changed[: report.message_bytes]) == original.data[: report.message_bytes]


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_only_evidence_errors(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        opened(data)


def test_frames_before_an_altered_one_are_returned_first(whole: Sealed) -> None:
    data = bytearray(whole.data)
    data[whole.header_length + 3 * whole.step + 20] ^= 1
    message = open_message(io.BytesIO(data), [KEY])
    pieces = iter(message)
    assert next(pieces) == whole.plaintext[:96]
    with pytest.raises(EvidenceError, match="frame 4"):
        next(pieces)
    with pytest.raises(ValueError, match="before its report"):
        _ = message.report


def test_wrong_key_is_refused() -> None:
    key, other, rsa = HpkeRecipientKey.generate(), HpkeRecipientKey.generate(), RsaRecipientKey.generate()
    message = sealed([key.recipient]).data
    refused: list[list[AnyRecipientKey]] = [[], [other], [rsa], [other, rsa]]
    for keys in refused:
        with pytest.raises(EvidenceError, match="sealed to"):
            open_message(io.BytesIO(message), keys)
    assert b"".join(open_message(io.BytesIO(message), [other, rsa, key])) == bytes(range(170))


def test_key_commitment_prevents_two_plaintexts_under_two_keys() -> None:
    """A header that gives two recipients different data keys: the commitment fits only one of them."""
    ada, bob = ClearRecipient("ada"), ClearRecipient("bob")
    wrapped = (ada.wrap(b"a" * 32, b""), bob.wrap(b"b" * 32, b""))
    cipher, commitment = message_keys(b"a" * 32, bytes(32))
    body = Header(bytes(32), {}, wrapped, 32, commitment, b"").body()
    data = body + cipher.encrypt(bytes(12), b"", body)
    assert open_message(io.BytesIO(data), [ada]).context == {}
    with pytest.raises(EvidenceError, match="commitment"):
        open_message(io.BytesIO(data), [bob])


def test_exchanged_context_in_the_header_is_refused() -> None:
    key = RsaRecipientKey.generate()
    data = seal_bytes([key.recipient], {"segment": "1"}, b"picture", os.urandom)
    header = parse_header(data[: len(data) - 24 - 7 - 16])
    other = Header(header.message_id, {"segment": "2"}, *(getattr(header, f) for f in Header.__slots__[2:]))
    with pytest.raises(EvidenceError, match="authentication tag"):
        open_bytes(other.serialize() + data[len(header.serialize()) :], [key])


def test_a_wrapped_key_moved_to_another_context_does_not_open() -> None:
    key = HpkeRecipientKey.generate()
    wrapped = key.recipient.wrap(b"k" * 32, serialize_context({"segment": "1"}))
    cipher, commitment = message_keys(b"k" * 32, bytes(32))
    body = Header(bytes(32), {"segment": "2"}, (wrapped,), 32, commitment, b"").body()
    with pytest.raises(EvidenceError, match="sealed to"):
        open_message(io.BytesIO(body + cipher.encrypt(bytes(12), b"", body)), [key])


def test_truncated_small_message_is_refused() -> None:
    data = seal_bytes([KEY], CONTEXT, b"k" * 32, os.urandom)
    assert open_bytes(data, [KEY])[1] == b"k" * 32
    with pytest.raises(EvidenceError, match="cut"):
        open_bytes(data[:-1], [KEY])


class Pipe:
    """A stream that cannot seek and gives what it likes."""

    def __init__(self, data: bytes, most: int) -> None:
        self._stream = io.BytesIO(data)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._most))


@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_message_is_read_from_a_pipe(whole: Sealed, most: int) -> None:
    message = open_message(Pipe(whole.data, most), [KEY])
    assert b"".join(message) == whole.plaintext
    assert message.report.ended == "whole"


def test_memory_does_not_grow_with_the_message() -> None:
    class Endless:
        """A sealer behind a stream: frames are made when they are asked for."""

        def __init__(self, frames: int) -> None:
            self._sealer = Sealer([KEY], CONTEXT, 8192, os.urandom)
            self._pending = self._sealer.header
            self._left = frames

        def read(self, size: int, /) -> bytes:
            while len(self._pending) < size and self._left:
                self._pending += bytes(self._sealer.seal(bytes(8192)))
                self._left -= 1
                if not self._left:
                    self._pending += self._sealer.finish()
            data, self._pending = self._pending[:size], self._pending[size:]
            return data

    tracemalloc.start()
    try:
        message = open_message(Endless(2000), [KEY])
        total = sum(len(piece) for piece in message)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert total == 2000 * 8192
