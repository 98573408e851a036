from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.replay import ReplaySource
from agent.clock import NS
from agent.media.packet import Kind, Packet
from agent.monitoring.microphone import MUTED_AFTER_NS, MicrophoneState, MicrophoneWatch
from tests.support import sounds
from tests.support.clips import ACTION, FILM, STREET, clip
from tests.support.containers import of_kind
from tests.support.sources import virtual_pacing

Change = tuple[float, bool, float]


def changes(packets: list[Packet], watch: MicrophoneWatch | None = None) -> list[Change]:
    """When the state changed, to muted or not, and since when that was, in seconds; the first state is left out."""
    watch = watch or MicrophoneWatch()
    made: list[Change] = []
    before: MicrophoneState | None = None
    for packet in packets:
        state = watch.feed(packet)
        if before is not None and state != before:
            made.append((packet.time_ns / NS, state.muted, state.since_ns / NS))
        before = state
    return made


def sound_of(path: Path) -> list[Packet]:
    return of_kind(ReplaySource(path, virtual_pacing(), loop=False).open(1), Kind.AUDIO)


@pytest.mark.parametrize("codec", ["aac", "opus"])
@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(sounds.silence(8), id="zeros"),
        pytest.param(sounds.constant(100 / 32_768, 8), id="stuck at a constant"),
    ],
)
def test_a_muted_microphone_is_found_after_five_seconds(samples: sounds.Samples, codec: str) -> None:
    ((at_s, muted, since_s),) = changes(sounds.encoded(samples, codec=codec))

    assert muted
    assert since_s <= 1.0
    assert 5.0 <= at_s - since_s <= 5.6


@pytest.mark.parametrize("codec", ["aac", "opus"])
@pytest.mark.parametrize("bit_rate", [16_000, 32_000])
def test_a_dead_quiet_room_is_not_taken_for_a_muted_microphone(codec: str, bit_rate: int) -> None:
    room = sounds.sixteen_bit(sounds.noise(12, loud=1 / 32_768))

    assert changes(sounds.encoded(room, codec=codec, bit_rate=bit_rate)) == []


@pytest.mark.parametrize("name", [ACTION, FILM])
def test_real_sound_is_not_taken_for_a_muted_microphone(name: str) -> None:
    assert changes(sound_of(clip(name))) == []


def test_pauses_in_speech_are_not_taken_for_a_muted_microphone() -> None:
    pause = sounds.silence(3)
    speech = sounds.speech()
    samples = [*speech[: 2 * sounds.RATE], *pause, *speech[2 * sounds.RATE : 4 * sounds.RATE], *pause]

    assert changes(sounds.encoded(samples)) == []


def test_the_digital_silence_of_a_clip_without_microphone_is_found() -> None:
    ((at_s, muted, since_s),) = changes(sound_of(clip(STREET)))

    assert (muted, since_s) == (True, 0.0)
    assert at_s < 5.6


def test_a_microphone_that_is_switched_on_again_is_live_from_its_first_sound() -> None:
    samples = [*sounds.speech()[: 3 * sounds.RATE], *sounds.silence(8), *sounds.noise(4, loud=0.01)]

    (muted_s, muted, muted_since_s), (live_s, still_muted, live_since_s) = changes(sounds.encoded(samples))

    assert (muted, still_muted) == (True, False)
    assert 3.0 <= muted_since_s <= 3.6
    assert muted_since_s + MUTED_AFTER_NS / NS <= muted_s < 9.2
    assert 10.9 <= live_since_s <= 11.6
    assert live_s <= 12.1


def test_one_crackle_does_not_make_a_muted_microphone_live() -> None:
    samples = [*sounds.silence(8), *sounds.noise(0.2), *sounds.silence(5)]

    assert [muted for _, muted, _ in changes(sounds.encoded(samples))] == [True]


def test_a_loose_plug_that_crackles_every_two_seconds_is_not_muted() -> None:
    samples = [*sounds.silence(1.4), *sounds.noise(0.6)] * 6

    assert changes(sounds.encoded(samples)) == []


def test_silence_on_both_sides_of_a_gap_is_not_added_up() -> None:
    packets = [packet for packet in sounds.encoded(sounds.silence(12)) if not 4 * NS <= packet.time_ns < 8 * NS]

    assert changes(packets) == []


def test_silence_of_two_openings_of_the_source_is_not_added_up() -> None:
    first = sounds.encoded(sounds.silence(4))
    second = sounds.encoded(sounds.silence(4), start_s=4.0, generation=2)

    assert changes(first + second) == []


def test_a_muted_microphone_stays_muted_when_the_source_is_reopened() -> None:
    first = sounds.encoded(sounds.silence(7))
    second = sounds.encoded(sounds.silence(7), codec="opus", start_s=8.0, generation=2)

    assert [muted for _, muted, _ in changes(first + second)] == [True]


def test_sound_that_cannot_be_decoded_is_counted_and_no_fact() -> None:
    packets = [replace(packet, data=b"\xff" * 9) for packet in sounds.encoded(sounds.silence(8))]
    watch = MicrophoneWatch()

    assert changes(packets, watch) == []
    assert 10 <= watch.undecodable <= 16


def test_sound_of_an_unknown_kind_is_counted_and_no_fact() -> None:
    packets = sounds.encoded(sounds.silence(8))
    stream = replace(packets[0].stream, parameters=replace(packets[0].stream.parameters, codec="pcm"))
    watch = MicrophoneWatch()

    assert changes([replace(packet, stream=stream) for packet in packets], watch) == []
    assert watch.undecodable


@given(damage=st.dictionaries(st.integers(0, 90), st.binary(max_size=120), max_size=30))
@settings(max_examples=20, deadline=None)
def test_damaged_sound_is_watched_without_an_error(damage: dict[int, bytes]) -> None:
    packets = sounds.encoded(sounds.tone(440, 6))

    changes([replace(packet, data=damage.get(number, packet.data)) for number, packet in enumerate(packets)])
