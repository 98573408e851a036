"""Clocks that tests drive."""

from agent.clock import NS, WallReading


class FakeClocks:
    """Both clocks, standing still until told otherwise."""

    def __init__(self, monotonic_ns: int = 0, utc_ns: int = 1_795_000_000 * NS) -> None:
        self.now_ns = monotonic_ns
        self.utc_offset_ns = utc_ns - monotonic_ns
        self.source = "ntp"
        self.uncertainty_s: float | None = 0.01

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall(self) -> WallReading:
        return WallReading(self.now_ns + self.utc_offset_ns, self.source, self.uncertainty_s)

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * NS)
