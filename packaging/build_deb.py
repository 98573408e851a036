"""Build the Debian package: `python packaging/build_deb.py [--arch arm64] [--python 3.13] [--out dist]`.

The libraries of requirements.lock come as wheels for the target's Python and machine, by their hashes, so that neither
has to be the builder's own: a workstation builds for a camera. Times, owners, modes and order are fixed, so that the
same sources give the same bytes. Nothing of the target's is compiled here; the package does that when it is installed.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = "usr/lib/bwc-agent"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC = {"3.11": 36, "3.13": 41}
"""The glibc of the Debian release that has this Python: bookworm, trixie."""
OLDEST_GLIBC = 17
PLACES = {
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
    "sysctl.d": "usr/lib/sysctl.d",
    "udev": "usr/lib/udev/rules.d",
    "logind.conf.d": "usr/lib/systemd/logind.conf.d",
    "system.conf.d": "usr/lib/systemd/system.conf.d",
    "libexec": "usr/libexec/bwc-agent",
}
"""Where the folders of systemd/ go; the units beside them go to UNITS."""
UNITS = "usr/lib/systemd/system"
WANTS = {"sysinit.target": "bwc.target", "var-lib-bwc.mount": "bwc-card.service"}
"""Which unit of ours is started along with which of the machine's, without being enabled."""
SOURCES_ONLY = frozenset({"sdnotify"})
"""Pure Python that is published without a wheel."""


def version() -> str:
    """The project's."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def epoch() -> int:
    """The time that all files get: SOURCE_DATE_EPOCH, or the newest commit's."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told:
        return int(told)
    said = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return int(said) if said else int((ROOT / "pyproject.toml").stat().st_mtime)


def locked() -> Iterator[tuple[str, str]]:
    """Each library that a Linux device needs: its name, and its lines of the lock file."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text().strip()):
        name = re.split(r"[=<> ;\[]", entry, maxsplit=1)[0]
        if "sys_platform == 'win32'" not in entry.splitlines()[0]:
            yield name, entry + "\n"


def libraries(into: Path, arch: str, python: str) -> None:
    """Unpack the locked libraries, each by its hash."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    pip += ["--require-hashes", "--target", str(into)]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    target += [word for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    for minor in range(GLIBC[python], OLDEST_GLIBC - 1, -1):
        target += ["--platform", f"manylinux_2_{minor}_{MACHINES[arch]}"]
    target += ["--platform", f"manylinux2014_{MACHINES[arch]}"]
    with tempfile.TemporaryDirectory() as folder:
        wheels, sources = Path(folder, "wheels.txt"), Path(folder, "sources.txt")
        wheels.write_text("".join(lines for name, lines in locked() if name not in SOURCES_ONLY))
        sources.write_text("".join(lines for name, lines in locked() if name in SOURCES_ONLY))
        subprocess.run([*pip, *target, "-r", str(wheels)], check=True)
        subprocess.run([*pip, "-r", str(sources)], check=True)
    for needless in ("bin", "lib64"):
        shutil.rmtree(into / needless, ignore_errors=True)
        (into / needless).unlink(missing_ok=True)


def install(source: Path, target: Path, mode: int = 0o644, **values: str) -> None:
    """Copy a file; `@NAME@` in it is replaced by the value of that name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    for name, value in values.items():
        data = data.replace(f"@{name}@".encode(), value.encode())
    target.write_bytes(data)
    target.chmod(mode)


def lay_out(tree: Path, python: str) -> None:
    """Put everything that is ours in its place."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "agent", tree / HOME / "agent", ignore=skip)
    for item in sorted((ROOT / "systemd").iterdir()):
        if item.is_file():
            install(item, tree / UNITS / item.name)
        for part in sorted(item.iterdir()) if item.is_dir() else ():
            install(part, tree / PLACES[item.name] / part.name, 0o755 if item.name == "libexec" else 0o644)
    for wanting, unit in WANTS.items():
        wants = tree / UNITS / f"{wanting}.wants" / unit
        wants.parent.mkdir(parents=True, exist_ok=True)
        wants.symlink_to(f"../{unit}")
    debian = ROOT / "packaging" / "debian"
    install(debian / "launcher", tree / "usr/bin/bwc-agent", 0o755, PYTHON=python)
    documents = tree / "usr/share/doc/bwc-agent"
    for name in ("README.md", "SECURITY.md"):
        install(ROOT / name, documents / name)
    install(ROOT / "LICENSE", documents / "copyright")
    (documents / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))


def settle(tree: Path, when: int) -> int:
    """Give everything the same owner's modes and the same time; its size in KiB."""
    size = 0
    for path in (tree, *sorted(tree.rglob("*"))):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100 or path.suffix == ".so"
            path.chmod(0o755 if executable else 0o644)
            size += path.stat().st_size
        os.utime(path, (when, when), follow_symlinks=False)
    return size // 1024


def build(arch: str, python: str, out: Path, release: str = "") -> Path:
    """Build the package; its path.

    Args:
        arch: Debian's name of the machine.
        python: The target's Python.
        out: The folder it is put into.
        release: Replaces the version, to try an upgrade out.
    """
    number = f"{release or version()}-1~py{python}"
    major, minor = python.split(".")
    debian = ROOT / "packaging" / "debian"
    out.mkdir(parents=True, exist_ok=True)
    result = out / f"bwc-agent_{number}_{arch}.deb"
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        (tree / HOME).mkdir(parents=True)
        libraries(tree / HOME, arch, python)
        lay_out(tree, python)
        size = settle(tree, epoch())
        values = {"VERSION": number, "ARCH": arch, "SIZE": str(size), "PYTHON": python}
        values["NEXT"] = f"{major}.{int(minor) + 1}"
        install(debian / "control", tree / "DEBIAN" / "control", **values)
        for script in ("postinst", "prerm", "postrm"):
            install(debian / script, tree / "DEBIAN" / script, 0o755, **values)
        (tree / "DEBIAN").chmod(0o755)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch())}
        argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "--build", str(tree), str(result)]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)
    return result


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=sorted(MACHINES), default=_own_arch())
    parser.add_argument("--python", choices=sorted(GLIBC), default="3.13", help="3.11: bookworm, 3.13: trixie")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--release", default="", help="another version, to try an upgrade out")
    asked = parser.parse_args()
    print(build(asked.arch, asked.python, asked.out, asked.release))  # noqa: T201 - what the command is for


def _own_arch() -> str:
    machine = os.uname().machine
    return next((arch for arch, name in MACHINES.items() if name == machine), "amd64")


if __name__ == "__main__":
    main()
