"""A sound card that tests drive: samples by a crystal that is off, out of a named pipe, with a tone each second.

What a sample sounds like is decided by the monotonic time at which that sample is due: a tone in the first `TONE_NS` of
each period of flashes, and noise of a few steps besides, as any microphone has. Whoever reads it gets what a card would
give.
"""

import array
import contextlib
import math
import os
import random
import threading
import time
from pathlib import Path
from typing import Self

NS = 1_000_000_000
RATE = 48_000
BLOCK = 480
EVERY_NS, TONE_NS = 1_004_567_000, NS // 5
"""Of flashes and tones; no multiple of the time from picture to picture, so that many flashes together tell more."""
TONE_HZ = 1000
PRIORITY = -15


class SoundCard:
    """Writes into the pipe in a thread of its own, until it is closed.

    Args:
        pipe: The named pipe.
        ppm: How much faster its crystal runs than it should, in parts in a million.
        late_ns: How much later its sound is than it says: for the control that must fail.
    """

    def __init__(self, pipe: Path, *, ppm: float = 0.0, late_ns: int = 0) -> None:
        self._pipe = pipe
        self._rate = RATE * (1 + ppm / 1e6)
        self._late_ns = late_ns
        self._closed = threading.Event()
        self._unplugged = threading.Event()
        noise = random.Random(1)
        self._noise = [noise.randint(-8, 8) for _ in range(RATE)]
        self._tone = [round(12_000 * math.sin(2 * math.pi * TONE_HZ * n / RATE)) for n in range(RATE // TONE_HZ)]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unplug(self, seconds: float) -> None:
        """Let the pipe end, and be there again later."""
        self._unplugged.set()
        threading.Timer(seconds, self._unplugged.clear).start()

    def _run(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # a card waits for no processor; whether it may go first is the machine's say
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PRIORITY)
        while not self._closed.is_set():
            if self._unplugged.is_set():
                time.sleep(0.01)
                continue
            with contextlib.suppress(BrokenPipeError, FileNotFoundError):
                self._play(os.open(self._pipe, os.O_WRONLY))

    def _play(self, handle: int) -> None:
        began_ns, sample = time.monotonic_ns(), 0
        try:
            while not (self._closed.is_set() or self._unplugged.is_set()):
                due_ns = began_ns + round((sample + BLOCK) / self._rate * NS)
                time.sleep(max(0, due_ns - time.monotonic_ns()) / NS)
                os.write(handle, self._block(began_ns, sample))
                sample += BLOCK
        finally:
            os.close(handle)

    def _block(self, began_ns: int, first: int) -> bytes:
        block = array.array("h")
        for number in range(first, first + BLOCK):
            heard_ns = began_ns + int(number / self._rate * NS) - self._late_ns
            if heard_ns % EVERY_NS < TONE_NS:
                block.append(self._tone[number % len(self._tone)])
            else:
                block.append(self._noise[number % RATE])
        return block.tobytes()

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):  # let go of a thread that waits for a reader
            os.close(os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK))
        self._thread.join(5.0)
