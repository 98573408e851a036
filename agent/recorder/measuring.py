"""What is measured beside the recording, as the core is told it."""

from agent.core.recording.events import Event, SpeechMeasured, Tampered
from agent.monitoring.lens import LensState, View
from agent.monitoring.measurements import Fact, WindowMeasured
from agent.monitoring.microphone import MicrophoneState

_VIEWS = {View.COVERED: "lens_covered", View.FROZEN: "picture_frozen"}


class MeasurementReporter:
    """Turns facts of the measurer into events. An end names what has ended."""

    def __init__(self) -> None:
        self._view = View.CLEAR

    def events(self, fact: Fact, now_ns: int) -> list[Event]:
        """What the core is to know of a fact, which happened before `now_ns`."""
        match fact:
            case WindowMeasured():
                return [SpeechMeasured(now_ns, fact.from_ns, fact.speech.heard, fact.speech.confidence)]
            case MicrophoneState():
                return [Tampered(now_ns, "microphone_muted", _since(fact.since_ns, now_ns), ended=not fact.muted)]
            case LensState():
                before, self._view = self._view, fact.view
                told: list[Event] = []
                if before is not View.CLEAR:
                    told.append(Tampered(now_ns, _VIEWS[before], ended=True))
                if fact.view is not View.CLEAR:
                    told.append(Tampered(now_ns, _VIEWS[fact.view], _since(fact.since_ns, now_ns)))
                return told


def _since(since_ns: int, now_ns: int) -> str:
    return f"for {max(0, now_ns - since_ns) / 1e9:.1f} s"
