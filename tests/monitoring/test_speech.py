from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.replay import ReplaySource
from agent.clock import NS
from agent.media.packet import Kind, Packet
from agent.monitoring.sound import VoiceBandDecoder
from agent.monitoring.speech import KEEP_NS, NOTHING, THRESHOLD, Speech, SpeechMeter
from tests.support import sounds
from tests.support.clips import CLIPS, clip
from tests.support.containers import of_kind
from tests.support.sources import virtual_pacing

S = NS


def heard_in(packets: list[Packet], from_s: float, to_s: float) -> Speech:
    meter = SpeechMeter()
    for packet in packets:
        meter.feed(packet)
    return meter.window(round(from_s * S), round(to_s * S))


def sound_of(path: Path) -> list[Packet]:
    return of_kind(ReplaySource(path, virtual_pacing(), loop=False).open(1), Kind.AUDIO)


@pytest.fixture(scope="module")
def said() -> list[Packet]:
    """Seven seconds of speech."""
    return sounds.encoded(sounds.speech())


def test_speech_in_the_committed_sample_is_heard() -> None:
    speech = heard_in(sound_of(sounds.SPEECH), 0, 7)

    assert speech.heard
    assert speech.confidence > 0.9
    assert 5000 < speech.voiced_ms <= speech.covered_ms <= 7000


@pytest.mark.parametrize(("codec", "bit_rate"), [("aac", 24_000), ("opus", 16_000), ("opus", 32_000)])
def test_speech_is_heard_whatever_the_codec(codec: str, bit_rate: int) -> None:
    speech = heard_in(sounds.encoded(sounds.speech(), codec=codec, bit_rate=bit_rate), 0, 6.5)

    assert speech.heard
    assert speech.covered_ms > 6300


@pytest.mark.parametrize("voice", ["en-us", "en-gb+f3", "es", "de+m7"])
def test_speech_of_other_voices_is_heard(voice: str) -> None:
    samples = sounds.spoken("The reason is that the resident asked me to.", voice)

    assert heard_in(sounds.encoded(samples), 0, len(samples) / sounds.RATE).heard


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(sounds.silence(8), id="silence"),
        pytest.param(sounds.tone(120, 8), id="hum"),
        pytest.param(sounds.tone(440, 8), id="tone"),
        pytest.param(sounds.tone(1000, 8, loud=0.9), id="loud tone"),
        pytest.param(sounds.beeps(2000, 8), id="beeps of the device"),
        pytest.param(sounds.siren(500, 1500, 4.0, 8), id="wailing siren"),
        pytest.param(sounds.siren(500, 1500, 0.3, 8), id="yelping siren"),
        pytest.param(sounds.siren(600, 1200, 0.8, 8, loud=0.6), id="slow yelp"),
        pytest.param(sounds.hi_lo(8), id="two-tone horn"),
        pytest.param(sounds.noise(8), id="white noise"),
        pytest.param(sounds.noise(8, loud=0.001), id="quiet noise"),
        pytest.param(sounds.rumble(8), id="wind"),
        pytest.param(sounds.clicks(8), id="clicks"),
    ],
)
@pytest.mark.parametrize("codec", ["aac", "opus"])
def test_what_is_not_speech_does_not_count_as_a_reason(samples: sounds.Samples, codec: str) -> None:
    speech = heard_in(sounds.encoded(samples, codec=codec), 0, 7.5)

    assert not speech.heard
    assert speech.confidence < THRESHOLD / 2
    assert speech.voiced_ms < 100
    assert speech.covered_ms > 7000


@pytest.mark.parametrize("name", CLIPS)
def test_wind_street_and_music_of_real_clips_do_not_count_as_a_reason(name: str) -> None:
    packets = sound_of(clip(name))
    end_s = packets[-1].time_ns / S

    assert not heard_in(packets, max(0.0, end_s - 20), end_s).heard


