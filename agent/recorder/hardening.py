"""Keeps pictures and keys out of core dumps and swap, and limits memory.

Each measure is tried by itself and reported; none that fails keeps the recorder from recording. `bwc-agent doctor`
names those that failed, with the remedy.
"""

import ctypes
import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_GET_DUMPABLE = 3
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE = 1 << 16
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Hardening:
    """Which measures succeeded.

    Attributes:
        not_dumpable: No core dump, no ptrace by other processes of the user (prctl(2), PR_SET_DUMPABLE).
        no_core: The core size limit is 0 (setrlimit(2), RLIMIT_CORE).
        locked: Pages stay in memory once touched (mlockall(2), MCL_ONFAULT), so none of them reaches swap.
    """

    not_dumpable: bool
    no_core: bool
    locked: bool


def harden() -> Hardening:
    """Turn core dumps off and lock memory, as far as this process is permitted to."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        no_core = resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    else:
        no_core = True
    not_dumpable = libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    # Under a finite limit locking may succeed now and allocations fail later: then memory is not locked.
    unlimited = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    locked = unlimited and libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    os.umask(0o077)
    return Hardening(not_dumpable, no_core, locked)


def share_one_heap() -> None:
    """Let all threads allocate from one heap (mallopt(3), M_ARENA_MAX), if the C library supports it.

    glibc gives each thread a heap of its own, and each keeps freed memory, which is locked and unused. The recorder's
    threads rarely run without Python's own lock, so that they hardly wait for each other here. Large blocks (a decoded
    picture) are outside of the heap and are returned at once.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def is_dumpable() -> bool:
    """True if this process may leave a core dump."""
    return bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))


def swap_devices(proc_swaps: str) -> list[str]:
    """The swap areas named in the text of /proc/swaps, where white space in a name is an octal escape (proc(5))."""
    names = [line.split()[0] for line in proc_swaps.splitlines()[1:] if line.strip()]
    return [re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), name) for name in names]


def swap_is_encrypted(device: str, sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> bool:
    """True if a swap area is on dm-crypt or in compressed memory (zram), where nothing reaches a card in clear.

    False for a file, whatever its name: on which device its blocks are is unknown.
    """
    path = Path(device).resolve()
    block = sys / "block" / path.name
    if path.parent != dev.resolve():
        return False
    try:
        if path.name.startswith("zram") and block.is_dir():
            # zram may write idle pages back to a disk; then they leave memory, unencrypted.
            backing = block / "backing_dev"
            return not backing.exists() or backing.read_text().strip() == "none"
        uuid = block / "dm" / "uuid"
        return uuid.exists() and uuid.read_text().startswith("CRYPT-")
    except OSError:
        return False


def kernel_boot_id() -> str:
    """The kernel's id of its boot (random(4)); empty if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
