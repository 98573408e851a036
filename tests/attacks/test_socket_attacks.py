"""Whoever may speak to the local socket may ask nonsense as often as they like: it must answer the next one."""

import errno
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ControlError
from agent.recorder.ipc import local_socket
from agent.recorder.ipc.local_socket import LocalServer, ask


def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    match request:
        case {"hold_s": (int() | float()) as hold_s}:
            return {"hold_s": float(hold_s)}
        case {"ask": "mistake"}:
            raise RuntimeError("a mistake of ours")
        case _:
            return {"well": True}


@contextmanager
def served(folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(folder, answer, lambda _why: None)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("request_", [{"ask": "mistake"}, {"hold_s": 10**400}])
def test_request_that_triggers_an_error_does_not_end_the_socket(tmp_path: Path, request_: dict[str, Any]) -> None:
    with served(tmp_path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(tmp_path / local_socket.NAME))
            connection.sendall(str(request_).replace("'", '"').encode() + b"\n")
            assert b"error" in connection.recv(1 << 16)
        assert ask(tmp_path, {"ask": "status"}) == {"well": True}


def test_moment_without_file_handles_does_not_end_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Event()
    accept = socket.socket.accept

    def exhausted(listener: socket.socket) -> tuple[socket.socket, Any]:
        if not refused.is_set():
            refused.set()
            raise OSError(errno.EMFILE, "too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", exhausted)
    with served(tmp_path):
        assert refused.wait(5)
        assert ask(tmp_path, {"ask": "status"}) == {"well": True}


def test_caller_that_sends_a_byte_at_a_time_delays_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "TIMEOUT_S", 0.3)
    with served(tmp_path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.connect(str(tmp_path / local_socket.NAME))
        done = threading.Event()

        def drip() -> None:
            while not done.wait(0.05):
                try:
                    slow.sendall(b" ")
                except OSError:
                    return

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        dripping.join(3)
        done.set()
        assert not dripping.is_alive()
        monkeypatch.setattr(local_socket, "TIMEOUT_S", 5.0)
        assert ask(tmp_path, {"ask": "status"}) == {"well": True}


def test_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ControlError, match="directory"):
        LocalServer(tmp_path, answer, lambda _why: None).start()
