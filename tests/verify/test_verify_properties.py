"""Whatever bytes lie there: altered evidence is never called intact, and no error but our own comes out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import EvidenceError
from agent.evidence import layout
from agent.verify.findings import Verdict
from agent.verify.verifier import verify
from tests.support.device import trust
from tests.support.evidence import Files, check, flipped, storage_of, whole

SAMPLE = whole(torn=False)
TORN = whole(torn=True)
PATHS = sorted(path for path in SAMPLE.files if path != layout.CARD_ID)  # which names a card, and proves nothing

positions = st.integers(0, 1 << 40)
fragments = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b"\n", b"{}\n", b'{"n":1}\n', b"a.b.c", b"\0" * 64, b"\xff" * 16]),
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(PATHS), positions)
def test_any_flipped_bit_in_any_file_is_noticed(path: str, position: int) -> None:
    data = SAMPLE.files[path]
    report = check(SAMPLE.files | {path: flipped(data, position % (8 * len(data)))})
    assert report.verdict is Verdict.NOT_INTACT


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([path for path in PATHS if path.endswith(".jsonl")]), positions)
def test_any_flipped_bit_in_a_journal_is_noticed(path: str, position: int) -> None:
    data = SAMPLE.files[path]
    assert check(SAMPLE.files | {path: flipped(data, position % (8 * len(data)))}).verdict is Verdict.NOT_INTACT


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(TORN.files.keys() - {layout.CARD_ID})), positions, positions, fragments)
def test_bytes_replaced_removed_or_put_in_anywhere_are_noticed(path: str, at: int, cut: int, put: bytes) -> None:
    data = TORN.files[path]
    at %= len(data) + 1
    end = at + cut % (len(data) - at + 1) if cut % 3 else at
    changed = data[:at] + put + data[end:]
    verdict = check(TORN.files | {path: changed}).verdict
    torn_line_only = path.endswith("00000001.jsonl") and at > data.rindex(b"\n") and len(changed) == len(data)
    line_feed_only = path == layout.TRUST and changed == data + b"\n"
    if changed != data and not torn_line_only and not line_feed_only:
        assert verdict is not Verdict.INTACT


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(PATHS), min_size=1, max_size=4), st.booleans())
def test_any_few_files_that_are_missing_are_noticed(gone: set[str], pinned: bool) -> None:
    files = {path: data for path, data in SAMPLE.files.items() if path not in gone}
    try:
        report = verify(storage_of(files), trust() if pinned else None)
    except EvidenceError:
        assert not pinned
        return
    assert report.verdict is Verdict.NOT_INTACT


@settings(max_examples=60, deadline=None)
@given(st.permutations(PATHS[:12]), st.permutations(PATHS[-12:]))
def test_files_in_each_other_s_place_are_noticed(first: list[str], last: list[str]) -> None:
    moved = dict(zip(PATHS[:12], first, strict=True)) | dict(zip(PATHS[-12:], last, strict=True))
    files = SAMPLE.files | {path: SAMPLE.files[other] for path, other in moved.items()}
    changed = any(SAMPLE.files[path] != files[path] for path in PATHS)
    assert (check(files).verdict is Verdict.NOT_INTACT) == changed


names = st.sampled_from(
    [
        "device.jws",
        "trust.jws",
        "journal/00000001.jsonl",
        "journal/00000002.jsonl",
        "journal/99999999.jsonl",
        "journal/00000000.jsonl",
        "journal/x",
        "recordings/r/0001.opening.jws",
        "recordings/r/0001.seg",
        "recordings/r/0001.manifest.jws",
        "recordings/r/0000.seg",
        "recordings/r/999999.seg",
        "recordings/r/boot-00000001.jws",
        "recordings/r/device.jws",
        "recordings/film.mp4",
        "0001.seg",
    ]
)
contents = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(sorted(SAMPLE.files)).map(lambda path: SAMPLE.files[path]),
    st.sampled_from(sorted(SAMPLE.files)).map(lambda path: SAMPLE.files[path][:300]),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, contents, max_size=8), st.booleans())
def test_arbitrary_files_give_a_report_or_our_own_error_and_are_never_intact(files: Files, pinned: bool) -> None:
    try:
        report = verify(storage_of(files), trust() if pinned else None)
    except EvidenceError:
        return
    assert report.verdict is not Verdict.INTACT


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(PATHS), fragments, positions)
def test_junk_in_the_place_of_any_file_is_noticed(path: str, junk: bytes, size: int) -> None:
    filled = (junk or b"\0") * (size % 2000 + 1)
    assert check(SAMPLE.files | {path: filled}).verdict is Verdict.NOT_INTACT
