"""The test at the start of a shift: in court it decides between malfunction and excuse.

It looks at what the recorder itself sees after it has come up; `bwc-agent doctor` looks deeper, and disturbs more.
"""

from agent.core.recording.events import SelfTested
from agent.recorder.ipc.status import Status

LEAST_FREE_BYTES = 1 << 30
FRESH_MS = 2000
SLOW_SYNC_MS = 150


def self_test(status: Status, now_ns: int, *, microphone: bool) -> SelfTested:
    """What passed and what did not, by a status taken after the recorder came up.

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
    elif status.storage_free_bytes is None or status.storage_free_bytes < LEAST_FREE_BYTES:
        failed["storage"] = f"{status.storage_free_bytes} bytes free"
    elif status.slowest_sync_ms > SLOW_SYNC_MS:
        failed["storage"] = f"a sync took {status.slowest_sync_ms} ms"
    state = status.device_state
    if state.events or state.problem or state.anchor_problem:
        failed["device_state"] = "; ".join(filter(None, [*state.events, state.problem, state.anchor_problem]))
    if status.clock_within_ms is None:
        failed["clock"] = f"{status.clock}: not synchronised"
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
    # The keys were read, their certificates checked, and a line signed with them, or there would be no recorder.
    return SelfTested(now_ns, tuple(name for name in names if name not in failed), failed)
