"""What the recorder reports of its own health: to the service manager (sd_notify(3)), and at the start of a shift.

The rules of the heartbeat, in order:
1. The recorder is ready as soon as storage was read and the camera delivers: a start would lose nothing.
2. It is ready after `READY_TIMEOUT_NS` all the same. A missing camera or card is a fault that the wearer is shown; a
   service that never becomes ready would be killed and restarted endlessly, and so would units that wait for it.
3. It is alive while its control loop runs. Whether packets come in and storage takes them does not matter here: no
   restart repairs a camera or a card.

The self-test tells a malfunction from an excuse in court. It reads the recorder's own status after it has come up;
`bwc-agent doctor` tests more, and disturbs more.
"""

from agent.clock import NS
from agent.core.recording.events import SelfTested
from agent.recorder.ipc.status import Status

READY_TIMEOUT_NS = 10 * NS
STUCK_NS = 5 * NS
"""A control loop that has not run for this long hangs. The unit's watchdog waits twice as long."""
ALIVE_NS = NS
"""The interval of the watchdog messages."""

MIN_FREE_BYTES = 1 << 30
FRESH_MS = 2000
SLOW_SYNC_MS = 150

READY = "READY=1"
ALIVE = "WATCHDOG=1"


class Heartbeat:
    """Decides what to send to the service manager; `beat` is to be called a few times a second.

    Attributes:
        ready: Readiness was reported.
    """

    def __init__(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._turns = -1
        self._alive_ns = now_ns - ALIVE_NS
        self._turned_ns = now_ns
        self.ready = False

    def beat(self, now_ns: int, *, turns: int, standing_by: bool) -> list[str]:
        """The messages to send now.

        Args:
            now_ns: The monotonic time.
            turns: How often the control loop has run so far.
            standing_by: Storage was read and the camera delivers.
        """
        messages = []
        if turns != self._turns:
            self._turns, self._turned_ns = turns, now_ns
        if not self.ready and (standing_by or now_ns - self._began_ns >= READY_TIMEOUT_NS):
            self.ready = True
            messages.append(READY)
        if now_ns - self._turned_ns < STUCK_NS and now_ns - self._alive_ns >= ALIVE_NS:
            self._alive_ns = now_ns
            messages.append(ALIVE)
        return messages


def self_test(status: Status, now_ns: int, *, microphone: bool) -> SelfTested:
    """The checks that passed and those that failed, by a status taken after the recorder came up.

    Args:
        status: A snapshot.
        now_ns: The monotonic time.
        microphone: True if this device is to have one.
    """
    failed: dict[str, str] = {}
    for kind in ("video", "audio") if microphone else ("video",):
        track = status.tracks.get(kind)
        if track is None or track.age_ms is None:
            failed["camera" if kind == "video" else "microphone"] = "has delivered nothing"
        elif track.age_ms > FRESH_MS:
            failed["camera" if kind == "video" else "microphone"] = f"silent for {track.age_ms} ms"
    if status.storage_failing:
        failed["storage"] = "refuses"
    elif status.storage_free_bytes is None or status.storage_free_bytes < MIN_FREE_BYTES:
        failed["storage"] = f"{status.storage_free_bytes} bytes free"
    elif status.slowest_sync_ms > SLOW_SYNC_MS:
        failed["storage"] = f"a sync took {status.slowest_sync_ms} ms"
    state = status.device_state
    if state.events or state.problem or state.anchor_problem:
        failed["device_state"] = "; ".join(filter(None, [*state.events, state.problem, state.anchor_problem]))
    if status.clock_within_ms is None:
        failed["clock"] = f"{status.clock}: unsynchronised"
    if status.faulty_lines:
        failed["inputs"] = ", ".join(status.faulty_lines)
    if status.configuration.origin != "file":
        failed["configuration"] = f"{status.configuration.origin}: {status.configuration.problem}"
    if not status.locked_memory:
        failed["memory"] = "not locked: what is in it can reach swap"
    names = [
        "camera",
        *(["microphone"] if microphone else []),
        "storage",
        "device_state",
        "clock",
        "inputs",
        "configuration",
        "memory",
        "keys",
    ]
    # Without keys that were read, checked and used to sign a line there would be no recorder.
    return SelfTested(now_ns, tuple(name for name in names if name not in failed), failed)
