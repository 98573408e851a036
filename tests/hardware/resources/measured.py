"""The recorder as it is, its threads named for the kernel, and profiled if asked.

`measured PROFILE python -m agent run ...`: PROFILE is a file for the profile, or `-`. Only the profiled run is slowed
down; its figures are shares, not amounts.
"""

import cProfile
import ctypes
import json
import re
import runpy
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType

_PR_SET_NAME = 15
_LONGEST_NAME = 15
_BUILTIN = re.compile(r"<(?:built-in )?method '?(?P<name>[\w.]+)'?(?: of '(?P<owner>[^']+)' objects)?>")


class Profiles:
    """One profile for each thread, by the processor time that the thread itself took."""

    def __init__(self) -> None:
        self._profiles: list[tuple[str, cProfile.Profile]] = []

    def begin(self) -> None:
        """Profile the thread that calls this, from here on."""
        profile = cProfile.Profile(time.thread_time)
        self._profiles.append((threading.current_thread().name, profile))
        profile.enable()

    def save(self, path: Path) -> None:
        """Seconds by thread and module, as JSON; what is built in stands by its name."""
        found: dict[str, dict[str, float]] = {}
        for thread, profile in self._profiles:
            counts = found.setdefault(thread, defaultdict(float))
            for entry in profile.getstats():
                counts[_where(entry.code)] += entry.inlinetime
        path.write_text(json.dumps(found))


def _where(code: CodeType | str) -> str:
    if isinstance(code, str):
        match = _BUILTIN.match(code)
        return f"{(match['owner'] or '').rpartition('.')[2]}.{match['name']}".lstrip(".") if match else code
    path = Path(code.co_filename)
    parts = path.with_suffix("").parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if "agent" in parts:
        return ".".join(parts[len(parts) - parts[::-1].index("agent") - 1 :])
    return f"python {path.stem}"


def watch(profiles: Profiles | None) -> None:
    """Name every thread from now on, and profile it."""
    libc = ctypes.CDLL(None)
    run = threading.Thread.run

    def named(thread: threading.Thread) -> None:
        libc.prctl(_PR_SET_NAME, thread.name.encode()[:_LONGEST_NAME], 0, 0, 0)
        if profiles is not None:
            profiles.begin()
        run(thread)

    threading.Thread.run = named  # type: ignore[method-assign,assignment]
    libc.prctl(_PR_SET_NAME, b"main", 0, 0, 0)


def main() -> None:
    """Run what the command line says."""
    profile, _python, dash_m, module, *arguments = sys.argv[1:]
    if dash_m != "-m":
        sys.exit(f"expected PROFILE python -m MODULE ..., got {sys.argv[1:]}")
    profiles = Profiles() if profile != "-" else None
    watch(profiles)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        if profiles is not None:
            profiles.save(Path(profile))


if __name__ == "__main__":
    main()
