"""The reader of block device logs, which power cuts are computed from: flushed writes stay, others may go."""

import random
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.blklog import DISCARD, FLUSH, FUA, MAGIC, VERSION, Log, LogError, read

SECTOR = 512


@dataclass(frozen=True)
class Request:
    sector: int
    sectors: int
    flags: int
    fill: int


def written(requests: list[Request], sector_size: int = SECTOR) -> bytes:
    """A log as a drive would have written it."""
    log = struct.pack("<QQQI", MAGIC, VERSION, len(requests), sector_size).ljust(sector_size, b"\0")
    for request in requests:
        log += struct.pack("<QQQQ", request.sector, request.sectors, request.flags, 0).ljust(sector_size, b"\0")
        if not request.flags & DISCARD:
            log += bytes([request.fill]) * (request.sectors * sector_size)
    return log


def device(raw: bytes, log: Log, count: int, seed: int, *, lying_flushes: int = 0) -> dict[int, int]:
    """What each sector holds after a cut: the fill byte of the write that came last."""
    sectors: dict[int, int] = {}
    for piece in log.left_by_a_cut(count, random.Random(seed), lying_flushes=lying_flushes):
        assert piece.length % log.sector_size == 0
        for number in range(piece.length // log.sector_size):
            sectors[piece.offset // log.sector_size + number] = raw[piece.start + number * log.sector_size]
    return sectors


REQUESTS = st.lists(
    st.builds(
        Request,
        st.integers(0, 12),
        st.integers(0, 4),
        st.sampled_from([0, 0, 0, FLUSH, FUA, DISCARD]),
        st.integers(0, 255),
    ),
    max_size=24,
)


@given(REQUESTS, st.sampled_from([64, 512, 4096]))
def test_what_was_logged_is_read_back(requests: list[Request], sector_size: int) -> None:
    raw = written(requests, sector_size)
    log = read(raw)
    assert log.sector_size == sector_size
    assert [(entry.sector, entry.sectors, entry.flags) for entry in log.entries] == [
        (request.sector, request.sectors, request.flags) for request in requests
    ]
    for entry, request in zip(log.entries, requests, strict=True):
        if entry.writes:
            assert raw[entry.start : entry.end] == bytes([request.fill]) * (request.sectors * sector_size)


@given(REQUESTS, st.integers(0, 24), st.integers())
def test_what_was_flushed_survives_every_cut_and_what_was_not_is_old_or_new(
    requests: list[Request], count: int, seed: int
) -> None:
    raw = written(requests)
    log = read(raw)
    taken = requests[:count]
    last = max((number for number, request in enumerate(taken) if request.flags & FLUSH), default=0)
    allowed: dict[int, set[int | None]] = {}
    for number, request in enumerate(taken):
        for sector in range(request.sector, request.sector + request.sectors):
            if request.flags & DISCARD:
                continue
            if number < last or request.flags & FUA:
                allowed[sector] = {request.fill}
            else:
                allowed.setdefault(sector, {None}).add(request.fill)
    found = device(raw, log, count, seed)
    assert set(found) <= set(allowed)
    for sector, values in allowed.items():
        assert found.get(sector) in values


@given(REQUESTS, st.integers(0, 1 << 15))
def test_a_size_of_the_log_counts_the_entries_that_were_whole_by_then(requests: list[Request], size: int) -> None:
    log = read(written(requests))
    assert log.up_to(size) == sum(entry.end <= size for entry in log.entries)


def test_a_drive_that_lies_about_a_flush_loses_what_came_before_it() -> None:
    raw = written([Request(0, 1, 0, 1), Request(0, 0, FLUSH, 0), Request(1, 1, 0, 2), Request(0, 0, FLUSH, 0)])
    log = read(raw)
    honest = [device(raw, log, 4, seed) for seed in range(40)]
    assert all(found == {0: 1, 1: 2} for found in honest)
    lying = [device(raw, log, 4, seed, lying_flushes=1) for seed in range(40)]
    assert all(found[0] == 1 for found in lying)
    assert {found.get(1) for found in lying} == {None, 2}


def test_unflushed_writes_are_kept_dropped_and_torn() -> None:
    raw = written([Request(0, 4, 0, 9)])
    left = {len(device(raw, read(raw), 1, seed)) for seed in range(200)}
    assert left == {0, 1, 2, 3, 4}


@given(REQUESTS.filter(bool), st.data())
def test_a_cut_log_is_refused(requests: list[Request], data: st.DataObject) -> None:
    raw = written(requests)
    whole = {entry.end for entry in read(raw).entries} | {SECTOR}
    size = data.draw(st.integers(0, len(raw) - 1).filter(lambda size: size not in whole))
    with pytest.raises(LogError):
        read(raw[:size])


@pytest.mark.parametrize(
    "header",
    [
        (MAGIC + 1, VERSION, 0, SECTOR),
        (MAGIC, VERSION + 1, 0, SECTOR),
        (MAGIC, VERSION, 0, 16),
        (MAGIC, VERSION, 0, 96),
    ],
)
def test_another_format_is_refused(header: tuple[int, int, int, int]) -> None:
    with pytest.raises(LogError):
        read(struct.pack("<QQQI", *header).ljust(SECTOR, b"\0"))
