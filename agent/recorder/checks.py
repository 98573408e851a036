"""Is this device fit for a shift? Each check says in one line what it found, and what mends it."""

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.clock import Clocks
from agent.config import Config, resolve
from agent.errors import BwcError
from agent.media.sources.base import unpaced
from agent.media.sources.spec import parse_spec
from agent.recorder.hardening import harden, swap_devices, swap_is_encrypted
from agent.storage.disk import DiskStorage

SLOW_SYNC_S = 0.15
SYNC_BYTES = 64 << 10
SYNCS = 20
LEAST_FREE = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name.
        said: What was found.
        mend: What to do; empty if the device is fit in this respect.
    """

    check: str
    said: str
    mend: str = ""

    @property
    def good(self) -> bool:
        """True if the device is fit in this respect."""
        return not self.mend


def check_all(config: Config, config_file: Path, clocks: Clocks) -> Iterator[Finding]:
    """All checks, one after the other; none of them raises."""
    yield _clock(clocks)
    storage = resolve(config_file, config.storage.path)
    for check in (
        lambda: _storage_room(storage),
        lambda: _storage_speed(storage),
        lambda: _camera(config, config_file, clocks),
        lambda: _keys(config, config_file, clocks),
        lambda: _key_file(config, config_file),
        lambda: _folder(storage, "evidence folder"),
        lambda: _run_directory(resolve(config_file, config.run.directory)),
        lambda: _controls(config, clocks),
        lambda: _memory(config),
    ):
        yield _guarded(check)
    yield _swap(Path("/proc/swaps"))
    yield _dumps()


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except BwcError as error:
        return Finding("configuration", str(error), "correct what is named")
    except OSError as error:
        return Finding("system", str(error), "see the message")


def _clock(clocks: Clocks) -> Finding:
    wall = clocks.wall()
    if wall.uncertainty_s is None:
        return Finding(
            "clock",
            f"{wall.source}: nobody vouches for the time; recordings will say so",
            "let systemd-timesyncd or chrony synchronise it, at the dock for example",
        )
    return Finding("clock", f"{wall.source}, within {wall.uncertainty_s * 1000:.0f} ms")


def _storage_room(path: Path) -> Finding:
    free = DiskStorage(path).free_bytes()
    hours = free * 8 / 4e6 / 3600
    said = f"{free / 1e9:.1f} GB free, {hours:.0f} h at 4 Mbit/s"
    return Finding("storage room", said, "" if free >= LEAST_FREE else "dock and upload, or a new card")


def _storage_speed(path: Path) -> Finding:
    probe = path / f".doctor-{os.getpid()}"
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    times = []
    try:
        for number in range(SYNCS):
            os.pwrite(handle, os.urandom(SYNC_BYTES), number * SYNC_BYTES)
            before = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - before)
    finally:
        os.close(handle)
        probe.unlink()
    times.sort()
    median, worst = times[len(times) // 2], times[-1]
    said = f"sync of 64 KiB: median {median * 1000:.1f} ms, slowest {worst * 1000:.1f} ms"
    good = worst < SLOW_SYNC_S
    return Finding("storage speed", said, "" if good else "a card of application class A1 or better, or a check of it")


def _camera(config: Config, config_file: Path, clocks: Clocks) -> Finding:
    kind, colon, rest = config.source.camera.partition(":")
    spec = f"{kind}:{resolve(config_file, rest)}" if colon and kind.startswith("replay") else config.source.camera
    source = parse_spec(spec, unpaced(clocks.monotonic_ns))
    before = time.perf_counter()
    opened = source.open(1)
    try:
        first = next(iter(opened), None)
    finally:
        opened.close()
    took = time.perf_counter() - before
    tracks = ", ".join(f"{s.parameters.kind} {s.parameters.codec}" for s in opened.streams)
    if first is None:
        return Finding("camera", f"{source.name} opens but delivers nothing", "check its cable and its driver")
    return Finding("camera", f"{source.name} delivers {tracks} after {took:.2f} s")


def _keys(config: Config, config_file: Path, clocks: Clocks) -> Finding:
    from agent.recorder.service import load_owner

    owner = load_owner(config, config_file)
    wall = clocks.wall()
    recipients = owner.trust.recipients(config.recording.classification, wall.utc_ns if wall.trusted else None)
    return Finding("keys", f"{owner.device} of {owner.agency}; recordings open for {len(recipients)} recipients")


def _key_file(config: Config, config_file: Path) -> Finding:
    scheme, _, place = config.device.key.partition(":")
    if scheme != "file":
        return Finding("key file", f"the identity key is kept by {scheme}")
    path = resolve(config_file, place)
    mode = stat.S_IMODE(path.stat().st_mode)
    good = mode & 0o077 == 0
    return Finding("key file", f"{path} has mode {mode:04o}", "" if good else f"chmod 600 {path}")


def _folder(path: Path, what: str) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    good = mode & 0o077 == 0 and os.access(path, os.W_OK)
    return Finding(what, f"{path} has mode {mode:04o}", "" if good else f"chmod 700 {path}, owned by the recorder")


def _run_directory(path: Path) -> Finding:
    existing = path
    while not existing.exists():
        existing = existing.parent
    good = os.access(existing, os.W_OK)
    said = f"{path} can be {'used' if existing == path else 'made'}" if good else f"{path} can't be written"
    return Finding("run directory", said, "" if good else "name another in [run] directory")


def _controls(config: Config, clocks: Clocks) -> Finding:
    from agent.controls.shell import Hands

    hands = Hands(config.controls, clocks)
    said = f"{len(hands.lines)} inputs, layout {hands.layout.name}, pins by {config.controls.pin_factory}"
    return Finding("controls", said)


def _memory(config: Config) -> Finding:
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = (config.buffer.max_mb + 80) << 20
    good = needed < available * 3 // 4
    said = f"buffer of at most {config.buffer.max_mb} MB and 80 MB for the recorder, of {available >> 20} MB"
    return Finding("memory", said, "" if good else "lower [buffer] max_mb")


def _swap(proc: Path) -> Finding:
    try:
        devices = swap_devices(proc.read_text())
    except OSError:
        return Finding("swap", f"{proc} can't be read", "run doctor where the recorder runs")
    clear = [device for device in devices if not swap_is_encrypted(device)]
    if clear:
        return Finding("swap", f"unencrypted swap: {', '.join(clear)}", "swapoff it, or use zram or an encrypted swap")
    return Finding("swap", f"none in clear ({len(devices)} areas)")


def _dumps() -> Finding:
    hardening = harden()
    good = hardening.no_core and hardening.not_dumpable
    locked = "memory locked" if hardening.locked else "memory not locked (LimitMEMLOCK)"
    return Finding("core dumps", f"{'off' if good else 'ON'}, {locked}", "" if good else "LimitCORE=0 in the unit")
