"""The machine's power button, as the kernel's input layer tells of it: a press is a request, and nothing more.

The kernel has debounced it (gpio-keys, `debounce-interval`), and some buttons tell press and release in one breath
(ACPI): so each press counts, however short, and is handed to the policy. systemd-logind is kept off by configuration.
"""

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from agent.clock import NS, Monotonic
from agent.core.recording.events import Action, ActionRequested, LineFaulty, LineRecovered

LINE = "power_key"
AGAIN_S = 1.0
"""How long to wait before a key that could not be read is opened again."""
SPACING_NS = NS
"""A key that is hammered asks once in this time."""

_EVENT = struct.Struct("llHHi")
"""input_event (linux/input.h): time in seconds and microseconds, type, code, value."""
_EV_KEY, _KEY_POWER, _PRESSED = 1, 116, 1

Put = Callable[[ActionRequested | LineFaulty | LineRecovered], None]


class PowerKey:
    """Reads one input device in a thread of its own, and opens it again when it goes away.

    Args:
        path: Of the input device.
        monotonic: The clock.
        put: Takes what is asked; must only enqueue.
    """

    def __init__(self, path: Path, monotonic: Monotonic, put: Put) -> None:
        self._path = path
        self._monotonic = monotonic
        self._put = put
        self._asked_ns: int | None = None
        self._faulty = False

    def start(self) -> None:
        """Begin to read; the thread ends with the process."""
        threading.Thread(target=self._run, name="power-key", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.read()
            pause.wait(AGAIN_S)

    def read(self) -> None:
        """Read until it fails; the first failure in a row is told."""
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
                self._heard(data)
            return "it ended"
        except OSError as error:
            return error.strerror or "unknown"
        finally:
            os.close(handle)

    def _heard(self, data: bytes) -> None:
        if len(data) != _EVENT.size:
            return
        _seconds, _microseconds, kind, code, value = _EVENT.unpack(data)
        now_ns = self._monotonic()
        pressed = (kind, code, value) == (_EV_KEY, _KEY_POWER, _PRESSED)
        if pressed and (self._asked_ns is None or now_ns - self._asked_ns >= SPACING_NS):
            self._asked_ns = now_ns
            self._put(ActionRequested(now_ns, Action.POWER_OFF))
