"""What lies on the card, counted by names and sizes; nothing is opened."""

import contextlib
from pathlib import Path

from agent.dock.messages import Evidence
from agent.errors import StorageError
from agent.evidence import layout
from agent.storage.interface import Storage

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")


def held(storage: Storage) -> Evidence:
    """What is held. No receipts are kept on a device yet, so that all of it is pending."""
    recordings = segments = size = 0
    with contextlib.suppress(StorageError):
        for recording in storage.names(layout.RECORDINGS):
            recordings += 1
            for name in storage.names(layout.recording(recording)):
                part = layout.segment_part(name)
                if part is not None and part[1] == "seg":
                    segments += 1
                    size += storage.size(f"{layout.recording(recording)}/{name}") or 0
    return Evidence(recordings=recordings, segments=segments, bytes=size, pending_segments=segments)


def temperature_c() -> float | None:
    """Of the processor (Documentation/driver-api/thermal/sysfs-api.rst, millidegrees); None where none is measured."""
    try:
        return int(_THERMAL.read_text("ascii")) / 1000
    except (OSError, ValueError):
        return None
