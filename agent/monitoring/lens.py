"""Detects a covered lens and a frozen picture, by the brightness of small pictures.

A picture is evaluated by some 2,000 of its samples, taken one by one and never averaged: averaging removes the noise
that tells a sensor from a still.

Rules:
1. Dark, of one shade: mean, spread (all but the darkest and the brightest hundredth) and the range of the shades of its
   parts stay below `Limits`, and so does what changes from one picture to the next. A night scene fails by its lights,
   its shapes, or its noise; a covered lens in full light has none of these.
2. Covered: dark for `COVERED_AFTER_NS`, in two pictures or more. With two pictures a second it is found within 1.5 s
   after the lens was covered, with one within 2 s; it takes a picture every 1.5 s to find it within 3 s. Clear again:
   a picture is beyond `STAY`, which is wider than `ENTER`, for `CLEAR_PICTURES` pictures in a row.
3. Frozen: for `FROZEN_AFTER_NS` at most one sample in a hundred differed from the first of these pictures. A sensor's
   noise changes more than that in the most static scene. Clear again: one picture that differs.
4. Covered takes precedence over frozen. A picture of another size, or with an earlier time, resets the watch; darkness
   before `GAP_NS` without a picture does not count either.

Limits: it can't tell a covered lens from a room without any light, nor detect that a lens is turned away or smeared, or
that a loop is shown to it. A frozen picture that was encoded is detected only if the encoder codes it alike each time,
with one quantiser; an encoder that follows a bit rate makes pictures that differ as a static scene's do (measured).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from operator import ne, sub

from agent.clock import NS
from agent.errors import SourceError

COLUMNS, ROWS = 64, 36
"""Samples by which a picture is evaluated, at most."""
PARTS_ACROSS, PARTS_DOWN = 8, 6
SMALLEST = PARTS_ACROSS * 2, PARTS_DOWN * 2

COVERED_AFTER_NS = NS
CLEAR_PICTURES = 2
FROZEN_AFTER_NS = 4 * NS
FROZEN_PICTURES = 3
SAME_SHARE = 0.01
GAP_NS = 10 * NS


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture through a covered lens stays below, in steps of 8-bit brightness (black is 0 or 16).

    Attributes:
        mean: Of all samples.
        spread: Between the darkest and the brightest sample, without a hundredth of either.
        parts: Between the means of the darkest and the brightest of 8 x 6 parts.
        change: Mean change of a sample from one picture to the next; noise of 2.6 steps (standard deviation) gives 3.
    """

    mean: float
    spread: int
    parts: float
    change: float


ENTER = Limits(mean=40, spread=14, parts=6, change=3)
STAY = Limits(mean=48, spread=24, parts=10, change=5)


