"""Whether the machine around an adopted recorder is closed, by a tree of files as Linux and systemd have them."""

import shutil
from pathlib import Path

import pytest

from agent.config.installed import is_adopted
from agent.doctor.machine_checks import machine_checks

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
CARD = "/var/lib/bwc"
MOUNTS = (
    "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw\n"
    "23 22 0:20 / /proc rw - proc proc rw\n"
    "40 22 179:3 / /var/lib/bwc {} shared:2 - ext4 /dev/mmcblk1p1 rw\n"
)
SAFE = "rw,nosuid,nodev,noexec,relatime"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine that the package closed."""
    for folder in ("etc/systemd/system", "proc/sys/kernel", "proc/self", "sys/bus/usb/devices", "run/udev/data"):
        (tmp_path / folder).mkdir(parents=True)
    for name, place in (("udev", "usr/lib/udev/rules.d"), ("system.conf.d", "usr/lib/systemd/system.conf.d")):
        shutil.copytree(SYSTEMD / name, tmp_path / place)
    (tmp_path / "usr/lib/systemd/system").mkdir()
    (tmp_path / "usr/lib/systemd/system/ctrl-alt-del.target").symlink_to("reboot.target")
    (tmp_path / "etc/systemd/system/ctrl-alt-del.target").symlink_to("/dev/null")
    (tmp_path / "proc/sys/kernel/sysrq").write_text("0\n")
    (tmp_path / "proc/cmdline").write_text("console=tty1 root=PARTUUID=1-02 rootwait\n")
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS.format(SAFE))
    return tmp_path


def bad(machine: Path, evidence: str = f"{CARD}/evidence") -> dict[str, str]:
    found = [check.finding() for check in machine_checks(machine, Path(evidence))]
    assert [finding.check for finding in found] == ["ctrl-alt-del", "sysrq", "usb input", "card options"]
    return {finding.check: finding.said for finding in found if not finding.good}


def keyboard(machine: Path, name: str = "1-1:1.0", *, kind: str = "03", authorized: str = "1") -> None:
    interface = machine / "sys/bus/usb/devices" / name
    interface.mkdir()
    (interface / "bInterfaceClass").write_text(f"{kind}\n")
    (interface / "authorized").write_text(f"{authorized}\n")


def test_machine_as_installed_passes(machine: Path) -> None:
    assert bad(machine) == {}


def test_ctrl_alt_del_without_the_mask_is_found(machine: Path) -> None:
    mask = machine / "etc/systemd/system/ctrl-alt-del.target"
    mask.unlink()
    assert bad(machine) == {"ctrl-alt-del": "Ctrl+Alt+Del starts reboot.target"}
    mask.symlink_to("/usr/lib/systemd/system/poweroff.target")
    assert "poweroff.target" in bad(machine)["ctrl-alt-del"]


def test_mask_that_an_administrator_s_own_unit_overrides_does_not_count(machine: Path) -> None:
    (machine / "run/systemd/system").mkdir(parents=True)
    (machine / "run/systemd/system/ctrl-alt-del.target").symlink_to("/dev/null")
    mask = machine / "etc/systemd/system/ctrl-alt-del.target"
    mask.unlink()
    mask.write_text("[Unit]\nRequires=reboot.target\n")
    assert set(bad(machine)) == {"ctrl-alt-del"}


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("etc/systemd/system.conf.d/60-own.conf", "[Manager]\nCtrlAltDelBurstAction=reboot-immediate\n"),
        ("etc/systemd/system.conf.d/50-bwc.conf", "[Manager]\n# CtrlAltDelBurstAction=none\n"),
    ],
)
def test_reboot_by_repeated_ctrl_alt_del_is_found(machine: Path, place: str, text: str) -> None:
    (machine / place).parent.mkdir(parents=True)
    (machine / place).write_text(text)
    assert "seven times" in bad(machine)["ctrl-alt-del"]


def test_drop_in_of_the_package_overrides_the_main_file(machine: Path) -> None:
    (machine / "etc/systemd/system.conf").write_text("[Manager]\nCtrlAltDelBurstAction=reboot-force\n")
    assert bad(machine) == {}


def test_sysrq_is_found_by_its_value_and_on_the_kernel_s_command_line(machine: Path) -> None:
    (machine / "proc/sys/kernel/sysrq").write_text("438\n")
    assert bad(machine) == {"sysrq": "kernel.sysrq is 438"}
    (machine / "proc/sys/kernel/sysrq").write_text("0\n")
    (machine / "proc/cmdline").write_text("root=/dev/sda sysrq_always_enabled\n")
    assert "sysrq" in bad(machine)


def test_usb_keyboard_that_has_a_driver_is_found(machine: Path) -> None:
    keyboard(machine, "1-2:1.0", authorized="0")
    keyboard(machine, "1-3:1.0", kind="08")
    assert bad(machine) == {}
    keyboard(machine)
    assert bad(machine) == {"usb input": "USB input devices are active: 1-1:1.0"}


def test_usb_reader_allowed_by_a_rule_is_named_and_passes(machine: Path) -> None:
    keyboard(machine)
    (machine / "run/udev/data/+usb:1-1:1.0").write_text("I:1\nE:BWC_USB_INPUT=allow\n")
    assert bad(machine) == {}
    printed = {check.name: check.finding().said for check in machine_checks(machine, Path(CARD))}
    assert "1-1:1.0, which a udev rule allows" in printed["usb input"]


def test_rules_that_are_masked_are_found(machine: Path) -> None:
    (machine / "etc/udev/rules.d").mkdir(parents=True)
    (machine / "etc/udev/rules.d/71-bwc.rules").symlink_to("/dev/null")
    assert "masked" in bad(machine)["usb input"]


@pytest.mark.parametrize("lacking", ["nosuid", "nodev", "noexec"])
def test_card_mounted_without_a_restriction_is_found(machine: Path, lacking: str) -> None:
    (machine / "proc/self/mountinfo").write_text(MOUNTS.format(SAFE.replace(f"{lacking},", "")))
    assert bad(machine) == {"card options": f"{CARD} is mounted without {lacking}"}


def test_mount_on_top_of_another_is_the_one_that_counts(machine: Path) -> None:
    again = "41 40 179:4 / /var/lib/bwc rw - exfat /dev/sda1 rw\n"
    (machine / "proc/self/mountinfo").write_text(MOUNTS.format(SAFE) + again)
    assert "nodev, noexec, nosuid" in bad(machine)["card options"]


def test_mount_with_a_blank_in_its_name_is_read(machine: Path) -> None:
    (machine / "proc/self/mountinfo").write_text("40 22 179:3 / /media/my\\040card rw - ext4 /dev/sda1 rw\n")
    assert "/media/my card" in bad(machine, "/media/my card/evidence")["card options"]


def test_evidence_on_the_system_file_system_passes(machine: Path) -> None:
    assert bad(machine, "/srv/evidence") == {}


def test_only_the_configuration_path_marks_a_machine_as_adopted(tmp_path: Path) -> None:
    assert is_adopted(tmp_path / "etc/bwc/recorder.toml", tmp_path)
    assert not is_adopted(tmp_path / "pilot/device/config.toml", tmp_path)
