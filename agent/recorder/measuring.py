"""Converts what is measured of pictures and sound into the core's events."""

from agent.core.recording.events import Event, SpeechMeasured, Tampered
from agent.monitoring.lens import LensState, View
from agent.monitoring.measurements import Fact, WindowMeasured
from agent.monitoring.microphone import MicrophoneState

_VIEWS = {View.COVERED: "lens_covered", View.FROZEN: "picture_frozen"}


class MeasurementReporter:
    """Turns facts of the measurer into events. The event of an end names what has ended."""

    def __init__(self) -> None:
        self._view = View.CLEAR

    def events(self, fact: Fact, now_ns: int) -> list[Event]:
        """The events for a fact, which was observed before `now_ns`."""
        match fact:
            case WindowMeasured():
                return [SpeechMeasured(now_ns, fact.from_ns, fact.speech.heard, fact.speech.confidence)]
            case MicrophoneState():
                return [Tampered(now_ns, "microphone_muted", _since(fact.since_ns, now_ns), ended=not fact.muted)]
            case LensState():
                before, self._view = self._view, fact.view
                found: list[Event] = []
                if before is not View.CLEAR:
                    found.append(Tampered(now_ns, _VIEWS[before], ended=True))
                if fact.view is not View.CLEAR:
                    found.append(Tampered(now_ns, _VIEWS[fact.view], _since(fact.since_ns, now_ns)))
                return found


def _since(since_ns: int, now_ns: int) -> str:
    return f"for {max(0, now_ns - since_ns) / 1e9:.1f} s"
