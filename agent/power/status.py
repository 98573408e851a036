"""Battery and board as the status snapshot shows them."""

import msgspec


class PowerStatus(msgspec.Struct, frozen=True):
    """What is known of battery, charger and board; null where there is nothing to know, and `unknown` says why.

    Attributes:
        battery_percent, battery_volts, battery_percent_an_hour: By the gauge.
        charging: The battery is being charged, or power comes in.
        celsius: Temperature of the processor.
        undervoltage, throttled: Now.
        saving: How far the bit rate is lowered: `none`, `saving` or `least`.
        bit_rate_lowered: The source took the lower rate; false for one that can't.
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
