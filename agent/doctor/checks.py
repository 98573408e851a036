"""Checks whether a device is fit for a shift. Each states in one line what it found, and what to do if that is wrong.

What a running recorder holds open is not opened a second time: the recorder is asked instead. Keys, evidence and state
belong to the recorder's user; checks that only this user and root can make are skipped for other users, and one
finding reports that.
"""

import os
import pwd
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.capture.base import OpenSource, Source
from agent.clock import Clocks
from agent.config.installed import is_adopted
from agent.config.recorder import Config, resolve
from agent.doctor.state_checks import device_state
from agent.encoding.strict_json import sha256_hex
from agent.errors import BwcError, ControlError, SourceError
from agent.keys.files import rights_of_others
from agent.recorder.hardening import harden, swap_devices, swap_is_encrypted
from agent.recorder.ipc.local_socket import MAX_PATH, NAME, ask
from agent.recorder.sources import sources
from agent.storage.disk import GROUP_FOLDER, OWNER_FOLDER, DiskStorage

SLOW_SYNC_S = 0.15
SYNC_BYTES = 64 << 10
SYNCS = 20
LEAST_FREE = 1 << 30
CAMERA_S = 10.0
"""A camera that has delivered nothing after this time counts as hanging."""
_ROOM_REMEDY = "insert an empty card; or copy the evidence off this one, run bwc-agent verify on the copy, and empty it"
_CAMERA_REMEDY = "check its cable and its driver, and [source] camera"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        said: What was found; `said` is also its key in the JSON output.
        remedy: What to do about it; empty if the device is fit in this respect.
    """

    check: str
    said: str
    remedy: str = ""

    @property
    def good(self) -> bool:
        """True if the device is fit in this respect."""
        return not self.remedy


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        remedy: What to do if `look` raises.
        look: Returns what was found, and what to do about it (empty if nothing). May raise any exception.
        private: Only the recorder's user and root can run it.
    """

    name: str
    remedy: str
    look: Callable[[], tuple[str, str]]
    private: bool = False

    def finding(self) -> Finding:
        """Run the check. Never raises."""
        try:
            text, remedy = self.look()
        except BwcError as error:
            return Finding(self.name, str(error), self.remedy)
        except Exception as error:  # noqa: BLE001 - a camera library may raise anything; the other checks go on
            return Finding(self.name, f"{type(error).__name__}: {error}", self.remedy)
        return Finding(self.name, text, remedy)


