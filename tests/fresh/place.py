"""A minimal Debian of its own: a tree that stays as it was, another laid over it, processes that end with the run.

Everything is mounted in a mount namespace of its own, and everything started is in a process namespace of its own, so
that nothing is left behind whatever ends the run. What a process sees as its root is one (pivot_root(8)): in a mere
chroot nobody may make user namespaces, as an ordinary user may elsewhere.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from tests.hardware.support import debian

PACKAGES = ("ca-certificates", "git", "make", "python3", "sudo")
"""What a newcomer has; the first is what Debian's own images have."""
REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = "/mnt/repository.bundle"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OF_EACH_DEBIAN = ("Acquire::IndexTargets", "Acquire::Changelogs", "Acquire::CompressionTypes", "Acquire::Languages")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ENTER = """
set -eu
base=$1 folder=$2 binds=$3; shift 3
root=$folder/root
mount -t overlay overlay -o "lowerdir=$base,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
while read -r what where; do
  if [ -d "$what" ]; then mkdir -p "$root$where"; else mkdir -p "$root${where%/*}"; touch "$root$where"; fi
  mount --bind "$what" "$root$where"
  mount -o remount,bind,ro "$root$where"
done <"$binds"
hostname fresh
mkdir -p "$root/.old"
cd "$root"
pivot_root . .old
exec chroot . /bin/sh -c 'cd /; umount -l /.old; "$@"; exit $?' enter "$@"
"""
"""Run as root in namespaces of its own; what follows its three arguments is run within."""


class Place:
    """One Debian, with users and a bundle of the repository in it.

    Args:
        suite: Its name, such as `bookworm`.
        folder: An empty folder on a disk, removed by the caller.
    """

    def __init__(self, suite: str, folder: Path) -> None:
        self.suite = suite
        self._folder = folder
        self._base = debian.tree(suite, PACKAGES)
        for name in ("root", "upper", "work"):
            (folder / name).mkdir()
        bundle = folder / "repository.bundle"
        branch = debian.run("git", "-C", REPOSITORY, "rev-parse", "--symbolic-full-name", "HEAD").strip()
        debian.run("git", "-C", REPOSITORY, "bundle", "create", "-q", bundle, "HEAD", *({branch} - {"HEAD"}))
        settings = pip_settings()
        binds = [(str(bundle), BUNDLE), *((str(path), str(path)) for path in _lent_paths(settings))]
        (folder / "binds").write_text("".join(f"{what} {where}\n" for what, where in binds))
        self._lend(settings)

    def _lend(self, settings: Mapping[str, str]) -> None:
        """How this machine reaches its package sources, and nothing else of it."""
        upper = self._folder / "upper"
        for name in ("/etc/resolv.conf", *_certificate_files()):
            target = upper / name[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target)
        (upper / "etc/hosts").write_text(Path("/etc/hosts").read_text() + "\n127.0.0.1 localhost fresh\n")
        (upper / "etc/pip.conf").write_text(
            "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
        )
        apt = upper / "etc/apt/apt.conf.d/90lent"
        apt.parent.mkdir(parents=True, exist_ok=True)
        apt.write_text(_apt_settings())
        # As in every chroot: no service is started by being installed.
        policy = upper / "usr/sbin/policy-rc.d"
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)

    def add_user(self, name: str, number: int, *, sudo: bool) -> None:
        """An ordinary user, who may or may not become root without a password.

        Args:
            name: The user's name.
            number: One that nobody has elsewhere on this machine, whose network all share.
            sudo: Whether the user may become root.
        """
        script = f"useradd --uid {number} --create-home --shell /bin/bash {name}"
        if sudo:
            script += f" && echo '{name} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{name}"
        self.run("root", script)

    def run(self, user: str, script: str, *, log: IO[str] | None = None, timeout_s: float = 3600) -> int:
        """Run a script of the shell as a user, in the user's home, without a terminal; its exit code.

        Raises:
            CommandError: It ended otherwise than with 0, and no log was given to say so in.
        """
        home = "/root" if user == "root" else f"/home/{user}"
        environment = {
            **{name: os.environ[name] for name in (*_PROXIES, *_CERTIFICATES) if name in os.environ},
            "PATH": _PATH,
            "HOME": home,
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            "CI": "true",
        }
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        inner = [*become, *words, "/bin/bash", "-c", f"cd && {script}"]
        # Whatever ends this program ends what it started: with it the kernel ends unshare, and with that the first
        # process within, and so all. That one stays root's: a change of user would clear this (prctl(2)).
        argv = ["setpriv", "--pdeathsig", "KILL"]
        argv += ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--uts", "--ipc"]
        argv += ["sh", "-c", _ENTER, "enter", str(self._base), str(self._folder), str(self._folder / "binds"), *inner]
        if log is None:
            debian.run(*argv, timeout_s=timeout_s)
            return 0
        log.write(f"$ {user}: {script}\n")
        log.flush()
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=timeout_s, check=False
        )
        return done.returncode


def pip_settings() -> dict[str, str]:
    """What pip is told on this machine, by files or variables, by its own account."""
    said = debian.run(sys.executable, "-m", "pip", "config", "list")
    settings = {}
    for line in said.splitlines():
        if found := re.match(r"(?:global|:env:)\.([a-z0-9-]+)=(.+)$", line):
            settings[found[1]] = " ".join(str(ast.literal_eval(found[2])).split())
    return settings


def _lent_paths(settings: Mapping[str, str]) -> Iterator[Path]:
    """Folders and files of this machine that pip's settings name; certificates are copied instead."""
    for name, value in settings.items():
        for word in value.split() if name != "cert" else ():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                # The pages of an index link to files that may lie beside it, not in it.
                beside = name.endswith("index-url") and len(path.parts) > len(Path("/a/b").parts)
                yield path.parent if beside else path


def _certificate_files() -> list[str]:
    named = [os.environ[name] for name in _CERTIFICATES if name in os.environ]
    return sorted({name for name in ("/etc/ssl/certs/ca-certificates.crt", *named) if Path(name).is_file()})


def _apt_settings() -> str:
    """How apt fetches on this machine. sudo passes no variables on, so what they say is written down as well."""
    dumped = debian.run("apt-config", "dump", "--format", '%F "%v";%n', "Acquire").splitlines()
    lines = [line for line in dumped if not line.startswith(_OF_EACH_DEBIAN)]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy:
            lines.append(f"Acquire::{scheme}::Proxy {shlex.quote(proxy)};")
    return "\n".join(lines) + "\n"
