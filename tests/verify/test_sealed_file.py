import hashlib
import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EvidenceError
from agent.seal import message
from agent.seal.writer import Sealer
from agent.verify import sealed_file
from agent.verify.sealed_file import Mark, examine
from tests.support.rig import KEY

FRAME = 64


def sealed(frames: int, *, final: bytes | None = b"") -> bytes:
    sealer = Sealer([KEY.recipient], {"segment": "1"}, FRAME, os.urandom)
    body = bytes(sealer.seal(bytes(FRAME * frames)))
    return sealer.header + body + (b"" if final is None else sealer.finish(final))


WHOLE = sealed(9, final=b"end")
HEADER = len(message.read_header(io.BytesIO(WHOLE)).serialize())


def mark(data: bytes, size: int, line: int = 1) -> Mark:
    return Mark(size, line, hashlib.sha256(data[:size]).digest())


def test_one_pass_sees_what_a_walk_and_a_hash_see() -> None:
    seen = examine(io.BytesIO(WHOLE), [])
    assert (seen.size, seen.sha256) == (len(WHOLE), hashlib.sha256(WHOLE).hexdigest())
    assert (seen.whole_frames, seen.whole_bytes, seen.final, seen.frame_fault) == (10, len(WHOLE), True, "")
    assert seen.header_sha256 == hashlib.sha256(WHOLE[:HEADER]).hexdigest()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(WHOLE)),
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 7)), max_size=2),
    st.binary(max_size=60),
    st.integers(1, 200),
)
def test_any_cut_any_change_and_any_addition_is_seen_as_a_walk_with_seeks_sees_it(
    size: int, flips: list[tuple[int, int]], added: bytes, chunk: int
) -> None:
    data = bytearray(WHOLE[:size])
    for at, bit in flips:
        if at < len(data):
            data[at] ^= 1 << bit
    data += added
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_file, "CHUNK", chunk)
        seen = examine(io.BytesIO(bytes(data)), [])
    assert seen.sha256 == hashlib.sha256(data).hexdigest()
    try:
        scan = message.scan(io.BytesIO(bytes(data)), recovering=True)
    except EvidenceError:
        assert seen.header is None
        assert seen.header_fault
        return
    assert (seen.whole_frames, seen.whole_bytes, seen.final) == (scan.whole_frames, scan.whole_bytes, scan.final)
    assert seen.frame_fault == (scan.fault or "")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(WHOLE)), unique=True, max_size=8), st.integers(1, 300))
def test_true_marks_agree_wherever_they_lie(sizes: list[int], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_file, "CHUNK", chunk)
        seen = examine(io.BytesIO(WHOLE), [mark(WHOLE, size) for size in sorted(sizes)])
    assert seen.differs is None
    assert seen.agrees_to == max(sizes, default=0)


def test_change_is_located_between_two_marks() -> None:
    marks = [mark(WHOLE, size, line) for line, size in enumerate((HEADER, HEADER + 300, HEADER + 600), 1)]
    data = bytearray(WHOLE)
    data[HEADER + 400] ^= 1
    seen = examine(io.BytesIO(bytes(data)), marks)
    assert (seen.agrees_to, seen.differs) == (HEADER + 300, marks[2])


def test_marks_beyond_the_end_are_not_reached() -> None:
    seen = examine(io.BytesIO(WHOLE[:-10]), [mark(WHOLE, len(WHOLE))])
    assert (seen.agrees_to, seen.differs, seen.size) == (0, None, len(WHOLE) - 10)
