"""Checks that the machine offers no way to stop the recorder past the policy; for adopted devices, not for a bench.

1. Ctrl+Alt+Del starts no target, pressed once or seven times.
2. Magic SysRq is off.
3. No USB input device has a driver, except for one that an administrator's udev rule lets in.
4. Where evidence lies on a file system of its own, nothing on it runs, is a device or grants another user's rights.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from agent.doctor.checks import Check

UNIT_PATH = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
"""Where systemd looks for a unit, the first one counts (systemd.unit(5))."""
DROP_IN_PATH = ("usr/lib", "usr/local/lib", "run", "etc")
"""Where it looks for its own drop-ins; of two with the same name the later one counts (systemd-system.conf(5))."""
RULES = "71-bwc.rules"
RULES_PATH = ("etc/udev/rules.d", "run/udev/rules.d", "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d")
HID = "03"
"""The class of USB interfaces of keyboards, pointers, buttons and readers."""
ALLOWED = "E:BWC_USB_INPUT=allow"
CARD_OPTIONS = frozenset({"nosuid", "nodev", "noexec"})
_BURST = re.compile(r"^\s*CtrlAltDelBurstAction\s*=\s*(\S*)\s*$", re.MULTILINE)
_REINSTALL = "reinstall the package bwc-agent"


def machine_checks(root: Path, evidence: Path) -> Iterator[Check]:
    """The checks of the machine.

    Args:
        root: The folder that /etc, /proc, /sys, /run and /usr are in.
        evidence: The evidence folder.
    """
    yield Check("ctrl-alt-del", _REINSTALL, lambda: _ctrl_alt_del(root))
    yield Check("sysrq", _REINSTALL, lambda: _sysrq(root))
    yield Check("usb input", _REINSTALL, lambda: _usb_input(root))
    yield Check("card options", "mount the card", lambda: _card_options(root / "proc/self/mountinfo", evidence))


def _first(root: Path, folders: tuple[str, ...], name: str) -> Path | None:
    """The first file or link of a name; a link that leads nowhere counts."""
    return next((path for folder in folders if (path := root / folder / name).is_symlink() or path.exists()), None)


def _masked(path: Path) -> bool:
    return path.is_symlink() and str(path.readlink()) == "/dev/null"


def _ctrl_alt_del(root: Path) -> tuple[str, str]:
    unit = _first(root, UNIT_PATH, "ctrl-alt-del.target")
    if unit is not None and not _masked(unit):
        leads_to = unit.readlink() if unit.is_symlink() else unit.name
        return f"Ctrl+Alt+Del starts {leads_to}", "systemctl mask ctrl-alt-del.target"
    burst = _burst_action(root)
    if burst != "none":
        return f"Ctrl+Alt+Del seven times within 2 s: {burst}", "CtrlAltDelBurstAction=none in /etc/systemd/system.conf"
    return "does nothing", ""


def _burst_action(root: Path) -> str:
    """What systemd is configured to do on Ctrl+Alt+Del seven times within two seconds."""
    drop_ins: dict[str, Path] = {}
    for folder in DROP_IN_PATH:
        for path in (root / folder / "systemd/system.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    action = "reboot-force"  # systemd's own default
    for path in (root / "etc/systemd/system.conf", *(drop_ins[name] for name in sorted(drop_ins))):
        if path.exists():
            action = next(reversed(_BURST.findall(path.read_text("utf-8", "replace"))), action)
    return action


def _sysrq(root: Path) -> tuple[str, str]:
    setting = root / "proc/sys/kernel/sysrq"
    if not setting.exists():
        return "this kernel has no sysrq", ""
    value = int(setting.read_text())
    always = "sysrq_always_enabled" in (root / "proc/cmdline").read_text().split()
    if always:
        return "always enabled by the kernel's command line", "remove sysrq_always_enabled from it"
    return f"kernel.sysrq is {value}", "" if not value else "kernel.sysrq=0: remove what sets it in /etc/sysctl.d"


def _usb_input(root: Path) -> tuple[str, str]:
    rules = _first(root, RULES_PATH, RULES)
    if rules is None or _masked(rules):
        return f"the udev rules {RULES} are {'masked' if rules else 'missing'}", _REINSTALL
    live: list[str] = []
    allowed: list[str] = []
    for path in sorted((root / "sys/bus/usb/devices").glob("*/bInterfaceClass")):
        interface = path.parent
        if path.read_text().strip() != HID or (interface / "authorized").read_text().strip() == "0":
            continue
        record = root / "run/udev/data" / f"+usb:{interface.name}"
        known = record.read_text().splitlines() if record.exists() else []
        (allowed if ALLOWED in known else live).append(interface.name)
    if live:
        text = f"USB input devices are active: {', '.join(live)}"
        return text, "unplug them: new ones get no driver; or: udevadm trigger --action=add"
    return (
        f"none is active but {', '.join(allowed)}, which a udev rule allows"
        if allowed
        else "no USB input device is active",
        "",
    )


def _card_options(mountinfo: Path, evidence: Path) -> tuple[str, str]:
    """The mount that evidence lies on, by mountinfo (proc_pid_mountinfo(5)): fields 5 and 6 are place and options."""
    place, options = Path("/"), set[str]()
    for line in mountinfo.read_text().splitlines():
        fields = line.split(" ")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if evidence.is_relative_to(mounted) and mounted.is_relative_to(
            place
        ):  # of two on one place the later is on top
            place, options = mounted, set(fields[5].split(","))
    if place == Path("/"):
        return "evidence is on the system's own file system, whose options can't be restricted", ""
    missing = sorted(CARD_OPTIONS - options)
    if missing:
        return f"{place} is mounted without {', '.join(missing)}", f"mount -o remount,bind,nosuid,nodev,noexec {place}"
    return f"{place}: nosuid, nodev, noexec", ""
