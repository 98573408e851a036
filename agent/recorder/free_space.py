"""How much room storage has, asked without waiting for it: a storage that hangs answers nothing, for hours."""

import threading
from collections.abc import Callable

from agent.errors import StorageError

PATIENCE_S = 0.25


class FreeSpace:
    """Asks in a thread of its own each time, of which there is one at the most.

    Args:
        ask: Gives the bytes that may still be written; may block, or raise `StorageError`.
        patience_s: How long an answer is waited for.
    """

    def __init__(self, ask: Callable[[], int], patience_s: float = PATIENCE_S) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def bytes(self) -> int | None:
        """Bytes that may still be written; None if storage does not say so in time. From any thread."""
        answers: list[int] = []

        def ask() -> None:
            try:
                answers.append(self._ask())
            except StorageError:
                return

        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return None
            self._thread = threading.Thread(target=ask, name="free space", daemon=True)
            self._thread.start()
            self._thread.join(self._patience_s)
        return answers[0] if answers else None
