"""Run what would run here in the emulated system instead: `emulated ROOT python -m agent run ...`."""

import os
import sys
from pathlib import Path

from tests.hardware.arm64.system import System


def main() -> None:
    """Become the emulator."""
    root, _python, *arguments = sys.argv[1:]
    command = System(Path(root)).command(*arguments)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
