"""What a test's stand-ins have opened is closed in the test's own thread, right after it (see `tests/conftest.py`).

Left to the garbage collector, a database would be closed in whatever thread and test it runs in.
"""

from collections.abc import Callable

_pending: list[Callable[[], object]] = []


def after_test(close: Callable[[], object]) -> None:
    """Have something closed when the test that runs now has ended."""
    _pending.append(close)


def close_all() -> None:
    """Close what was opened since the last time, the newest first."""
    while _pending:
        _pending.pop()()
