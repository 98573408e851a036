"""The measurements beside the recording: speech after a prompt, a muted microphone, a covered lens, a frozen picture.

Rules:
1. A requested window is answered once: as soon as speech was heard in it, or when it is over. It is evaluated once for
   every `LISTEN_EVERY_NS` of sound, and at its end.
2. A window without sound is answered by the clock, `LATE_NS` after its end, with what there is.
3. A new window replaces an open one, which is answered with what was heard in it so far.
4. Only changes of microphone and lens are reported. The initial state, working and clear, is no change.
5. Packets that can't be decoded are counted and not covered. They are no fact about microphone or lens.
"""

from dataclasses import dataclass

from agent.clock import NS
from agent.media.packet import Kind, Packet
from agent.monitoring.lens import LensState, LensWatch, Samples
from agent.monitoring.microphone import MicrophoneState, MicrophoneWatch
from agent.monitoring.picture import PictureSampler
from agent.monitoring.speech import NOTHING, Speech, SpeechMeter

LISTEN_EVERY_NS = NS
LATE_NS = NS


@dataclass(frozen=True, slots=True)
class WindowMeasured:
    """The answer to a window.

    Attributes:
        from_ns: The requested begin of the window.
        at_ns: The end of the measurement: the window's end, or when enough speech had been heard.
        speech: What was heard.
    """

    from_ns: int
    at_ns: int
    speech: Speech


Fact = WindowMeasured | MicrophoneState | LensState


@dataclass(slots=True)
class _Window:
    from_ns: int
    to_ns: int
    look_at_ns: int


class Measurements:
    """Takes packets and pictures, returns facts. Without clock, threads or storage; not for more than one thread."""

    def __init__(self) -> None:
        self._speech = SpeechMeter()
        self._microphone = MicrophoneWatch()
        self._microphone_state: MicrophoneState | None = None
        self._sampler = PictureSampler()
        self._lens = LensWatch()
        self._lens_state: LensState | None = None
        self._window: _Window | None = None

    @property
    def undecodable(self) -> int:
        """How many evaluations of sound and pictures failed because these could not be decoded."""
        return self._microphone.undecodable + self._sampler.undecodable

    def listen(self, from_ns: int, to_ns: int) -> list[Fact]:
        """Measure speech from then to then."""
        answered = self._answer()
        self._window = _Window(from_ns, to_ns, from_ns + LISTEN_EVERY_NS)
        return answered

    def forget(self) -> list[Fact]:
        """Drop all buffered sound. An open window continues with later sound."""
        self._speech.forget()
        return []

    def take(self, packet: Packet) -> list[Fact]:
        """Take the next packet of a stream."""
        if packet.kind is Kind.AUDIO:
            return self._hear(packet)
        picture = self._sampler.feed(packet)
        return [] if picture is None else self.look(picture, packet.time_ns)

    def look(self, picture: Samples, at_ns: int) -> list[Fact]:
        """Evaluate a picture of the camera's low-resolution stream."""
        before, self._lens_state = self._lens_state, self._lens.look(picture, at_ns)
        return [] if before is None or before == self._lens_state else [self._lens_state]

    def tick(self, now_ns: int) -> list[Fact]:
        """Let time pass."""
        window = self._window
        return self._answer() if window is not None and now_ns >= window.to_ns + LATE_NS else []

    def give_up(self) -> list[Fact]:
        """Answer an open window without evaluation, after an internal error."""
        window, self._window = self._window, None
        return [] if window is None else [WindowMeasured(window.from_ns, window.to_ns, NOTHING)]

    def _hear(self, packet: Packet) -> list[Fact]:
        self._speech.feed(packet)
        facts: list[Fact] = []
        window = self._window
        if window is not None and packet.time_ns >= min(window.look_at_ns, window.to_ns):
            window.look_at_ns = packet.time_ns + LISTEN_EVERY_NS
            at_ns = min(packet.time_ns, window.to_ns)
            speech = self._speech.window(window.from_ns, at_ns)
            if speech.heard or at_ns == window.to_ns:
                self._window = None
                facts.append(WindowMeasured(window.from_ns, at_ns, speech))
        before, self._microphone_state = self._microphone_state, self._microphone.feed(packet)
        if before is not None and before != self._microphone_state:
            facts.append(self._microphone_state)
        return facts

    def _answer(self) -> list[Fact]:
        window, self._window = self._window, None
        if window is None:
            return []
        speech = self._speech.window(window.from_ns, window.to_ns)
        return [WindowMeasured(window.from_ns, window.to_ns, speech)]
