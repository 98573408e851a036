"""Detects speech: the measurement behind the policy's `reason_spoken`.

Rules:
1. The packets of the last `KEEP_NS` are kept encoded. Nothing is decoded before a window is requested.
2. A window that is requested again while it fills continues where it stopped: each packet is decoded once.
3. Sound is decoded from `WARM_UP_NS` before the window on, so that decoder and model have a context. If packets are
   missing, or one can't be decoded, both restart, and the missing sound is not covered.
4. Speech was heard if `NEEDED_CHUNKS` chunks of the window, 0.64 s in all, are speech with `THRESHOLD` or more.
   The confidence is the lowest of theirs, so that speech was heard exactly if it reaches `THRESHOLD`.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from agent.clock import MS, NS
from agent.errors import SourceError
from agent.media.packet import Packet, Stream
from agent.monitoring.sound import BYTES_A_SAMPLE, VOICE_RATE, VoiceBandDecoder
from agent.monitoring.vad import CHUNK_SAMPLES, VoiceDetector

KEEP_NS = 30 * NS
WARM_UP_NS = NS
GAP_NS = NS // 5
"""A packet further than this from the end of the last one does not follow it."""

THRESHOLD = 0.8
"""Each of 32 recordings of speech in quiet, from 1.1 s on, held 0.73 s or more of it; of 163 recordings of traffic,
machines, animals, music and signals without a voice none held 0.45 s. A false refusal is the lesser evil: the wearer
repeats the reason, and the camera continues to record."""
NEEDED_CHUNKS = 20

CHUNK_NS = CHUNK_SAMPLES * NS // VOICE_RATE
_CHUNK_BYTES = CHUNK_SAMPLES * BYTES_A_SAMPLE
_CONFIDENCE_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Speech:
    """The result for a window.

    Attributes:
        heard: Somebody spoke.
        confidence: From 0 to 1, `THRESHOLD` or more exactly if `heard`.
        voiced_ms: How much of the window was speech.
        covered_ms: How much of the window there was decoded sound for; 0 without a microphone.
    """

    heard: bool
    confidence: float
    voiced_ms: int
    covered_ms: int


NOTHING = Speech(heard=False, confidence=0.0, voiced_ms=0, covered_ms=0)


@dataclass(frozen=True, slots=True)
class _Chunk:
    start_ns: int
    probability: float

    def within_ns(self, from_ns: int, to_ns: int) -> int:
        """How much of it is between two times."""
        return max(0, min(to_ns, self.start_ns + CHUNK_NS) - max(from_ns, self.start_ns))


class SpeechMeter:
    """Measures speech in a microphone's packets, of one stream after the other. Not for more than one thread."""

    def __init__(self) -> None:
        self._held: deque[Packet] = deque()
        self._fed = 0
        self._listening: _Listening | None = None
        self._detector: VoiceDetector | None = None

    def feed(self, packet: Packet) -> None:
        """Take a packet of sound; it is not decoded yet."""
        self._held.append(packet)
        self._fed += 1
        oldest_ns = packet.time_ns - KEEP_NS
        while self._held[0].time_ns < oldest_ns:
            self._held.popleft()

    def forget(self) -> None:
        """Drop all buffered sound: a mute was granted."""
        self._held.clear()
        self._listening = None

    def window(self, from_ns: int, to_ns: int) -> Speech:
        """Measure speech between two times on the recorder's monotonic clock, as far as there is sound by now.

        It never raises: sound that is missing or can't be decoded is not covered.
        """
        if from_ns >= to_ns or not self._held:
            return NOTHING
        listening = self._listening
        if listening is None or not listening.can_continue_to(from_ns):
            begin_ns = from_ns - WARM_UP_NS
            first = self._fed - len(self._held) + sum(1 for packet in self._held if packet.time_ns < begin_ns)
            if self._detector is None:
                self._detector = VoiceDetector()
            listening = self._listening = _Listening(begin_ns, first, self._detector)
        listening.continue_with(self._packets_from(listening.number, to_ns))
        return _measured([chunk for chunk in listening.chunks if chunk.within_ns(from_ns, to_ns)], from_ns, to_ns)

    def _packets_from(self, number: int, to_ns: int) -> Iterator[tuple[int, Packet]]:
        """Packets that begin before `to_ns`, from packet `number` on or the oldest that is held, with their numbers."""
        first = self._fed - len(self._held)
        number = max(number, first)
        for packet in islice(self._held, number - first, None):
            if packet.time_ns >= to_ns:
                return
            yield number, packet
            number += 1


def _measured(chunks: list[_Chunk], from_ns: int, to_ns: int) -> Speech:
    best = sorted((chunk.probability for chunk in chunks), reverse=True)
    reached = best[NEEDED_CHUNKS - 1] if len(best) >= NEEDED_CHUNKS else 0.0
    voiced_ns = sum(chunk.within_ns(from_ns, to_ns) for chunk in chunks if chunk.probability >= THRESHOLD)
    return Speech(
        heard=reached >= THRESHOLD,
        confidence=math.floor(reached * _CONFIDENCE_STEPS) / _CONFIDENCE_STEPS,
        voiced_ms=voiced_ns // MS,
        covered_ms=sum(chunk.within_ns(from_ns, to_ns) for chunk in chunks) // MS,
    )


class _Listening:
    """One pass over the packets, from `begin_ns` and packet `number` on."""

    def __init__(self, begin_ns: int, number: int, detector: VoiceDetector) -> None:
        self.number = number
        self.chunks: deque[_Chunk] = deque()
        self._begin_ns = self._reached_ns = begin_ns
        self._detector = detector
        self._decoder: VoiceBandDecoder | None = None
        self._stream: Stream | None = None
        self._samples = bytearray()
        self._samples_ns = 0

    def can_continue_to(self, from_ns: int) -> bool:
        """True if a window from `from_ns` on is measured by continuing, and not faster by restarting."""
        return self._begin_ns <= from_ns - WARM_UP_NS <= self._reached_ns

    def continue_with(self, packets: Iterator[tuple[int, Packet]]) -> None:
        """Decode and evaluate more packets."""
        for number, packet in packets:
            self.number = number + 1
            self._reached_ns = packet.time_ns
            if self._decoder is None or not self._follows(packet):
                self._restart(packet)
            self._hear(packet)
        while self.chunks and self.chunks[0].start_ns < self._reached_ns - KEEP_NS:
            self.chunks.popleft()

    def _follows(self, packet: Packet) -> bool:
        heard_ns = self._samples_ns + len(self._samples) // BYTES_A_SAMPLE * NS // VOICE_RATE
        return packet.stream == self._stream and abs(packet.time_ns - heard_ns) <= GAP_NS

    def _restart(self, packet: Packet) -> None:
        self._stream = packet.stream
        self._samples.clear()
        self._samples_ns = packet.time_ns
        self._detector.reset()
        try:
            self._decoder = VoiceBandDecoder(packet.stream.parameters)
        except SourceError:
            self._decoder = None  # not covered; the next packet tries again

    def _hear(self, packet: Packet) -> None:
        if self._decoder is None:
            return
        try:
            self._samples += self._decoder.samples(packet)
        except SourceError:
            self._decoder = None  # this packet is not covered, and the next one restarts
            return
        while len(self._samples) >= _CHUNK_BYTES:
            chunk = bytes(self._samples[:_CHUNK_BYTES])
            del self._samples[:_CHUNK_BYTES]
            self.chunks.append(_Chunk(self._samples_ns, self._detector.probability(chunk)))
            self._samples_ns += CHUNK_NS
