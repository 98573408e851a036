import os
import threading
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from agent.capture.config import MicrophoneConfig
from agent.capture.microphone import SAMPLES_A_FRAME, MicrophoneSource, OpenMicrophone
from agent.clock import NS
from agent.errors import SourceError
from agent.media.packet import Kind, Packet
from agent.monitoring.sound import SoundDecoder

RATE = 48_000
OPENED_NS = 500 * NS
TONE = "lavfi:sine=frequency=440:sample_rate={rate}:samples_per_frame=1024"


class CountingClock:
    """The clock of a card whose every block comes in when it has been heard, by a crystal that is off."""

    def __init__(self, rate: int = RATE, ppm: float = 0.0) -> None:
        self.blocks = 0
        self._block_ns = SAMPLES_A_FRAME / (rate * (1 + ppm / 1e6)) * NS

    def __call__(self) -> int:
        self.blocks += 1
        return OPENED_NS + round(self.blocks * self._block_ns)


def source(clock: Any, *, rate: int = RATE, device: str = TONE) -> MicrophoneSource:
    return MicrophoneSource(MicrophoneConfig(device=device.format(rate=rate)), clock)


def packets(opened: OpenMicrophone, count: int) -> list[Packet]:
    got = list(islice(opened, count))
    opened.close()
    return got


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000])
def test_sound_is_recorded_at_one_rate_without_a_seam_whatever_the_card_gives(rate: int) -> None:
    opened = source(CountingClock(rate), rate=rate).open(4)
    (stream,) = opened.streams
    parameters = stream.parameters
    assert (parameters.kind, parameters.codec, parameters.timescale, parameters.channels) == (
        Kind.AUDIO,
        "aac",
        RATE,
        1,
    )
    assert stream.generation == 4
    assert abs(stream.epoch_ns - OPENED_NS) < NS // 1000
    got = packets(opened, 200)
    assert [packet.ticks for packet in got] == [n * SAMPLES_A_FRAME for n in range(200)]
    assert all(packet.key and packet.time_ns == stream.time_ns(packet.ticks) for packet in got)
    decoder = SoundDecoder(parameters)
    assert sum(frame.samples for packet in got for frame in decoder.frames(packet)) >= 199 * SAMPLES_A_FRAME


@pytest.mark.parametrize("ppm", [-200, 200])
def test_times_follow_the_recorders_clock_and_not_the_cards(ppm: float) -> None:
    clock = CountingClock(ppm=ppm)
    got = packets(source(clock).open(1), 4000)
    true_ns = OPENED_NS + 3_999 * SAMPLES_A_FRAME / (RATE * (1 + ppm / 1e6)) * NS
    assert abs(got[-1].time_ns - true_ns) < 3_000_000
    assert abs(OPENED_NS + 3_999 * SAMPLES_A_FRAME * NS // RATE - true_ns) > 14_000_000
    assert all(1000 < after.ticks - before.ticks < 1048 for before, after in pairwise(got))


class Restamped:
    """An input whose stamps are the wall clock's, which is set by an hour, and back by a day."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.streams = container.streams

    def demux(self, stream: Any) -> Iterator[Any]:
        for number, packet in enumerate(self._container.demux(stream)):
            if packet.pts is not None:
                packet.pts += (number // 40 % 3) * 3600 * RATE - (number // 90) * 86_400 * RATE
                packet.dts = packet.pts
            yield packet

    def close(self) -> None:
        self._container.close()


def test_wall_clock_that_is_set_moves_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [packet.ticks for packet in packets(source(CountingClock()).open(1), 300)]
    opens = av.open
    monkeypatch.setattr(av, "open", lambda *args, **more: Restamped(opens(*args, **more)))
    assert [packet.ticks for packet in packets(source(CountingClock()).open(1), 300)] == plain


def test_card_that_is_not_there_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="can't be opened"):
        source(CountingClock(), device="alsa:hw:17,3").open(1)


@pytest.mark.parametrize("device", ["nonsense:x", "lavfi:testsrc", "lavfi:no_such_filter"])
def test_input_that_gives_no_sound_is_a_source_error(device: str) -> None:
    with pytest.raises(SourceError):
        source(CountingClock(), device=device).open(1)


def test_input_that_ends_ends_the_iteration(tmp_path: Path) -> None:
    raw = tmp_path / "sound"
    raw.write_bytes(bytes(2 * RATE * 2))
    clock = CountingClock(rate=RATE // 4)  # that format has blocks four times as long
    got = list(source(clock, device=f"s16le:{raw}").open(1))
    assert 80 <= len(got) <= 2 * RATE // SAMPLES_A_FRAME


def test_no_opening_gives_sound_of_a_time_that_an_earlier_one_has_given() -> None:
    microphone = source(CountingClock())
    first = packets(microphone.open(1), 100)[-1]
    # The same clock again, from its beginning: a line that was corrected by as much.
    microphone._monotonic = CountingClock()
    again = packets(microphone.open(2), 10)
    assert again[0].time_ns >= first.time_ns + 1024 * NS // RATE - NS // RATE
    assert again[0].ticks > 0


def test_input_that_ends_before_its_clock_is_known_is_a_source_error(tmp_path: Path) -> None:
    raw = tmp_path / "sound"
    raw.write_bytes(bytes(4096))
    with pytest.raises(SourceError, match="ended at once"):
        source(CountingClock(), device=f"s16le:{raw}").open(1)


def test_closing_ends_an_iteration_in_another_thread_and_closes_the_input_once() -> None:
    opened = source(CountingClock()).open(1)
    got: list[Packet] = []
    begun = threading.Event()

    def run() -> None:
        for packet in opened:
            got.append(packet)
            begun.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(20.0)
    opened.close()
    opened.close()
    thread.join(20.0)
    assert not thread.is_alive()
    assert list(opened) == []


ALSA = pytest.mark.skipif(not Path("/usr/share/alsa/alsa.conf").exists(), reason="ALSA's configuration is not here")


@ALSA
def test_alsa_gives_blocks_of_any_length_which_are_gathered() -> None:
    # Its null device has periods of one sample.
    clock = CountingClock(RATE * SAMPLES_A_FRAME // 960)
    opened = source(clock, device="alsa:null").open(1)
    got = packets(opened, 100)
    assert [packet.ticks for packet in got] == [n * SAMPLES_A_FRAME for n in range(100)]
    assert clock.blocks < 150


@ALSA
def test_alsa_stamps_the_wall_clock_which_is_why_its_stamps_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALSA_CONFIG_DIR", "/usr/share/alsa")
    with av.open("null", format="alsa") as container:
        packet = next(container.demux(container.streams.audio[0]))
    assert packet.pts is not None
    assert packet.time_base is not None
    assert abs(packet.pts * packet.time_base - time.time()) < 60


def test_alsa_is_configured_by_the_system_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALSA_CONFIG_DIR", "ALSA_PLUGIN_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SourceError):
        source(CountingClock(), device="alsa:hw:17,3").open(1)
    assert os.environ["ALSA_CONFIG_DIR"] == "/usr/share/alsa"
    assert os.environ["ALSA_PLUGIN_DIR"].startswith("/usr/lib")
