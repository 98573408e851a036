import io
import tracemalloc
from dataclasses import replace
from typing import Any, BinaryIO, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EvidenceError
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import MAX_LINE, Line, parse_line
from agent.journal.reader import (
    Chain,
    Link,
    Mismatch,
    TooLong,
    Torn,
    Whole,
    certified_boot,
    checkpoint_mismatch,
    covers,
    line_hash,
    link_of,
    raw_lines,
    verified_checkpoint,
)
from agent.keys.signer import KeySigner
from tests.support.device import owner
from tests.support.evidence import lines, storage_of, whole


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

        def readable(self) -> bool:
            return True

        def readinto(self, into: Any) -> int:
            size = min(len(into), self.left)
            self.left -= size
            into[:size] = b"x" * size
            return size

    stream = cast("BinaryIO", io.BufferedReader(Endless(), 1 << 18))
    tracemalloc.start()
    assert list(raw_lines(stream)) == [Torn(1 << 30)]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_no_more_is_read_of_a_line_that_is_too_long_than_was_asked_for() -> None:
    data = b"a\n" + b"x" * (20 * MAX_LINE) + b"\nb\n"
    stream = io.BytesIO(data)
    *whole, torn = raw_lines(stream, 3 * MAX_LINE)
    assert whole == [Whole(b"a")]
    assert isinstance(torn, Torn)
    assert torn.size == stream.tell() - 2 <= 4 * MAX_LINE


def test_line_longer_than_any_is_counted_and_the_next_one_is_read() -> None:
    data = b"a\n" + b"x" * (MAX_LINE + 1) + b"\nb\n"
    assert list(raw_lines(io.BytesIO(data))) == [Whole(b"a"), TooLong(MAX_LINE + 2), Whole(b"b")]


@pytest.fixture(scope="module")
def journal() -> list[Line]:
    """The first boot's journal of a device that recorded."""
    return [parse_line(raw) for raw in lines(whole().files[layout.journal(1)])]


IDENTITY = owner().signer.public_key


def test_links_of_a_whole_journal_follow_each_other(journal: list[Line]) -> None:
    chain = Chain(journal[0].prev)
    for line in journal:
        assert chain.link(line.n, line.prev) is Link.FOLLOWS
        chain.take(line.n, line.hash)


def test_dropped_altered_repeated_and_moved_lines_do_not_follow(journal: list[Line]) -> None:
    first, second, third = journal[:3]
    chain = Chain(first.prev)
    chain.take(first.n, first.hash)
    assert chain.link(third.n, third.prev) is Link.GAP
    assert chain.link(second.n, third.prev) is Link.ALTERED
    assert chain.link(first.n, first.prev) is Link.MOVED
    chain.unread += 1
    assert chain.link(third.n, third.prev) is Link.UNCHECKED, "what stands between was reported as unreadable"
    assert chain.link(third.n + 1, third.prev) is Link.GAP
    chain.lose()
    assert chain.link(third.n + 7, third.prev) is Link.UNCHECKED
    assert chain.link(first.n, first.prev) is Link.MOVED, "also where nobody can tell what it follows"


def test_link_is_found_without_decoding_as_by_decoding() -> None:
    for raw in lines(whole().files[layout.journal(1)]):
        line = parse_line(raw)
        assert link_of(raw) == (line.n, line.prev)


def test_first_line_is_the_boots_own_only_for_its_boot_its_place_and_its_device(journal: list[Line]) -> None:
    first = journal[0]
    certified = certified_boot(first, 1, IDENTITY)
    assert certified.key == certified_boot(first, 1, None).key
    entry = first.entry
    assert isinstance(entry, entries.Boot)
    stranger = KeySigner.generate().public_key
    moved = msgspec.structs.replace(entry, boot=2)
    for line, boot, identity in (
        (first, 2, IDENTITY),  # another boot's file
        (first, 1, stranger),  # another device's
        (journal[1], 1, IDENTITY),  # no boot line
        (replace(first, entry=moved), 2, IDENTITY),  # another boot's number over the old certificate
        (replace(first, n=7), 1, IDENTITY),  # put behind a line that its certificate does not name
        (replace(first, entry=msgspec.structs.replace(entry, certificate="")), 1, None),
    ):
        with pytest.raises(EvidenceError):
            certified_boot(line, boot, identity)


def test_checkpoint_covers_only_the_lines_times_and_boot_that_it_signs(journal: list[Line]) -> None:
    key = certified_boot(journal[0], 1, IDENTITY).key
    signed = [line for line in journal if isinstance(line.entry, entries.Checkpoint)]
    assert len(signed) > 1
    assert all(covers(line, 1, key) for line in signed)
    one, other = signed[0], signed[1]
    assert isinstance(one.entry, entries.Checkpoint)
    payload = verified_checkpoint(one.entry, key)
    assert checkpoint_mismatch(one, payload, 2) is Mismatch.OTHER_BOOT
    assert checkpoint_mismatch(one, payload, 1, "another-device") is Mismatch.OTHER_BOOT
    assert checkpoint_mismatch(other, payload, 1) is Mismatch.OTHER_LINES
    assert checkpoint_mismatch(replace(one, mono_us=one.mono_us + 1), payload, 1) is Mismatch.OTHER_TIMES
    assert not covers(one, 1, KeySigner.generate().public_key)
    assert not covers(one, 1, None)
    assert not any(covers(line, 1, key) for line in journal if line not in signed)


def test_line_is_looked_up_by_its_number_in_a_journal_of_any_size() -> None:
    storage = storage_of(whole().files)
    journal = [parse_line(raw) for raw in lines(whole().files[layout.journal(1)])]
    for line in journal:
        assert line_hash(storage, 1, line.n) == line.hash
    assert line_hash(storage, 1, journal[-1].n + 1) == ""
    assert line_hash(storage, 99, 1) == ""
