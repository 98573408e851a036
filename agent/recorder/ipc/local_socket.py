"""The recorder's local socket: one request and one answer a connection, JSON, from the same user or root only.

A request can start a recording, mark a moment and read the status. It can't stop anything: no such request exists, so
that no error in a rule could grant one.
"""

import contextlib
import errno
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.encoding.strict_json import encode_json, strict_json
from agent.errors import ControlError, EvidenceError

NAME = "recorder.sock"
MAX_REQUEST = 1 << 16
MAX_ANSWER = 1 << 20
TIMEOUT_S = 5.0
MAX_CONNECTIONS = 16
"""The most connections that are served at once; a silent one occupies one of them and does not delay the others."""
MAX_PATH = 107
"""Bytes of a socket's path (unix(7), sun_path)."""
RETRY_S = 0.2
"""How long to wait after a connection could not be accepted."""
_CREDENTIALS = struct.Struct("3i")

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end (unix(7), SO_PEERCRED), stamped by the kernel at connect."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])


class LocalServer:
    """Listens in a run directory.

    Args:
        directory: Holds the socket; only its owner can reach it.
        handler: Answers a request; runs in a thread of the connection, so several may run at once.
        refused: Takes the reason why a connection was rejected.
    """

    def __init__(self, directory: Path, handler: Handler, refused: Callable[[str], None]) -> None:
        self._path = directory / NAME
        self._handler = handler
        self._refused = refused
        self._listener: socket.socket | None = None
        self._closed = threading.Event()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def start(self) -> None:
        """Bind and serve in a thread of its own.

        Raises:
            ControlError: Another recorder has the socket, or the directory belongs to another user.
        """
        if len(os.fsencode(self._path)) > MAX_PATH:
            raise ControlError(
                errno.ENAMETOOLONG,
                f"expected a socket's path of at most {MAX_PATH} bytes, got {self._path}; "
                "name a shorter [run] directory",
            )
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_directory()
            if os.path.lexists(self._path):
                self._clear_stale()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(4 * MAX_CONNECTIONS)
        except OSError as error:
            raise ControlError(
                error.errno, f"can't listen on {self._path}: {error.strerror}; name a [run] directory of your own"
            ) from error
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), name="socket", daemon=True).start()

    def _check_directory(self) -> None:
        """Whoever may write in it could replace our socket by theirs, or the snapshot by a link."""
        facts = self._path.parent.stat()
        others = stat.S_IWOTH | (0 if facts.st_gid == os.getegid() else stat.S_IWGRP)
        if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & others:
            raise ControlError(
                errno.EPERM,
                f"expected the directory {self._path.parent} to be the recorder's own and writable by nobody else; "
                "chmod 700 it, or name another one as [run] directory",
            )

    def _clear_stale(self) -> None:
        if not stat.S_ISSOCK(self._path.lstat().st_mode):
            raise ControlError(
                errno.EEXIST, f"expected a socket or nothing at {self._path}, found another file; remove it"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT_S)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()  # its process has ended
            except (TimeoutError, BlockingIOError):  # its process is busy
                raise ControlError(errno.EADDRINUSE, f"a recorder is running already: {self._path} is taken") from None
            else:
                raise ControlError(errno.EADDRINUSE, f"a recorder is running already: {self._path} answers")

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._closed.wait(RETRY_S):  # otherwise it is temporary, such as a lack of file descriptors
                    return
                continue
            if not self._places.acquire(blocking=False):
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(RETRY_S)
                    _send(connection, {"error": "too many connections at once; try again"})
                continue
            try:
                threading.Thread(target=self._converse, args=(connection,), name="socket-peer", daemon=True).start()
            except RuntimeError:  # no thread is left
                self._places.release()
                connection.close()

    def _converse(self, connection: socket.socket) -> None:
        # The caller may disconnect; the journal says whether the request was carried out.
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(TIMEOUT_S)
                self._answer(connection)
        finally:
            self._places.release()

    def _answer(self, connection: socket.socket) -> None:
        uid = peer_uid(connection)
        if uid not in {0, os.geteuid()}:
            self._refused(f"a process of user {uid} connected")
            _send(connection, {"error": "this socket is for the recorder's own user and root"})
            return
        try:
            request = strict_json(_receive(connection, MAX_REQUEST))
        except (EvidenceError, ControlError) as error:
            _send(connection, {"error": str(error)})
            return
        try:
            answer = self._handler(request)
        except (EvidenceError, ControlError) as error:
            answer = {"error": str(error)}
        except TimeoutError:
            answer = {"error": "the recorder is busy and did not answer in time; the request may still be carried out"}
        except Exception as error:  # noqa: BLE001 - no request may end the recorder
            self._refused(f"a request failed: {type(error).__name__}")
            answer = {"error": f"this request could not be handled: {type(error).__name__}"}
        _send(connection, answer)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._closed.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)


def _receive(connection: socket.socket, limit: int) -> bytes:
    """A whole message, received within `TIMEOUT_S`."""
    data = bytearray()
    until = time.monotonic() + TIMEOUT_S
    while not data.endswith(b"\n"):
        connection.settimeout(max(0.001, until - time.monotonic()))
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        data += chunk
        if len(data) > limit:
            raise ControlError(errno.EMSGSIZE, f"expected a message of at most {limit} bytes")
    return bytes(data).rstrip(b"\n")


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.sendall(encode_json(message) + b"\n")


def ask(directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to the recorder and return its answer.

    Raises:
        ControlError: There is no recorder, it is another user's, it refused, or did not answer in time.
    """
    path = directory / NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError):  # rejected before the request was read: the answer says why
                _send(connection, request)
            data = _receive(connection, MAX_ANSWER)
        except PermissionError as error:
            raise ControlError(
                error.errno, f"{path} is not for this user; use the recorder's own user or root"
            ) from error
        except OSError as error:
            raise ControlError(
                error.errno or 0, f"no recorder answers at {path}: {error}; start it with: bwc-agent run --config FILE"
            ) from error
    try:
        answer = strict_json(data)
    except EvidenceError as error:
        raise ControlError(errno.EPROTO, f"the recorder's answer is no JSON object: {error}") from error
    if "error" in answer:
        raise ControlError(errno.EPERM, str(answer["error"]))
    return answer
