"""A lower bound of the time: the newest reading of a clock with a known error, and the monotonic time since.

Nobody can set it back, and an unsynchronised clock can't move it forward. So it decides whether a synchronised clock
that shows an earlier time than an unsynchronised one did may be trusted: it may, unless it lies before this bound.
"""

from dataclasses import dataclass

from agent.clock import NS, WallReading

SLACK = 1000
"""The monotonic clock may run fast by one part in so many: what is slewed (500 ppm) and the crystal's own error."""


@dataclass(slots=True)
class TimeLowerBound:
    """A time that has certainly passed, at a reading of the monotonic clock.

    Attributes:
        utc_ns: Nanoseconds since 1970; 0 if nothing is known.
        mono_ns: The monotonic clock then.
    """

    utc_ns: int = 0
    mono_ns: int = 0

    def at(self, mono_ns: int) -> int:
        """The bound at a later reading of the monotonic clock; 0 if nothing is known."""
        elapsed = max(0, mono_ns - self.mono_ns)
        return self.utc_ns + elapsed - elapsed // SLACK if self.utc_ns else 0

    def contradicts(self, reading: WallReading, mono_ns: int) -> bool:
        """True if a reading, its error considered, lies before the bound."""
        return latest_ns(reading) < self.at(mono_ns)

    def learn(self, reading: WallReading, mono_ns: int) -> None:
        """Take in a reading; one of an unsynchronised clock changes nothing."""
        if reading.uncertainty_s is not None:
            earliest = reading.utc_ns - round(reading.uncertainty_s * NS)
            self.utc_ns, self.mono_ns = max(earliest, self.at(mono_ns)), mono_ns


def latest_ns(reading: WallReading) -> int:
    """The latest time that a reading may stand for."""
    return reading.utc_ns + round((reading.uncertainty_s or 0.0) * NS)
