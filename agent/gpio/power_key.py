"""The machine's power button, read from the kernel's input layer: a press is a request to power off.

The kernel has debounced it (gpio-keys, `debounce-interval`), and some buttons report press and release at once (ACPI):
so each press counts, however short, and the policy decides it. Configuration makes systemd-logind ignore the button.
"""

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from agent.clock import NS, Monotonic
from agent.core.recording.events import Action, ActionRequested, LineFaulty, LineRecovered

LINE = "power_key"
RETRY_S = 1.0
"""Before a key that could not be read is reopened."""
SPACING_NS = NS
"""A key that is pressed repeatedly makes one request in this time."""

_EVENT = struct.Struct("llHHi")
"""input_event (linux/input.h): time in seconds and microseconds, type, code, value."""
_EV_KEY, _KEY_POWER, _PRESSED = 1, 116, 1

Put = Callable[[ActionRequested | LineFaulty | LineRecovered], None]


class PowerKey:
    """Reads one input device in a thread of its own, and reopens it when it disappears.

    Args:
        path: Of the input device.
        monotonic: The clock.
        put: Takes requests and faults; must only enqueue.
    """

    def __init__(self, path: Path, monotonic: Monotonic, put: Put) -> None:
        self._path = path
        self._monotonic = monotonic
        self._put = put
        self._requested_ns: int | None = None
        self._faulty = False

    def start(self) -> None:
        """Begin to read; the thread ends with the process."""
        threading.Thread(target=self._run, name="power-key", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.read()
            pause.wait(RETRY_S)

    def read(self) -> None:
        """Read until it fails. Of several failures in a row the first is reported."""
        why = self._read()
        if not self._faulty:
            self._faulty = True
            self._put(LineFaulty(self._monotonic(), LINE, f"lost: {why}"))

    def _read(self) -> str:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return error.strerror or "unknown"
        try:
            if self._faulty:
                self._faulty = False
                self._put(LineRecovered(self._monotonic(), LINE))
            while data := os.read(handle, _EVENT.size):
                self._handle(data)
            return "it ended"
        except OSError as error:
            return error.strerror or "unknown"
        finally:
            os.close(handle)

    def _handle(self, data: bytes) -> None:
        if len(data) != _EVENT.size:
            return
        _seconds, _microseconds, kind, code, value = _EVENT.unpack(data)
        now_ns = self._monotonic()
        pressed = (kind, code, value) == (_EV_KEY, _KEY_POWER, _PRESSED)
        if pressed and (self._requested_ns is None or now_ns - self._requested_ns >= SPACING_NS):
            self._requested_ns = now_ns
            self._put(ActionRequested(now_ns, Action.POWER_OFF))