@pytest.mark.parametrize("period_s", [4.0, 0.3])
def test_speech_under_a_siren_of_its_own_loudness_is_heard(period_s: float) -> None:
    voice = sounds.speech()
    loud = (sum(value * value for value in voice) / len(voice)) ** 0.5
    horn = sounds.siren(500, 1500, period_s, len(voice) / sounds.RATE, loud=loud * 2**0.5 / 1.07)

    assert heard_in(sounds.encoded(sounds.mixed(voice, horn)), 0, 7).heard


def test_without_a_microphone_nothing_is_heard_or_covered() -> None:
    assert SpeechMeter().window(0, 10 * S) == NOTHING


def test_an_empty_window_hears_nothing(said: list[Packet]) -> None:
    assert heard_in(said, 3, 3) == NOTHING
    assert heard_in(said, 3, 2) == NOTHING


def test_speech_before_the_prompt_does_not_count(said: list[Packet]) -> None:
    after = sounds.encoded(sounds.noise(10, loud=0.002), start_s=7, generation=2)

    assert heard_in(said + after, 2, 6).heard
    late = heard_in(said + after, 7.2, 16)
    assert not late.heard
    assert late.covered_ms > 8500


def test_a_word_cut_off_by_the_end_of_the_window_is_not_enough(said: list[Packet]) -> None:
    speech = heard_in(said, 0, 0.6)

    assert not speech.heard
    assert speech.confidence == 0.0
    assert 0 < speech.covered_ms <= 600


def test_a_window_before_all_sound_is_not_covered(said: list[Packet]) -> None:
    late = [replace_time(packet, 60 * S) for packet in said]

    assert heard_in(late, 10, 20) == NOTHING


def test_sound_that_was_lost_is_not_covered(said: list[Packet]) -> None:
    kept = [packet for packet in said if not 2 * S <= packet.time_ns < 4 * S]

    whole, part = heard_in(said, 0, 6.5), heard_in(kept, 0, 6.5)

    assert part.heard
    assert 1900 < whole.covered_ms - part.covered_ms < 2150


def test_single_lost_packets_neither_move_sound_in_time_nor_deafen(said: list[Packet]) -> None:
    kept = [packet for number, packet in enumerate(said) if number % 5]

    speech = heard_in(kept, 0, 6.5)

    assert speech.heard
    assert 4700 < speech.covered_ms < 5400


def test_a_microphone_that_was_reopened_is_measured_on(said: list[Packet]) -> None:
    first = [packet for packet in said if packet.time_ns < 3 * S]
    again = [packet for packet in sounds.encoded(sounds.speech(), codec="opus", generation=2) if packet.time_ns > 3 * S]

    speech = heard_in(first + again, 0, 6.5)

    assert speech.heard
    assert speech.covered_ms > 6300


def test_looking_into_a_window_while_it_fills_changes_nothing(said: list[Packet]) -> None:
    whole, meter = heard_in(said, 1, 6.5), SpeechMeter()
    looks = []
    for number, packet in enumerate(said):
        meter.feed(packet)
        if not number % 7:
            looks.append(meter.window(1 * S, min(packet.time_ns, round(6.5 * S))))

    assert meter.window(1 * S, round(6.5 * S)) == whole
    heard = [look.heard for look in looks]
    assert heard == sorted(heard), "what was heard is not taken back"
    assert all(one.covered_ms <= two.covered_ms for one, two in pairwise(looks))


def test_windows_that_go_back_or_leap_ahead_are_measured_as_if_alone(said: list[Packet]) -> None:
    meter = SpeechMeter()
    for packet in said:
        meter.feed(packet)

    for from_s, to_s in [(3.0, 5.0), (0.5, 2.5), (5.5, 6.5), (0.0, 6.5)]:
        assert meter.window(round(from_s * S), round(to_s * S)) == heard_in(said, from_s, to_s)


