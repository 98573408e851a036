"""A Debian tree with unmodified libcamera and picamera2, and our locked dependencies, kept by version."""

import shutil
from pathlib import Path

from tests.hardware.support import debian
from tests.support import cache

SUITE = "forky"
PICAMERA2 = "picamera2==0.3.38"
PACKAGES = ("ca-certificates", "gcc", "libc6-dev", "libcap-dev", "python3-dev", "python3-libcamera", "python3-venv")
PIPELINE = "usr/share/libcamera/pipeline/virtual/virtual.yaml"
HERE = Path(__file__).resolve().parent
LOCK = HERE.parents[2] / "requirements.lock"
PYTHON = "/venv/bin/python"


def prepared() -> Path:
    """The tree's root; made if absent.

    Every locked dependency is installed as it is locked, by hash, for the tree's own Python: a newer one than
    `pyproject.toml` names, so that the package's source is put on the path, not installed.
    """
    base = debian.tree(SUITE, PACKAGES)
    lock, pipeline = LOCK.read_text(), (HERE / "virtual.yaml").read_text()

    def make(folder: Path) -> None:
        root = folder / "root"
        debian.run("cp", "-a", "--reflink=auto", base, root)
        debian.lend_network(root)
        (root / PIPELINE).parent.mkdir(parents=True)
        (root / PIPELINE).write_text(pipeline)
        shutil.copyfile(LOCK, root / "requirements.lock")
        with debian.mounted(root):
            debian.inside(root, "python3", "-m", "venv", "--system-site-packages", "/venv")
            pip = (PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check")
            debian.inside(root, *pip, "--require-hashes", "-r", "/requirements.lock")
            debian.inside(root, *pip, PICAMERA2)

    return cache.kept("camera", (base.parent.name, PICAMERA2, lock, pipeline), make) / "root"
