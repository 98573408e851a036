"""What the units promise, read from the files that are shipped: a setting that goes missing must not go unnoticed."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from agent.clock import NS
from agent.config.installed import DEVICE_STATE, DOCK, ETC, EVIDENCE, RECORDER, RUN
from agent.recorder import health
from agent.recorder.ipc import flag
from agent.recorder.launch import POWER_OFF

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
Unit = dict[str, list[str]]


def unit(name: str) -> Unit:
    """A unit's settings, each with all its values in order."""
    found: Unit = defaultdict(list)
    for line in (FOLDER / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found[key].append(value)
    return found


@pytest.fixture
def recorder() -> Unit:
    return unit("bwc-recorder.service")


@pytest.fixture
def dock() -> Unit:
    return unit("bwc-dock.service")


def test_recorder_has_no_network(recorder: Unit) -> None:
    assert recorder["PrivateNetwork"] == ["yes"]
    assert recorder["IPAddressDeny"] == ["any"]
    assert recorder["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert not recorder["IPAddressAllow"]


def test_nothing_leaves_the_camera_off(recorder: Unit) -> None:
    assert recorder["Restart"] == ["always"]
    assert recorder["StartLimitIntervalSec"] == ["0"]
    assert recorder["RefuseManualStop"] == recorder["IgnoreOnIsolate"] == ["yes"]
    assert not recorder["RestartPreventExitStatus"]
    # Each would have a card that can't be mounted keep the recorder from starting.
    assert not [key for key in ("Requires", "RequiresMountsFor", "StateDirectory", "BindsTo") if recorder[key]]


def test_pictures_and_keys_stay_in_memory(recorder: Unit, dock: Unit) -> None:
    for one in (recorder, dock):
        assert (one["LimitCORE"], one["MemorySwapMax"]) == (["0"], ["0"])
    assert recorder["LimitMEMLOCK"] == ["infinity"]


def test_watchdog_waits_longer_than_the_heart_may_pause(recorder: Unit) -> None:
    seconds = int(recorder["WatchdogSec"][0].removesuffix("s"))
    assert recorder["Type"] == ["notify"]
    assert seconds * NS >= 2 * health.STUCK_NS
    assert int(recorder["TimeoutStartSec"][0].removesuffix("s")) * NS >= 2 * health.READY_TIMEOUT_NS


def test_recorder_s_devices_are_named_and_no_others(recorder: Unit) -> None:
    assert recorder["DevicePolicy"] == ["closed"]
    kinds = {value.split()[0] for value in recorder["DeviceAllow"]}
    assert kinds <= {
        f"char-{kind}" for kind in ("video4linux", "media", "alsa", "gpiochip", "dma_heap", "input", "i2c", "rtc")
    }
    assert "char-input r" in recorder["DeviceAllow"]


def test_dock_has_no_device_and_writes_nothing_but_its_state_and_the_inbox(dock: Unit) -> None:
    assert (dock["PrivateDevices"], dock["DevicePolicy"], dock["DeviceAllow"]) == (["yes"], ["closed"], [])
    assert dock["ProtectSystem"] == ["strict"]
    assert dock["ReadWritePaths"] == [f"-{RUN}/inbox"]


def test_dock_gives_way_to_the_recorder(recorder: Unit, dock: Unit) -> None:
    for key in ("CPUWeight", "IOWeight"):
        assert int(dock[key][0]) < 100 < int(recorder[key][0])
    assert int(recorder["OOMScoreAdjust"][0]) < 0 < int(dock["OOMScoreAdjust"][0])
    assert dock["MemoryMax"]
    assert not [key for key in ("Requires", "Wants", "BindsTo", "After") if "bwc-dock" in " ".join(recorder[key])]


def test_keys_are_handed_over_where_the_configuration_looks_for_them(recorder: Unit, dock: Unit) -> None:
    assert recorder["LoadCredential"] == [f"device.pem:{ETC}/device.pem"]
    assert RECORDER["device", "key"].endswith("/bwc-recorder.service/device.pem")
    assert dock["LoadCredential"] == [f"dock.key:{ETC}/dock.key"]
    assert DOCK["broker", "key"].endswith("/bwc-dock.service/dock.key")


def test_places_of_units_folders_and_configuration_agree(recorder: Unit, dock: Unit) -> None:
    assert f"-{RUN}" in recorder["ReadWritePaths"][0].split()
    folders = dict(
        line.split()[1:3] for line in (FOLDER / "tmpfiles.d/bwc-agent.conf").read_text().splitlines() if line[0] == "d"
    )
    assert {folders[RUN], folders[EVIDENCE]} == {"0750"}
    assert folders[DEVICE_STATE] == "0700"
    assert f"-{DEVICE_STATE}" in recorder["ReadWritePaths"][0].split()
    assert f"-{DEVICE_STATE}" in dock["InaccessiblePaths"][0].split(), "the dock reads what is sealed, and no more"
    assert folders[f"{RUN}/inbox"] == "0730"
    assert unit("bwc-inhibit.path")["PathExists"] == [f"{RUN}/{flag.NAME}"]
    assert f"{RUN}/{flag.NAME}" in (FOLDER / "libexec/while-recording").read_text()
    groups = re.findall(r"^g (\S+)|^u (\S+)", (FOLDER / "sysusers.d/bwc-agent.conf").read_text(), re.MULTILINE)
    made = {name for pair in groups for name in pair if name}
    assert {recorder["User"][0], recorder["Group"][0], dock["User"][0], *dock["SupplementaryGroups"][0].split()} <= made


def test_machine_goes_off_for_a_granted_power_off_and_for_no_other_end(recorder: Unit) -> None:
    assert recorder["SuccessExitStatus"] == [str(POWER_OFF)]
    script = (FOLDER / "libexec/power-off").read_text()
    assert f'"${{EXIT_STATUS:-}}" = {POWER_OFF}' in script


def test_keys_of_the_machine_decide_nothing() -> None:
    logind = unit("logind.conf.d/50-bwc.conf")
    assert logind
    assert all(values == ["ignore"] for key, values in logind.items() if key != "[Login]")
    assert "handle-power-key" in unit("bwc-inhibit.service")["ExecStart"][0]


def test_ctrl_alt_del_and_sysrq_are_switched_off_by_the_package_and_given_back_by_its_removal() -> None:
    assert unit("system.conf.d/50-bwc.conf")["CtrlAltDelBurstAction"] == ["none"]
    assert unit("sysctl.d/60-bwc.conf")["kernel.sysrq "] == [" 0"]
    packaging = FOLDER.parent / "packaging/debian"
    for script, action in (("postinst", "ln -sfn /dev/null"), ("postrm", "rm -f")):
        text = (packaging / script).read_text()
        assert "/etc/systemd/system/ctrl-alt-del.target" in text
        assert action in text


def test_card_s_mount_gives_no_rights_whatever_fstab_says() -> None:
    script = (FOLDER / "libexec/card-options").read_text()
    assert "remount,bind,nosuid,nodev,noexec /var/lib/bwc" in script
    card = unit("bwc-card.service")
    assert (card["After"], card["RemainAfterExit"]) == (["var-lib-bwc.mount"], []), "again with each mount"
    assert EVIDENCE.startswith("/var/lib/bwc/")


Rule = dict[str, str]


def rules() -> list[Rule]:
    """The udev rules, each by its keys and operators."""
    lines = (FOLDER / "udev/71-bwc.rules").read_text().splitlines()
    pair = re.compile(r'(\w+(?:\{[^}]*\})?)(==|!=|\+=|-=|:=|=)"([^"]*)"')
    return [{key + op: value for key, op, value in pair.findall(line)} for line in lines if line and line[0] != "#"]


def test_every_rule_of_udev_is_read_whole() -> None:
    lines = (FOLDER / "udev/71-bwc.rules").read_text().splitlines()
    for line, rule in zip([line for line in lines if line and line[0] != "#"], rules(), strict=True):
        assert len(rule) == line.count('="'), line


def test_usb_keyboard_gets_no_driver_and_other_input_is_muted() -> None:
    [usb] = [rule for rule in rules() if "ATTR{authorized}=" in rule]
    assert (usb["SUBSYSTEM=="], usb["ENV{DEVTYPE}=="], usb["ATTR{bInterfaceClass}=="]) == ("usb", "usb_interface", "03")
    assert (usb["ATTR{authorized}="], usb["ENV{BWC_USB_INPUT}!="]) == ("0", "allow")
    muted = [rule for rule in rules() if rule.get("ATTR{inhibited}=") == "1"]
    assert {rule.get("SUBSYSTEMS==", rule.get("DEVPATH==")) for rule in muted} == {
        "usb|bluetooth|hid",
        "/devices/virtual/*",
    }


def test_no_input_device_is_a_power_switch_and_only_a_soldered_button_is_the_recorder_s() -> None:
    numbered = list(enumerate(rules()))
    [untagged] = [(number, rule) for number, rule in numbered if "TAG-=" in rule]
    assert untagged[1]["TAG-="] == "power-switch"
    assert untagged[1]["KERNEL=="] == "event*"
    assert not [key for key in untagged[1] if key.startswith(("ATTR", "ENV{BWC", "GOTO"))], "of every device"
    [button] = [number for number, rule in numbered if rule.get("SYMLINK+=") == "bwc/power-key"]
    passed_over = [
        rule
        for number, rule in numbered
        if untagged[0] < number < button and rule.get("GOTO=") == "bwc_end" and rule["SUBSYSTEM=="] == "input"
    ]
    assert {value for rule in passed_over for key, value in rule.items() if key in {"SUBSYSTEMS==", "DEVPATH=="}} == {
        "usb|bluetooth|hid",
        "/devices/virtual/*",
    }


@pytest.mark.parametrize("name", ["bwc-recorder.service", "bwc-dock.service", "bwc-inhibit.service"])
def test_every_unit_has_no_rights_beyond_its_user(name: str) -> None:
    settings = unit(name)
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["NoNewPrivileges"] == settings["ProtectHome"] == ["yes"]
    assert settings["SystemCallFilter"][:2] == ["@system-service", "~@privileged @resources"]
