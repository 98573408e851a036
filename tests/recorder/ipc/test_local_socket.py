import contextlib
import errno
import os
import socket
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.encoding.strict_json import encode_json, strict_json
from agent.errors import ControlError, EvidenceError
from agent.recorder.ipc import local_socket
from agent.recorder.ipc.local_socket import MAX_CONNECTIONS, MAX_PATH, MAX_REQUEST, NAME, LocalServer, ask

NOBODY = 65534
PATIENCE_S = 10.0


def echo(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"asked": dict(request)}


@contextmanager
def served(folder: Path, handler: Callable[[Mapping[str, Any]], Mapping[str, Any]] = echo) -> Iterator[list[str]]:
    """A server; gives what it told about those whom it turned away."""
    told: list[str] = []
    server = LocalServer(folder, handler, told.append)
    server.start()
    try:
        yield told
    finally:
        server.close()


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(str(folder / NAME))
        yield connection


def answer(connection: socket.socket) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        data += chunk
    return strict_json(data.rstrip(b"\n"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short and that others may enter."""
    with tempfile.TemporaryDirectory(prefix="bwc-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# -- who may speak ----------------------------------------------------------------------------------------------------


def test_socket_is_its_owners_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        with served(folder / "run"):
            assert stat.S_IMODE((folder / "run" / NAME).stat().st_mode) == 0o600
            assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert not (folder / "run" / NAME).exists()


def as_nobody(work: Callable[[], bytes]) -> bytes:
    """What `work` gives in a process of another user."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only makes system calls
        child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, work())
            code = 0
        except OSError as error:
            os.write(writing, errno.errorcode[error.errno or 0].encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        data = said.read()
    os.waitpid(child, 0)
    return data


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_other_users_process_is_refused_by_the_file_system_and_if_that_fails_by_its_credentials(folder: Path) -> None:
    path = str(folder / NAME)

    def start() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(path)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(b'{"ask":"start"}\n')
            return connection.recv(1 << 16)

    asked: list[Mapping[str, Any]] = []

    def handler(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request)
        return {}

    with served(folder, handler) as told:
        assert as_nobody(start) == b"EACCES"
        (folder / NAME).chmod(0o666)
        assert b"own user" in as_nobody(start)
        assert told == [f"a process of user {NOBODY} connected"]
        assert asked == []
        assert ask(folder, {"ask": "start"}) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_tool_of_another_user_is_told_whose_socket_it_is(folder: Path) -> None:
    def tool() -> bytes:
        try:
            ask(folder, {"ask": "status"})
        except ControlError as error:
            return str(error.strerror).encode()
        return b"let in"

    with served(folder):
        assert b"not for this user" in as_nobody(tool)
        (folder / NAME).chmod(0o666)
        for _ in range(20):
            assert b"own user" in as_nobody(tool)


# -- what may be said -------------------------------------------------------------------------------------------------


def test_request_is_answered(folder: Path) -> None:
    with served(folder):
        assert ask(folder, {"ask": "status", "n": 1}) == {"asked": {"ask": "status", "n": 1}}


@pytest.mark.parametrize(
    "said",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b'"start"\n',
        b'{"ask":"start","ask":"stop"}\n',
        b'{"ask":NaN}\n',
        b'{"ask":1e999}\n',
        b'{"ask":"\\ud800"}\n',
        b"\xff\xfe\n",
        b"{" * 5000 + b"\n",
        b"[" * 60_000 + b"\n",
    ],
)
def test_malformed_request_is_answered_with_an_error_and_the_next_one_is_answered(folder: Path, said: bytes) -> None:
    with served(folder):
        with connected(folder) as connection:
            connection.sendall(said)
            assert set(answer(connection)) == {"error"}
        assert ask(folder, {"ask": "status"})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.binary(max_size=200))
def test_no_bytes_bring_the_server_down(said: bytes, server_folder: Path) -> None:
    with connected(server_folder) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        assert isinstance(answer(connection), dict)


@pytest.fixture(scope="module")
def server_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bwc-") as name, served(Path(name)):
        yield Path(name)


def test_request_of_any_length_is_refused_before_it_fills_memory(folder: Path) -> None:
    with served(folder):
        with connected(folder) as connection:
            try:
                for _ in range(64):
                    connection.sendall(b" " * MAX_REQUEST)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of it was said
            else:
                assert "at most" in str(answer(connection))
        assert ask(folder, {"ask": "status"})


def test_caller_that_goes_away_before_its_answer_disturbs_nobody(folder: Path) -> None:
    with served(folder) as told:
        for _ in range(20):
            with connected(folder) as connection:
                connection.sendall(b'{"ask":"status"}\n')
        assert ask(folder, {"ask": "status"})
        assert told == []


def test_handlers_refusal_is_given_in_its_own_words(folder: Path) -> None:
    def handler(request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise {
            "socket": ControlError(22, "nothing else is done here"),
            "evidence": EvidenceError("it is altered"),
            "late": TimeoutError(),
            "mistake": KeyError("secret detail"),
        }[str(request["ask"])]

    with served(folder, handler) as told:
        for what, said in (
            ("socket", "nothing else is done here"),
            ("evidence", "it is altered"),
            ("late", "did not answer in time"),
            ("mistake", "could not be handled: KeyError"),
        ):
            with pytest.raises(ControlError) as refused:
                ask(folder, {"ask": what})
            assert said in str(refused.value.strerror)
            assert "secret detail" not in str(refused.value)
        assert told == ["a request failed: KeyError"]


# -- nobody is held up ------------------------------------------------------------------------------------------------


def test_connections_that_say_nothing_delay_nobody(folder: Path) -> None:
    with served(folder), ExitStack() as silent:
        for _ in range(MAX_CONNECTIONS - 1):
            silent.enter_context(connected(folder))
        began = time.monotonic()
        assert ask(folder, {"ask": "status"})
        assert time.monotonic() - began < local_socket.TIMEOUT_S / 2


def test_more_connections_than_there_are_places_are_rejected_at_once_and_the_places_come_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "TIMEOUT_S", 1.0)
    with served(folder):
        with ExitStack() as silent:
            for _ in range(MAX_CONNECTIONS):
                silent.enter_context(connected(folder))
            began = time.monotonic()
            with connected(folder) as connection:
                assert "too many" in str(answer(connection))
            assert time.monotonic() - began < 0.9
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                assert ask(folder, {"ask": "status"})
            except ControlError:
                assert time.monotonic() < until
            else:
                break


