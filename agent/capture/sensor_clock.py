"""A sensor's timestamps on the recorder's monotonic clock.

libcamera documents `SensorTimestamp` as CLOCK_BOOTTIME. But it passes on the timestamp of the kernel's buffer, which
V4L2 drivers take from CLOCK_MONOTONIC (`V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC`), and its virtual camera and some pipelines
use that clock too. The two differ by the time that the machine was suspended; on a camera that never sleeps they are
equal. So the clock is measured: a picture was taken a little before it arrived, on one clock or the other.
"""

from agent.clock import NS
from agent.errors import SourceError

OLDEST_NS = 2 * NS
"""A timestamp further than this before the arrival is on another clock."""
EARLIEST_NS = NS // 200
"""A picture may seem to arrive this long before it was taken: the clocks are read one after the other."""


def behind_ns(sensor_ns: int, arrived_ns: int, boottime_ahead_ns: int) -> int:
    """What to subtract from a sensor's timestamps to get monotonic times: 0, or `boottime_ahead_ns`.

    Args:
        sensor_ns: The timestamp of a picture.
        arrived_ns: The monotonic time at which that picture arrived.
        boottime_ahead_ns: How far CLOCK_BOOTTIME is ahead of the monotonic clock.

    Raises:
        SourceError: The timestamp is on neither clock.
    """
    ages = {off: arrived_ns - (sensor_ns - off) for off in (0, boottime_ahead_ns)}
    fitting = {off: age for off, age in ages.items() if -EARLIEST_NS <= age <= OLDEST_NS}
    if not fitting:
        raise SourceError(
            "expected sensor timestamps on CLOCK_MONOTONIC or CLOCK_BOOTTIME; this picture would have been taken "
            f"{ages[0] / NS:+.3f} s or {ages[boottime_ahead_ns] / NS:+.3f} s before it came"
        )
    return min(fitting, key=lambda off: abs(fitting[off]))
