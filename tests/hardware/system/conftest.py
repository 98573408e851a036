"""The package, a fresh Debian for it, and a machine that it makes a camera of.

To see that a check can fail, give a shell script in `BWC_WEAKEN` that spoils the installed machine before it is
switched on, such as `sed -i s/^Restart=.*// /usr/lib/systemd/system/bwc-recorder.service`.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardware.support import debian
from tests.hardware.support.machine import Machine, machine
from tests.support import cache

ROOT = Path(__file__).resolve().parents[3]
SUITE = "trixie"
TREE = ("systemd-sysv", "dbus", "udev")
"""A Debian that boots, and nothing that the package is to bring along itself."""
CAMERA = "pattern:320x240@30"


def sources() -> str:
    """A hash of everything that goes into the package."""
    digest = hashlib.sha256()
    for name in ("agent", "systemd", "packaging", "requirements.lock", "pyproject.toml", "README.md"):
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)} {file.stat().st_mode}\n".encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def package() -> Path:
    """The Debian package of this tree."""

    def make(folder: Path) -> None:
        debian.run(sys.executable, ROOT / "packaging" / "build_deb.py", "--arch", "amd64", "--out", folder)

    return next(cache.kept("bwc-agent-deb", sources(), make).glob("*.deb"))


@pytest.fixture(scope="session")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package under a newer version."""
    folder = tmp_path_factory.mktemp("newer")
    debian.run("dpkg-deb", "-R", package, folder / "tree")
    control = folder / "tree" / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("Version: ", "Version: 9."))
    debian.run("dpkg-deb", "--root-owner-group", "-Znone", "--build", folder / "tree", folder / "newer.deb")
    return folder / "newer.deb"


@pytest.fixture(scope="session")
def fresh() -> Path:
    """A Debian with what apt needs to install the package's dependencies without a network: lists and archives."""
    base = debian.tree(SUITE, TREE)

    def make(folder: Path) -> None:
        root = folder / "root"
        debian.run("cp", "-a", base, root)
        debian.lend_network(root)
        with debian.mounted(root):
            debian.inside(root, "apt-get", "-o", "Acquire::Languages=none", "update", "-q")
            debian.inside(
                root, "apt-get", "install", "-y", "-q", "--no-install-recommends", "--download-only", "python3"
            )

    return cache.kept(f"{SUITE}-with-archives", (str(base), 1), make) / "root"


@pytest.fixture(scope="session")
def camera(fresh: Path, package: Path) -> Iterator[Machine]:
    """A machine on which the package was installed by apt, and which was then made a camera; off."""
    with machine(fresh) as made:
        (made.root / "root/bwc-agent.deb").write_bytes(package.read_bytes())
        with debian.mounted(made.root):
            apt = ("apt-get", "install", "-y", "-q", "--no-install-recommends")
            debian.inside(made.root, *apt, "/root/bwc-agent.deb")
            identity = ("--agency", "city-pd", "--device", "camera-7", "--camera", CAMERA)
            debian.inside(made.root, "bwc-agent", "init", "/root/pilot", *identity)
            debian.inside(made.root, "bwc-agent", "adopt", "/root/pilot/device", "--mock-pins")
            debian.inside(made.root, "sh", "-ec", os.environ.get("BWC_WEAKEN", ""))
        (made.root / "var/log/journal").mkdir(exist_ok=True)
        yield made


def analyze(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze of a tree, in it."""
    return subprocess.run(
        ["chroot", str(root), "systemd-analyze", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0"},
    )