def check_all(
    config: Config,
    config_file: Path,
    clocks: Clocks,
    root: Path = Path("/"),
    *,
    problem: str = "",
    user: int | None = None,
) -> Iterator[Finding]:
    """Run all checks, one after the other. None of them raises.

    Args:
        config: The configuration to check.
        config_file: Its file; relative paths start there.
        clocks: Both clocks.
        root: The machine's root folder, for kernel and systemd settings and to tell whether it was adopted.
        problem: What is wrong with the file, if `config` replaces it.
        user: Id of the user who checks; by default this process's.
    """
    from agent.doctor.machine_checks import machine_checks

    adopted = is_adopted(config_file, root)
    storage = resolve(config_file, config.storage.path)
    state = resolve(config_file, config.device.state)
    running = ask_running(resolve(config_file, config.run.directory))
    in_device = "correct what is named, in [device]"
    sign = "install a signed bundle: bwc-agent policy sign"

    def private(name: str, remedy: str, look: Callable[[], tuple[str, str]]) -> Check:
        return Check(name, remedy, look, private=True)

    checks = [
        Check("configuration", "", lambda: _configuration(config_file, problem, running)),
        Check("clock", "", lambda: _clock(clocks)),
        private("evidence folder", f"mount the card, or: mkdir -m 700 {storage}", lambda: _folder(storage, config)),
        private("storage room", "mount the card, or name another folder in [storage] path", lambda: _room(storage)),
        private("storage speed", "let the recorder's user write there", lambda: storage_speed(storage)),
        private("device state", f"mkdir -m 700 {state}", lambda: device_state(config, config_file, running)),
        private("camera", _CAMERA_REMEDY, lambda: _camera(config, config_file, clocks, running)),
        private("keys", in_device, lambda: _keys(config, config_file, clocks)),
        private("key file", in_device, lambda: _key_file(config, config_file)),
        private("policy", sign, lambda: _policy(config, config_file, clocks)),
        private(
            "run directory",
            "name another one in [run] directory",
            lambda: _run_directory(resolve(config_file, config.run.directory)),
        ),
        private("controls", "correct [controls]", lambda: _controls(config, clocks, running)),
        Check("memory", "lower [buffer] max_mb", lambda: _memory(config)),
        Check("swap", "run doctor on the machine that records", lambda: _swap(root / "proc/swaps")),
        Check("core dumps", "LimitCORE=0 in the unit", _dumps),
    ]
    if adopted:
        checks += [Check("camera is real", "", lambda: _real_camera(config)), *machine_checks(root, storage)]
    owner = other_owner(config, config_file, os.geteuid() if user is None else user)
    if owner:
        skipped = ", ".join(check.name for check in checks if check.private)
        text = f"evidence, state and keys belong to {owner}; skipped, because this user can't judge them: {skipped}"
        yield Finding("user", text, f"run with sudo: sudo bwc-agent doctor --config {config_file}")
    for check in checks:
        if not (owner and check.private):
            yield check.finding()


def other_owner(config: Config, config_file: Path, user: int) -> str:
    """The name of the user who owns evidence or state, if that is neither `user` nor a user that root can act as.

    Empty if `user` is root or the owner, or if neither folder exists yet.
    """
    if user == 0:
        return ""
    for path in (resolve(config_file, config.storage.path), resolve(config_file, config.device.state)):
        try:
            owner = path.stat().st_uid
        except PermissionError:
            return "another user"
        except OSError:
            continue
        if owner != user:
            try:
                return pwd.getpwuid(owner).pw_name
            except KeyError:
                return f"the user with id {owner}"
    return ""


def ask_running(run_directory: Path) -> dict[str, Any] | None:
    """The status of the recorder that runs with this configuration; None if there is none or it refuses this user."""
    try:
        return ask(run_directory, {"ask": "status"})
    except ControlError:
        return None


def _configuration(config_file: Path, problem: str, running: dict[str, Any] | None) -> tuple[str, str]:
    """Whether the file is valid, and in force if a recorder runs."""
    correct = f"correct it; if a recorder is running, then: bwc-agent reload --config {config_file}"
    if problem:
        return problem, correct
    if running is None:
        return f"{config_file} is valid", ""
    known = running["configuration"]
    if known["origin"] != "file":
        origin = known["origin"].replace("_", " ")
        return f"the running recorder uses the {origin} one: {known['problem']}", correct
    if known["digest"] != sha256_hex(config_file.read_bytes()):
        return "the file has changed since the running recorder read it", correct.partition("; ")[2]
    if known["pending"]:
        text = f"a restart of the running recorder puts {', '.join(known['pending'])} in force"
        return text, "systemctl kill --kill-whom=main --signal=TERM bwc-recorder: it restarts and continues a recording"
    return f"the running recorder uses {config_file} as it is", ""


def _clock(clocks: Clocks) -> tuple[str, str]:
    wall = clocks.wall()
    if wall.uncertainty_s is None:
        return (
            f"{wall.source}: the clock is not synchronised; recordings will say so",
            "let systemd-timesyncd or chrony synchronise it, for example in the dock",
        )
    return f"{wall.source}, within {wall.uncertainty_s * 1000:.0f} ms", ""


