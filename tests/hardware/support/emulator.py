"""An emulated PC with Debian trixie's kernel, so that drivers that this machine's kernel lacks are real ones.

KVM is not asked for: software emulation boots it to a program in some seconds, without systemd. Its root file system is
a Debian tree with Python and what the recorder's control path imports, at the locked versions. Folders of this machine
are shared with it, and what the program prints is written there.

What is not in Debian's kernel, `gpio-sim`, is built out of tree from the source of the same kernel.
"""

import inspect
import lzma
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.hardware.support import debian
from tests.support import cache

PACKAGES = (
    "busybox-static",
    "gcc",
    "kmod",
    "libelf1t64",
    "libpython3-dev",
    "make",
    "python3",
    "python3-setuptools",
    "swig",
    "xz-utils",
)
MODULES = (
    "crc32c_generic",
    "ext4",
    "virtio_blk",
    "virtio_pci",
    "9p",
    "9pnet_virtio",
    "configfs",
    "i2c-dev",
    "i2c-stub",
)
WHEELS = ("cffi", "colorzero", "cryptography", "gpiozero", "msgspec", "pycparser", "smbus2", "typing-extensions")
"""What `agent.gpio`, `agent.core` and `agent.recorder.control` import, at the versions of requirements.lock."""
LGPIO = "lgpio==0.2.2.0 --hash=sha256:11372e653b200f76a0b3ef8a23a0735c85ec678a9f8550b9893151ed0f863fff"
"""There is no wheel for Python 3.13; without a version pip takes an empty stub of that name."""
_NOT_NEEDED = (
    *("build", "boot", "usr/src", "usr/include", "usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/*"),
    *(
        "var/lib/apt/*",
        "usr/libexec/gcc",
        "usr/lib/gcc",
        "usr/share/swig*",
        "usr/lib/linux-kbuild-*",
        "usr/lib/modules",
    ),
    *("usr/lib/x86_64-linux-gnu/*.a", "usr/bin/x86_64-linux-gnu-*"),
)
"""Of the tree, once everything is built."""
REPOSITORY = Path(__file__).parents[3]

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
/bin/busybox mount -t ext4 -o ro,noload /dev/vda /root
for folder in proc sys dev; do /bin/busybox mount -o move /$folder /root/$folder; done
exec /bin/busybox switch_root /root /machine
"""
_MACHINE = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONPYCACHEPREFIX=/run/pycache
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t configfs configfs /sys/kernel/config
share="-t 9p -o trans=virtio,version=9p2000.L,msize=262144"
mount $share,cache=loose,ro repository /repository
mount $share,cache=none exchange /exchange
cd /repository
cp -r /modules-extra /run/modules
sh /exchange/program > /exchange/output 2>&1
echo $? > /exchange/code.part
mv /exchange/code.part /exchange/code
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


class MachineError(Exception):
    """The machine did not do what it was started for; the text holds the end of what it said."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ran in the machine.

    Attributes:
        code: Its exit code.
        said: All that it printed.
        took_s: Seconds, booting included.
    """

    code: int
    said: str
    took_s: float


def machine() -> Path:
    """The folder with `kernel`, `initrd` and `root.ext4`; made where it is not kept yet.

    Raises:
        CommandError: A package, a source or a compiler did not do what it should.
    """
    lock = _locked(WHEELS)
    built_by = [inspect.getsource(step) for step in (_make_parts, _kernel, _simulated_chips, _python)]
    key = (PACKAGES, LGPIO, lock, built_by, _NOT_NEEDED)
    parts = cache.kept("machine-parts", key, lambda folder: _make_parts(folder, lock))
    return cache.kept("machine", (key, MODULES, _INIT, _MACHINE), lambda folder: _make(folder, parts))


@contextmanager
def started(
    program: str, exchange: Path, *, instructions: bool = False, memory_mb: int = 768
) -> Iterator["subprocess.Popen[bytes]"]:
    """A machine that runs a shell program and then ends; killed when the block is left.

    Args:
        program: Run by `sh` as root in the repository's root; it may write to /exchange.
        exchange: The folder that the machine sees as /exchange.
        instructions: The machine's time is counted in instructions of its one processor, 500 million a second, and not
            by this machine's clock: what happens in it does not depend on how busy this one is, but it may take longer.
        memory_mb: Of the machine.
    """
    debian.need(**{"qemu-system-x86_64": "qemu-system-x86"})
    made = machine()
    exchange.mkdir(parents=True, exist_ok=True)
    (exchange / "program").write_text(program)
    argv = ["qemu-system-x86_64", "-M", "q35", "-cpu", "max"]
    if instructions:
        argv += ["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=1,sleep=on"]
    else:
        argv += ["-accel", "tcg,thread=multi", "-smp", "2"]
    argv += ["-m", str(memory_mb), "-nic", "none", "-display", "none", "-no-reboot", "-monitor", "none"]
    argv += ["-serial", f"file:{exchange / 'console'}", "-kernel", str(made / "kernel"), "-initrd"]
    argv += [str(made / "initrd"), "-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
    argv += ["-drive", f"file={made / 'root.ext4'},format=raw,if=virtio,snapshot=on"]
    for tag, folder, more in (("repository", REPOSITORY, ",readonly=on"), ("exchange", exchange, "")):
        argv += ["-virtfs", f"local,path={folder},mount_tag={tag},security_model=none,multidevs=remap{more}"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(program: str, exchange: Path, *, timeout_s: float, instructions: bool = False) -> Ended:
    """Boot a machine, run a shell program in it, and end it; see `started`.

    Raises:
        MachineError: It did not come up, or the program did not end in time.
    """
    machine()  # making it does not count
    before = time.monotonic()
    with started(program, exchange, instructions=instructions) as process:
        said = b""
        with suppress(subprocess.TimeoutExpired):
            said, _ = process.communicate(timeout=timeout_s)
        took_s = time.monotonic() - before
    code = exchange / "code"
    output = exchange / "output"
    printed = output.read_text(errors="replace") if output.is_file() else ""
    if not code.is_file():
        console = (exchange / "console").read_text(errors="replace") if (exchange / "console").is_file() else ""
        raise MachineError(
            f"the program had not ended after {took_s:.0f} s; qemu: {said.decode(errors='replace')[-1000:]}\n"
            f"console: {console[-2000:]}\nprogram: {printed[-4000:]}"
        )
    return Ended(int(code.read_text()), printed, took_s)


def _locked(names: Sequence[str]) -> str:
    """The lines of requirements.lock for these packages, hashes and all."""
    text = (REPOSITORY / "requirements.lock").read_text().replace("\\\n", " ")
    lines = {
        line.split("==")[0].strip(): line.split(";")[0] + line[line.index("--hash") :] if ";" in line else line
        for line in text.splitlines()
        if "==" in line
    }
    return "\n".join(lines[name] for name in names) + "\n"


def _make_parts(folder: Path, lock: str) -> None:
    """A pruned tree with Python, lgpio and the locked wheels, a kernel, and its modules with gpio-sim among them."""
    root = folder / "tree"
    debian.run("cp", "-a", "--reflink=auto", debian.tree("trixie", PACKAGES), root)
    debian.lend_network(root)
    with debian.mounted(root):
        release = _kernel(root)
        _simulated_chips(root, release)
        debian.inside(root, "depmod", release)
    _python(folder, root, lock)
    shutil.move(root / "boot" / f"vmlinuz-{release}", folder / "kernel")
    shutil.move(root / "usr/lib/modules" / release, folder / "modules")
    for path in _NOT_NEEDED:
        for found in root.glob(path):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()


def _make(folder: Path, parts: Path) -> None:
    root = folder / "tree"
    debian.run("cp", "-a", "--reflink=auto", parts / "tree", root)
    shutil.copyfile(parts / "kernel", folder / "kernel")
    _initrd(folder, root, parts / "modules")
    _root_image(folder, root)
    shutil.rmtree(root)


def _kernel(root: Path) -> str:
    """Unpack kernel, headers and the two source files that are built; the kernel's release."""
    debian.inside(root, "apt-get", "update", "-q")
    depends = debian.inside(root, "apt-cache", "depends", "linux-image-amd64")
    found = re.search(r"Depends: linux-image-(\S+)", depends)
    if not found:
        raise debian.CommandError(f"expected linux-image-amd64 to depend on a kernel, got: {depends}")
    release = found[1]
    version = release.removesuffix("-amd64")
    packages = [f"linux-image-{release}", f"linux-headers-{release}", f"linux-headers-{version}-common"]
    packages += [f"linux-kbuild-{version}", f"linux-source-{'.'.join(version.split('.')[:2])}"]
    script = f"""set -e
mkdir /build && cd /build
apt-get download -q {shlex.join(packages)}
for deb in linux-image-* linux-headers-* linux-kbuild-*; do dpkg -x "$deb" /; done
dpkg --fsys-tarfile linux-source-*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
  tar -xJ --strip-components=1 --wildcards '*/drivers/gpio/gpio-sim.c' '*/kernel/irq/irq_sim.c'
rm *.deb
"""
    debian.inside(root, "sh", "-c", script)
    return release


