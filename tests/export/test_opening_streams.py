"""Sources of other forms than the clips': separate clocks, jitter, sound alone, Opus."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame

from agent.clock import NS
from agent.media.packet import Kind, Packet, Stream, StreamParameters
from agent.recorder.writing.task import Settings
from tests.support.containers import decoded_times
from tests.support.films import CLIPS, camera, found, open_rig, packets_of, record, shown, texts, zero_of
from tests.support.packets import scene
from tests.support.rig import Rig
from tests.support.sources import jitters


def test_camera_and_microphone_with_clocks_of_their_own_are_in_step_to_a_tick(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = packets_of(camera(CLIPS[0]), 15)
    epochs = {Kind.VIDEO: 17, Kind.AUDIO: 3 * NS + 123_456_789}
    streams = {packet.stream: replace(packet.stream, epoch_ns=epochs[packet.kind]) for packet in packets}
    moved = [replace(packet, stream=streams[packet.stream]) for packet in packets]
    moved = sorted((replace(p, time_ns=p.stream.time_ns(p.ticks)) for p in moved), key=lambda packet: packet.time_ns)
    record(rig, moved, 9, 12)
    out = tmp_path / "out.mp4"
    open_rig(rig, out)
    offsets = {}
    for kind in Kind:
        own = found(out, kind)
        given = [packet for packet in moved if packet.kind is kind and packet.time_ns < 12 * NS][-len(own) :]
        assert [data for _, data, _ in own] == [packet.data for packet in given]
        pairs = zip(own, given, strict=True)
        (_,) = {at - Fraction(packet.ticks, packet.stream.parameters.timescale) for (at, _, _), packet in pairs}
        offsets[kind] = Fraction(given[0].time_ns, NS) - own[0][0]
    assert abs(offsets[Kind.VIDEO] - offsets[Kind.AUDIO]) <= Fraction(1, 90_000) + Fraction(1, 48_000)


@pytest.mark.parametrize("name", CLIPS)
def test_jitter_is_kept_as_it_came(name: str, tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = packets_of(jitters(camera(name), [0, 131, 17, 409, 3]), 12)
    record(rig, packets, 1, 11)
    out = tmp_path / "out.mp4"
    open_rig(rig, out)
    expected = [packet for packet in packets if packet.time_ns < 11 * NS]
    zero = zero_of(out, packets)
    for kind in Kind:
        assert found(out, kind) == shown(expected, kind, zero)
    decoded_times(out, Kind.VIDEO)


def test_sound_alone_is_a_film_with_text(tmp_path: Path) -> None:
    rig = Rig(settings=Settings(segment_ns=3 * NS))
    packets = [packet for packet in packets_of(camera(CLIPS[0]), 12) if packet.kind is Kind.AUDIO]
    record(rig, packets, 6, 11)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    expected = shown([packet for packet in packets if packet.time_ns < 11 * NS], Kind.AUDIO)
    heard = found(out, Kind.AUDIO)
    assert [row[1] for row in heard] == [row[1] for row in expected[-len(heard) :]]
    assert opened.files[0].packets == {Kind.AUDIO: len(heard)}
    assert opened.files[0].seconds >= 10
    assert len(texts(out)) >= 10
    decoded_times(out, Kind.AUDIO)


def opus(seconds: float) -> list[Packet]:
    """A tone in Opus, 20 ms a packet."""
    context = AudioCodecContext.create("libopus", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = 48_000, "stereo", "s16"
    context.bit_rate = 32_000
    context.open()
    encoded = []
    for number in range(round(seconds * 50)):
        frame = AudioFrame(format="s16", layout="stereo", samples=960)
        frame.sample_rate, frame.pts = 48_000, 960 * number
        tone = b"".join(((at * 37) % 8000).to_bytes(2, "little") * 2 for at in range(960))
        frame.planes[0].update(tone.ljust(frame.planes[0].buffer_size, b"\0"))
        encoded += [bytes(packet) for packet in context.encode(frame)]
    head = context.extradata
    assert head is not None
    # `dOps` is `OpusHead` without its magic and version byte's value, in big-endian numbers.
    body = bytes([0, head[9], *head[10:12][::-1], *head[12:16][::-1], *head[16:18][::-1], head[18]])
    stream = Stream(StreamParameters(Kind.AUDIO, "opus", 48_000, body, sample_rate=48_000, channels=2), 1, 0)
    return [Packet(stream, data, 960 * n, 960, True, stream.time_ns(960 * n)) for n, data in enumerate(encoded)]


def test_opus_opens_exactly_and_its_gaps_are_silence(tmp_path: Path) -> None:
    rig = Rig()
    sounds = [packet for packet in opus(8) if not 3 * NS <= packet.time_ns < 5 * NS]
    pictures = [packet for packet in scene(8) if packet.kind is Kind.VIDEO]
    packets = sorted(pictures + sounds, key=lambda packet: packet.time_ns)
    record(rig, packets, 0, 7)
    out = tmp_path / "out.mp4"
    opened = open_rig(rig, out)
    expected = [packet for packet in sounds if packet.time_ns < 7 * NS]
    silent = bytes([0xFC, 0xFF, 0xFE])
    heard = found(out, Kind.AUDIO)
    skipped = heard[0][0]  # FFmpeg counts from after the encoder's pre-skip
    own = [(at - skipped, data) for at, data, _ in heard if data != silent]
    assert own == [(Fraction(p.ticks, 48_000), p.data) for p in expected]
    assert opened.files[0].silent_frames == sum(data == silent for _, data, _ in heard) == 100
    assert len(decoded_times(out, Kind.AUDIO)) >= len(heard) - 1
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name in {"opus", "libopus"}
