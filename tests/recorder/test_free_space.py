"""How much room there is, asked of a storage that may never answer."""

import errno
import threading

from agent.errors import StorageError
from agent.recorder.storage_watch import FreeSpace
from tests.support.running import wait_for


def test_answer_is_given() -> None:
    assert FreeSpace(lambda: 42).bytes() == 42


def test_refusal_is_no_answer() -> None:
    def refuse() -> int:
        raise StorageError(errno.EIO, "EIO")

    assert FreeSpace(refuse).bytes() is None


def test_storage_that_hangs_is_asked_by_one_thread_and_keeps_nobody_waiting() -> None:
    release, asked = threading.Event(), []

    def hang() -> int:
        asked.append(1)
        assert release.wait(60)
        return 7

    space = FreeSpace(hang, timeout_s=0.01)
    assert [space.bytes() for _ in range(5)] == [None] * 5
    assert len(asked) == 1
    release.set()
    thread = space._thread
    assert thread is not None
    wait_for(lambda: not thread.is_alive())
    assert FreeSpace(lambda: 7).bytes() == 7
