"""Battery and board from files: numbers by the kernel's documentation, and whatever else is in them refused."""

from pathlib import Path

import pytest

from agent.errors import DeviceError
from agent.power import files
from agent.power.files import JsonGauge, SupplyCharger, SupplyGauge
from agent.power.readings import Battery


def supply(folder: Path, **values: str) -> Path:
    for name, value in values.items():
        (folder / name).write_text(value + "\n")
    return folder


def test_supply_folder_is_read(tmp_path: Path) -> None:
    folder = supply(tmp_path, capacity="73", voltage_now="3812000", status="Discharging")
    assert SupplyGauge(folder).read() == Battery(73, 3.812, False)


@pytest.mark.parametrize(
    ("status", "charging"),
    [("Charging", True), ("Full", True), ("Discharging", False), ("Not charging", None), ("Unknown", None)],
)
def test_status_says_whether_charge_goes_in(tmp_path: Path, status: str, charging: bool | None) -> None:
    assert SupplyGauge(supply(tmp_path, capacity="50", status=status)).read().charging is charging


@pytest.mark.parametrize("capacity", ["-1", "101", "full", "", "1e3"])
def test_capacity_that_is_none_is_refused(tmp_path: Path, capacity: str) -> None:
    with pytest.raises(DeviceError):
        SupplyGauge(supply(tmp_path, capacity=capacity)).read()


def test_supply_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        SupplyGauge(tmp_path / "absent").read()
    with pytest.raises(DeviceError):
        SupplyCharger(tmp_path).connected()


def test_charger_says_whether_power_comes_in(tmp_path: Path) -> None:
    assert SupplyCharger(supply(tmp_path, online="1")).connected()
    assert not SupplyCharger(supply(tmp_path, online="0")).connected()


def test_json_of_another_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "battery.json"
    path.write_text('{"percent": 12.5, "charging": true}')
    assert JsonGauge(path).read() == Battery(12.5, None, True)


@pytest.mark.parametrize(
    "text", ["", "12", "{}", '{"percent": 101}', '{"percent": -1}', '{"percent": 5, "colour": 1}', '{"percent": "5"}']
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "battery.json"
    path.write_text(text)
    with pytest.raises(DeviceError, match="expected the state"):
        JsonGauge(path).read()


@pytest.mark.parametrize(
    ("text", "undervoltage", "throttled"),
    [("0", False, False), ("50000", False, False), ("50005", True, True), ("1", True, False), ("8", False, True)],
)
def test_firmware_says_what_is_wrong_now_and_not_what_was(
    tmp_path: Path, text: str, undervoltage: bool, throttled: bool
) -> None:
    (tmp_path / "get_throttled").write_text(text + "\n")
    assert files.read_throttled(str(tmp_path / "get_throttled")) == (undervoltage, throttled)


def test_temperature_is_in_thousandths_of_a_degree(tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("48312\n")
    assert files.read_celsius(str(tmp_path / "temp")) == pytest.approx(48.312)


def test_number_in_a_path_is_found_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "hwmon3").mkdir()
    (tmp_path / "hwmon3" / "in0_lcrit_alarm").write_text("1\n")
    assert files.read_alarm(str(tmp_path / "hwmon*" / "in0_lcrit_alarm"))
    with pytest.raises(DeviceError, match="nothing is at"):
        files.read_alarm(str(tmp_path / "hwmon*" / "absent"))
