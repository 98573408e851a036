"""When captured sound was heard, from how much of it came: sample counts on the recorder's monotonic clock.

A sound card counts samples by a crystal of its own, which is off by some parts in a million and drifts with warmth; the
time at which a block of samples comes in is right on average, but late by whatever the machine was busy with. So times
are sample counts, and the line that leads from counts to times is corrected slowly towards the clock. The wall clock is
nowhere in it.

The rules, in order:
1. A block can come in late, never early: of all blocks of a window, the one that came earliest for its count says
   where the line should be. A window lasts `WINDOW_NS` in which blocks came one after the other: a pause longer than
   `PAUSE_NS` is not counted, so that a machine that stalled has caught up before anything is concluded.
2. The first window only sets the line: nothing has a time before it is over.
3. What the line is off by is taken off it over `FOLLOW_NS`, by at most `MOST_SLEW` of the time that passes. A crystal
   that is off by d parts of 1 leaves the line off by d x (`FOLLOW_NS` + `WINDOW_NS`) for good: 200 ppm by 1.7 ms.
4. Off by more than `JUMP_NS` towards later, for `JUMP_WINDOWS` windows in a row: samples were lost (an overrun). The
   line jumps there, and what was lost is a gap. A machine so busy that for so long not one block comes in time is
   taken for that too; rule 5 mends it.
5. Off by as much towards earlier: sound came before it can have been heard, so the card's rate is not what it says. No
   correction mends that: the microphone has to be opened anew.
"""

from agent.clock import NS
from agent.errors import SourceError

WINDOW_NS = NS // 2
FOLLOW_NS = 8 * NS
MOST_SLEW = 0.002
JUMP_NS = NS // 20
JUMP_WINDOWS = 4
PAUSE_NS = NS // 4


class SoundClock:
    """The line from sample counts to monotonic times of one opening of a microphone.

    Args:
        rate: Samples a second, as the card says.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._count = 0
        self._anchor = 0
        self._anchor_ns = 0
        self._slew = 0.0
        self._came_ns: int | None = None
        self._window_ns = 0
        self._earliest_ns: int | None = None
        self._late_ns: list[int] = []
        self.settled = False
        self.jumps = 0

    @property
    def count(self) -> int:
        """Samples that have come in."""
        return self._count

    def came(self, samples: int, at_ns: int) -> None:
        """Note that a block of samples has just come in whole.

        Raises:
            SourceError: It came before it can have been heard (rule 5).
        """
        self._count += samples
        before_ns = at_ns if self._came_ns is None else self._came_ns
        self._came_ns = at_ns
        if at_ns - before_ns <= PAUSE_NS:
            self._window_ns += at_ns - before_ns
        offset_ns = at_ns - (self.time_ns(self._count) if self.settled else self._nominal_ns(self._count))
        if self._earliest_ns is None or offset_ns < self._earliest_ns:
            self._earliest_ns = offset_ns
        if self._window_ns < WINDOW_NS:
            return
        off_ns, self._window_ns, self._earliest_ns = self._earliest_ns, 0, None
        if not self.settled:
            self.settled = True
            self._anchor, self._anchor_ns = 0, off_ns
        else:
            self._correct(off_ns)

    def _correct(self, off_ns: int) -> None:
        anchor_ns = self.time_ns(self._count)
        self._anchor, self._anchor_ns = self._count, anchor_ns
        if off_ns < -JUMP_NS:
            raise SourceError(
                f"sound came {-off_ns / NS:.3f} s before it can have been heard: expected {self._rate} samples a second"
            )
        self._late_ns = [*self._late_ns, off_ns] if off_ns > JUMP_NS else []
        if len(self._late_ns) == JUMP_WINDOWS:
            self._anchor_ns += min(self._late_ns)
            self._slew = 0.0
            self._late_ns = []
            self.jumps += 1
        else:
            self._slew = max(-MOST_SLEW, min(MOST_SLEW, off_ns / FOLLOW_NS))

    def time_ns(self, count: int) -> int:
        """The monotonic time at which sample `count` was heard, counted from 0; only once it has `settled`.

        Of the newest samples: what was asked about earlier ones would be answered otherwise by now.
        """
        ahead_ns = self._nominal_ns(count - self._anchor)
        return self._anchor_ns + ahead_ns + round(ahead_ns * self._slew)

    def _nominal_ns(self, count: int) -> int:
        return count * NS // self._rate
