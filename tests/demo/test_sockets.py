"""A process's internet sockets are found whether or not its descriptors can be read."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.demo import sockets
from agent.demo.sockets import SocketWatch, internet_sockets, unaccounted

NOBODY = 65534
LISTENS = "import socket; s = socket.create_server(('', 0))"
HIDES = "import ctypes; assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0"  # PR_SET_DUMPABLE
SPEAKS_TO_ITSELF = "import socket; s = socket.socketpair(socket.AF_UNIX)"


@contextlib.contextmanager
def process(*statements: str) -> Iterator[int]:
    """Another process of this user that has done this; its number."""
    code = "; ".join([*statements, "print('ready', flush=True)", "input()"])
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running.pid
        running.communicate(b"\n")


def without_waiting() -> SocketWatch:
    return SocketWatch(sleep=lambda _seconds: None)


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Descriptors of processes that are closed to this user; to root only a refusal of our own stands for one."""
    closed: set[int] = set()
    held_by = sockets.held_by

    def refusing(pid: int) -> set[str]:
        if pid in closed:
            raise PermissionError
        return held_by(pid)

    monkeypatch.setattr(sockets, "held_by", refusing)
    monkeypatch.setattr(sockets, "_hiding", lambda: set(closed))
    return closed.add


def test_sockets_of_a_process_that_shows_its_descriptors_are_found() -> None:
    watch = without_waiting()
    before = internet_sockets(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert len(internet_sockets(os.getpid())) == len(before) + 1
        port = f"tcp 0100007F:{server.getsockname()[1]:04X}"
        assert port in (watch.look(os.getpid()).sockets or ())


def test_socket_of_a_process_that_hides_its_descriptors_is_found(denied: Callable[[int], None]) -> None:
    watch = without_waiting()
    with process(LISTENS, HIDES) as pid:
        denied(pid)
        seen = watch.look(pid)
        assert seen.sockets is not None
        assert len(seen.sockets) == 1
        assert seen.sockets[0].startswith("tcp 00000000:")


def test_hidden_process_without_internet_sockets_is_cleared_though_its_user_has_others(
    denied: Callable[[int], None],
) -> None:
    watch = without_waiting()
    with process(SPEAKS_TO_ITSELF, HIDES) as pid, socket.create_server(("127.0.0.1", 0)):
        denied(pid)
        assert watch.look(pid).sockets == ()


def test_nothing_is_claimed_where_the_socket_may_be_another_hidden_processs(denied: Callable[[int], None]) -> None:
    watch = without_waiting()
    with process(SPEAKS_TO_ITSELF, HIDES) as pid, process(LISTENS, HIDES) as other:
        denied(pid)
        denied(other)
        assert watch.look(pid).sockets is None


def test_socket_that_was_there_before_is_not_the_processs(denied: Callable[[int], None]) -> None:
    with process(LISTENS, HIDES) as other:
        denied(other)
        watch = without_waiting()
        with process(SPEAKS_TO_ITSELF, HIDES) as pid:
            denied(pid)
            assert watch.look(pid).sockets == ()


def test_socket_that_is_closed_between_two_looks_is_no_finding(denied: Callable[[int], None]) -> None:
    with contextlib.ExitStack() as stack, process(SPEAKS_TO_ITSELF, HIDES) as pid:
        denied(pid)
        watch = SocketWatch(sleep=lambda _seconds: stack.close())
        denied(stack.enter_context(process(LISTENS, HIDES)))
        assert watch.look(pid).sockets == ()


def test_an_ordinary_user_sees_what_a_hardened_process_holds() -> None:
    """The kernel's own refusal, and not one of ours: as this user, or as another one where this is root."""
    # The module's text and not its import: another user may not be able to read where the repository lies.
    script = f"""{Path(sockets.__file__).read_text()}
import subprocess, sys
watch = SocketWatch(sleep=lambda _seconds: None)
for code in sys.argv[1:]:
    process = subprocess.Popen([sys.executable, "-c", f"{{code}}; print(1, flush=True); input()"], stdin=-1, stdout=-1)
    process.stdout.readline()
    try:
        held_by(process.pid)
        print("readable")
    except PermissionError:
        print(len(watch.look(process.pid).sockets))
    process.communicate(b"end")
"""
    # Among themselves: what else this user runs here, in other tests or elsewhere, is not to be counted out.
    apart = ["unshare", "--net", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() == 0:
        apart += ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    else:
        apart[1:1] = ["--user", "--map-current-user"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may make namespaces here")
    done = subprocess.run(
        [*apart, "/usr/bin/python3", "-c", script, LISTENS, f"{LISTENS}; {HIDES}", f"{SPEAKS_TO_ITSELF}; {HIDES}"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert (done.stdout.split(), done.stderr) == (["readable", "1", "0"], "")


@pytest.fixture
def in_a_network_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start other processes so; root needs no user namespace for it."""
    prefix = sockets.ALONE if os.geteuid() else ("unshare", "--net")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may make network namespaces here")
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **more: popen([*prefix, *argv], **more))


@pytest.mark.usefixtures("in_a_network_of_its_own")
@pytest.mark.parametrize(("statement", "count"), [(SPEAKS_TO_ITSELF, 0), (LISTENS, 1)])
def test_hidden_process_in_a_network_of_its_own_is_seen_whatever_others_of_its_user_do(
    denied: Callable[[int], None], statement: str, count: int
) -> None:
    watch = without_waiting()
    with socket.create_server(("127.0.0.1", 0)) as server, process(statement, HIDES) as pid:
        denied(pid)
        denied(os.getpid())
        assert server.fileno() >= 0
        seen = watch.look(pid)
        assert len(seen.sockets or ()) == count
        assert "one of its own that leads nowhere" in seen.how


def test_unaccounted_sockets_are_this_users_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        held = sockets.held_by(os.getpid())
        assert not held & set(unaccounted(os.getpid()))
