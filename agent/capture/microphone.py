"""A microphone by libav's inputs (ALSA on a device), stamped on the recorder's own clock and encoded to AAC.

The rules, in order:
1. Times are those of `sound_clock`: sample counts, corrected slowly towards the monotonic clock. The input's own times
   are not used: ALSA's are those of the wall clock, which can be set.
2. Ticks count recorded samples. They follow the sample count but for the slow correction, and jump only where sound was
   lost; they never go back.
3. No opening delivers sound of a time that an earlier one has covered: what a corrected clock would place there is
   dropped.
4. The microphone is a source of its own beside the camera: it is opened, fails and is reopened independently.
5. ALSA's library reads its configuration only from the system's folder. PyAV's own build would look in `/tmp/vendor`,
   where anybody could put one that loads code.
"""

import os
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from av.container import InputContainer
from av.filter import Graph

from agent.capture.config import MicrophoneConfig
from agent.capture.sound_clock import SoundClock
from agent.clock import NS, Monotonic
from agent.errors import SourceError
from agent.media.fmp4 import check_parameters
from agent.media.packet import Kind, Packet, Stream, StreamParameters

SAMPLES_A_FRAME = 1024
BLOCKS_A_SECOND = 50
SETTLED_NS = 5 * NS
"""An input whose clock is not known after this time delivers too irregularly."""
SEAMLESS = 2
"""Ticks by which a frame may be off before it is moved: less is rounding."""
_ALSA = {"ALSA_CONFIG_DIR": "/usr/share/alsa", "ALSA_PLUGIN_DIR": "/usr/lib/alsa-lib"}


