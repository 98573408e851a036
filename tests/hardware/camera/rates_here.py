"""In the tree: what our source gives from the camera at one bit rate, and then at another. Prints bits a second."""

import json
import sys
import time
from itertools import takewhile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

from agent.capture.config import Picamera2Config  # noqa: E402
from agent.capture.picamera2 import Picamera2Source  # noqa: E402
from agent.clock import NS  # noqa: E402
from tests.hardware.camera import virtual_camera  # noqa: E402

SECONDS = 3
BEFORE_NS = NS
"""What an encoder takes to come to a new rate."""


def main() -> None:
    """Open the source, and measure at each rate of the command line, the first of which it is opened with."""
    rates = [int(rate) for rate in sys.argv[1:]]
    virtual_camera.State.scene = "noise"
    settings = Picamera2Config(encoder="libav", width=640, height=480, bit_rate=rates[0], fps=30)
    opened = Picamera2Source(settings, time.monotonic_ns, lambda *_: None).open(1)
    packets = iter(opened)
    measured = []
    for rate in rates:
        assert opened.set_bit_rate(rate)
        begin_ns = time.monotonic_ns() + BEFORE_NS
        end_ns = begin_ns + SECONDS * NS
        taken = takewhile(lambda packet: packet.time_ns < end_ns, packets)  # noqa: B023 - used at once
        measured.append(sum(len(packet.data) for packet in taken if packet.time_ns >= begin_ns) * 8 // SECONDS)
    opened.close()
    print(json.dumps(measured), flush=True)


main()
