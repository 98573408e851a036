import json
import os
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.recorder import hardening
from agent.recorder.hardening import is_dumpable, kernel_boot_id, swap_devices, swap_is_encrypted

AGENT = Path(hardening.__file__).parents[2]
NOBODY = 65534
SOURCE = Path(hardening.__file__).read_text()
"""The module's text and not its import: another user may not be able to read where the repository lies."""

REPORT = f"""{SOURCE}
import json
from dataclasses import asdict
before = is_dumpable()
told = asdict(harden())
status = dict(line.split(":", 1) for line in open("/proc/thread-self/status").read().splitlines())
mask = os.umask(0)
print(json.dumps({{"told": told, "before": before, "dumpable": is_dumpable(), "mask": mask,
                   "core": resource.getrlimit(resource.RLIMIT_CORE), "locked_kb": int(status["VmLck"].split()[0])}}))
"""


def python_of(user: int | None) -> str:
    """An interpreter that a user may run; skips if there is none."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([candidate, "-c", ""], check=True, user=user, extra_groups=[] if user else None)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("needs a Python interpreter that another user may run")


def report(
    *, user: int | None = None, memlock: tuple[int, int] | None = None, core: tuple[int, int] | None = None
) -> dict[str, Any]:
    """What a process says of itself after it was hardened."""
    python = python_of(user)
    with ExitStack() as stack:
        for which, limits in ((resource.RLIMIT_MEMLOCK, memlock), (resource.RLIMIT_CORE, core)):
            if limits is not None:
                stack.callback(resource.setrlimit, which, resource.getrlimit(which))
                try:
                    resource.setrlimit(which, limits)
                except (ValueError, OSError):
                    pytest.skip(f"only root may raise a limit to {limits}, and on this system not even root may")
        done = subprocess.run(
            [python, "-c", REPORT],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            env={},
            user=user,
            extra_groups=[] if user else None,
        )
    return dict(json.loads(done.stdout))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def test_hardened_process_leaves_no_core_dump_and_makes_files_for_itself_alone() -> None:
    said = report(core=(resource.RLIM_INFINITY if os.geteuid() == 0 else 0, resource.RLIM_INFINITY))
    assert said["before"]
    assert not said["dumpable"]
    assert said["core"] == [0, 0]
    assert said["told"]["not_dumpable"]
    assert said["told"]["no_core"]
    assert said["mask"] == 0o077


def test_what_is_reported_of_locked_memory_is_so() -> None:
    said = report()
    assert (said["locked_kb"] > 0) is said["told"]["locked"]


@needs_root
@pytest.mark.parametrize("limit", [8 << 20, 64 << 30])
def test_memory_under_a_finite_limit_is_not_locked_lest_every_allocation_fail_later(limit: int) -> None:
    said = report(user=NOBODY, memlock=(limit, limit))
    assert not said["told"]["locked"]
    assert said["locked_kb"] == 0
    assert said["told"]["no_core"]


@needs_root
def test_user_whose_limit_is_lifted_as_in_the_unit_gets_locked_memory() -> None:
    said = report(user=NOBODY, memlock=(resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert said["told"]["locked"]
    assert said["locked_kb"] > 0


@needs_root
def test_memory_of_a_hardened_process_is_closed_to_other_processes_of_its_user() -> None:
    hardened = f"{SOURCE}\nharden(); print('ready', flush=True); input()"
    peek = "import sys; open(f'/proc/{sys.argv[1]}/mem', 'rb')"
    python = python_of(NOBODY)
    for script, open_ in ((hardened, False), ("print('ready', flush=True); input()", True)):
        with subprocess.Popen(
            [python, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
            cwd="/",
            user=NOBODY,
            extra_groups=[],
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            done = subprocess.run(
                [python, "-c", peek, str(process.pid)], user=NOBODY, extra_groups=[], capture_output=True, check=False
            )
            process.communicate(b"\n")
        if open_ and done.returncode:
            pytest.skip("this kernel lets no process look into another one anyway (yama)")
        assert (done.returncode == 0) is open_


def test_this_process_may_be_dumped_so_that_the_tests_above_mean_something() -> None:
    assert is_dumpable()


# -- swap -------------------------------------------------------------------------------------------------------------


def test_swap_areas_are_read_from_the_kernels_list() -> None:
    text = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/zram0                              partition\t1048572\t\t0\t\t100\n"
        "/home/swap\\040file\\134x                  file\t\t1048572\t\t0\t\t-2\n\n"
    )
    assert swap_devices(text) == ["/dev/zram0", "/home/swap file\\x"]
    assert swap_devices(text.splitlines()[0] + "\n") == []
    assert swap_devices("") == []


class Machine:
    """A /dev and a /sys of their own."""

    def __init__(self, folder: Path) -> None:
        self.dev = folder / "dev"
        self.sys = folder / "sys"
        (self.dev / "mapper").mkdir(parents=True)
        (self.sys / "block").mkdir(parents=True)

    def block(self, name: str, **files: str) -> str:
        (self.dev / name).write_text("")
        folder = self.sys / "block" / name
        folder.mkdir()
        for file, text in files.items():
            path = folder / file.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return str(self.dev / name)

    def encrypted(self, device: str) -> bool:
        return swap_is_encrypted(device, self.sys, self.dev)


def test_swap_on_a_plain_partition_is_in_clear(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert not machine.encrypted(machine.block("sda2"))
    assert not machine.encrypted(str(machine.dev / "gone"))


def test_swap_on_dm_crypt_is_not_in_clear_also_by_its_other_name(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    device = machine.block("dm-0", dm__uuid="CRYPT-PLAIN-swap\n")
    link = machine.dev / "mapper" / "swap"
    link.symlink_to(device)
    assert machine.encrypted(device)
    assert machine.encrypted(str(link))


def test_swap_on_a_logical_volume_is_in_clear_whatever_it_is_called(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert not machine.encrypted(machine.block("dm-1", dm__uuid="LVM-CRYPT-x\n"))


def test_compressed_memory_is_not_in_clear_unless_it_is_written_back_to_a_disk(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.encrypted(machine.block("zram0"))
    assert machine.encrypted(machine.block("zram1", backing_dev="none\n"))
    assert not machine.encrypted(machine.block("zram2", backing_dev="/dev/sda3\n"))


def test_swap_file_is_in_clear_also_if_it_is_named_like_compressed_memory(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.block("zram0")
    machine.block("dm-0", dm__uuid="CRYPT-x")
    for name in ("zram0", "dm-0", "swapfile"):
        file = tmp_path / name
        file.write_text("")
        assert not machine.encrypted(str(file))


def test_swap_that_the_system_tells_nothing_of_counts_as_in_clear(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    device = machine.block("dm-0")
    (machine.sys / "block/dm-0/dm/uuid").mkdir(parents=True)
    assert not machine.encrypted(device)


def test_kernel_boot_has_an_id() -> None:
    assert kernel_boot_id() == kernel_boot_id()
    assert len(kernel_boot_id()) in {0, 36}


def test_threads_share_one_heap_and_large_buffers_go_back_at_once() -> None:
    """In a process of its own, where the C library is glibc: what threads held and gave back is not kept."""
    script = """
import threading
from agent.recorder.hardening import share_one_heap
share_one_heap()
def anonymous_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])
def hold():
    held = [bytearray(1 << 20) for _ in range(8)]
    for piece in held:
        piece[::4096] = bytes(256)
before = anonymous_kb()
threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(anonymous_kb() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=AGENT)
    assert int(done.stdout) < 4096