class MicrophoneSource:
    """A microphone.

    Args:
        settings: Which one, and how to record it.
        monotonic: The recorder's clock.
    """

    def __init__(self, settings: MicrophoneConfig, monotonic: Monotonic) -> None:
        self.name = f"microphone:{settings.device}"
        self._settings = settings
        self._monotonic = monotonic
        self._covered_ns = 0

    def open(self, generation: int) -> "OpenMicrophone":
        """Open it, and listen until its clock is known: some half a second.

        Raises:
            SourceError: It can't be opened, gives no sound, or libav has no such input.
        """
        settings = self._settings
        for name, folder in _ALSA.items():
            os.environ.setdefault(name, folder)
        try:
            container = av.open(
                settings.name,
                format=settings.form,
                options={"sample_rate": str(settings.sample_rate), "channels": str(settings.channels)},
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise SourceError(f"{self.name} can't be opened: {error}") from error
        try:
            capture = _Capture(container, settings, self._monotonic)
            return OpenMicrophone(capture, generation, self._covered_ns, self._mark_covered)
        except (av.FFmpegError, OSError, ValueError) as error:
            container.close()
            raise SourceError(f"{self.name} gives no sound that can be recorded: {error}") from error
        except BaseException:
            container.close()
            raise

    def _mark_covered(self, until_ns: int) -> None:
        self._covered_ns = until_ns


class OpenMicrophone:
    """One opening of a `MicrophoneSource`, from `from_ns` on; `note` takes the end of the delivered sound."""

    def __init__(self, capture: "_Capture", generation: int, from_ns: int, note: Callable[[int], None]) -> None:
        self._capture = capture
        self._from_ns = from_ns
        self._note = note
        self._waiting = capture.settle()
        self._base = capture.clock.time_ns(capture.in_samples(self._waiting[0][1]))
        self._stream = Stream(capture.parameters, generation, self._base)
        self.streams: tuple[Stream, ...] = (self._stream,)
        self._last = -1
        self._follows = 0
        self._closed = threading.Event()
        self._held = threading.Lock()

    def __iter__(self) -> Iterator[Packet]:
        """The sound in its order.

        Raises:
            SourceError: The input failed, or its rate is wrong.
        """
        if not self._held.acquire(blocking=False):
            return
        try:
            encoded: list[tuple[bytes, int]] | None = self._waiting
            while encoded is not None and not self._closed.is_set():
                for data, sample in encoded:
                    packet = self._packet(data, sample)
                    if packet.time_ns >= self._from_ns:
                        self._note(packet.stream.time_ns(packet.ticks + packet.duration))
                        yield packet
                encoded = self._capture.more()
        finally:
            self._capture.close()

    def _packet(self, data: bytes, sample: int) -> Packet:
        stream, rate = self._stream, self._stream.parameters.timescale
        time_ns = self._capture.clock.time_ns(self._capture.in_samples(sample))
        ticks = round((time_ns - self._base) * rate / NS)
        if abs(ticks - self._follows) <= SEAMLESS:
            ticks = self._follows
        ticks = max(ticks, self._last + 1)
        self._last, self._follows = ticks, ticks + SAMPLES_A_FRAME
        return Packet(stream, data, ticks, SAMPLES_A_FRAME, key=True, time_ns=stream.time_ns(ticks))

    def close(self) -> None:
        """Make the iteration end with the next block of sound; the iterating thread then closes the input."""
        self._closed.set()
        if self._held.acquire(blocking=False):  # no thread iterates, and none will
            self._capture.close()


class _Capture:
    """An input, decoded, brought into one form and encoded. One thread at a time."""

    def __init__(self, container: InputContainer, settings: MicrophoneConfig, monotonic: Monotonic) -> None:
        if not container.streams.audio:
            raise SourceError(f"expected sound from {settings.device}, it has none")
        self._container = container
        self._settings = settings
        self._monotonic = monotonic
        self._in = container.streams.audio[0]
        self._blocks: Iterator[Any] = container.demux(self._in)
        codec = self._in.codec_context
        raw = codec.name.startswith("pcm_")
        self._sample_bytes = codec.format.bytes * codec.layout.nb_channels if raw else 0
        self.clock = SoundClock(self._in.sample_rate)
        self._in_rate = self._in.sample_rate
        self._graph: Graph | None = None
        self._sample = 0
        self._arrived_ns = 0
        encoder = AudioCodecContext.create("aac", "w")
        encoder.sample_rate, encoder.layout, encoder.format = settings.sample_rate, "mono", "fltp"
        encoder.time_base, encoder.bit_rate = Fraction(1, settings.sample_rate), settings.bit_rate
        encoder.flags |= Flags.global_header
        encoder.open()
        self._encoder = encoder
        self.parameters = StreamParameters(
            Kind.AUDIO,
            "aac",
            settings.sample_rate,
            encoder.extradata or b"",
            sample_rate=settings.sample_rate,
            channels=1,
        )
        check_parameters(self.parameters)

    def in_samples(self, sample: int) -> int:
        """The input's sample that a recorded one was made of."""
        return sample * self._in_rate // self._settings.sample_rate

    def settle(self) -> list[tuple[bytes, int]]:
        """Listen until times are known; returns what was encoded meanwhile.

        Raises:
            SourceError: The input ended, or gives its sound too irregularly.
        """
        began_ns = self._arrived_ns
        encoded: list[tuple[bytes, int]] = []
        while not (self.clock.settled and encoded):
            more = self.more()
            if more is None:
                raise SourceError(f"{self._settings.device} ended at once")
            encoded += more
            began_ns = began_ns or self._arrived_ns
            if self._arrived_ns - began_ns > SETTLED_NS:
                raise SourceError(
                    f"{self._settings.device} gives its sound too irregularly: no clock can be made of it"
                )
        return encoded

    def more(self) -> list[tuple[bytes, int]] | None:
        """The next encoded frames, each with the number of its first sample; None at the input's end.

        Raises:
            SourceError: The input failed.
        """
        try:
            data = self._block()
            self._arrived_ns = self._monotonic()
            if not data:
                return None
            frames = [frame for frame in self._in.codec_context.decode(data) if isinstance(frame, AudioFrame)]
            self.clock.add_block(sum(frame.samples for frame in frames), self._arrived_ns)
            return [encoded for frame in frames for encoded in self._encoded(frame)]
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self._settings.device} failed: {error}") from error

    def _block(self) -> "av.Packet[Any] | None":
        """The next block of sound; None at the input's end.

        ALSA's shortest period, which libav requests, can be a millisecond or less: raw samples are gathered, so that
        the cost of a block does not overload a small processor.
        """
        gathered = bytearray()
        for packet in self._blocks:
            if not packet.size:
                break
            if self._sample_bytes == 0:
                whole: av.Packet[Any] = packet
                return whole
            gathered += bytes(packet)
            if len(gathered) >= self._in_rate // BLOCKS_A_SECOND * self._sample_bytes:
                break
        return av.Packet(bytes(gathered)) if gathered else None

    def _encoded(self, frame: AudioFrame) -> Iterator[tuple[bytes, int]]:
        if self._graph is None:
            self._graph = self._chain(frame)
        frame.pts = None  # counted, see the module
        self._graph.push(frame)
        while True:
            try:
                whole = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(whole, AudioFrame)
            whole.pts, whole.time_base = self._sample, Fraction(1, self._settings.sample_rate)
            self._sample += whole.samples
            for packet in self._encoder.encode(whole):
                # The first packet holds the encoder's priming alone, from before sample 0.
                if packet.pts is not None and packet.pts >= 0:
                    yield bytes(packet), packet.pts

    def _chain(self, frame: AudioFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        rate = self._settings.sample_rate
        graph.link_nodes(
            graph.add_abuffer(
                format=frame.format.name,
                sample_rate=frame.sample_rate,
                layout=frame.layout.name,
                time_base=Fraction(1, frame.sample_rate),
            ),
            graph.add("aformat", sample_fmts="fltp", channel_layouts="mono", sample_rates=str(rate)),
            graph.add("asetnsamples", n=str(SAMPLES_A_FRAME), p="0"),
            graph.add("abuffersink"),
        ).configure()
        return graph

    def close(self) -> None:
        """Close the input."""
        self._container.close()
