"""The interface of sources of encoded pictures and sound, and how they keep time.

A source is opened as often as needed: after a failure or a stall it is closed and opened again with the next
generation. A source decides nothing: a failure ends the iteration with `SourceError`, its end ends the iteration
normally, and the recorder restarts the source and accounts for the gap.

A camera whose library calls back on threads of its own (picamera2's `Output.outputframe` for pictures, another thread
for sound) implements it as follows: the callback only copies the packet into a bounded queue and never raises or blocks
(an exception in it kills the camera's thread); `OpenSource.__iter__` drains the queue and raises `SourceError` if it is
full or stays empty for too long; `close` puts an end mark into the queue. Extradata must be known when `open` returns,
so `open` waits for the first IDR picture.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

from agent.clock import NS, Monotonic
from agent.media.packet import Packet, Stream

_LONGEST_WAIT_S = 3600.0  # below the limit of the platform's locks; the wait is continued after it


class OpenSource(Protocol):
    """One opening of a source: its streams, and their packets once."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Video, audio or both, in this order, all of the requested generation."""

    def __iter__(self) -> Iterator[Packet]:
        """The packets in the order of their times, each not before its own `time_ns` where the source is paced.

        Iterate once, in one thread. It blocks between packets, and ends when the source ends or is closed.

        Raises:
            SourceError: The source failed; what came before is good.
        """

    def close(self) -> None:
        """Make the iteration end soon and release the device. From any thread, any number of times."""


@runtime_checkable
class Adjustable(Protocol):
    """An `OpenSource` that may be able to encode at another bit rate while it runs. Others need not have this."""

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Encode pictures at about this rate from now on, with the stream's parameters as they are.

        From any thread; returns at once, and never raises.

        Args:
            bits_per_second: The rate; 0 for the one that it was opened with.

        Returns:
            False if it can't, such as with an encoder that takes its rate only when it is opened.
        """


class Source(Protocol):
    """A camera, a microphone or both, or a substitute for them."""

    @property
    def name(self) -> str:
        """A name for people, such as `replay:/clips/street.mp4`."""

    def open(self, generation: int) -> OpenSource:
        """Open it.

        Args:
            generation: From 1, higher with each opening; stamped on all its streams.

        Raises:
            SourceError: It can't be opened, or does not give H.264, AAC or Opus in a form that can be stored exactly.
        """


class Pacer(Protocol):
    """Lets one opening of a source wait for the time of its next packet."""

    def now_ns(self) -> int:
        """Nanoseconds of the recorder's monotonic clock."""

    def wait_until(self, ns: int) -> bool:
        """Wait until the clock shows `ns`; False, at once, if closed before or meanwhile."""

    def close(self) -> None:
        """End the wait and refuse all later ones. From any thread, any number of times."""


Pacing = Callable[[], Pacer]
"""Makes the pacer of each opening."""


class ClockPacer:
    """Waits on a monotonic clock."""

    def __init__(self, monotonic: Monotonic) -> None:
        self._monotonic = monotonic
        self._closed = threading.Event()

    def now_ns(self) -> int:
        """Nanoseconds of the clock."""
        return self._monotonic()

    def wait_until(self, ns: int) -> bool:
        """Wait until the clock shows `ns`; False if closed."""
        while (missing := ns - self._monotonic()) > 0:
            if self._closed.wait(min(missing / NS, _LONGEST_WAIT_S)):
                break
        return not self._closed.is_set()

    def close(self) -> None:
        """End the wait."""
        self._closed.set()


class FreePacer:
    """Waits for nothing: packets come as fast as they are read, with the times that pacing would have given them."""

    def __init__(self, monotonic: Monotonic) -> None:
        self._opened_ns = monotonic()
        self._closed = False

    def now_ns(self) -> int:
        """When the source was opened; it stays there."""
        return self._opened_ns

    def wait_until(self, ns: int) -> bool:  # noqa: ARG002 - the interface's
        """True at once, False if closed."""
        return not self._closed

    def close(self) -> None:
        """Refuse all later waits."""
        self._closed = True


def paced(monotonic: Monotonic) -> Pacing:
    """Packets come when they are due, as a camera's do."""
    return partial(ClockPacer, monotonic)


def unpaced(monotonic: Monotonic) -> Pacing:
    """Packets come as fast as they are read, for benchmarks."""
    return partial(FreePacer, monotonic)
