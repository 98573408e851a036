"""`bwc-agent` in a tree without a camera: with the virtual one."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[0] = str(HERE.parents[3])

from agent.cli import main  # noqa: E402
from tests.hardware.camera import virtual_camera  # noqa: E402, F401

main()
