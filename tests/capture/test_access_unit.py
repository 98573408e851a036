import pytest

from agent.capture.access_unit import TIMESCALE, PictureStream, begins
from agent.capture.intake import Encoded
from agent.clock import NS
from agent.errors import SourceError
from agent.media import h264
from agent.media.packet import Kind
from tests.support.picamera import IDR, OTHER, PPS, SPS, annex_b

EPOCH_NS = 77 * NS + 5
SEI = b"\x06\x05\x01\x80"


def picture(*units: bytes, us: int = 0) -> Encoded:
    return Encoded(annex_b(*units), us, 0)


def stream() -> PictureStream:
    return PictureStream(picture(SPS, PPS, IDR), (640, 480), 30, 3, EPOCH_NS)


@pytest.mark.parametrize(
    ("units", "good"),
    [((SPS, PPS, IDR), True), ((SPS, PPS, SEI, IDR), True), ((IDR,), False), ((SPS, PPS), False), ((OTHER,), False)],
)
def test_stream_begins_only_where_it_can_be_decoded(units: tuple[bytes, ...], good: bool) -> None:
    assert begins(picture(*units)) is good


def test_stream_is_described_by_its_own_parameter_sets() -> None:
    made = stream().stream
    assert made.parameters.kind is Kind.VIDEO
    assert made.parameters.extradata == h264.avcc_record([SPS, PPS])
    assert (made.parameters.width, made.parameters.height, made.parameters.timescale) == (640, 480, TIMESCALE)
    assert (made.generation, made.epoch_ns) == (3, EPOCH_NS)


def test_packet_keeps_the_sensors_time_to_the_microsecond_and_all_but_parameter_sets() -> None:
    packet = stream().packet(picture(SPS, PPS, SEI, IDR, us=1_234_567))
    assert packet is not None
    assert packet.data == h264.length_prefixed([SEI, IDR])
    assert (packet.ticks, packet.duration, packet.key) == (1_234_567, 33_333, True)
    assert packet.time_ns == EPOCH_NS + 1_234_567_000 == packet.stream.time_ns(packet.ticks)


def test_key_pictures_are_those_that_are_whatever_the_encoder_flags() -> None:
    made = stream()
    for units, key in (((OTHER,), False), ((IDR,), True)):
        packet = made.packet(picture(*units))
        assert packet is not None
        assert packet.key is key


def test_buffer_without_a_picture_is_skipped() -> None:
    assert stream().packet(picture(SPS, PPS)) is None
    assert stream().packet(picture(SEI)) is None


def test_other_parameter_sets_in_the_middle_are_another_stream() -> None:
    with pytest.raises(SourceError, match="parameter sets"):
        stream().packet(picture(SPS[:-1] + b"\x81", PPS, IDR))


def test_what_is_no_h264_is_refused() -> None:
    with pytest.raises(SourceError, match="Annex B"):
        stream().packet(Encoded(b"\xff\xd8\xff\xe0 a JPEG", 0, 0))