class View(StrEnum):
    """What the camera sees."""

    CLEAR = "clear"
    COVERED = "covered"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class LensState:
    """What the camera sees, and since when, on the recorder's monotonic clock: the first picture that showed it."""

    view: View
    since_ns: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Brightness of a picture in `columns` x `rows` places, row by row."""

    data: bytes
    columns: int
    rows: int


def sampled(luma: bytes | memoryview, width: int, height: int, *, stride: int = 0) -> Samples:
    """Samples of a picture's brightness, spread evenly: every picture of one size is sampled in the same places.

    Args:
        luma: 8-bit brightness, row by row: the first plane of YUV420, NV12 or grey. May be longer, and of any shape
            that is contiguous.
        width: Pixels, at least `SMALLEST`.
        height: Pixels, likewise.
        stride: Bytes from one row to the next; 0 for `width`.

    Raises:
        SourceError: The picture is too small, or `luma` too short for it.
    """
    stride = stride or width
    try:
        luma = memoryview(luma).cast("B")
    except (TypeError, ValueError) as error:
        raise SourceError(f"expected brightness in one piece of memory, got a view that is not: {error}") from error
    if width < SMALLEST[0] or height < SMALLEST[1] or stride < width or len(luma) < stride * (height - 1) + width:
        raise SourceError(
            f"expected the brightness of {SMALLEST[0]}x{SMALLEST[1]} pixels or more, "
            f"got {width}x{height} with {stride} bytes a row in {len(luma)} bytes"
        )
    step = -(-width // COLUMNS)
    first = step // 2
    columns, rows = len(range(first, width, step)), min(ROWS, height)
    starts = [(2 * row + 1) * height // (2 * rows) * stride for row in range(rows)]
    return Samples(b"".join(bytes(luma[start + first : start + width : step]) for start in starts), columns, rows)


class LensWatch:
    """Watches a camera's view, picture by picture. Not for more than one thread."""

    def __init__(self) -> None:
        self._state: LensState | None = None
        self._before: Samples | None = None
        self._before_ns = 0
        self._shade_before = False
        self._dark_since_ns: int | None = None
        self._bright_since_ns = 0
        self._bright_pictures = 0
        self._still: Samples | None = None
        self._still_since_ns = 0
        self._still_pictures = 0

    def feed(self, luma: bytes | memoryview, width: int, height: int, at_ns: int, *, stride: int = 0) -> LensState:
        """Evaluate the next picture, taken at `at_ns`; other arguments as of `sampled`. Returns the state after it.

        Raises:
            SourceError: As `sampled`.
        """
        return self.look(sampled(luma, width, height, stride=stride), at_ns)

    def look(self, picture: Samples, at_ns: int) -> LensState:
        """Evaluate the next picture, sampled already. Returns the state after it."""
        state = self._state or LensState(View.CLEAR, at_ns)
        before = self._before
        if (
            before is None
            or (before.columns, before.rows) != (picture.columns, picture.rows)
            or at_ns < self._before_ns
        ):
            self._before = self._still = self._dark_since_ns = None
        elif at_ns - self._before_ns > GAP_NS:
            self._dark_since_ns = None
        covered = state.view is View.COVERED
        self._watch_darkness(picture, at_ns, covered=covered)
        self._watch_stillness(picture, at_ns)
        self._before, self._before_ns = picture, at_ns

        dark_since_ns = self._dark_since_ns
        still_ns = at_ns - self._still_since_ns
        now = LensState(View.CLEAR, self._bright_since_ns if covered else at_ns)
        if dark_since_ns is not None and (covered or at_ns - dark_since_ns >= COVERED_AFTER_NS):
            now = LensState(View.COVERED, dark_since_ns)
        elif self._still_pictures >= FROZEN_PICTURES and still_ns >= FROZEN_AFTER_NS:
            now = LensState(View.FROZEN, self._still_since_ns)
        self._state = state if now.view is state.view else now
        return self._state

    def _watch_darkness(self, picture: Samples, at_ns: int, *, covered: bool) -> None:
        limits = STAY if covered else ENTER
        dark = shade = _is_one_dark_shade(picture, limits)
        if shade and self._shade_before and self._before is not None:
            # Only from dark to dark: the first dark picture differs by the hand that covers the lens.
            dark = _change(self._before.data, picture.data) <= limits.change
        self._shade_before = shade
        if dark:
            self._bright_pictures = 0
            if self._dark_since_ns is None:
                self._dark_since_ns = at_ns
            return
        if not self._bright_pictures:
            self._bright_since_ns = at_ns
        self._bright_pictures += 1
        if not covered or self._bright_pictures >= CLEAR_PICTURES:
            self._dark_since_ns = None

    def _watch_stillness(self, picture: Samples, at_ns: int) -> None:
        if self._still is not None and _differing(self._still.data, picture.data) <= SAME_SHARE * len(picture.data):
            self._still_pictures += 1
        else:
            self._still, self._still_since_ns, self._still_pictures = picture, at_ns, 1


def _differing(one: bytes, other: bytes) -> int:
    """How many samples differ at all."""
    return 0 if one == other else sum(map(ne, one, other))


def _change(one: bytes, other: bytes) -> float:
    """Mean change of a sample."""
    total: int = sum(map(abs, map(sub, one, other)))
    return total / len(one)


def _is_one_dark_shade(picture: Samples, limits: Limits) -> bool:
    data = picture.data
    if sum(data) > limits.mean * len(data):
        return False
    ordered = sorted(data)
    cut = len(data) // 100
    if ordered[-1 - cut] - ordered[cut] > limits.spread:
        return False
    parts = list(_part_means(picture))
    return max(parts) - min(parts) <= limits.parts


def _part_means(picture: Samples) -> Iterator[float]:
    """Mean brightness of each of 8 x 6 parts of a picture."""
    columns = [n * picture.columns // PARTS_ACROSS for n in range(PARTS_ACROSS + 1)]
    rows = [n * picture.rows // PARTS_DOWN * picture.columns for n in range(PARTS_DOWN + 1)]
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            total = sum(sum(picture.data[row + left : row + right]) for row in range(top, bottom, picture.columns))
            yield total * picture.columns / ((right - left) * (bottom - top))
