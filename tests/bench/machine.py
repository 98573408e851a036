"""What the measurements ran on."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    for name in ("model name", "Model", "Hardware"):
        if found := re.search(rf"^{name}\s*: (.+)$", text, re.MULTILINE):
            return found[1].strip()
    return platform.machine()


def _has_aes() -> bool:
    text = Path("/proc/cpuinfo").read_text()
    return bool(re.search(r"^(flags|Features)\s*:.*\baes\b", text, re.MULTILINE))


def file_system(folder: Path) -> str:
    """Type and device of the file system that a folder lies on."""
    mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    device = folder.stat().st_dev
    for source, place, kind in reversed(mounts):
        at = Path(place.replace("\\040", " "))
        if at.is_dir() and at.stat().st_dev == device:
            return f"{kind} on {source}"
    return "an unknown file system"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"no {command[0]} here"
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"


def ffmpeg_version() -> str:
    return _first_line("ffmpeg", "-version").split(" Copyright")[0]


def age_version() -> str:
    return f"age: {_first_line('age', '--version')}"


def describe() -> list[str]:
    """Date, machine, versions; a line each."""
    aes = "with" if _has_aes() else "without"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("av", "cryptography"))
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load before {os.getloadavg()[0]:.1f}",
        f"{_cpu()}, {os.cpu_count()} cores, {aes} AES instructions, {memory:.0f} GiB, {platform.machine()}",
        f"Linux {platform.release()}, Python {platform.python_version()}",
        f"{libraries}, {backend.openssl_version_text()}, {ffmpeg_version()}, {age_version()}",
    ]