def _simulated_chips(root: Path, release: str) -> None:
    """Build gpio-sim and the simulated interrupts that it needs, which the kernel does not export, into one module."""
    build = root / "build"
    shutil.copyfile(build / "drivers/gpio/gpio-sim.c", build / "gpio-sim.c")
    text = (build / "kernel/irq/irq_sim.c").read_text()
    text = re.sub(r"^EXPORT_SYMBOL_GPL\(.*\);\n", "", text, flags=re.MULTILINE)
    text = text.replace("handle_simple_irq(irq_to_desc(irqnum))", "generic_handle_irq_safe(irqnum)")
    (build / "irq_sim.c").write_text(text)
    (build / "Kbuild").write_text("obj-m := gpio-sim-oot.o\ngpio-sim-oot-y := gpio-sim.o irq_sim.o\n")
    debian.inside(root, "make", "-s", "-C", f"/lib/modules/{release}/build", "M=/build", "modules",
                  "CONFIG_DEBUG_INFO_BTF_MODULES=")  # fmt: skip
    extra = root / "usr/lib/modules" / release / "extra"
    extra.mkdir()
    shutil.copyfile(build / "gpio-sim-oot.ko", extra / "gpio-sim-oot.ko")


def _python(folder: Path, root: Path, lock: str) -> None:
    """Install the locked wheels for the tree's Python, and lgpio from its source."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    (folder / "lock").write_text(lock)
    (folder / "lgpio").write_text(LGPIO + "\n")
    site = root / "usr/local/lib/python3.13/dist-packages"
    chosen = ["--platform", "manylinux_2_34_x86_64", "--platform", "manylinux_2_28_x86_64"]
    chosen += ["--platform", "manylinux2014_x86_64", "--python-version", "3.13", "--only-binary", ":all:"]
    debian.run(*pip, "install", "--no-deps", "--require-hashes", *chosen, "--target", site, "-r", folder / "lock")
    debian.run(*pip, "download", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-d", root / "build", "-r",
               folder / "lgpio")  # fmt: skip
    script = """set -e
