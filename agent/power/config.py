"""The `[power]` table of the configuration: gauge, charger and the board's files.

Nothing is required; the status names what is missing. Paths may hold a `*`.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from agent.errors import ConfigError
from agent.power.files import JsonGauge, SupplyCharger, SupplyGauge
from agent.power.max17048 import ADDRESS, Max17048
from agent.power.readings import Charger, Gauge

_Percent = Annotated[int, msgspec.Meta(ge=1, le=50)]
_Celsius = Annotated[int, msgspec.Meta(ge=40, le=110)]
_Rate = Annotated[int, msgspec.Meta(ge=100_000, le=100_000_000)]


class PowerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole table.

    Attributes:
        gauge: `max17048:/dev/i2c-1`, `supply:/sys/class/power_supply/NAME`, `json:FILE`, or empty for none.
        charger: `supply:/sys/class/power_supply/NAME`, or empty for none.
        temperature: A thermal zone's `temp`.
        throttled: The Raspberry Pi firmware's `get_throttled`.
        undervoltage: An alarm of hwmon, for boards and kernels without `get_throttled`.
        low_percent: At and below it the wearer is warned and the bit rate lowered.
        critical_percent: At and below it, off the charger and for long enough to be no error of the gauge, everything
            is stored and the machine powered off. At most 10: no configuration is to end a recording.
        hot_celsius: From this temperature on the bit rate is lowered.
        saving_bit_rate, least_bit_rate: Of the pictures in bit/s, when the battery is low or the processor hot; when
            very low or very hot.
    """

    gauge: str = ""
    charger: str = ""
    temperature: str = "/sys/class/thermal/thermal_zone0/temp"
    throttled: str = "/sys/devices/platform/soc*/soc*:firmware/get_throttled"
    undervoltage: str = "/sys/devices/platform/soc*/soc*:firmware/raspberrypi-hwmon/hwmon/hwmon*/in0_lcrit_alarm"
    low_percent: _Percent = 20
    critical_percent: Annotated[int, msgspec.Meta(ge=1, le=10)] = 4
    hot_celsius: _Celsius = 75
    saving_bit_rate: _Rate = 2_000_000
    least_bit_rate: _Rate = 1_000_000

    def __post_init__(self) -> None:
        if self.critical_percent >= self.low_percent:
            raise ConfigError(
                f"expected critical_percent below low_percent, got {self.critical_percent} and {self.low_percent}"
            )
        if self.least_bit_rate > self.saving_bit_rate:
            raise ConfigError(
                f"expected least_bit_rate of at most saving_bit_rate, got {self.least_bit_rate} and "
                f"{self.saving_bit_rate}"
            )
        self.make_gauge()
        self.make_charger()

    def make_gauge(self) -> Gauge | None:
        """The gauge; None if none is configured. Nothing is opened.

        Raises:
            ConfigError: There is no driver of that name.
        """
        if not self.gauge:
            return None
        kind, _, place = self.gauge.partition(":")
        if place:
            match kind:
                case "max17048":
                    from agent.power.smbus import SmbusDevice  # smbus2 costs memory, and few cameras have such a gauge

                    return Max17048(SmbusDevice(Path(place), ADDRESS))
                case "supply":
                    return SupplyGauge(Path(place))
                case "json":
                    return JsonGauge(Path(place))
                case _:
                    pass
        raise ConfigError(f"expected a gauge as max17048:BUS, supply:FOLDER or json:FILE, got {self.gauge!r}")

    def make_charger(self) -> Charger | None:
        """The charger; None if none is configured.

        Raises:
            ConfigError: There is no driver of that name.
        """
        if not self.charger:
            return None
        kind, _, place = self.charger.partition(":")
        if kind == "supply" and place:
            return SupplyCharger(Path(place))
        raise ConfigError(f"expected a charger as supply:FOLDER, got {self.charger!r}")
