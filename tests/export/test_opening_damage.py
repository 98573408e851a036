"""Evidence that nobody checked, damaged in any way: what opens is opened, and nothing but our own errors comes out."""

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.encoding.strict_json import b64, encode_json, strict_json, unb64
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.export.recorded import recordings
from agent.export.recording import open_recording
from agent.keys import jws
from agent.media.packet import Kind
from agent.recorder.writing.task import Settings
from agent.verify.tree import find
from tests.support.evidence import Files, files_of, storage_of
from tests.support.films import found, record
from tests.support.packets import scene
from tests.support.rig import KEY, Rig

RECORDING = layout.recording("r1") + "/"


@cache
def sound_evidence() -> Files:
    rig = Rig(settings=Settings(segment_ns=2 * NS))
    record(rig, scene(7), 0, 6)
    return files_of(rig.storage)


def opens_or_is_refused(files: Files) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        try:
            (place,) = recordings(find(storage_of(files)))
            opened = open_recording(place, KEY, out, verified=False)
        except (EvidenceError, StorageError):
            assert list(Path(folder).iterdir()) == []
            return
        for file in opened.files:
            for kind, count in file.packets.items():
                if count:
                    assert len(found(file.path, kind)) >= count
        assert sum(file.packets.get(kind, 0) for file in opened.files for kind in Kind) > 0


paths = st.sampled_from(sorted(path for path in sound_evidence() if path.startswith(RECORDING)))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), path=paths)
def test_any_flipped_bit(data: st.DataObject, path: str) -> None:
    files = dict(sound_evidence())
    damaged = bytearray(files[path])
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    opens_or_is_refused(files | {path: bytes(damaged)})


@settings(max_examples=50, deadline=None)
@given(data=st.data(), path=paths)
def test_any_cut(data: st.DataObject, path: str) -> None:
    files = dict(sound_evidence())
    opens_or_is_refused(files | {path: files[path][: data.draw(st.integers(0, len(files[path])))]})


@settings(max_examples=40, deadline=None)
@given(gone=st.sets(paths, min_size=1), swapped=st.tuples(paths, paths))
def test_any_missing_and_exchanged_files(gone: set[str], swapped: tuple[str, str]) -> None:
    files = dict(sound_evidence())
    files[swapped[0]], files[swapped[1]] = files[swapped[1]], files[swapped[0]]
    left = {path: data for path, data in files.items() if path not in gone}
    if any(path.startswith(RECORDING) and layout.segment_part(path.rsplit("/", 1)[1]) for path in left):
        opens_or_is_refused(left)


numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.integers(-5, 5),
    st.integers(-(1 << 63), 1 << 63),
    st.none(),
    st.text(max_size=5),
)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), part=st.sampled_from(["opening", "manifest"]), segment=st.integers(1, 3), value=numbers)
def test_any_number_in_a_statement_that_nobody_checked(
    data: st.DataObject, part: str, segment: int, value: object
) -> None:
    path = f"{RECORDING}{segment:04d}.{part}.jws"
    files = dict(sound_evidence())
    head, body, signature = files[path].decode().split(".")
    payload = strict_json(unb64(body))
    places = [(payload, name) for name in sorted(payload)]
    for name in ("tracks", "written"):
        places += [(item, inner) for item in payload.get(name, []) for inner in sorted(item)]
    if isinstance(payload.get("start"), dict):
        places += [(payload["start"], name) for name in sorted(payload["start"])]
    holder, name = data.draw(st.sampled_from(places))
    holder[name] = value
    try:
        changed = encode_json(payload)
    except OverflowError:
        return
    token = f"{head}.{b64(changed)}.{signature}"
    assert jws.unverified_typ(token) == f"bwc-{part}+jws"
    opens_or_is_refused(files | {path: token.encode()})


@pytest.mark.parametrize("kept", [0, 1, 1000, 4000])
def test_zeros_where_a_power_cut_took_what_was_not_synced_are_told_as_torn_and_all_before_them_opens(
    tmp_path: Path, kept: int
) -> None:
    """ext4 may have given the file its new length already, and not all of its new bytes."""
    files = dict(sound_evidence())
    last = f"{RECORDING}0003.seg"
    files = {path: data for path, data in files.items() if not path.endswith("0003.manifest.jws")}
    whole = len(files[last]) // 2
    (place,) = recordings(find(storage_of(files | {last: files[last][:whole]})))
    cut = open_recording(place, KEY, tmp_path / "cut.mp4", verified=False)
    end = cut.segments[2].opened_bytes
    torn = files[last][: end + kept] + bytes(40_000)
    (place,) = recordings(find(storage_of(files | {last: torn})))
    opened = open_recording(place, KEY, tmp_path / "torn.mp4", verified=False)
    assert opened.segments[2].packets == cut.segments[2].packets
    assert opened.segments[2].opened_bytes == end
    assert opened.segments[2].torn_bytes == len(torn) - end
    assert not any("could not be opened" in said for said in opened.missing)
    assert any("torn" in said for said in opened.missing)
