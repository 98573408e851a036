"""A USB keyboard in the wearer's hand: Ctrl+Alt+Del, Alt+SysRq+B or its power key must not end a recording.

What is shipped is looked at here; that a booted machine keeps to it is shown by the suite in tests/hardware/system.
"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MASK = "/etc/systemd/system/ctrl-alt-del.target"


def script(name: str, root: Path, action: str) -> None:
    """The part of a package's script that concerns the mask, run on a tree of its own."""
    text = (ROOT / "packaging/debian" / name).read_text().replace("/etc/systemd", f"{root}/etc/systemd")
    head = "mask=" if name == "postinst" else 'if [ "$1" = remove ]'
    start = text.index(head)
    part = text[start : text.index("\nfi\n", start) + 4]
    subprocess.run(["sh", "-euc", part, "sh", action], check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    return tmp_path


def test_ctrl_alt_del_reboots_nothing(root: Path) -> None:
    mask = root / MASK[1:]
    mask.symlink_to("/usr/lib/systemd/system/reboot.target")  # `systemctl enable reboot.target` makes this link
    script("postinst", root, "configure")
    assert mask.readlink() == Path("/dev/null")
    script("postinst", root, "configure")
    assert mask.readlink() == Path("/dev/null")
    burst = (ROOT / "systemd/system.conf.d/50-bwc.conf").read_text()
    assert "\nCtrlAltDelBurstAction=none\n" in burst


def test_mask_goes_with_the_package_and_an_upgrade_keeps_it(root: Path) -> None:
    mask = root / MASK[1:]
    script("postinst", root, "configure")
    script("postrm", root, "upgrade")
    assert mask.readlink() == Path("/dev/null")
    script("postrm", root, "remove")
    assert not mask.is_symlink()


def test_removal_leaves_an_administrator_s_own_target(root: Path) -> None:
    mask = root / MASK[1:]
    mask.write_text("[Unit]\n")
    script("postinst", root, "configure")
    script("postrm", root, "remove")
    assert mask.read_text() == "[Unit]\n"


def test_sysrq_reboots_nothing() -> None:
    lines = (ROOT / "systemd/sysctl.d/60-bwc.conf").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["kernel.sysrq = 0"]


def test_plugged_in_keyboard_gets_no_driver() -> None:
    rules = (ROOT / "systemd/udev/71-bwc.rules").read_text()
    assert 'ATTR{bInterfaceClass}=="03", ENV{BWC_USB_INPUT}!="allow", ATTR{authorized}="0"' in rules
