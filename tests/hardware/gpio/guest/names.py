"""Lines by number, by what the chip calls them, and by their place on a Raspberry Pi's header.

python3 -m tests.hardware.gpio.guest.names OUT
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hardware.gpio.guest.sim import Chip

ASKED = (17, "GPIO17", "BOARD11", "SIREN", "ID_SDA", 99, "GPIO99", "BOARD1", "nothing")


def main(argv: list[str]) -> None:
    """See the module."""
    Chip("another", ["A", "B"])
    names = {0: "ID_SDA", 5: "SIREN"}
    Chip("pinctrl-bcm2835", [names.get(number, f"GPIO{number}") for number in range(54)])
    # A Raspberry Pi 3B, for gpiozero.
    board = Path("/tmp/cpuinfo")
    board.write_text("Revision\t: a02082\n")
    subprocess.run(["mount", "--bind", str(board), "/proc/cpuinfo"], check=True)
    from agent.gpio.chip import ChipFactory

    factory = ChipFactory()
    found: dict[str, Any] = {}
    for name in ASKED:
        try:
            found[str(name)] = factory.pin(name).info.number
        except Exception as error:  # noqa: BLE001 - it is read where it is judged
            found[str(name)] = type(error).__name__
    found["pull of 2"] = factory.pin(2).info.pull
    factory.close()
    Path(argv[0]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
