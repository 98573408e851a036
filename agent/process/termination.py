"""How a service is told to end."""

import signal
import threading


def until_told() -> threading.Event:
    """An event that is set when this process is told to end (SIGTERM, SIGINT); to be called in the main thread."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ending.set())
    return ending
