"""The capture time of sound, from sample counts, on the recorder's monotonic clock.

A sound card counts samples by its own crystal, which is off by some parts in a million and drifts with temperature; the
arrival time of a block of samples is right on average, but delayed whenever the machine is busy. So times are sample
counts, and the line that maps counts to times is corrected slowly towards the clock. The wall clock is not used.

The rules, in order:
1. A block can arrive late, never early: of all blocks in a window, the one that arrived earliest for its count says
   where the line should be. A window lasts `WINDOW_NS` of continuous blocks: a pause longer than `PAUSE_NS` is not
   counted, so that a machine that stalled has caught up before the line is corrected.
2. The first window only sets the line: there are no times before it is over.
3. The error of the line is removed over `FOLLOW_NS`, by at most `MAX_SLEW` of the elapsed time. A crystal with a
   relative error d leaves a constant error of d x (`FOLLOW_NS` + `WINDOW_NS`): 1.7 ms for 200 ppm.
4. Late by more than `JUMP_NS` for `JUMP_WINDOWS` windows in a row: samples were lost (an overrun). The line jumps, and
   the lost sound is a gap. A machine that is so busy that no block arrives in time for so long is taken for that too;
   rule 5 corrects it.
5. Early by as much: sound arrived before it can have been captured, so the card's rate is wrong. The line can't correct
   that: the microphone has to be reopened.
"""

from agent.clock import NS
from agent.errors import SourceError

WINDOW_NS = NS // 2
FOLLOW_NS = 8 * NS
MAX_SLEW = 0.002
JUMP_NS = NS // 20
JUMP_WINDOWS = 4
PAUSE_NS = NS // 4


class SoundClock:
    """The line from sample counts to monotonic times of one opening of a microphone.

    Args:
        rate: The card's nominal rate, in samples a second.
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
        """Samples that have arrived."""
        return self._count

    def add_block(self, samples: int, at_ns: int) -> None:
        """Add a block of samples that has just arrived whole.

        Raises:
            SourceError: It arrived before it can have been captured (rule 5).
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
            self._slew = max(-MAX_SLEW, min(MAX_SLEW, off_ns / FOLLOW_NS))

    def time_ns(self, count: int) -> int:
        """The monotonic time at which sample `count`, counted from 0, was captured; only once the clock has `settled`.

        For the newest samples: later corrections change the result for earlier ones.
        """
        ahead_ns = self._nominal_ns(count - self._anchor)
        return self._anchor_ns + ahead_ns + round(ahead_ns * self._slew)

    def _nominal_ns(self, count: int) -> int:
        return count * NS // self._rate
