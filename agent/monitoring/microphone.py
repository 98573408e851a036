"""Detects a microphone that is muted or unplugged.

A microphone that is connected and switched on always delivers noise, at least its own: in a dead-quiet room a small one
has some steps of a 16-bit sample, also after AAC or Opus at 16 kbit/s. A muted one, or one with a broken line, delivers
the same sample over and over, of which a codec makes at most small waves.

Rules:
1. Every `LOOK_NS` the sound of `LOOK_PACKETS` consecutive packets is decoded; the first only prepares the decoder. The
   range of the samples of each channel counts, not their level: a constant is silence too.
2. Muted: every check for `MUTED_AFTER_NS` found a range of at most `QUIET_RANGE`. It was muted since the first of them.
3. Live again: `LIVE_LOOKS` checks in a row found more.

Limits: it can't detect a microphone that is wrapped or blocked, nor one that delivers hum. A source without any packets
is detected by the recorder.
"""

from dataclasses import dataclass

from av.audio.frame import AudioFrame

from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Packet, Stream
from agent.monitoring.sound import SoundDecoder

LOOK_NS = NS // 2
LOOK_PACKETS = 3
MUTED_AFTER_NS = 5 * NS
LIVE_LOOKS = 2

QUIET_RANGE = 3 / 32_768
"""Of full scale: three steps of a 16-bit sample. Measured after FFmpeg's AAC and libopus at 16 to 64 kbit/s, in tenths
of a second: zeros and a constant of 100 steps have at most 2.6, noise of one step (root mean square) at least 3.8."""


@dataclass(frozen=True, slots=True)
class MicrophoneState:
    """The state of the microphone.

    Attributes:
        muted: It delivers digital silence.
        since_ns: Since when, on the recorder's monotonic clock.
    """

    muted: bool
    since_ns: int


class MicrophoneWatch:
    """Watches a microphone's encoded packets, of one stream after the other. Not for more than one thread."""

    def __init__(self) -> None:
        self.undecodable = 0
        """How many checks failed because the sound could not be decoded."""
        self._decoder: SoundDecoder | None = None
        self._stream: Stream | None = None
        self._state: MicrophoneState | None = None
        self._look_at_ns = 0
        self._end_ns = 0
        self._looked = 0
        self._range = 0.0
        self._quiet_since_ns: int | None = None
        self._live_since_ns = 0
        self._live_looks = 0

    def feed(self, packet: Packet) -> MicrophoneState:
        """Take the next packet; returns the state after it. Sound that can't be decoded changes nothing."""
        if self._state is None:
            self._state = MicrophoneState(muted=False, since_ns=packet.time_ns)
        if packet.stream != self._stream:
            self._stream, self._decoder = packet.stream, None
            self._restart(packet.time_ns)
        elif packet.time_ns > self._end_ns + LOOK_NS:
            self._restart(packet.time_ns)
        self._end_ns = packet.stream.time_ns(packet.ticks + packet.duration)
        if packet.time_ns >= self._look_at_ns and self._look(packet):
            began_ns = self._look_at_ns
            self._look_at_ns, self._looked = began_ns + LOOK_NS, 0
            self._state = self._evaluated(self._state, began_ns)
        return self._state

    def _restart(self, at_ns: int) -> None:
        """Restart after a gap: nothing is known of the time between."""
        self._look_at_ns, self._looked, self._quiet_since_ns, self._live_looks = at_ns, 0, None, 0

    def _look(self, packet: Packet) -> bool:
        """Decode one packet of a check; True after the last."""
        try:
            if self._decoder is None:
                self._decoder = SoundDecoder(packet.stream.parameters)
            if not self._looked:
                self._decoder.reset()
                self._range = 0.0
            frames = self._decoder.frames(packet)
            if self._looked:
                self._range = max([self._range, *(range_of(frame) for frame in frames)])
        except SourceError:
            self.undecodable += 1
            self._restart(packet.time_ns + LOOK_NS)
            return False
        self._looked += 1
        return self._looked == LOOK_PACKETS

    def _evaluated(self, state: MicrophoneState, began_ns: int) -> MicrophoneState:
        """The state after a check that began then and has just ended."""
        if self._range > QUIET_RANGE:
            self._quiet_since_ns = None
            self._live_since_ns = self._live_since_ns if self._live_looks else began_ns
            self._live_looks += 1
            if state.muted and self._live_looks >= LIVE_LOOKS:
                return MicrophoneState(muted=False, since_ns=self._live_since_ns)
            return state
        self._live_looks = 0
        if self._quiet_since_ns is None:
            self._quiet_since_ns = began_ns
        if not state.muted and self._end_ns - self._quiet_since_ns >= MUTED_AFTER_NS:
            return MicrophoneState(muted=True, since_ns=self._quiet_since_ns)
        return state


def range_of(frame: AudioFrame) -> float:
    """The largest range of samples among a frame's channels, of full scale; 0 for a frame without samples.

    Raises:
        SourceError: The samples are not planar floats, as FFmpeg's AAC and Opus decoders give them.
    """
    if frame.format.name != "fltp":
        raise SourceError(f"expected decoded sound as planar floats, got {frame.format.name}")
    if not frame.samples:
        return 0.0
    channels = [memoryview(plane).cast("B").cast("f")[: frame.samples].tolist() for plane in frame.planes]
    return max(max(samples) - min(samples) for samples in channels)
