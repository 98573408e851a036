from agent.core.recording.events import SpeechMeasured, Tampered
from agent.monitoring.lens import LensState, View
from agent.monitoring.measurements import WindowMeasured
from agent.monitoring.microphone import MicrophoneState
from agent.monitoring.speech import Speech
from agent.recorder.measuring import MeasurementReporter


def test_speech_is_reported_with_the_prompt_that_it_answers() -> None:
    fact = WindowMeasured(7, 9, Speech(heard=True, confidence=0.9, voiced_ms=800, covered_ms=1000))
    assert MeasurementReporter().events(fact, 11) == [SpeechMeasured(11, 7, detected=True, confidence=0.9)]


def test_covered_lens_is_tampering_and_so_is_the_picture_that_freezes_after_it() -> None:
    reporter = MeasurementReporter()
    covered = reporter.events(LensState(View.COVERED, 1_000_000_000), 3_000_000_000)
    assert covered == [Tampered(3_000_000_000, "lens_covered", "for 2.0 s")]
    frozen = reporter.events(LensState(View.FROZEN, 4_000_000_000), 6_000_000_000)
    assert [(event.what, event.ended) for event in frozen if isinstance(event, Tampered)] == [
        ("lens_covered", True),
        ("picture_frozen", False),
    ]
    clear = reporter.events(LensState(View.CLEAR, 7), 8)
    assert clear == [Tampered(8, "picture_frozen", ended=True)]


def test_muted_microphone_is_tampering_until_it_sounds_again() -> None:
    reporter = MeasurementReporter()
    muted = reporter.events(MicrophoneState(muted=True, since_ns=0), 5)
    sounding = reporter.events(MicrophoneState(muted=False, since_ns=0), 9)
    assert [event.ended for event in [*muted, *sounding] if isinstance(event, Tampered)] == [False, True]