cd /build && tar xf lgpio-*.tar.gz && cd lgpio-*/
PYPI=1 python3 setup.py -q build --build-lib /usr/local/lib/python3.13/dist-packages
python3 -m compileall -q /usr/local/lib/python3.13/dist-packages
cd / && python3 -c 'import lgpio; lgpio.gpiochip_open'
"""
    with debian.mounted(root):
        debian.inside(root, "sh", "-c", script)


def _initrd(folder: Path, root: Path, modules: Path) -> None:
    """A memory file system with busybox and the modules, in the order in which they need each other."""
    place = folder / "initrd.d"
    for name in ("bin", "proc", "sys", "dev", "root", "modules"):
        (place / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", place / "bin/busybox")
    needs = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    order: list[str] = []
    for name in (*MODULES, "gpio-sim-oot"):
        path = by_name.get(name.replace("-", "_"))
        if path is None:
            continue  # built in
        order += [each for each in [*reversed(needs[path].split()), path] if each not in order]
    # i2c-stub wants to know its chips when it is loaded, so it is loaded by who knows them.
    later = [path for path in order if "i2c-stub" in path]
    for path in order:
        data = (modules / path).read_bytes()
        name = Path(path).name.removesuffix(".xz")
        target = root / "modules-extra" if path in later else place / "modules"
        target.mkdir(exist_ok=True)
        if path.endswith(".xz"):
            data = lzma.decompress(data)
        (target / name).write_bytes(data)
    names = [Path(path).name.removesuffix(".xz") for path in order if path not in later]
    (place / "modules/order").write_text("\n".join(names) + "\n")
    (place / "init").write_text(_INIT)
    (place / "init").chmod(0o755)
    debian.need(cpio="cpio")
    debian.run("sh", "-c", f"cd {place} && find . | cpio -o -H newc --quiet | gzip -1 > ../initrd")
    shutil.rmtree(place)


def _root_image(folder: Path, root: Path) -> None:
    """What the machine needs of the tree, as a file system image."""
    for name in ("repository", "exchange", "modules-extra"):
        (root / name).mkdir(exist_ok=True)
    (root / "machine").write_text(_MACHINE)
    (root / "machine").chmod(0o755)
    kilobytes = int(debian.run("du", "-sk", root).split()[0])
    debian.need(mke2fs="e2fsprogs")
    debian.run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, folder / "root.ext4",
               f"{kilobytes * 13 // 10 + 20_000}k")  # fmt: skip
