from contextlib import suppress

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import SourceError
from agent.media import h264
from tests.support.clips import CLIPS, clip

SPS = bytes.fromhex("6742c01fda0350f684000003000400000300f23c60ca80")
PPS = bytes.fromhex("68ce3c80")[:3]


def annex_b(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


@given(
    st.lists(st.binary(min_size=1, max_size=40).map(lambda body: body.replace(b"\0", b"\1")), min_size=1, max_size=6)
)
@settings(max_examples=50, deadline=None)
def test_nal_units_come_back_from_annex_b_and_go_into_mp4(units: list[bytes]) -> None:
    assert h264.nal_units(annex_b(*units)) == units
    assert h264.nal_units(b"".join(b"\0\0\1" + unit + b"\0\0" for unit in units)) == units
    prefixed = h264.length_prefixed(units)
    for unit in units:
        assert prefixed[:4] == len(unit).to_bytes(4, "big")
        assert prefixed[4 : 4 + len(unit)] == unit
        prefixed = prefixed[4 + len(unit) :]
    assert not prefixed


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\1\0\0\1\x67", b"\0\0\0\x05hello"])
def test_what_is_not_annex_b_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match="Annex B"):
        h264.nal_units(data)


@pytest.mark.parametrize("name", CLIPS)
def test_avcc_made_from_parameter_sets_is_that_of_the_file(name: str) -> None:
    with av.open(str(clip(name))) as container:
        expected = container.streams.video[0].codec_context.extradata
    assert expected is not None
    sps_size = int.from_bytes(expected[6:8], "big")
    sps, pps = expected[8 : 8 + sps_size], expected[8 + sps_size + 3 :]
    assert h264.avcc_record([sps, pps]) == expected


@pytest.mark.parametrize(
    ("sps", "sample_format"),
    [
        (bytes.fromhex("64001facb406a1ed08000003000800000301e478c195"), b"\xfd\xf8\xf8\0"),  # 4:2:0, 8 bits
        (bytes([100, 0, 31, 0b10010000, 0b11010000]), b"\xff\xfa\xf9\0"),  # 4:4:4, 10 bits luminance, 9 bits chroma
    ],
)
def test_high_profiles_state_their_sample_format(sps: bytes, sample_format: bytes) -> None:
    assert h264.avcc_record([b"\x67" + sps, PPS])[-4:] == sample_format


def test_other_profiles_have_no_sample_format() -> None:
    assert h264.avcc_record([SPS, PPS]).endswith(b"\x01" + len(PPS).to_bytes(2, "big") + PPS)


@pytest.mark.parametrize(
    "units",
    [
        [],
        [SPS],
        [PPS],
        [SPS[:3], PPS],
        [SPS, PPS + bytes(70_000)],
        [SPS] * 32 + [PPS],
        [bytes.fromhex("67640028"), PPS],
    ],
)
def test_missing_or_malformed_parameter_sets_are_refused(units: list[bytes]) -> None:
    with pytest.raises(SourceError):
        h264.avcc_record(units)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_arbitrary_parameter_sets_raise_nothing_but_source_error(data: bytes) -> None:
    with suppress(SourceError):
        h264.avcc_record([b"\x67\x64" + data, PPS])
    with suppress(SourceError):
        h264.avcc_record(h264.nal_units(data))
