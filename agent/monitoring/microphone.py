"""Whether the microphone hears anything at all: muted, unplugged, or at work.

A microphone that is connected and switched on always gives noise, its own if no other: in a dead-quiet room a small
one has some steps of a 16-bit sample, and so have its samples after AAC or Opus at 16 kbit/s. One that is muted or
whose line is broken gives the same sample over and over, and a codec makes at most small waves of that.

Rules:
1. Every `LOOK_NS` the sound of `LOOK_PACKETS` packets that follow each other is decoded; the first only prepares the
   decoder. Within each channel the samples' range counts, not their level: a constant is silence too.
2. Muted: every look for `MUTED_AFTER_NS` found a range of at most `QUIET_RANGE`. It was muted since the first of them.
3. Live again: `LIVE_LOOKS` looks in a row found more.

It can't tell a microphone that somebody wrapped or blocked, nor one that gives hum instead of sound. That no packets
come at all is for the recorder to see: a source that falls silent.
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
    """What the microphone does.

    Attributes:
        muted: It gives digital silence.
        since_ns: Since when, on the recorder's monotonic clock.
    """

    muted: bool
    since_ns: int


class MicrophoneWatch:
    """Watches a microphone's encoded packets, of one stream after the other. Not for more than one thread."""

    def __init__(self) -> None:
        self.undecodable = 0
        """Looks that failed because the sound could not be decoded."""
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
        """Take the next packet of sound. The state after it; sound that can't be decoded changes nothing."""
        if self._state is None:
            self._state = MicrophoneState(muted=False, since_ns=packet.time_ns)
        if packet.stream != self._stream:
            self._stream, self._decoder = packet.stream, None
            self._begin_anew(packet.time_ns)
        elif packet.time_ns > self._end_ns + LOOK_NS:
            self._begin_anew(packet.time_ns)
        self._end_ns = packet.stream.time_ns(packet.ticks + packet.duration)
        if packet.time_ns >= self._look_at_ns and self._look(packet):
            began_ns = self._look_at_ns
            self._look_at_ns, self._looked = began_ns + LOOK_NS, 0
            self._state = self._judged(self._state, began_ns)
        return self._state

    def _begin_anew(self, at_ns: int) -> None:
        """What comes does not follow on what came: nothing is known of the time between."""
        self._look_at_ns, self._looked, self._quiet_since_ns, self._live_looks = at_ns, 0, None, 0

    def _look(self, packet: Packet) -> bool:
        """Decode one packet of a look; True after the last."""
        try:
            if self._decoder is None:
                self._decoder = SoundDecoder(packet.stream.parameters)
            if not self._looked:
                self._decoder.begin_anew()
                self._range = 0.0
            frames = self._decoder.frames(packet)
            if self._looked:
                self._range = max([self._range, *(range_of(frame) for frame in frames)])
        except SourceError:
            self.undecodable += 1
            self._begin_anew(packet.time_ns + LOOK_NS)
            return False
        self._looked += 1
        return self._looked == LOOK_PACKETS

    def _judged(self, state: MicrophoneState, began_ns: int) -> MicrophoneState:
        """The state after a look that began then and has just ended."""
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
