"""What the service manager is told: when the recorder is ready, and that it lives (sd_notify(3)).

The rules, in order:
1. It is ready as soon as storage was read and the camera delivers: a start would lose nothing.
2. It is ready after `PATIENCE_NS` all the same. A camera or a card that is missing is a fault that the wearer sees; a
   service that is never ready would be killed and started over and over, and whatever waits for it would wait for ever.
3. It lives while its control loop turns. That packets come in, and that storage takes them, is not asked: no restart
   mends a camera or a card.
"""

from agent.clock import NS

PATIENCE_NS = 10 * NS
STUCK_NS = 5 * NS
"""A control loop that has not turned for so long hangs. The unit's watchdog waits twice as long."""
ALIVE_NS = NS
"""So often it is said that it lives."""

READY = "READY=1"
ALIVE = "WATCHDOG=1"


class Heartbeat:
    """Decides what to tell; to be asked a few times a second.

    Args:
        now_ns: The monotonic time.

    Attributes:
        ready: The recorder was said to be ready.
    """

    def __init__(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._turns = -1
        self._alive_ns = now_ns - ALIVE_NS
        self._turned_ns = now_ns
        self.ready = False

    def beat(self, now_ns: int, *, turns: int, standing_by: bool) -> list[str]:
        """What to tell now.

        Args:
            now_ns: The monotonic time.
            turns: How often the control loop has turned so far.
            standing_by: Storage was read and the camera delivers.
        """
        said = []
        if turns != self._turns:
            self._turns, self._turned_ns = turns, now_ns
        if not self.ready and (standing_by or now_ns - self._began_ns >= PATIENCE_NS):
            self.ready = True
            said.append(READY)
        if now_ns - self._turned_ns < STUCK_NS and now_ns - self._alive_ns >= ALIVE_NS:
            self._alive_ns = now_ns
            said.append(ALIVE)
        return said
