"""Which moment has surely passed: what clocks that state their error have said, and the monotonic time since.

Nobody can set it back, and a clock that nobody vouches for can't set it forward. So it tells whether a clock that is
vouched for and shows less than one that was not may be believed: it may, as long as it does not lie before this.
"""

from dataclasses import dataclass

from agent.clock import NS, WallReading

SLACK = 1000
"""The monotonic clock may run fast by one part in so many: what is slewed (500 ppm) and the crystal's own error."""


@dataclass(slots=True)
class TimeLowerBound:
    """A moment that has surely passed, at a time of the monotonic clock.

    Attributes:
        utc_ns: Nanoseconds since 1970; 0 if nothing is known.
        mono_ns: When that was known.
    """

    utc_ns: int = 0
    mono_ns: int = 0

    def at(self, mono_ns: int) -> int:
        """What has surely passed by now; 0 if nothing is known."""
        elapsed = max(0, mono_ns - self.mono_ns)
        return self.utc_ns + elapsed - elapsed // SLACK if self.utc_ns else 0

    def contradicts(self, reading: WallReading, mono_ns: int) -> bool:
        """True if a reading, its error considered, lies before what has surely passed."""
        return latest_ns(reading) < self.at(mono_ns)

    def learn(self, reading: WallReading, mono_ns: int) -> None:
        """Take in a reading; one that nobody vouches for teaches nothing."""
        if reading.uncertainty_s is not None:
            earliest = reading.utc_ns - round(reading.uncertainty_s * NS)
            self.utc_ns, self.mono_ns = max(earliest, self.at(mono_ns)), mono_ns


def latest_ns(reading: WallReading) -> int:
    """The latest moment that a reading may mean."""
    return reading.utc_ns + round((reading.uncertainty_s or 0.0) * NS)
