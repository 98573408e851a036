import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agent.encoding.digest import Sha256, sha256


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_the_hash_is_sha_256_as_the_standard_library_has_it(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    running = Sha256()
    for piece in pieces:
        running.update(piece)
    assert sha256(whole) == hashlib.sha256(whole).digest()
    assert running.hexdigest() == hashlib.sha256(whole).hexdigest()


def test_a_running_hash_can_be_read_and_go_on() -> None:
    running = Sha256()
    running.update(bytearray(b"one"))
    assert running.hexdigest() == hashlib.sha256(b"one").hexdigest()
    running.update(memoryview(b"two"))
    assert running.hexdigest() == hashlib.sha256(b"onetwo").hexdigest()
