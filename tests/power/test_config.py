"""The `[power]` table: drivers by name, and no configuration that could end a recording."""

import msgspec
import pytest

from agent.power.config import PowerConfig


@pytest.mark.parametrize(
    ("gauge", "name"),
    [
        ("max17048:/dev/i2c-1", "MAX17048 on /dev/i2c-1 at 0x36"),
        ("supply:/sys/class/power_supply/battery", "/sys/class/power_supply/battery"),
        ("json:/run/battery.json", "/run/battery.json"),
    ],
)
def test_gauge_is_chosen_by_name(gauge: str, name: str) -> None:
    made = PowerConfig(gauge=gauge).make_gauge()
    assert made is not None
    assert made.name == name


def test_nothing_is_required() -> None:
    assert PowerConfig().make_gauge() is None
    assert PowerConfig().make_charger() is None


@pytest.mark.parametrize(
    "table",
    [
        {"gauge": "max17048"},
        {"gauge": "bq27441:/dev/i2c-1"},
        {"gauge": ":/dev/i2c-1"},
        {"charger": "max17048:/dev/i2c-1"},
        {"charger": "supply:"},
        {"critical_percent": 11},
        {"critical_percent": 99},
        {"critical_percent": 0},
        {"critical_percent": 10, "low_percent": 10},
        {"low_percent": 90},
        {"least_bit_rate": 3_000_000},
        {"saving_bit_rate": 1},
        {"hot_celsius": 10},
        {"colour": 1},
    ],
)
def test_what_would_harm_or_is_unknown_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, PowerConfig)
