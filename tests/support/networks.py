"""Two networks and a cable between them: broker and station at one end, a dock at the other.

A namespace belongs to whoever holds its handle, and is gone with it: no name is left behind on the machine. A thread
enters one for a moment, and what it opens there (sockets, programs) stays there.

Packets get lost in one direction only by giving the sender a hardware address that nobody has: they are sent, as with a
switch that has lost its table, and neither end is told. No packet filter is needed, so that it works on every kernel.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Literal

from tests.support.permissions import skip

CLONE_NEWNET = 0x40000000
STATION_ADDRESS, DOCK_ADDRESS = "192.0.2.1", "192.0.2.2"  # RFC 5737: nobody's
_NOBODY = "02:00:00:00:00:99"
_HARDWARE = {"station": "02:00:00:00:00:01", "dock": "02:00:00:00:00:02"}
_ADDRESS = {"station": STATION_ADDRESS, "dock": DOCK_ADDRESS}
_LIBC = ctypes.CDLL(None, use_errno=True)
_SBIN = "/usr/sbin:/sbin:" + os.environ.get("PATH", "")

End = Literal["station", "dock"]


def _call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _here() -> int:
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Networks:
    """Made at once; skips where the user may not.

    Attributes:
        ends: Handles of the two namespaces.
    """

    def __init__(self) -> None:
        ip = shutil.which("ip", path=_SBIN)
        if ip is None:
            skip("the cable is made with Debian's iproute2: make test-tools")
        self._ip = str(ip)
        self._home = _here()
        self.ends: dict[End, int] = {}
        try:
            self._new("station")
            self._new("dock")
        except PermissionError:
            self.close()
            skip("only root may make network namespaces")
        self._do(
            "station", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self._path("dock")
        )
        for end in self.ends:
            self._do(end, "link", "set", "lo", "up")
            self._do(end, "link", "set", "cable", "address", _HARDWARE[end])
            self._do(end, "address", "add", f"{_ADDRESS[end]}/30", "dev", "cable")
        self.plug()

    def _new(self, end: End) -> None:
        _call("unshare", CLONE_NEWNET)
        try:
            self.ends[end] = _here()
        finally:
            _call("setns", self._home, CLONE_NEWNET)

    def _path(self, end: End) -> str:
        return f"/proc/{os.getpid()}/fd/{self.ends[end]}"

    @contextlib.contextmanager
    def at(self, end: End) -> Iterator[None]:
        """What this thread opens or starts within is in that network."""
        _call("setns", self.ends[end], CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", self._home, CLONE_NEWNET)

    def _do(self, end: End, *arguments: str) -> None:
        with self.at(end):
            subprocess.run([self._ip, *arguments], check=True, capture_output=True, timeout=10)

    def _to(self, sender: End, hardware: str) -> None:
        receiver: End = "dock" if sender == "station" else "station"
        where = ("lladdr", hardware, "dev", "cable", "nud", "permanent")
        self._do(sender, "neighbour", "replace", _ADDRESS[receiver], *where)

    def drop_from(self, *senders: End) -> None:
        """From now on everything that these ends send is lost, and nobody is told."""
        for sender in senders:
            self._to(sender, _NOBODY)

    def heal(self) -> None:
        """Both directions work again."""
        self._to("station", _HARDWARE["dock"])
        self._to("dock", _HARDWARE["station"])

    def unplug(self, end: End = "dock") -> None:
        """The interface goes down: its own side is told."""
        self._do(end, "link", "set", "cable", "down")

    def plug(self) -> None:
        """Both interfaces up, and both directions work."""
        for end in self.ends:
            self._do(end, "link", "set", "cable", "up")
        self.heal()

    def close(self) -> None:
        """Both namespaces and the cable are gone once nobody is in them any more."""
        for handle in (*self.ends.values(), self._home):
            os.close(handle)
        self.ends = {}
