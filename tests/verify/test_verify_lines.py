import io

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.journal.format import MAX_LINE
from agent.verify.raw_lines import TooLong, Torn, Whole, raw_lines


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=10), st.binary(max_size=9))
def test_lines_come_back_as_they_are(lines: list[bytes], rest: bytes) -> None:
    rest = rest.replace(b"\n", b"")
    items = list(raw_lines(io.BytesIO(b"".join(line + b"\n" for line in lines) + rest)))
    torn = [Torn(len(rest))] if rest else []
    assert items == [*map(Whole, lines), *torn]


def test_line_of_a_gigabyte_takes_no_gigabyte_of_memory() -> None:
    class Endless(io.RawIOBase):
        left = 1 << 30

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return b"x" * size

    assert list(raw_lines(Endless())) == [Torn(1 << 30)]  # type: ignore[arg-type]


def test_line_longer_than_any_is_counted_and_the_next_one_is_read() -> None:
    data = b"a\n" + b"x" * (MAX_LINE + 1) + b"\nb\n"
    assert list(raw_lines(io.BytesIO(data))) == [Whole(b"a"), TooLong(MAX_LINE + 2), Whole(b"b")]