def test_each_packet_of_a_window_is_decoded_once(said: list[Packet], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    class Counted(VoiceBandDecoder):
        def samples(self, packet: Packet) -> bytes:
            decoded.append(packet.ticks)
            return super().samples(packet)

    monkeypatch.setattr("agent.monitoring.speech.VoiceBandDecoder", Counted)
    meter = SpeechMeter()
    for packet in said:
        meter.feed(packet)
    assert decoded == [], "nothing is decoded before a window is asked for"
    for to_s in range(3, 7):
        meter.window(2 * S, to_s * S)

    assert decoded == [packet.ticks for packet in said if S <= packet.time_ns < 6 * S]


def test_sound_that_was_granted_silence_is_forgotten(said: list[Packet]) -> None:
    meter = SpeechMeter()
    for packet in said:
        meter.feed(packet)
    assert meter.window(0, 3 * S).heard
    meter.forget()
    assert meter.window(0, 6 * S) == NOTHING

    for packet in sounds.encoded(sounds.silence(3), start_s=7, generation=2):
        meter.feed(packet)
    assert meter.window(0, 6 * S) == NOTHING


def test_sound_is_kept_no_longer_than_it_can_be_asked_for() -> None:
    meter = SpeechMeter()
    packets = sounds.encoded(sounds.silence(3))
    for number in range(40):
        for packet in packets:
            meter.feed(replace_time(packet, number * 3 * S))

    held = [packet.time_ns for packet in meter._held]
    assert held[-1] - held[0] <= KEEP_NS


def test_listening_takes_no_further_threads(said: list[Packet]) -> None:
    before, meter = threads(), SpeechMeter()
    for packet in said:
        meter.feed(packet)

    assert meter.window(0, 6 * S).heard
    assert threads() == before


def test_sound_of_an_unknown_kind_is_not_covered(said: list[Packet]) -> None:
    stream = replace(said[0].stream, parameters=replace(said[0].stream.parameters, codec="pcm"))

    assert heard_in([replace(packet, stream=stream) for packet in said], 0, 6) == NOTHING


def test_a_cut_opus_configuration_is_not_covered() -> None:
    packets = sounds.encoded(sounds.silence(1), codec="opus")
    stream = replace(packets[0].stream, parameters=replace(packets[0].stream.parameters, extradata=b"\0\1"))

    assert heard_in([replace(packet, stream=stream) for packet in packets], 0, 1) == NOTHING


@given(damage=st.dictionaries(st.integers(0, 90), st.binary(max_size=120), max_size=30))
@settings(max_examples=20, deadline=None)
def test_damaged_sound_is_measured_without_an_error(damage: dict[int, bytes]) -> None:
    packets = sounds.encoded(sounds.tone(440, 6))
    packets = [replace(packet, data=damage.get(number, packet.data)) for number, packet in enumerate(packets)]

    speech = heard_in(packets, 0.5, 5.5)

    assert 0 <= speech.voiced_ms <= speech.covered_ms <= 5000
    assert speech.heard == (speech.confidence >= THRESHOLD)


@given(from_s=st.floats(-5, 12), length_s=st.floats(0, 20))
@settings(max_examples=25, deadline=None)
def test_heard_is_what_the_confidence_says_in_every_window(from_s: float, length_s: float) -> None:
    speech = _METER.window(round(from_s * S), round((from_s + length_s) * S))

    assert speech.heard == (speech.confidence >= THRESHOLD)
    assert 0 <= speech.voiced_ms <= speech.covered_ms <= length_s * 1000 + 1
    assert 0 <= speech.confidence <= 1


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def replace_time(packet: Packet, by_ns: int) -> Packet:
    """The same packet, later."""
    stream = replace(packet.stream, epoch_ns=packet.stream.epoch_ns + by_ns)
    return replace(packet, stream=stream, time_ns=packet.time_ns + by_ns)


_METER = SpeechMeter()
for _packet in sounds.encoded(sounds.speech()):
    _METER.feed(_packet)
