"""A film of 1080p30 at 8 Mbit/s, as a camera's encoder would deliver it: made once, and kept."""

from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tests.hardware.support.cache import kept

WIDTH, HEIGHT, FPS, MEGABITS, SECONDS = 1920, 1080, 30, 8, 20
SAMPLE_RATE, SAMPLES = 48_000, 1024
_KEY = ("film", 2, WIDTH, HEIGHT, FPS, MEGABITS, SECONDS)
NAME = "film.mp4"


def film() -> Path:
    """Where it is."""
    return kept("film-1080p30-8M", _KEY, lambda folder: _make(folder / NAME)) / NAME


def _make(path: Path) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        audio = container.add_stream("aac", rate=SAMPLE_RATE)
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.bit_rate = MEGABITS * 1_000_000
        video.codec_context.gop_size = FPS
        rate = str(MEGABITS * 1_000_000)
        video.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "x264-params": "nal-hrd=cbr:scenecut=0",
            "maxrate": rate,
            "minrate": rate,
            "bufsize": rate,
        }
        audio.layout, audio.format, audio.bit_rate = "mono", "fltp", 64_000
        pictures = _graph(("testsrc2", f"size={WIDTH}x{HEIGHT}:rate={FPS}"), ("noise", "alls=24:allf=t"))
        sound = _graph(("sine", f"sample_rate={SAMPLE_RATE}:samples_per_frame={SAMPLES}"), ("aformat", _SOUND))
        for number in range(FPS * SECONDS):
            picture = pictures.vpull()
            assert isinstance(picture, VideoFrame)
            picture.pict_type, picture.pts, picture.time_base = PictureType.NONE, number, Fraction(1, FPS)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for _ in range(SAMPLE_RATE * SECONDS // SAMPLES):
            heard = sound.pull()
            assert isinstance(heard, AudioFrame)
            container.mux(audio.encode(heard))
        container.mux(audio.encode(None))


_SOUND = "sample_fmts=fltp:channel_layouts=mono"


def _graph(source: tuple[str, str], then: tuple[str, str]) -> Graph:
    graph = Graph()
    sink = "abuffersink" if then[0] == "aformat" else "buffersink"
    graph.link_nodes(graph.add(*source), graph.add(*then), graph.add(sink)).configure()
    return graph
