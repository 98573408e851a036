"""Termination signals as an event."""

import signal
import threading


def termination_event() -> threading.Event:
    """An event that is set at SIGTERM or SIGINT; to be called in the main thread."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ending.set())
    return ending
