"""Packets made by hand, for tests that need no picture in them."""

from agent.clock import NS
from agent.media.packet import Kind, Packet, Stream, StreamParameters

AVCC = bytes.fromhex("0142c01effe1000467 42c01e01000168".replace(" ", ""))
VIDEO = StreamParameters(Kind.VIDEO, "h264", 30_000, AVCC, width=640, height=480)
AUDIO = StreamParameters(Kind.AUDIO, "aac", 48_000, bytes.fromhex("1190"), sample_rate=48_000, channels=2)


def video_stream(generation: int = 1, epoch_ns: int = 0) -> Stream:
    return Stream(VIDEO, generation, epoch_ns)


def audio_stream(generation: int = 1, epoch_ns: int = 0) -> Stream:
    return Stream(AUDIO, generation, epoch_ns)


def video(at_s: float, *, key: bool = False, size: int = 100, stream: Stream | None = None) -> Packet:
    """A picture of `size` bytes at `at_s` seconds after the stream's epoch, 30 a second."""
    stream = stream or video_stream()
    ticks = round(at_s * VIDEO.timescale)
    return Packet(stream, bytes([ticks % 251]) * size, ticks, 1000, key, stream.time_ns(ticks))


def audio(at_s: float, *, size: int = 20, stream: Stream | None = None) -> Packet:
    """A sound frame of 1024 samples at `at_s` seconds after the stream's epoch."""
    stream = stream or audio_stream()
    ticks = round(at_s * AUDIO.timescale)
    return Packet(stream, bytes([ticks % 241]) * size, ticks, 1024, True, stream.time_ns(ticks))


def scene(seconds: float, *, gop_s: float = 1.0, fps: int = 30, start_s: float = 0.0) -> list[Packet]:
    """Pictures and sound of a healthy source, in the order of their times."""
    every = max(1, round(gop_s * fps))
    pictures = [video(start_s + n / fps, key=n % every == 0) for n in range(round(seconds * fps))]
    sounds = [audio(start_s + n * 1024 / 48_000) for n in range(int(seconds * 48_000 / 1024))]
    return sorted(pictures + sounds, key=lambda packet: packet.time_ns)


def seconds(ns: int) -> float:
    return ns / NS