def _folder(path: Path, config: Config) -> tuple[str, str]:
    mode = stat.S_IMODE(path.stat().st_mode)
    wanted = OWNER_FOLDER if config.storage.readers == "owner" else GROUP_FOLDER
    good = mode & 0o077 & ~wanted == 0 and os.access(path, os.W_OK)
    return f"{path} has mode {mode:04o}", "" if good else f"chmod {wanted:o} {path}, owned by the recorder"


def _room(path: Path) -> tuple[str, str]:
    free = DiskStorage(path).free_bytes()
    hours = free * 8 / 4e6 / 3600
    text = f"{free / 1e9:.1f} GB free, {hours:.0f} h at 4 Mbit/s"
    return text, "" if free >= LEAST_FREE else _ROOM_REMEDY


def storage_speed(path: Path) -> tuple[str, str]:
    """Measure how long a sync takes: twenty times 64 KiB."""
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
    text = f"sync of 64 KiB: median {median * 1000:.1f} ms, slowest {worst * 1000:.1f} ms"
    return text, "" if worst < SLOW_SYNC_S else "use a card of application class A1 or better, or check this one"


def _camera(config: Config, config_file: Path, clocks: Clocks, running: dict[str, Any] | None) -> tuple[str, str]:
    if running is not None:
        good = running["source_delivering"]
        text = f"{running['source']} {'delivers' if good else 'delivers nothing'} to the running recorder"
        return text, "" if good else _CAMERA_REMEDY
    delivering = []
    for named in sources(config, config_file, clocks.monotonic_ns, lambda *_: None, live=False):
        before = time.perf_counter()
        tracks = _tracks(named.source)
        delivering.append(f"{named.source.name} delivers {tracks} after {time.perf_counter() - before:.2f} s")
    return "; ".join(delivering), ""


def _real_camera(config: Config) -> tuple[str, str]:
    if config.source.simulated:
        return (
            f"{config.source.camera!r} is simulated: it records nothing of what happens",
            'camera = "picamera2" in [source]',
        )
    return config.source.camera, ""


def _tracks(source: Source) -> str:
    """The tracks of a source, once its first packet has come.

    Raises:
        SourceError: It can't be opened, delivers nothing, or hangs.
        Exception: Any that its library raises.
    """
    found: list[str] = []
    problems: list[Exception] = []

    def look() -> None:
        opened: OpenSource | None = None
        try:
            opened = source.open(1)
            tracks = ", ".join(f"{s.parameters.kind} {s.parameters.codec}" for s in opened.streams)
            found.append(tracks if next(iter(opened), None) is not None else "")
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            problems.append(error)
        finally:
            if opened is not None:
                opened.close()

    thread = threading.Thread(target=look, name="camera-check", daemon=True)
    thread.start()
    thread.join(CAMERA_S)
    if problems:
        raise problems[0]
    if not found:
        raise SourceError(f"{source.name} has delivered nothing after {CAMERA_S:.0f} s: its library hangs")
    if not found[0]:
        raise SourceError(f"{source.name} opens but delivers nothing")
    return found[0]


def _keys(config: Config, config_file: Path, clocks: Clocks) -> tuple[str, str]:
    from agent.recorder.identity import load_device_identity
    from agent.trust.certificates import verify_device

    identity = load_device_identity(config, config_file)
    wall = clocks.wall()
    now_ns = wall.utc_ns if wall.trusted else None
    verify_device(identity.certificate.decode("ascii"), identity.trust, now_ns)
    recipients = identity.trust.recipients(config.recording.classification, now_ns)
    return f"{identity.device} of {identity.agency}; recordings open for {len(recipients)} recipients", ""


def _key_file(config: Config, config_file: Path) -> tuple[str, str]:
    scheme, _, place = config.device.key.partition(":")
    if scheme != "file":
        return f"the identity key is kept by {scheme}", ""
    path = resolve(config_file, place)
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{path} has mode {mode:04o}", "" if not rights_of_others(path, mode) else f"chmod 600 {path}"


