"""What can a process reach? Run inside of a service's sandbox; prints the names of all that it could do, as JSON.

Standard library only: it runs in the machine under test, as the user and with the rights of the unit.
"""

import ctypes
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


def _called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _family(number: int, kind: int = socket.SOCK_DGRAM) -> None:
    socket.socket(number, kind).close()


def _only_loopback() -> None:
    if [name for _, name in socket.if_nameindex()] == ["lo"]:
        raise OSError("nothing but a loopback")


def _connect(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=2):
        pass


def _bind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))


def _unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)


def _write(folder: str) -> None:
    path = Path(folder, f"probe-{os.getpid()}")
    path.write_bytes(b"")
    path.unlink()


def _append(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def _listed(folder: str) -> None:
    list(Path(folder).iterdir())


def _read(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123 - as plain as can be
        file.read(1)


def _device(path: str, flags: int) -> None:
    """A device that is let through but has no driver says ENXIO or ENODEV."""
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in {1, 2, 13}:
            raise


def _state(name: str, wanted: str) -> None:
    """Nothing wrong if /proc/self/status says so."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if status[name].strip() == wanted:
        raise OSError("as it should be")


def _raised_core_limit() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0):
        raise OSError("none")


def _suid() -> None:
    path = Path("/tmp/suid")
    path.touch()
    path.chmod(0o4755)


def attempts(wanted: list[list[str]]) -> dict[str, Callable[[], object]]:
    """By name; each raises OSError where the sandbox holds."""
    found: dict[str, Callable[[], object]] = {
        "an interface beside loopback": _only_loopback,
        "IPv4": lambda: _family(socket.AF_INET),
        "IPv6": lambda: _family(socket.AF_INET6),
        "netlink": lambda: _family(socket.AF_NETLINK),
        "raw packets": lambda: _family(socket.AF_PACKET),
        "Bluetooth": lambda: _family(socket.AF_BLUETOOTH, socket.SOCK_RAW),
        "to listen": _bind,
        "to mount": lambda: _called(_libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
        "a namespace": lambda: _called(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS)),
        "to load a module": lambda: _called(_libc.syscall(175, b"", 0, b"")),
        "another user's id": lambda: os.setuid(0) if os.getuid() else None,
        "a file that runs as its owner": _suid,
        "capabilities": lambda: _state("CapBnd", "0000000000000000"),
        "new privileges": lambda: _state("NoNewPrivs", "1"),
        "unfiltered system calls": lambda: _state("Seccomp", "2"),
        "core dumps": _raised_core_limit,
    }
    kinds: dict[str, Callable[[str], object]] = {
        "connect": lambda path: _connect(("127.0.0.1", int(path))),
        "unix": _unix,
        "write": _write,
        "append": _append,
        "list": _listed,
        "read": _read,
        "device": lambda path: _device(path, os.O_RDONLY),
        "device-write": lambda path: _device(path, os.O_RDWR),
    }
    for kind, path in wanted:
        found[f"{kind} {path}"] = lambda kind=kind, path=path: kinds[kind](path)  # type: ignore[misc]
    return found


def main() -> None:
    """The command; its argument is a JSON list of pairs, what and where."""
    reached = []
    for name, attempt in attempts(json.loads(sys.argv[1])).items():
        try:
            attempt()
        except OSError:
            continue
        reached.append(name)
    print(json.dumps(reached))


if __name__ == "__main__":
    main()
