"""Whether a process has internet sockets, for an observer who may not read its descriptors.

A recorder is not dumpable: its descriptors are closed even to other processes of its user (proc_pid_fd(5)). The
kernel's socket tables are not, but they list a network's sockets with their users and inodes, and not with the
processes that hold them (proc_pid_net(5)). So an ordinary user's recorder is started in a network of its own, as its
unit starts it: all that is listed there is its own. Where that is not allowed, each of the user's sockets is
accounted for: it must be held by a process whose descriptors can be read, or be older than the recorder.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6")
ALONE = ("unshare", "--user", "--map-current-user", "--net")
"""What starts a command in a network of its own (unshare(1)), which an ordinary user may do on most systems."""
LOOKS = 10
BETWEEN_LOOKS_S = 0.1
_PREFIX = "socket:["


def alone() -> tuple[str, ...]:
    """The command prefix for a process whose descriptors can't be read afterwards: `ALONE` where it is allowed."""
    if os.geteuid() == 0:
        return ()
    with contextlib.suppress(OSError):
        if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0:
            return ALONE
    return ()


def internet_sockets(pid: int) -> list[str]:
    """The internet sockets that a process holds, as the kernel lists them.

    Raises:
        PermissionError: Its descriptors may not be read.
    """
    held = held_by(pid)
    return [shown for inode, shown in listed(pid).items() if inode in held]


def held_by(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds.

    Raises:
        PermissionError: Its descriptors may not be read.
    """
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            name = str(descriptor.readlink())
            if name.startswith(_PREFIX):
                inodes.add(name[len(_PREFIX) : -1])
    return inodes


def listed(pid: int, user: int | None = None) -> dict[str, str]:
    """The internet sockets of a process's network, or those of one user in it: inode, and table with local address."""
    found = {}
    for table in TABLES:
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            owner, inode = int(fields[7]), fields[9]
            if inode != "0" and user in {None, owner}:  # a connection that is over and lingers has none
                found[inode] = f"{table} {fields[1]}"
    return found


def leads_nowhere(pid: int) -> bool:
    """True if a process's network has no route but that of loopback."""
    net = Path(f"/proc/{pid}/net")
    routes = (net / "route").read_text().splitlines()[1:]
    ipv6 = net / "ipv6_route"  # there is none without IPv6
    routes += ipv6.read_text().splitlines() if ipv6.exists() else []
    return all(route.split()[-1] == "lo" for route in routes)


def unaccounted(pid: int) -> dict[str, str]:
    """The internet sockets of this user, in a process's network, that no process with readable descriptors holds."""
    left = listed(pid, os.geteuid())
    for path in Path("/proc").glob("[0-9]*"):
        if not left:
            break
        with contextlib.suppress(OSError):
            for inode in held_by(int(path.name)):
                left.pop(inode, None)
    return left


@dataclass(frozen=True, slots=True)
class Seen:
    """What could be seen of a process's internet sockets.

    Attributes:
        sockets: Those that it holds or may hold; None if they can't be determined.
        how: The observation, for the transcript.
    """

    sockets: tuple[str, ...] | None
    how: str


class SocketWatch:
    """Looks for internet sockets of a process that is started after this."""

    def __init__(self, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._before = set(unaccounted(os.getpid()))
        self._sleep = sleep

    def look(self, pid: int) -> Seen:
        """Look at the process, while this one's network has sockets in use.

        A socket that another process opens or closes meanwhile does not count.
        """
        try:
            sockets = tuple(internet_sockets(pid))
        except PermissionError:
            pass
        else:
            return Seen(sockets, f"its process holds {len(sockets)} internet sockets")
        ours, its = listed(os.getpid()), listed(pid)
        if ours and not ours.keys() & its.keys() and leads_nowhere(pid):
            how = f"it runs in one of its own that leads nowhere, with {len(its)} internet sockets in it"
            return Seen(tuple(its.values()), how)
        left: dict[str, str] = {}
        for turn in range(LOOKS):
            if turn:
                self._sleep(BETWEEN_LOOKS_S)
            now = {inode: shown for inode, shown in unaccounted(pid).items() if inode not in self._before}
            left = {inode: shown for inode, shown in now.items() if not turn or inode in left}
            if not left:
                return Seen((), "it hides its descriptors, but each internet socket of its user is another process's")
        if _hiding() <= {pid}:
            return Seen(tuple(left.values()), f"only its process can hold {', '.join(left.values())}")
        return Seen(None, "other processes of this user hide their descriptors too, and one of them opened a socket")


def _hiding() -> set[int]:
    """Processes of this user whose descriptors may not be read."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # In /proc root owns a process that is not dumpable, whichever user runs it: its status names the user.
            status = (path / "status").read_text()
            user = next(line.split()[2] for line in status.splitlines() if line.startswith("Uid:"))
            if int(user) == os.geteuid():
                next((path / "fd").iterdir(), None)
        except PermissionError:
            found.add(int(path.name))
        except (OSError, StopIteration):
            continue  # it has ended
    return found