def _policy(config: Config, config_file: Path, clocks: Clocks) -> tuple[str, str]:
    from agent.evidence import layout
    from agent.journal.boot_recovery import read_recovery_state, read_tail
    from agent.policy.store import BundleFiles, PolicyEventKind, PolicyStore
    from agent.recorder.identity import load_device_identity
    from agent.recorder.service import state_store

    if config.policy.unsafe_permit_everything:
        return "permits whatever is asked: UNSAFE, for development only", "unsafe_permit_everything = false in [policy]"
    identity = load_device_identity(config, config_file)
    storage = DiskStorage(resolve(config_file, config.storage.path))
    seen = read_recovery_state(storage, read_tail(storage)).carried.policy_version
    known = state_store(config, config_file, identity).load().state
    digest = known.policy_digest if known is not None and known.policy_version >= seen else ""
    seen = max(seen, known.policy_version) if known is not None else seen
    store = PolicyStore(BundleFiles(storage, layout.POLICY), identity.trust.keys_of("policy"), identity.agency, seen)
    happened = store.load(clocks.wall(), digest)
    expired = store.check(clocks.wall())
    bad = {PolicyEventKind.DAMAGED, PolicyEventKind.ROLLED_BACK, PolicyEventKind.REFUSED}
    wrong = [event for event in happened if event.kind in bad]
    wrong += [expired] if expired is not None else []
    pack = store.engine.pack.name
    text = f"{pack}, built in" if store.bundle is None else f"{pack}, version {store.bundle.version}"
    text += "".join(f"; {event.kind} {event.version}: {event.detail}" for event in wrong)
    return text, "install a newer bundle: bwc-agent policy sign" if wrong else ""


def _run_directory(path: Path) -> tuple[str, str]:
    remedy = "name another one in [run] directory"
    if len(os.fsencode(path / NAME)) > MAX_PATH:
        return f"{path / NAME} is longer than the {MAX_PATH} bytes that a socket's path may have", remedy
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is not a folder", remedy
    good = os.access(existing, os.W_OK)
    text = f"{path} can be {'used' if existing == path else 'made'}" if good else f"{path} can't be written"
    return text, "" if good else remedy


def _controls(config: Config, clocks: Clocks, running: dict[str, Any] | None) -> tuple[str, str]:
    from agent.gpio.controls import HardwareControls

    if running is not None:
        faulty = running["faulty_lines"]
        text = f"{'all inputs work' if not faulty else 'faulty: ' + ', '.join(faulty)}, says the running recorder"
        return text, "" if not faulty else "release the button, or check its wires"
    controls = HardwareControls(config.controls, clocks)
    try:
        wrong = "; ".join(f"{line}: {problem}" for line, problem in controls.problems.items())
        if wrong:
            return wrong, "connect the chip, or stop the program that holds the line"
        return f"{len(controls.lines)} inputs, layout {controls.layout.name}, pins by {config.controls.pin_factory}", ""
    finally:
        controls.close()


def _memory(config: Config) -> tuple[str, str]:
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = (config.buffer.max_mb + 80) << 20
    text = f"buffer of at most {config.buffer.max_mb} MB and 80 MB for the recorder, of {available >> 20} MB"
    return text, "" if needed < available * 3 // 4 else "lower [buffer] max_mb"


def _swap(proc_swaps: Path) -> tuple[str, str]:
    devices = swap_devices(proc_swaps.read_text())
    clear = [device for device in devices if not swap_is_encrypted(device)]
    if clear:
        return f"unencrypted swap: {', '.join(clear)}", "swapoff it, or use zram or encrypted swap"
    return f"none unencrypted ({len(devices)} areas)", ""


def _dumps() -> tuple[str, str]:
    hardening = harden()
    good = hardening.no_core and hardening.not_dumpable
    locked = "memory locked" if hardening.locked else "memory not locked (LimitMEMLOCK)"
    return f"{'off' if good else 'ON'}, {locked}", "" if good else "LimitCORE=0 in the unit"
