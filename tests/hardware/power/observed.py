"""The recorder as it is, with a witness beside it: `observed LOG LEDGER ROOT python -m agent run ...`.

Whenever fdatasync(2) or fsync(2) has returned, the witness notes what that promised, and how long the log of the block
device was by then: from that size on no cut may take it away. What is run is the command that follows, unchanged.
"""

import hashlib
import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from agent.clock import SystemClocks, WallReading
from agent.device_state import configuration, store

STATE = f"state/{store.FILE}"
"""Where the device state lies in this suite: below the evidence folder, so that a cut hits both."""
CONFIGURATION = f"state/{configuration.FILE}"
"""The last good configuration, beside it."""
REPLACED = (STATE, CONFIGURATION)
"""Files that are replaced as a whole: which of their versions is there matters, not only how long they are."""


class Witness:
    """Notes what was promised, one line of JSON for each sync.

    Args:
        log: The block device's log.
        ledger: Where the lines go; beside the disk, not on it.
        root: The evidence folder.
    """

    def __init__(self, log: Path, ledger: Path, root: Path) -> None:
        self._log = log
        self._root = str(root)
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, began_ns: int, what: dict[str, Any]) -> None:
        """Note it, with the time and the log's size of now."""
        line = {"t": time.monotonic_ns(), "took": time.monotonic_ns() - began_ns, "log": self._log.stat().st_size}
        os.write(self._ledger, json.dumps({**line, **what}).encode() + b"\n")

    def place(self, handle: int) -> str | None:
        """Where below the evidence folder a handle leads; None if elsewhere."""
        path = str(Path(f"/proc/self/fd/{handle}").readlink())
        if path == self._root:
            return ""
        return path.removeprefix(self._root + "/") if path.startswith(self._root + "/") else None

    def versions(self, names: list[str]) -> dict[str, str]:
        """Hashes of those files among `names` that are replaced as a whole."""
        found = {}
        for name in set(REPLACED) & set(names):
            found[name] = hashlib.sha256((Path(self._root) / name).read_bytes()).hexdigest()
        return found

    def watch(self) -> None:
        """Stand beside the calls that make something durable."""
        fdatasync, fsync, rename = os.fdatasync, os.fsync, os.rename

        def watched_fdatasync(handle: int) -> None:
            place, size, began = self.place(handle), os.fstat(handle).st_size, time.monotonic_ns()
            fdatasync(handle)
            if place is not None and not place.endswith(".unfinished"):
                self.note(began, {"data": place, "size": size})

        def watched_fsync(handle: int) -> None:
            place, began = self.place(handle), time.monotonic_ns()
            names: list[str] = []
            if place is not None:
                with os.scandir(handle) as entries:
                    names = [f"{place}/{entry.name}".lstrip("/") for entry in entries]
                names = [name for name in names if not name.endswith(".unfinished")]
            versions = self.versions(names)
            fsync(handle)
            if place is not None:
                self.note(began, {"names": names, "versions": versions})

        def watched_rename(source: Any, target: Any, **more: Any) -> None:
            name = os.fspath(target).removeprefix(self._root + "/")
            if name in REPLACED:
                self.note(time.monotonic_ns(), {"made": name, "hash": hashlib.sha256(source.read_bytes()).hexdigest()})
            rename(source, target, **more)

        os.fdatasync, os.fsync, os.rename = watched_fdatasync, watched_fsync, watched_rename  # type: ignore[assignment]


def main() -> None:
    """Run what the command line says, with a witness."""
    log, ledger, root, _python, dash_m, module, *arguments = sys.argv[1:]
    if dash_m != "-m":
        sys.exit(f"expected LOG LEDGER ROOT python -m MODULE ..., got {sys.argv[1:]}")
    Witness(Path(log), Path(ledger), Path(root)).watch()
    SystemClocks.wall = lambda _self: WallReading(time.time_ns(), "ntp", 0.1)  # type: ignore[method-assign,assignment]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
