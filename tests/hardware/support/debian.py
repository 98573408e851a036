"""Debian packages on this machine, and Debian trees beside it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support import cache

_APT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
MOST_SAID = 4000


class CommandError(Exception):
    """A program that must succeed did not; the text is the end of what it said."""


def run(*argv: str | Path, timeout_s: float = 900.0, **more: object) -> str:
    """Run a program; what it printed.

    Raises:
        CommandError: It ended otherwise than with 0.
    """
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout_s,
        check=False,
        **more,
    )
    if done.returncode:
        raise CommandError(f"{' '.join(map(str, argv))}: exit code {done.returncode}:\n{done.stdout[-MOST_SAID:]}")
    return str(done.stdout)


def need(**packages: str) -> None:
    """Install what is missing, given as program=package; `_` in a program's name may stand for `-`.

    Raises:
        CommandError: apt-get did not succeed.
    """
    missing = {
        package
        for program, package in packages.items()
        if not (shutil.which(program) or shutil.which(program.replace("_", "-")))
    }
    if missing:
        run("apt-get", "update", "-q", env=_APT)
        run("apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(missing), env=_APT)


def mirror() -> str:
    """The Debian mirror of this machine's own apt sources."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        text = path.read_text() if path.is_file() else ""
        for line in text.splitlines():
            found = re.match(r"(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(https?://\S+/debian)/?(?:\s|$)", line)
            if found:
                return found[1]
    raise CommandError("expected a Debian mirror in /etc/apt/sources.list or below /etc/apt/sources.list.d; none came")


def tree(suite: str, packages: Sequence[str], *, arch: str = "amd64") -> Path:
    """A tree of a Debian suite with packages, by debootstrap (minbase), kept in the cache.

    Never change it: copy it, or lay something over it.

    Raises:
        CommandError: debootstrap did not succeed.
    """

    def make(folder: Path) -> None:
        need(debootstrap="debootstrap")
        # debootstrap of an older Debian knows no newer suite's name; all take the script of sid.
        argv = ["debootstrap", "--variant=minbase", f"--arch={arch}", f"--include={','.join(packages)}"]
        run(*argv, suite, folder / "root", mirror(), "sid", timeout_s=1800)

    return cache.kept(f"{suite}-{arch}", (suite, arch, sorted(packages)), make) / "root"


def lend_network(root: Path) -> None:
    """Give a tree what its pip needs to reach this machine's package sources: names, certificates, configuration."""
    for path in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"):
        if Path(path).is_file():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, root / path[1:], follow_symlinks=True)
    for found in re.findall(r"file://(\S+)|find-links\s*=\s*(/\S+)", _pip_settings()):
        folder = Path(found[0] or found[1])
        if folder.is_dir():
            (root / str(folder)[1:]).mkdir(parents=True, exist_ok=True)


def _pip_settings() -> str:
    path = Path("/etc/pip.conf")
    return path.read_text() if path.is_file() else ""


@contextmanager
def mounted(root: Path, *binds: tuple[Path, str]) -> Iterator[None]:
    """proc, sys and dev of this machine, and `binds` (what, where in the tree), in a tree for as long as this lasts."""
    with ExitStack() as stack:
        for what, where in ((Path("/proc"), "proc"), (Path("/sys"), "sys"), (Path("/dev"), "dev"), *binds):
            target = root / where.lstrip("/")
            if what.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            run("mount", "--bind", what, target)
            stack.callback(run, "umount", "--lazy", target)
        yield


def inside(root: Path, *argv: str, timeout_s: float = 900.0, **env: str) -> str:
    """Run a program in a tree; what it printed.

    Raises:
        CommandError: It ended otherwise than with 0.
    """
    clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    return run("chroot", root, *argv, timeout_s=timeout_s, env={**clean, "DEBIAN_FRONTEND": "noninteractive", **env})
