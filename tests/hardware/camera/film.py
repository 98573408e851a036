"""What is in an opened recording, and whether it is what the camera and the sound card gave. Pure, but for reading."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av

from tests.hardware.camera.sound_card import EVERY_NS, NS, TONE_NS

US = 1_000_000
EVERY_S = EVERY_NS / NS
ROUNDING_US = 1
BEGIN_US = 127
"""Opening puts a file's beginning onto a grid that both tracks' ticks share, here 1/8000 s; all samples with it."""
BRIGHT = 180
LOUD = 0.1
"""Of full scale; the tone has a third of it, the noise a few ten-thousandths."""
WINDOW_S = 0.001


@dataclass(frozen=True)
class Film:
    """An opened recording.

    Attributes:
        pictures_us: Times of all pictures in the file, in microseconds.
        white: For each picture that was decoded, its time in seconds and whether it is white.
        tones_s: When each tone begins, in seconds.
    """

    pictures_us: list[int]
    white: list[tuple[float, bool]]
    tones_s: list[float]


def read(path: Path) -> Film:
    """Read a film, pictures decoded."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = video.time_base
        assert base is not None
        pictures = [round(p.pts * base * US) for p in container.demux(video) if p.size and p.pts is not None]
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        white = [(float(frame.time or 0.0), _brightness(frame) > BRIGHT) for frame in container.decode(video=0)]
    return Film(pictures, white, _tones(path))


def _brightness(frame: av.VideoFrame) -> float:
    plane = frame.planes[0]
    middle = plane.line_size * (frame.height // 2)
    row = bytes(memoryview(plane)[middle : middle + frame.width])
    return sum(row) / len(row)


def _tones(path: Path) -> list[float]:
    """When the sound becomes loud after at least half a second in which it was not."""
    found: list[float] = []
    quiet_since: float | None = None
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        for frame in container.decode(audio=0):
            samples = memoryview(frame.planes[0]).cast("B").cast("f")[: frame.samples].tolist()
            step = max(1, round(frame.sample_rate * WINDOW_S))
            for first in range(0, len(samples), step):
                at = float(frame.time or 0.0) + first / frame.sample_rate
                if max(map(abs, samples[first : first + step])) < LOUD:
                    quiet_since = at if quiet_since is None else quiet_since
                else:
                    if quiet_since is not None and at - quiet_since > 0.5:
                        found.append(at)
                    quiet_since = None
    return found


def begin(pictures_us: Sequence[int], encoded_us: Sequence[int], zero_us: int) -> tuple[int, int]:
    """Which of the encoder's pictures the film begins with, and the monotonic time of the film's 0 by that picture.

    Args:
        pictures_us: The film's.
        encoded_us: The encoder's, by the sensor's clock.
        zero_us: The monotonic time of the film's 0 by the first opening statement.

    Raises:
        AssertionError: They do not agree.
    """
    nearest = min(range(len(encoded_us)), key=lambda n: abs(encoded_us[n] - zero_us - pictures_us[0]))
    exact = encoded_us[nearest] - pictures_us[0]
    assert abs(exact - zero_us) <= BEGIN_US, f"the film begins {zero_us - exact} us beside the encoder's pictures"
    return nearest, exact


def check_pictures(pictures_us: Sequence[int], encoded_us: Sequence[int], zero_us: int) -> int:
    """Each picture that the encoder gave out from the first to the last in the film is there, in order, at its time.

    Returns:
        The largest difference of a time, from the first picture on, in microseconds.

    Raises:
        AssertionError: One is missing, is there twice, or is misplaced.
    """
    first, exact_us = begin(pictures_us, encoded_us, zero_us)
    expected = encoded_us[first : first + len(pictures_us)]
    worst = max(abs(picture - (given - exact_us)) for picture, given in zip(pictures_us, expected, strict=True))
    assert worst <= ROUNDING_US, f"a picture is missing or lies {worst} us beside its time"
    assert all(before < after for before, after in pairwise(pictures_us))
    return worst


def check_flashes(film: Film, taken_ns: Sequence[int]) -> None:
    """Each picture shows what the camera saw when the sensor took it.

    Args:
        film: What was recorded.
        taken_ns: The sensor's time of each picture in it, as exact as the camera had it when it chose what to show. A
            time that leads over the film's own, rounded to ticks, says otherwise of a picture at a flash's edge.

    Raises:
        AssertionError: One does not.
    """
    pairs = zip(film.white, taken_ns, strict=True)
    wrong = [at for (at, white), ns in pairs if (ns % EVERY_NS < TONE_NS) != white]
    assert not wrong, f"{len(wrong)} pictures do not show what was seen at their time, such as at {wrong[0]:.3f} s"


def _beside(at: float, moment: float) -> float:
    """How far `at` lies behind the nearest of the moments that lie whole periods from `moment`."""
    return at - moment - round((at - moment) / EVERY_S) * EVERY_S


def flash_phase(white: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """A moment of the film at which a flash begins: between which two, by all flashes together.

    Raises:
        AssertionError: There are too few, or they do not agree.
    """
    begins = [(a, b) for (a, was), (b, is_) in pairwise(white) if is_ and not was]
    assert len(begins) >= 4, f"expected flashes in the pictures, found {len(begins)}"
    anchor = begins[0][1]
    low = max(_beside(b, anchor) - (b - a) for a, b in begins)
    high = min(_beside(b, anchor) for a, b in begins)
    assert low < high, f"flashes do not come in step: {low - high:.4f} s"
    return anchor + low, anchor + high


def sound_offsets(film: Film) -> list[float]:
    """By how many seconds each tone comes after its flash; before is negative.

    What the pictures leave open (they are 33 ms apart, and a flash begins between two) is split in the middle.
    """
    low, high = flash_phase(film.white)
    assert len(film.tones_s) >= 4, f"expected tones in the sound, found {len(film.tones_s)}"
    return [_beside(tone, (low + high) / 2) for tone in film.tones_s]


def check_sound(film: Film, most_s: float) -> str:
    """Each tone comes with its flash, within `most_s`; the measurement in words.

    Raises:
        AssertionError: One does not.
    """
    offsets = sound_offsets(film)
    low, high = flash_phase(film.white)
    said = (
        f"sound after picture: median {statistics.median(offsets) * 1000:+.1f} ms, "
        f"{min(offsets) * 1000:+.1f} to {max(offsets) * 1000:+.1f} ms over {len(offsets)} tones "
        f"(pictures tell to {(high - low) * 500:.1f} ms)"
    )
    assert all(abs(offset) <= most_s for offset in offsets), said
    return said
