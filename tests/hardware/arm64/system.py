"""A system of 64-bit Arm to run the agent in: Debian's Python, the locked wheels, and the agent as it is packaged.

Nothing in it is configured, and no program of it starts another: its packages are only unpacked, which takes seconds
where the installers of emulated packages take minutes. The interpreter is run by the emulator explicitly, so that no
binfmt registration is needed.
"""

import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hardware.support.debian import mirror, mounted, need, run
from tests.support import cache

SUITE, PYTHON = "trixie", "3.13"
EMULATOR = "/qemu-aarch64-static"
CPU = "cortex-a72"
"""The emulator's default has features whose emulation is many times slower, and which no Pi 4 has."""
PACKAGES = "/opt/agent"
REPOSITORY = Path(__file__).resolve().parents[3]
LOCK = REPOSITORY / "requirements.lock"
_VERSION = 2
_PLATFORMS = ("manylinux_2_41_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
_SOURCE_ONLY = re.compile(r"^sdnotify==", re.MULTILINE)
"""Locked as source alone; pure Python, so that a wheel of it is the same for every machine."""


@dataclass(frozen=True, slots=True)
class System:
    """Where it lies. Folders of this machine that are lent to it have the same name in it."""

    root: Path

    def command(self, *arguments: str) -> list[str]:
        """What runs its Python with these arguments."""
        given = [part for one in (f"PYTHONPATH={PACKAGES}", "LANG=C.UTF-8") for part in ("-E", one)]
        return ["chroot", str(self.root), EMULATOR, "-cpu", CPU, *given, f"/usr/bin/python{PYTHON}", "-B", *arguments]


@contextmanager
def system(*lent: Path) -> Iterator[System]:
    """The system with folders of this machine in it, while this lasts.

    Raises:
        CommandError: It can't be made.
    """
    need(qemu_aarch64_static="qemu-user-static", debootstrap="debootstrap", dpkg="dpkg")
    base = cache.kept(f"{SUITE}-arm64-unpacked", (SUITE, PYTHON, _VERSION), _unpack) / "root"
    wheels = cache.kept("wheels-arm64", (PYTHON, LOCK.read_bytes(), _VERSION), _fetch)
    agent = base / PACKAGES[1:]
    shutil.rmtree(agent, ignore_errors=True)
    agent.mkdir(parents=True)
    for wheel in sorted(wheels.glob("*.whl")):
        _unzip(wheel, agent)
    shutil.copyfile(shutil.which("qemu-aarch64-static") or "", base / EMULATOR[1:])
    (base / EMULATOR[1:]).chmod(0o755)
    with mounted(base, *((folder, str(folder)) for folder in lent)):
        yield System(base)


def install(into: System, wheel: Path) -> None:
    """Put a wheel beside the others."""
    _unzip(wheel, into.root / PACKAGES[1:])


def _unzip(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def _unpack(folder: Path) -> None:
    """Packages fetched by debootstrap for another architecture, and unpacked one over the other."""
    root = folder / "root"
    argv = ["debootstrap", "--foreign", "--variant=minbase", "--arch=arm64", "--include=python3"]
    run(*argv, SUITE, root, mirror(), "sid", timeout_s=1200)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        run("dpkg", "-x", package, root)
        package.unlink()


def _fetch(folder: Path) -> None:
    """The wheels that the lock file names for this architecture, their hashes checked."""
    entries = re.split(r"\n(?=\S)", LOCK.read_text().strip())
    binary, source = folder / "binary.lock", folder / "source.lock"
    binary.write_text("\n".join(entry for entry in entries if not _SOURCE_ONLY.match(entry)))
    source.write_text("\n".join(entry for entry in entries if _SOURCE_ONLY.match(entry)))
    locked = ("--require-hashes", "--no-deps")
    target = ("--python-version", PYTHON, "--implementation", "cp")
    abis = [part for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for part in ("--abi", abi)]
    platforms = [part for platform in _PLATFORMS for part in ("--platform", platform)]
    run(*_PIP, "download", *locked, "--only-binary=:all:", *target, *abis, *platforms, "-r", binary, "-d", folder)
    run(*_PIP, "wheel", *locked, "--no-build-isolation", "-r", source, "-w", folder)
