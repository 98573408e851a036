"""Run the hardware suites, two side by side: `python -m tests.hardware [SUITE ...]`.

The long measurement runs in one lane, the others after one another in the second: there are two cores. Each suite is a
pytest run of its own, printed as a whole when it ends. Exit code 0: all passed.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
LANES = (("resources", "arm64"), ("camera", "gpio", "system", "power"))
_PYTEST = ("-m", "pytest", "--timeout", "2400", "-o", "faulthandler_timeout=0")


def run(suite: str) -> int:
    """Run one suite and print what it said; its exit code."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *_PYTEST, str(FOLDER / suite)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=FOLDER.parent.parent,
        check=False,
    )
    title = f"==== {suite}: exit code {done.returncode} after {time.monotonic() - began:.0f} s "
    print(f"\n{title:=<120}\n{done.stdout.decode(errors='replace')}", flush=True)
    return done.returncode


def main() -> int:
    """Run what the command line names, or everything."""
    known = [suite for lane in LANES for suite in lane]
    asked = sys.argv[1:] or known
    if unknown := set(asked) - set(known):
        print(f"expected suites out of {', '.join(known)}; {', '.join(sorted(unknown))} came", file=sys.stderr)
        return 2
    if os.geteuid():
        print("expected root: trees are mounted, machines booted and disks cut; run it with sudo", file=sys.stderr)
        return 2
    lanes = [[suite for suite in lane if suite in asked] for lane in LANES]
    with ThreadPoolExecutor(len(lanes)) as pool:
        codes = [code for codes in pool.map(lambda lane: [run(suite) for suite in lane], lanes) for code in codes]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
