"""Build the Debian package: `python packaging/build_deb.py [--arch arm64] [--python 3.13] [--out dist]`.

The libraries of requirements.lock are wheels for the target's Python and machine, checked by their hashes, so that a
workstation can build for a camera. Times, owners, modes and order are fixed: the same sources give the same bytes. Byte
code is compiled when the package is installed, not here.

A camera needs no demonstration, no simulated fleet and no RabbitMQ cluster: LEFT_OUT names what is not installed.
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
from email.parser import HeaderParser
from email.utils import formatdate
from pathlib import Path

import manual

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
LEFT_OUT = ("agent/demo", "agent/simulator", "agent/brokers/rabbitmq.py", "agent/brokers/rabbitmq_cluster.py")
"""Modules that the package lacks; the commands that need them say so."""
ABSENT = frozenset({"demo", "fleet simulate", "fleet rabbitmq"})
"""Those commands."""
DOCUMENTS = ("README.md", "SECURITY.md", "CONTRIBUTING.md")
RENAMED = {"LICENSE": "copyright", "CHANGELOG.md": "changelog.gz"}
"""Files that pages link, and to which Debian gives another name."""
SOURCES_ONLY = frozenset({"sdnotify"})
"""Pure Python that is published without a wheel."""


def version() -> str:
    """The project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def epoch() -> int:
    """The time of all files: SOURCE_DATE_EPOCH, else that of the newest commit."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told:
        return int(told)
    said = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return int(said) if said else int((ROOT / "pyproject.toml").stat().st_mtime)


def locked() -> Iterator[tuple[str, str]]:
    """The name of each library that Linux needs, and its lines of the lock file."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text().strip()):
        name = re.split(r"[=<> ;\[]", entry, maxsplit=1)[0]
        if "sys_platform == 'win32'" not in entry.splitlines()[0]:
            yield name, entry + "\n"


def libraries(into: Path, arch: str, python: str) -> None:
    """Unpack the locked libraries; each is checked by its hash."""
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
    for unneeded in ("bin", "lib64"):
        shutil.rmtree(into / unneeded, ignore_errors=True)
        (into / unneeded).unlink(missing_ok=True)


def install(source: Path, target: Path, mode: int = 0o644, **values: str) -> None:
    """Copy a file; `@NAME@` in it is replaced by the value of that name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    for name, value in values.items():
        data = data.replace(f"@{name}@".encode(), value.encode())
    target.write_bytes(data)
    target.chmod(mode)


def lay_out(tree: Path, number: str, when: int) -> None:
    """Put all files of this project in place.

    Args:
        tree: The package's root folder; libraries may be in it already, and are named in its copyright file.
        number: Version of the package.
        when: Its date, seconds since 1970.
    """

    def skipped(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(ROOT)
        return [name for name in names if name == "__pycache__" or str(inside / name) in LEFT_OUT]

    shutil.copytree(ROOT / "agent", tree / HOME / "agent", ignore=skipped)
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
    install(debian / "launcher", tree / "usr/bin/bwc-agent", 0o755)
    documents = tree / "usr/share/doc/bwc-agent"
    shutil.copytree(ROOT / "docs", documents / "docs")
    for name in DOCUMENTS:
        install(ROOT / name, documents / name)
    for page in documents.rglob("*.md"):
        text = page.read_text("utf-8")
        for old, new in RENAMED.items():
            text = re.sub(rf"(\]\([./]*){re.escape(old)}\)", rf"\1{new})", text)
        page.write_text(text, "utf-8")
    install(debian / "copyright", documents / "copyright", LIBRARIES=bundled(tree / HOME))
    compressed(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    entry = (debian / "changelog").read_text("utf-8")
    for name, value in {"VERSION": number, "UPSTREAM": version(), "DATE": formatdate(when)}.items():
        entry = entry.replace(f"@{name}@", value)
    compressed(documents / "changelog.Debian.gz", entry)
    install(debian / "lintian-overrides", tree / "usr/share/lintian/overrides/bwc-agent")
    for name, page in manual.pages(version(), when, ABSENT):
        compressed(tree / "usr/share/man/man1" / f"{name}.gz", page)


def compressed(path: Path, text: str) -> None:
    """Write a text as gzip -9n does: without name and time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def bundled(home: Path) -> str:
    """Name, version and licence of each library in a folder, a line each, for the copyright file."""
    lines = []
    for metadata in sorted(home.glob("*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(metadata.read_text("utf-8"))
        classifiers = [line.rpartition(" :: ")[2] for line in fields.get_all("Classifier", []) if "License ::" in line]
        known = fields.get("License-Expression") or ", ".join(classifiers) or fields.get("License") or "see its folder"
        lines.append(f" {fields['Name']} {fields['Version']}: {' '.join(known.split())[:60]}")
    return "\n".join(lines) or " (none)"


def normalise(tree: Path, when: int) -> int:
    """Give all files the same time, and modes by what they are; their size in KiB."""
    size = 0
    for path in (tree, *sorted(tree.rglob("*"))):
        if not path.is_symlink():
            executable = path.is_dir() or (path.stat().st_mode & 0o100 and ".so" not in path.suffixes)
            path.chmod(0o755 if executable else 0o644)
            size += path.stat().st_size
        os.utime(path, (when, when), follow_symlinks=False)
    return size // 1024


def build(arch: str, python: str, out: Path, release: str = "") -> Path:
    """Build the package; its path.

    Args:
        arch: Debian's name of the target's architecture.
        python: The target's Python.
        out: Folder of the package.
        release: Replaces the version, to test an upgrade.
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
        lay_out(tree, number, epoch())
        size = normalise(tree, epoch())
        values = {"VERSION": number, "ARCH": arch, "SIZE": str(size), "PYTHON": python, "GLIBC": f"2.{GLIBC[python]}"}
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
    """Build as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=sorted(MACHINES), default=_own_arch())
    parser.add_argument("--python", choices=sorted(GLIBC), default="3.13", help="3.11: bookworm, 3.13: trixie")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--release", default="", help="another version, to test an upgrade")
    asked = parser.parse_args()
    print(build(asked.arch, asked.python, asked.out, asked.release))  # noqa: T201 - what the command is for


def _own_arch() -> str:
    machine = os.uname().machine
    return next((arch for arch, name in MACHINES.items() if name == machine), "amd64")


if __name__ == "__main__":
    main()
