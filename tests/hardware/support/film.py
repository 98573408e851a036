"""Films as a camera's encoder would deliver them, at a constant bit rate: made once, and kept."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tests.support.cache import kept

SAMPLE_RATE, SAMPLES = 48_000, 1024
NAME = "film.mp4"
_VERSION = 3


@dataclass(frozen=True, slots=True)
class Film:
    """What is to be in it: moving colours under noise, and a tone."""

    width: int
    height: int
    fps: int
    megabits: int
    seconds: int


FULL_HD = Film(1920, 1080, 30, 8, 20)
SMALL = Film(640, 360, 30, 1, 5)


def film(what: Film) -> Path:
    """Where it is, as an MP4 file."""
    name = f"film-{what.height}p{what.fps}-{what.megabits}M"
    return kept(name, (_VERSION, what), lambda folder: _make(what, folder / NAME)) / NAME


def _make(what: Film, path: Path) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=what.fps)
        audio = container.add_stream("aac", rate=SAMPLE_RATE)
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width, video.height, video.pix_fmt = what.width, what.height, "yuv420p"
        video.bit_rate = what.megabits * 1_000_000
        video.codec_context.gop_size = what.fps
        rate = str(what.megabits * 1_000_000)
        video.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "x264-params": "nal-hrd=cbr:scenecut=0",
            "maxrate": rate,
            "minrate": rate,
            "bufsize": rate,
        }
        audio.layout, audio.format, audio.bit_rate = "mono", "fltp", 64_000
        size = f"size={what.width}x{what.height}:rate={what.fps}"
        pictures = _graph(("testsrc2", size), ("noise", "alls=24:allf=t"))
        sound = _graph(("sine", f"sample_rate={SAMPLE_RATE}:samples_per_frame={SAMPLES}"), ("aformat", _SOUND))
        for number in range(what.fps * what.seconds):
            picture = pictures.vpull()
            assert isinstance(picture, VideoFrame)
            picture.pict_type, picture.pts, picture.time_base = PictureType.NONE, number, Fraction(1, what.fps)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for _ in range(SAMPLE_RATE * what.seconds // SAMPLES):
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