def test_slow_answer_to_one_delays_no_other(folder: Path) -> None:
    slow = threading.Event()
    begun = threading.Event()

    def handler(request: Mapping[str, Any]) -> Mapping[str, Any]:
        if request["ask"] == "policy":
            begun.set()
            assert slow.wait(PATIENCE_S)
        return {}

    with served(folder, handler):
        waiting = threading.Thread(target=ask, args=(folder, {"ask": "policy"}), daemon=True)
        waiting.start()
        assert begun.wait(PATIENCE_S)
        assert ask(folder, {"ask": "status"}) == {}
        slow.set()
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive()


# -- its place in the file system -------------------------------------------------------------------------------------


def stale(folder: Path) -> None:
    """A socket whose process is gone, as kill -9 leaves it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(folder / NAME))
        dead.listen(1)


def test_socket_of_a_dead_process_is_replaced(folder: Path) -> None:
    stale(folder)
    with served(folder):
        assert ask(folder, {"ask": "status"})


def test_socket_of_a_live_recorder_is_left_alone(folder: Path) -> None:
    with served(folder):
        with pytest.raises(ControlError, match="running already"):
            LocalServer(folder, echo, lambda _why: None).start()
        assert ask(folder, {"ask": "status"})


def test_socket_of_a_live_recorder_that_has_no_time_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy, ExitStack() as crowd:
        busy.bind(str(folder / NAME))
        busy.listen(0)
        for _ in range(3):
            caller = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            caller.setblocking(False)
            try:
                caller.connect(str(folder / NAME))
            except BlockingIOError:
                break
        with pytest.raises(ControlError, match="running already"):
            LocalServer(folder, echo, lambda _why: None).start()
        assert (folder / NAME).exists()


def test_other_file_in_the_sockets_place_is_left_alone(folder: Path) -> None:
    (folder / NAME).write_text("precious")
    with pytest.raises(ControlError, match="another file"):
        LocalServer(folder, echo, lambda _why: None).start()
    assert (folder / NAME).read_text() == "precious"


@pytest.mark.parametrize("dangling", [True, False])
def test_link_in_the_sockets_place_is_not_followed(folder: Path, dangling: bool) -> None:
    target = folder / "target"
    if not dangling:
        target.write_text("precious")
    (folder / NAME).symlink_to(target)
    with pytest.raises(ControlError, match="another file"):
        LocalServer(folder, echo, lambda _why: None).start()
    assert target.exists() is not dangling


def test_folder_that_is_no_folder_is_refused_in_one_clear_line(folder: Path) -> None:
    (folder / "run").write_text("")
    with pytest.raises(ControlError, match="name a \\[run\\] directory"):
        LocalServer(folder / "run", echo, lambda _why: None).start()


def test_path_that_is_too_long_for_a_socket_is_reported_to_be(folder: Path) -> None:
    room = MAX_PATH - len(os.fsencode(folder)) - len(f"//{NAME}")
    with served(folder / ("x" * room)):
        assert ask(folder / ("x" * room), {"ask": "status"})
    with pytest.raises(ControlError, match="at most 107 bytes") as refused:
        LocalServer(folder / ("x" * (room + 1)), echo, lambda _why: None).start()
    assert refused.value.errno == errno.ENAMETOOLONG


def test_closed_server_leaves_neither_file_nor_thread(folder: Path) -> None:
    others = set(threading.enumerate())
    with served(folder):
        threads = [thread for thread in threading.enumerate() if thread.name == "socket" and thread not in others]
        assert threads
    assert not (folder / NAME).exists()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    with pytest.raises(ControlError, match="no recorder answers"):
        ask(folder, {"ask": "status"})


# -- the asking side --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[1]\n", b"x" * (2 << 20)])
def test_answer_that_is_none_is_an_error_and_no_traceback(folder: Path, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as impostor:
        impostor.bind(str(folder / NAME))
        impostor.listen(1)

        def once() -> None:
            connection, _ = impostor.accept()
            with connection:
                connection.recv(1 << 16)
                try:
                    connection.sendall(said)
                except OSError:
                    return

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        with pytest.raises(ControlError):
            ask(folder, {"ask": "status"})
        thread.join(PATIENCE_S)


def test_recorder_that_never_answers_is_waited_for_no_longer_than_stated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_socket, "TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(folder / NAME))
        silent.listen(1)
        began = time.monotonic()
        with pytest.raises(ControlError, match="no recorder answers"):
            ask(folder, {"ask": "status"})
        assert time.monotonic() - began < PATIENCE_S / 2


def test_message_is_one_line_of_json(folder: Path) -> None:
    with served(folder), connected(folder) as connection:
        connection.sendall(encode_json({"ask": "a\nb"}) + b"\n")
        assert answer(connection) == {"asked": {"ask": "a\nb"}}
