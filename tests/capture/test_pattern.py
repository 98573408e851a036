from fractions import Fraction
from itertools import islice, pairwise

import pytest

from agent.capture.pattern import PatternSettings, PatternSource
from agent.clock import NS
from agent.errors import SourceError
from agent.media.fmp4_reader import Reader
from agent.media.packet import Kind, Packet
from tests.support.containers import decoded_times, of_kind, segment
from tests.support.sources import VirtualPacer, virtual_pacing

SMALL = PatternSettings(width=160, height=120, fps=10, bit_rate=200_000, gop=5)


def packets(settings: PatternSettings, count: int, *, start_ns: int = 0) -> list[Packet]:
    return list(islice(PatternSource(settings, virtual_pacing(start_ns)).open(3), count))


def test_pattern_decodes_with_every_picture_and_sound_in_its_place() -> None:
    made = packets(SMALL, 170)
    data = segment(made)
    for kind in Kind:
        expected = [Fraction(p.ticks, p.stream.parameters.timescale) for p in of_kind(made, kind)]
        assert len(expected) > 25
        assert decoded_times(data, kind) == expected
    assert len(list(Reader([data]))) == len(made)


def test_default_pattern_decodes() -> None:
    made = packets(PatternSettings(), 30)
    assert len(decoded_times(segment(made), Kind.VIDEO)) == len(of_kind(made, Kind.VIDEO))


def test_times_are_regular_and_idr_pictures_are_where_asked() -> None:
    made = packets(SMALL, 100, start_ns=7 * NS)
    pictures, sounds = of_kind(made, Kind.VIDEO), of_kind(made, Kind.AUDIO)
    assert [picture.ticks for picture in pictures] == [1000 * n for n in range(len(pictures))]
    assert [sound.ticks for sound in sounds] == [1024 * n for n in range(len(sounds))]
    assert [n for n, picture in enumerate(pictures) if picture.key] == list(range(0, len(pictures), 5))
    assert all(before.time_ns <= after.time_ns for before, after in pairwise(made))
    assert all(packet.time_ns == packet.stream.time_ns(packet.ticks) for packet in made)
    assert made[0].time_ns == 7 * NS
    assert {packet.stream.generation for packet in made} == {3}


def test_access_units_are_length_prefixed_and_the_configuration_is_avcc() -> None:
    picture = packets(SMALL, 1)[0]
    offset = 0
    while offset < len(picture.data):
        offset += 4 + int.from_bytes(picture.data[offset : offset + 4], "big")
    assert offset == len(picture.data)
    avcc = picture.stream.parameters.extradata
    assert avcc[0] == 1
    assert avcc[1] == 66  # baseline: no sample format may follow the parameter sets
    sps_size = int.from_bytes(avcc[6:8], "big")
    pps_size = int.from_bytes(avcc[8 + sps_size + 1 : 8 + sps_size + 3], "big")
    assert len(avcc) == 8 + sps_size + 3 + pps_size


def test_bit_rate_is_about_what_was_asked() -> None:
    made = packets(PatternSettings(width=320, height=240, fps=30, bit_rate=500_000, sound=False), 150)
    assert 350_000 < sum(len(packet.data) for packet in made) * 8 / 5 < 650_000


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [(PatternSettings(160, 120, sound=False), {Kind.VIDEO}), (PatternSettings(picture=False), {Kind.AUDIO})],
)
def test_one_of_both_can_be_left_out(settings: PatternSettings, kinds: set[Kind]) -> None:
    assert {packet.kind for packet in packets(settings, 20)} == kinds


def test_two_openings_give_the_same_scene() -> None:
    first, second = packets(SMALL, 20), packets(SMALL, 20)
    assert [packet.data for packet in first] == [packet.data for packet in second]
    assert first[0].stream.parameters == second[0].stream.parameters


def test_packets_are_not_encoded_before_they_are_due() -> None:
    pacer = VirtualPacer()
    for packet in islice(PatternSource(SMALL, lambda: pacer).open(1), 40):
        assert pacer.now_ns() == packet.time_ns


def test_closing_ends_the_scene() -> None:
    opening = PatternSource(SMALL, virtual_pacing()).open(1)
    made = []
    for packet in opening:
        made.append(packet)
        if len(made) == 10:
            opening.close()
    assert len(made) == 10
    opening.close()


@pytest.mark.parametrize("settings", [PatternSettings(width=161), PatternSettings(picture=False, sound=False)])
def test_settings_that_no_encoder_takes_are_refused(settings: PatternSettings) -> None:
    with pytest.raises(SourceError, match="expected"):
        PatternSource(settings, virtual_pacing()).open(1)


def test_bit_rate_is_lowered_and_raised_while_it_runs_with_the_stream_as_it_is() -> None:
    settings = PatternSettings(width=640, height=360, bit_rate=3_000_000, sound=False)
    opened = PatternSource(settings, virtual_pacing()).open(1)
    incoming = iter(opened)

    def rate(seconds: int) -> float:
        return sum(len(next(incoming).data) * 8 for _ in range(seconds * settings.fps)) / seconds

    rate(2)
    usual = rate(4)
    assert opened.set_bit_rate(400_000)
    rate(2)
    low = rate(4)
    assert opened.set_bit_rate(0)
    rate(3)
    back = rate(4)
    assert low < 600_000 < 0.5 * usual
    assert back > 0.6 * usual
    assert len({packet.stream for packet in (next(incoming), next(incoming))}) == 1
    opened.close()


def test_sound_alone_has_no_bit_rate_to_lower() -> None:
    opened = PatternSource(PatternSettings(picture=False), virtual_pacing()).open(1)
    assert not opened.set_bit_rate(400_000)
    opened.close()
