"""Battery and board as the status snapshot shows them."""

import msgspec


class PowerStatus(msgspec.Struct, frozen=True):
    """Battery, charger and board; null where something is unknown, and `unknown` says why.

    Attributes:
        battery_percent, battery_volts, battery_percent_an_hour: By the gauge.
        charging: The battery is being charged, or there is external power.
        celsius: Temperature of the processor.
        saving: How far the bit rate is lowered: `none`, `saving` or `least`.
        bit_rate_lowered: The source uses the lower rate; false if it can't.
        unknown: Why something of these is null, by its name.
    """

    battery_percent: float | None = None
    battery_volts: float | None = None
    battery_percent_an_hour: float | None = None
    charging: bool | None = None
    celsius: float | None = None
    undervoltage: bool | None = None
    throttled: bool | None = None
    saving: str = "none"
    bit_rate_lowered: bool = False
    unknown: dict[str, str] = msgspec.field(
        default_factory=lambda: dict.fromkeys(("battery", "charger", "board"), "not read yet")
    )
