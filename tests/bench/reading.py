"""How fast evidence is checked and opened: the tools' own code on a recording of a whole recorder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from agent.clock import NS
from agent.core.recording import events
from agent.export.recorded import recordings
from agent.export.recording import open_recording
from agent.keys import files
from agent.seal.reader import open_message
from agent.seal.recipients import RecipientKey
from agent.storage.disk import DiskStorage
from agent.verify.tree import find
from agent.verify.verifier import verify
from tests.bench.stream import opened
from tests.support.device import Device, agency, trust

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Read:
    """Sealed bytes, and CPU seconds for them.

    Attributes:
        verify_s: Checking every signature, chain, hash and sequence; no key.
        unseal_s: Authenticating and decrypting the segments, nothing written.
        open_s: All of opening: unsealing, joining, writing the film.
    """

    sealed_bytes: int
    verify_s: float
    unseal_s: float
    open_s: float


def make_evidence(root: Path, clip: Path, seconds: float) -> None:
    """A device's evidence with one recording of that much of a clip, in `root`."""
    root.mkdir()
    device = Device(storage=DiskStorage(root))
    source = opened(clip)
    device.recorder.feed.declare(*source.streams)
    device.recorder.control.put(events.StartRequested(device.clocks.now_ns, events.Cause.SOCKET))
    device.settle()
    device.play(takewhile(lambda packet: packet.time_ns < seconds * NS, source))
    source.close()
    device.recorder.close()


def _cpu(work: Callable[[], _Result]) -> tuple[float, _Result]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def measure(root: Path, out: Path) -> Read:
    """Check and open what `make_evidence` made; it lies in the page cache.

    Raises:
        RuntimeError: The evidence is not as it should be.
    """
    key = files.load_recipient_key(agency().custodian)
    verify_s, report = _cpu(lambda: verify(root, trust()))
    if report.bad:
        raise RuntimeError(f"expected evidence that verifies, got {report.bad}")
    (place,) = recordings(find(root))
    segments = sorted(place.path.glob("*.seg"))
    unseal_s, _ = _cpu(lambda: [_unseal(path, key) for path in segments])
    open_s, _ = _cpu(lambda: open_recording(place, key, out, verified=True))
    return Read(sum(path.stat().st_size for path in segments), verify_s, unseal_s, open_s)


def _unseal(path: Path, key: RecipientKey) -> int:
    with path.open("rb") as stream:
        return sum(map(len, open_message(stream, [key])))
