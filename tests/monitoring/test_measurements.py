from dataclasses import replace

import pytest

from agent.media.packet import Packet
from agent.monitoring.lens import LensState, View, sampled
from agent.monitoring.measurements import LATE_NS, Fact, Measurements, WindowMeasured
from agent.monitoring.microphone import MicrophoneState
from agent.monitoring.speech import NOTHING, Speech, SpeechMeter
from tests.support import sounds, views
from tests.support.views import FPS, HEIGHT, WIDTH, at


@pytest.fixture(scope="module")
def said() -> list[Packet]:
    """Seven seconds of speech."""
    return sounds.encoded(sounds.speech())


@pytest.fixture(scope="module")
def hum() -> list[Packet]:
    """Twelve seconds of a tone."""
    return sounds.encoded(sounds.tone(120, 12))


def taken(measurements: Measurements, packets: list[Packet]) -> list[Fact]:
    return [fact for packet in packets for fact in measurements.take(packet)]


def test_a_spoken_reason_is_reported_once_and_as_soon_as_it_was_heard(said: list[Packet]) -> None:
    measurements = Measurements()
    assert measurements.listen(at(0.5), at(10.5)) == []

    (fact,) = taken(measurements, said)

    assert isinstance(fact, WindowMeasured)
    assert fact.speech.heard
    assert (fact.from_ns, fact.at_ns <= at(2.7)) == (at(0.5), True)
    assert measurements.tick(at(60)) == []


def test_a_window_in_which_nobody_spoke_is_answered_at_its_end(hum: list[Packet]) -> None:
    measurements = Measurements()
    measurements.listen(at(1), at(11))

    (fact,) = taken(measurements, hum)

    assert isinstance(fact, WindowMeasured)
    assert (fact.from_ns, fact.at_ns, fact.speech.heard) == (at(1), at(11), False)
    assert fact.speech.covered_ms > 9800


def test_a_window_is_looked_at_once_a_second(hum: list[Packet], monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    class Counted(SpeechMeter):
        def window(self, from_ns: int, to_ns: int) -> Speech:
            looks.append(to_ns)
            return super().window(from_ns, to_ns)

    monkeypatch.setattr("agent.monitoring.measurements.SpeechMeter", Counted)
    measurements = Measurements()
    measurements.listen(at(1), at(11))
    taken(measurements, hum)

    assert 9 <= len(looks) <= 10
    assert looks[-1] == at(11)


def test_speech_before_the_prompt_and_after_the_window_does_not_count(said: list[Packet], hum: list[Packet]) -> None:
    measurements = Measurements()
    taken(measurements, said)
    measurements.listen(at(7.2), at(11.2))
    quiet = [packet for packet in later(hum, 7.0) if packet.time_ns < at(12)]

    (fact,) = taken(measurements, quiet + later(said, 12.0))

    assert isinstance(fact, WindowMeasured)
    assert not fact.speech.heard


def test_a_window_that_is_asked_for_late_counts_from_its_prompt(said: list[Packet]) -> None:
    measurements = Measurements()
    taken(measurements, said[:60])
    measurements.listen(at(0.5), at(4))

    (fact,) = taken(measurements, said[60:])

    assert isinstance(fact, WindowMeasured)
    assert fact.speech.heard


def test_without_a_microphone_a_window_is_answered_by_the_clock() -> None:
    measurements = Measurements()
    measurements.listen(at(5), at(15))

    assert measurements.tick(at(15)) == []
    assert measurements.tick(at(15) + LATE_NS) == [WindowMeasured(at(5), at(15), NOTHING)]
    assert measurements.tick(at(99)) == []


def test_a_microphone_that_dies_in_the_window_leaves_it_partly_covered(hum: list[Packet]) -> None:
    measurements = Measurements()
    measurements.listen(at(1), at(11))
    assert taken(measurements, [packet for packet in hum if packet.time_ns < at(4)]) == []

    (fact,) = measurements.tick(at(12.5))

    assert isinstance(fact, WindowMeasured)
    assert not fact.speech.heard
    assert 2800 <= fact.speech.covered_ms <= 3100


def test_a_new_prompt_answers_the_one_before(hum: list[Packet]) -> None:
    measurements = Measurements()
    measurements.listen(at(1), at(11))
    taken(measurements, hum[:30])

    (fact,) = measurements.listen(at(3), at(13))

    assert isinstance(fact, WindowMeasured)
    assert fact.from_ns == at(1)
    assert [fact.from_ns for fact in measurements.tick(at(15)) if isinstance(fact, WindowMeasured)] == [at(3)]


def test_sound_that_was_forgotten_is_not_measured(said: list[Packet]) -> None:
    measurements = Measurements()
    taken(measurements, said)
    measurements.forget()
    measurements.listen(at(0), at(7))

    assert measurements.tick(at(9)) == [WindowMeasured(at(0), at(7), NOTHING)]


def test_a_microphone_that_is_muted_and_live_again_is_reported_twice() -> None:
    packets = sounds.encoded([*sounds.noise(2, loud=0.01), *sounds.silence(8), *sounds.noise(3, loud=0.01)])

    facts = taken(Measurements(), packets)

    assert [fact.muted for fact in facts if isinstance(fact, MicrophoneState)] == [True, False]
    assert len(facts) == 2


def test_a_lens_that_is_covered_and_uncovered_is_reported_twice() -> None:
    bright = [views.street(moved=3 * n) for n in range(2 * FPS)]
    packets = views.encoded([*bright, *[views.black(16)] * 4 * FPS, *bright], gop=FPS // 2)

    facts = taken(Measurements(), packets)

    assert [fact.view for fact in facts if isinstance(fact, LensState)] == [View.COVERED, View.CLEAR]
    assert len(facts) == 2


def test_pictures_of_the_low_resolution_stream_are_watched_likewise() -> None:
    measurements = Measurements()
    pictures = [views.street(), views.street(moved=3), *[views.black()] * 5]

    facts = [
        fact
        for number, luma in enumerate(pictures)
        for fact in measurements.look(sampled(luma, WIDTH, HEIGHT), at(0.5 * number))
    ]

    assert facts == [LensState(View.COVERED, at(1.0))]


def test_what_cannot_be_decoded_is_counted_and_no_fact(hum: list[Packet]) -> None:
    measurements = Measurements()
    (picture,) = views.encoded([views.street()])

    assert taken(measurements, [replace(packet, data=b"\xff" * 9) for packet in hum]) == []
    assert taken(measurements, [replace(picture, data=b"\xff" * 9)]) == []
    assert measurements.undecodable > 10


def later(packets: list[Packet], seconds: float) -> list[Packet]:
    """The same packets of a source that was opened later."""
    stream = replace(packets[0].stream, epoch_ns=at(seconds), generation=round(seconds) + 2)
    return [replace(packet, stream=stream, time_ns=packet.time_ns + at(seconds)) for packet in packets]
